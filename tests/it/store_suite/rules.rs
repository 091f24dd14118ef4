//! What the rules ask of a store beside grants: the brake, leases, gates, recorded claims.

use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::claims::Unresolved;
use loginsync::ports::store::{HoldFilter, Reaped};

use super::*;

const DAY: i64 = 24 * 3600 * 1000;

/// Two providers, three groups, a role; `more` is what the test is about.
pub(super) fn configured(more: &str, epoch: u64) -> Arc<RuleSet> {
    let text = format!(
        r#"
public_url = "https://app.example.com"
[app]
url = "http://127.0.0.1:3000"
{more}
[[role]]
name = "admin"
[[role]]
name = "editor"
[[group]]
name = "Staff"
[[group]]
name = "Editors"
roles = ["editor"]
[[group]]
name = "Loose"
brake = false
"#
    );
    let around = Surroundings {
        file: std::path::Path::new("loginsync.toml"),
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        environment: &|_| None,
        now: NOW,
    };
    let config = Config::from_text(&text, &around).unwrap_or_else(|faults| panic!("{faults}"));
    let mut rules = Arc::try_unwrap(config.rules).unwrap();
    rules.epoch = epoch;
    Arc::new(rules)
}

/// A provider that brings `groups`, with further keys.
fn provider_text(name: &str, more: &str) -> String {
    format!(
        r#"
[[provider]]
name = "{name}"
mode = "oidc-form-post"
issuer = "https://{name}.example.com"
client_id = "app"
callback = "/{name}"
namespace = "{name}"
{more}
[provider.claims.groups]
[provider.claims.department]
when_missing = "keep"
"#
    )
}

/// A provider and the mappings on its groups.
pub(super) fn mapped(pairs: &[(&str, &str)]) -> String {
    let mut text = provider_text("p", "");
    for (value, group) in pairs {
        text.push_str(&format!(
            "[[mapping]]\nprovider = \"p\"\nclaim = \"groups\"\nvalue = \"{value}\"\ngroup = \"{group}\"\n"
        ));
    }
    text
}

pub(super) struct Log<'a> {
    pub store: &'a Store,
    pub count: i64,
}

impl<'a> Log<'a> {
    pub fn new(store: &'a Store) -> Self {
        Self { store, count: 0 }
    }

    /// A login of `p` with these states of `groups` and `department`, so many milliseconds after [`NOW`].
    async fn on(
        &mut self,
        rules: &Arc<RuleSet>,
        who: &str,
        states: [ClaimState; 2],
        after: i64,
    ) -> Result<Applied, StoreError> {
        self.count += 1;
        let now = Timestamp(NOW.0 + after);
        let user = UserId { namespace: Namespace::parse("p").unwrap(), subject: Subject::parse(who).unwrap() };
        let [groups, department] = states;
        let claim = |name: &str, state: ClaimState, keeps: bool| Claim {
            name: ClaimName::parse(name).unwrap(),
            decided: match state {
                ClaimState::Unresolved(_) | ClaimState::Malformed => false,
                ClaimState::Missing => !keeps,
                _ => true,
            },
            state,
            split: Default::default(),
            skipped: 0,
        };
        let claims = Arc::new(Claims {
            user: user.clone(),
            email: None,
            display_name: None,
            claims: vec![claim("groups", groups, false), claim("department", department, true)],
        });
        let candidates = candidates(rules, &provider("p"), &claims);
        let login = Login {
            id: format!("login-{}", self.count),
            provider: provider("p"),
            issuer: "https://p.example.com".into(),
            user,
            email: None,
            display_name: None,
            token_id: format!("token-{}", self.count),
            issued_at: Some(now),
            spending: Spending::Once,
            remember_until: now.plus(Duration::from_secs(600)),
            now,
            binding: "matched",
            claims: Vec::new(),
            arrived: Vec::new(),
        };
        self.store.apply(login, candidates, Arc::clone(rules)).await
    }

    pub async fn apply(
        &mut self,
        rules: &Arc<RuleSet>,
        who: &str,
        groups: ClaimState,
        after: i64,
    ) -> Result<Applied, StoreError> {
        self.on(rules, who, [groups, ClaimState::Missing], after).await
    }

    pub async fn plan(&mut self, rules: &Arc<RuleSet>, who: &str, groups: ClaimState, after: i64) -> Plan {
        match self.apply(rules, who, groups, after).await.unwrap() {
            Applied::Committed(plan) => *plan,
            other => panic!("expected a committed plan, found {other:?}"),
        }
    }
}

