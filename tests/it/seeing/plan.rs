//! `loginsync plan`: what a change of the configuration would change, for people whom logins brought.

use std::sync::Arc;
use std::time::{Duration, Instant};

use loginsync::config::{Config, Surroundings, Synchronous};
use loginsync::pipeline::claims::{Claim, ClaimState, Claims, Split};
use loginsync::pipeline::ids::{ClaimName, Namespace, ProviderName, Subject, Timestamp, UserId};
use loginsync::pipeline::mapping::{RuleSet, candidates};
use loginsync::pipeline::verify::Spending;
use loginsync::ports::store::sqlite::{Settings, SqliteStore};
use loginsync::ports::store::{Act, Applied, Login, Store};
use serde_json::{Value, json};

use super::{Desk, Said, path_of, run};

pub const NOW: Timestamp = Timestamp(1_772_366_400_000);

pub const BASE: &str = r#"
public_url = "https://app.example.com"

[app]
url = "http://127.0.0.1:3000"

[store]
path = "store.db"

[[provider]]
name = "oidc"
mode = "oidc-form-post"
issuer = "https://idp.example.com"
client_id = "the-app"
callback = "/callback"
jwks_url = "https://idp.example.com/jwks"
authorization_endpoint = "https://idp.example.com/authorize"

[provider.claims.groups]

[[role]]
name = "editor"

[[role]]
name = "admin"
privileged = true

[[group]]
name = "Staff"
roles = ["editor"]

[[group]]
name = "Sales"

[[group]]
name = "Administrators"
roles = ["admin"]
"#;

pub const STAFF: &str = r#"
[[mapping]]
name = "staff"
provider = "oidc"
claim = "groups"
value = "staff"
group = "Staff"
"#;

pub const SALES: &str = r#"
[[mapping]]
provider = "oidc"
claim = "groups"
value = "sales"
group = "Sales"
"#;

pub const ADMINS: &str = r#"
[[mapping]]
name = "admins"
provider = "oidc"
claim = "groups"
value = "admins"
group = "Administrators"
"#;

