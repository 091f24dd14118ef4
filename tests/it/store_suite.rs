//! One suite for every store: each test takes an opener.

use std::sync::Arc;
use std::time::Duration;

use loginsync::config::{Secret, Synchronous};
use loginsync::pipeline::claims::{Claim, ClaimState, Claims, Split};
use loginsync::pipeline::ids::{
    ClaimName, GroupName, Namespace, ProviderName, RoleName, Subject, Target, Timestamp, UserId,
};
use loginsync::pipeline::lookup::Lookup;
use loginsync::pipeline::mapping::stored::{Entry, GroupBody, OwnGroup, Stored};
use loginsync::pipeline::mapping::{Group, Mapping, Role, RuleSet, Rules, candidates};
use loginsync::pipeline::plan::Plan;
use loginsync::pipeline::verify::Spending;
use loginsync::ports::catalogue::Revision;
use loginsync::ports::sessions::{AtProvider, Digest, LoggedOut, Logout, NewSession, Sessions};
use loginsync::ports::store::memory::Memory;
use loginsync::ports::store::postgres;
use loginsync::ports::store::sqlite::{Settings, SqliteStore};
use loginsync::ports::store::{Act, Applied, Login, Refusal, Store, StoreError};

/// Makes three tests of one: on SQLite, on PostgreSQL, and in memory.
macro_rules! on_every_store {
    ($name:ident) => {
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                super::$name(&super::open()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                if let Some(opened) = super::in_postgres().await {
                    super::$name(&opened).await;
                    opened.check().await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn memory() {
                super::$name(&super::in_memory()).await;
            }
        }
    };
}

mod console;
mod events;
mod measures;
mod moves;
mod outbox;
mod replicas;
mod rules;
mod same;
mod versions;
mod views;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A store of its own for one test.
struct Opened {
    /// Dropped first, while the files are there.
    _checked: Checked,
    store: Arc<Store>,
    sessions: Arc<dyn Sessions>,
    folder: tempfile::TempDir,
}

/// Checks a store at the end of its test: what users are found by equals their records. `None`: the test does.
struct Checked(Option<Arc<Store>>);

impl Drop for Checked {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let Some(store) = self.0.clone() else { return };
        let checking = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { store.check(false).await.unwrap() })
        });
        assert_eq!(checking.join().unwrap(), Vec::<String>::new(), "`db check`");
    }
}

impl Opened {
    /// What users are found by equals their records, and the chain fits.
    async fn check(&self) {
        assert_eq!(self.store.check(false).await.unwrap(), Vec::<String>::new(), "`db check`");
        assert_eq!(self.store.verify_audit().await.unwrap().broken, None);
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("store.db")
    }

    /// A second connection, as somebody with the file in hands would have.
    fn intruder(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }
}

fn settings(key: Option<&[u8]>) -> Settings {
    Settings {
        synchronous: Synchronous::Normal,
        timeout: Duration::from_secs(20),
        audit_key: key.map(|key| Secret::new(key.to_vec())),
    }
}

fn open() -> Opened {
    open_with(Some(b"an audit key for tests, 32 bytes"))
}

fn open_with(key: Option<&[u8]>) -> Opened {
    open_by(settings(key))
}

fn open_by(settings: Settings) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db"), settings).unwrap();
    let store = Arc::new(Store::from(store));
    Opened { sessions: store.sessions(), _checked: Checked(Some(Arc::clone(&store))), store, folder }
}

/// `None` where no server is installed.
async fn in_postgres() -> Option<Opened> {
    let database = crate::support::postgres::database().await?;
    let opened = postgres::Shared::open(database.settings(Some(b"an audit key for tests, 32 bytes"))).await.unwrap();
    let store = Arc::new(Store::from(opened));
    let folder = tempfile::tempdir().unwrap();
    Some(Opened { sessions: store.sessions(), _checked: Checked(None), store, folder })
}

fn in_memory() -> Opened {
    let store = Arc::new(Store::new(Arc::new(Memory::default())));
    let folder = tempfile::tempdir().unwrap();
    Opened { _checked: Checked(Some(Arc::clone(&store))), sessions: store.sessions(), store, folder }
}

fn provider(name: &str) -> ProviderName {
    ProviderName::parse(name).unwrap()
}

fn user(subject: &str) -> UserId {
    UserId { namespace: Namespace::parse("people").unwrap(), subject: Subject::parse(subject).unwrap() }
}

fn group(name: &str) -> Target {
    Target::Group(GroupName::parse(name).unwrap())
}

fn role(name: &str) -> Target {
    Target::Role(RoleName::parse(name).unwrap())
}

/// `p` and `q` map a, b, c to groups A, B, C; A carries the protected role `admin`; C is protected itself.
fn rules() -> RuleSet {
    rules_without(&[], 1)
}