pub(super) fn brought(values: &[&str]) -> ClaimState {
    match values {
        [] => ClaimState::Empty,
        values => ClaimState::Values(values.iter().map(|value| (*value).to_owned()).collect()),
    }
}

async fn held_by(store: &Store, rules: &Arc<RuleSet>, who: &str) -> Vec<String> {
    let user = UserId { namespace: Namespace::parse("p").unwrap(), subject: Subject::parse(who).unwrap() };
    store.user(user, Arc::clone(rules), NOW).await.unwrap().map(|view| view.groups).unwrap_or_default()
}

async fn members_of(store: &Store, name: &str) -> usize {
    store.members(group(name), None, 1000).await.unwrap().len()
}

// ----------------------------------------------------------------------------------------------------------- the brake

on_every_store!(promise_09_a_provider_that_drops_all_groups_is_stopped);
async fn promise_09_a_provider_that_drops_all_groups_is_stopped(opened: &Opened) {
    let store = &*opened.store;
    let rules = configured(&mapped(&[("staff", "Staff"), ("loose", "Loose")]), 1);
    let mut log = Log::new(store);
    for number in 0..50 {
        log.plan(&rules, &format!("user-{number}"), brought(&["staff", "loose"]), 0).await;
    }
    // Twenty per cent of fifty are ten, more than the five of `minimum`.
    let mut held = 0;
    for number in 0..50 {
        let plan = log.plan(&rules, &format!("user-{number}"), ClaimState::Missing, 1000 + number).await;
        assert!(plan.revokes.iter().any(|change| change.target == group("Loose")), "`brake = false` is not covered");
        held += plan.held.len();
    }
    assert_eq!((members_of(store, "Staff").await, held), (40, 40));
    assert_eq!(members_of(store, "Loose").await, 0);
    // No one after: not when the window has passed, either.
    let later = log.plan(&rules, "user-49", ClaimState::Missing, 3 * DAY).await;
    assert_eq!((later.revokes.len(), later.held.len()), (0, 1));
    log.plan(&rules, "newcomer", brought(&["staff"]), 3 * DAY).await;
    let next = log.plan(&rules, "newcomer", ClaimState::Missing, 3 * DAY + 1).await;
    assert_eq!((next.held.len(), next.braked), (1, vec![group("Staff")]));
    assert_eq!(held_by(store, &rules, "newcomer").await, ["Staff"], "a hold keeps the grant effective");
}

on_every_store!(a_few_losses_are_no_fault_and_windows_begin_anew);
async fn a_few_losses_are_no_fault_and_windows_begin_anew(opened: &Opened) {
    let store = &*opened.store;
    let rules = configured(&mapped(&[("staff", "Staff")]), 1);
    let mut log = Log::new(store);
    for number in 0..12 {
        log.plan(&rules, &format!("user-{number}"), brought(&["staff"]), 0).await;
    }
    for number in 0..5 {
        log.plan(&rules, &format!("user-{number}"), brought(&[]), 1000).await;
    }
    assert_eq!(members_of(store, "Staff").await, 7, "five always pass");
    for number in 5..10 {
        log.plan(&rules, &format!("user-{number}"), brought(&[]), 2 * 3600 * 1000).await;
    }
    assert_eq!(members_of(store, "Staff").await, 2, "five more in the next window");
    assert_eq!(store.holds(HoldFilter::default(), rules).await.unwrap(), []);
}

/// Eight people of whom two lose Staff and one is held.
pub(super) async fn with_one_hold(log: &mut Log<'_>, rules: &Arc<RuleSet>) {
    for number in 0..8 {
        log.plan(rules, &format!("user-{number}"), brought(&["staff"]), 0).await;
    }
    for number in 0..3 {
        log.plan(rules, &format!("user-{number}"), brought(&[]), 1000).await;
    }
}

const TIGHT: &str = "[brake]\nminimum = 2\nshare = \"10%\"\n";

