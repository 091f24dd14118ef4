//! What an operator, or a client of an API, does about one user.

use std::collections::BTreeMap;

use super::asked::{Act, By};
use super::{Changes, Kept, Needs, Save, audit, lapse};
use crate::ids::{Target, Timestamp, UserId};
use crate::mapping::condition::alike;
use crate::plan::{Grant, Source};
use crate::record::{Bound, Deny, Disabled, Holding, Record, Rest};

/// The outcome of an act.
///
/// # Errors
/// When it would change nothing: a script that repeats itself should hear it.
pub fn act(kept: &Kept, act: &Act, by: &By, now: Timestamp) -> Result<Changes, Needs> {
    if let (Some(found), Some(current)) = (by.epoch, kept.epoch)
        && found < current
    {
        return Err(Needs::Undone("the rules were changed meanwhile; try again".into()));
    }
    if let Act::Deny { until: Some(until), .. } = act
        && *until <= now
    {
        return Err(Needs::Undone(format!("`until` is {until}, which is past; expected a time in the future")));
    }
    let mut changes = Changes::default();
    let changed = match &kept.record {
        Some(_) if matches!(act, Act::Create { .. }) => false,
        Some(record) => on_record(record.clone(), act, by, now, &mut changes),
        None if act.creates() => {
            let mut record = Record::new(now);
            if let Act::Create { email, display_name, enabled } = act {
                record.email.clone_from(email);
                record.display_name.clone_from(display_name);
                record.disabled = (!enabled).then_some(Disabled { at: now, by: None });
            }
            record.bind(kept.erased.as_ref().unwrap_or(&Bound::default()));
            on_record(record, act, by, now, &mut changes)
        }
        None => on_erased(kept, act, &mut changes)?,
    };
    if !changed {
        return Err(Needs::Undone(nothing_to_do(&kept.user, act)));
    }
    let about = match (act.erases(), changes.record.is_some()) {
        (true, _) => audit::About::Number,
        (false, true) => audit::About::Person { email: None },
        (false, false) => audit::About::NoUser,
    };
    changes.audit.push(audit::act(act.event(), act, &by.name, about));
    Ok(changes)
}

/// The outcome of acts on several users, one after another; all are carried out, or none.
///
/// # Errors
/// As for [`act`].
pub fn acts(kept: &[Kept], acts: &[(UserId, Act)], by: &By, now: Timestamp) -> Result<Save, Needs> {
    let mut people = kept.to_vec();
    let mut save = Save { people: vec![Changes::default(); kept.len()], ..Save::default() };
    let places: BTreeMap<&UserId, usize> = kept.iter().enumerate().map(|(at, kept)| (&kept.user, at)).collect();
    for (user, act) in acts {
        let found = places.get(user).and_then(|at| Some((people.get_mut(*at)?, save.people.get_mut(*at)?)));
        let Some((person, all)) = found else { continue };
        if all.erased.is_some() {
            return Err(Needs::Undone(format!("`{user}` is erased by this call; expected no later change to them")));
        }
        let mut changes = self::act(person, act, by, now)?;
        changes.audit.splice(0..0, std::mem::take(&mut all.audit));
        if let Some(record) = &changes.record {
            (person.record, person.erased) = (Some(record.clone()), None);
        }
        *all = changes;
    }
    Ok(save)
}

