//! Which memberships a login's claims ask for.
//!
//! The rules are compiled once into an index, so that a login looks up its own values and never walks the rules
//! ([`index`]). What needs the claims alone is decided before the store is asked ([`candidates`]); what needs the person
//! (roles, the last login, defaults) is decided inside the store's transaction ([`decide`]), mapping after mapping in the
//! order of the rules.

pub mod action;
pub mod condition;
mod decide;
pub mod definition;
pub mod elsewhere;
pub mod index;
pub mod stored;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use hashbrown::HashTable;

use self::action::{Give, Then};
use self::condition::{ClaimCondition, Condition, Test};
pub use self::decide::{
    Candidates, Decision, Denied, Disabling, Hit, Seen, Standing, Traced, candidates, decide, exhaustive,
    holds_by_claim, traced, truth_of,
};
use self::elsewhere::Elsewhere;
use self::index::Index;
pub use self::index::IndexError;
use self::stored::Overlay;
use super::claims::ClaimRule;
use super::claims::split::Delimiter;
use super::ids::{ClaimName, GroupName, MappingId, ProviderName, RoleName, Stage, Target, Timestamp};
use crate::lookup::{Lookup, LookupSet};

/// Everything that decides what claims give, checked but not yet compiled.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub groups: Lookup<GroupName, Group>,
    pub roles: Lookup<RoleName, Role>,
    /// In the order in which they run.
    pub mappings: Vec<Mapping>,
    pub gates: Vec<Gate>,
    pub providers: Lookup<ProviderName, ProviderRules>,
    pub sync: Sync,
    /// A digest of the file that they come from; a file with a mass revocation is confirmed by it.
    pub source: Option<[u8; 32]>,
    /// What of them comes from the store.
    pub overlay: Overlay,
    /// What the files of other sidecars say.
    pub elsewhere: Arc<Elsewhere>,
}

/// Everything that decides what claims give: one consistent set, swapped whole.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// Grows with every set that a process makes current.
    pub epoch: u64,
    pub groups: Lookup<GroupName, Group>,
    pub roles: Lookup<RoleName, Role>,
    pub gates: Vec<Gate>,
    pub providers: Lookup<ProviderName, ProviderRules>,
    pub sync: Sync,
    /// A digest of the file that they come from.
    pub source: Option<[u8; 32]>,
    /// What of them comes from the store.
    pub overlay: Overlay,
    /// What the files of other sidecars say.
    pub elsewhere: Arc<Elsewhere>,
    mappings: Vec<Mapping>,
    /// Where each mapping is, by its identity: the table holds places alone, four bytes each, since the mapping has the rest.
    positions: HashTable<u32>,
    index: Index,
    /// Defaults, which are decided after everything else.
    defaults: Lookup<ProviderName, Vec<u32>>,
    /// Mappings that matter to others when their claims are undecided: those of the long form, and those that give a role
    /// that some condition asks for.
    dependable: Vec<u32>,
    /// Claims that some mapping or gate reads, by provider; `None` for those that ask every provider.
    /// Until when, where every mapping that reads the claim ends; `None` for ever.
    read: Lookup<Option<ProviderName>, Lookup<ClaimName, Option<Timestamp>>>,
    /// The same with those of mappings that are disabled or inactive.
    named: Lookup<Option<ProviderName>, LookupSet<ClaimName>>,
}

/// A group of the app.
#[derive(Debug, Clone)]
pub struct Group {
    /// Roles that every effective member holds.
    pub roles: Vec<RoleName>,
    /// Empty: every stage.
    pub stages: Vec<Stage>,
    /// Its last effective, enabled member is never removed by a login.
    pub protected: bool,
    /// Takes exact matches from the file only; so does a group that carries a privileged role.
    pub privileged: bool,
    /// Whether the brake on mass revocation covers it.
    pub brake: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self { roles: Vec::new(), stages: Vec::new(), protected: false, privileged: false, brake: true }
    }
}

/// A role of the app.
#[derive(Debug, Clone)]
pub struct Role {
    /// Its last effective, enabled holder is never removed by a login.
    pub protected: bool,
    /// Takes exact matches from the file only.
    pub privileged: bool,
    /// Whether the brake on mass revocation covers it.
    pub brake: bool,
}