on_every_store!(a_hold_is_dropped_when_the_value_returns);
async fn a_hold_is_dropped_when_the_value_returns(opened: &Opened) {
    let store = &*opened.store;
    let rules = configured(&(mapped(&[("staff", "Staff")]) + TIGHT), 1);
    let mut log = Log::new(store);
    with_one_hold(&mut log, &rules).await;
    let holds = store.holds(HoldFilter::default(), Arc::clone(&rules)).await.unwrap();
    assert_eq!(holds.len(), 1);
    assert_eq!((holds[0].user.subject.as_str(), &holds[0].target), ("user-2", &Some(group("Staff"))));
    log.plan(&rules, "user-2", brought(&["staff"]), 2000).await;
    assert_eq!(store.holds(HoldFilter::default(), Arc::clone(&rules)).await.unwrap(), []);
}

#[tokio::test]
async fn a_released_hold_is_planned_anew_and_a_discarded_one_forgotten() {
    let by = || String::from("test");
    for (release, left) in [(true, 5), (false, 6)] {
        let opened = open();
        let store = &*opened.store;
        let rules = configured(&(mapped(&[("staff", "Staff")]) + TIGHT), 1);
        let mut log = Log::new(store);
        with_one_hold(&mut log, &rules).await;
        let other = HoldFilter { target: Some(group("Loose")), ..HoldFilter::default() };
        assert_eq!(store.release(other, Arc::clone(&rules), by(), NOW).await.unwrap(), 0);
        let count = match release {
            true => store.release(HoldFilter::default(), Arc::clone(&rules), by(), NOW).await.unwrap(),
            false => store.discard(HoldFilter::default(), Arc::clone(&rules), by(), NOW).await.unwrap(),
        };
        assert_eq!(count, 1);
        assert_eq!(members_of(store, "Staff").await, left);
        assert_eq!(store.holds(HoldFilter::default(), Arc::clone(&rules)).await.unwrap(), []);
        let event = if release { "replanned" } else { "hold_discarded" };
        assert!(events(store).await.iter().any(|found| found == event));
        // Whoever looked has judged the losses so far: the next ones are counted from here.
        let next = log.plan(&rules, "user-3", brought(&[]), 3000).await;
        assert_eq!(next.revokes.len(), 1);
    }
}

on_every_store!(log09_a_window_counts_people_and_not_losses);
/// LOG9.
async fn log09_a_window_counts_people_and_not_losses(opened: &Opened) {
    let store = &*opened.store;
    let rules = configured(&(mapped(&[("staff", "Staff")]) + TIGHT), 1);
    let mut log = Log::new(store);
    for number in 0..8 {
        log.plan(&rules, &format!("user-{number}"), brought(&["staff"]), 0).await;
    }
    for round in 0..6 {
        let after = 1000 + 10 * round;
        assert_eq!(log.plan(&rules, "user-0", brought(&[]), after).await.revokes.len(), 1, "round {round}");
        log.plan(&rules, "user-0", brought(&["staff"]), after + 1).await;
    }
    assert_eq!(log.plan(&rules, "user-1", brought(&[]), 2000).await.revokes.len(), 1, "the second person");
    assert_eq!(log.plan(&rules, "user-2", brought(&[]), 2001).await.held.len(), 1, "the third");
    assert_eq!(log.plan(&rules, "user-0", brought(&[]), 2002).await.revokes.len(), 1, "counted before");
    // A later window knows nothing of the people of this one.
    log.plan(&rules, "user-2", brought(&["staff"]), 2003).await;
    let hour = 3600 * 1000;
    for (who, held) in [("user-3", 0), ("user-4", 0), ("user-5", 1)] {
        assert_eq!(log.plan(&rules, who, brought(&[]), hour + 3000).await.held.len(), held, "{who}");
    }
}

/// LOG20.
#[tokio::test]
async fn log20_one_discarded_hold_leaves_the_window_of_the_others() {
    for release in [true, false] {
        let opened = open();
        let store = &*opened.store;
        let rules = configured(&(mapped(&[("staff", "Staff")]) + TIGHT), 1);
        let mut log = Log::new(store);
        with_one_hold(&mut log, &rules).await;
        assert_eq!(log.plan(&rules, "user-3", brought(&[]), 2000).await.held.len(), 1);
        let user = UserId { namespace: Namespace::parse("p").unwrap(), subject: Subject::parse("user-3").unwrap() };
        let one = HoldFilter { user: Some(user), ..HoldFilter::default() };
        let settled = match release {
            true => store.release(one, Arc::clone(&rules), "test".into(), NOW).await.unwrap(),
            false => store.discard(one, Arc::clone(&rules), "test".into(), NOW).await.unwrap(),
        };
        assert_eq!(settled, 1);
        assert_eq!(members_of(store, "Staff").await, if release { 5 } else { 6 });
        let who = if release { "user-4" } else { "user-3" };
        let next = log.plan(&rules, who, brought(&[]), 3000).await;
        assert_eq!((next.held.len(), next.revokes.len()), (1, 0), "user-2 is held, so the window goes on");
    }
}

