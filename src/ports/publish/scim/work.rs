//! What is to be done about one user at a server: decided before anything is asked of it.

use std::collections::BTreeSet;

use super::super::{Notice, Progress, Told};
use crate::config::{Scim, ScimUsers, UserNameSource};

/// How a user of ours is called in every app.
pub fn external_id(told: &Told) -> String {
    format!("{}/{}", told.namespace, told.subject)
}

/// What is to be done about one user.
pub struct Work<'n> {
    pub told: &'n Told,
    /// The groups that they hold.
    pub wanted: BTreeSet<String>,
    /// Those of which the receiver has confirmed that they are in.
    confirmed: BTreeSet<String>,
    /// Those that they hold no more, and were put into by us.
    lost: BTreeSet<String>,
    /// Those of the wanted ones that others put them into.
    pub foreign: BTreeSet<String>,
    /// Those that they may be in by us.
    known: BTreeSet<String>,
    /// Those of the wanted ones that an earlier try of this version has brought them into.
    done: BTreeSet<String>,
    pub active: Option<bool>,
    authoritative: bool,
    adopts: bool,
}

impl<'n> Work<'n> {
    /// `None` where nothing is to be done.
    pub fn of(notice: &'n Notice, scim: &Scim) -> Option<Self> {
        let told = notice.after.as_ref().or(notice.before.as_ref()).or(notice.known.as_ref())?;
        let wanted = notice.after.as_ref().map(|after| after.groups.clone()).unwrap_or_default();
        let known = notice.known.as_ref();
        let mut foreign = known.map(|it| it.foreign.clone()).unwrap_or_default();
        let progress = known.and_then(|it| it.progress.clone());
        let progress = progress.filter(|progress| progress.version == notice.version).unwrap_or_default();
        foreign.extend(progress.foreign);
        // What was to be sent and never was is not there by us.
        let knows: BTreeSet<String> =
            known.map(|it| it.groups.difference(&it.unsent).cloned().collect()).unwrap_or_default();
        let confirmed = match &notice.before {
            Some(before) if !notice.is_uncertain => before.groups.clone(),
            _ => BTreeSet::new(),
        };
        let stays = |name: &&String| wanted.contains(*name) || (foreign.contains(*name) && !scim.authoritative);
        let lost = knows.iter().filter(|name| !stays(name)).cloned().collect();
        let enabled = notice.after.as_ref().is_some_and(|after| after.enabled);
        let was = |enabled: bool| notice.before.iter().chain(known).any(|told| told.enabled == enabled);
        // Who was switched off there by others is not switched on.
        let changes = was(!enabled) || (!enabled && notice.is_uncertain);
        let active = (scim.users == ScimUsers::CreateAndDeactivate && changes).then_some(enabled);
        let renamed = match (&notice.before, &notice.after) {
            (Some(before), Some(after)) => {
                let name = match scim.user_name {
                    UserNameSource::Subject => false,
                    UserNameSource::Email => before.email != after.email,
                    UserNameSource::Name => before.name != after.name,
                };
                name || (&before.namespace, &before.subject) != (&after.namespace, &after.subject)
            }
            _ => false,
        };
        let work = Self {
            told,
            confirmed,
            lost,
            foreign: foreign.intersection(&wanted).cloned().collect(),
            known: knows,
            done: progress.done,
            active,
            authoritative: scim.authoritative,
            // A group that was renamed here had its members from us.
            adopts: notice.cause == "renamed",
            wanted,
        };
        let is_done = work.lost.is_empty() && work.wanted.is_subset(&work.confirmed) && work.active.is_none();
        (!is_done || renamed).then_some(work)
    }

    /// Losses first, so that no user has both.
    pub fn steps(&self, is_new: bool) -> impl Iterator<Item = (&String, bool)> {
        let is_in = |name: &String| self.confirmed.contains(name) || self.done.contains(name);
        let missing = self.wanted.iter().filter(move |name| is_new || !is_in(name));
        self.lost.iter().map(|name| (name, false)).chain(missing.map(|name| (name, true)))
    }

    /// How far an earlier try has come.
    pub fn progress(&self, version: i64) -> Progress {
        Progress { version, done: self.done.clone(), foreign: BTreeSet::new() }
    }

    /// Whether a membership that is there already may be another's.
    pub fn may_be_foreign(&self, name: &String) -> bool {
        !self.authoritative && !self.adopts && !self.known.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ScimLogin, Secret};
    use crate::pipeline::ids::Timestamp;

