//! What a change of the rules would change: for every user with recorded claims, who gains and loses what.
//!
//! A change takes effect in two steps, and so does the forecast. Mappings that the new rules lack, hold as disabled or have
//! let expire lose their grants *at once*, when the rules are adopted, and so do grants whose lease is over by the new rules;
//! with `sync.apply = "now"`, everything does. The rest shows at each person's *next login*, here from the claims of their
//! last one. For that the mappings of now need not be known: grants are what they gave, so that a mapping which still has its
//! identity and says something else shows by what it no longer gives. Which roles came with a group only the old rules know;
//! the store keeps that of those it adopted last. What those did not record, or recorded as read otherwise, is *unknown*: it may change
//! either way, and is counted apart. So is what depends on the order of a person's logins, where a mapping asks for roles that another
//! provider gives. A login that is refused changes nothing.

mod differences;
mod tally;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

pub use self::differences::{Differences, MappingChange, Moves};
use self::tally::{Counts, Tally};
use super::claims::{ClaimState, Claims, ClaimsRefusal};
use super::explain::reason;
use super::ids::{ClaimName, MappingId, ProviderName, Target, Timestamp, UserId};
use super::mapping::condition::Condition;
use super::mapping::{Apply, GateRule, Mode, RuleSet, candidates, holds_by_claim};
use super::plan::{self, Effective, Grant, Plan, Snapshot, Source};
use super::privilege::{Hand, Privileged};

/// One user as the store has them.
#[derive(Debug, Clone)]
pub struct Person {
    pub user: UserId,
    pub enabled: bool,
    /// All grants and denies, regardless of their source.
    pub snapshot: Snapshot,
    pub logins: Vec<LastLogin>,
    /// Grants whose lease is over under the new rules.
    pub lapsed: BTreeSet<(Target, ProviderName, MappingId)>,
    /// With which right grants by hand were made.
    pub hands: BTreeMap<Target, Hand>,
}

/// The last login of a user through one provider.
#[derive(Debug, Clone)]
pub struct LastLogin {
    pub provider: ProviderName,
    pub watermark: Timestamp,
    /// From when leases count.
    pub renewed_at: Option<Timestamp>,
    /// As the new rules read them; `None` where none were recorded.
    pub claims: Option<Arc<Claims>>,
}

impl Person {
    pub fn new(user: UserId, enabled: bool) -> Self {
        Self {
            user,
            enabled,
            snapshot: Snapshot::default(),
            logins: Vec::new(),
            lapsed: BTreeSet::new(),
            hands: BTreeMap::new(),
        }
    }

    fn claims(&self, provider: &ProviderName) -> Option<&Claims> {
        self.logins.iter().find(|login| login.provider == *provider)?.claims.as_deref()
    }
}

/// What the new rules would change.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Forecast {
    /// Whether anything would change, or may.
    pub changes: bool,
    /// The new rules only watch: nothing of this is written while they do.
    pub shadow: bool,
    pub users: u64,
    /// Of whom no claims of one of their providers are recorded.
    pub without_claims: u64,
    /// Users who gain or lose something.
    pub changed_users: u64,
    /// Users who do not, and are without something until their next login.
    pub interrupted_users: u64,
    /// Grants whose lease is over under the new rules.
    pub lapsed_grants: u64,
    /// Grants of what becomes privileged, that were not made with scope `admin` and end at once.
    pub privileged_grants: u64,
    /// Which roles come with which groups now is known, so that those which no longer do are seen.
    pub roles_compared: bool,
    pub mappings: Differences,
    /// Those of which something changes, by name.
    pub targets: Vec<TargetForecast>,
    /// Users whom a gate, or a mapping that disables, would refuse.
    pub refusals: Vec<Refusals>,
    /// Users of whom it is not known whether a gate would: it asks for what was not recorded of them.
    pub may_refuse: Vec<Refusals>,
    /// Protected or privileged, with holders now and none afterwards.
    pub last_holders: Vec<TargetName>,
    /// For what the brake would refuse these rules, unless they are confirmed.
    pub brake_refuses: Vec<Excess>,
    /// What the brake would hold of the losses at logins.
    pub brake_holds: Vec<Excess>,
    pub details: Vec<UserForecast>,
    /// Users who change and are not in `details`.
    pub left_out: u64,
}