impl Default for Role {
    fn default() -> Self {
        Self { protected: false, privileged: false, brake: true }
    }
}

/// What rules need to know of a provider.
#[derive(Debug, Clone, Default)]
pub struct ProviderRules {
    pub claims: Vec<ClaimRule>,
    /// Empty: belongs to every stage.
    pub stages: Vec<Stage>,
    /// After how long without a login a mapped grant through it ends; `None`: never.
    pub lease: Option<Duration>,
}

/// How the whole sync goes about its work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sync {
    pub mode: Mode,
    /// What an edited mapping does to standing grants.
    pub apply: Apply,
    /// Which claims of each user's last login are kept, so that later plans can be made from them.
    pub record_claims: Recording,
    pub brake: Brake,
}

impl Default for Sync {
    fn default() -> Self {
        Self { mode: Mode::Apply, apply: Apply::NextLogin, record_claims: Recording::Mapped, brake: Brake::default() }
    }
}

/// Which claims of a login are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    None,
    /// Those that some mapping or gate names, disabled ones too.
    Mapped,
    /// All that the provider declares, so that a mapping that is the first to read one can be tried at once.
    Declared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Apply,
    /// Decides and records, but changes no grant, and gates refuse no login.
    Shadow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    NextLogin,
    /// At once, from recorded claims.
    Now,
}

/// How many losses of one group through one provider look like a fault of the provider.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brake {
    pub window: Duration,
    /// So many are never held.
    pub minimum: u32,
    /// Of the mapped members at the start of the window, from 0 to 1.
    pub share: f64,
}

impl Default for Brake {
    fn default() -> Self {
        Self { window: Duration::from_secs(3600), minimum: 5, share: 0.2 }
    }
}

impl Brake {
    /// How many of so many members may lose their membership within a window.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a count of people is far within what both types hold exactly"
    )]
    pub fn allowed(&self, members: u64) -> u64 {
        u64::from(self.minimum).max((self.share * members as f64).floor() as u64)
    }
}

/// One rule: what it asks of a login, and what it gives.
#[derive(Debug, Clone)]
pub struct Mapping {
    pub id: MappingId,
    /// The operator's name for it, if any.
    pub name: Option<Arc<str>>,
    /// `None`: applies to every provider.
    pub provider: Option<ProviderName>,
    pub when: When,
    pub then: Then,
    pub activity: Activity,
    /// From then on it is as if it were removed.
    pub until: Option<Timestamp>,
}

/// When a mapping holds.
#[derive(Debug, Clone)]
pub enum When {
    /// The short form: the claim has this value.
    Value {
        claim: ClaimName,
        value: Arc<str>,
        /// Replaces the claim's delimiter; [`Delimiter::none`] means the whole value.
        delimiter: Option<Delimiter>,
    },
    /// The long form; never without a condition.
    Conditions { join: Join, conditions: Box<[Condition]> },
    /// For everyone who logs in.
    Always,
    /// A default: the claim is decided, and no other mapping on it holds.
    Unmatched { claim: ClaimName },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    All,
    Any,
}

/// Whether a mapping takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    Active,
    /// Switched off by the operator.
    Disabled,
    /// Its provider and its group have no stage in common.
    Inactive,
}

/// Refuses logins, whatever the mappings give.
#[derive(Debug, Clone)]
pub struct Gate {
    pub name: Arc<str>,
    /// `None`: for every provider.
    pub provider: Option<ProviderName>,
    pub rule: GateRule,
    /// What the person is told.
    pub message: String,
}

#[derive(Debug, Clone)]
pub enum GateRule {
    /// Some mapping must give something; defaults do not count.
    RequireAny,
    /// One of these must.
    Require(Vec<MappingId>),
    /// Refuses where the conditions hold, and where they cannot be decided.
    Deny { join: Join, conditions: Box<[Condition]> },
}

/// A value that would have matched but for its case, its blanks, what cannot be seen of it, or how its accents are composed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss {
    /// The mapping's place in the order of the rules.
    pub position: u32,
    pub expected: String,
    pub found: String,
}

impl NearMiss {
    /// Reported of one login at most.
    pub const MOST: usize = 32;
}