on_every_store!(promise_09_rules_that_revoke_too_much_need_a_confirmation);
async fn promise_09_rules_that_revoke_too_much_need_a_confirmation(opened: &Opened) {
    let store = &*opened.store;
    let before = configured(&mapped(&[("staff", "Staff"), ("edit", "Editors")]), 1);
    store.adopt(Arc::clone(&before), NOW).await.unwrap();
    let mut log = Log::new(store);
    for number in 0..20 {
        log.plan(&before, &format!("user-{number}"), brought(&["staff"]), 0).await;
    }
    log.plan(&before, "user-0", brought(&["staff", "edit"]), 1).await;

    let after = configured(&mapped(&[("edit", "Editors")]), 2);
    let refused = store.adopt(Arc::clone(&after), NOW).await.unwrap_err();
    let StoreError::Braked(excesses) = &refused else { panic!("{refused}") };
    assert_eq!(excesses.len(), 1);
    let found = (&excesses[0].target, excesses[0].losing, excesses[0].members, excesses[0].allowed);
    assert_eq!(found, (&group("Staff"), 20, 20, 5));
    assert!(refused.to_string().contains("--confirm"), "{refused}");
    assert_eq!(members_of(store, "Staff").await, 20);
    // The old rules stay the current ones.
    assert!(matches!(
        log.on(&before, "user-1", [brought(&["staff"]), ClaimState::Missing], 2).await,
        Ok(Applied::Committed(_))
    ));

    store.confirm([1; 32], "test".into(), NOW).await.unwrap();
    assert!(store.adopt(Arc::clone(&after), NOW).await.is_err(), "another file was confirmed");
    store.confirm(after.source.unwrap(), "test".into(), NOW).await.unwrap();
    let adopted = store.adopt(Arc::clone(&after), NOW).await.unwrap();
    assert_eq!((adopted.ended_mappings, adopted.ended_grants), (1, 20));
    assert_eq!((members_of(store, "Staff").await, members_of(store, "Editors").await), (0, 1));
}

on_every_store!(another_mapping_that_gives_the_same_is_no_loss_to_a_reload);
async fn another_mapping_that_gives_the_same_is_no_loss_to_a_reload(opened: &Opened) {
    let store = &*opened.store;
    let before = configured(&mapped(&[("staff", "Staff"), ("all", "Staff")]), 1);
    let mut log = Log::new(store);
    for number in 0..20 {
        log.plan(&before, &format!("user-{number}"), brought(&["staff", "all"]), 0).await;
    }
    let after = configured(&mapped(&[("all", "Staff")]), 2);
    assert_eq!(store.adopt(after, NOW).await.unwrap().ended_grants, 20);
    assert_eq!(members_of(store, "Staff").await, 20);
}

// -------------------------------------------------------------------------------------------------------------- leases

fn leased() -> Arc<RuleSet> {
    let mapping = "[[mapping]]\nprovider = \"p\"\nclaim = \"groups\"\nvalue = \"staff\"\ngroup = \"Staff\"\n";
    configured(&(provider_text("p", "lease = \"30d\"") + mapping), 1)
}

on_every_store!(log23_the_last_holder_of_something_protected_outlives_their_lease);
/// LOG23.
async fn log23_the_last_holder_of_something_protected_outlives_their_lease(opened: &Opened) {
    let mapping = "[[mapping]]\nprovider = \"p\"\nclaim = \"groups\"\nvalue = \"root\"\ngroup = \"Root\"\n\
                   [[group]]\nname = \"Root\"\nprotected = true\n";
    let (store, rules) = (&*opened.store, configured(&(provider_text("p", "lease = \"30d\"") + mapping), 1));
    let mut log = Log::new(store);
    for who in ["first", "second"] {
        log.plan(&rules, who, brought(&["root"]), 0).await;
    }
    // Neither lease is another holder for the other: whichever is reaped last stays.
    let later = Timestamp(NOW.0 + 40 * DAY);
    store.reap(Arc::clone(&rules), later).await.unwrap();
    assert_eq!(members_of(store, "Root").await, 2);
    log.plan(&rules, "first", brought(&["root"]), 40 * DAY).await;
    store.reap(Arc::clone(&rules), later).await.unwrap();
    assert_eq!(held_by(store, &rules, "second").await, [""; 0]);
    assert_eq!(held_by(store, &rules, "first").await, ["Root"]);
}

