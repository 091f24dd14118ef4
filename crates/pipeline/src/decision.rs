//! The decision about users: from what is kept of them, and what is asked, to what is kept from now on.
//!
//! Pure functions. A store reads what it keeps ([`Kept`]), calls a step, and answers the questions that the step comes back
//! with ([`Needs`]), until the step has decided. Then it writes the difference between the records, the tokens, the windows of
//! the brake and the rows of the audit. No store has rules of its own.
//!
//! ```text
//! login      a verified login: replay, disabled, leases, gates, disabling mappings, brake, last holders
//! preview    the outcome of a login
//! replan     the outcome of recorded claims under other rules
//! release    what the brake held, without the brake
//! discard    forgets what the brake held
//! reap       leases and denies that have ended
//! act        what an operator does
//! enable     whom a mapping disabled
//! restored   what a restored store refuses
//! rekey      a person's new key
//! adopt      other rules: what ends by them, and what it is refused for
//! sweep      what is left to do of that, one user after another
//! ```

mod act;
mod adopt;
mod adopted;
mod asked;
mod audit;
mod brake;
mod confirmed;
pub mod denies;
mod disabling;
mod facts;
mod guard;
mod hold;
mod lapse;
mod privileged;
pub mod recorded;
mod rekey;
mod replan;
pub mod restored;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use self::act::{act, acts};
pub use self::adopt::{Adopted, Change as RulesChange, Remarks, adopt, confirm, excesses, expire};
pub use self::adopted::{adopted_targets, has_other_leases};
pub use self::asked::{Act, By, ERASED};
pub use self::audit::{About, Entry, RefusalDetail, refused};
pub use self::confirmed::{Confirmation, confirm as confirm_client};
pub use self::disabling::{Selector, enable, enable_erased, erased_by};
pub use self::facts::{Disablings, Excess, Facts, GrantOf, Needs, Other, Question, RunningWindow, Window};
pub use self::hold::{Held, Settled, discard, judge, release};
pub use self::lapse::{Ended, reap, renew};
pub use self::privileged::{Unvouched, unvouched};
pub use self::rekey::{MERGED, Rekeyed, rekey};
pub use self::replan::{is_planned, planned, replan};
pub use self::restored::{noted, restored};
pub use self::work::Work;
use super::claims::arrived::ArrivedNames;
use super::ids::{ProviderName, Target, Timestamp, UserId};
use super::mapping::stored::Stored;
use super::mapping::{Candidates, RuleSet, holds_by_claim};
use super::plan::{self, Plan, Refused, Snapshot, by_role_or_claim};
use super::record::{Bound, Disabled, ProviderLogin, Record};
use super::verify::Spending;

/// A verified login, ready to be applied.
#[derive(Debug, Clone)]
pub struct Login {
    pub id: String,
    pub provider: ProviderName,
    pub issuer: String,
    pub user: UserId,
    pub email: Option<String>,
    pub display_name: Option<String>,
    pub token_id: String,
    /// `None` where no token says: the provider was asked just now, so that nothing is newer, and the watermark stays.
    pub issued_at: Option<Timestamp>,
    pub spending: Spending,
    /// Until when a second arrival of this token is recognised: past it, its expiry or its age refuses it under every
    /// configuration.
    pub remember_until: Timestamp,
    pub now: Timestamp,
    pub binding: &'static str,
    pub claims: Vec<ClaimSummary>,
    /// What the provider sent, by name.
    pub arrived: Vec<ArrivedNames>,
}

/// What a claim brought, for the audit: its state and how much, never its values except the mapped ones.
#[derive(Debug, Clone, Serialize)]
pub struct ClaimSummary {
    pub name: String,
    pub state: &'static str,
    pub values: usize,
    pub skipped: usize,
}

/// What became of a login.
#[derive(Debug, Clone)]
pub enum Applied {
    /// Durably committed.
    Committed(Box<Plan>),
    /// This token was here before. Recorded, once.
    Replay,
    /// An operator, or a mapping, disabled the user. Recorded.
    Disabled,
    /// A gate keeps the person out. Recorded.
    Gated {
        gate: String,
        /// For the person.
        message: String,
    },
    /// The token was issued before the store was restored from a backup, which has forgotten whether it was used. Recorded.
    BeforeRestore { at: Timestamp, restored: Timestamp },
    /// The rules have changed since the candidates were computed; nothing was written.
    Stale,
}

/// What would become of a login.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Of a login that is refused, what it would change were it not.
    pub plan: Plan,
    /// What it was decided on.
    pub snapshot: Snapshot,
    /// The user was there before.
    pub known: bool,
    pub enabled: bool,
    /// This token was here before: it would be refused as a replay.
    pub spent: bool,
    /// It was issued before this moment, at which the store was restored: it would be refused.
    pub restored: Option<Timestamp>,
}

