//! The decision about one user: from what is kept of them, and what is asked, to what is kept from now on.
//!
//! Pure functions. A store reads what it keeps ([`Kept`]), calls a step, and answers the questions about other users that the
//! step comes back with ([`Needs`]), until the step has decided. Then it writes the difference between the records, the
//! tokens, the windows of the brake and the rows of the audit. No store has rules of its own.
//!
//! ```text
//! login      a verified login: replay, disabled, leases, gates, disabling mappings, brake, last holders
//! preview    what a login would come to
//! replan     what recorded claims come to under other rules
//! release    what the brake held, without the brake
//! discard    forgets what the brake held
//! lapse      leases that have ended
//! expire     denies that have ended
//! act        what an operator does
//! ```

mod act;
mod audit;
mod brake;
pub mod denies;
mod disabling;
mod guard;
mod hold;
mod lapse;
pub mod recorded;
mod replan;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use self::act::{Act, By, ERASED, Undone, act};
pub use self::audit::{About, Entry, RefusalDetail};
pub use self::brake::Window;
pub use self::disabling::Disablings;
pub use self::hold::{Held, discard, release};
pub use self::lapse::{expire, lapse};
pub use self::replan::replan;
use super::claims::arrived::ArrivedNames;
use super::ids::{ProviderName, Target, Timestamp, UserId};
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

/// What a claim brought, for the audit: its state and how much, never its values beside the mapped ones.
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
}

/// What is kept, as far as a decision about one user reads it.
#[derive(Debug, Clone)]
pub struct Kept {
    pub user: UserId,
    /// `None`: no user has this key.
    pub record: Option<Record>,
    /// What binds the user, who was erased. Only where there is no record.
    pub erased: Option<Bound>,
    pub token: Seen,
    /// Of the rules that were adopted last; `None` before the first.
    pub epoch: Option<u64>,
}

impl Kept {
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

/// What is kept from now on.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// `None`: nothing of the user changes.
    pub record: Option<Record>,
    /// The user is erased: their record and their personal fields go, and this still binds them. Of a person who was erased before:
    /// what binds them from now on.
    pub erased: Option<Bound>,
    /// The claims to record for a provider; `None`: those that are recorded go.
    pub claims: Option<(ProviderName, Option<String>)>,
    /// What to note of the token, beside what is noted.
    pub token: Seen,
    /// Windows of the brake in which the user was counted now.
    pub windows: BTreeMap<(ProviderName, Target), Window>,
    /// An operator has judged the people whom mappings disabled: they count anew.
    pub disablings_judged: bool,
    pub audit: Vec<Entry>,
}

/// What a decision knows about other users.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub windows: BTreeMap<(ProviderName, Target), RunningWindow>,
    /// Users who hold the target through a mapping of the provider.
    pub members: BTreeMap<(ProviderName, Target), u64>,
    /// Whether another enabled user effectively holds it.
    pub held_by_another: BTreeMap<Target, bool>,
    pub disablings: Option<Disablings>,
    /// The recorded claims of the user, of every provider.
    pub claims: Option<BTreeMap<ProviderName, String>>,
}

/// The window of a target through a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunningWindow {
    pub window: Option<Window>,
    /// Whether the brake holds a revocation of it.
    pub holds: bool,
    /// Whether the user was counted in it.
    pub counted: bool,
}

/// A question that the store has to answer first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    Window(ProviderName, Target),
    Members(ProviderName, Target),
    HeldByAnother(Target),
    Disablings,
    Claims,
}

/// Why a step has not decided yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Needs {
    #[error("{} facts are missing", .0.len())]
    Facts(BTreeSet<Question>),
    #[error("{0}")]
    Unreadable(#[from] recorded::Unreadable),
}

impl Needs {
    fn one(question: Question) -> Self {
        Self::Facts(BTreeSet::from([question]))
    }
}

/// A map's values for some keys, or the questions that are open.
fn all<'a, K, V: Copy + 'a>(
    keys: impl IntoIterator<Item = K>,
    known: impl Fn(&K) -> Option<V>,
    question: impl Fn(&K) -> Question,
) -> Result<Vec<(K, V)>, Needs> {
    let (mut found, mut open) = (Vec::new(), BTreeSet::new());
    for key in keys {
        match known(&key) {
            Some(value) => found.push((key, value)),
            None => {
                open.insert(question(&key));
            }
        }
    }
    if open.is_empty() { Ok(found) } else { Err(Needs::Facts(open)) }
}

