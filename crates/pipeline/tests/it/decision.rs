//! The pure decision, in a world of records in memory: its order as a table, its laws on random histories.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use loginsync_pipeline::claims::{Claim, ClaimState, Claims, Split};
use loginsync_pipeline::decision::{
    self, Act, Applied, By, Changes, Disablings, Facts, Held, Kept, Login, Needs, Other, Question, RunningWindow, Save,
    Seen, Window,
};
use loginsync_pipeline::ids::{
    ClaimName, GroupName, Namespace, ProviderName, RoleName, Subject, Target, Timestamp, UserId,
};
use loginsync_pipeline::mapping::{Brake, Group, Mapping, ProviderRules, Role, RuleSet, Rules, Sync, candidates};
use loginsync_pipeline::plan::{Effective, Plan, Source};
use loginsync_pipeline::record::{Bound, Record};
use loginsync_pipeline::verify::Spending;
use proptest::prelude::*;

pub const NOW: Timestamp = Timestamp(1_700_000_000_000);
pub const LEASE: Duration = Duration::from_secs(7 * 24 * 3600);

pub fn provider(name: &str) -> ProviderName {
    ProviderName::parse(name).unwrap()
}

pub fn user(number: u8) -> UserId {
    UserId { namespace: Namespace::parse("people").unwrap(), subject: Subject::parse(&format!("u{number}")).unwrap() }
}

pub fn group(name: &str) -> Target {
    Target::Group(GroupName::parse(name).unwrap())
}

/// Providers `p` and `q`, whose grants last a week, map `a` to `d` to groups A to D. A carries the protected role `admin`, B is
/// protected itself, and D is not braked.
pub fn rules() -> RuleSet {
    let claim = ClaimName::parse("groups").unwrap();
    let mappings = ["p", "q"].into_iter().flat_map(|owner| {
        let claim = claim.clone();
        ["a", "b", "c", "d"].into_iter().map(move |value| {
            let target = group(&value.to_uppercase());
            Mapping::of_value(provider(owner), claim.clone(), Arc::from(value), None, target)
        })
    });
    let admin = RoleName::parse("admin").unwrap();
    let named = |name: &str| GroupName::parse(name).unwrap();
    let groups = HashMap::from([
        (named("A"), Group { roles: vec![admin.clone()], ..Group::default() }),
        (named("B"), Group { protected: true, ..Group::default() }),
        (named("C"), Group::default()),
        (named("D"), Group { brake: false, ..Group::default() }),
    ]);
    let roles = HashMap::from([(admin, Role { protected: true, ..Role::default() })]);
    let leased = || ProviderRules { lease: Some(LEASE), ..ProviderRules::default() };
    let providers = HashMap::from([(provider("p"), leased()), (provider("q"), leased())]);
    let sync = Sync { brake: Brake { minimum: 2, ..Brake::default() }, ..Sync::default() };
    let mappings = mappings.collect();
    RuleSet::compile(1, Rules { groups, roles, providers, mappings, sync, ..Rules::default() }).unwrap()
}

/// All that a store keeps, in memory.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub records: BTreeMap<UserId, Record>,
    pub erased: BTreeMap<UserId, Bound>,
    pub tokens: BTreeMap<String, Seen>,
    pub windows: BTreeMap<(ProviderName, Target), Window>,
    events: Vec<&'static str>,
}

impl World {
    pub fn kept(&self, user: &UserId, token: &str) -> Kept {
        Kept {
            user: user.clone(),
            number: self.records.contains_key(user).then(|| number(user)),
            record: self.records.get(user).cloned(),
            erased: self.erased.get(user).cloned(),
            token: self.tokens.get(token).copied().unwrap_or_default(),
            epoch: None,
            restored: None,
        }
    }

    fn decide<T>(&self, kept: &Kept, step: impl Fn(&Kept, &Facts) -> Result<T, Needs>) -> T {
        let mut facts = Facts::default();
        for _ in 0..10 {
            match step(kept, &facts) {
                Ok(decided) => return decided,
                Err(Needs::Facts(questions)) => {
                    assert!(!questions.is_empty());
                    for question in questions {
                        self.answer(&kept.user, question, &mut facts);
                    }
                }
                Err(other) => panic!("{other}"),
            }
        }
        panic!("a decision asks on and on");
    }