/// How many users gain and lose one group or role.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TargetForecast {
    #[serde(flatten)]
    pub target: TargetName,
    pub gains: u64,
    pub losses: u64,
    /// Of the losses, those that come with the rules themselves and not with a login.
    pub at_once: u64,
    /// Hold it, and it cannot be told whether they would go on to.
    pub may_lose: u64,
    /// At most so many gain it by claims that were not recorded, or by logins in another order.
    pub may_gain: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub struct TargetName {
    pub kind: &'static str,
    pub name: String,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Refusals {
    pub reason: String,
    pub users: u64,
}

/// A target from which more members would go than the brake lets pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Excess {
    /// Absent: by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(flatten)]
    pub target: TargetName,
    pub losing: u64,
    pub members: u64,
    pub allowed: u64,
}

/// What one user gains and loses.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UserForecast {
    pub user: String,
    pub gains: Vec<TargetName>,
    pub losses: Vec<TargetName>,
    pub may_lose: Vec<TargetName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// A gate that asks for what was not recorded of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_be_refused: Option<String>,
}

impl From<&Target> for TargetName {
    fn from(target: &Target) -> Self {
        Self { kind: target.kind(), name: target.name().to_owned() }
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind, self.name)
    }
}

/// Puts a forecast together, one user after the other.
#[derive(Debug)]
pub struct Forecaster<'r> {
    /// The groups and roles that hold now, where they are known: they tell which roles come through groups.
    held: Option<&'r RuleSet>,
    /// The rules that hold now, where they are known: they tell which mappings are new.
    old: Option<&'r RuleSet>,
    new: &'r RuleSet,
    now: Timestamp,
    /// Whether a mapping or a gate of the new rules asks for roles, so that one login may depend on another.
    asks_for_roles: bool,
    /// Users whose details are kept.
    limit: usize,
    privileged: Arc<Privileged<'r>>,
    tally: Tally,
}

/// The outcome of one user's logins under the new rules.
#[derive(Default)]
struct Outlook {
    grants: Vec<Grant>,
    may_lose: BTreeSet<Target>,
    refused: Option<String>,
    may_be_refused: Option<String>,
    /// The grants where gates that cannot be decided let the user enter.
    entered: Option<Vec<Grant>>,
    disables: bool,
    unknown: bool,
}

/// A login that is refused.
struct TurnedAway {
    why: String,
    disables: bool,
    /// Its gate is shut because something could not be read.
    undecided: bool,
    /// Its outcome.
    plan: Option<Box<Plan>>,
    /// As they were.
    grants: Vec<Grant>,
}

impl<'r> Forecaster<'r> {
    /// `held` are the groups and roles of the rules that hold now, `old` those rules whole, as far as they are known.
    pub fn new(
        held: Option<&'r RuleSet>,
        old: Option<&'r RuleSet>,
        new: &'r RuleSet,
        now: Timestamp,
        limit: usize,
    ) -> Self {
        Self {
            held,
            old,
            new,
            now,
            asks_for_roles: asks_for_roles(new),
            limit,
            privileged: Arc::new(Privileged::find(None, new)),
            tally: Tally::default(),
        }
    }