pub fn rules(text: &str) -> Arc<RuleSet> {
    let path = std::path::Path::new("plan.toml");
    let around = Surroundings { file: path, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    Config::from_text(text, &around).unwrap_or_else(|faults| panic!("{faults}")).rules
}

fn user(name: &str) -> UserId {
    UserId { namespace: Namespace::parse("oidc").unwrap(), subject: Subject::parse(name).unwrap() }
}

pub fn store(desk: &Desk) -> Store {
    Store::new(sqlite(desk))
}

pub fn sqlite(desk: &Desk) -> Arc<SqliteStore> {
    let settings = Settings { synchronous: Synchronous::Normal, timeout: Duration::from_secs(20), audit_key: None };
    Arc::new(SqliteStore::open(&path_of(desk), settings).unwrap())
}

/// One login, applied as the proxy applies it.
pub async fn log_in(store: &Store, rules: &Arc<RuleSet>, name: &str, token: &str, groups: &[&str]) {
    let values: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
    let state = if values.is_empty() { ClaimState::Empty } else { ClaimState::Values(values) };
    log_in_with(store, rules, name, token, state).await;
}

async fn log_in_with(store: &Store, rules: &Arc<RuleSet>, name: &str, token: &str, state: ClaimState) {
    log_in_through("oidc", store, rules, name, token, state).await;
}

async fn log_in_through(
    provider: &str,
    store: &Store,
    rules: &Arc<RuleSet>,
    name: &str,
    token: &str,
    state: ClaimState,
) {
    let provider = ProviderName::parse(provider).unwrap();
    let claim =
        Claim { name: ClaimName::parse("groups").unwrap(), state, split: Split::default(), skipped: 0, decided: true };
    let claims = Arc::new(Claims { user: user(name), email: None, display_name: None, claims: vec![claim] });
    let login = Login {
        id: format!("login-{token}"),
        provider: provider.clone(),
        issuer: "https://idp.example.com".into(),
        user: user(name),
        email: None,
        display_name: None,
        token_id: token.to_owned(),
        issued_at: Some(NOW),
        spending: Spending::Once,
        remember_until: NOW,
        now: NOW,
        binding: "matched",
        claims: Vec::new(),
        arrived: Vec::new(),
    };
    let found = candidates(rules, &provider, &claims);
    assert!(matches!(store.apply(login, found, Arc::clone(rules)).await.unwrap(), Applied::Committed(_)));
}

/// Alice is staff and an administrator, Bob is staff and in sales, Carol is in sales.
async fn people(desk: &Desk) -> String {
    let text = format!("{BASE}{STAFF}{SALES}{ADMINS}");
    let rules = rules(&text);
    let store = store(desk);
    log_in(&store, &rules, "alice", "1", &["staff", "admins"]).await;
    log_in(&store, &rules, "bob", "2", &["staff", "sales"]).await;
    log_in(&store, &rules, "carol", "3", &["sales", "engineering"]).await;
    desk.file("old.toml", &text)
}

/// Finding SEE6: a refused login changes nothing, so whoever a new gate refuses loses nothing at it.
#[tokio::test]
async fn see06_a_login_that_a_gate_refuses_loses_nothing() {
    let desk = Desk::new();
    let sales = |value: &str| {
        format!(
            "\n[[mapping]]\nname = \"sales\"\nprovider = \"oidc\"\nclaim = \"groups\"\nvalue = \"{value}\"\ngroup = \"Sales\"\n"
        )
    };
    let text = format!("{BASE}{STAFF}{ADMINS}{}", sales("sales"));
    let (store, rules) = (store(&desk), rules(&text));
    log_in(&store, &rules, "alice", "1", &["staff", "admins", "sales"]).await;
    log_in(&store, &rules, "bob", "2", &["staff", "sales"]).await;
    // From now on nobody is in sales by what their token says.
    let edited = format!("{BASE}{STAFF}{ADMINS}{}", sales("purchasing"));
    let losing = |report: &Value| {
        let targets = report["targets"].as_array().unwrap().iter();
        targets.filter(|row| row["name"] == "Sales").map(|row| row["losses"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(losing(&plan(&desk, &edited, &["--json"]).json()), 2);
    let gated = format!("{edited}\n[[gate]]\nname = \"admins only\"\nrequire = [\"admins\"]\n");
    let report = plan(&desk, &gated, &["--json"]).json();
    assert_eq!(losing(&report), 1, "{report:#}");
    assert_eq!(report["refusals"], json!([{"reason": "refused by gate `admins only`", "users": 1}]), "{report:#}");
    let bob = report["details"].as_array().unwrap().iter().find(|one| one["user"] == "oidc/bob").unwrap();
    assert_eq!((&bob["losses"], &bob["refused"]), (&json!([]), &json!("refused by gate `admins only`")));
}

/// Finding SEE6: a claim that the new rules want refuses whoever came without it.
#[tokio::test]
async fn see06_a_claim_that_refuses_is_foretold() {
    let desk = Desk::new();
    let text = format!("{BASE}{STAFF}{SALES}");
    let (store, rules) = (store(&desk), rules(&text));
    log_in(&store, &rules, "alice", "1", &["staff"]).await;
    log_in(&store, &rules, "bob", "2", &["staff"]).await;
    log_in_with(&store, &rules, "bob", "3", ClaimState::Missing).await;
    let text = text.replace("[provider.claims.groups]", "[provider.claims.groups]\nwhen_missing = \"refuse\"");
    let said = plan(&desk, &text, &["--json"]);
    let refusal = "claim `groups` is missing, and `when_missing` is `refuse`";
    assert_eq!(said.json()["refusals"], json!([{"reason": refusal, "users": 1}]), "{said:?}");
    assert_eq!(said.code, 3, "something changes");
}

/// Finding SEE6: where a mapping asks for a role that another provider gives, the order of the logins decides, and nobody knows it.
#[tokio::test]
async fn see06_what_depends_on_the_order_of_logins_is_unknown() {
    let desk = Desk::new();
    let zeta = BASE.split("[[provider]]").nth(1).unwrap().split("[[role]]").next().unwrap();
    let zeta = zeta.replace("name = \"oidc\"", "name = \"zeta\"\nnamespace = \"oidc\"").replace("/callback", "/zeta");
    let leaning = "\n[[mapping]]\nname = \"leaning\"\nprovider = \"oidc\"\n\
        when = [{ claim = \"groups\", is = \"staff\" }, { has_role = \"editor\" }]\ngroup = \"Sales\"\n";
    let reading = "\n[[mapping]]\nname = \"leads\"\nprovider = \"zeta\"\nclaim = \"groups\"\nvalue = \"VALUE\"\nrole = \"editor\"\n";
    let text = |value: &str| format!("{BASE}\n[[provider]]{zeta}{leaning}{}", reading.replace("VALUE", value));
    let (store, rules) = (store(&desk), rules(&text("nobody")));
    let values = |group: &str| ClaimState::Values(vec![group.to_owned()]);
    for (token, name) in [("1", "alice"), ("2", "bob")] {
        log_in_with(&store, &rules, name, token, values("staff")).await;
    }
    log_in_through("zeta", &store, &rules, "bob", "3", values("leads")).await;
    let report = plan(&desk, &text("leads"), &["--json"]).json();
    let row =
        |name: &str| report["targets"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    let (editor, sales) = (row("editor"), row("Sales"));
    assert_eq!((&editor["gains"], &editor["may_gain"]), (&json!(1), &json!(0)), "{report:#}");
    assert_eq!((&sales["gains"], &sales["may_gain"]), (&json!(0), &json!(1)), "{report:#}");
}

fn plan(desk: &Desk, text: &str, more: &[&str]) -> Said {
    let config = desk.file("new.toml", text);
    let mut arguments = vec!["plan", "--config", &config];
    arguments.extend(more);
    run(&arguments)
}

fn target(report: &Value, name: &str) -> Value {
    let mut found = report["targets"].as_array().unwrap().iter().find(|target| target["name"] == name).unwrap().clone();
    found.as_object_mut().unwrap().retain(|key, _| !["kind", "name"].contains(&key.as_str()));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rules_change_nothing() {
    let desk = Desk::new();
    let old = people(&desk).await;
    let said = run(&["plan", "--config", &old, "--from", &old]);
    assert_eq!((said.code, said.out.as_str()), (0, "nothing changes for any of 3 users\n"), "{}", said.err);
    let said = run(&["plan", "--config", &old]);
    let unknown = "the roles that groups carry now are unknown, since no sidecar has recorded them in this database yet; use `--from`\n";
    assert_eq!((said.code, said.out), (0, format!("nothing changes for any of 3 users\n{unknown}")), "{}", said.err);
    adopted(&desk, &rules(&std::fs::read_to_string(&old).unwrap())).await;
    let said = run(&["plan", "--config", &old]);
    assert_eq!((said.code, said.out.as_str()), (0, "nothing changes for any of 3 users\n"), "{}", said.err);
}

/// What a start does with its rules.
async fn adopted(desk: &Desk, rules: &Arc<RuleSet>) {
    store(desk).adopt(Arc::clone(rules), NOW).await.unwrap();
}

fn counts(gains: u64, losses: u64, at_once: u64) -> Value {
    json!({"gains": gains, "losses": losses, "at_once": at_once, "may_gain": 0, "may_lose": 0})
}

/// A mapping that still has its name and says something else: whoever holds something by it has it until the next login, and
/// what they lose and others gain is told without the old file.
#[tokio::test(flavor = "multi_thread")]
async fn an_edited_mapping_shows_by_its_grants() {
    let desk = Desk::new();
    let old = people(&desk).await;
    adopted(&desk, &rules(&std::fs::read_to_string(&old).unwrap())).await;
    let edits = [
        ("value = \"staff\"", "value = \"engineering\"", (1, 2), 2, 1),
        ("group = \"Staff\"", "group = \"Sales\"", (0, 2), 2, 2),
        ("claim = \"groups\"\nvalue = \"staff\"", "when = [{ claim = \"groups\", is_not = \"sales\" }]", (0, 1), 1, 0),
    ];
    for (from, to, (gains, losses), going, coming) in edits {
        let text = format!("{BASE}{}{SALES}{ADMINS}", STAFF.replace(from, to));
        let said = plan(&desk, &text, &["--json"]);
        let report = said.json();
        assert_eq!(said.code, 3, "{to}: {}", said.err);
        assert_eq!(target(&report, "Staff"), counts(gains, losses, 0), "{to}");
        assert_eq!(target(&report, "editor"), counts(gains, losses, 0), "{to}");
        let compared = plan(&desk, &text, &["--from", &old, "--json"]).json();
        assert_eq!((&report["targets"], &report["details"]), (&compared["targets"], &compared["details"]), "{to}");
        let [change] = report["mappings"]["changes"].as_array().unwrap().as_slice() else { panic!("{report:#}") };
        let told = json!([change["change"], change["mapping"], change["grants"], change["going"], change["coming"]]);
        assert_eq!(told, json!(["gives otherwise", "staff", 2, going, coming]), "{to}");
    }
    let said = plan(&desk, &format!("{BASE}{SALES}{ADMINS}{}", STAFF.replace("\"staff\"\np", "\"people\"\np")), &[]);
    assert_eq!(said.code, 3, "{said:?}");
    let expected = "0 of 3 users gain or lose something\n2 more are without something until their next login\n";
    assert!(said.out.starts_with(expected), "{}", said.out);
    assert!(said.out.contains("mappings, as far as grants show them; `--from` compares their definitions\n"));
    assert!(
        said.out.contains("  gives anew      `people`  groups is \"staff\": group `Staff`, 2 come\n"),
        "{}",
        said.out
    );
}

/// With `apply = "now"` nobody's next login is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_now_is_told_as_at_once() {
    let desk = Desk::new();
    people(&desk).await;
    let text = format!("{BASE}{}{SALES}{ADMINS}", STAFF.replace("value = \"staff\"", "value = \"engineering\""));
    assert_eq!(target(&plan(&desk, &text, &["--json"]).json(), "Staff"), counts(1, 2, 0));
    let report = plan(&desk, &format!("{text}\n[sync]\napply = \"now\"\n"), &["--json"]).json();
    assert_eq!(target(&report, "Staff"), counts(1, 2, 2));
}

/// A shorter lease ends grants without a login.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_over_is_told() {
    let desk = Desk::new();
    let old = people(&desk).await;
    let text = std::fs::read_to_string(&old).unwrap();
    let leased =
        |lease: &str| text.replace("client_id = \"the-app\"", &format!("client_id = \"the-app\"\nlease = \"{lease}\""));
    let report = plan(&desk, &leased("30d"), &["--json"]).json();
    assert_eq!((&report["lapsed_grants"], &report["interrupted_users"]), (&json!(5), &json!(3)));
    assert_eq!(target(&report, "Staff"), counts(0, 0, 2));
    assert_eq!(report["mappings"]["changes"], json!([]), "no mapping says anything else");
    let report = plan(&desk, &leased("3660d"), &["--json"]).json();
    assert_eq!((&report["changes"], &report["lapsed_grants"]), (&json!(false), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn gains_and_losses_are_told_by_target_and_by_user() {
    let desk = Desk::new();
    let old = people(&desk).await;
    // The unnamed mapping is edited, which is a removal and an addition; the named one is edited.
    let text = format!(
        "{BASE}{}{}{ADMINS}",
        STAFF.replace("value = \"staff\"", "value = \"engineering\""),
        SALES.replace("value = \"sales\"", "value = \"staff\"")
    );
    let said = plan(&desk, &text, &["--from", &old, "--json"]);
    assert_eq!((said.code, said.err.as_str()), (3, ""), "{}", said.out);
    let report = said.json();
    assert_eq!(target(&report, "Staff"), counts(1, 2, 0));
    // Bob leaves with the removed mapping and comes back with the added one, so nothing changes for him in the end.
    assert_eq!(target(&report, "Sales"), counts(1, 1, 2));
    assert_eq!(target(&report, "editor"), counts(1, 2, 0));
    let differences = &report["mappings"];
    assert_eq!([&differences["added"], &differences["removed"], &differences["edited"]], [1, 1, 1]);
    assert_eq!(
        (&report["users"], &report["changed_users"], &report["without_claims"]),
        (&json!(3), &json!(3), &json!(0))
    );
    assert_eq!(
        report["details"][2],
        json!({
            "user": "oidc/carol",
            "gains": [{"kind": "group", "name": "Staff"}, {"kind": "role", "name": "editor"}],
            "losses": [{"kind": "group", "name": "Sales"}],
            "may_lose": [],
        })
    );
    let text = plan(&desk, &text, &["--from", &old, "--limit", "1"]).out;
    assert!(text.starts_with("3 of 3 users gain or lose something\n"), "{text}");
    assert!(text.contains("editing it removes it and adds another") || text.contains("and 2 more"), "{text}");
    assert!(text.contains("and 2 more (`--limit` shows more)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_recorded_is_unknown() {
    let desk = Desk::new();
    people(&desk).await;
    let text = format!("{BASE}{STAFF}{SALES}{ADMINS}")
        .replace("[provider.claims.groups]", "[provider.claims.groups]\n\n[provider.claims.department]")
        + r#"
[[mapping]]
name = "department"
when = [{ claim = "department", is = "Sales" }]
role = "editor"
"#;
    let report = plan(&desk, &text, &["--json"]).json();
    assert_eq!(report["without_claims"], 3);
    assert_eq!(target(&report, "editor"), json!({"gains": 0, "losses": 0, "at_once": 0, "may_gain": 3, "may_lose": 0}));
    // The claim is read otherwise: those who hold something by it may lose it.
    let text = format!("{BASE}{STAFF}{SALES}{ADMINS}")
        .replace("[provider.claims.groups]", "[provider.claims.groups]\nname = \"memberOf\"");
    let said = plan(&desk, &text, &["--json"]);
    let report = said.json();
    assert_eq!((said.code, &report["without_claims"]), (3, &json!(3)));
    assert_eq!(target(&report, "Sales"), json!({"gains": 0, "losses": 0, "at_once": 0, "may_gain": 3, "may_lose": 2}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_holder_is_not_lost_unasked() {
    let desk = Desk::new();
    people(&desk).await;
    let text = format!("{BASE}{STAFF}{SALES}");
    let refused = plan(&desk, &text, &[]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.out.contains("WARNING: role `admin` loses its last holder"), "{}", refused.out);
    assert!(refused.err.contains("would lose the last holder; `--force` accepts that"), "{}", refused.err);
    assert_eq!(plan(&desk, &text, &["--force"]).code, 3);
    // Somebody else holds it by hand: nothing is lost for good.
    let role = loginsync::pipeline::ids::Target::Role(loginsync::pipeline::ids::RoleName::parse("admin").unwrap());
    store(&desk).act(user("dora"), Act::Assign(role), "test".into(), NOW).await.unwrap();
    assert_eq!(plan(&desk, &text, &[]).code, 3);
    store(&desk).act(user("dora"), Act::Disable, "test".into(), NOW).await.unwrap();
    assert_eq!(plan(&desk, &text, &[]).code, 1, "a disabled user holds nothing for good");
}

/// A role that a group carries no longer goes from everybody in it, and so it does with the group: the old file tells, and
/// without it the store, which keeps what the rules of the last start said of groups.
#[tokio::test(flavor = "multi_thread")]
async fn roles_that_groups_carry_are_compared_with_those_of_now() {
    let desk = Desk::new();
    let old = people(&desk).await;
    let before = format!("{BASE}{STAFF}{SALES}{ADMINS}");
    let bare = before.replace("name = \"Staff\"\nroles = [\"editor\"]", "name = \"Staff\"");
    let report = plan(&desk, &bare, &["--from", &old, "--json"]).json();
    assert_eq!(target(&report, "editor"), counts(0, 2, 2));
    let unknown = plan(&desk, &bare, &["--json"]);
    assert_eq!((unknown.code, unknown.json()["roles_compared"].as_bool()), (0, Some(false)));
    adopted(&desk, &rules(&before)).await;
    let report = plan(&desk, &bare, &["--json"]).json();
    assert_eq!((target(&report, "editor"), &report["roles_compared"]), (counts(0, 2, 2), &json!(true)));
    let gone = format!("{BASE}{SALES}{ADMINS}").replace("[[group]]\nname = \"Staff\"\nroles = [\"editor\"]\n", "");
    let report = plan(&desk, &gone, &["--json"]).json();
    assert_eq!((target(&report, "editor"), target(&report, "Staff")), (counts(0, 2, 2), counts(0, 2, 2)));
    // What was privileged and is no more is missed all the same.
    let open = format!("{BASE}{STAFF}{SALES}").replace("privileged = true\n", "");
    let refused = plan(&desk, &open, &[]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("role `admin` would lose the last holder"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_tell_whom_they_would_refuse() {
    let desk = Desk::new();
    let old = people(&desk).await;
    let text = format!("{BASE}{STAFF}{SALES}{ADMINS}\n[[gate]]\nname = \"staff only\"\nrequire = [\"staff\"]\n");
    let said = plan(&desk, &text, &["--from", &old, "--json"]);
    let report = said.json();
    assert_eq!((said.code, &report["changed_users"]), (3, &json!(0)));
    assert_eq!(report["refusals"], json!([{"reason": "refused by gate `staff only`", "users": 1}]));
    assert_eq!(report["details"][0]["user"], "oidc/carol");
}

/// What a start or a reload would be refused for, and how to mean it.
#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_file_may_revoke_past_the_brake() {
    let desk = Desk::new();
    let before = format!("{BASE}{STAFF}");
    let (old, without) = (rules(&before), format!("{BASE}{SALES}"));
    let stored = store(&desk);
    for number in 0..20 {
        log_in(&stored, &old, &format!("user-{number:02}"), &number.to_string(), &["staff"]).await;
    }
    let new = rules(&without);
    assert!(stored.adopt(Arc::clone(&new), NOW).await.is_err(), "the brake stops it");
    let report = plan(&desk, &without, &["--json"]).json();
    let expected =
        json!([{"provider": "oidc", "kind": "group", "name": "Staff", "losing": 20, "members": 20, "allowed": 5}]);
    assert_eq!(report["brake_refuses"], expected);
    assert_eq!(target(&report, "Staff")["at_once"], 20);
    assert!(stored.adopt(Arc::clone(&new), NOW).await.is_err(), "looking confirms nothing");
    let said = plan(&desk, &without, &["--confirm"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.contains("the brake refuses these rules, unless `--confirm` is given"), "{}", said.out);
    let other = rules(&format!("{without}# another file\n"));
    assert!(stored.adopt(other, NOW).await.is_err(), "the file as it was confirmed, and no other");
    assert_eq!(stored.adopt(new, NOW).await.unwrap().ended_grants, 20);
    assert!(stored.audit(0, 1000).await.unwrap().iter().any(|row| row.event == "rules_confirmed"));
}

/// A mapping that is edited loses its people at their logins, which the brake watches.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_brake_would_hold_is_told() {
    let desk = Desk::new();
    let before = format!("{BASE}{STAFF}");
    let old = rules(&before);
    let stored = store(&desk);
    for number in 0..20 {
        log_in(&stored, &old, &format!("user-{number:02}"), &number.to_string(), &["staff"]).await;
    }
    let report = plan(&desk, &before.replace("value = \"staff\"", "value = \"people\""), &["--json"]).json();
    assert_eq!(report["brake_refuses"], json!([]));
    assert_eq!(report["brake_holds"][0]["losing"], 20);
    let watching =
        format!("{}\n[sync]\nmode = \"shadow\"\n", before.replace("value = \"staff\"", "value = \"people\""));
    let said = plan(&desk, &watching, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out.starts_with("`sync.mode` is `shadow`: none of this is written until that changes\n20 of 20"),
        "{}",
        said.out
    );
}

#[test]
fn without_a_database_there_is_nothing_to_plan_for() {
    let desk = Desk::new();
    let said = plan(&desk, &format!("{BASE}{STAFF}"), &[]);
    assert_eq!(said.code, 1);
    assert!(said.err.starts_with("there is no database"), "{}", said.err);
    assert!(!path_of(&desk).exists());
}

/// A hundred thousand people in under ten seconds, in a build that is made for it:
/// `cargo test --release --test it a_hundred_thousand -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, for a release build"]
async fn a_hundred_thousand_people_are_planned_in_seconds() {
    let desk = Desk::new();
    let many: String = (0..200).map(|number| SALES.replace("\"sales\"", &format!("\"sales-{number}\""))).collect();
    let text = format!("{BASE}{STAFF}{ADMINS}{many}");
    let rules = rules(&text);
    let stored = store(&desk);
    for number in 0..500 {
        let own: Vec<String> = (0..20).map(|step| format!("sales-{}", (number * 7 + step * 13) % 400)).collect();
        let mut groups: Vec<&str> = own.iter().map(String::as_str).collect();
        groups.push("staff");
        log_in(&stored, &rules, &format!("user-{number}"), &number.to_string(), &groups).await;
    }
    multiply(&desk, 200);
    let changed = text.replace("value = \"staff\"", "value = \"people\"");
    let began = Instant::now();
    let said = plan(&desk, &changed, &["--json"]);
    let took = began.elapsed();
    println!("{took:?}");
    let report = said.json();
    assert_eq!((&report["users"], &report["changed_users"]), (&json!(100_000), &json!(100_000)));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Puts copies of everybody beside them, so that there are so many times as many.
fn multiply(desk: &Desk, times: usize) {
    let mut connection = rusqlite::Connection::open(path_of(desk)).unwrap();
    let all = connection.transaction().unwrap();
    for copy in 1..times {
        let by = copy * 1_000;
        let statements = [
            format!(
                "INSERT INTO users (id, namespace, subject, created_at, last_login_at, logins)
                 SELECT id + {by}, namespace, subject || '-{copy}', created_at, last_login_at, logins
                 FROM users WHERE id < 1000"
            ),
            format!(
                "INSERT INTO records (user_id, record) SELECT user_id + {by}, record FROM records WHERE user_id < 1000"
            ),
            format!(
                "INSERT INTO holdings (kind, target, provider, mapping, user_id, at)
                 SELECT kind, target, provider, mapping, user_id + {by}, at FROM holdings WHERE user_id < 1000"
            ),
        ];
        for statement in &statements {
            all.execute(statement, []).unwrap();
        }
    }
    all.commit().unwrap();
}
