//! A store in memory: the same port without a database. Properties run on it by the thousand, and it shows that no store needs
//! rules of its own. Nothing outlives the process, and the audit is a list without seals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::happened;
use super::rows::{news, note_of};
use super::{
    Ask, AuditRow, ChainReport, Journal, Known, Make, ROUNDS, Step, StoreError, Through, Token, Upkeep, Users, Work,
    made,
};
use crate::pipeline::decision::{
    About, Bearer, Changes, Disablings, Entry, Facts, GrantOf, Kept, Needs, Other, Question, RunningWindow, Save, Seen,
    Shared, Window,
};
use crate::pipeline::ids::{ProviderName, Target, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::stored::Stored;
use crate::pipeline::plan::Source;
use crate::pipeline::record::{Bound, Record};
use crate::ports::BoxFuture;
use crate::ports::catalogue::{Found, Member, Person, Search, Sort};
use crate::ports::console::{ConsoleSessions, MOST, SignIn};
use crate::ports::outbox::events::{EventSettled, Following, NewEvent, WaitingEvent, dropped, dropped_note};
use crate::ports::outbox::{Confirmed, Due, Local, Outbox, STUCK, Settled, Standing, Tally, ToldRow, Whom};
use crate::ports::sessions::{Digest, LoggedOut, Logout, NewSession, Session, SessionView, Sessions};

/// The store in memory.
#[derive(Default)]
pub struct Memory(Mutex<World>);

/// All that is kept.
#[derive(Default, Clone)]
struct World {
    users: BTreeMap<i64, (UserId, Record)>,
    numbers: BTreeMap<UserId, i64>,
    last: i64,
    /// Users who became one with another.
    former: BTreeMap<i64, i64>,
    erased: BTreeMap<UserId, Bound>,
    tokens: BTreeMap<[u8; 32], Seen>,
    windows: BTreeMap<(ProviderName, Target), Window>,
    notes: BTreeMap<String, Vec<u8>>,
    work: BTreeMap<i64, Work>,
    epoch: Option<u64>,
    restored: Option<Timestamp>,
    stored: Arc<Stored>,
    audit: Vec<AuditRow>,
    /// Whom each row is about.
    about: Vec<Option<i64>>,
    sessions: BTreeMap<[u8; 32], (i64, Timestamp, Session)>,
    console: BTreeMap<[u8; 32], SignIn>,
    following: Following,
    followed: BTreeMap<i64, Followed>,
    delivered: BTreeMap<(String, i64), Delivered>,
    remote: BTreeMap<(String, Local), String>,
    /// Events that wait, each for a receiver, with when it is due; the oldest first.
    events: Vec<(String, Timestamp, WaitingEvent)>,
    last_event: u64,
}

/// The version of a user.
#[derive(Clone)]
struct Followed {
    version: i64,
    round: i64,
    at: Timestamp,
    cause: &'static str,
    login: Option<String>,
    open: bool,
}

/// What a receiver has confirmed.
#[derive(Clone)]
struct Delivered {
    wanted: i64,
    confirmed: i64,
    state: Option<String>,
    tried: Option<String>,
    due: Timestamp,
    failures: u32,
    fault: Option<String>,
}

impl Memory {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers at once.
    fn now<T: Send + 'static>(value: Result<T, StoreError>) -> BoxFuture<'static, Result<T, StoreError>> {
        Box::pin(std::future::ready(value))
    }
}

impl World {
    /// A record less what has ended and was not swept yet.
    fn counts(&self, record: &Record) -> Record {
        let mut record = record.clone();
        for work in self.work.values() {
            work.carry_out(&mut record);
        }
        record
    }

    fn known(&self, number: i64) -> Option<Known> {
        let (user, record) = self.users.get(&number)?;
        Some(Known { number, user: user.clone(), record: self.counts(record) })
    }

    fn all(&self) -> impl Iterator<Item = Known> + '_ {
        self.users.keys().filter_map(|number| self.known(*number))
    }

    fn kept(&self, user: &UserId, token: Seen) -> Kept {
        let number = self.numbers.get(user).copied();
        let record = number.and_then(|number| self.known(number)).map(|known| known.record);
        let erased = if record.is_some() { None } else { self.erased.get(user).cloned() };
        Kept { user: user.clone(), number, record, erased, token, epoch: self.epoch, restored: self.restored }
    }

    fn decide(&self, ask: &Ask, step: &mut Step) -> Result<(Vec<Kept>, Save), StoreError> {
        let seen = ask.token.and_then(|Token { digest, .. }| self.tokens.get(&digest).copied()).unwrap_or_default();
        let kept: Vec<Kept> = ask.users.iter().map(|user| self.kept(user, seen)).collect();
        let asked: Vec<i64> = kept.iter().filter_map(|kept| kept.number).collect();
        let mut facts = Facts { token: seen, ..Facts::default() };
        for _ in 0..ROUNDS {
            match step(&kept, &facts) {
                Err(Needs::Facts(questions)) => {
                    questions.into_iter().for_each(|question| self.answer(question, &asked, &mut facts));
                }
                decided => return Ok((kept, decided?)),
            }
        }
        Err(StoreError::Invalid("a decision asked too many questions".into()))
    }

    fn answer(&self, question: Question, asked: &[i64], facts: &mut Facts) {
        let grants = || {
            self.users.iter().flat_map(|(number, (user, record))| {
                record.holdings.iter().map(move |(grant, holding)| (*number, user, grant, holding))
            })
        };
        match question {
            Question::Window(provider, target) => {
                let holds = grants().any(|(_, _, grant, holding)| {
                    grant.target == target && grant.source.is_through(&provider) && holding.held_at.is_some()
                });
                let key = (provider, target);
                let window = self.windows.get(&key).copied();
                facts.windows.insert(key, RunningWindow { window, holds });
            }
            Question::Members(provider, target) => {
                let through = |source: &Source| match &provider {
                    Some(provider) => source.is_through(provider),
                    None => *source == Source::Assigned,
                };
                let members = grants().filter(|(_, _, grant, _)| grant.target == target && through(&grant.source));
                let members: BTreeSet<i64> = members.map(|(number, ..)| number).collect();
                facts.members.insert((provider, target), members.len() as u64);
            }
            Question::Others { of, through, after } => {
                let holds = |record: &Record| record.holdings.keys().any(|grant| through.contains(&grant.target));
                let others = self.all().filter(|known| known.number > after && !asked.contains(&known.number));
                let others = others.filter(|known| holds(&known.record)).take(Question::page(after));
                let others = others.map(|Known { number, record, .. }| Other { number, record }).collect();
                facts.others.insert((of, after), others);
            }
            Question::Disablings(since) => {
                let lately = self.users.values().filter(|(_, record)| {
                    let lately =
                        |disabled: &crate::pipeline::record::Disabled| disabled.by.is_some() && disabled.at > since;
                    record.disabled.as_ref().is_some_and(lately) && record.last_login().is_some()
                });
                let stopped = |record: &Record| record.stopped.is_some() && record.disabled.is_none();
                let holds = self.users.iter().any(|(number, (_, record))| !asked.contains(number) && stopped(record));
                let (lately, users) = (lately.count() as u64, self.users.len() as u64);
                facts.disablings = Some(Disablings { lately, holds, users });
            }
            Question::Note(name) => drop(facts.notes.insert(name, self.notes.get(name).cloned())),
            Question::Confirmation(client) => {
                let note = self.notes.get(&Question::confirmation(&client)).cloned();
                facts.confirmations.insert(client, note);
            }
            Question::Given => {
                let given: BTreeSet<_> = grants()
                    .filter_map(|(_, _, grant, _)| match &grant.source {
                        Source::Mapped { provider, mapping } => {
                            Some((*mapping, provider.clone(), grant.target.clone()))
                        }
                        Source::Assigned => None,
                    })
                    .collect();
                facts.given = Some(Arc::new(given.into_iter().collect()));
            }
            Question::GivenBy(mappings) => {
                for id in mappings {
                    let given = grants().filter(
                        |(_, _, grant, _)| matches!(&grant.source, Source::Mapped { mapping, .. } if *mapping == id),
                    );
                    facts.given_by.insert(id, given.count() as u64);
                }
            }
            Question::Losing(provider, target, mappings) => {
                let (mut losing, mut staying) = (BTreeSet::new(), BTreeSet::new());
                for (number, _, grant, _) in grants().filter(|(_, _, grant, _)| grant.target == target) {
                    match &grant.source {
                        Source::Mapped { provider: owner, mapping } if *owner == provider => {
                            if mappings.contains(mapping) {
                                losing.insert(number)
                            } else {
                                staying.insert(number)
                            };
                        }
                        _ => {}
                    }
                }
                facts.losing.insert((provider, target), losing.difference(&staying).count() as u64);
            }
            Question::Granted => {
                let granted: BTreeSet<Target> = grants().map(|(_, _, grant, _)| grant.target.clone()).collect();
                facts.granted = Some(Arc::new(granted.into_iter().collect()));
            }
            Question::Grants(target, mappings) => {
                let meant = |source: &Source| match source {
                    Source::Assigned => true,
                    Source::Mapped { mapping, .. } => mappings.contains(mapping),
                };
                let theirs = grants().filter(|(_, _, grant, _)| grant.target == target && meant(&grant.source));
                let theirs = theirs.map(|(number, user, grant, holding)| GrantOf {
                    number,
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
                for target in self.users.values().flat_map(|(_, record)| record.denies.keys()) {
                    *denied.entry(target.clone()).or_default() += 1;
                }
                facts.denied = Some(Arc::new(denied));
            }
            Question::Unbound(from, to) => {
                let unbound = self
                    .users
                    .values()
                    .filter(|(_, record)| record.denies.contains_key(&from) && !record.denies.contains_key(&to));
                let unbound = unbound.count() as u64;
                facts.unbound.insert((from, to), unbound);
            }
            Question::Erased => {
                let erased = self
                    .erased
                    .iter()
                    .filter(|(_, bound)| bound.disabled.as_ref().is_some_and(|disabled| disabled.by.is_some()));
                facts.erased = Some(erased.map(|(user, bound)| (digest(user), bound.clone())).collect());
            }
            Question::ErasedDenies(now) => {
                let passed = |bound: &Bound| bound.denies.len() > bound.denied(now).len();
                let erased = self.erased.iter().filter(|(_, bound)| passed(bound));
                facts.erased_denies = Some(erased.map(|(user, bound)| (digest(user), bound.clone())).collect());
            }
        }
    }

    // --------------------------------------------------------------------------------------------------------- writing

    fn save(&mut self, ask: &Ask, kept: &[Kept], save: Save) -> Result<(), StoreError> {
        let Save { people, shared } = save;
        let now = ask.now.unwrap_or(Timestamp(0));
        if let Some(Token { digest, .. }) = ask.token {
            let seen = self.tokens.entry(digest).or_default();
            for noted in people.iter().map(|changes| changes.token).chain([shared.token]) {
                seen.spent |= noted.spent;
                seen.refused |= noted.refused;
            }
        }
        // All users leave their old keys before any takes a new one.
        for (kept, _) in kept.iter().zip(&people).filter(|(_, changes)| changes.key.is_some()) {
            self.numbers.remove(&kept.user);
        }
        for (person, changes) in kept.iter().zip(&people) {
            let into = changes.into.and_then(|into| kept.get(into)).and_then(|into| into.number);
            if let (Some(number), Some(into)) = (person.number, into) {
                self.tell_receivers(number, None, changes, now);
                self.remove(number, &person.user);
                self.former.values_mut().filter(|of| **of == number).for_each(|of| *of = into);
                self.former.insert(number, into);
            }
        }
        for (kept, changes) in kept.iter().zip(people).filter(|(_, changes)| changes.into.is_none()) {
            self.save_person(kept, changes, now);
        }
        self.save_shared(shared, now)
    }

    fn remove(&mut self, number: i64, user: &UserId) {
        self.users.remove(&number);
        if self.numbers.get(user) == Some(&number) {
            self.numbers.remove(user);
        }
        self.sessions.retain(|_, (of, ..)| *of != number);
    }

    fn save_person(&mut self, kept: &Kept, mut changes: Changes, now: Timestamp) {
        let mut number = kept.number;
        if let Some(bound) = changes.erased.clone() {
            put(&mut self.erased, kept.user.clone(), Some(bound).filter(Bound::binds));
            if let Some(gone) = number {
                self.tell_receivers(gone, None, &changes, now);
                let former = self.former.iter().filter(|(_, of)| **of == gone).map(|(former, _)| *former);
                let numbers: Vec<i64> = std::iter::once(gone).chain(former).collect();
                for (row, about) in self.audit.iter_mut().zip(&self.about) {
                    if about.is_some_and(|about| numbers.contains(&about)) {
                        row.person = None;
                    }
                }
                self.remove(gone, &kept.user);
                for number in numbers {
                    changes.audit.iter().for_each(|entry| self.note(entry, Some(number), None, now));
                }
                return;
            }
        }
        let before = number.and_then(|number| self.users.get(&number)).map(|(_, record)| record);
        let about = number.or(changes.record.as_ref().map(|_| self.last + 1));
        let listeners = &self.following.listeners;
        let happened = happened::to_person(before, changes.record.as_ref(), &changes, about, listeners);
        self.note_events(happened, now);
        if let (None, Some(number)) = (&changes.record, number) {
            self.tell_receivers(number, None, &changes, now);
        }
        if let Some(record) = changes.record.take() {
            let of = number.unwrap_or(self.last + 1);
            self.last = self.last.max(of);
            if record.disabled.is_some() {
                self.sessions.retain(|_, (user, ..)| *user != of);
            }
            self.tell_receivers(of, Some(&record), &changes, now);
            let user = changes.key.clone().unwrap_or_else(|| kept.user.clone());
            self.numbers.insert(user.clone(), of);
            self.users.insert(of, (user.clone(), record));
            self.erased.remove(&user);
            number = Some(of);
        }
        self.windows.extend(changes.windows);
        changes.audit.iter().for_each(|entry| self.note(entry, number, Some(&kept.user), now));
    }

    /// Records the pending deliveries of receivers.
    fn tell_receivers(&mut self, number: i64, after: Option<&Record>, changes: &Changes, now: Timestamp) {
        let before = self.users.get(&number).map(|(_, record)| record);
        let Some(news) = news(before, after, changes).filter(|_| self.following.round != 0) else { return };
        let login = news.login.map(str::to_owned);
        if news.rises {
            return self.raise(number, news.cause, login, now);
        }
        let fresh = Followed { version: 1, round: self.following.round, at: now, cause: news.cause, login, open: true };
        let followed = self.followed.entry(number).or_insert(fresh);
        if followed.round != self.following.round {
            (followed.round, followed.open) = (self.following.round, true);
        }
    }

    fn raise(&mut self, number: i64, cause: &'static str, login: Option<String>, now: Timestamp) {
        let version = self.followed.get(&number).map_or(1, |followed| followed.version + 1);
        let followed = Followed { version, round: self.following.round, at: now, cause, login, open: true };
        self.followed.insert(number, followed);
    }

    fn raise_holders(&mut self, target: &Target, cause: &'static str, now: Timestamp) -> u64 {
        if self.following.round == 0 {
            return 0;
        }
        let through = Through::Target(target.clone());
        let holders = self.users.iter().filter(|(_, (_, record))| takes(&through, record));
        let holders: Vec<i64> = holders.map(|(number, _)| *number).collect();
        holders.iter().for_each(|number| self.raise(*number, cause, None, now));
        holders.len() as u64
    }

    fn due(&self, number: i64, row: &Delivered) -> Option<Due> {
        let followed = self.followed.get(&number)?;
        Some(Due {
            number,
            wanted: followed.version,
            confirmed: row.confirmed,
            state: row.state.clone(),
            tried: row.tried.clone(),
            failures: row.failures,
            due: row.due,
            fault: row.fault.clone(),
            raised_at: followed.at,
            cause: followed.cause.into(),
            login: followed.login.clone(),
            known: self.known(number),
        })
    }

    fn note_events(&mut self, events: Vec<NewEvent>, now: Timestamp) {
        for NewEvent { receiver, event, user, data } in events {
            self.last_event += 1;
            let (id, event) = (format!("{:032x}", self.last_event), event.word().to_owned());
            self.events.push((receiver, now, WaitingEvent { id, at: now, event, user, data, failures: 0 }));
        }
    }

    fn count_dropped(&mut self, receiver: &str, more: u64) {
        let name = note_of(&dropped_note(receiver));
        let all = dropped(self.notes.get(&name).map(Vec::as_slice)) + more;
        self.notes.insert(name, all.to_string().into_bytes());
    }

    fn save_shared(&mut self, shared: Shared, now: Timestamp) -> Result<(), StoreError> {
        let happened = happened::to_all(&shared, &self.following.listeners);
        self.note_events(happened, now);
        let Shared { epoch, notes, ended_windows, work, done, token: _, catalogue, restored, bound, audit } = shared;
        if let Some(written) = catalogue {
            if self.stored.generation != written.before.generation {
                return Err(StoreError::Invalid("the store has changed since; try again".into()));
            }
            self.stored = written.after;
            for (from, to) in &written.renamed {
                self.raise_holders(from, "renamed", now);
                self.retire(to, now);
                self.rename(from, to);
            }
            written.gone.iter().for_each(|target| self.retire(target, now));
        }
        self.epoch = epoch.or(self.epoch);
        if restored.is_some() {
            self.restored = restored;
            self.sessions.clear();
            self.console.clear();
        }
        for (name, value) in notes {
            put(&mut self.notes, name, value);
        }
        self.windows.retain(|key, _| !ended_windows.contains(key));
        if let Some(work) = work {
            let number = self.work.keys().last().map_or(1, |last| last + 1);
            self.work.insert(number, work);
        }
        done.iter().for_each(|number| drop(self.work.remove(number)));
        for (bearer, bound) in bound {
            let user = match bearer {
                Bearer::User(user) => Some(user),
                Bearer::Digest(of) => self.erased.keys().find(|user| digest(user) == of).cloned(),
            };
            if let Some(user) = user {
                put(&mut self.erased, user, Some(bound).filter(Bound::binds));
            }
        }
        audit.iter().for_each(|entry| self.note(entry, None, None, now));
        Ok(())
    }

    /// No user holds it any more.
    fn retire(&mut self, target: &Target, now: Timestamp) {
        self.raise_holders(target, "removed", now);
        for (_, record) in self.users.values_mut() {
            record.holdings.retain(|grant, _| grant.target != *target);
        }
        self.windows.retain(|(_, of), _| of != target);
    }

    fn rename(&mut self, from: &Target, to: &Target) {
        for (_, record) in self.users.values_mut() {
            record.holdings = std::mem::take(&mut record.holdings)
                .into_iter()
                .map(|(mut grant, holding)| {
                    if grant.target == *from {
                        grant.target = to.clone();
                    }
                    (grant, holding)
                })
                .collect();
            if let Some(deny) = record.denies.get(from).cloned() {
                record.denies.entry(to.clone()).or_insert(deny);
            }
        }
    }

    fn note(
        &mut self,
        Entry { event, detail, login: _, about }: &Entry,
        number: Option<i64>,
        user: Option<&UserId>,
        now: Timestamp,
    ) {
        let (number, user) = match about {
            About::NoUser => (None, None),
            About::Number => (number, None),
            About::Person { .. } => (number, user),
            About::Other { number, user } => (Some(*number), Some(user)),
            About::Former(number) => (Some(*number), None),
        };
        let person = user
            .filter(|_| number.is_some())
            .map(|user| serde_json::json!({ "namespace": user.namespace.as_str(), "subject": user.subject.as_str() }));
        self.audit.push(AuditRow {
            sequence: i64::try_from(self.audit.len()).unwrap_or(i64::MAX).saturating_add(1),
            at: now.to_string(),
            event: (*event).to_owned(),
            detail: serde_json::from_str(detail).unwrap_or_default(),
            person,
            seal: String::new(),
        });
        self.about.push(number);
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

fn digest(user: &UserId) -> Vec<u8> {
    Digest::of(user.to_string().as_bytes()).0.to_vec()
}

// ------------------------------------------------------------------------------------------------------------ the ports

impl Users for Memory {
    fn transact(&self, ask: Ask, mut step: Step) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut world = self.world();
        let mut next = world.clone();
        let done = next.decide(&ask, &mut step).and_then(|(kept, save)| next.save(&ask, &kept, save));
        // All of it, or nothing.
        if done.is_ok() {
            *world = next;
        }
        Self::now(done)
    }

    fn preview(&self, ask: Ask, mut step: Step) -> BoxFuture<'_, Result<(), StoreError>> {
        Self::now(self.world().decide(&ask, &mut step).map(drop))
    }

    fn user(&self, user: UserId) -> BoxFuture<'_, Result<Option<Known>, StoreError>> {
        let world = self.world();
        Self::now(Ok(world.numbers.get(&user).and_then(|number| world.known(*number))))
    }

    fn numbered(&self, number: i64) -> BoxFuture<'_, Result<Option<Known>, StoreError>> {
        Self::now(Ok(self.world().known(number)))
    }

    fn page(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Known>, StoreError>> {
        Self::now(Ok(self.world().all().filter(|known| known.number > after).take(limit).collect()))
    }

    fn through(&self, through: Through, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Known>, StoreError>> {
        let world = self.world();
        let found = world.users.iter().filter(|(number, (_, record))| **number > after && takes(&through, record));
        Self::now(Ok(found.filter_map(|(number, _)| world.known(*number)).take(limit).collect()))
    }

    fn keys(
        &self,
        of: Option<Target>,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        let world = self.world();
        let holds = |number: &i64| {
            let record = world.users.get(number).map(|(_, record)| record);
            of.as_ref().is_none_or(|of| record.is_some_and(|record| takes(&Through::Target(of.clone()), record)))
        };
        let found =
            world.numbers.iter().filter(|(user, number)| after.as_ref().is_none_or(|it| *user > it) && holds(number));
        Self::now(Ok(found.map(|(user, _)| user.clone()).take(limit).collect()))
    }

    fn find(&self, search: Search) -> BoxFuture<'_, Result<Found, StoreError>> {
        let world = self.world();
        let mut members: Vec<Member> = world.all().filter_map(|known| member(known, &search)).collect();
        members.sort_by(|one, other| {
            let order = ordered(&one.person, &other.person, search.sort);
            let order = order.then(one.person.number.cmp(&other.person.number));
            if search.descending { order.reverse() } else { order }
        });
        let total = members.len();
        let members = members.into_iter().skip(search.offset).take(search.limit).collect();
        Self::now(Ok(Found { members, total }))
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Self::now(Ok(self.world().users.len() as u64))
    }

    fn work(&self) -> BoxFuture<'_, Result<Vec<(i64, Work)>, StoreError>> {
        Self::now(Ok(self.world().work.iter().map(|(number, work)| (*number, work.clone())).collect()))
    }

    /// Users are found by their records here, so that nothing can differ.
    fn check(&self, _: bool) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Self::now(Ok(Vec::new()))
    }
}

