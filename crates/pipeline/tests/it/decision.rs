//! The pure decision, in a world of records in memory: its order as a table, its laws on random histories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use loginsync_pipeline::decision::{
    self, About, Act, Applied, Changes, Facts, Held, Kept, RefusalDetail, Save, Seen, Unfinished, Window, Work,
};
use loginsync_pipeline::ids::{Target, Timestamp, UserId};
use loginsync_pipeline::mapping::{Gate, GateRule, Mode, candidates};
use loginsync_pipeline::plan::Source;
use loginsync_pipeline::record::{Bound, ProviderLogin, Record};
use loginsync_pipeline::verify::Spending;
use proptest::prelude::*;

use crate::world::{Case, LEASE, NOW, World, case, group, mapped, mapping, provider, rules, rules_with, user};

#[test]
fn a_token_is_spent_before_anything_else_is_asked() {
    let (mut world, rules) = (World::default(), rules());
    world.plan(&rules, &case(1, &["c"], "t", 0));
    assert!(world.act(&user(1), &Act::Disable, NOW));
    let outcomes = ["t", "t", "x", "x", "x"].map(|token| world.log_in(&rules, &case(1, &["c"], token, 1)));
    assert!(matches!(
        outcomes,
        [Applied::Replay, Applied::Replay, Applied::Disabled, Applied::Replay, Applied::Replay]
    ));
    // Each token has one row, whatever it is refused for and however often.
    assert_eq!(world.events(), ["login", "user_disabled", "login_refused", "login_refused"]);
}

#[test]
fn what_bound_an_erased_person_binds_them_again() {
    let (mut world, rules) = (World::default(), rules());
    world.plan(&rules, &case(1, &["c"], "1", 0));
    let deny = Act::Deny { target: group("C"), reason: "leaving".into(), until: None };
    assert!(world.act(&user(1), &deny, NOW) && world.act(&user(1), &Act::Erase, NOW));
    assert!(world.records.is_empty());
    world.plan(&rules, &case(1, &["c"], "2", 1));
    assert!(world.holders(&rules, &group("C"), NOW).is_empty(), "the deny is back with its person");
    assert!(world.act(&user(1), &Act::Disable, NOW) && world.act(&user(1), &Act::Erase, NOW));
    for _ in 0..2 {
        assert!(matches!(world.log_in(&rules, &case(1, &["c"], "3", 2)), Applied::Disabled | Applied::Replay));
    }
    let refusals = world.events().iter().filter(|event| **event == "login_refused").count();
    assert_eq!((world.records.len(), refusals), (0, 1), "a refusal makes no user, and one row for each token");
    assert!(world.act(&user(1), &Act::Forget, NOW));
    world.plan(&rules, &case(1, &["c"], "4", 3));
    assert_eq!(world.holders(&rules, &group("C"), NOW).len(), 1);
}

#[test]
fn a_token_from_before_a_restore_is_refused() {
    let (world, rules) = (World::default(), rules());
    let (login, claims) = case(1, &["c"], "t", 0).login();
    let candidates = candidates(&rules, &login.provider, &Arc::new(claims));
    for (after, is_refused) in [(-1, false), (0, false), (1, true)] {
        let restored = Some(Timestamp(NOW.0 + after));
        let kept = Kept { restored, ..world.kept(&login.user, "t") };
        let (applied, changes) = world.decide(&kept, |kept, facts| {
            decision::login(kept, &login, &candidates, &rules, facts, &mut Unfinished::default())
        });
        assert_eq!(matches!(applied, Applied::BeforeRestore { .. }), is_refused, "{after}");
        assert_eq!((changes.record.is_none(), changes.token.spent), (is_refused, !is_refused), "{after}");
    }
}

#[test]
fn an_act_that_changes_nothing_is_told() {
    let (mut world, rules) = (World::default(), rules());
    world.plan(&rules, &case(1, &["c"], "t", 0));
    assert!(!world.act(&user(1), &Act::Undeny(group("C")), NOW));
    assert!(world.act(&user(1), &Act::Deny { target: group("C"), reason: "x".into(), until: None }, NOW));
    assert!(!world.act(&user(1), &Act::Undeny(group("D")), NOW));
    assert!(world.act(&user(1), &Act::Undeny(group("c")), NOW), "whatever the case of its name");
}