    /// One that has counted nothing, for users who are looked at in parallel; [`Forecaster::absorb`] puts the two together.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { privileged: Arc::clone(&self.privileged), tally: Tally::default(), ..*self }
    }

    /// Takes over what another has counted, of users who come after all of its own.
    pub fn absorb(&mut self, next: Self) {
        self.tally.absorb(next.tally, self.limit);
    }

    /// Tells what was privileged before, and settled: `held` as the store keeps it.
    #[must_use]
    pub fn after(mut self, kept: Option<&RuleSet>) -> Self {
        self.privileged = Arc::new(Privileged::find(kept, self.new));
        self
    }

    pub fn add(&mut self, person: &Person) {
        self.tally.users += 1;
        let denies = &person.snapshot.denies;
        let effective =
            |grants: &[Grant], rules: &RuleSet| Effective::of(grants.iter().map(|grant| &grant.target), denies, rules);
        let before = effective(&person.snapshot.grants, self.held.unwrap_or(self.new));
        let standing = self.adopted(person);
        let adopted = effective(&standing, self.new);
        self.count_members(&person.snapshot.grants);
        let other = self.in_other_order(person, &standing).map(|grants| effective(&grants, self.new));
        let mut outlook = self.look(person, standing);
        let after = effective(&outlook.grants, self.new);
        let entered = outlook.entered.as_deref().map(|grants| effective(grants, self.new));
        // What depends on the order of the logins, or on a gate that cannot be decided, is not known.
        let differs = |other: &Effective| [missing(&after, other), missing(other, &after)].concat();
        let open: BTreeSet<Target> = other.iter().chain(&entered).flat_map(differs).collect();
        let (may_lose_by_order, may_gain): (Vec<_>, Vec<_>) =
            open.iter().cloned().partition(|target| before.holds(target));
        let nothing = Effective::default();
        let planned_at_once = self.new.sync.apply == Apply::Now;
        let at_once = missing(&before, if planned_at_once { &after } else { &adopted });
        self.tally.without_claims += u64::from(outlook.unknown);
        if person.enabled {
            self.count_holders(&before, if outlook.disables { &nothing } else { &after });
        }
        let known = |targets: Vec<Target>| -> Vec<Target> {
            targets.into_iter().filter(|target| !open.contains(target)).collect()
        };
        let (gains, losses) = (known(missing(&after, &before)), known(missing(&before, &after)));
        outlook.may_lose.retain(|target| after.holds(target));
        if !outlook.may_lose.is_empty() {
            // Roles go with the groups that carry them.
            let (grants, open) = (&outlook.grants, &outlook.may_lose);
            let sure: Vec<Grant> = grants.iter().filter(|grant| !open.contains(&grant.target)).cloned().collect();
            outlook.may_lose.extend(missing(&after, &effective(&sure, self.new)));
        }
        outlook.may_lose.extend(may_lose_by_order);
        let may_lose: Vec<Target> = outlook.may_lose.into_iter().collect();
        let mut count = |targets: &[Target], field: fn(&mut Counts) -> &mut u64| {
            for target in targets {
                if let Some(counts) = self.tally.targets.get_mut(target) {
                    *field(counts) += 1;
                } else {
                    *field(self.tally.targets.entry(target.clone()).or_default()) += 1;
                }
            }
        };
        count(&gains, |counts| &mut counts.gains);
        count(&losses, |counts| &mut counts.losses);
        count(&at_once, |counts| &mut counts.at_once);
        count(&may_lose, |counts| &mut counts.may_lose);
        count(&may_gain, |counts| &mut counts.may_gain);
        if let Some(reason) = &outlook.refused {
            *self.tally.refusals.entry(reason.clone()).or_default() += 1;
        } else if let Some(reason) = &outlook.may_be_refused {
            *self.tally.may_refuse.entry(reason.clone()).or_default() += 1;
        }
        let changed = !gains.is_empty() || !losses.is_empty();
        self.tally.changed_users += u64::from(changed);
        self.tally.interrupted_users += u64::from(!changed && !at_once.is_empty());
        let (refused, may_be_refused) = (outlook.refused, outlook.may_be_refused);
        if changed || !may_lose.is_empty() || refused.is_some() || may_be_refused.is_some() {
            self.detail(&person.user, [&gains, &losses, &may_lose], refused, may_be_refused);
        }
    }

    fn detail(
        &mut self,
        user: &UserId,
        [gains, losses, may_lose]: [&[Target]; 3],
        refused: Option<String>,
        may_be_refused: Option<String>,
    ) {
        if self.tally.details.len() == self.limit {
            self.tally.left_out += 1;
            return;
        }
        let names = |targets: &[Target]| targets.iter().map(TargetName::from).collect();
        self.tally.details.push(UserForecast {
            user: user.to_string(),
            gains: names(gains),
            losses: names(losses),
            may_lose: names(may_lose),
            may_be_refused: may_be_refused.filter(|_| refused.is_none()),
            refused,
        });
    }

    /// What is left of a user's grants once the rules are adopted.
    fn adopted(&mut self, person: &Person) -> Vec<Grant> {
        let mut standing = Vec::with_capacity(person.snapshot.grants.len());
        for grant in &person.snapshot.grants {
            let hand = || person.hands.get(&grant.target).copied().unwrap_or(Hand::Admin);
            if self.new.sync.mode == Mode::Apply && self.privileged.ends(&grant.target, &grant.source, hand()) {
                self.tally.privileged_grants += 1;
                continue;
            }
            if let Source::Mapped { provider, mapping } = &grant.source {
                *self.tally.granting.entry(*mapping).or_default() += 1;
                if self.new.mapping(*mapping).is_none_or(|rule| !rule.is_live(self.now)) {
                    continue;
                }
                let has_lapsed = || person.lapsed.contains(&(grant.target.clone(), provider.clone(), *mapping));
                if !person.lapsed.is_empty() && has_lapsed() {
                    self.tally.lapsed_grants += 1;
                    continue;
                }
            }
            standing.push(grant.clone());
        }
        standing
    }

    /// Lets the user log in again through each provider of which claims are recorded.
    fn look(&mut self, person: &Person, standing: Vec<Grant>) -> Outlook {
        let mut outlook = Outlook { grants: standing, ..Outlook::default() };
        // No login of a disabled user changes anything.
        for login in person.logins.iter().filter(|_| person.enabled) {
            if !self.new.providers.contains_key(&login.provider) {
                continue;
            }
            match &login.claims {
                Some(claims) => self.log_in(person, login, claims, &mut outlook),
                None => {
                    let theirs = outlook.grants.iter().filter(|grant| is_through(grant, &login.provider));
                    outlook.may_lose.extend(theirs.map(|grant| grant.target.clone()));
                    outlook.unknown = true;
                    let claims = self.new.providers.get(&login.provider).map(|rules| rules.claims.as_slice());
                    let all = claims.unwrap_or_default().iter().map(|rule| rule.name.clone()).collect();
                    self.miss(&login.provider, all);
                }
            }
        }
        outlook
    }

    fn log_in(&mut self, person: &Person, login: &LastLogin, claims: &Arc<Claims>, outlook: &mut Outlook) {
        let grants = std::mem::take(&mut outlook.grants);
        let (plan, grants) = match self.planned(person, login, claims, grants) {
            Ok((plan, grants)) => (plan, grants),
            Err(TurnedAway { why, undecided, disables, plan, grants }) => {
                let unread = unread(claims, |claim| self.new.reads(&login.provider, claim, self.now));
                let is_open = undecided && !unread.is_empty();
                match is_open {
                    true => drop(outlook.may_be_refused.get_or_insert(why)),
                    false => drop(outlook.refused.get_or_insert(why)),
                }
                outlook.disables |= disables;
                match plan {
                    // A gate keeps people out of the app. What they hold is planned again all the same.
                    Some(plan) if self.new.sync.apply == Apply::Now => (*plan, grants),
                    plan => {
                        if let Some(plan) = plan.filter(|_| is_open) {
                            let entered = outlook.entered.take().unwrap_or_else(|| grants.clone());
                            outlook.entered = Some(carried_out(entered, &plan));
                            outlook.unknown = true;
                            self.miss(&login.provider, unread);
                        }
                        // A refused login changes nothing.
                        outlook.grants = grants;
                        return;
                    }
                }
            }
        };
        for target in plan.losses() {
            self.tally.flows.entry((login.provider.clone(), target.clone())).or_default().losing += 1;
        }
        for change in &plan.revokes {
            self.tally.moving.entry(change.mapping).or_default().going += 1;
        }
        // What comes back where a lease ended is not a change of the mapping.
        for change in &plan.grants {
            let has_lapsed =
                || person.lapsed.contains(&(change.target.clone(), login.provider.clone(), change.mapping));
            let comes = person.lapsed.is_empty() || !has_lapsed();
            self.tally.moving.entry(change.mapping).or_default().coming += u64::from(comes);
        }
        let unread = unread(claims, |claim| self.new.reads(&login.provider, claim, self.now));
        if !unread.is_empty() {
            outlook.may_lose.extend(plan.undecided.iter().map(|change| change.target.clone()));
            outlook.unknown = true;
            self.miss(&login.provider, unread);
        }
        outlook.entered = outlook.entered.take().map(|grants| carried_out(grants, &plan));
        outlook.grants = carried_out(grants, &plan);
    }

    /// The outcome of a login with the claims of the last one, and the grants that it finds; or why it is refused, and whether
    /// that disables the user.
    fn planned(
        &self,
        person: &Person,
        login: &LastLogin,
        claims: &Arc<Claims>,
        grants: Vec<Grant>,
    ) -> Result<(Plan, Vec<Grant>), TurnedAway> {
        if let Some(refusal) = self.refused_by_claims(&login.provider, claims) {
            let why = refusal.to_string();
            return Err(TurnedAway { why, disables: false, undecided: false, plan: None, grants });
        }
        let mut snapshot = Snapshot {
            grants,
            denies: person.snapshot.denies.clone(),
            watermark: Some(login.watermark),
            last_login: person.snapshot.last_login,
            held: person.snapshot.held.clone(),
            by_claim: BTreeSet::new(),
        };
        snapshot.by_claim = plan::by_role_or_claim(&snapshot, &login.provider, self.new)
            .into_iter()
            .filter(|(owner, mapping)| person.claims(owner).is_some_and(|claims| holds_by_claim(&mapping.when, claims)))
            .map(|(owner, mapping)| (owner.clone(), mapping.id))
            .collect();
        let candidates = candidates(self.new, &login.provider, claims);
        let plan = plan::draft(person.user.clone(), login.watermark, self.now, &candidates, &snapshot, self.new);
        match &plan.refused {
            Some(refused) => Err(TurnedAway {
                why: reason(refused),
                disables: matches!(refused, plan::Refused::Disables(_)),
                undecided: matches!(refused, plan::Refused::Gate { undecided: true, .. }),
                plan: Some(Box::new(plan.clone())),
                grants: snapshot.grants,
            }),
            None => Ok((plan, snapshot.grants)),
        }
    }

    /// The grants that logins in another order would leave, where a login may depend on what one through another provider gave.
    fn in_other_order(&self, person: &Person, standing: &[Grant]) -> Option<Vec<Grant>> {
        let logins = || person.logins.iter().filter(|login| self.new.providers.contains_key(&login.provider));
        let several = logins().filter(|login| login.claims.is_some()).nth(1).is_some();
        if !(self.asks_for_roles && several && person.enabled) {
            return None;
        }
        let mut grants = standing.to_vec();
        for login in logins().rev() {
            let Some(claims) = &login.claims else { continue };
            grants = match self.planned(person, login, claims, grants) {
                Ok((plan, grants)) => carried_out(grants, &plan),
                Err(TurnedAway { plan: Some(plan), grants, .. }) if self.new.sync.apply == Apply::Now => {
                    carried_out(grants, &plan)
                }
                Err(TurnedAway { grants, .. }) => grants,
            };
        }
        Some(grants)
    }

    /// The claim by which the new rules refuse the login, where it brings the same again. What could not be read is not recorded,
    /// so that what `strict` would make of it is not known.
    fn refused_by_claims(&self, provider: &ProviderName, claims: &Claims) -> Option<ClaimsRefusal> {
        let rules = self.new.providers.get(provider)?;
        claims.claims.iter().find_map(|claim| {
            let rule = rules.claims.iter().find(|rule| rule.name == claim.name)?;
            rule.refuses(&claim.state, false)
        })
    }

    fn miss(&mut self, provider: &ProviderName, claims: Vec<ClaimName>) {
        *self.tally.unread.entry((provider.clone(), claims)).or_default() += 1;
    }

    fn count_members(&mut self, grants: &[Grant]) {
        let mut counted: Vec<(&ProviderName, &Target)> = Vec::new();
        for grant in grants {
            let Source::Mapped { provider, .. } = &grant.source else { continue };
            if !counted.contains(&(provider, &grant.target)) {
                counted.push((provider, &grant.target));
                self.tally.flows.entry((provider.clone(), grant.target.clone())).or_default().members += 1;
            }
        }
    }

    fn count_holders(&mut self, before: &Effective, after: &Effective) {
        let (held, new) = (self.held, self.new);
        let guarded = |target: &Target| [Some(new), held].into_iter().flatten().any(|rules| is_guarded(rules, target));
        for target in before.targets().filter(guarded) {
            self.tally.holders.entry(target).or_default().before += 1;
        }
        for target in after.targets().filter(guarded) {
            self.tally.holders.entry(target).or_default().after += 1;
        }
    }

    /// The forecast; `brake_refuses` is what the store says of adopting these rules.
    pub fn finish(mut self, brake_refuses: Vec<Excess>) -> Forecast {
        self.spread_unread();
        let mappings =
            Differences::find(self.old, self.new, &self.tally.granting, &self.tally.moving, self.now, self.limit);
        let targets: Vec<TargetForecast> =
            self.tally.targets.iter().map(|(target, counts)| counts.told(target)).collect();
        let told = |refusals: BTreeMap<String, u64>| -> Vec<Refusals> {
            refusals.into_iter().map(|(reason, users)| Refusals { reason, users }).collect()
        };
        let (refusals, may_refuse) = (told(self.tally.refusals), told(self.tally.may_refuse));
        let last = self.tally.holders.iter().filter(|(_, holders)| holders.before > 0 && holders.after == 0);
        let brake = self.new.sync.brake;
        let held = self.tally.flows.iter().filter_map(|((provider, target), flow)| {
            let allowed = brake.allowed(flow.members);
            let excess = self.new.is_braked(target) && flow.losing > allowed;
            excess.then(|| Excess {
                provider: Some(provider.to_string()),
                target: target.into(),
                losing: flow.losing,
                members: flow.members,
                allowed,
            })
        });
        let shadow = self.new.sync.mode == Mode::Shadow;
        Forecast {
            changes: !(shadow
                || targets.is_empty() && refusals.is_empty() && may_refuse.is_empty() && mappings.is_empty()),
            shadow,
            users: self.tally.users,
            without_claims: self.tally.without_claims,
            changed_users: self.tally.changed_users,
            interrupted_users: self.tally.interrupted_users,
            lapsed_grants: self.tally.lapsed_grants,
            privileged_grants: self.tally.privileged_grants,
            roles_compared: self.held.is_some(),
            mappings,
            refusals,
            may_refuse,
            last_holders: last.map(|(target, _)| target.into()).collect(),
            brake_holds: held.collect(),
            brake_refuses,
            targets,
            details: self.tally.details,
            left_out: self.tally.left_out,
        }
    }

    /// Adds to each target the users who may gain it by claims that were not recorded.
    fn spread_unread(&mut self) {
        for ((provider, claims), users) in &self.tally.unread {
            for target in self.may_be_given(provider, claims) {
                self.tally.targets.entry(target).or_default().may_gain += users;
            }
        }
    }

    /// What mappings give that read one of these claims, the roles that come with it, and what mappings give that ask for those.
    fn may_be_given(&self, provider: &ProviderName, claims: &[ClaimName]) -> BTreeSet<Target> {
        let mut given: BTreeSet<Target> = BTreeSet::new();
        loop {
            let known = given.len();
            for mapping in self.new.mappings() {
                let reads = mapping.when.claims().any(|claim| claims.contains(claim));
                let asks = || mapping.when.conditions().iter().any(|condition| asks_for_any(condition, &given));
                if !(mapping.applies_to(provider) && mapping.is_live(self.now) && (reads || asks())) {
                    continue;
                }
                for target in mapping.then.named() {
                    if let Target::Group(name) = target {
                        let roles = self.new.groups.get(name).map(|group| group.roles.as_slice()).unwrap_or_default();
                        given.extend(roles.iter().cloned().map(Target::Role));
                    }
                    given.insert(target.clone());
                }
            }
            if given.len() == known || !self.asks_for_roles {
                return given;
            }
        }
    }
}

