//! `loginsync hold`, `lease` and `mapping`, on a store that logins have filled.

use loginsync::pipeline::ids::{GroupName, Namespace, Subject, Target, Timestamp, UserId};
use loginsync::ports::store::Act;
use serde_json::json;

use super::plan::{ADMINS, BASE, NOW, SALES, STAFF, log_in, rules, store};
use super::{Desk, run};

/// Ten people whom the provider has dropped from a group of ten: five have lost it, five are held.
async fn dropped(desk: &Desk) -> String {
    let text = format!("{BASE}{STAFF}{SALES}{ADMINS}");
    let rules = rules(&text);
    let stored = store(desk);
    for round in 0..2 {
        for number in 0..10 {
            let groups: &[&str] = if round == 0 { &["sales"] } else { &[] };
            log_in(&stored, &rules, &format!("user-{number}"), &format!("{round}-{number}"), groups).await;
        }
    }
    desk.file("config.toml", &text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_listed_released_and_discarded() {
    let desk = Desk::new();
    let config = dropped(&desk).await;
    let held = run(&["hold", "list", "--config", &config, "--json"]).json();
    assert_eq!(held.as_array().unwrap().len(), 5, "{held:#}");
    let since = NOW.to_string();
    assert_eq!(
        held[0],
        json!({"namespace": "oidc", "subject": "user-5", "provider": "oidc", "kind": "group", "name": "Sales",
               "mapping": "groups = sales", "since": since})
    );
    let listed = run(&["hold", "list", "--config", &config, "--user", "oidc/user-7"]).out;
    assert_eq!(
        listed,
        format!("{since}  oidc/user-7  group `Sales`  no longer given by `groups = sales` through oidc\n")
    );
    for more in [&[][..], &["--all", "--group", "Sales"]] {
        let unasked = run(&[&["hold", "release", "--config", &config][..], more].concat());
        assert!(unasked.code == 1 && unasked.err.contains("or --all alone for everything"), "{more:?}: {unasked:?}");
    }
    let one = run(&["hold", "discard", "--config", &config, "--user", "oidc/user-5"]);
    assert_eq!((one.code, one.out.as_str()), (0, "1 discarded\n"), "{}", one.err);
    let rest = run(&["hold", "release", "--config", &config, "--group", "Sales", "--json"]);
    assert_eq!(rest.json(), json!({"holds": 4}), "{}", rest.err);
    assert_eq!(run(&["hold", "list", "--config", &config]).out, "");
    let target = Target::Group(GroupName::parse("Sales").unwrap());
    let members = store(&desk).members(target, None, 100).await.unwrap();
    assert_eq!(members.len(), 1, "the one that was discarded stays: {members:?}");
}

/// What has ended by itself shows no more, whether or not it was cleared away.
#[tokio::test(flavor = "multi_thread")]
async fn see07_a_user_is_shown_as_of_now() {
    let desk = Desk::new();
    let text = format!("{BASE}{STAFF}{SALES}{ADMINS}");
    let stored = store(&desk);
    log_in(&stored, &rules(&text), "alice", "1", &["staff", "sales"]).await;
    let config = desk.file("config.toml", &text);
    let alice = UserId { namespace: Namespace::parse("oidc").unwrap(), subject: Subject::parse("alice").unwrap() };
    for (name, until) in [("Staff", Some(Timestamp(NOW.0 + 1000))), ("Sales", None)] {
        let target = Target::Group(GroupName::parse(name).unwrap());
        let deny = Act::Deny { target, reason: "leave".into(), until };
        stored.act(alice.clone(), deny, "test".into(), NOW).await.unwrap();
    }
    let shown = run(&["user", "show", "oidc/alice", "--config", &config]);
    assert!(shown.out.contains("group Staff (mapped)\n"), "{shown:?}");
    assert!(shown.out.contains("group Sales (denied)\n"), "{shown:?}");
    let view = run(&["user", "show", "oidc/alice", "--config", &config, "--json"]).json();
    assert_eq!(view["groups"], json!(["Staff"]), "{view:#}");
}

#[test]
fn a_user_in_a_namespace_of_no_provider_is_not_made() {
    let desk = Desk::new();
    let config = desk.file("config.toml", &format!("{BASE}{STAFF}"));
    let user = |action: &str, key: &str| {
        let reason: &[&str] = if action == "deny" { &["--reason", "leaves"] } else { &[] };
        run(&[&["user", action, key, "--group", "Staff", "--config", &config], reason].concat())
    };
    for action in ["assign", "deny"] {
        let said = user(action, "odic/u9");
        assert!(said.code == 1 && said.out.is_empty(), "{said:?}");
        assert!(said.err.contains("the namespace `odic` belongs to no provider; expected `oidc`"), "{said:?}");
        assert_eq!(user(action, &format!("oidc/{action}")).code, 0);
    }
    let listed = run(&["user", "list", "--config", &config]).out;
    assert_eq!(listed, "oidc/assign\noidc/deny\n");
    // One who came through a provider of before is denied and given things as anyone.
    let moved = desk.file("moved.toml", &format!("{BASE}{STAFF}").replace("\"oidc\"", "\"other\""));
    let said = run(&["user", "deny", "oidc/assign", "--group", "Staff", "--reason", "leaves", "--config", &moved]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_listed_and_reaped() {
    let desk = Desk::new();
    let text = format!("{BASE}{STAFF}{SALES}{ADMINS}")
        .replace("client_id = \"the-app\"", "client_id = \"the-app\"\nlease = \"30d\"");
    let rules = rules(&text);
    let stored = store(&desk);
    log_in(&stored, &rules, "alice", "1", &["staff"]).await;
    let config = desk.file("config.toml", &text);
    let ends = "2026-03-31T12:00:00.000Z";
    let listed = run(&["lease", "list", "--config", &config]);
    assert_eq!(listed.out, format!("{ends}  oidc/alice  group `Staff`  by `staff` through oidc\n"), "{}", listed.err);
    let expiring = run(&["lease", "list", "--config", &config, "--expiring", "7d", "--json"]).json();
    assert_eq!(expiring[0]["ends_at"], ends, "the fixture's login is long ago by now");
    let dry = run(&["lease", "reap", "--config", &config, "--dry-run"]);
    assert_eq!(dry.out, listed.out);
    assert_eq!(run(&["lease", "list", "--config", &config]).out, listed.out, "a dry run ends nothing");
    let reaped = run(&["lease", "reap", "--config", &config]);
    assert_eq!(reaped.out, "1 leases, 0 denies and 0 grants of expired mappings ended\n", "{}", reaped.err);
    assert_eq!(run(&["lease", "list", "--config", &config]).out, "");
    let wrong = run(&["lease", "list", "--config", &config, "--expiring", "a week"]);
    assert!(wrong.code == 2 && wrong.err.contains("expected a duration such as"), "{wrong:?}");
}

#[test]
fn mappings_are_listed_with_what_they_ask_and_give() {
    let desk = Desk::new();
    let text = format!("{BASE}{STAFF}{SALES}{ADMINS}")
        + "\n[[mapping]]\nname = \"long\"\nmatch = \"any\"\nuntil = 2020-01-01T00:00:00Z\nwhen = [{ claim = \"groups\", begins_with = \"a\", ignore_case = true }, { has_role = \"editor\" }]\nthen = [{ add_group = \"Staff\" }, { add_role = \"editor\" }]\n";
    let config = desk.file("config.toml", &text);
    let said = run(&["mapping", "list", "--config", &config]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[1], "groups = sales  (oidc; active)  groups is \"sales\": group `Sales`", "{}", said.err);
    assert_eq!(
        lines[3],
        "long  (every provider; expired until 2020-01-01T00:00:00.000Z)  groups begins_with \"a\" (ignoring case) or \
         has_role \"editor\": group `Staff`, role `editor`"
    );
    let list = run(&["mapping", "list", "--config", &config, "--json"]).json();
    assert_eq!((&list[0]["name"], &list[1]["name"]), (&json!("staff"), &json!(null)));
    assert_eq!(list[3]["activity"], "expired");
}