fn takes(through: &Through, record: &Record) -> bool {
    match through {
        Through::Mapping(id) => {
            record.holdings.keys().any(|grant| matches!(&grant.source, Source::Mapped { mapping, .. } if mapping == id))
        }
        Through::Target(target) => record.holdings.keys().any(|grant| grant.target == *target),
        Through::Denied(target) => record.denies.contains_key(target),
        Through::Held => {
            record.holdings.values().any(|holding| holding.held_at.is_some())
                || (record.stopped.is_some() && record.disabled.is_none())
        }
        Through::Disabled => record.disabled.as_ref().is_some_and(|disabled| disabled.by.is_some()),
        Through::Due(before) => record.due.is_some_and(|due| due <= *before),
    }
}

fn member(Known { number, user, record }: Known, search: &Search) -> Option<Member> {
    let Search { user: key, numbers, text, email, subject, enabled, since, to, domains, within, .. } = search;
    let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_ascii_lowercase()).unwrap_or_default();
    let (address, name) = (lower(&record.email), lower(&record.display_name));
    let last = record.last_login();
    let found = key.as_ref().is_none_or(|key| *key == user)
        && numbers.as_ref().is_none_or(|numbers| numbers.contains(&number))
        && text.as_ref().is_none_or(|text| {
            let text = text.to_ascii_lowercase();
            [&address, &name, &user.subject.as_str().to_ascii_lowercase()].iter().any(|it| it.contains(&text))
        })
        && email.as_ref().is_none_or(|email| email.to_ascii_lowercase() == address)
        && subject.as_ref().is_none_or(|subject| subject == user.subject.as_str())
        && enabled.is_none_or(|enabled| enabled == record.disabled.is_none())
        && since.is_none_or(|since| last >= Some(since))
        && to.is_none_or(|to| last.is_some_and(|last| last <= to))
        && (domains.is_empty()
            || address.split_once('@').is_some_and(|(_, domain)| domains.iter().any(|it| it == domain)));
    let (mut mapped, mut assigned) = (false, false);
    if let Some(within) = within {
        let theirs = record.holdings.keys().filter(|grant| grant.target == within.target);
        theirs.for_each(|grant| if grant.source == Source::Assigned { assigned = true } else { mapped = true });
        let meant = within.mapped.map_or(mapped || assigned, |wanted| if wanted { mapped } else { assigned });
        if !meant || record.denies.contains_key(&within.target) {
            return None;
        }
    }
    let enabled = record.disabled.is_none();
    let person =
        Person { number, user, email: record.email, display_name: record.display_name, enabled, last_login_at: last };
    found.then_some(Member { person, mapped, assigned })
}