impl When {
    /// The conditions by which the index files it: of them one must find a value for the mapping to hold. Empty when there
    /// are none such.
    pub(crate) fn anchors(&self) -> Vec<usize> {
        let Self::Conditions { join, conditions } = self else { return Vec::new() };
        let exact = |condition: &ClaimCondition| condition.exact().is_some();
        let filed = |condition: &ClaimCondition| exact(condition) || condition.expression().is_some();
        let of = |wanted: &dyn Fn(&ClaimCondition) -> bool| {
            conditions.iter().position(|condition| condition.claim().is_some_and(wanted))
        };
        match join {
            Join::All => of(&exact).or_else(|| of(&filed)).into_iter().collect(),
            Join::Any if conditions.iter().all(|condition| condition.claim().is_some_and(filed)) => {
                (0..conditions.len()).collect()
            }
            Join::Any => Vec::new(),
        }
    }

    /// The claims that it reads.
    pub fn claims(&self) -> impl Iterator<Item = &ClaimName> {
        let (one, several) = match self {
            Self::Value { claim, .. } | Self::Unmatched { claim } => (Some(claim), &[][..]),
            Self::Conditions { conditions, .. } => (None, &conditions[..]),
            Self::Always => (None, &[][..]),
        };
        one.into_iter().chain(several.iter().filter_map(|condition| Some(&condition.claim()?.claim)))
    }

    pub fn conditions(&self) -> &[Condition] {
        match self {
            Self::Conditions { conditions, .. } => conditions,
            _ => &[],
        }
    }

    /// The condition whose pattern captures.
    pub fn capturing(&self) -> Option<&ClaimCondition> {
        self.conditions().iter().filter_map(Condition::claim).find(|condition| match &condition.test {
            Test::Regex(pattern) => pattern.captures().next().is_some(),
            _ => false,
        })
    }
}

impl Mapping {
    /// The short form, without a name: one claim value, one target.
    pub fn of_value(
        provider: ProviderName,
        claim: ClaimName,
        value: Arc<str>,
        delimiter: Option<Delimiter>,
        target: Target,
    ) -> Self {
        Self {
            id: Self::id_of_content(&provider, &claim, &value, delimiter.as_ref(), &target),
            name: None,
            provider: Some(provider),
            when: When::Value { claim, value, delimiter },
            then: Then::Give(target),
            activity: Activity::Active,
            until: None,
        }
    }

    /// The identity of a named mapping: editing it keeps its grants until the holder's next login.
    pub fn id_of_name(name: &str) -> MappingId {
        digest_of(&["name", name])
    }

    /// The identity of an unnamed mapping: its content, so that editing it is a removal and an addition.
    pub fn id_of_content(
        provider: &ProviderName,
        claim: &ClaimName,
        value: &str,
        delimiter: Option<&Delimiter>,
        target: &Target,
    ) -> MappingId {
        let (kind, delimiter) = match delimiter {
            None => ("content", ""),
            Some(delimiter) => ("content and delimiter", delimiter.as_str()),
        };
        digest_of(&[kind, provider.as_str(), claim.as_str(), value, delimiter, target.kind(), target.name()])
    }

    /// The identity of a default: its claim and its target.
    pub fn id_of_default(provider: &ProviderName, claim: &ClaimName, target: &Target) -> MappingId {
        digest_of(&["default", provider.as_str(), claim.as_str(), target.kind(), target.name()])
    }

    /// A label for people: its name, or the sentence that it is.
    pub fn label(&self) -> String {
        match (&self.name, &self.when) {
            (Some(name), _) => name.to_string(),
            (None, When::Value { claim, value, .. }) => format!("{claim} = {value}"),
            (None, When::Unmatched { claim }) => format!("default of {claim}"),
            // The long form has a name; this is for a store that was written by hand.
            (None, When::Conditions { .. } | When::Always) => format!("mapping {}", self.id),
        }
    }