on_every_store!(a_lease_ends_thirty_days_after_the_last_login_that_decided);
async fn a_lease_ends_thirty_days_after_the_last_login_that_decided(opened: &Opened) {
    let (store, rules) = (&*opened.store, leased());
    let mut log = Log::new(store);
    for who in ["stays", "leaves", "undecided"] {
        log.plan(&rules, who, brought(&["staff"]), 0).await;
    }
    let quiet = log.plan(&rules, "stays", brought(&["staff"]), 20 * DAY).await;
    assert!(quiet.changes_nothing());
    let undecided = ClaimState::Unresolved(Unresolved::Overage);
    assert_eq!(log.plan(&rules, "undecided", undecided.clone(), 20 * DAY).await.undecided.len(), 1);
    assert_eq!(log.plan(&rules, "undecided", undecided, 21 * DAY).await.undecided.len(), 1);

    let due = store.leases(Arc::clone(&rules), Timestamp(NOW.0 + 40 * DAY), 10).await.unwrap();
    let due: Vec<(&str, i64)> =
        due.iter().map(|lease| (lease.subject.as_str(), (lease.ends_at.0 - NOW.0) / DAY)).collect();
    assert_eq!(due, [("leaves", 30), ("undecided", 30)], "what a login could not decide keeps the lease that it had");

    assert_eq!(store.reap(Arc::clone(&rules), Timestamp(NOW.0 + 30 * DAY - 1)).await.unwrap(), Reaped::default());
    let reaped = store.reap(Arc::clone(&rules), Timestamp(NOW.0 + 30 * DAY)).await.unwrap();
    assert_eq!((reaped.leases, members_of(store, "Staff").await), (2, 1));
    assert_eq!(held_by(store, &rules, "stays").await, ["Staff"]);
    assert!(events(store).await.iter().any(|event| event == "lease_ended"));
    store.reap(Arc::clone(&rules), Timestamp(NOW.0 + 50 * DAY)).await.unwrap();
    assert_eq!(members_of(store, "Staff").await, 0);
}

on_every_store!(a_login_that_decides_again_renews_what_was_frozen);
async fn a_login_that_decides_again_renews_what_was_frozen(opened: &Opened) {
    let (store, rules) = (&*opened.store, leased());
    let mut log = Log::new(store);
    log.plan(&rules, "alice", brought(&["staff"]), 0).await;
    log.plan(&rules, "alice", ClaimState::Malformed, 10 * DAY).await;
    log.plan(&rules, "alice", brought(&["staff"]), 20 * DAY).await;
    store.reap(Arc::clone(&rules), Timestamp(NOW.0 + 49 * DAY)).await.unwrap();
    assert_eq!(members_of(store, "Staff").await, 1);
    // A login that comes too late finds the lease ended, and what the claims give is granted anew.
    let late = log.plan(&rules, "alice", brought(&["staff"]), 60 * DAY).await;
    assert_eq!((late.keeps.len(), late.grants.len()), (0, 1));
    let last = log.plan(&rules, "alice", ClaimState::Malformed, 100 * DAY).await;
    assert_eq!((last.undecided.len(), members_of(store, "Staff").await), (0, 0));
}

on_every_store!(assigned_grants_and_providers_without_a_lease_never_end);
async fn assigned_grants_and_providers_without_a_lease_never_end(opened: &Opened) {
    let (store, rules) = (&*opened.store, configured(&mapped(&[("staff", "Staff")]), 1));
    let mut log = Log::new(store);
    log.plan(&rules, "alice", brought(&["staff"]), 0).await;
    let alice = UserId { namespace: Namespace::parse("p").unwrap(), subject: Subject::parse("alice").unwrap() };
    store.act(alice, Act::Assign(group("Editors")), "test".into(), NOW).await.unwrap();
    let years = Timestamp(NOW.0 + 10_000 * DAY);
    assert_eq!(store.reap(Arc::clone(&rules), years).await.unwrap(), Reaped::default());
    let with_lease = leased();
    store.reap(with_lease, years).await.unwrap();
    assert_eq!(held_by(store, &rules, "alice").await, ["Editors"]);
}