fn ordered(one: &Person, other: &Person, sort: Sort) -> std::cmp::Ordering {
    let folded = |text: &Option<String>| text.as_ref().map(|text| text.to_ascii_lowercase());
    match sort {
        Sort::Number => one.number.cmp(&other.number),
        Sort::Name => folded(&one.display_name).cmp(&folded(&other.display_name)),
        Sort::Email => folded(&one.email).cmp(&folded(&other.email)),
        Sort::Enabled => other.enabled.cmp(&one.enabled),
        Sort::LastLogin => one.last_login_at.cmp(&other.last_login_at),
    }
}

impl Journal for Memory {
    fn rows(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        Self::now(Ok(self.world().audit.iter().filter(|row| row.sequence > after).take(limit).cloned().collect()))
    }

    fn of_login(&self, login: String) -> BoxFuture<'_, Result<Option<AuditRow>, StoreError>> {
        let is_of = |row: &&AuditRow| row.detail.get("login").and_then(|id| id.as_str()) == Some(&login);
        Self::now(Ok(self.world().audit.iter().rev().find(is_of).cloned()))
    }

    fn about(&self, number: i64) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        let world = self.world();
        let rows = world.audit.iter().zip(&world.about).filter(|(_, about)| **about == Some(number));
        Self::now(Ok(rows.map(|(row, _)| row.clone()).collect()))
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>> {
        Self::now(Ok(self.world().audit.last().map(|row| (row.sequence, row.seal.clone()))))
    }

    fn latest_about(&self, number: i64, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        let world = self.world();
        let rows = world.audit.iter().zip(&world.about).filter(|(_, about)| **about == Some(number));
        Self::now(Ok(rows.map(|(row, _)| row.clone()).rev().take(limit).collect()))
    }

    fn verify(&self, _: Arc<AtomicU64>) -> BoxFuture<'_, Result<ChainReport, StoreError>> {
        let world = self.world();
        let rows = world.audit.len() as u64;
        let report = ChainReport {
            rows,
            erased: 0,
            first_format: 0,
            unkeyed: 0,
            keyed: false,
            broken: None,
            head: String::new(),
        };
        Self::now(Ok(report))
    }

    fn accept_unkeyed(&self, _: String, _: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Self::now(Err(StoreError::Invalid("a store in memory has no audit key".into())))
    }
}

