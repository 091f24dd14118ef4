//! Cookies, and the configuration.

use std::path::Path;
use std::sync::LazyLock;

use http::header::{self, HeaderMap, HeaderValue};
use loginsync::config::{Config, PublicUrl, Secret, Surroundings};
use loginsync::pipeline::reading::name::{self, CookieNames};
use loginsync::serve::cookies::{Jar, Sealer, take_field};

use super::door::{Door, texts};
use crate::kit::{self, NOW};

// -------------------------------------------------------------------------------------------------------------- cookies

/// Fields `Cookie`, one a line.
pub const COOKIES: Door = Door {
    name: "cookies",
    samples: || {
        texts(&[
            "__Host-loginsync-s=abc; app=1",
            "a=b; loginsync-b-00=x;__HOST-LoginSync-b-1=\"y\"; c",
            "app=1\n__Host-loginsync-p-1=z; =; ;;",
            "one=1; two=2",
            "session_P5000 =x; a=b session_P1=y,sid=z; \"sid\"=1; sess%69on_P2=3\n$Version=1; __Secure-sid=4",
        ])
    },
    words: &[
        b"__Host-loginsync-s=",
        b"__Host-loginsync-b-",
        b"loginsync-",
        b"LOGINSYNC",
        b"__Secure-",
        b"=",
        b";",
        b"; ",
        b",",
        b"\"",
        b"\n",
        b" ",
        b"\t",
        b"\xc3\xa9",
    ],
    look: cookies,
};

static SEALER: LazyLock<Sealer> = LazyLock::new(|| {
    let url = PublicUrl::new("https://app.example", "");
    Sealer::new(&[Secret::new(vec![7; 32])], &url).unwrap()
});

fn cookies(input: &[u8]) -> String {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(header::COOKIE, value);
        }
    }
    let taken = Jar::take(&mut headers, &[]);
    assert!(headers.get_all(header::COOKIE).iter().count() <= 1 || taken.is_empty());
    let left = headers.clone();
    assert!(Jar::take(&mut headers, &[]).is_empty(), "nothing of ours is left for the app");
    let dropped = [CookieNames::parse("session_P*").unwrap(), CookieNames::parse("sid").unwrap()];
    let mut without = left.clone();
    Jar::take(&mut without, &dropped);
    let lines = without.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let mut found = lines.flat_map(name::cookies).filter(|(name, _)| dropped.iter().any(|names| names.has(name)));
    assert_eq!(found.next(), None, "nothing that is dropped is left for the app");
    let bytes = |headers: &HeaderMap| headers.get(header::COOKIE).map(|value| value.as_bytes().to_vec());
    assert_eq!(bytes(&left), bytes(&headers), "what is not ours is left alone");

    assert_eq!(SEALER.unseal(b"name", input), None, "nobody seals by chance");
    let sealed = SEALER.seal(b"name", input).unwrap();
    assert_eq!(SEALER.unseal(b"name", &sealed).as_deref(), Some(input));
    assert_eq!(SEALER.unseal(b"other", &sealed), None);
    let mut rest = input;
    while let Some(field) = take_field(&mut rest) {
        assert!(field.is_none_or(|text| text.len() <= input.len()));
    }
    if taken.is_empty() { String::from("read, none of ours") } else { String::from("read, ours among them") }
}

// ---------------------------------------------------------------------------------------------------------------- rules

/// The configuration. It is the operator's, but it is long, and a fault in it is to be told and not to end the program.
pub const RULES: Door = Door {
    name: "rules",
    samples: || {
        let root = kit::root();
        let mut samples = vec![std::fs::read(root.join("config/minimal.toml")).unwrap()];
        let recipes = root.join("fixtures/recipes");
        let head = std::fs::read(recipes.join("head.toml")).unwrap();
        for name in ["captures", "conditions", "gates", "defaults", "table", "roles"] {
            let recipe = std::fs::read(recipes.join(name).join("config.toml")).unwrap();
            samples.push([head.as_slice(), b"\n", recipe.as_slice()].concat());
        }
        samples
    },
    words: &[
        b"[[mapping]]\n",
        b"[[gate]]\n",
        b"[[default]]\n",
        b"[mapping_table.okta.groups.groups]\n",
        b"when = [",
        b"{ claim = \"groups\", regex = '(?<x>a+)+$' }",
        b"then = [{ add_group = \"${x}\" }]",
        b"allow = { x = \"any\" }",
        b"match = \"any\"\n",
        b"until = 2026-01-01T00:00:00Z\n",
        b"delimiter = \"\"\n",
        b"enabled = false\n",
        b"always = true\n",
        b"[",
        b"]",
        b"{",
        b"}",
        b"\"",
        b"'''",
        b"=",
        b"-1",
        b"9223372036854775807",
        b"nan",
        b"\\u0000",
        b"\xc3\xa9",
    ],
    look: rules,
};

fn rules(input: &[u8]) -> String {
    let file = Path::new("fuzz.toml");
    let none = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    let around = Surroundings { file, read: &none, environment: &|_| None, now: NOW };
    let text = String::from_utf8_lossy(input);
    match Config::from_text(&text, &around) {
        Ok(_) => String::from("read"),
        Err(faults) => {
            let told = faults.to_string();
            assert!(told.contains("fault"), "a refusal says what is wrong");
            told.lines().next().unwrap_or_default().split_once(": ").map_or_else(String::new, |(_, why)| why.to_owned())
        }
    }
}