/// What is kept of one user, as far as a decision reads it.
#[derive(Debug, Clone)]
pub struct Kept {
    pub user: UserId,
    /// By which the audit names the user. `None` where there is no record.
    pub number: Option<i64>,
    /// `None`: no user has this key.
    pub record: Option<Record>,
    /// What binds the user, who was erased. Only where there is no record.
    pub erased: Option<Bound>,
    pub token: Seen,
    /// Of the rules that were adopted last; `None` before the first.
    pub epoch: Option<u64>,
    /// When the store was restored from a backup: tokens that were issued before are refused.
    pub restored: Option<Timestamp>,
}

impl Kept {
    /// When the token of a login was issued, and when the store was restored, if that was later.
    fn forgotten(&self, login: &Login) -> Option<(Timestamp, Timestamp)> {
        login.issued_at.zip(self.restored).filter(|(at, restored)| at < restored)
    }

    fn is_disabled(&self) -> bool {
        let of = |disabled: Option<&Disabled>| disabled.is_some();
        of(self.record.as_ref().and_then(|record| record.disabled.as_ref()))
            || of(self.erased.as_ref().and_then(|bound| bound.disabled.as_ref()))
    }
}

/// What was done with a token before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// It logged its user in, or was about to.
    pub spent: bool,
    /// It was refused, and the audit has a row of that.
    pub refused: bool,
}

impl Seen {
    /// What is true of either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { spent: self.spent || other.spent, refused: self.refused || other.refused }
    }
}

/// What is kept of one user from now on.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// `None`: nothing of the user changes.
    pub record: Option<Record>,
    /// The user is erased: their record and their personal fields go, and this still binds them. Of a person who was erased before:
    /// what binds them from now on.
    pub erased: Option<Bound>,
    /// The user has another key from now on.
    pub key: Option<UserId>,
    /// The user becomes one with another of those who were asked for, by place: their row goes.
    pub into: Option<usize>,
    /// What to record of the token in addition to what is recorded.
    pub token: Seen,
    /// Windows of the brake in which the user was counted now.
    pub windows: BTreeMap<(ProviderName, Target), Window>,
    pub audit: Vec<Entry>,
}

/// What a step has decided.
#[derive(Debug, Default)]
pub struct Save {
    /// Of the users who were asked for, in their order. Of those beyond the end nothing changes.
    pub people: Vec<Changes>,
    pub shared: Shared,
}

impl Save {
    /// Whether nothing is to be written.
    pub fn is_nothing(&self) -> bool {
        let Shared { epoch, notes, ended_windows, work, done, token, catalogue, bound, audit, restored } = &self.shared;
        let untouched = |changes: &Changes| {
            let Changes { record, erased, key, into, token, windows, audit } = changes;
            record.is_none()
                && erased.is_none()
                && key.is_none()
                && into.is_none()
                && *token == Seen::default()
                && windows.is_empty()
                && audit.is_empty()
        };
        self.people.iter().all(untouched)
            && epoch.is_none()
            && notes.is_empty()
            && ended_windows.is_empty()
            && work.is_none()
            && done.is_empty()
            && *token == Seen::default()
            && catalogue.is_none()
            && bound.is_empty()
            && restored.is_none()
            && audit.is_empty()
    }
}

impl From<Changes> for Save {
    fn from(changes: Changes) -> Self {
        Self { people: vec![changes], shared: Shared::default() }
    }
}

/// What is kept of everybody together.
#[derive(Debug, Default)]
pub struct Shared {
    /// These rules are the current ones.
    pub epoch: Option<u64>,
    /// Small facts by name; `None`: forgotten.
    pub notes: BTreeMap<String, Option<Vec<u8>>>,
    /// Windows of the brake that end.
    pub ended_windows: BTreeSet<(ProviderName, Target)>,
    /// What is left to do after a change of the rules.
    pub work: Option<Work>,
    /// Work that is done, by number.
    pub done: Vec<i64>,
    /// What to record of the token in addition to what is recorded.
    pub token: Seen,
    pub catalogue: Option<Written>,
    /// The store was restored from a backup: from now on tokens are refused that were issued before this moment. All sessions and
    /// access tokens end, and what is written goes on from here, wherever the database is now.
    pub restored: Option<Timestamp>,
    /// What binds erased people from now on; nothing: they are forgotten.
    pub bound: Vec<(Bearer, Bound)>,
    pub audit: Vec<Entry>,
}

/// An erased person.
#[derive(Debug, Clone)]
pub enum Bearer {
    User(UserId),
    /// By the digest that is left of their key.
    Digest(Vec<u8>),
}

