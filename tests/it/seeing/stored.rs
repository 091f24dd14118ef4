//! The rules that a login meets are the file's and the store's: `lint` and `explain --no-store` see both, and `test` where it
//! is told to. None of them opens the database for more than a look.

use std::sync::Arc;

use loginsync::pipeline::mapping::stored::{Entry, GroupBody, MappingBody, OwnGroup, Stored};
use loginsync::ports::catalogue::{Catalogue, Revision};
use loginsync::ports::store::Store;
use serde_json::{Value, json};

use super::plan::{ADMINS, BASE, NOW, SALES, STAFF, sqlite};
use super::{Desk, path_of, run, run_with};

/// Puts groups and mappings into the store, as the mapping APIs do.
pub async fn keep(desk: &Desk, groups: &[&str], mappings: &[Value]) {
    let opened = sqlite(desk);
    let before = Arc::new(opened.stored().await.unwrap());
    let mut after = Stored::clone(&before);
    after.generation += 1;
    for name in groups {
        let number = after.next_number();
        let body = GroupBody { name: (*name).to_owned(), own: Some(OwnGroup::default()) };
        after.groups.insert(number, Arc::new(Entry::new(number, format!("group-{number}"), NOW, body)));
    }
    for (mapping, position) in mappings.iter().zip(1..) {
        let number = after.next_number();
        let definition = serde_json::from_value(mapping.clone()).unwrap();
        let body = MappingBody { definition, position: Some(position), admin: false, any_claim: false };
        after.mappings.insert(number, Arc::new(Entry::new(number, format!("mapping-{number}"), NOW, body)));
    }
    let (after, renamed, events) = (Arc::new(after), Vec::new(), Vec::new());
    let revision = Revision { before, after, renamed, rules: None, confirmed: false, client: None, events, now: NOW };
    let opened = Store::new(opened);
    opened.revise(revision).await.unwrap();
    opened.settle().await.unwrap();
}

fn gives(name: &str, value: &str, group: &str) -> Value {
    json!({"name": name, "provider": "oidc", "when": [{"claim": "groups", "is": value}], "then": [{"add_group": group}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn lint_sees_what_the_store_adds() {
    let desk = Desk::new();
    let text = format!("{BASE}{STAFF}{SALES}{ADMINS}");
    let config = desk.file("config.toml", &text);
    assert_eq!(run(&["lint", "--config", &config]).out, "nothing suspicious\n");
    assert!(!path_of(&desk).exists(), "looking makes no database");

    let mappings =
        [gives("again", "staff", "Staff"), gives("partners", "PARTNERS", "Partners"), gives("x", "x", "Gone")];
    keep(&desk, &["Partners", "Friends", "SALES"], &mappings).await;
    let before = std::fs::read(path_of(&desk)).unwrap();
    let said = run(&["lint", "--config", &config]);
    assert_eq!(said.code, 3, "{said:?}");
    let found: Vec<&str> = said.out.lines().collect();
    let expected = [
        "shadowed: mapping `again`",
        "never given: group `Friends`: no mapping gives it",
        "left out: number 3 of the store: the configuration file declares one of this name, case aside",
        "left out: number 6 of the store: then[0].add_group: `Gone`",
    ];
    assert_eq!(found.len(), expected.len(), "{}", said.out);
    for (line, begin) in found.iter().zip(expected) {
        assert!(line.starts_with(begin), "{begin}: {}", said.out);
    }
    assert!(std::fs::read(path_of(&desk)).unwrap() == before, "the database is only read");
}

/// A database of an earlier version has no mappings, and is not brought to the present one by a look; one of a later version,
/// and what is no database, cannot be looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_read_as_it_is() {
    let desk = Desk::new();
    let config = desk.file("config.toml", &format!("{BASE}{STAFF}{SALES}{ADMINS}"));
    let version = |number: i64| {
        let connection = rusqlite::Connection::open(path_of(&desk)).unwrap();
        connection.pragma_update(None, "user_version", number).unwrap();
    };
    version(3);
    let said = run(&["lint", "--config", &config]);
    assert_eq!((said.code, said.out.as_str()), (0, "nothing suspicious\n"), "{}", said.err);
    let connection = rusqlite::Connection::open(path_of(&desk)).unwrap();
    let kept: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(kept, 3);
    version(99);
    let said = run(&["lint", "--config", &config]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("schema version 99, written by a newer loginsync"), "{}", said.err);
    std::fs::write(
        path_of(&desk),
        "this is no database, and longer than the header of one would have to be, by far.......",
    )
    .unwrap();
    let said = run(&["lint", "--config", &config]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("cannot be opened: file is not a database"), "{}", said.err);
}

/// A case comes out the same with and without a database, unless somebody asks for what the database holds.
#[tokio::test(flavor = "multi_thread")]
async fn cases_are_decided_by_the_file_unless_told_otherwise() {
    let desk = Desk::new();
    let config = desk.file("config.toml", &format!("{BASE}{STAFF}{SALES}{ADMINS}"));
    let alone = desk.file(
        "alone.toml",
        "[[case]]\ntitle = \"x\"\nclaims = { groups = [\"sales\", \"partners\"] }\nexpect = { groups = [\"Sales\"] }\n",
    );
    let both = desk.file(
        "both.toml",
        "[[case]]\ntitle = \"x\"\nclaims = { groups = [\"sales\", \"partners\"] }\n\
         expect = { groups = [\"Partners\", \"Sales\"] }\n",
    );
    let test = |more: &[&str]| run(&[&["test", "--config", &config], more].concat());
    assert_eq!(test(&[&alone]).code, 0);
    let said = test(&[&both, "--with-store"]);
    assert_eq!(said.code, 1);
    assert!(said.err.starts_with("there is no database `"), "{}", said.err);

    keep(&desk, &["Partners"], &[gives("partners", "partners", "Partners")]).await;
    assert_eq!(test(&[&alone]).code, 0, "the store decides nothing unasked");
    let said = test(&[&both]);
    assert!(said.err.contains("declares no group `Partners`"), "{said:?}");
    let said = test(&[&both, "--with-store"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(test(&[&alone, "--with-store"]).code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_login_is_explained_by_the_rules_of_the_store_too() {
    let desk = Desk::new();
    let config = desk.file("config.toml", &format!("{BASE}{STAFF}{SALES}{ADMINS}"));
    keep(&desk, &["Partners"], &[gives("partners", "partners", "Partners")]).await;
    for more in [&[][..], &["--no-store"]] {
        let claims = json!({"sub": "alice", "groups": ["partners"]}).to_string();
        let said = run_with(&[&["explain", "--config", &config, "--json"], more, &["-"]].concat(), &claims);
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(said.json()["plan"]["groups"], json!(["Partners"]), "{more:?}");
    }
}
