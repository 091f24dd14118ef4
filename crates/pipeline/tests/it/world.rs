//! A world of records in memory, in which decisions are made: it answers their questions and keeps what they save.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use loginsync_pipeline::claims::{Claim, ClaimState, Claims, Split};
use loginsync_pipeline::decision::{
    self, Act, Adopted, Applied, Bearer, By, Changes, Disablings, Entry, Facts, GrantOf, Kept, Login, Needs, Other,
    Question, RulesChange, RunningWindow, Save, Seen, Shared, Unfinished, Window, Work,
};
use loginsync_pipeline::ids::{
    ClaimName, GroupName, Namespace, ProviderName, RoleName, Subject, Target, Timestamp, UserId,
};
use loginsync_pipeline::lookup::Lookup;
use loginsync_pipeline::mapping::{Brake, Group, Mapping, ProviderRules, Role, RuleSet, Rules, Sync, candidates};
use loginsync_pipeline::plan::{Effective, Grant, Plan, Source};
use loginsync_pipeline::record::{Bound, Holding, Record};
use loginsync_pipeline::verify::Spending;

pub const NOW: Timestamp = Timestamp(1_700_000_000_000);
pub const LEASE: Duration = Duration::from_secs(7 * 24 * 3600);

pub fn provider(name: &str) -> ProviderName {
    ProviderName::parse(name).unwrap()
}

pub fn user(number: u8) -> UserId {
    nth(number.into())
}

pub fn nth(number: u32) -> UserId {
    UserId { namespace: Namespace::parse("people").unwrap(), subject: Subject::parse(&format!("u{number}")).unwrap() }
}