/// Whether a condition asks for one of these roles.
fn asks_for_any(condition: &Condition, targets: &BTreeSet<Target>) -> bool {
    match condition {
        Condition::HasRole(role) | Condition::LacksRole(role) => targets.contains(&Target::Role(role.clone())),
        _ => false,
    }
}

impl Counts {
    fn told(&self, target: &Target) -> TargetForecast {
        let Self { gains, losses, at_once, may_lose, may_gain } = *self;
        TargetForecast { target: target.into(), gains, losses, at_once, may_lose, may_gain }
    }
}

/// Protected or privileged by its own word: a group that merely carries such a role is not missed, as long as a user holds
/// the role.
fn is_guarded(rules: &RuleSet, target: &Target) -> bool {
    match target {
        Target::Group(name) => rules.groups.get(name).is_some_and(|group| group.protected || group.privileged),
        Target::Role(name) => rules.roles.get(name).is_some_and(|role| role.protected || role.privileged),
    }
}

fn asks_for_roles(rules: &RuleSet) -> bool {
    let of_mappings = rules.mappings().iter().map(|mapping| mapping.when.conditions());
    let of_gates = rules.gates.iter().map(|gate| match &gate.rule {
        GateRule::Deny { conditions, .. } => &conditions[..],
        _ => &[],
    });
    let is_role = |condition: &Condition| matches!(condition, Condition::HasRole(_) | Condition::LacksRole(_));
    of_mappings.chain(of_gates).flatten().any(is_role)
}

