//! One door for libFuzzer, by its name in `FUZZ_DOOR`. The doors are those of the short runs among the tests.
//!
//! With `FUZZ_SEEDS` it only writes there what a run begins with: the samples of each door, and the words that it knows.

#![no_main]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::exit,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test that cannot go on has failed; it shares its files with other tests"
)]

#[path = "../../crates/pipeline/tests/it/kit.rs"]
mod kit;
#[path = "../../crates/pipeline/tests/it/saml_cases.rs"]
mod saml_cases;

#[path = "../../crates/pipeline/tests/it/fuzz/door.rs"]
mod door;
#[path = "../../crates/pipeline/tests/it/fuzz/doors.rs"]
mod of_pipeline;
#[path = "../../tests/it/fuzz/doors.rs"]
mod of_whole;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use self::door::Door;

fn all() -> impl Iterator<Item = &'static Door> {
    of_pipeline::ALL.iter().copied().chain([&of_whole::COOKIES, &of_whole::RULES])
}

static DOOR: LazyLock<&'static Door> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_DOOR").expect("FUZZ_DOOR: the name of a door");
    all().find(|door| door.name == name).unwrap_or_else(|| panic!("FUZZ_DOOR: there is no door `{name}`"))
});

fuzz_target!(
    init: {
        if let Ok(folder) = std::env::var("FUZZ_SEEDS") {
            write_seeds(Path::new(&folder));
            std::process::exit(0);
        }
        LazyLock::force(&DOOR);
    },
    |input: &[u8]| {
        (DOOR.look)(input);
    }
);

fn write_seeds(folder: &Path) {
    for door in all() {
        let seeds = folder.join(door.name);
        std::fs::create_dir_all(&seeds).unwrap();
        for (at, sample) in (door.samples)().iter().enumerate() {
            std::fs::write(seeds.join(format!("sample-{at}")), sample).unwrap();
        }
        let mut words = String::new();
        for word in door.words {
            words.push('"');
            word.iter().for_each(|byte| write!(words, "\\x{byte:02x}").unwrap());
            words.push_str("\"\n");
        }
        std::fs::write(folder.join(door.name).with_extension("dict"), words).unwrap();
    }
}