    /// What it asks, in one line: `department is "Sales" and groups begins_with "team-"`.
    pub fn sentence(&self) -> String {
        let value = |claim: &ClaimName, value: &str, own: Option<&Delimiter>| {
            format!("{claim} is \"{value}\"{}", condition::split_by(own))
        };
        match &self.when {
            When::Value { claim, value: wanted, delimiter } => value(claim, wanted, delimiter.as_ref()),
            When::Always => String::from("always"),
            When::Unmatched { claim } => format!("no other mapping on {claim} holds"),
            When::Conditions { join, conditions } => {
                let said: Vec<String> = conditions.iter().map(Condition::to_string).collect();
                said.join(if *join == Join::All { " and " } else { " or " })
            }
        }
    }

    /// What it gives, each as people write it: group `Staff`, role `${level}`.
    pub fn gifts(&self) -> Vec<String> {
        match &self.then {
            Then::Give(target) => vec![target.to_string()],
            Then::Actions(actions) => {
                let mut gifts: Vec<String> = actions.gives.iter().map(Give::to_string).collect();
                gifts.extend(actions.disables.then(|| String::from("disables the user")));
                gifts
            }
        }
    }

    pub fn applies_to(&self, provider: &ProviderName) -> bool {
        self.provider.as_ref().is_none_or(|own| own == provider)
    }

    /// Whether it takes part at a moment.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.activity == Activity::Active && self.until.is_none_or(|until| now < until)
    }

    pub fn is_default(&self) -> bool {
        matches!(self.when, When::Unmatched { .. })
    }
}

/// 128 bits of a SHA-256 over length-prefixed parts, so that no two lists of parts share a spelling.
fn digest_of(parts: &[&str]) -> MappingId {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    let digest = digest::digest(&digest::SHA256, &bytes);
    let mut id = [0; 16];
    id.copy_from_slice(digest.as_ref().get(..16).unwrap_or(&[0; 16]));
    MappingId(id)
}

/// Whether a provider and a target may meet: no stage on either side matches all.
pub fn stages_meet(provider: &[Stage], target: &[Stage]) -> bool {
    provider.is_empty() || target.is_empty() || provider.iter().any(|stage| target.contains(stage))
}

fn positions(mappings: &[Mapping]) -> HashTable<u32> {
    let spread = |position: &u32| mappings.get(*position as usize).map_or(0, |mapping| mapping.id.spread());
    let mut positions = HashTable::with_capacity(mappings.len());
    for (mapping, position) in mappings.iter().zip(0..) {
        positions.insert_unique(mapping.id.spread(), position, spread);
    }
    positions
}

impl RuleSet {
    /// Compiles rules that were checked. Of two mappings with one identity the later is dropped, since it says the same.
    ///
    /// # Errors
    /// When the index of the mappings would be larger than a login should pay for.
    pub fn compile(epoch: u64, rules: Rules) -> Result<Self, IndexError> {
        let Rules { groups, roles, mut mappings, gates, providers, sync, source, overlay, elsewhere } = rules;
        let mut known = HashSet::with_capacity(mappings.len());
        mappings.retain(|mapping| known.insert(mapping.id));
        drop(known);
        let positions = positions(&mappings);
        let index = Index::build(&mappings)?;
        let mut set = Self {
            epoch,
            groups,
            roles,
            gates,
            providers,
            sync,
            source,
            overlay,
            elsewhere,
            mappings,
            positions,
            index,
            defaults: Lookup::default(),
            dependable: Vec::new(),
            read: Lookup::default(),
            named: Lookup::default(),
        };
        set.defaults = set.find_defaults();
        set.dependable = set.find_dependable();
        // What is dead reads nothing, so that a claim that only it would read refuses no login.
        set.read = set.find_read(|mapping| mapping.activity == Activity::Active);
        set.named = set
            .find_read(|_| true)
            .into_iter()
            .map(|(provider, claims)| (provider, claims.into_keys().collect()))
            .collect();
        Ok(set)
    }

    /// Groups and roles without a mapping: what grants amount to under them.
    pub fn of_targets(groups: Lookup<GroupName, Group>, roles: Lookup<RoleName, Role>) -> Self {
        Self { groups, roles, ..Self::default() }
    }

    fn find_defaults(&self) -> Lookup<ProviderName, Vec<u32>> {
        let mut defaults: Lookup<ProviderName, Vec<u32>> = Lookup::default();
        for (mapping, position) in self.mappings.iter().zip(0..) {
            if let (When::Unmatched { .. }, Some(provider)) = (&mapping.when, &mapping.provider) {
                defaults.entry(provider.clone()).or_default().push(position);
            }
        }
        defaults
    }