#[test]
fn a_decision_with_any_change_is_written() {
    assert!(Save::default().is_nothing());
    assert!(Save::from(Changes::default()).is_nothing());
    let people = [
        Changes { record: Some(Record::new(NOW)), ..Changes::default() },
        Changes { erased: Some(Bound::default()), ..Changes::default() },
        Changes { key: Some(user(1)), ..Changes::default() },
        Changes { into: Some(0), ..Changes::default() },
        Changes { token: Seen { spent: true, refused: false }, ..Changes::default() },
        Changes { token: Seen { spent: false, refused: true }, ..Changes::default() },
        Changes {
            windows: BTreeMap::from([((provider("p"), group("C")), Window { began_at: NOW, members: 1, losses: 1 })]),
            ..Changes::default()
        },
    ];
    for changes in people {
        let told = format!("{changes:?}");
        assert!(!Save::from(changes).is_nothing(), "{told}");
    }
}

/// Rules that are no longer current decide nothing.
#[test]
fn a_login_by_older_rules_is_stale() {
    let (login, claims) = case(1, &["c"], "t", 0).login();
    let claims = Arc::new(claims);
    for (current, own, is_stale) in [(Some(2), 1, true), (Some(2), 2, false), (Some(2), 3, false), (None, 1, false)] {
        let rules = rules_with(own, |_| {});
        let candidates = candidates(&rules, &login.provider, &claims);
        let kept = Kept { epoch: current, ..World::default().kept(&login.user, "t") };
        let (applied, changes) =
            decision::login(&kept, &login, &candidates, &rules, &Facts::default(), &mut Unfinished::default()).unwrap();
        assert_eq!(matches!(applied, Applied::Stale), is_stale, "{current:?} {own}");
        assert_eq!(Save::from(changes).is_nothing(), is_stale);
    }
}

/// A gate keeps the person out: the row says so once, and nothing is given or noted.
#[test]
fn a_gate_refuses_and_changes_nothing() {
    let gate = Gate { name: "staff".into(), provider: None, rule: GateRule::RequireAny, message: "Staff only.".into() };
    let rules = rules_with(1, |rules| rules.gates.push(gate));
    let mut world = World::default();
    let gated = |world: &mut World, case: &Case| match world.log_in(&rules, case) {
        Applied::Gated { gate, message } => (gate, message),
        other => panic!("{other:?}"),
    };
    let expected = ("staff".to_owned(), "Staff only.".to_owned());
    assert_eq!(gated(&mut world, &case(1, &[], "1", 0)), expected);
    assert_eq!(world.records.len(), 0, "a refusal makes no user");
    assert_eq!(world.audit[0].about, About::NoUser);
    world.plan(&rules, &case(1, &["c"], "2", 1));
    let before = world.records.clone();
    assert_eq!(gated(&mut world, &case(1, &[], "3", 2)), expected);
    assert_eq!(world.records, before);
    assert_eq!(world.audit[2].about, About::Number);
    let row = r#"login_refused {"login":"login-3","provider":"p","token":"3","outcome":"gate","reason":"refused by gate `staff`"}"#;
    assert_eq!(world.told(2), [row]);
    assert_eq!(world.audit[2].login.as_deref(), Some("login-3"));
    // A lease that has ended ends by such a login too.
    let later = Timestamp(NOW.plus(LEASE).0 + 1);
    gated(&mut world, &Case { at: later, ..case(1, &[], "4", 0) });
    assert_eq!((world.has(1), world.events()[3..].to_vec()), (vec![], vec!["lease_ended", "login_refused"]));
}

/// A login that was refused before there was anything to decide has a row about no user, which names the login.
#[test]
fn a_refusal_before_a_decision_has_a_row() {
    let (login, outcome, reason) = ("login-1", "expired", "expired at noon");
    let row = decision::refused(&RefusalDetail { login, provider: "p", token: "t", outcome, reason, arrived: &[] });
    assert_eq!((row.event, row.login.as_deref(), row.about), ("login_refused", Some("login-1"), About::NoUser));
    let said = r#"{"login":"login-1","provider":"p","token":"t","outcome":"expired","reason":"expired at noon"}"#;
    assert_eq!(row.detail, said);
}