/// Carries an act out on a record. `false` where it changes nothing.
fn on_record(mut record: Record, act: &Act, by: &By, now: Timestamp, changes: &mut Changes) -> bool {
    let changed = match act {
        Act::Assign(target) => assign(&mut record, target, by, now),
        Act::Unassign(target) => record.holdings.remove(&by_hand(target)).is_some(),
        Act::Deny { target, reason, until } => {
            let (by, reason) = (by.name.clone(), reason.clone());
            // One past its `until` may lie there yet. It has ended, and must not keep a new one out.
            lapse::expire(&mut record, changes, now);
            let is_new = !record.denies.contains_key(target);
            record.denies.entry(target.clone()).or_insert(Deny {
                at: now,
                by,
                reason,
                until: *until,
                rest: Rest::new(),
            });
            record.ends_by(*until);
            is_new
        }
        Act::Undeny(target) => lift(&mut record.denies, target),
        // An operator's disabling stands whatever becomes of a mapping's.
        Act::Disable => {
            let by_operator = record.disabled.as_ref().is_some_and(|disabled| disabled.by.is_none());
            if !by_operator {
                record.disabled = Some(Disabled { at: now, by: None });
                record.stopped = None;
            }
            !by_operator
        }
        Act::Enable => record.disabled.take().is_some(),
        Act::Create { .. } => true,
        Act::Rename(name) => record.display_name.replace(name.clone()).as_ref() != Some(name),
        Act::Erase | Act::Forget => {
            let denies = std::mem::take(&mut record.denies).into_iter().map(|(target, deny)| {
                // What was written about the person goes with them.
                let reason = String::from("denied before the person was erased");
                (target, Deny { reason, rest: Rest::new(), ..deny })
            });
            let bound = Bound { disabled: record.disabled.take(), denies: denies.collect() };
            changes.erased = Some(if matches!(act, Act::Erase) { bound } else { Bound::default() });
            return true;
        }
    };
    changes.record = changed.then_some(record);
    changed
}

fn by_hand(target: &Target) -> Grant {
    Grant { target: target.clone(), source: Source::Assigned }
}

/// An administrator who assigns what a lesser client has assigned vouches for it.
fn assign(record: &mut Record, target: &Target, by: &By, now: Timestamp) -> bool {
    let key = by_hand(target);
    let vouched = record.holdings.get(&key).map(|holding| holding.as_admin == Some(true));
    let changes = vouched.is_none() || (vouched == Some(false) && by.admin);
    if changes {
        let hand = Holding { granted_by: by.name.clone(), as_admin: Some(by.admin), ..Holding::mapped(now) };
        record.holdings.insert(key, hand);
    }
    changes
}

/// Lifts denies of a name, whatever its case. `false` where there is none.
fn lift(denies: &mut std::collections::BTreeMap<Target, Deny>, target: &Target) -> bool {
    let wanted = alike(target.name());
    let before = denies.len();
    denies.retain(|denied, _| denied.kind() != target.kind() || alike(denied.name()) != wanted);
    denies.len() < before
}

/// What can be done about an erased person: lift what still binds them.
fn on_erased(kept: &Kept, act: &Act, changes: &mut Changes) -> Result<bool, Needs> {
    let user = &kept.user;
    let Some(bound) = &kept.erased else { return Err(Needs::Undone(format!("there is no user `{user}`"))) };
    let mut bound = bound.clone();
    let changed = match act {
        Act::Enable => bound.disabled.take().is_some(),
        Act::Undeny(target) => lift(&mut bound.denies, target),
        Act::Forget => {
            bound = Bound::default();
            true
        }
        _ => {
            return Err(Needs::Undone(format!(
                "`{user}` was erased; denies and a disabled state that still apply can be lifted (`enable`, \
                 `undeny`) or forgotten (`erase --forget`)"
            )));
        }
    };
    changes.erased = Some(bound);
    Ok(changed)
}

fn nothing_to_do(user: &UserId, act: &Act) -> String {
    match act {
        Act::Assign(target) => format!("{target} is already assigned to `{user}`"),
        Act::Unassign(target) => format!(
            "{target} is not assigned to `{user}` by hand; what a mapping grants ends with the mapping or the claim, \
             or by a deny"
        ),
        Act::Deny { target, .. } => format!("{target} is already denied to `{user}`"),
        Act::Undeny(target) => format!("{target} is not denied to `{user}`"),
        Act::Disable => format!("`{user}` is already disabled"),
        Act::Enable => format!("`{user}` is not disabled"),
        Act::Create { .. } => format!("there is `{user}` already"),
        Act::Rename(_) => format!("`{user}` has this name already"),
        Act::Erase | Act::Forget => format!("there is no user `{user}`"),
    }
}