fn rules_without(gone: &[&str], epoch: u64) -> RuleSet {
    let claim = ClaimName::parse("groups").unwrap();
    let mut mappings = Vec::new();
    for owner in ["p", "q"] {
        for value in ["a", "b", "c"].into_iter().filter(|value| !gone.contains(value)) {
            let (provider, target) = (provider(owner), group(&value.to_uppercase()));
            mappings.push(Mapping::of_value(provider, claim.clone(), Arc::from(value), None, target));
        }
    }
    let admin = RoleName::parse("admin").unwrap();
    let groups = Lookup::from_iter([
        (GroupName::parse("A").unwrap(), Group { roles: vec![admin.clone()], ..Group::default() }),
        (GroupName::parse("B").unwrap(), Group::default()),
        (GroupName::parse("C").unwrap(), Group { protected: true, ..Group::default() }),
    ]);
    let roles = Lookup::from_iter([
        (admin, Role { protected: true, ..Role::default() }),
        (RoleName::parse("editor").unwrap(), Role::default()),
    ]);
    RuleSet::compile(epoch, Rules { groups, roles, mappings, ..Rules::default() }).unwrap()
}

/// A login as data: who, through which provider, when it was issued, with which values.
struct Case<'a> {
    user: &'a str,
    provider: &'a str,
    issued: i64,
    token: &'a str,
    values: &'a [&'a str],
    /// No token says when: the provider was asked.
    asked: bool,
    spending: Spending,
}

impl Default for Case<'_> {
    fn default() -> Self {
        let spending = Spending::Once;
        Self { user: "alice", provider: "p", issued: 0, token: "t", values: &[], asked: false, spending }
    }
}

async fn apply(store: &Store, rules: &Arc<RuleSet>, case: Case<'_>) -> Result<Applied, StoreError> {
    let values: Vec<String> = case.values.iter().map(|value| (*value).to_owned()).collect();
    let state = if values.is_empty() { ClaimState::Empty } else { ClaimState::Values(values) };
    let name = ClaimName::parse("groups").unwrap();
    let claims = Claims {
        user: user(case.user),
        email: Some(format!("{}@example.com", case.user)),
        display_name: None,
        claims: vec![Claim { name, state, split: Split::default(), skipped: 0, decided: true }],
    };
    let candidates = candidates(rules, &provider(case.provider), &Arc::new(claims.clone()));
    let login = Login {
        id: format!("login-{}", case.token),
        provider: provider(case.provider),
        issuer: format!("https://{}.example.com", case.provider),
        user: claims.user,
        email: claims.email,
        display_name: None,
        token_id: case.token.into(),
        issued_at: (!case.asked).then_some(Timestamp(NOW.0 + case.issued)),
        spending: case.spending,
        remember_until: Timestamp(NOW.0 + 600_000),
        now: NOW,
        binding: "matched",
        claims: Vec::new(),
        arrived: Vec::new(),
    };
    store.apply(login, candidates, Arc::clone(rules)).await
}

async fn plan(store: &Store, rules: &Arc<RuleSet>, case: Case<'_>) -> Plan {
    match apply(store, rules, case).await.unwrap() {
        Applied::Committed(plan) => *plan,
        other => panic!("expected a committed plan, found {other:?}"),
    }
}

async fn groups(store: &Store, rules: &Arc<RuleSet>, subject: &str) -> Vec<String> {
    store.user(user(subject), Arc::clone(rules), NOW).await.unwrap().map(|view| view.groups).unwrap_or_default()
}

async fn events(store: &Store) -> Vec<String> {
    store.audit(0, 1000).await.unwrap().into_iter().map(|row| row.event).collect()
}

on_every_store!(a_login_grants_and_the_next_one_revokes);
async fn a_login_grants_and_the_next_one_revokes(opened: &Opened) {
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["a", "b"], ..Case::default() }).await;
    plan(store, &rules, Case { user: "bob", token: "0", values: &["a"], ..Case::default() }).await;
    assert_eq!(groups(store, &rules, "alice").await, ["A", "B"]);
    let second = plan(store, &rules, Case { token: "2", issued: 1, values: &["b"], ..Case::default() }).await;
    assert_eq!(groups(store, &rules, "alice").await, ["B"]);
    assert_eq!((second.keeps.len(), second.revokes.len(), second.grants.len()), (1, 1, 0));
}

on_every_store!(promise_03_assigned_grants_and_other_providers_stay);
async fn promise_03_assigned_grants_and_other_providers_stay(opened: &Opened) {
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    store.act(user("alice"), Act::Assign(group("B")), "test".into(), NOW).await.unwrap();
    plan(store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    plan(store, &rules, Case { token: "2", provider: "q", values: &["b", "c"], ..Case::default() }).await;
    let last = plan(store, &rules, Case { token: "3", issued: 1, values: &[], ..Case::default() }).await;
    assert_eq!(last.revokes.len(), 1);
    let view = store.user(user("alice"), Arc::clone(&rules), NOW).await.unwrap().unwrap();
    assert_eq!(view.groups, ["B", "C"]);
    let b = view.memberships.iter().find(|membership| membership.name == "B").unwrap();
    assert_eq!((b.membership, b.reasons.len()), ("both", 2));
}

on_every_store!(promise_05_older_never_overwrites_newer);
async fn promise_05_older_never_overwrites_newer(opened: &Opened) {
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "new", issued: 10, values: &["b"], ..Case::default() }).await;
    let old = plan(store, &rules, Case { token: "old", issued: 5, values: &["a", "c"], ..Case::default() }).await;
    assert!(old.older);
    assert_eq!(groups(store, &rules, "alice").await, ["B"]);
    assert_eq!(events(store).await, ["login", "login_older"]);
    let other = plan(store, &rules, Case { token: "x", provider: "q", issued: 5, values: &["a"], ..Case::default() });
    assert!(!other.await.older, "another provider's logins have an order of their own");
}