impl Upkeep for Memory {
    fn secret(&self, name: &'static str, make: Make) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        let mut world = self.world();
        let kept = match world.notes.get(name) {
            Some(kept) => Ok(kept.clone()),
            None => made(make()).inspect(|fresh| drop(world.notes.insert(name.to_owned(), fresh.clone()))),
        };
        Self::now(kept)
    }

    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Self::now(Ok(()))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Self::now(Ok(()))
    }
}

impl Outbox for Memory {
    fn follow(&self, following: Following) {
        self.world().following = following;
    }

    fn raise(&self, whom: Whom, cause: &'static str, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        let mut world = self.world();
        let numbers: Vec<i64> = match whom {
            Whom::Holders(target) => return Self::now(Ok(world.raise_holders(&target, cause, now))),
            Whom::Everyone => world.users.keys().copied().collect(),
            Whom::User(user) => world.numbers.get(&user).copied().into_iter().collect(),
        };
        numbers.iter().for_each(|number| world.raise(*number, cause, None, now));
        Self::now(Ok(numbers.len() as u64))
    }

    fn spread(&self, receivers: Vec<String>, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64, StoreError>> {
        let mut world = self.world();
        let open = world.followed.iter().filter(|(_, followed)| followed.open).take(limit);
        let open: Vec<(i64, i64)> = open.map(|(number, followed)| (*number, followed.version)).collect();
        for (number, version) in &open {
            for receiver in &receivers {
                let fresh =
                    Delivered { wanted: 0, confirmed: 0, state: None, tried: None, due: now, failures: 0, fault: None };
                let row = world.delivered.entry((receiver.clone(), *number)).or_insert(fresh);
                if row.confirmed >= row.wanted || row.due == STUCK {
                    row.due = now;
                }
                row.wanted = *version;
            }
            if let Some(followed) = world.followed.get_mut(number) {
                followed.open = false;
            }
            // Of a user who is gone nothing is kept for receivers that are gone.
            let World { users, delivered, remote, .. } = &mut *world;
            let stays = |name: &String, of: i64| of != *number || users.contains_key(&of) || receivers.contains(name);
            delivered.retain(|(name, of), _| stays(name, *of));
            remote.retain(|(name, local), _| !matches!(local, Local::User(of) if !stays(name, *of)));
        }
        Self::now(Ok(open.len() as u64))
    }

    fn due(&self, receiver: String, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<Due>, StoreError>> {
        let world = self.world();
        let rows = world
            .delivered
            .iter()
            .filter(|((of, _), row)| *of == receiver && row.confirmed < row.wanted && row.due <= now);
        let mut due: Vec<Due> = rows.filter_map(|((_, number), row)| world.due(*number, row)).collect();
        due.sort_by_key(|due| (due.due, due.number));
        due.truncate(limit);
        Self::now(Ok(due))
    }

    fn attempt(&self, receiver: String, number: i64, tried: String) -> BoxFuture<'_, Result<(), StoreError>> {
        if let Some(row) = self.world().delivered.get_mut(&(receiver, number)) {
            row.tried = Some(tried);
        }
        Self::now(Ok(()))
    }

    fn settle(&self, receiver: String, number: i64, settled: Settled) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut world = self.world();
        let key = (receiver, number);
        match (settled, world.delivered.get_mut(&key)) {
            (Settled::Confirmed { version, state }, Some(row)) => {
                (row.confirmed, row.state, row.tried) = (version, state, None);
                (row.failures, row.fault) = (0, None);
            }
            (Settled::Failed { fault, due }, Some(row)) => {
                (row.failures, row.fault, row.due) = (row.failures + 1, Some(fault), due);
            }
            (Settled::Gone, _) => {
                world.delivered.remove(&key);
                world.remote.remove(&(key.0, Local::User(number)));
                let is_open = world.followed.get(&number).is_some_and(|followed| followed.open);
                let is_left = world.delivered.keys().any(|(_, of)| *of == number) || world.users.contains_key(&number);
                if !is_open && !is_left {
                    world.followed.remove(&number);
                }
            }
            (_, None) => {}
        }
        Self::now(Ok(()))
    }