// --------------------------------------------------------------------------------------------- until, denies, shadow

on_every_store!(a_mapping_and_a_deny_end_by_themselves);
async fn a_mapping_and_a_deny_end_by_themselves(opened: &Opened) {
    let store = &*opened.store;
    // 2023-11-24, ten days after `NOW`.
    let more = "[[mapping]]\nprovider = \"p\"\nclaim = \"groups\"\nvalue = \"staff\"\ngroup = \"Staff\"\n\
                until = 2023-11-24T22:13:20Z\n";
    let rules = configured(&(provider_text("p", "") + more), 1);
    let mut log = Log::new(store);
    log.plan(&rules, "alice", brought(&["staff"]), 0).await;
    let alice = UserId { namespace: Namespace::parse("p").unwrap(), subject: Subject::parse("alice").unwrap() };
    let deny = Act::Deny { target: group("Staff"), reason: "a trial".into(), until: Some(Timestamp(NOW.0 + 5 * DAY)) };
    store.act(alice, deny, "test".into(), NOW).await.unwrap();
    assert_eq!(log.plan(&rules, "alice", brought(&["staff"]), DAY).await.after.groups.len(), 0);
    assert_eq!(log.plan(&rules, "alice", brought(&["staff"]), 6 * DAY).await.after.groups.len(), 1);
    let reaped = store.reap(Arc::clone(&rules), Timestamp(NOW.0 + 9 * DAY)).await.unwrap();
    assert_eq!(reaped, Reaped { denies: 1, ..Reaped::default() });
    assert_eq!(held_by(store, &rules, "alice").await, ["Staff"]);
    let reaped = store.reap(Arc::clone(&rules), Timestamp(NOW.0 + 10 * DAY)).await.unwrap();
    assert_eq!((reaped.expired, members_of(store, "Staff").await), (1, 0));
    assert!(log.plan(&rules, "alice", brought(&["staff"]), 11 * DAY).await.changes_nothing());
}

on_every_store!(a_shadow_decides_and_records_and_changes_nothing);
async fn a_shadow_decides_and_records_and_changes_nothing(opened: &Opened) {
    let store = &*opened.store;
    let gate = "[[gate]]\nname = \"nobody\"\nrequire = \"any\"\n";
    let real = configured(&mapped(&[("staff", "Staff")]), 1);
    let mut log = Log::new(store);
    log.plan(&real, "alice", brought(&["staff"]), 0).await;
    let shadow = configured(&format!("[sync]\nmode = \"shadow\"\n{}{gate}", mapped(&[("edit", "Editors")])), 2);
    assert_eq!(store.adopt(Arc::clone(&shadow), NOW).await.unwrap().ended_grants, 0);
    let plan = log.plan(&shadow, "alice", brought(&["edit"]), 1).await;
    assert_eq!((plan.grants.len(), plan.revokes.len(), plan.changes_nothing()), (1, 1, true));
    assert!(plan.to_string().contains("shadow"), "{plan}");
    assert_eq!(held_by(store, &shadow, "alice").await, ["Staff"]);
    assert_eq!(events(store).await.last().map(String::as_str), Some("login_shadow"));
    log.plan(&shadow, "stranger", brought(&[]), 2).await;
}

// --------------------------------------------------------------------------------------------------------------- gates

async fn enters(log: &mut Log<'_>, rules: &Arc<RuleSet>, who: &str, states: [ClaimState; 2]) -> bool {
    let after = 1000 * (log.count + 1);
    match log.on(rules, who, states, after).await.unwrap() {
        Applied::Committed(_) => true,
        Applied::Gated { gate, message } => {
            assert_eq!((gate.as_str(), message.as_str()), ("staff only", "Ask the desk."));
            false
        }
        other => panic!("{other:?}"),
    }
}