on_every_store!(a_replay_changes_nothing_and_fills_one_row);
async fn a_replay_changes_nothing_and_fills_one_row(opened: &Opened) {
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    for _ in 0..5 {
        let again = apply(store, &rules, Case { token: "1", values: &["a"], ..Case::default() }).await.unwrap();
        assert!(matches!(again, Applied::Replay));
    }
    assert_eq!(groups(store, &rules, "alice").await, ["B"]);
    assert_eq!(events(store).await, ["login", "login_refused"]);
}

#[tokio::test]
async fn a_replay_is_known_after_a_restart() {
    let Opened { store, folder, sessions, .. } = open();
    drop(sessions);
    let rules = Arc::new(rules());
    plan(&store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    drop(store);
    let path = folder.path().join("store.db");
    let again = SqliteStore::open(&path, settings(Some(b"an audit key for tests, 32 bytes"))).unwrap();
    let again = Store::from(again);
    assert!(matches!(apply(&again, &rules, Case { token: "1", ..Case::default() }).await.unwrap(), Applied::Replay));
}

on_every_store!(a_disabled_user_is_refused_and_not_enabled);
async fn a_disabled_user_is_refused_and_not_enabled(opened: &Opened) {
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    store.act(user("alice"), Act::Disable, "test".into(), NOW).await.unwrap();
    let refused = apply(store, &rules, Case { token: "2", issued: 1, ..Case::default() }).await.unwrap();
    assert!(matches!(refused, Applied::Disabled));
    let view = store.user(user("alice"), Arc::clone(&rules), NOW).await.unwrap().unwrap();
    assert!(!view.enabled && view.groups == ["B"]);
}

on_every_store!(a_deny_outranks_every_grant);
async fn a_deny_outranks_every_grant(opened: &Opened) {
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    let deny = Act::Deny { target: group("B"), reason: "leaving".into(), until: None };
    store.act(user("alice"), deny, "test".into(), NOW).await.unwrap();
    let plan = plan(store, &rules, Case { token: "1", values: &["a", "b"], ..Case::default() }).await;
    assert_eq!(plan.grants.len(), 2, "the grant is recorded, so that lifting the deny restores it");
    assert_eq!(groups(store, &rules, "alice").await, ["A"]);
    store.act(user("alice"), Act::Undeny(group("B")), "test".into(), NOW).await.unwrap();
    assert_eq!(groups(store, &rules, "alice").await, ["A", "B"]);
}

on_every_store!(a_deny_past_its_end_shows_no_more_before_it_is_cleared_away);
async fn a_deny_past_its_end_shows_no_more_before_it_is_cleared_away(opened: &Opened) {
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["a", "b"], ..Case::default() }).await;
    assert!(opened.sessions.begin(session("k", "alice")).await.unwrap());
    let deny = Act::Deny { target: group("B"), reason: "a while".into(), until: Some(at(1000)) };
    store.act(user("alice"), deny, "test".into(), NOW).await.unwrap();
    for (now, expected) in [(at(999), &["A"][..]), (at(1000), &["A", "B"])] {
        let view = store.user(user("alice"), Arc::clone(&rules), now).await.unwrap().unwrap();
        assert_eq!(view.groups, expected, "{now}");
        assert_eq!(view.binding().binds(), expected.len() == 1, "{now}");
        let found = opened.sessions.find(Digest::of(b"k"), Arc::clone(&rules), now).await.unwrap().unwrap();
        assert_eq!(found.groups, expected, "{now}");
    }
    assert!(!events(store).await.contains(&"deny_ended".to_owned()));
}

on_every_store!(promise_09_the_last_holder_of_a_protected_role_stays);
async fn promise_09_the_last_holder_of_a_protected_role_stays(opened: &Opened) {
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["a", "b"], ..Case::default() }).await;
    let guarded = plan(store, &rules, Case { token: "2", issued: 1, values: &[], ..Case::default() }).await;
    assert_eq!(guarded.guarded.len(), 1, "A carries the role; the rest of the plan goes on");
    assert_eq!(groups(store, &rules, "alice").await, ["A"]);
    // A disabled or denied holder is none.
    store.act(user("carol"), Act::Assign(role("admin")), "test".into(), NOW).await.unwrap();
    store.act(user("carol"), Act::Disable, "test".into(), NOW).await.unwrap();
    let still = plan(store, &rules, Case { token: "3", issued: 2, values: &[], ..Case::default() }).await;
    assert_eq!(still.guarded.len(), 1);
    store.act(user("carol"), Act::Enable, "test".into(), NOW).await.unwrap();
    let gone = plan(store, &rules, Case { token: "4", issued: 3, values: &[], ..Case::default() }).await;
    assert_eq!((gone.guarded.len(), gone.revokes.len()), (0, 1));
    assert!(groups(store, &rules, "alice").await.is_empty());
}