    fn hurry(&self, receiver: String, number: Option<i64>, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        let mut world = self.world();
        let meant = |of: i64, row: &Delivered| number.map_or(row.due != STUCK, |number| number == of);
        let late = world.delivered.iter_mut().filter(|((name, of), row)| {
            *name == receiver && row.confirmed < row.wanted && row.due > now && meant(*of, row)
        });
        let hurried = late.map(|(_, row)| row.due = now).count();
        if number.is_none() {
            let theirs = world.events.iter_mut().filter(|(of, due, _)| *of == receiver && *due > now);
            theirs.for_each(|(_, due, _)| *due = now);
        }
        Self::now(Ok(hurried as u64))
    }

    fn forget(&self, receiver: String, number: Option<i64>) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut world = self.world();
        let World { users, delivered, .. } = &mut *world;
        let told = delivered.iter_mut().filter(|((name, of), _)| {
            *name == receiver && number.is_none_or(|number| number == *of) && users.contains_key(of)
        });
        for (_, row) in told {
            // It may still know what was delivered.
            let told = row.state.take();
            row.tried = row.tried.take().or(told);
            (row.confirmed, row.failures, row.fault) = (0, 0, None);
        }
        Self::now(Ok(()))
    }

    fn events(
        &self,
        receiver: String,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<WaitingEvent>, StoreError>> {
        let world = self.world();
        let mut waiting: Vec<_> = world.events.iter().filter(|(of, due, _)| *of == receiver && *due <= now).collect();
        waiting.sort_by_key(|(_, due, event)| (*due, event.at));
        Self::now(Ok(waiting.into_iter().take(limit).map(|(.., event)| event.clone()).collect()))
    }

    fn settle_event(
        &self,
        receiver: String,
        id: String,
        settled: EventSettled,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut world = self.world();
        if let EventSettled::Failed { due, .. } = settled {
            for (_, next, event) in world.events.iter_mut().filter(|(.., event)| event.id == id) {
                (*next, event.failures) = (due, event.failures + 1);
            }
            return Self::now(Ok(()));
        }
        let before = world.events.len();
        world.events.retain(|(.., event)| event.id != id);
        if settled == EventSettled::Dropped && world.events.len() < before {
            world.count_dropped(&receiver, 1);
        }
        Self::now(Ok(()))
    }

    fn trim_events(
        &self,
        receivers: Vec<String>,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<(String, u64)>, StoreError>> {
        let (mut world, mut all) = (self.world(), Vec::new());
        world.events.retain(|(of, ..)| receivers.contains(of));
        for receiver in receivers {
            let mut over = world.events.iter().filter(|(of, ..)| *of == receiver).count().saturating_sub(most);
            let dropped = over as u64;
            world.events.retain(|(of, ..)| {
                let stays = *of != receiver || over == 0;
                over -= usize::from(!stays);
                stays
            });
            if dropped > 0 {
                world.count_dropped(&receiver, dropped);
                all.push((receiver, dropped));
            }
        }
        Self::now(Ok(all))
    }

    fn standing(&self, user: UserId) -> BoxFuture<'_, Result<Standing, StoreError>> {
        let world = self.world();
        let Some(number) = world.numbers.get(&user).copied() else { return Self::now(Ok(Standing::default())) };
        let version = world.followed.get(&number).map_or(0, |followed| followed.version);
        let theirs = world.delivered.iter().filter(|((_, of), _)| *of == number);
        let receivers = theirs.map(|((receiver, _), row)| Confirmed {
            receiver: receiver.clone(),
            version: row.confirmed,
            state: row.state.clone(),
            tried: row.tried.clone(),
        });
        Self::now(Ok(Standing { version, receivers: receivers.collect() }))
    }

    fn tally(&self, receiver: String) -> BoxFuture<'_, Result<Tally, StoreError>> {
        let world = self.world();
        let mut tally = Tally::default();
        for ((_, number), row) in
            world.delivered.iter().filter(|((of, _), row)| *of == receiver && row.confirmed < row.wanted)
        {
            tally.pending += 1;
            tally.stuck += u64::from(row.due == STUCK);
            let raised = world.followed.get(number).map(|followed| followed.at);
            tally.oldest = tally.oldest.into_iter().chain(raised).min();
        }
        tally.events = world.events.iter().filter(|(of, ..)| *of == receiver).count() as u64;
        tally.dropped = dropped(world.notes.get(&note_of(&dropped_note(&receiver))).map(Vec::as_slice));
        Self::now(Ok(tally))
    }

    fn remote(&self, receiver: String, local: Local) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        Self::now(Ok(self.world().remote.get(&(receiver, local)).cloned()))
    }

    fn remotes(&self, receiver: String) -> BoxFuture<'_, Result<Vec<(Local, String)>, StoreError>> {
        let world = self.world();
        let all = world.remote.iter().filter(|((of, _), _)| *of == receiver);
        Self::now(Ok(all.map(|((_, local), remote)| (local.clone(), remote.clone())).collect()))
    }

    fn told(&self, receiver: String) -> BoxFuture<'_, Result<Vec<ToldRow>, StoreError>> {
        let world = self.world();
        let rows = world.delivered.iter().filter(|((of, _), _)| *of == receiver);
        let row = |((_, number), row): (&(String, i64), &Delivered)| ToldRow {
            number: *number,
            state: row.state.clone(),
            tried: row.tried.clone(),
        };
        Self::now(Ok(rows.map(row).collect()))
    }

    fn set_remote(
        &self,
        receiver: String,
        local: Local,
        remote: Option<String>,
        takes: bool,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let mut world = self.world();
        let key = (receiver, local);
        let Some(id) = remote else {
            world.remote.remove(&key);
            return Self::now(Ok(true));
        };
        let is_group = |local: &Local| matches!(local, Local::Group(_));
        let other = |(of, local): &(String, Local), found: &String| {
            *of == key.0 && *found == id && *local != key.1 && is_group(local) == is_group(&key.1)
        };
        if takes {
            world.remote.retain(|of, found| !other(of, found));
        } else if world.remote.iter().any(|(of, found)| other(of, found)) {
            return Self::now(Ok(false));
        }
        world.remote.insert(key, id);
        Self::now(Ok(true))
    }

    fn note(&self, name: String) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        Self::now(Ok(self.world().notes.get(&note_of(&name)).cloned()))
    }

    fn set_note(&self, name: String, value: Vec<u8>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.world().notes.insert(note_of(&name), value);
        Self::now(Ok(()))
    }
}