/// Rules that only watch revoke nothing, so that there is nothing to count or to hold.
#[test]
fn the_brake_counts_nothing_under_rules_that_only_watch() {
    let (mut world, shadow) = (World::default(), rules_with(1, |rules| rules.sync.mode = Mode::Shadow));
    for number in 1..=5 {
        world.plan(&rules(), &case(number, &["c"], &format!("in{number}"), 0));
    }
    for number in 1..=5 {
        let plan = world.plan(&shadow, &case(number, &[], &format!("out{number}"), 1));
        assert_eq!((plan.revokes.len(), plan.held.len()), (1, 0));
    }
    assert_eq!((world.windows.len(), world.has(1)), (0, vec![mapped("p", "c")]));
}

/// What would become of a login, without the refusals that are not its claims'.
#[test]
fn a_preview_tells_what_stands_against_a_login() {
    let (mut world, rules) = (World::default(), rules());
    let foretold = |world: &World, token: &str, restored: Option<i64>| {
        let (login, claims) = case(1, &["d"], token, 0).login();
        let candidates = candidates(&rules, &login.provider, &Arc::new(claims));
        let kept = Kept { restored: restored.map(|after| Timestamp(NOW.0 + after)), ..world.kept(&login.user, token) };
        let preview = world.decide(&kept, |kept, facts| decision::preview(kept, &login, &candidates, &rules, facts));
        let restored = preview.restored.map(|at| at.0 - NOW.0);
        (preview.known, preview.enabled, preview.spent, restored, preview.plan.grants.len(), preview.plan.revokes.len())
    };
    assert_eq!(foretold(&world, "t", None), (false, true, false, None, 1, 0));
    world.plan(&rules, &case(1, &["c"], "t", 0));
    assert_eq!(foretold(&world, "t", Some(1)), (true, true, true, Some(1), 1, 1));
    assert_eq!(foretold(&world, "u", Some(0)), (true, true, false, None, 1, 1));
    assert!(world.act(&user(1), &Act::Disable, NOW));
    assert_eq!(foretold(&world, "u", None), (true, false, false, None, 1, 1));
    assert!(world.act(&user(1), &Act::Erase, NOW));
    assert_eq!(foretold(&world, "u", None), (false, false, false, None, 1, 0));
}

/// Who the person is, when they came, and from when their leases count: all by the newest login.
#[test]
fn an_audit_row_says_whom_it_is_about() {
    let rules = rules();
    let (mut login, claims) = case(1, &["c"], "t", 0).login();
    login.email = Some("alice@example.com".into());
    let candidates = candidates(&rules, &login.provider, &Arc::new(claims));
    let world = World::default();
    let kept = world.kept(&login.user, "t");
    let (_, changes) = world.decide(&kept, |kept, facts| {
        decision::login(kept, &login, &candidates, &rules, facts, &mut Unfinished::default())
    });
    let about: Vec<About> = changes.audit.into_iter().map(|entry| entry.about).collect();
    assert_eq!(about, [About::Person { email: login.email }]);
}