    pub fn answer(&self, user: &UserId, question: Question, facts: &mut Facts) {
        let mapped = |record: &Record, provider: Option<&ProviderName>, target: &Target| {
            record.holdings.keys().any(|grant| {
                let through = provider.map_or(grant.source == Source::Assigned, |it| grant.source.is_through(it));
                grant.target == *target && through
            })
        };
        match question {
            Question::Window(provider, target) => {
                let held = |record: &Record| {
                    let mut holdings = record.holdings.iter();
                    holdings.any(|(grant, holding)| {
                        grant.target == target && grant.source.is_through(&provider) && holding.held_at.is_some()
                    })
                };
                let key = (provider.clone(), target.clone());
                let running =
                    RunningWindow { window: self.windows.get(&key).copied(), holds: self.records.values().any(held) };
                facts.windows.insert(key, running);
            }
            Question::Members(provider, target) => {
                let members = self.records.values().filter(|record| mapped(record, provider.as_ref(), &target)).count();
                facts.members.insert((provider, target), members as u64);
            }
            Question::Others { of, through, after } => {
                let holds = |record: &Record| record.holdings.keys().any(|grant| through.contains(&grant.target));
                let others = self.records.iter().filter(|(other, record)| *other != user && holds(record));
                let mut others: Vec<Other> = others
                    .map(|(user, record)| Other { number: number(user), record: record.clone() })
                    .filter(|other| other.number > after)
                    .collect();
                others.truncate(Question::page(after));
                facts.others.insert((of, after), others);
            }
            Question::Disablings(_) => {
                facts.disablings = Some(Disablings { lately: 0, holds: false, users: self.records.len() as u64 });
            }
            Question::Note(name) => drop(facts.notes.insert(name, None)),
            other => panic!("nothing here asks {other:?}"),
        }
    }

    pub fn commit(&mut self, kept: &Kept, changes: Changes, token: Option<&str>) {
        let user = &kept.user;
        if let Some(token) = token {
            let seen = self.tokens.entry(token.into()).or_default();
            seen.spent |= changes.token.spent;
            seen.refused |= changes.token.refused;
        }
        if let Some(bound) = changes.erased {
            self.records.remove(user);
            self.erased.insert(user.clone(), bound);
        }
        if let Some(record) = changes.record {
            self.records.insert(user.clone(), record);
            self.erased.remove(user);
        }
        self.windows.extend(changes.windows);
        self.events.extend(changes.audit.iter().map(|entry| entry.event));
    }

    fn log_in(&mut self, rules: &RuleSet, case: &Case) -> Applied {
        let (login, claims) = case.login();
        let candidates = candidates(rules, &login.provider, &Arc::new(claims));
        let kept = self.kept(&login.user, &login.token_id);
        let step = |kept: &Kept, facts: &Facts| decision::login(kept, &login, &candidates, rules, facts);
        let foretold = self.decide(&kept, |kept, facts| decision::preview(kept, &login, &candidates, rules, facts));
        let (applied, changes) = self.decide(&kept, step);
        if let Applied::Committed(plan) = &applied {
            assert_eq!(**plan, foretold.plan, "what was foretold is what the login did");
        }
        self.commit(&kept, changes, Some(&login.token_id));
        applied
    }

    fn act(&mut self, user: &UserId, act: &Act, now: Timestamp) -> bool {
        let kept = self.kept(user, "");
        let Ok(changes) = decision::act(&kept, act, &By::operator("test"), now) else { return false };
        self.commit(&kept, changes, None);
        true
    }