/// What a login comes to.
///
/// # Errors
/// When facts about other users are missing.
pub fn login(
    kept: &Kept,
    login: &Login,
    candidates: &Candidates,
    rules: &RuleSet,
    facts: &Facts,
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
    if kept.is_disabled() {
        changes.refuse(kept, login, "disabled", "the user is disabled", true);
        return Ok((Applied::Disabled, changes));
    }
    let Planned { mut plan, mut record, snapshot: _, windows, ended } =
        plan_for(kept, login, candidates, rules, facts)?;
    changes.audit.extend(ended);
    match plan.refused.take() {
        Some(Refused::Gate { name, message }) => {
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
    changes.claims = note_login(&mut record, login, candidates, &plan, rules);
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
    let Planned { plan, snapshot, .. } = plan_for(kept, login, candidates, rules, facts)?;
    Ok(Preview { plan, snapshot, known: kept.record.is_some(), enabled: !kept.is_disabled(), spent: kept.token.spent })
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

/// What the login changes, after the brake and the last holders of protected targets were looked after. A plan that is
/// refused is a draft.
fn plan_for(
    kept: &Kept,
    login: &Login,
    candidates: &Candidates,
    rules: &RuleSet,
    facts: &Facts,
) -> Result<Planned, Needs> {
    let provider = &login.provider;
    let known = kept.record.is_some();
    let mut record = kept.record.clone().unwrap_or_else(|| {
        let mut record = Record::new(login.now);
        record.bind(kept.erased.as_ref().unwrap_or(&Bound::default()));
        record
    });
    let ended = if known { lapse::end(&mut record, provider, rules, facts, login.now)? } else { None };
    let snapshot = snapshot(&record, &login.user, provider, rules, facts, login.now)?;
    // What the provider was asked for just now is newer than any token.
    let issued_at = login.issued_at.or(snapshot.watermark).unwrap_or(login.now);
    let mut plan = plan::draft(login.user.clone(), issued_at, login.now, candidates, &snapshot, rules);
    plan.ahead = record.logins.get(provider).map(|known| known.issued_at).filter(|_| snapshot.watermark.is_none());
    if let (Some(Refused::Disables(by)), true) = (&plan.refused, known)
        && let Some(why) = disabling::spared(by, &plan, &snapshot, rules, facts)?
    {
        plan.spare(why);
    }
    let mut windows = BTreeMap::new();
    if plan.refused.is_none() {
        windows = brake::hold(&mut plan, &snapshot, rules, facts, login.now)?;
        // A new user holds nothing that could be the last of its kind.
        if known {
            guard::keep_last(&mut plan, &snapshot, rules, facts)?;
        }
    }
    Ok(Planned { plan, record, snapshot, windows, ended })
}

/// What a plan is made from.
fn snapshot(
    record: &Record,
    user: &UserId,
    provider: &ProviderName,
    rules: &RuleSet,
    facts: &Facts,
    now: Timestamp,
) -> Result<Snapshot, Needs> {
    let mut snapshot = record.snapshot(provider, now);
    let mut by_claim = BTreeSet::new();
    for (owner, mapping) in by_role_or_claim(&snapshot, provider, rules) {
        let claims = facts.claims.as_ref().ok_or_else(|| Needs::one(Question::Claims))?;
        let Some(text) = claims.get(owner) else { continue };
        if holds_by_claim(&mapping.when, &*recorded::read(text, user, owner, rules)?) {
            by_claim.insert((owner.clone(), mapping.id));
        }
    }
    snapshot.by_claim = by_claim;
    let bearers: Vec<Target> = snapshot.denies.iter().flat_map(|target| denies::bearers(rules, target)).collect();
    snapshot.denies.extend(bearers);
    Ok(snapshot)
}

/// Keeps e-mail and name current.
fn know(record: &mut Record, login: &Login) {
    record.email.clone_from(&login.email);
    record.display_name.clone_from(&login.display_name);
}

/// The watermark, from when leases count, and what the claims were.
fn note_login(
    record: &mut Record,
    login: &Login,
    candidates: &Candidates,
    plan: &Plan,
    rules: &RuleSet,
) -> Option<(ProviderName, Option<String>)> {
    let provider = &login.provider;
    if plan.older {
        if let Some(known) = record.logins.get_mut(provider) {
            known.last_login_at = login.now;
        }
        return None;
    }
    let text = recorded::written(provider, &candidates.claims, rules);
    let digest = text.as_deref().map(recorded::digest);
    let before = record.logins.get(provider);
    let unchanged = before.and_then(|login| login.claims_digest.as_ref()) == digest.as_ref();
    // Where no token says, anything that comes is newer.
    let watermark = record.watermark(provider, login.now);
    let issued_at = login.issued_at.or(watermark).unwrap_or(Timestamp(i64::MIN));
    let noted =
        ProviderLogin { issued_at, last_login_at: login.now, renewed_at: Some(login.now), claims_digest: digest };
    record.logins.insert(provider.clone(), noted);
    (!unchanged).then(|| (provider.clone(), text))
}