    fn find_dependable(&self) -> Vec<u32> {
        let gates = self.gates.iter().map(|gate| match &gate.rule {
            GateRule::Deny { conditions, .. } => &conditions[..],
            _ => &[],
        });
        let conditions = self.mappings.iter().map(|mapping| mapping.when.conditions()).chain(gates).flatten();
        let asked: HashSet<&RoleName> = conditions
            .filter_map(|condition| match condition {
                Condition::HasRole(role) | Condition::LacksRole(role) => Some(role),
                _ => None,
            })
            .collect();
        let gives_asked =
            |mapping: &Mapping| !asked.is_empty() && self.roles_by(mapping).iter().any(|role| asked.contains(role));
        let listed = self.mappings.iter().zip(0..);
        listed
            .filter(|(mapping, _)| {
                matches!(mapping.when, When::Conditions { .. } | When::Always) || gives_asked(mapping)
            })
            .map(|(_, position)| position)
            .collect()
    }

    fn find_read(
        &self,
        takes_part: impl Fn(&&Mapping) -> bool,
    ) -> Lookup<Option<ProviderName>, Lookup<ClaimName, Option<Timestamp>>> {
        let mut read: Lookup<Option<ProviderName>, Lookup<ClaimName, Option<Timestamp>>> = Lookup::default();
        let mut last = None;
        for mapping in self.mappings.iter().filter(takes_part) {
            for claim in mapping.when.claims() {
                // Neighbours mostly read the same.
                let this = Some((&mapping.provider, claim, mapping.until));
                if std::mem::replace(&mut last, this) == this {
                    continue;
                }
                let claims = read.entry(mapping.provider.clone()).or_default();
                let until = claims.entry(claim.clone()).or_insert(mapping.until);
                *until = until.zip(mapping.until).map(|(known, own)| known.max(own));
            }
        }
        for gate in &self.gates {
            let GateRule::Deny { conditions, .. } = &gate.rule else { continue };
            let claims = conditions.iter().filter_map(|condition| Some(condition.claim()?.claim.clone()));
            read.entry(gate.provider.clone()).or_default().extend(claims.map(|claim| (claim, None)));
        }
        read
    }

    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    pub fn mapping(&self, id: MappingId) -> Option<&Mapping> {
        self.mappings.get(self.position(id)? as usize)
    }

    /// Where a mapping is in their order.
    pub fn place(&self, id: MappingId) -> Option<usize> {
        self.position(id).map(|position| position as usize)
    }

    fn position(&self, id: MappingId) -> Option<u32> {
        let is_it = |position: &u32| self.mappings.get(*position as usize).is_some_and(|mapping| mapping.id == id);
        self.positions.find(id.spread(), is_it).copied()
    }

    /// Whether some active mapping looks for this value of a claim.
    pub fn maps(&self, provider: &ProviderName, claim: &ClaimName, value: &str) -> bool {
        self.index.finds(provider, claim, value, &self.mappings)
    }

    /// Whether some mapping or gate reads a claim of a provider at a moment.
    pub fn reads(&self, provider: &ProviderName, claim: &ClaimName, now: Timestamp) -> bool {
        let is_read = |until: &Option<Timestamp>| until.is_none_or(|until| now < until);
        [Some(provider.clone()), None]
            .iter()
            .any(|key| self.read.get(key).and_then(|read| read.get(claim)).is_some_and(is_read))
    }

    /// Whether some mapping or gate names a claim of a provider, whether or not it takes part: what it would give can be
    /// foretold before it does.
    pub fn names(&self, provider: &ProviderName, claim: &ClaimName) -> bool {
        [Some(provider.clone()), None].iter().any(|key| self.named.get(key).is_some_and(|named| named.contains(claim)))
    }

    pub fn declares(&self, target: &Target) -> bool {
        match target {
            Target::Group(name) => self.groups.contains_key(name),
            Target::Role(name) => self.roles.contains_key(name),
        }
    }