pub fn group_name(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

pub fn group(name: &str) -> Target {
    Target::Group(group_name(name))
}

pub fn role_name(name: &str) -> RoleName {
    RoleName::parse(name).unwrap()
}

pub fn role(name: &str) -> Target {
    Target::Role(role_name(name))
}

/// The mapping of [`rules`] by which a provider gives a group.
pub fn mapping(owner: &str, value: &str) -> Mapping {
    let target = group(&value.to_uppercase());
    Mapping::of_value(provider(owner), ClaimName::parse("groups").unwrap(), Arc::from(value), None, target)
}

/// A grant by that mapping.
pub fn mapped(owner: &str, value: &str) -> Grant {
    let Mapping { id, .. } = mapping(owner, value);
    let source = Source::Mapped { provider: provider(owner), mapping: id };
    Grant { target: group(&value.to_uppercase()), source }
}

pub fn by_hand(target: Target) -> Grant {
    Grant { target, source: Source::Assigned }
}

/// Providers `p` and `q`, whose grants last a week, map `a` to `d` to groups A to D. A carries the protected role `admin`, B is
/// protected itself, and D is not braked.
pub fn rules() -> RuleSet {
    rules_with(1, |_| {})
}

/// The same with changes.
pub fn rules_with(epoch: u64, change: impl FnOnce(&mut Rules)) -> RuleSet {
    let mappings = ["p", "q"].into_iter().flat_map(|owner| ["a", "b", "c", "d"].map(|value| mapping(owner, value)));
    let groups = Lookup::from_iter([
        (group_name("A"), Group { roles: vec![role_name("admin")], ..Group::default() }),
        (group_name("B"), Group { protected: true, ..Group::default() }),
        (group_name("C"), Group::default()),
        (group_name("D"), Group { brake: false, ..Group::default() }),
    ]);
    let roles = Lookup::from_iter([(role_name("admin"), Role { protected: true, ..Role::default() })]);
    let leased = || ProviderRules { lease: Some(LEASE), ..ProviderRules::default() };
    let providers = Lookup::from_iter([(provider("p"), leased()), (provider("q"), leased())]);
    let sync = Sync { brake: Brake { minimum: 2, ..Brake::default() }, ..Sync::default() };
    let mut rules = Rules { groups, roles, providers, mappings: mappings.collect(), sync, ..Rules::default() };
    change(&mut rules);
    RuleSet::compile(epoch, rules).unwrap()
}

/// All that a store keeps, in memory.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub records: BTreeMap<UserId, Record>,
    pub erased: BTreeMap<UserId, Bound>,
    pub tokens: BTreeMap<String, Seen>,
    pub windows: BTreeMap<(ProviderName, Target), Window>,
    pub notes: BTreeMap<String, Vec<u8>>,
    pub audit: Vec<Entry>,
    /// What was left to do after changes of the rules. It is done at once.
    pub work: Vec<Work>,
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

    pub fn decide<T>(&self, kept: &Kept, step: impl Fn(&Kept, &Facts) -> Result<T, Needs>) -> T {
        self.answered(Some(&kept.user), |facts| step(kept, facts)).unwrap_or_else(|other| panic!("{other}"))
    }

    /// A step's outcome, after all that it asks was answered.
    pub fn answered<T>(&self, user: Option<&UserId>, step: impl Fn(&Facts) -> Result<T, Needs>) -> Result<T, Needs> {
        let mut facts = Facts::default();
        for _ in 0..10 {
            match step(&facts) {
                Err(Needs::Facts(questions)) => {
                    assert!(!questions.is_empty());
                    for question in questions {
                        let mut answered = Facts::default();
                        self.answer(user, question, &mut answered);
                        facts.absorb(answered);
                    }
                }
                decided => return decided,
            }
        }
        panic!("a decision asks on and on");
    }

    fn grants(&self) -> impl Iterator<Item = (&UserId, &Grant, &Holding)> {
        self.records
            .iter()
            .flat_map(|(user, record)| record.holdings.iter().map(move |(grant, holding)| (user, grant, holding)))
    }

    /// How many hold a target by grants of some kind.
    fn members(&self, target: &Target, counts: impl Fn(&Source) -> bool) -> BTreeSet<&UserId> {
        let grants = self.grants().filter(|(_, grant, _)| grant.target == *target && counts(&grant.source));
        grants.map(|(user, ..)| user).collect()
    }

    pub fn answer(&self, user: Option<&UserId>, question: Question, facts: &mut Facts) {
        let mapped_by = |source: &Source, ids: &BTreeSet<_>| matches!(source, Source::Mapped { mapping, .. } if ids.contains(mapping));
        match question {
            Question::Window(provider, target) => {
                let holds = self.grants().any(|(_, grant, holding)| {
                    grant.target == target && grant.source.is_through(&provider) && holding.held_at.is_some()
                });
                let window = self.windows.get(&(provider.clone(), target.clone())).copied();
                facts.windows.insert((provider, target), RunningWindow { window, holds });
            }
            Question::Members(provider, target) => {
                let members = self.members(&target, |source| match &provider {
                    Some(provider) => source.is_through(provider),
                    None => *source == Source::Assigned,
                });
                let members = members.len() as u64;
                facts.members.insert((provider, target), members);
            }
            Question::Others { of, through, after } => {
                let all = Question::page(0);
                assert!(after <= 0 || self.records.len() > all, "behind a page that is not full there is nothing");
                let holds = |record: &Record| record.holdings.keys().any(|grant| through.contains(&grant.target));
                let others = self.records.iter().filter(|(other, record)| Some(*other) != user && holds(record));
                let others = others.map(|(user, record)| Other { number: number(user), record: record.clone() });
                let mut others: Vec<Other> = others.filter(|other| other.number > after).collect();
                others.sort_unstable_by_key(|other| other.number);
                // A few, whichever they are.
                if after == Question::SOME {
                    others.reverse();
                }
                others.truncate(Question::page(after));
                facts.others.insert((of, after), others);
            }
            Question::Disablings(since) => {
                let lately = self.records.values().filter(|record| {
                    let by_mapping = record.disabled.as_ref().filter(|disabled| disabled.by.is_some());
                    by_mapping.is_some_and(|disabled| disabled.at > since) && record.last_login().is_some()
                });
                let stopped = |record: &Record| record.stopped.is_some() && record.disabled.is_none();
                let holds = self.records.iter().any(|(other, record)| Some(other) != user && stopped(record));
                let (lately, users) = (lately.count() as u64, self.records.len() as u64);
                facts.disablings = Some(Disablings { lately, holds, users });
            }
            Question::Note(name) => drop(facts.notes.insert(name, self.notes.get(name).cloned())),
            Question::Confirmation(client) => {
                let note = self.notes.get(&Question::confirmation(&client)).cloned();
                facts.confirmations.insert(client, note);
            }
            Question::Given => {
                let given = self.grants().filter_map(|(_, grant, _)| match &grant.source {
                    Source::Mapped { provider, mapping } => Some((*mapping, provider.clone(), grant.target.clone())),
                    Source::Assigned => None,
                });
                let given: BTreeSet<_> = given.collect();
                facts.given = Some(Arc::new(given.into_iter().collect()));
            }
            Question::GivenBy(mappings) => {
                for id in mappings {
                    let given = self.grants().filter(|(_, grant, _)| mapped_by(&grant.source, &BTreeSet::from([id])));
                    facts.given_by.insert(id, given.count() as u64);
                }
            }
            Question::Losing(provider, target, mappings) => {
                let losing = self.members(&target, |it| it.is_through(&provider) && mapped_by(it, &mappings));
                let staying = self.members(&target, |it| it.is_through(&provider) && !mapped_by(it, &mappings));
                let losing = losing.difference(&staying).count() as u64;
                facts.losing.insert((provider, target), losing);
            }
            Question::Granted => {
                let granted: BTreeSet<Target> = self.grants().map(|(_, grant, _)| grant.target.clone()).collect();
                facts.granted = Some(Arc::new(granted.into_iter().collect()));
            }
            Question::Grants(target, mappings) => {
                let meant = |source: &Source| *source == Source::Assigned || mapped_by(source, &mappings);
                let theirs = self.grants().filter(|(_, grant, _)| grant.target == target && meant(&grant.source));
                let theirs = theirs.map(|(user, grant, holding)| GrantOf {
                    number: number(user),
                    user: user.clone(),
                    grant: grant.clone(),
                    granted_by: holding.granted_by.clone(),
                    as_admin: holding.as_admin,
                });
                let theirs = Arc::new(theirs.collect());
                facts.grants.insert(target, theirs);
            }
            Question::Denied => {
                let mut denied: BTreeMap<Target, u64> = BTreeMap::new();
                for target in self.records.values().flat_map(|record| record.denies.keys()) {
                    *denied.entry(target.clone()).or_default() += 1;
                }
                facts.denied = Some(Arc::new(denied));
            }
            Question::Unbound(from, to) => {
                let unbound = self
                    .records
                    .values()
                    .filter(|record| record.denies.contains_key(&from) && !record.denies.contains_key(&to));
                let unbound = unbound.count() as u64;
                facts.unbound.insert((from, to), unbound);
            }
            Question::Erased => {
                let disabled = |bound: &Bound| bound.disabled.as_ref().is_some_and(|disabled| disabled.by.is_some());
                facts.erased = Some(self.erased_where(disabled));
            }
            Question::ErasedDenies(now) => {
                facts.erased_denies = Some(self.erased_where(|bound| bound.denies.len() > bound.denied(now).len()));
            }
        }
    }

    fn erased_where(&self, is_meant: impl Fn(&Bound) -> bool) -> Vec<(Vec<u8>, Bound)> {
        let meant = self.erased.iter().filter(|(_, bound)| is_meant(bound));
        meant.map(|(user, bound)| (digest(user), bound.clone())).collect()
    }

    pub fn commit(&mut self, kept: &Kept, changes: Changes, token: Option<&str>) {
        if let Some(token) = token {
            let seen = self.tokens.entry(token.into()).or_default();
            seen.spent |= changes.token.spent;
            seen.refused |= changes.token.refused;
        }
        self.save(std::slice::from_ref(kept), changes.into());
    }

    /// Keeps what a step has decided.
    pub fn save(&mut self, kept: &[Kept], Save { people, shared }: Save) {
        for (kept, _) in kept.iter().zip(&people).filter(|(_, changes)| changes.key.is_some() || changes.into.is_some())
        {
            self.records.remove(&kept.user);
        }
        for (Kept { user, .. }, changes) in kept.iter().zip(people) {
            let Changes { record, erased, key, into, token: _, windows, audit } = changes;
            if let Some(bound) = erased {
                self.records.remove(user);
                self.bind(user.clone(), bound);
            }
            if let Some(record) = record.filter(|_| into.is_none()) {
                let user = key.unwrap_or_else(|| user.clone());
                self.erased.remove(&user);
                self.records.insert(user, record);
            }
            self.windows.extend(windows);
            self.audit.extend(audit);
        }
        self.save_shared(shared);
    }

    fn bind(&mut self, user: UserId, bound: Bound) {
        self.erased.remove(&user);
        if bound.binds() {
            self.erased.insert(user, bound);
        }
    }

    pub fn save_shared(&mut self, shared: Shared) {
        let Shared { epoch: _, notes, ended_windows, work, done: _, token: _, catalogue: _, restored: _, bound, audit } =
            shared;
        for (name, value) in notes {
            self.notes.remove(&name);
            self.notes.extend(value.map(|value| (name, value)));
        }
        self.windows.retain(|key, _| !ended_windows.contains(key));
        for (bearer, bound) in bound {
            let user = match bearer {
                Bearer::User(user) => user,
                Bearer::Digest(of) => self.erased.keys().find(|user| digest(user) == of).unwrap().clone(),
            };
            self.bind(user, bound);
        }
        if let Some(work) = work {
            // As a store does: it keeps the text.
            let work = Work::read(&work.text()).unwrap();
            for record in self.records.values_mut() {
                work.carry_out(record);
            }
            self.work.push(work);
        }
        self.audit.extend(audit);
    }

    pub fn log_in(&mut self, rules: &RuleSet, case: &Case) -> Applied {
        let (login, claims) = case.login();
        let candidates = candidates(rules, &login.provider, &Arc::new(claims));
        let kept = self.kept(&login.user, &login.token_id);
        let unfinished = RefCell::new(Unfinished::default());
        let step = |kept: &Kept, facts: &Facts| {
            decision::login(kept, &login, &candidates, rules, facts, &mut unfinished.borrow_mut())
        };
        let from_the_start = |kept: &Kept, facts: &Facts| {
            decision::login(kept, &login, &candidates, rules, facts, &mut Unfinished::default())
        };
        let foretold = self.decide(&kept, |kept, facts| decision::preview(kept, &login, &candidates, rules, facts));
        let (applied, changes) = self.decide(&kept, step);
        let planned_again = self.decide(&kept, from_the_start);
        assert_eq!(format!("{applied:?} {changes:?}"), format!("{:?} {:?}", planned_again.0, planned_again.1));
        if let Applied::Committed(plan) = &applied {
            assert_eq!(**plan, foretold.plan, "what was foretold is what the login did");
        }
        self.commit(&kept, changes, Some(&login.token_id));
        applied
    }

    /// The plan of a login that is committed.
    pub fn plan(&mut self, rules: &RuleSet, case: &Case) -> Plan {
        match self.log_in(rules, case) {
            Applied::Committed(plan) => *plan,
            other => panic!("expected a committed login, found {other:?}"),
        }
    }

    pub fn act(&mut self, user: &UserId, act: &Act, now: Timestamp) -> bool {
        self.act_by(user, act, &By::operator("test"), now).is_ok()
    }

    /// The outcome of an act, or why there is none.
    pub fn act_by(&mut self, user: &UserId, act: &Act, by: &By, now: Timestamp) -> Result<(), String> {
        let kept = self.kept(user, "");
        let changes = decision::act(&kept, act, by, now).map_err(|why| why.to_string())?;
        self.commit(&kept, changes, None);
        Ok(())
    }

    pub fn adopt(&mut self, change: RulesChange<'_>) -> Result<Adopted, Needs> {
        let (done, shared) = self.answered(None, |facts| decision::adopt(change, facts))?;
        assert_eq!(shared.epoch, Some(change.rules.epoch));
        self.save_shared(shared);
        Ok(done)
    }

    /// Ends leases and denies of a user.
    pub fn lapse(&mut self, user: &UserId, rules: &RuleSet, now: Timestamp) -> decision::Ended {
        let kept = self.kept(user, "");
        let (ended, changes) = self.decide(&kept, |kept, facts| decision::reap(kept, rules, facts, now));
        self.commit(&kept, changes, None);
        ended
    }

    /// Enabled users who hold a target. A lease that is over and was not ended yet counts here.
    pub fn holders(&self, rules: &RuleSet, target: &Target, now: Timestamp) -> BTreeSet<UserId> {
        let holds = |record: &Record| {
            let grants = record.holdings.keys().map(|grant| &grant.target);
            record.disabled.is_none() && Effective::of(grants, &record.denied(now), rules).holds(target)
        };
        self.records.iter().filter(|(_, record)| holds(record)).map(|(user, _)| user.clone()).collect()
    }

    /// What a user has grants of.
    pub fn has(&self, number: u8) -> Vec<Grant> {
        self.records[&user(number)].holdings.keys().cloned().collect()
    }

    /// The events of the audit.
    pub fn events(&self) -> Vec<&'static str> {
        self.audit.iter().map(|entry| entry.event).collect()
    }

    /// The audit from a row on: event and detail.
    pub fn told(&self, from: usize) -> Vec<String> {
        self.audit[from..].iter().map(|entry| format!("{} {}", entry.event, entry.detail)).collect()
    }
}

pub fn number(user: &UserId) -> i64 {
    user.subject.as_str()[1..].parse::<i64>().unwrap() + 1
}

/// Stands for the digest that a store keeps of an erased person's key.
fn digest(user: &UserId) -> Vec<u8> {
    user.to_string().into_bytes()
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