impl Sessions for Memory {
    fn begin(&self, session: NewSession) -> BoxFuture<'_, Result<bool, StoreError>> {
        let mut world = self.world();
        if let Some(before) = session.replaces {
            world.sessions.remove(&before.0);
        }
        let known = world.numbers.get(&session.user).and_then(|number| world.known(*number));
        let Some(known) = known.filter(|known| known.record.disabled.is_none()) else { return Self::now(Ok(false)) };
        world.sessions.retain(|_, (.., session_of)| session_of.expires_at > session.now);
        loop {
            let theirs = world.sessions.iter().filter(|(_, (of, ..))| *of == known.number);
            let theirs: Vec<([u8; 32], Timestamp)> = theirs.map(|(key, (_, at, _))| (*key, *at)).collect();
            match theirs.iter().min_by_key(|(_, at)| *at) {
                Some((oldest, _)) if theirs.len() >= session.most => drop(world.sessions.remove(oldest)),
                _ => break,
            }
        }
        let kept = Session {
            key: session.key,
            user: session.user,
            email: None,
            display_name: None,
            groups: Vec::new(),
            roles: Vec::new(),
            provider: session.provider,
            login: session.login,
            token: session.token,
            at_provider: session.at_provider,
            app_cookie: session.app_cookie,
            refresh: session.refresh,
            hint: session.hint,
            seen_at: session.now,
            synced_at: session.now,
            idle_until: session.idle_until,
            expires_at: session.expires_at,
        };
        world.sessions.insert(session.key.0, (known.number, session.now, kept));
        Self::now(Ok(true))
    }

    fn find(
        &self,
        key: Digest,
        rules: Arc<RuleSet>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Option<Session>, StoreError>> {
        let world = self.world();
        let found = world.sessions.get(&key.0).filter(|(.., kept)| kept.expires_at > now && kept.idle_until > now);
        let found = found.and_then(|(number, _, kept)| Some((world.known(*number)?, kept.clone())));
        let found = found.filter(|(known, _)| known.record.disabled.is_none()).map(|(known, mut session)| {
            let effective = super::look::effective(&known.record, &rules, now);
            session.groups = effective.groups.iter().map(ToString::to_string).collect();
            session.roles = effective.roles.iter().map(ToString::to_string).collect();
            (session.user, session.email, session.display_name) =
                (known.user, known.record.email, known.record.display_name);
            session
        });
        Self::now(Ok(found))
    }

    fn extend(&self, key: Digest, seen_at: Timestamp, idle_until: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        if let Some((.., kept)) = self.world().sessions.get_mut(&key.0) {
            kept.seen_at = kept.seen_at.max(seen_at);
            kept.idle_until = kept.idle_until.max(idle_until);
        }
        Self::now(Ok(()))
    }

    fn renewed(
        &self,
        key: Digest,
        refresh: Option<Vec<u8>>,
        synced_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        if let Some((.., kept)) = self.world().sessions.get_mut(&key.0) {
            kept.refresh = refresh.or(kept.refresh.take());
            kept.synced_at = synced_at;
        }
        Self::now(Ok(()))
    }

    fn renamed(&self, key: Digest, at_provider: String) -> BoxFuture<'_, Result<(), StoreError>> {
        if let Some((.., kept)) = self.world().sessions.get_mut(&key.0) {
            kept.at_provider.session = Some(at_provider);
        }
        Self::now(Ok(()))
    }

    fn end(&self, key: Digest) -> BoxFuture<'_, Result<bool, StoreError>> {
        Self::now(Ok(self.world().sessions.remove(&key.0).is_some()))
    }

    fn log_out(&self, logout: Logout) -> BoxFuture<'_, Result<LoggedOut, StoreError>> {
        let Logout { providers, issuer, token, subject, sessions, .. } = logout;
        let mut world = self.world();
        let noted = world.tokens.entry(Digest::of(format!("logout\0{issuer}\0{token}").as_bytes()).0).or_default();
        if std::mem::replace(&mut noted.spent, true) {
            return Self::now(Ok(LoggedOut::Replay));
        }
        let before = world.sessions.len();
        world.sessions.retain(|_, (.., kept)| {
            let theirs = subject.as_ref().is_none_or(|subject| *subject == kept.at_provider.subject);
            let named = match &kept.at_provider.session {
                Some(own) => sessions.contains(own) && theirs,
                // One whose token named no session may be meant, if the person is named.
                None => subject.as_ref() == Some(&kept.at_provider.subject),
            };
            let all = subject.as_ref() == Some(&kept.at_provider.subject);
            let ends = if sessions.is_empty() { all } else { named };
            !(providers.contains(&kept.provider) && ends)
        });
        Self::now(Ok(LoggedOut::Ended((before - world.sessions.len()) as u64)))
    }

    fn list(&self, user: UserId) -> BoxFuture<'_, Result<Vec<SessionView>, StoreError>> {
        let world = self.world();
        let theirs = world.sessions.values().filter(|(number, ..)| world.numbers.get(&user) == Some(number));
        let views = theirs.map(|(_, created_at, kept)| SessionView {
            provider: kept.provider.to_string(),
            created_at: *created_at,
            seen_at: kept.seen_at,
            expires_at: kept.expires_at,
        });
        Self::now(Ok(views.collect()))
    }

    fn of_user(&self, user: UserId, now: Timestamp) -> BoxFuture<'_, Result<Vec<Digest>, StoreError>> {
        let world = self.world();
        let theirs = world.sessions.iter().filter(|(_, (number, _, kept))| {
            world.numbers.get(&user) == Some(number) && kept.expires_at > now && kept.idle_until > now
        });
        let mut theirs: Vec<(Timestamp, Digest)> = theirs.map(|(key, (_, at, _))| (*at, Digest(*key))).collect();
        theirs.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self::now(Ok(theirs.into_iter().map(|(_, key)| key).collect()))
    }
}

