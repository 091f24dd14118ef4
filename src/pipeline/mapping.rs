//! Which memberships a login's claims ask for.
//!
//! The rules are compiled once into an index by provider, claim, delimiter and value, so that a login looks up its own
//! values and never walks the rules. What needs the claims alone is decided here ([`candidates`]), before the store is
//! asked; the store then calls [`super::plan::draft`] inside its transaction.

pub mod index;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use aws_lc_rs::digest;

use self::index::Index;
use super::claims::Claims;
use super::claims::split::Delimiter;
use super::ids::{ClaimName, GroupName, MappingId, OfDigest, ProviderName, RoleName, Stage, Target};

/// Everything that decides what claims give: one consistent set, swapped whole.
#[derive(Debug)]
pub struct RuleSet {
    /// Grows with every set that a process makes current.
    pub epoch: u64,
    pub groups: HashMap<GroupName, Group>,
    pub roles: HashMap<RoleName, Role>,
    mappings: Vec<Mapping>,
    positions: HashMap<MappingId, u32, BuildHasherDefault<OfDigest>>,
    index: Index,
}

/// A group of the app.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Roles that every effective member holds.
    pub roles: Vec<RoleName>,
    /// Empty: every stage.
    pub stages: Vec<Stage>,
    /// Its last effective, enabled member is never removed by a login.
    pub protected: bool,
}

/// A role of the app.
#[derive(Debug, Clone, Default)]
pub struct Role {
    /// Its last effective, enabled holder is never removed by a login.
    pub protected: bool,
}

/// One rule: a claim's value, and what it gives.
#[derive(Debug, Clone)]
pub struct Mapping {
    pub id: MappingId,
    /// The operator's name for it, if any.
    pub name: Option<Arc<str>>,
    pub provider: ProviderName,
    pub claim: ClaimName,
    pub value: Arc<str>,
    /// Replaces the claim's delimiter; [`Delimiter::none`] means the whole value.
    pub delimiter: Option<Delimiter>,
    pub target: Target,
    pub activity: Activity,
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

impl Mapping {
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

    /// A label for people: its name, or the sentence that it is.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => format!("{} = {}", self.claim, self.value),
        }
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

impl RuleSet {
    /// Compiles rules that the configuration has checked. Of two mappings with one identity the later is dropped, since it
    /// says the same.
    pub fn new(
        epoch: u64,
        groups: HashMap<GroupName, Group>,
        roles: HashMap<RoleName, Role>,
        mut mappings: Vec<Mapping>,
    ) -> Self {
        let mut positions = HashMap::with_capacity_and_hasher(mappings.len(), BuildHasherDefault::default());
        let mut next = 0_u32;
        mappings.retain(|mapping| {
            let Entry::Vacant(entry) = positions.entry(mapping.id) else { return false };
            entry.insert(next);
            next = next.saturating_add(1);
            true
        });
        let index = Index::build(&mappings);
        Self { epoch, groups, roles, mappings, positions, index }
    }

    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    pub fn mapping(&self, id: MappingId) -> Option<&Mapping> {
        self.mappings.get(*self.positions.get(&id)? as usize)
    }

    /// Whether the loss of this target's last holder must be stopped.
    pub fn is_protected(&self, target: &Target) -> bool {
        match target {
            Target::Group(name) => self.groups.get(name).is_some_and(|group| group.protected),
            Target::Role(name) => self.roles.get(name).is_some_and(|role| role.protected),
        }
    }

    /// The roles that a group carries.
    pub fn roles_of(&self, group: &GroupName) -> &[RoleName] {
        self.groups.get(group).map(|group| group.roles.as_slice()).unwrap_or_default()
    }
}

/// What the claims alone ask for: the input of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// Mappings that match, in the order of the rules.
    pub hits: Vec<Hit>,
    /// Claims on which nothing can be decided in this login: what they gave before stays, and nothing new comes of them.
    pub undecided: Vec<ClaimName>,
}

/// A mapping that matched, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub mapping: MappingId,
    pub target: Target,
    pub label: String,
    pub claim: ClaimName,
    pub value: Arc<str>,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} = {}", self.target, self.claim, self.value)
    }
}

/// Evaluates the rules on a login's claims. Cost follows the values of these claims, not the number of rules.
pub fn candidates(rules: &RuleSet, provider: &ProviderName, claims: &Claims) -> Candidates {
    let mut positions: Vec<u32> = Vec::new();
    let mut undecided = Vec::new();
    for claim in &claims.claims {
        if !claim.decided {
            undecided.push(claim.name.clone());
            continue;
        }
        for (delimiter, values) in rules.index.tables(provider, &claim.name) {
            for piece in claim.pieces(delimiter.as_ref()) {
                positions.extend_from_slice(values.get(piece));
            }
        }
    }
    positions.sort_unstable();
    positions.dedup();
    let hits = positions
        .into_iter()
        .filter_map(|position| rules.mappings.get(position as usize))
        .map(|mapping| Hit {
            mapping: mapping.id,
            target: mapping.target.clone(),
            label: mapping.label(),
            claim: mapping.claim.clone(),
            value: Arc::clone(&mapping.value),
        })
        .collect();
    Candidates { hits, undecided }
}