fn missing(from: &Effective, to: &Effective) -> Vec<Target> {
    from.targets().filter(|target| !to.holds(target)).collect()
}

fn is_through(grant: &Grant, provider: &ProviderName) -> bool {
    matches!(&grant.source, Source::Mapped { provider: owner, .. } if owner == provider)
}

/// Claims whose values at the last login are not known.
fn unread(claims: &Claims, reads: impl Fn(&ClaimName) -> bool) -> Vec<ClaimName> {
    let unread = claims.claims.iter().filter(|claim| matches!(claim.state, ClaimState::Unresolved(_)));
    unread.map(|claim| claim.name.clone()).filter(reads).collect()
}

/// The grants once a plan is carried out.
fn carried_out(grants: Vec<Grant>, plan: &Plan) -> Vec<Grant> {
    let is_revoked = |grant: &Grant| match &grant.source {
        Source::Mapped { provider, mapping } if *provider == plan.provider => {
            plan.revokes.iter().any(|change| change.mapping == *mapping && change.target == grant.target)
        }
        _ => false,
    };
    let mut grants: Vec<Grant> = grants.into_iter().filter(|grant| !is_revoked(grant)).collect();
    grants.extend(plan.grants.iter().map(|change| Grant {
        target: change.target.clone(),
        source: Source::Mapped { provider: plan.provider.clone(), mapping: change.mapping },
    }));
    grants
}