    /// Whether a provider and a target have a stage in common.
    pub fn meets(&self, provider: &ProviderName, target: &Target) -> bool {
        let Target::Group(name) = target else { return true };
        let stages = self.groups.get(name).map(|group| group.stages.as_slice()).unwrap_or_default();
        stages_meet(self.providers.get(provider).map(|rules| rules.stages.as_slice()).unwrap_or_default(), stages)
    }

    /// Whether the loss of this target's last holder must be stopped.
    pub fn is_protected(&self, target: &Target) -> bool {
        let here = match target {
            Target::Group(name) => self.groups.get(name).is_some_and(|group| group.protected),
            Target::Role(name) => self.roles.get(name).is_some_and(|role| role.protected),
        };
        here || self.elsewhere.protects(target)
    }

    /// Whether a mapping gives something now: one of these rules, or of a file of another sidecar.
    pub fn is_given(&self, mapping: MappingId, now: Timestamp) -> bool {
        self.mapping(mapping).is_some_and(|mapping| mapping.is_live(now)) || self.elsewhere.gives(mapping, now)
    }

    /// Whether another sidecar's file decides on a mapping, and these rules do not.
    pub fn is_decided_elsewhere(&self, mapping: MappingId, now: Timestamp) -> bool {
        !self.mapping(mapping).is_some_and(|mapping| mapping.is_live(now)) && self.elsewhere.gives(mapping, now)
    }

    /// Whether only exact matches from the file may give this target.
    pub fn is_privileged(&self, target: &Target) -> bool {
        let role_is = |name: &RoleName| self.roles.get(name).is_some_and(|role| role.privileged);
        let here = match target {
            Target::Group(name) => {
                self.groups.get(name).is_some_and(|group| group.privileged || group.roles.iter().any(role_is))
            }
            Target::Role(name) => role_is(name),
        };
        here || self.elsewhere.holds_privileged(target)
    }

    /// Whether a mapping that disables people spares people who hold something privileged, and the last holder of something
    /// protected: it is of the store, and was not written with scope `admin`.
    pub fn spares(&self, mapping: MappingId) -> bool {
        self.overlay.lesser.contains(&mapping)
    }

    /// Whether the brake on mass revocation covers this target. One that the rules no longer have is covered.
    pub fn is_braked(&self, target: &Target) -> bool {
        let here = match target {
            Target::Group(name) => self.groups.get(name).is_none_or(|group| group.brake),
            Target::Role(name) => self.roles.get(name).is_none_or(|role| role.brake),
        };
        here || self.elsewhere.brakes(target)
    }

    /// The roles that a group carries.
    pub fn roles_of(&self, group: &GroupName) -> &[RoleName] {
        self.groups.get(group).map(|group| group.roles.as_slice()).unwrap_or_default()
    }

    /// The lease of mapped grants through a provider.
    pub fn lease(&self, provider: &ProviderName) -> Option<Duration> {
        self.providers.get(provider)?.lease
    }

    /// Every role that a mapping may give, directly or through a group.
    pub fn roles_by<'a>(&'a self, mapping: &'a Mapping) -> Vec<&'a RoleName> {
        let mut roles: Vec<&RoleName> = Vec::new();
        for target in mapping.then.named() {
            match target {
                Target::Group(group) => roles.extend(self.roles_of(group)),
                Target::Role(role) => roles.push(role),
            }
        }
        let Then::Actions(actions) = &mapping.then else { return roles };
        for give in &actions.gives {
            let Give::Captured(kind, template) = give else { continue };
            match template.expansions(&actions.allow, usize::MAX) {
                Some(names) => roles.extend(names.iter().flat_map(|name| self.roles_named(*kind, name))),
                // Its outcome is not known before: any role may be meant that is not privileged.
                None => roles.extend(self.roles.iter().filter(|(_, role)| !role.privileged).map(|(name, _)| name)),
            }
        }
        roles
    }

    /// The roles that come with a captured name.
    fn roles_named<'a>(&'a self, kind: action::Kind, name: &str) -> Vec<&'a RoleName> {
        match kind {
            action::Kind::Role => self.roles.get_key_value(name).map(|(name, _)| name).into_iter().collect(),
            action::Kind::Group => self.groups.get(name).map(|group| group.roles.iter().collect()).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Inactive => "inactive",
        })
    }
}