    /// Enabled users who hold a target. A lease that is over and was not ended yet counts here.
    pub fn holders(&self, rules: &RuleSet, target: &Target, now: Timestamp) -> BTreeSet<UserId> {
        let holds = |record: &Record| {
            let grants = record.holdings.keys().map(|grant| &grant.target);
            record.disabled.is_none() && Effective::of(grants, &record.denied(now), rules).holds(target)
        };
        self.records.iter().filter(|(_, record)| holds(record)).map(|(user, _)| user.clone()).collect()
    }
}

fn number(user: &UserId) -> i64 {
    user.subject.as_str()[1..].parse::<i64>().unwrap() + 1
}

#[derive(Debug, Clone)]
pub struct Case {
    pub user: u8,
    pub provider: &'static str,
    pub values: Vec<&'static str>,
    pub token: String,
    pub at: Timestamp,
}

impl Case {
    pub fn login(&self) -> (Login, Claims) {
        let values: Vec<String> = self.values.iter().map(ToString::to_string).collect();
        let state = if values.is_empty() { ClaimState::Empty } else { ClaimState::Values(values) };
        let name = ClaimName::parse("groups").unwrap();
        let claims = vec![Claim { name, state, split: Split::default(), skipped: 0, decided: true }];
        let claims = Claims { user: user(self.user), email: None, display_name: None, claims };
        let login = Login {
            id: format!("login-{}", self.token),
            provider: provider(self.provider),
            issuer: format!("https://{}.example.com", self.provider),
            user: claims.user.clone(),
            email: None,
            display_name: None,
            token_id: self.token.clone(),
            issued_at: Some(self.at),
            spending: Spending::Once,
            remember_until: self.at.plus(Duration::from_secs(600)),
            now: self.at,
            binding: "matched",
            claims: Vec::new(),
            arrived: Vec::new(),
        };
        (login, claims)
    }
}

pub fn case(user: u8, values: &[&'static str], token: &str, after: i64) -> Case {
    Case { user, provider: "p", values: values.to_vec(), token: token.into(), at: Timestamp(NOW.0 + after) }
}

fn committed(applied: Applied) -> Plan {
    match applied {
        Applied::Committed(plan) => *plan,
        other => panic!("expected a committed login, found {other:?}"),
    }
}

#[test]
fn a_token_is_spent_before_anything_else_is_asked() {
    let (mut world, rules) = (World::default(), rules());
    committed(world.log_in(&rules, &case(1, &["c"], "t", 0)));
    assert!(world.act(&user(1), &Act::Disable, NOW));
    let outcomes = ["t", "t", "x", "x", "x"].map(|token| world.log_in(&rules, &case(1, &["c"], token, 1)));
    assert!(matches!(
        outcomes,
        [Applied::Replay, Applied::Replay, Applied::Disabled, Applied::Replay, Applied::Replay]
    ));
    // Each token has one row, whatever it is refused for and however often.
    assert_eq!(world.events, ["login", "user_disabled", "login_refused", "login_refused"]);
}

#[test]
fn what_bound_an_erased_person_binds_them_again() {
    let (mut world, rules) = (World::default(), rules());
    committed(world.log_in(&rules, &case(1, &["c"], "1", 0)));
    let deny = Act::Deny { target: group("C"), reason: "leaving".into(), until: None };
    assert!(world.act(&user(1), &deny, NOW) && world.act(&user(1), &Act::Erase, NOW));
    assert!(world.records.is_empty());
    committed(world.log_in(&rules, &case(1, &["c"], "2", 1)));
    assert!(world.holders(&rules, &group("C"), NOW).is_empty(), "the deny is back with its person");
    assert!(world.act(&user(1), &Act::Disable, NOW) && world.act(&user(1), &Act::Erase, NOW));
    for _ in 0..2 {
        assert!(matches!(world.log_in(&rules, &case(1, &["c"], "3", 2)), Applied::Disabled | Applied::Replay));
    }
    let refusals = world.events.iter().filter(|event| **event == "login_refused").count();
    assert_eq!((world.records.len(), refusals), (0, 1), "a refusal makes no user, and one row for each token");
    assert!(world.act(&user(1), &Act::Forget, NOW));
    committed(world.log_in(&rules, &case(1, &["c"], "4", 3)));
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
        let (applied, changes) =
            world.decide(&kept, |kept, facts| decision::login(kept, &login, &candidates, &rules, facts));
        assert_eq!(matches!(applied, Applied::BeforeRestore { .. }), is_refused, "{after}");
        assert_eq!((changes.record.is_none(), changes.token.spent), (is_refused, !is_refused), "{after}");
    }
}

