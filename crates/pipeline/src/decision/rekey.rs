//! A new key for a person: another e-mail address, or a new client of the provider by which everyone has another subject.
//!
//! The user stays, so that all that hangs on them goes along. If a user has the new key already, the two become one: what
//! takes access away (denies, being disabled) stays of either, and what gives it by hand is joined.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{About, Bearer, By, Changes, Entry, Kept, Needs, Save};
use crate::ids::{Target, Timestamp, UserId};
use crate::plan::Source;
use crate::record::{Bound, Record};

/// This number's user became one with another: it has no user any more, and its rows keep their personal fields until they are
/// erased under this number.
pub const MERGED: &str = "user_merged";

/// A user under a new key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeyed {
    pub old: UserId,
    pub new: UserId,
    /// A user had the new key already: the two are one from now on.
    pub merged: bool,
    /// The old key belonged to an erased person: only what binds them goes over.
    pub erased: bool,
    /// Whether they are disabled under the new key.
    pub disabled: bool,
    /// What they are denied under the new key.
    pub denies: Vec<Target>,
    /// What they hold by hand under the new key.
    pub assigned: Vec<Target>,
}

#[derive(Serialize)]
struct MergedDetail<'a> {
    by: &'a str,
    /// The number of the user that the two are now.
    into: i64,
}

#[derive(Serialize)]
struct RekeyedDetail<'a> {
    by: &'a str,
    merged: bool,
    erased: bool,
    disabled: bool,
    denies: usize,
    assigned: usize,
}

/// The outcome of new keys: all of them, or none. All users leave their old keys before any takes a new one, so that the order
/// is of no consequence. `kept` are the users of all old and new keys. `by`: `None` only looks.
///
/// # Errors
/// When a key is named twice, there is no user of an old key, or one of a new key and `merge` is not set.
pub fn rekey(
    kept: &[Kept],
    keys: &[(UserId, UserId)],
    merge: bool,
    by: Option<&By>,
    now: Timestamp,
) -> Result<(Vec<Rekeyed>, Save), Needs> {
    check(keys)?;
    let mut moving = Moving::new(kept);
    let mut under = Vec::with_capacity(keys.len());
    for (old, _) in keys {
        under.push(moving.leave(old)?);
    }
    let mut rekeyed = Vec::with_capacity(keys.len());
    for ((old, new), under) in keys.iter().zip(under) {
        rekeyed.push(moving.arrive((old, new), under, merge, by, now)?);
    }
    Ok((rekeyed, moving.save()))
}

fn check(keys: &[(UserId, UserId)]) -> Result<(), Needs> {
    let (mut old, mut new) = (BTreeSet::new(), BTreeSet::new());
    for (from, to) in keys {
        if from == to {
            return Err(Needs::Undone(format!("`{from}` is the old and the new key; expected two")));
        }
        if !old.insert(from) {
            return Err(Needs::Undone(format!("`{from}` is named twice as an old key")));
        }
        if !new.insert(to) {
            return Err(Needs::Undone(format!(
                "`{to}` is named twice as a new key; rekey one of them, then the other with `--merge`"
            )));
        }
    }
    Ok(())
}

/// Who was under an old key: a user, by place, or an erased person.
enum Under {
    User(usize),
    Erased(Bound),
}

struct Person {
    number: i64,
    record: Record,
    changes: Changes,
}

#[derive(Default)]
struct Moving {
    /// In the order of those who were asked for.
    people: Vec<Option<Person>>,
    places: BTreeMap<UserId, usize>,
    bound: BTreeMap<UserId, Bound>,
    /// Erased people of whom something else binds than before.
    touched: BTreeSet<UserId>,
    unnamed: Vec<Entry>,
}

impl Moving {
    fn new(kept: &[Kept]) -> Self {
        let mut moving = Self::default();
        for (place, Kept { user, number, record, erased, .. }) in kept.iter().enumerate() {
            let person = record.clone().zip(*number).map(|(record, number)| {
                moving.places.insert(user.clone(), place);
                Person { number, record, changes: Changes::default() }
            });
            moving.people.push(person);
            if let Some(bound) = erased {
                moving.bound.insert(user.clone(), bound.clone());
            }
        }
        moving
    }

    fn leave(&mut self, old: &UserId) -> Result<Under, Needs> {
        if let Some(place) = self.places.remove(old) {
            return Ok(Under::User(place));
        }
        let bound = self.bound.remove(old).ok_or_else(|| Needs::Undone(format!("there is no user `{old}`")))?;
        self.touched.insert(old.clone());
        Ok(Under::Erased(bound))
    }

    fn person(&mut self, place: usize) -> Option<&mut Person> {
        self.people.get_mut(place).and_then(Option::as_mut)
    }

