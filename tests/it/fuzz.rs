//! Bytes that no sender of ours would send, at doors outside of the pipeline: nothing may panic, take long, or pass for what
//! it is not. `make fuzz` runs them by libFuzzer, too.

#[path = "../../crates/pipeline/tests/it/fuzz/door.rs"]
mod door;
mod doors;
#[path = "../../crates/pipeline/tests/it/fuzz/run.rs"]
mod run;

use self::run::shortly;

#[test]
fn cookies() {
    shortly(&doors::COOKIES, 4_000);
}

#[test]
fn rules() {
    shortly(&doors::RULES, 150);
}