#[test]
fn an_act_that_changes_nothing_is_told() {
    let (mut world, rules) = (World::default(), rules());
    committed(world.log_in(&rules, &case(1, &["c"], "t", 0)));
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

/// LOG15.
#[test]
fn log15_a_watermark_that_lies_ahead_makes_no_login_older() {
    let (mut world, rules) = (World::default(), rules());
    let hour = 3_600_000;
    let minutes = 60_000;
    committed(world.log_in(&rules, &case(1, &["c"], "ahead", hour)));
    let corrected = committed(world.log_in(&rules, &case(1, &[], "corrected", 0)));
    assert_eq!((corrected.older, corrected.revokes.len()), (false, 1));
    assert_eq!(corrected.ahead, Some(Timestamp(NOW.0 + hour)));
    // The watermark is right again, and orders logins as before.
    let older = committed(world.log_in(&rules, &case(1, &["c"], "older", -5 * minutes)));
    assert!(older.older && older.ahead.is_none(), "clocks may differ by minutes");
}

#[test]
fn log20_one_discarded_hold_leaves_the_window_of_the_others() {
    let (mut world, rules) = (World::default(), rules());
    for number in 1..=5 {
        committed(world.log_in(&rules, &case(number, &["c"], &format!("in{number}"), 0)));
    }
    for number in 1..=5 {
        committed(world.log_in(&rules, &case(number, &[], &format!("out{number}"), 1)));
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
    let again = committed(world.log_in(&rules, &case(5, &[], "again", 2)));
    assert_eq!((again.held.len(), again.revokes.len()), (1, 0));
}

#[test]
fn log23_a_lease_does_not_end_with_the_last_holder() {
    let (mut world, rules) = (World::default(), rules());
    committed(world.log_in(&rules, &case(1, &["a", "c"], "1", 0)));
    let lapse = |world: &mut World, number: u8, now: Timestamp| {
        let kept = world.kept(&user(number), "");
        let (_, changes) = world.decide(&kept, |kept, facts| decision::reap(kept, &rules, facts, now));
        world.commit(&kept, changes, None);
    };
    let later = NOW.plus(LEASE * 2);
    // Another person's lapsed lease is no other holder.
    committed(world.log_in(&rules, &case(2, &["a"], "2", 0)));
    lapse(&mut world, 1, later);
    let targets = |world: &World, number: u8| -> Vec<Target> {
        world.records[&user(number)].holdings.keys().map(|grant| grant.target.clone()).collect()
    };
    assert_eq!(targets(&world, 1), [group("A")], "what is not protected is gone");
    let fresh = Case { at: later, ..case(2, &["a"], "3", 0) };
    committed(world.log_in(&rules, &fresh));
    lapse(&mut world, 1, later);
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
                    let plan = committed(world.log_in(&rules, &case));
                    prop_assert_eq!(strangers, self::strangers(world.records.get(&user(who)), provider));
                    let has: BTreeSet<Target> = own(&world.records[&user(who)], provider);
                    let wanted: BTreeSet<Target> = case.values.iter().map(|value| group(&value.to_uppercase())).collect();
                    let kept: BTreeSet<Target> = plan.held.iter().chain(&plan.guarded).map(|change| change.target.clone()).collect();
                    prop_assert_eq!(has, wanted.union(&kept).cloned().collect::<BTreeSet<_>>());
                    let again = committed(world.log_in(&rules, &Case { token: format!("a{number}"), ..case }));
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
                    let kept = world.kept(&user(who), "");
                    let (_, changes) = world.decide(&kept, |kept, facts| decision::reap(kept, &rules, facts, now));
                    world.commit(&kept, changes, None);
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