    fn arrive(
        &mut self,
        (old, new): (&UserId, &UserId),
        under: Under,
        merge: bool,
        by: Option<&By>,
        now: Timestamp,
    ) -> Result<Rekeyed, Needs> {
        let there = self.places.get(new).copied();
        let erased = matches!(under, Under::Erased(_));
        let place = match (under, there) {
            // Looking tells the outcome of merging; acting asks for the word.
            (Under::User(_), Some(_)) if !merge && by.is_some() => {
                return Err(Needs::Undone(format!(
                    "there is `{new}` already; `--merge` (in the API `merge`) makes one of the two"
                )));
            }
            (Under::User(from), Some(into)) => {
                self.join(from, into, by);
                Some(into)
            }
            (Under::User(from), None) => {
                self.places.insert(new.clone(), from);
                if let Some(person) = self.person(from) {
                    person.changes.key = Some(new.clone());
                }
                // The person who was erased under the new key is back.
                if let Some(bound) = self.bound.remove(new) {
                    self.touched.insert(new.clone());
                    self.bind(from, &bound);
                }
                Some(from)
            }
            (Under::Erased(bound), Some(into)) => {
                self.bind(into, &bound);
                Some(into)
            }
            (Under::Erased(bound), None) => {
                self.bound.entry(new.clone()).or_default().absorb(&bound);
                self.touched.insert(new.clone());
                None
            }
        };
        Ok(self.note((old, new), (there.is_some(), erased), place, by, now))
    }

    fn bind(&mut self, place: usize, bound: &Bound) {
        if let Some(person) = self.person(place) {
            person.record.bind(bound);
        }
    }

    /// Makes one user of two.
    fn join(&mut self, from: usize, into: usize, by: Option<&By>) {
        let Some(gone) = self.person(from) else { return };
        gone.changes.into = Some(into);
        let (number, record) = (gone.number, gone.record.clone());
        let Some(stays) = self.person(into) else { return };
        stays.record.absorb(&record);
        if let Some(by) = by {
            let detail = MergedDetail { by: &by.name, into: stays.number };
            stays.changes.audit.push(Entry { about: About::Former(number), ..Entry::new(MERGED, &detail) });
        }
    }

    /// Tells what became of a key, and says so in the audit.
    fn note(
        &mut self,
        (old, new): (&UserId, &UserId),
        (merged, erased): (bool, bool),
        place: Option<usize>,
        by: Option<&By>,
        now: Timestamp,
    ) -> Rekeyed {
        let found = place.and_then(|place| self.people.get_mut(place)?.as_mut());
        let (disabled, denies, assigned): (bool, Vec<Target>, Vec<Target>) = match &found {
            Some(Person { record, .. }) => {
                let by_hand = record.holdings.keys().filter(|grant| grant.source == Source::Assigned);
                let assigned = by_hand.map(|grant| grant.target.clone()).collect();
                (record.disabled.is_some(), record.denies.keys().cloned().collect(), assigned)
            }
            None => {
                let bound = self.bound.get(new).cloned().unwrap_or_default();
                (bound.disabled.is_some(), bound.denied(now).into_iter().collect(), Vec::new())
            }
        };
        if let Some(by) = by {
            let (denies, assigned) = (denies.len(), assigned.len());
            let detail = RekeyedDetail { by: &by.name, merged, erased, disabled, denies, assigned };
            let entry = Entry::new("user_rekeyed", &detail);
            match found {
                // Both keys are personal: the row is of the person as they were, and of the person as they are.
                Some(Person { number, changes, .. }) => {
                    changes.audit.extend([old, new].map(|user| Entry {
                        about: About::Other { number: *number, user: user.clone() },
                        ..entry.clone()
                    }));
                }
                None => self.unnamed(entry),
            }
        }
        Rekeyed { old: old.clone(), new: new.clone(), merged, erased, disabled, denies, assigned }
    }

    /// Rows about erased people name no user.
    fn unnamed(&mut self, entry: Entry) {
        let unnamed = Entry { about: About::NoUser, ..entry };
        self.unnamed.extend([unnamed.clone(), unnamed]);
    }

    fn save(self) -> Save {
        let Self { people, bound, touched, unnamed, .. } = self;
        let mut save = Save::default();
        for person in people {
            let Some(Person { record, mut changes, .. }) = person else {
                save.people.push(Changes::default());
                continue;
            };
            changes.record = Some(record);
            save.people.push(changes);
        }
        let bound = touched.into_iter().map(|user| (bound.get(&user).cloned().unwrap_or_default(), user));
        save.shared.bound = bound.map(|(bound, user)| (Bearer::User(user), bound)).collect();
        save.shared.audit = unnamed;
        save
    }
}