impl ConsoleSessions for Memory {
    fn add(&self, sign_in: SignIn) -> BoxFuture<'_, Result<(), StoreError>> {
        let console = &mut self.world().console;
        console.retain(|_, kept| kept.is_live(sign_in.created_at));
        while console.len() >= usize::try_from(MOST).unwrap_or(usize::MAX) {
            let first = console.iter().min_by_key(|(_, kept)| kept.expires_at).map(|(key, _)| *key);
            let Some(first) = first else { break };
            console.remove(&first);
        }
        console.insert(sign_in.key.0, sign_in);
        Self::now(Ok(()))
    }

    fn spend(&self, link: Digest, now: Timestamp) -> BoxFuture<'_, Result<Option<SignIn>, StoreError>> {
        let console = &mut self.world().console;
        let spent = match console.get(&link.0) {
            Some(found) if found.is_link => console.remove(&link.0),
            _ => None,
        };
        Self::now(Ok(spent.filter(|sign_in| sign_in.is_live(now))))
    }

    fn session(&self, key: Digest, now: Timestamp) -> BoxFuture<'_, Result<Option<SignIn>, StoreError>> {
        let found =
            self.world().console.get(&key.0).filter(|sign_in| !sign_in.is_link && sign_in.is_live(now)).cloned();
        Self::now(Ok(found))
    }

    fn extend(&self, key: Digest, idle_until: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        if let Some(sign_in) = self.world().console.get_mut(&key.0).filter(|sign_in| !sign_in.is_link) {
            sign_in.idle_until = sign_in.idle_until.max(idle_until);
        }
        Self::now(Ok(()))
    }

    fn end(&self, key: Option<Digest>) -> BoxFuture<'_, Result<u64, StoreError>> {
        let console = &mut self.world().console;
        let before = console.len();
        console.retain(|kept, _| key.is_some_and(|key| key.0 != *kept));
        Self::now(Ok((before - console.len()) as u64))
    }

    fn list(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>> {
        let mut live: Vec<SignIn> =
            self.world().console.values().filter(|sign_in| sign_in.is_live(now)).cloned().collect();
        live.sort_by_key(|sign_in| (std::cmp::Reverse(sign_in.created_at), sign_in.key.0));
        Self::now(Ok(live))
    }
}
