//! What the pages show can be loaded.

use loginsync::config::{Config, Surroundings};

use crate::kit::NOW;

/// Pages with examples, each after a line `<!-- loads: KIND -->`.
const PAGES: [&str; 7] =
    ["README", "docs/apps", "docs/claims", "docs/delivery", "docs/deploy", "docs/gateways", "docs/modes"];

const HEAD: &str = "public_url = \"https://app.example.com\"\n[app]\nurl = \"http://127.0.0.1:3000\"\n";

/// What an example of this kind stands behind.
fn before(kind: &str) -> String {
    let provider = match kind {
        "oidc" => "mode = \"oidc-form-post\"\nclient_id = \"app\"\ncallback = \"/callback\"",
        "saml" => {
            "mode = \"saml-post\"\naudience = \"app\"\ncallback = \"/acs\"\n\
             metadata_url = \"https://idp.example.com/metadata\""
        }
        "relying-party" => "mode = \"relying-party\"\nclient_id = \"app\"\nclient_auth = \"none\"",
        "whole" => return HEAD.to_owned(),
        "complete" => return String::new(),
        other => panic!("`{other}` is no kind of example"),
    };
    format!("{HEAD}[[provider]]\nname = \"idp\"\nissuer = \"https://idp.example.com\"\n{provider}\n")
}

#[test]
fn every_example_that_says_so_loads() {
    for name in PAGES {
        let page = std::fs::read_to_string(format!("{}/{name}.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let marked: Vec<&str> = page.split("<!-- loads: ").skip(1).collect();
        assert!(!marked.is_empty(), "{name}");
        for rest in marked {
            let (kind, rest) = rest.split_once(" -->").unwrap();
            let example = rest.split_once("```toml\n").unwrap().1.split("```").next().unwrap();
            let file = crate::fixtures::folder("").join("config.toml");
            let around = Surroundings {
                file: &file,
                read: &|path| std::fs::read(path),
                environment: &|name| {
                    Some(if name.ends_with("TOKEN") { "a-token" } else { "a secret of a variable" }.into())
                },
                now: NOW,
            };
            let text = format!("{}{example}", before(kind));
            if let Err(faults) = Config::from_text(&text, &around) {
                panic!("{name}.md: {faults}\n{text}");
            }
        }
    }
}