#[tokio::test]
async fn promise_06_a_login_that_changes_nothing_writes_no_grant_row() {
    let opened = open();
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["a", "b"], ..Case::default() }).await;
    let rows = |connection: &rusqlite::Connection| -> Vec<(String, i64)> {
        let mut select = connection.prepare("SELECT name, granted_at FROM grants ORDER BY name").unwrap();
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let before = rows(&opened.intruder());
    let second = plan(store, &rules, Case { token: "2", issued: 1, values: &["a", "b"], ..Case::default() }).await;
    assert!(second.changes_nothing());
    assert_eq!(rows(&opened.intruder()), before);
}

#[tokio::test]
async fn promise_06_a_failure_in_the_middle_leaves_nothing() {
    let opened = open();
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    // The audit row is the last write of the transaction.
    opened
        .intruder()
        .execute_batch("CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        .unwrap();
    let failed = apply(store, &rules, Case { token: "2", issued: 1, values: &["a"], ..Case::default() }).await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    assert_eq!(groups(store, &rules, "alice").await, ["B"]);
    opened.intruder().execute_batch("DROP TRIGGER broken").unwrap();
    // The token was not spent by the login that failed.
    plan(store, &rules, Case { token: "2", issued: 1, values: &["a"], ..Case::default() }).await;
    assert_eq!(groups(store, &rules, "alice").await, ["A"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_job_does_not_spoil_its_batch() {
    let opened = open();
    let (store, rules) = (Arc::clone(&opened.store), Arc::new(rules()));
    opened
        .intruder()
        .execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON users WHEN new.subject = 'mallory'
             BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .unwrap();
    let logins = (0..200).map(|number| {
        let (store, rules) = (Arc::clone(&store), Arc::clone(&rules));
        tokio::spawn(async move {
            let subject = if number % 10 == 0 { "mallory".into() } else { format!("user-{number}") };
            let token = number.to_string();
            let case = Case { user: &subject, token: &token, values: &["b"], ..Case::default() };
            apply(&store, &rules, case).await.is_ok()
        })
    });
    let mut committed = 0;
    for login in logins.collect::<Vec<_>>() {
        committed += usize::from(login.await.unwrap());
    }
    assert_eq!(committed, 180);
    assert_eq!(store.members(group("B"), None, 1000).await.unwrap().len(), 180);
    assert!(store.verify_audit().await.unwrap().broken.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_logins_of_one_user_end_with_the_newest() {
    let opened = open();
    let (store, rules) = (Arc::clone(&opened.store), Arc::new(rules()));
    let values: [&[&str]; 3] = [&["a"], &["b"], &["a", "b"]];
    let logins = (0..60).map(|number: i64| {
        let (store, rules) = (Arc::clone(&store), Arc::clone(&rules));
        tokio::spawn(async move {
            let token = number.to_string();
            let values = if number == 59 { values[1] } else { values[usize::try_from(number).unwrap() % 3] };
            apply(&store, &rules, Case { issued: number, token: &token, values, ..Case::default() }).await.unwrap();
        })
    });
    for login in logins.collect::<Vec<_>>() {
        login.await.unwrap();
    }
    // Alice may keep A as the last holder of the protected role; B is what the newest login gave.
    assert!(groups(&store, &rules, "alice").await.contains(&"B".to_owned()));
    let newest: i64 = opened.intruder().query_row("SELECT issued_at FROM logins", [], |row| row.get(0)).unwrap();
    assert_eq!(newest, NOW.0 + 59);
}

#[tokio::test]
async fn what_the_provider_was_asked_for_applies_and_leaves_the_watermark_alone() {
    let opened = open();
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    let watermark = || -> Vec<i64> {
        let intruder = opened.intruder();
        let mut select = intruder.prepare("SELECT issued_at FROM logins").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    plan(store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    let asked = plan(store, &rules, Case { token: "2", values: &[], asked: true, ..Case::default() }).await;
    assert!(!asked.older);
    assert_eq!(watermark(), [NOW.0]);
    assert!(groups(store, &rules, "alice").await.is_empty(), "an answer is newer than any token");
    let older = plan(store, &rules, Case { token: "3", issued: -1, values: &["b"], ..Case::default() }).await;
    assert!(older.older, "the watermark still counts");

    let bob = |token, issued, asked| Case { user: "bob", token, issued, asked, values: &["b"], ..Case::default() };
    plan(store, &rules, bob("4", 0, true)).await;
    let first = plan(store, &rules, bob("5", -1000, false)).await;
    assert!(!first.older, "an answer sets no watermark that could make a token old");
}

on_every_store!(a_token_that_is_not_spent_may_come_again);
async fn a_token_that_is_not_spent_may_come_again(opened: &Opened) {
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    let again = || Case { token: "1", values: &["b"], spending: Spending::Again, ..Case::default() };
    plan(store, &rules, again()).await;
    assert!(plan(store, &rules, again()).await.grants.is_empty());
    let spent = plan(store, &rules, Case { spending: Spending::Once, ..again() }).await;
    assert!(spent.grants.is_empty(), "it was not spent before");
    let replay = apply(store, &rules, Case { spending: Spending::Once, ..again() }).await.unwrap();
    assert!(matches!(replay, Applied::Replay));
}

on_every_store!(mappings_that_are_gone_lose_their_grants_at_once);
async fn mappings_that_are_gone_lose_their_grants_at_once(opened: &Opened) {
    let (store, old) = (&*opened.store, Arc::new(rules()));
    store.adopt(Arc::clone(&old), NOW).await.unwrap();
    plan(store, &old, Case { token: "1", values: &["a", "b"], ..Case::default() }).await;
    plan(store, &old, Case { user: "bob", provider: "q", token: "2", values: &["a"], ..Case::default() }).await;
    store.act(user("alice"), Act::Assign(group("A")), "test".into(), NOW).await.unwrap();
    let new = Arc::new(rules_without(&["a"], 2));
    let adopted = store.adopt(Arc::clone(&new), NOW).await.unwrap();
    assert_eq!((adopted.ended_mappings, adopted.ended_grants), (2, 2));
    assert_eq!(groups(store, &new, "alice").await, ["A", "B"], "the assigned grant of A stays");
    assert!(groups(store, &new, "bob").await.is_empty());
    let stale = apply(store, &old, Case { token: "3", issued: 1, values: &["a"], ..Case::default() }).await.unwrap();
    assert!(matches!(stale, Applied::Stale), "candidates of the old rules are not written");
}

on_every_store!(refusals_are_recorded_once_for_each_token);
async fn refusals_are_recorded_once_for_each_token(opened: &Opened) {
    let refusal = |token: &str| Refusal {
        id: "r".into(),
        provider: provider("p"),
        token_id: token.into(),
        now: NOW,
        reason: "audience is wrong".into(),
        arrived: Vec::new(),
        remember_until: Timestamp(NOW.0 + 1000),
    };
    for token in ["1", "1", "2", "1"] {
        opened.store.record_refusal(refusal(token)).await.unwrap();
    }
    assert_eq!(events(&opened.store).await, ["login_refused", "login_refused"]);
}

#[tokio::test]
async fn promise_06_an_altered_removed_or_forged_row_shows() {
    let tampers: [(&str, &str); 6] = [
        ("UPDATE audit SET detail = replace(detail, 'B', 'C') WHERE sequence = 2", "altered"),
        ("UPDATE audit SET at = at + 1 WHERE sequence = 2", "altered"),
        ("DELETE FROM audit WHERE sequence = 2", "removed"),
        ("UPDATE audit SET fields = replace(fields, 'alice', 'mallory') WHERE sequence = 2", "personal"),
        ("UPDATE audit SET keyed = 0, key = NULL WHERE sequence = 3", "not sealed with the key"),
        ("UPDATE audit SET seal = x'00' WHERE sequence = 3", "altered"),
    ];
    for (tamper, expected) in tampers {
        let opened = open();
        let (store, rules) = (&*opened.store, Arc::new(rules()));
        for (token, issued) in [("1", 1), ("2", 2), ("3", 3)] {
            plan(store, &rules, Case { token, issued, values: &["b"], ..Case::default() }).await;
        }
        let whole = store.verify_audit().await.unwrap();
        assert!(whole.broken.is_none() && whole.keyed && whole.rows == 3);
        opened.intruder().execute_batch(tamper).unwrap();
        let report = store.verify_audit().await.unwrap();
        let fault = report.broken.unwrap_or_else(|| panic!("nobody noticed: {tamper}")).fault;
        assert!(fault.contains(expected), "{tamper}: {fault}");
    }
}

#[tokio::test]
async fn promise_06_a_cut_chain_no_longer_has_the_logged_head() {
    let opened = open();
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    plan(store, &rules, Case { token: "2", issued: 1, values: &["b"], ..Case::default() }).await;
    let (sequence, head) = store.audit_head().await.unwrap().unwrap();
    assert_eq!((sequence, &head), (2, &store.verify_audit().await.unwrap().head));
    opened.intruder().execute_batch("DELETE FROM audit WHERE sequence = 2").unwrap();
    assert_ne!(store.verify_audit().await.unwrap().head, head);
}

#[tokio::test]
async fn without_a_key_rows_are_linked_and_it_is_said() {
    let opened = open_with(None);
    let rules = Arc::new(rules());
    plan(&opened.store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    let report = opened.store.verify_audit().await.unwrap();
    assert!(report.broken.is_none() && !report.keyed);
}

#[tokio::test]
async fn an_erased_person_leaves_a_chain_that_verifies() {
    let opened = open();
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    plan(store, &rules, Case { user: "bob", token: "2", values: &["b"], ..Case::default() }).await;
    store.act(user("alice"), Act::Erase, "test".into(), NOW).await.unwrap();
    let report = store.verify_audit().await.unwrap();
    assert!(report.broken.is_none(), "{report:?}");
    assert_eq!(report.erased, 1);
    assert!(store.user(user("alice"), rules, NOW).await.unwrap().is_none());
    let mut bytes = std::fs::read(opened.path()).unwrap();
    bytes.extend(std::fs::read(opened.path().with_extension("db-wal")).unwrap());
    let names = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(!names(b"alice") && names(b"bob"), "nothing of alice is left in the files");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let Opened { store, folder, sessions, .. } = open();
    drop(sessions);
    drop(store);
    let path = folder.path().join("store.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let refused = SqliteStore::open(&path, settings(None)).err().unwrap();
    assert!(refused.to_string().contains("newer"), "{refused}");
}

#[tokio::test]
async fn a_settled_database_is_one_file() {
    let opened = open();
    let rules = Arc::new(rules());
    plan(&opened.store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    opened.store.settle().await.unwrap();
    let copy = opened.folder.path().join("copy.db");
    std::fs::copy(opened.path(), &copy).unwrap();
    let restored = SqliteStore::open(&copy, settings(Some(b"an audit key for tests, 32 bytes"))).unwrap();
    let restored = Store::from(restored);
    assert_eq!(groups(&restored, &rules, "alice").await, ["B"]);
}

#[tokio::test]
async fn the_database_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let opened = open();
    opened.store.cookie_keys().await.unwrap();
    for entry in std::fs::read_dir(opened.folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn a_locked_store_refuses_in_time() {
    let opened = open_by(Settings { timeout: Duration::from_secs(2), ..settings(None) });
    let rules = Arc::new(rules());
    let intruder = opened.intruder();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = std::time::Instant::now();
    let refused = apply(&opened.store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    assert!(refused.is_err());
    assert!(began.elapsed() < Duration::from_secs(4));
    intruder.execute_batch("ROLLBACK").unwrap();
    plan(&opened.store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
}

on_every_store!(users_are_listed_page_by_page);
async fn users_are_listed_page_by_page(opened: &Opened) {
    for number in 0..25 {
        let assign = Act::Assign(group("B"));
        opened.store.act(user(&format!("u{number:02}")), assign, "test".into(), NOW).await.unwrap();
    }
    let mut seen = Vec::new();
    loop {
        let page = opened.store.users(seen.last().cloned(), 10).await.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.is_sorted());
}

on_every_store!(cookie_keys_are_made_once);
async fn cookie_keys_are_made_once(opened: &Opened) {
    let first = opened.store.cookie_keys().await.unwrap();
    assert_eq!(first.len(), 32);
    assert_eq!(opened.store.cookie_keys().await.unwrap(), first);
}

/// What users are found by is compared with their records, and corrected by them.
#[tokio::test]
async fn a_check_finds_what_differs_and_repairs_it() {
    let opened = open();
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["a", "b"], ..Case::default() }).await;
    let deny = Act::Deny { target: group("C"), reason: "test".into(), until: None };
    store.act(user("alice"), deny, "test".into(), NOW).await.unwrap();
    let whole: Vec<String> = Vec::new();
    let tampers = [
        ("DELETE FROM holdings WHERE rowid_of = 1", "lacks a row of `people/alice`"),
        ("INSERT INTO holdings VALUES (0, 1, 'q', x'00', 1, NULL)", "has a row of user 1"),
        ("INSERT INTO holdings VALUES (0, 1, 'p', x'00', 77, NULL)", "has a row of user 77"),
        ("UPDATE holdings SET at = 5", "lacks a row of `people/alice`"),
        ("DELETE FROM denied", "`denied` lacks a row of `people/alice`"),
        ("INSERT INTO denied VALUES (0, 'B', 1)", "`denied` has a row of user 1"),
        ("UPDATE users SET disabled = 1", "`users` says of `people/alice`"),
    ];
    for (tamper, fault) in tampers {
        let tamper = tamper.replace(" WHERE rowid_of = 1", " WHERE target = (SELECT min(target) FROM holdings)");
        opened.intruder().execute_batch(&tamper).unwrap();
        let found = store.check(false).await.unwrap();
        assert!(found.iter().any(|found| found.contains(fault)), "{tamper}: {found:?}");
        assert_eq!(store.check(true).await.unwrap(), found, "{tamper}");
        assert_eq!(store.check(false).await.unwrap(), whole, "{tamper}");
    }
}

/// Numbers are never used twice: a rename touches no user, and a new group of an old name is another one.
#[tokio::test]
async fn a_group_is_its_number_and_not_its_name() {
    let opened = open();
    let store = &*opened.store;
    let name = |name: &str| group(name);
    store.act(user("alice"), Act::Assign(name("A")), "test".into(), NOW).await.unwrap();
    let record =
        || -> String { opened.intruder().query_row("SELECT record FROM records", [], |row| row.get(0)).unwrap() };
    let (before, rules) = (record(), Arc::new(rules()));
    let mut generation = 0;
    let mut revise = async |renamed: Vec<(Target, Target)>, has: &[&str], had: &[&str]| {
        let stored = |names: &[&str], generation: i64| {
            let mut stored = Stored { generation, ..Stored::default() };
            for name in names {
                let number = stored.next_number();
                let body = GroupBody { name: (*name).to_owned(), own: Some(OwnGroup::default()) };
                stored.groups.insert(number, Arc::new(Entry::new(number, format!("{name}-{generation}"), NOW, body)));
            }
            Arc::new(stored)
        };
        let revision = Revision {
            before: stored(had, generation),
            after: stored(has, generation + 1),
            renamed,
            rules: Some(Arc::clone(&rules)),
            confirmed: true,
            client: None,
            events: Vec::new(),
            now: NOW,
        };
        generation += 1;
        store.revise(revision).await.unwrap();
    };
    revise(Vec::new(), &["A"], &[]).await;
    revise(vec![(name("A"), name("Z"))], &["Z"], &["A"]).await;
    assert_eq!((groups(store, &rules, "alice").await, record()), (vec!["Z".to_owned()], before.clone()));
    revise(Vec::new(), &[], &["Z"]).await;
    assert_eq!((groups(store, &rules, "alice").await, record()), (Vec::<String>::new(), before));
    revise(Vec::new(), &["Z"], &[]).await;
    assert!(groups(store, &rules, "alice").await.is_empty());
    assert_eq!(store.members(name("Z"), None, 10).await.unwrap(), []);
}

on_every_store!(a_restored_store_refuses_the_tokens_of_before);
async fn a_restored_store_refuses_the_tokens_of_before(opened: &Opened) {
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    assert!(opened.sessions.begin(session("k", "alice")).await.unwrap());
    store.restored("cli:test".into(), Timestamp(NOW.0 + 1000)).await.unwrap();
    assert!(!live(opened, "k", &rules, NOW).await, "sessions have ended");
    let case = |token, issued| Case { token, issued, values: &["c"], ..Case::default() };
    for _ in 0..2 {
        let old = apply(store, &rules, case("2", 999)).await.unwrap();
        assert!(
            matches!(old, Applied::BeforeRestore { at, restored } if (at.0, restored.0) == (NOW.0 + 999, NOW.0 + 1000))
        );
    }
    assert_eq!(groups(store, &rules, "alice").await, ["B"], "nothing has changed");
    plan(store, &rules, case("3", 1000)).await;
    assert_eq!(groups(store, &rules, "alice").await, ["C"]);
    // Who was asked just now has no token of before.
    plan(store, &rules, Case { asked: true, token: "4", values: &["b"], ..Case::default() }).await;
    assert_eq!(events(store).await, ["login", "restored", "login_refused", "login", "login"]);
    let rows = store.audit(1, 2).await.unwrap();
    assert_eq!(rows[0].detail["by"], "cli:test");
    assert_eq!(rows[1].detail["outcome"], "before_restore");
}

// ------------------------------------------------------------------------------------------------------------ sessions

const HOUR: i64 = 3_600_000;

fn at(milliseconds: i64) -> Timestamp {
    Timestamp(NOW.0 + milliseconds)
}

fn session(key: &str, who: &str) -> NewSession {
    NewSession {
        key: Digest::of(key.as_bytes()),
        replaces: None,
        user: user(who),
        provider: provider("p"),
        login: format!("login-{key}"),
        token: format!("token-{key}"),
        at_provider: AtProvider { subject: who.into(), session: Some(format!("sid-{key}")), ..AtProvider::default() },
        app_cookie: None,
        refresh: None,
        hint: None,
        now: NOW,
        idle_until: at(HOUR),
        expires_at: at(2 * HOUR),
        most: 3,
    }
}

async fn live(opened: &Opened, key: &str, rules: &Arc<RuleSet>, now: Timestamp) -> bool {
    opened.sessions.find(Digest::of(key.as_bytes()), Arc::clone(rules), now).await.unwrap().is_some()
}

fn logout(subject: Option<&str>, sessions: &[&str], token: &str) -> Logout {
    Logout {
        providers: vec![provider("p")],
        issuer: "https://p.example.com".into(),
        token: token.into(),
        remember_until: at(HOUR),
        subject: subject.map(str::to_owned),
        sessions: sessions.iter().map(|sid| (*sid).to_owned()).collect(),
    }
}

#[tokio::test]
async fn a_session_tells_what_its_user_holds_now() {
    let opened = open();
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["a", "b"], ..Case::default() }).await;
    let begun = NewSession {
        app_cookie: Some(Digest::of(b"app")),
        refresh: Some(vec![1, 2]),
        hint: Some(vec![3]),
        ..session("k", "alice")
    };
    assert!(opened.sessions.begin(begun).await.unwrap());
    let find = || async { opened.sessions.find(Digest::of(b"k"), Arc::clone(&rules), NOW).await.unwrap().unwrap() };
    let found = find().await;
    assert_eq!((found.groups, found.roles), (vec!["A".to_owned(), "B".into()], vec!["admin".to_owned()]));
    assert_eq!((found.email.as_deref(), found.token.as_str()), (Some("alice@example.com"), "token-k"));
    assert_eq!(
        (found.app_cookie, found.refresh, found.hint),
        (Some(Digest::of(b"app")), Some(vec![1, 2]), Some(vec![3]))
    );
    assert_eq!(found.at_provider.session.as_deref(), Some("sid-k"));
    plan(store, &rules, Case { token: "2", issued: 1, values: &["a"], ..Case::default() }).await;
    assert_eq!(find().await.groups, ["A"], "a revocation shows");
    opened.sessions.renewed(Digest::of(b"k"), Some(vec![3]), at(5)).await.unwrap();
    let renewed = find().await;
    assert_eq!((renewed.refresh, renewed.synced_at), (Some(vec![3]), at(5)));
    let unknown = opened.sessions.begin(session("x", "nobody")).await.unwrap();
    assert!(!unknown, "a session is of a user who is there");
    let rows: i64 = opened.intruder().query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1, "and nothing was written for the other");
}

on_every_store!(a_session_ends_by_idling_by_age_and_with_its_user);
async fn a_session_ends_by_idling_by_age_and_with_its_user(opened: &Opened) {
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    for who in ["alice", "bob", "carol"] {
        plan(store, &rules, Case { user: who, token: who, values: &["b"], ..Case::default() }).await;
        assert!(opened.sessions.begin(session(who, who)).await.unwrap());
    }
    assert!(live(opened, "alice", &rules, at(HOUR - 1)).await);
    assert!(!live(opened, "alice", &rules, at(HOUR)).await, "it lay idle");
    opened.sessions.extend(Digest::of(b"alice"), at(HOUR - 1), at(3 * HOUR)).await.unwrap();
    assert!(live(opened, "alice", &rules, at(2 * HOUR - 1)).await);
    assert!(!live(opened, "alice", &rules, at(2 * HOUR)).await, "no use extends its age");
    opened.sessions.extend(Digest::of(b"alice"), NOW, NOW).await.unwrap();
    assert!(live(opened, "alice", &rules, at(HOUR)).await, "a late note does not shorten it");

    store.act(user("bob"), Act::Disable, "test".into(), NOW).await.unwrap();
    assert!(!live(opened, "bob", &rules, NOW).await);
    assert!(!opened.sessions.begin(session("bob-2", "bob")).await.unwrap());
    store.act(user("bob"), Act::Enable, "test".into(), NOW).await.unwrap();
    assert!(!live(opened, "bob", &rules, NOW).await, "being enabled again brings none back");
    store.act(user("carol"), Act::Erase, "test".into(), NOW).await.unwrap();
    assert!(!live(opened, "carol", &rules, NOW).await);
}

#[tokio::test]
async fn sessions_are_bounded_for_each_user_and_swept() {
    let opened = open();
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    for (number, key) in ["one", "two", "three", "four"].into_iter().enumerate() {
        let now = at(i64::try_from(number).unwrap());
        assert!(opened.sessions.begin(NewSession { now, ..session(key, "alice") }).await.unwrap());
    }
    assert!(!live(&opened, "one", &rules, at(4)).await, "the oldest made room");
    assert_eq!(opened.sessions.of_user(user("alice"), at(4)).await.unwrap().len(), 3);
    assert_eq!(opened.sessions.of_user(user("alice"), at(4)).await.unwrap()[0], Digest::of(b"four"));
    let replaces = Some(Digest::of(b"four"));
    let late = NewSession { now: at(3 * HOUR), expires_at: at(9 * HOUR), replaces, ..session("five", "alice") };
    assert!(opened.sessions.begin(late).await.unwrap());
    let rows: i64 = opened.intruder().query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1, "what had ended is gone");
    assert!(opened.sessions.end(Digest::of(b"five")).await.unwrap());
    assert!(!opened.sessions.end(Digest::of(b"five")).await.unwrap());
}

on_every_store!(a_provider_ends_its_own_sessions_once_for_each_message);
async fn a_provider_ends_its_own_sessions_once_for_each_message(opened: &Opened) {
    let (store, rules) = (&*opened.store, Arc::new(rules()));
    plan(store, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    let begin = |key: &'static str| opened.sessions.begin(session(key, "alice"));
    for key in ["one", "two"] {
        begin(key).await.unwrap();
    }
    let other = NewSession { provider: provider("q"), ..session("other", "alice") };
    opened.sessions.begin(other).await.unwrap();
    let end = |logout: Logout| async { opened.sessions.log_out(logout).await.unwrap() };
    assert_eq!(end(logout(Some("bob"), &["sid-one"], "a")).await, LoggedOut::Ended(0), "another person's");
    assert_eq!(end(logout(Some("alice"), &["sid-one"], "b")).await, LoggedOut::Ended(1));
    assert!(live(opened, "two", &rules, NOW).await && !live(opened, "one", &rules, NOW).await);
    begin("one").await.unwrap();
    assert_eq!(end(logout(Some("alice"), &[], "b")).await, LoggedOut::Replay, "the same message again");
    assert!(live(opened, "one", &rules, NOW).await);
    assert_eq!(end(logout(Some("alice"), &[], "c")).await, LoggedOut::Ended(2));
    assert!(live(opened, "other", &rules, NOW).await, "another provider's stays");
    assert_eq!(groups(store, &rules, "alice").await, ["B"], "memberships stay");
}