on_every_store!(a_require_gate_opens_to_those_who_get_something);
async fn a_require_gate_opens_to_those_who_get_something(opened: &Opened) {
    let store = &*opened.store;
    let gate = "[[gate]]\nname = \"staff only\"\nrequire = \"any\"\nmessage = \"Ask the desk.\"\n\
                [[default]]\nprovider = \"p\"\nclaim = \"groups\"\nrole = \"editor\"\n";
    let rules = configured(&(mapped(&[("staff", "Staff")]) + gate), 1);
    let mut log = Log::new(store);
    let missing = || ClaimState::Missing;
    let overage = || ClaimState::Unresolved(Unresolved::Overage);
    assert!(!enters(&mut log, &rules, "alice", [brought(&["other"]), missing()]).await, "a default does not count");
    assert_eq!(store.users(None, 10).await.unwrap().len(), 0, "who is refused leaves no user");
    assert_eq!(events(store).await, ["login_refused"]);
    assert!(!enters(&mut log, &rules, "alice", [overage(), missing()]).await);
    assert!(enters(&mut log, &rules, "alice", [brought(&["staff"]), missing()]).await);
    assert!(enters(&mut log, &rules, "alice", [overage(), missing()]).await, "what she holds is kept, and opens");
    assert!(!enters(&mut log, &rules, "alice", [brought(&[]), missing()]).await);
    assert_eq!(held_by(store, &rules, "alice").await, ["Staff"], "a refused login changes nothing");
}

on_every_store!(a_deny_gate_that_cannot_be_decided_is_shut);
async fn a_deny_gate_that_cannot_be_decided_is_shut(opened: &Opened) {
    let store = &*opened.store;
    let gate = "[[gate]]\nname = \"staff only\"\nmessage = \"Ask the desk.\"\n\
                deny = [{ claim = \"department\", is = \"guests\" }]\n";
    let rules = configured(&(mapped(&[("staff", "Staff")]) + gate), 1);
    let mut log = Log::new(store);
    let staff = || brought(&["staff"]);
    assert!(enters(&mut log, &rules, "alice", [staff(), brought(&["sales"])]).await);
    assert!(!enters(&mut log, &rules, "alice", [staff(), brought(&["sales", "guests"])]).await);
    assert!(!enters(&mut log, &rules, "alice", [staff(), ClaimState::Malformed]).await);
    assert!(!enters(&mut log, &rules, "alice", [staff(), ClaimState::Missing]).await, "missing under `keep`");
    assert!(enters(&mut log, &rules, "alice", [staff(), ClaimState::Empty]).await);
}

on_every_store!(a_gate_may_require_a_certain_mapping);
async fn a_gate_may_require_a_certain_mapping(opened: &Opened) {
    let store = &*opened.store;
    let more = "[[mapping]]\nname = \"the door\"\nwhen = [{ claim = \"department\", begins_with = \"in-\" }]\n\
                then = [{ add_role = \"editor\" }]\n\
                [[gate]]\nname = \"staff only\"\nrequire = [\"the door\"]\nmessage = \"Ask the desk.\"\n";
    let rules = configured(&(mapped(&[("staff", "Staff")]) + more), 1);
    let mut log = Log::new(store);
    assert!(!enters(&mut log, &rules, "alice", [brought(&["staff"]), brought(&["out"])]).await);
    assert!(enters(&mut log, &rules, "alice", [brought(&[]), brought(&["in-house"])]).await);
}

// ------------------------------------------------------------------------------------------------- recorded claims

async fn replan_all(store: &Store, rules: &Arc<RuleSet>) -> u64 {
    let (mut after, mut changed) = (None, 0);
    loop {
        let replanned = store.replan(Arc::clone(rules), after, None, Timestamp(NOW.0 + DAY)).await.unwrap();
        changed += replanned.changed;
        after = replanned.next;
        if after.is_none() {
            return changed;
        }
    }
}

on_every_store!(changed_rules_are_planned_from_recorded_claims);
async fn changed_rules_are_planned_from_recorded_claims(opened: &Opened) {
    let store = &*opened.store;
    let before = configured(&mapped(&[("staff", "Staff")]), 1);
    let mut log = Log::new(store);
    for number in 0..150 {
        let values: &[&str] = if number % 2 == 0 { &["staff", "edit"] } else { &["staff"] };
        log.plan(&before, &format!("user-{number:03}"), brought(values), 0).await;
    }
    log.plan(&before, "unresolved", ClaimState::Unresolved(Unresolved::Overage), 0).await;
    let after = configured(&mapped(&[("staff", "Staff"), ("edit", "Editors")]), 2);
    store.adopt(Arc::clone(&after), NOW).await.unwrap();
    assert_eq!(replan_all(store, &after).await, 75);
    assert_eq!((members_of(store, "Staff").await, members_of(store, "Editors").await), (150, 75));
    assert_eq!(held_by(store, &after, "user-000").await, ["Editors", "Staff"]);
    assert_eq!(replan_all(store, &after).await, 0, "once for each file");
}