    fn told(groups: &[&str]) -> Told {
        let groups = groups.iter().map(|name| (*name).to_owned()).collect();
        Told { namespace: "idp".into(), subject: "alice".into(), enabled: true, groups, ..Told::default() }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        told(names).groups
    }

    fn scim(users: ScimUsers, authoritative: bool) -> Scim {
        Scim {
            login: ScimLogin::Token(Secret::new(Vec::new())),
            user_name: UserNameSource::Subject,
            users,
            create_groups: false,
            authoritative,
        }
    }

    fn notice(before: Option<Told>, tried: Option<Told>, after: Option<Told>) -> Notice {
        Notice {
            number: 1,
            version: 2,
            known: tried.clone().or_else(|| before.clone()),
            is_uncertain: tried.is_some(),
            before,
            after,
            is_for_receiver: true,
            reasons: Vec::new(),
            cause: "login".into(),
            login: None,
            now: Timestamp(0),
        }
    }

    #[test]
    fn what_is_to_be_done_follows_from_what_was_told_and_what_may_have_been() {
        let disabled = |groups: &[&str]| Told { enabled: false, ..told(groups) };
        let foreign = |groups: &[&str], foreign: &[&str]| Told { foreign: set(foreign), ..told(groups) };
        let unsent = |groups: &[&str], unsent: &[&str]| Told { unsent: set(unsent), ..told(groups) };
        let (usual, owner) = (scim(ScimUsers::CreateAndDeactivate, false), scim(ScimUsers::Create, true));
        // What was delivered, what may have been since, and what they hold; then the steps, and the access.
        for (scim, before, tried, after, steps, active) in [
            (&usual, None, None, Some(told(&[])), None, None),
            (&usual, None, None, Some(told(&["A"])), Some("+A"), None),
            (&usual, Some(told(&["A"])), None, Some(told(&["A"])), None, None),
            (&usual, Some(told(&["A", "B"])), None, Some(told(&["B", "C"])), Some("-A +C"), None),
            // A removal that was tried may have been made.
            (&usual, Some(told(&["A"])), Some(told(&["A"])), Some(told(&["A"])), Some("+A"), None),
            // What was never sent is not there by us.
            (&usual, None, Some(unsent(&["A", "B"], &["B"])), Some(told(&[])), Some("-A"), None),
            (&usual, Some(foreign(&["A", "B"], &["A"])), None, Some(told(&[])), Some("-B"), None),
            (&owner, Some(foreign(&["A", "B"], &["A"])), None, Some(told(&[])), Some("-A -B"), None),
            (&usual, Some(told(&["A"])), None, Some(disabled(&[])), Some("-A"), Some(false)),
            (&usual, None, Some(told(&["A"])), Some(disabled(&[])), Some("-A"), Some(false)),
            (&usual, Some(disabled(&[])), None, Some(told(&["A"])), Some("+A"), Some(true)),
            (&usual, Some(told(&[])), Some(disabled(&[])), Some(told(&["A"])), Some("+A"), Some(true)),
            (&usual, Some(told(&["A"])), None, None, Some("-A"), Some(false)),
            (&owner, Some(told(&["A"])), None, None, Some("-A"), None),
            (&owner, Some(told(&[])), None, Some(disabled(&[])), None, None),
        ] {
            let notice = notice(before, tried, after);
            let work = Work::of(&notice, scim);
            let found = work.as_ref().map(|work| {
                let step = |(name, is_in): (&String, bool)| format!("{}{name}", if is_in { "+" } else { "-" });
                work.steps(false).map(step).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(found.as_deref(), steps, "{notice:?}");
            assert_eq!(work.and_then(|work| work.active), active, "{notice:?}");
        }
    }

    #[test]
    fn a_membership_that_is_there_already_is_another_s_unless_we_may_have_given_it() {
        let usual = scim(ScimUsers::Create, false);
        let sent = Told { unsent: set(&["B"]), ..told(&["A", "B"]) };
        let retried = notice(None, Some(sent), Some(told(&["A", "B", "C"])));
        let work = Work::of(&retried, &usual).unwrap();
        let foreign: Vec<bool> = ["A", "B", "C"].map(|name| work.may_be_foreign(&name.to_owned())).into();
        assert_eq!(foreign, [false, true, true]);
        let owner = scim(ScimUsers::Create, true);
        assert!(!Work::of(&retried, &owner).unwrap().may_be_foreign(&"C".to_owned()));
    }
}