/// What the mapping APIs have made, before and after.
#[derive(Debug, Clone)]
pub struct Written {
    pub before: std::sync::Arc<Stored>,
    pub after: std::sync::Arc<Stored>,
    /// Groups and roles with their new names.
    pub renamed: Vec<(Target, Target)>,
    /// Groups and roles that are gone: their grants end, and no later one of the name has them.
    pub gone: Vec<Target>,
}

/// The outcome of a login.
///
/// # Errors
/// When facts about other users are missing.
pub fn login(
    kept: &Kept,
    login: &Login,
    candidates: &Candidates,
    rules: &RuleSet,
    facts: &Facts,
    unfinished: &mut Unfinished,
) -> Result<(Applied, Changes), Needs> {
    let mut changes = Changes::default();
    if kept.epoch.is_some_and(|epoch| rules.epoch < epoch) {
        return Ok((Applied::Stale, changes));
    }
    changes.token.spent = login.spending == Spending::Once;
    if changes.token.spent && kept.token.spent {
        changes.refuse(kept, login, "replay", "this token was used before", false);
        return Ok((Applied::Replay, changes));
    }
    if let Some((at, restored)) = kept.forgotten(login) {
        // It stays what it was, so that it is told the same again.
        changes.token.spent = false;
        let reason = "the token was issued before the store was restored";
        changes.refuse(kept, login, "before_restore", reason, false);
        return Ok((Applied::BeforeRestore { at, restored }, changes));
    }
    if kept.is_disabled() {
        changes.refuse(kept, login, "disabled", "the user is disabled", true);
        return Ok((Applied::Disabled, changes));
    }
    let Planned { mut plan, mut record, snapshot: _, windows, ended } =
        plan_for(kept, login, candidates, rules, facts, unfinished)?;
    changes.audit.extend(ended);
    match plan.refused.take() {
        Some(Refused::Gate { name, message, .. }) => {
            changes.record = kept.record.is_some().then_some(record);
            changes.refuse(kept, login, "gate", &format!("refused by gate `{name}`"), true);
            return Ok((Applied::Gated { gate: name.to_string(), message }, changes));
        }
        Some(Refused::Disables(by)) => {
            know(&mut record, login);
            record.disabled = Some(Disabled { at: login.now, by: Some((by.mapping, by.label.clone())) });
            record.stopped = None;
            changes.record = Some(record);
            changes.refuse(kept, login, "disabled", &format!("mapping `{}` disables the user", by.label), true);
            return Ok((Applied::Disabled, changes));
        }
        None => {}
    }
    know(&mut record, login);
    disabling::note_stopped(&mut record, &plan, login.now);
    record.carry_out(&plan, rules.lease(&login.provider).is_some(), login.now);
    note_login(&mut record, login, candidates, &plan, rules);
    brake::note_counted(&mut record, &windows);
    record.ends_by(record.ends_at(rules));
    changes.windows = windows;
    changes.audit.push(audit::login(login, &plan, rules));
    changes.record = Some(record);
    Ok((Applied::Committed(Box::new(plan)), changes))
}

/// What [`login`] would come to. A token that was here before is planned as if it came for the first time.
///
/// # Errors
/// When facts about other users are missing.
pub fn preview(
    kept: &Kept,
    login: &Login,
    candidates: &Candidates,
    rules: &RuleSet,
    facts: &Facts,
) -> Result<Preview, Needs> {
    let Planned { plan, snapshot, .. } = plan_for(kept, login, candidates, rules, facts, &mut Unfinished::default())?;
    let (known, enabled, spent) = (kept.record.is_some(), !kept.is_disabled(), kept.token.spent);
    let restored = kept.forgotten(login).map(|(_, restored)| restored);
    Ok(Preview { plan, snapshot, known, enabled, spent, restored })
}

impl Changes {
    /// Notes that a login was refused, once for each token. `about`: the row is about the user, where there is one.
    fn refuse(&mut self, kept: &Kept, login: &Login, outcome: &'static str, reason: &str, about: bool) {
        let about = about && (kept.record.is_some() || self.record.is_some());
        // Every user has a row that tells how they came, even by a token that was refused before.
        let is_new = kept.record.is_none() && self.record.is_some();
        if !kept.token.refused || is_new {
            self.token.refused = true;
            self.audit.push(audit::refusal(login, outcome, reason, about));
        }
    }
}

/// A plan, and what goes with it.
struct Planned {
    plan: Plan,
    /// As it was, less the leases that have ended.
    record: Record,
    snapshot: Snapshot,
    windows: BTreeMap<(ProviderName, Target), Window>,
    ended: Option<Entry>,
}

/// What of a login was planned before facts were missing, so that it is not planned again with these.
#[derive(Debug, Default)]
pub struct Unfinished(Option<Box<Draft>>);

#[derive(Debug)]
struct Draft {
    record: Record,
    snapshot: Snapshot,
    plan: Plan,
    ended: Option<Entry>,
}