on_every_store!(a_claim_that_was_not_recorded_plans_nothing);
async fn a_claim_that_was_not_recorded_plans_nothing(opened: &Opened) {
    let store = &*opened.store;
    let before = configured(&mapped(&[("staff", "Staff")]), 1);
    let mut log = Log::new(store);
    let states = [brought(&["staff"]), brought(&["sales"])];
    log.on(&before, "alice", states, 0).await.unwrap();
    // No mapping read `department` when she logged in.
    let more = "[[mapping]]\nname = \"sales\"\nwhen = [{ claim = \"department\", is = \"sales\" }]\ngroup = \"Editors\"\n\
                [[mapping]]\nname = \"no sales\"\nwhen = [{ claim = \"department\", is_not = \"sales\" }]\ngroup = \"Loose\"\n";
    let after = configured(&(mapped(&[("staff", "Staff")]) + more), 2);
    assert_eq!(replan_all(store, &after).await, 0);
    // The claim is read from elsewhere now: what was recorded says nothing about it.
    let moved = mapped(&[("staff", "Staff"), ("staff", "Editors")])
        .replace("[provider.claims.groups]", "[provider.claims.groups]\nname = \"roles\"");
    let moved = configured(&moved, 3);
    assert_eq!(replan_all(store, &moved).await, 0);
    assert_eq!(held_by(store, &moved, "alice").await, ["Staff"]);
}

#[tokio::test]
async fn only_claims_that_a_mapping_names_are_recorded_and_erasing_takes_them() {
    let opened = open();
    let store = &*opened.store;
    let rules = configured(&mapped(&[("staff", "Staff")]), 1);
    let mut log = Log::new(store);
    log.on(&rules, "alice", [brought(&["staff", "other"]), brought(&["secret"])], 0).await.unwrap();
    let alice = UserId { namespace: Namespace::parse("p").unwrap(), subject: Subject::parse("alice").unwrap() };
    let kept = store.export(alice.clone()).await.unwrap().unwrap();
    let claims = kept["claims"].to_string();
    assert!(claims.contains("other") && !claims.contains("secret"), "{claims}");
    assert_eq!(kept["grants"].as_array().unwrap().len(), 1);
    assert_eq!(kept["audit"][0]["event"], "login");

    let without = configured(&format!("[sync]\nrecord_claims = false\n{}", mapped(&[("staff", "Staff")])), 2);
    log.plan(&without, "alice", brought(&["staff"]), 1).await;
    assert_eq!(store.export(alice.clone()).await.unwrap().unwrap()["claims"].to_string(), "[]");

    log.plan(&rules, "alice", brought(&["staff"]), 2).await;
    store.act(alice.clone(), Act::Erase, "test".into(), NOW).await.unwrap();
    assert_eq!(store.export(alice).await.unwrap(), None);
    let left: i64 = opened.intruder().query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

// ------------------------------------------------------------------------------------------------------------ migration

#[tokio::test]
async fn a_database_of_the_first_version_is_brought_forward() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let first = include_str!("../../../src/ports/store/sqlite/schema/1-logins.sql");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(&format!("{first}\nPRAGMA user_version = 1;")).unwrap();
    let rules = configured(&mapped(&[("staff", "Staff")]), 1);
    let mapping = rules.mappings()[0].id;
    old.execute_batch(&format!(
        "INSERT INTO users (id, namespace, subject, created_at) VALUES (7, 'p', 'alice', 0);
         INSERT INTO grants (user_id, kind, name, provider, mapping, granted_at) VALUES (7, 0, 'Staff', 'p', x'{mapping}', 0);
         INSERT INTO watermarks (user_id, provider, issued_at, last_login_at) VALUES (7, 'p', 5, 5);"
    ))
    .unwrap();
    drop(old);
    let store = Store::from(SqliteStore::open(&path, settings(None)).unwrap());
    let mut log = Log::new(&store);
    let plan = log.plan(&rules, "alice", brought(&["staff"]), 0).await;
    assert_eq!((plan.keeps.len(), plan.changes_nothing()), (1, true));
}