/// A store that was restored has forgotten which tokens were used.
#[test]
fn a_restore_is_noted_with_its_moment() {
    use loginsync_pipeline::decision::restored::read;
    let save = decision::restored("test", NOW);
    assert_eq!((save.people.len(), save.shared.restored), (0, Some(NOW)));
    let [entry] = &save.shared.audit[..] else { panic!("{:?}", save.shared.audit) };
    let detail = r#"{"by":"test","before":"2023-11-14T22:13:20.000Z"}"#;
    assert_eq!((entry.event, entry.detail.as_str()), ("restored", detail));
    assert_eq!(read(&NOW.0.to_be_bytes()), Some(NOW));
    assert_eq!((read(b""), read(&[0; 9])), (None, None));
    let save = decision::noted("seen", &serde_json::json!({"by": "test"}));
    let [entry] = &save.shared.audit[..] else { panic!("{:?}", save.shared.audit) };
    assert_eq!((entry.event, entry.detail.as_str()), ("seen", r#"{"by":"test"}"#));
    assert_eq!((save.people.len(), save.shared.restored), (0, None));
}

#[test]
fn what_was_done_with_a_token_adds_up() {
    let seen = |spent, refused| Seen { spent, refused };
    for (one, other, both) in [
        (seen(true, false), seen(false, true), seen(true, true)),
        (seen(false, true), seen(true, false), seen(true, true)),
        (seen(true, true), seen(false, false), seen(true, true)),
        (seen(false, false), seen(false, false), seen(false, false)),
    ] {
        assert_eq!(one.or(other), both);
    }
}

/// Work of the rules is done to one record after the other, and says where it did anything.
#[test]
fn work_says_whether_it_changed_a_record() {
    let (id, other) = (mapping("p", "c").id, mapping("p", "d").id);
    let work = |mappings: &[_], bound: &[(&str, &str)]| Work {
        mappings: mappings.iter().copied().collect(),
        bound: bound.iter().map(|(from, to)| (group(from), group(to))).collect(),
        ..Work::default()
    };
    for (what, work, changes) in [
        ("nothing", work(&[], &[]), false),
        ("a mapping that gave nothing", work(&[other], &[]), false),
        ("a mapping that gave something", work(&[id], &[]), true),
        ("a deny of another name", work(&[], &[("D", "A")]), false),
        ("a deny of that name", work(&[], &[("C", "A")]), true),
        ("both", work(&[id], &[("C", "A")]), true),
        ("a mapping, and a deny that binds already", work(&[id], &[("C", "B")]), true),
        ("a deny that binds, and one that binds already", work(&[], &[("C", "A"), ("C", "B")]), true),
        ("a deny that binds already", work(&[], &[("C", "B")]), false),
    ] {
        let (mut world, rules) = (World::default(), rules());
        world.plan(&rules, &case(1, &["c"], "1", 0));
        for name in ["C", "B"] {
            let deny = Act::Deny { target: group(name), reason: "x".into(), until: None };
            assert!(world.act(&user(1), &deny, NOW));
        }
        let record = world.records.get_mut(&user(1)).unwrap();
        assert_eq!(work.carry_out(record), changes, "{what}");
        assert!(!work.carry_out(record), "{what}: it is done");
    }
}

#[test]
fn a_window_of_the_brake_ends_on_time() {
    let rules = rules();
    let window = i64::try_from(rules.sync.brake.window.as_millis()).unwrap();
    for (after, may_go) in [(window - 1, false), (window, true)] {
        let mut world = World::default();
        for number in 1..=5 {
            world.plan(&rules, &case(number, &["c"], &format!("in{number}"), 0));
        }
        for number in 1..=2 {
            world.plan(&rules, &case(number, &[], &format!("out{number}"), 1));
        }
        let plan = world.plan(&rules, &case(3, &[], "out3", 1 + after));
        assert_eq!((plan.revokes.len(), plan.held.len()), if may_go { (1, 0) } else { (0, 1) }, "{after}");
    }
}

/// A store that begins its transaction again may read another record.
#[test]
fn what_was_planned_for_one_record_is_not_done_to_another() {
    let (mut world, rules) = (World::default(), rules());
    world.plan(&rules, &case(1, &["c", "d"], "in", 0));
    let (login, claims) = case(1, &[], "out", 2).login();
    let candidates = candidates(&rules, &login.provider, &Arc::new(claims));
    let mut unfinished = Unfinished::default();
    let before = world.kept(&login.user, &login.token_id);
    let asks = decision::login(&before, &login, &candidates, &rules, &Facts::default(), &mut unfinished);
    assert!(asks.is_err(), "it asks for a window of the brake");
    world.plan(&rules, &case(1, &["c"], "meanwhile", 1));
    let kept = world.kept(&login.user, &login.token_id);
    let unfinished = std::cell::RefCell::new(unfinished);
    let (applied, changes) = world.decide(&kept, |kept, facts| {
        decision::login(kept, &login, &candidates, &rules, facts, &mut unfinished.borrow_mut())
    });
    let Applied::Committed(plan) = applied else { panic!("{applied:?}") };
    assert_eq!(plan.revokes.len(), 1, "of what is held now");
    assert!(changes.record.unwrap().holdings.is_empty());
}

#[test]
fn what_is_kept_of_a_login() {
    let (mut world, rules) = (World::default(), rules());
    let log_in = |world: &mut World, case: &Case, issued_at: Option<i64>, email: &str, spending| {
        let (mut login, claims) = case.login();
        login.email = Some(email.into());
        login.display_name = Some(email.to_uppercase());
        login.issued_at = issued_at.map(|after| Timestamp(NOW.0 + after));
        login.spending = spending;
        let candidates = candidates(&rules, &login.provider, &Arc::new(claims));
        let kept = world.kept(&login.user, &login.token_id);
        let (applied, changes) = world.decide(&kept, |kept, facts| {
            decision::login(kept, &login, &candidates, &rules, facts, &mut Unfinished::default())
        });
        assert!(matches!(applied, Applied::Committed(_)), "{applied:?}");
        world.commit(&kept, changes, Some(&case.token));
        let record = &world.records[&user(1)];
        assert_eq!(record.display_name, record.email.as_ref().map(|email| email.to_uppercase()));
        let ProviderLogin { issued_at, last_login_at, renewed_at } = record.logins[&provider("p")];
        let after = |at: Timestamp| at.0.checked_sub(NOW.0);
        (record.email.clone().unwrap(), after(issued_at), after(last_login_at), renewed_at.and_then(after))
    };
    let (once, again) = (Spending::Once, Spending::Again);
    let told = |email: &str, issued, last, renewed| (email.to_owned(), issued, last, renewed);
    // Where no token says when it was issued, the watermark stays, and anything that comes is newer.
    assert_eq!(log_in(&mut world, &case(1, &["c"], "0", 5), None, "a", again), told("a", None, Some(5), Some(5)));
    assert_eq!(
        log_in(&mut world, &case(1, &["c"], "1", 10), Some(10), "b", once),
        told("b", Some(10), Some(10), Some(10))
    );
    assert_eq!(
        log_in(&mut world, &case(1, &["d"], "2", 20), None, "c", again),
        told("c", Some(10), Some(20), Some(20))
    );
    assert_eq!(world.has(1), [mapped("p", "d")]);
    // An older one authenticates, and decides nothing.
    assert_eq!(
        log_in(&mut world, &case(1, &["c"], "3", 30), Some(9), "d", once),
        told("d", Some(10), Some(30), Some(20))
    );
    assert_eq!(world.has(1), [mapped("p", "d")]);
    assert_eq!(world.events(), ["login", "login", "login", "login_older"]);
    // Only a token that is spent once is noted.
    let spent: Vec<bool> = ["0", "1", "2", "3"].map(|token| world.tokens[token].spent).into();
    assert_eq!(spent, [false, true, false, true]);
    assert_eq!(log_in(&mut world, &case(1, &["d"], "0", 40), Some(40), "e", again).1, Some(40));
}

/// The row of a login says what matched, what changed, and what did not; never what the claims were.
#[test]
fn the_audit_tells_what_a_login_came_to() {
    let mut world = World::default();
    let rules = rules_with(1, |rules| {
        rules.sync.brake.minimum = 0;
        rules.groups.get_mut("B").unwrap().brake = false;
    });
    for number in 1..=5 {
        world.plan(&rules, &case(number, &["c"], &format!("in{number}"), 0));
    }
    world.plan(&rules, &case(1, &["b", "c", "d"], "more", 1));
    world.plan(&rules, &case(2, &[], "first", 2));
    let audit = world.audit.len();
    world.plan(&rules, &case(1, &["d", "C "], "t", 3));
    let given = |value: &str| format!(r#"{{"mapping":"groups = {value}","group":"{}"}}"#, value.to_uppercase());
    let expected = format!(
        r#"login {{"login":"login-t","provider":"p","issuer":"https://p.example.com","token":"t","issued_at":{},"binding":"matched","claims":[],"matched":[{}],"added":[],"removed":[],"kept":1,"undecided":[],"held":[{}],"guarded":[{}],"near_misses":[{{"mapping":"groups = c","found":"C "}}]}}"#,
        NOW.0 + 3,
        given("d"),
        given("c"),
        given("b"),
    );
    assert_eq!(world.told(audit), [expected]);
    let row = &world.audit[audit];
    assert_eq!((row.login.as_deref(), &row.about), (Some("login-t"), &About::Person { email: None }));
    let shadow = rules_with(1, |rules| rules.sync.mode = Mode::Shadow);
    world.plan(&shadow, &case(1, &["d"], "s", 4));
    assert_eq!(world.events().last(), Some(&"login_shadow"));
}

/// LOG15.
#[test]
fn log15_a_watermark_that_lies_ahead_makes_no_login_older() {
    let (mut world, rules) = (World::default(), rules());
    let hour = 3_600_000;
    let minutes = 60_000;
    world.plan(&rules, &case(1, &["c"], "ahead", hour));
    let corrected = world.plan(&rules, &case(1, &[], "corrected", 0));
    assert_eq!((corrected.older, corrected.revokes.len()), (false, 1));
    assert_eq!(corrected.ahead, Some(Timestamp(NOW.0 + hour)));
    // The watermark is right again, and orders logins as before.
    let older = world.plan(&rules, &case(1, &["c"], "older", -5 * minutes));
    assert!(older.older && older.ahead.is_none(), "clocks may differ by minutes");
}

#[test]
fn log20_one_discarded_hold_leaves_the_window_of_the_others() {
    let (mut world, rules) = (World::default(), rules());
    for number in 1..=5 {
        world.plan(&rules, &case(number, &["c"], &format!("in{number}"), 0));
    }
    for number in 1..=5 {
        world.plan(&rules, &case(number, &[], &format!("out{number}"), 1));
    }
    let held = |world: &World| {
        let holds = |record: &&Record| record.holdings.values().any(|holding| holding.held_at.is_some());
        world.records.values().filter(holds).count()
    };
    assert_eq!(held(&world), 3, "two of five may go");
    let kept = world.kept(&user(5), "");
    let meant = Held { provider: provider("p"), targets: vec![group("C")], disabling: false };
    let changes = decision::discard(&kept, &meant, "test");
    world.commit(&kept, changes, None);
    assert_eq!(held(&world), 2);
    let again = world.plan(&rules, &case(5, &[], "again", 2));
    assert_eq!((again.held.len(), again.revokes.len()), (1, 0));
}

#[test]
fn log23_a_lease_does_not_end_with_the_last_holder() {
    let (mut world, rules) = (World::default(), rules());
    world.plan(&rules, &case(1, &["a", "c"], "1", 0));
    let later = NOW.plus(LEASE * 2);
    // Another person's lapsed lease is no other holder.
    world.plan(&rules, &case(2, &["a"], "2", 0));
    world.lapse(&user(1), &rules, later);
    let targets = |world: &World, number: u8| -> Vec<Target> {
        world.records[&user(number)].holdings.keys().map(|grant| grant.target.clone()).collect()
    };
    assert_eq!(targets(&world, 1), [group("A")], "what is not protected is gone");
    let fresh = Case { at: later, ..case(2, &["a"], "3", 0) };
    world.plan(&rules, &fresh);
    world.lapse(&user(1), &rules, later);
    assert!(targets(&world, 1).is_empty(), "now another person holds it");
}

/// What may happen in a random history.
#[derive(Debug, Clone)]
enum Step {
    LogIn(u8, bool, Vec<u8>),
    Assign(u8, u8),
    Unassign(u8, u8),
    Lapse(u8),
    Release(u8, u8),
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let values = proptest::collection::vec(0u8..4, 0..4);
    let step = prop_oneof![
        8 => (0u8..6, any::<bool>(), values).prop_map(|(user, other, values)| Step::LogIn(user, other, values)),
        1 => (0u8..6, 0u8..4).prop_map(|(user, target)| Step::Assign(user, target)),
        1 => (0u8..6, 0u8..4).prop_map(|(user, target)| Step::Unassign(user, target)),
        1 => (0u8..6).prop_map(Step::Lapse),
        1 => (0u8..6, 0u8..4).prop_map(|(user, target)| Step::Release(user, target)),
        1 => (0u16..400).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..60)
}

const TARGETS: [&str; 4] = ["A", "B", "C", "D"];

proptest! {
    /// No login, lease or release takes the last holder of something protected away; no window lets more than its share go; what
    /// other sources gave is as it was; and a second login that brings the same changes nothing.
    #[test]
    fn laws_of_random_histories(steps in steps()) {
        let (mut world, rules) = (World::default(), rules());
        let mut now = NOW;
        for (number, step) in steps.into_iter().enumerate() {
            now = now.plus(Duration::from_millis(1));
            let before: Vec<BTreeSet<UserId>> = ["A", "B"].map(|name| world.holders(&rules, &group(name), now)).into();
            let by_hand = matches!(step, Step::Unassign(..) | Step::Wait(_));
            match step {
                Step::LogIn(who, other, values) => {
                    let values: Vec<&'static str> = values.iter().map(|value| ["a", "b", "c", "d"][usize::from(*value)]).collect();
                    let provider = if other { "q" } else { "p" };
                    let case = Case { user: who, provider, values, token: format!("t{number}"), at: now };
                    let strangers = strangers(world.records.get(&user(who)), provider);
                    let plan = world.plan(&rules, &case);
                    prop_assert_eq!(strangers, self::strangers(world.records.get(&user(who)), provider));
                    let has: BTreeSet<Target> = own(&world.records[&user(who)], provider);
                    let wanted: BTreeSet<Target> = case.values.iter().map(|value| group(&value.to_uppercase())).collect();
                    let kept: BTreeSet<Target> = plan.held.iter().chain(&plan.guarded).map(|change| change.target.clone()).collect();
                    prop_assert_eq!(has, wanted.union(&kept).cloned().collect::<BTreeSet<_>>());
                    let again = world.plan(&rules, &Case { token: format!("a{number}"), ..case });
                    prop_assert!(again.grants.is_empty());
                    prop_assert!(again.revokes.iter().all(|change| kept.contains(&change.target)));
                }
                Step::Assign(who, target) => {
                    world.act(&user(who), &Act::Assign(group(TARGETS[usize::from(target)])), now);
                }
                Step::Unassign(who, target) => {
                    world.act(&user(who), &Act::Unassign(group(TARGETS[usize::from(target)])), now);
                }
                Step::Lapse(who) => {
                    world.lapse(&user(who), &rules, now);
                }
                Step::Release(who, target) => {
                    let kept = world.kept(&user(who), "");
                    let held = Held { provider: provider("p"), targets: vec![group(TARGETS[usize::from(target)])], disabling: false };
                    let changes = world.decide(&kept, |kept, facts| decision::release(kept, &held, &rules, facts, "test", now));
                    world.commit(&kept, changes, None);
                }
                Step::Wait(hours) => now = now.plus(Duration::from_secs(u64::from(hours) * 3600)),
            }
            for (before, name) in before.iter().zip(["A", "B"]) {
                let after = world.holders(&rules, &group(name), now);
                prop_assert!(by_hand || before.is_empty() || !after.is_empty(), "{name} lost its last holder");
            }
            for (key @ (_, target), window) in &world.windows {
                let counted = world.records.values().filter(|record| record.counted.get(key) == Some(&window.began_at));
                prop_assert_eq!(counted.count() as u64, window.losses, "a window counts people");
                prop_assert!(*target != group("D"), "what is not braked is not counted");
                prop_assert!(window.losses <= rules.sync.brake.allowed(window.members));
            }
        }
    }
}

fn own(record: &Record, through: &str) -> BTreeSet<Target> {
    let owned = record.holdings.keys().filter(|grant| grant.source.is_through(&provider(through)));
    owned.map(|grant| grant.target.clone()).collect()
}

fn strangers(record: Option<&Record>, through: &str) -> BTreeSet<(Target, Source)> {
    let Some(record) = record else { return BTreeSet::new() };
    let others = record.holdings.keys().filter(|grant| !grant.source.is_through(&provider(through)));
    others.map(|grant| (grant.target.clone(), grant.source.clone())).collect()
}