impl Unfinished {
    /// For the same login and rules. A store that begins again may have read another record.
    fn take(&mut self, kept: &Kept) -> Option<Draft> {
        self.0.take().filter(|draft| kept.record.as_ref() == Some(&draft.record)).map(|draft| *draft)
    }
}

/// What the login changes, after the brake and the last holders of protected targets were looked after. A plan that is
/// refused is a draft.
fn plan_for(
    kept: &Kept,
    login: &Login,
    candidates: &Candidates,
    rules: &RuleSet,
    facts: &Facts,
    unfinished: &mut Unfinished,
) -> Result<Planned, Needs> {
    let known = kept.record.is_some();
    let mut draft = match unfinished.take(kept) {
        Some(draft) => draft,
        None => draft_for(kept, login, candidates, rules, facts)?,
    };
    let (record, snapshot) = (&draft.record, &draft.snapshot);
    if let (Some(Refused::Disables(by)), true) = (&draft.plan.refused, known)
        && let Some(why) = disabling::spared(by, &draft.plan, snapshot, rules, facts, login.now)?
    {
        draft.plan.spare(why);
    }
    let mut windows = BTreeMap::new();
    if draft.plan.refused.is_none() {
        windows = match brake::hold(&mut draft.plan, snapshot, record, rules, facts, login.now) {
            Ok(windows) => windows,
            // The record is as it was read.
            Err(needs) if draft.ended.is_none() => {
                unfinished.0 = Some(Box::new(draft));
                return Err(needs);
            }
            Err(needs) => return Err(needs),
        };
        // A new user holds nothing that could be the last of its kind.
        if known {
            guard::keep_last(&mut draft.plan, snapshot, rules, facts, login.now)?;
        }
    }
    let Draft { record, snapshot, plan, ended } = draft;
    Ok(Planned { plan, record, snapshot, windows, ended })
}

/// What the login changes, as far as no facts about others tell.
fn draft_for(
    kept: &Kept,
    login: &Login,
    candidates: &Candidates,
    rules: &RuleSet,
    facts: &Facts,
) -> Result<Draft, Needs> {
    let provider = &login.provider;
    let known = kept.record.is_some();
    let mut record = kept.record.clone().unwrap_or_else(|| {
        let mut record = Record::new(login.now);
        record.bind(kept.erased.as_ref().unwrap_or(&Bound::default()));
        record
    });
    let ended = if known { lapse::end(&mut record, provider, rules, facts, login.now)? } else { None };
    let snapshot = snapshot(&record, &login.user, provider, rules, login.now);
    // What the provider was asked for just now is newer than any token.
    let issued_at = login.issued_at.or(snapshot.watermark).unwrap_or(login.now);
    let mut plan = plan::draft(login.user.clone(), issued_at, login.now, candidates, &snapshot, rules);
    plan.ahead = record.logins.get(provider).map(|known| known.issued_at).filter(|_| snapshot.watermark.is_none());
    Ok(Draft { record, snapshot, plan, ended })
}

/// What a plan is made from.
fn snapshot(record: &Record, user: &UserId, provider: &ProviderName, rules: &RuleSet, now: Timestamp) -> Snapshot {
    let mut snapshot = record.snapshot(provider, now);
    let mut by_claim = BTreeSet::new();
    for (owner, mapping) in by_role_or_claim(&snapshot, provider, rules) {
        let Some(claims) = record.claims.get(owner) else { continue };
        if holds_by_claim(&mapping.when, &recorded::read(claims, user, owner, rules)) {
            by_claim.insert((owner.clone(), mapping.id));
        }
    }
    snapshot.by_claim = by_claim;
    let bearers: Vec<Target> = snapshot.denies.iter().flat_map(|target| denies::bearers(rules, target)).collect();
    snapshot.denies.extend(bearers);
    snapshot
}

/// Keeps e-mail and name current.
fn know(record: &mut Record, login: &Login) {
    record.email.clone_from(&login.email);
    record.display_name.clone_from(&login.display_name);
}

/// The watermark, from when leases count, and what the claims were.
fn note_login(record: &mut Record, login: &Login, candidates: &Candidates, plan: &Plan, rules: &RuleSet) {
    let provider = &login.provider;
    if plan.older {
        if let Some(known) = record.logins.get_mut(provider) {
            known.last_login_at = login.now;
        }
        return;
    }
    // Where no token says, anything that comes is newer.
    let watermark = record.watermark(provider, login.now);
    let issued_at = login.issued_at.or(watermark).unwrap_or(Timestamp(i64::MIN));
    let noted = ProviderLogin { issued_at, last_login_at: login.now, renewed_at: Some(login.now) };
    record.logins.insert(provider.clone(), noted);
    match recorded::written(provider, &candidates.claims, rules) {
        Some(claims) => record.claims.insert(provider.clone(), claims),
        None => record.claims.remove(provider),
    };
}
