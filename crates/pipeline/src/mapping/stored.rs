//! What the mapping APIs have created: groups, roles, mappings and aliases in addition to those of the configuration file, and how
//! the two become one rule set.
//!
//! The file comes first: its mappings run before the store's, and a name that it declares is its own. What of the store
//! cannot be used (its provider is gone, its target is privileged now) is left out with its reason, and never a fault.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::condition::alike;
use super::definition::{Declared, Definition, Fault, TextLimits};
use super::elsewhere::Elsewhere;
use super::{Group, IndexError, Mapping, Role, RuleSet, Rules};
use crate::claims::ClaimRule;
use crate::claims::selector::Selector;
use crate::claims::sources::Source;
use crate::ids::{ClaimName, GroupName, MappingId, ProviderName, RoleName, Stage, Target, Timestamp};

/// Everything that the mapping APIs have made. Entries are shared, so that a changed copy costs what was changed.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// Grows with every change: a change that was planned on an older one is refused.
    pub generation: i64,
    /// The number of the last entry that was made. None is used twice, so that a grant never passes to another mapping.
    pub last_number: i64,
    /// Groups, those of the file included, since the faces speak of them by number and key.
    pub groups: BTreeMap<i64, Arc<Entry<GroupBody>>>,
    pub roles: BTreeMap<i64, Arc<Entry<RoleBody>>>,
    pub mappings: BTreeMap<i64, Arc<Entry<MappingBody>>>,
    /// By provider and group.
    pub exposures: BTreeMap<(String, String), Arc<Exposure>>,
}

/// A row of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<B> {
    /// The number that the vendor APIs with numbers use.
    pub number: i64,
    /// The UUID that the vendor APIs with UUIDs use.
    pub key: String,
    /// Grows with every change of it.
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub body: B,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupBody {
    pub name: String,
    /// `None`: the file declares it, or did; it has no more than its number and key here.
    pub own: Option<OwnGroup>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnGroup {
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub roles: Vec<String>,
    #[serde(default)]
    pub stages: Vec<String>,
    #[serde(default)]
    pub protected: bool,
    #[serde(default)]
    pub privileged: bool,
    /// The brake on mass revocation does not cover it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unbraked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleBody {
    pub name: String,
    /// `None`: the file declares it, or did.
    pub own: Option<OwnRole>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnRole {
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub protected: bool,
    #[serde(default)]
    pub privileged: bool,
    /// The brake on mass revocation does not cover it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unbraked: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingBody {
    pub definition: Definition,
    /// Its place among the enabled mappings of the store, from 1 without gaps. `None` when it is disabled, and for a default,
    /// which is decided after everything else.
    pub position: Option<u32>,
    /// Whether it was last written with scope `admin`. Where that is not known, it was not.
    #[serde(default)]
    pub admin: bool,
    /// Its claim need not be declared: then it is read from the token, by its name.
    #[serde(default, skip_serializing_if = "is_false")]
    pub any_claim: bool,
}

/// How a group is shown to the app, and to the person, for the users of one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    pub provider: String,
    pub group: String,
    /// The name under which the group is sent out.
    pub alias: Option<String>,
    /// Not shown to the person; never a matter of authorization.
    pub hidden: bool,
}

/// What a rule set knows of the entries of the store that are in it.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    /// The numbers of the store's mappings by their identities.
    pub numbers: HashMap<MappingId, i64>,
    /// Mappings of the store that were not written with scope `admin`.
    pub lesser: HashSet<MappingId>,
    /// Entries of the store that cannot be used, by number, and why.
    pub left_out: HashMap<i64, String>,
    pub exposures: HashMap<ProviderName, HashMap<GroupName, Shown>>,
    /// Claims that no provider declares, and that mappings of the store read all the same.
    pub implied: HashMap<ProviderName, Vec<ClaimRule>>,
    /// A digest of everything that decides: of the file, and of what the store adds.
    pub fingerprint: Option<[u8; 32]>,
}

/// An [`Exposure`] that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub alias: Option<Arc<str>>,
    pub hidden: bool,
}

impl Stored {
    /// The next number. Every entry that is made takes one.
    pub fn next_number(&mut self) -> i64 {
        self.last_number += 1;
        self.last_number
    }

    pub fn group(&self, name: &str) -> Option<&Arc<Entry<GroupBody>>> {
        self.groups.values().find(|entry| entry.body.name == name)
    }

    pub fn role(&self, name: &str) -> Option<&Arc<Entry<RoleBody>>> {
        self.roles.values().find(|entry| entry.body.name == name)
    }

    /// Mappings in the order in which they run: by position, then the disabled and the defaults by number.
    pub fn in_order(&self) -> Vec<&Arc<Entry<MappingBody>>> {
        let mut ordered: Vec<_> = self.mappings.values().collect();
        ordered.sort_by_key(|entry| (entry.body.position.unwrap_or(u32::MAX), entry.number));
        ordered
    }

    /// Gives a number and a key to every group and role that the file declares and that has none. `fresh_key` makes a UUID.
    pub fn number_declared(&mut self, file: &RuleSet, now: Timestamp, mut fresh_key: impl FnMut() -> String) -> bool {
        let before = self.last_number;
        let known: HashSet<String> = self.groups.values().map(|entry| entry.body.name.clone()).collect();
        let mut groups: Vec<&GroupName> = file.groups.keys().filter(|name| !known.contains(name.as_str())).collect();
        groups.sort_unstable();
        for name in groups {
            let number = self.next_number();
            let body = GroupBody { name: name.to_string(), own: None };
            self.groups.insert(number, Arc::new(Entry::new(number, fresh_key(), now, body)));
        }
        let known: HashSet<String> = self.roles.values().map(|entry| entry.body.name.clone()).collect();
        let mut roles: Vec<&RoleName> = file.roles.keys().filter(|name| !known.contains(name.as_str())).collect();
        roles.sort_unstable();
        for name in roles {
            let number = self.next_number();
            let body = RoleBody { name: name.to_string(), own: None };
            self.roles.insert(number, Arc::new(Entry::new(number, fresh_key(), now, body)));
        }
        self.last_number > before
    }

    /// Whether the store adds anything to what the file says.
    pub fn is_bare(&self) -> bool {
        self.mappings.is_empty()
            && self.exposures.is_empty()
            && self.groups.values().all(|entry| entry.body.own.is_none())
            && self.roles.values().all(|entry| entry.body.own.is_none())
    }

    /// A digest of everything here that decides anything.
    fn fingerprint(&self, file: Option<[u8; 32]>) -> Option<[u8; 32]> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&file?);
        let mut add = |text: Result<String, serde_json::Error>| {
            let text = text.unwrap_or_default();
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        };
        self.groups.values().for_each(|entry| add(serde_json::to_string(&(entry.number, &entry.body))));
        self.roles.values().for_each(|entry| add(serde_json::to_string(&(entry.number, &entry.body))));
        self.mappings.values().for_each(|entry| add(serde_json::to_string(&(entry.number, &entry.body))));
        self.exposures.values().for_each(|exposure| add(serde_json::to_string(&**exposure)));
        context.finish().as_ref().try_into().ok()
    }
}

impl<B> Entry<B> {
    pub fn new(number: i64, key: String, now: Timestamp, body: B) -> Self {
        Self { number, key, version: 1, created_at: now, updated_at: now, body }
    }

    /// The entry with another body.
    pub fn changed(&self, now: Timestamp, body: B) -> Self {
        Self {
            number: self.number,
            key: self.key.clone(),
            version: self.version + 1,
            created_at: self.created_at,
            updated_at: now,
            body,
        }
    }
}

impl Mapping {
    /// The identity of a mapping of the store: its number, so that editing it keeps its grants.
    pub fn id_of_number(number: i64) -> MappingId {
        super::digest_of(&["stored", &number.to_string()])
    }
}

/// Merges the rules of the file, of the store and of other sidecars' files into one rule set. `file` is what the configuration
/// alone comes to.
///
/// # Errors
/// When the index of all mappings would be larger than a login should pay for.
pub fn merge(file: &RuleSet, stored: &Stored, elsewhere: Arc<Elsewhere>, epoch: u64) -> Result<RuleSet, IndexError> {
    let mut overlay = Overlay { fingerprint: file.source, ..Overlay::default() };
    let mut rules = Rules {
        groups: file.groups.clone(),
        roles: file.roles.clone(),
        mappings: file.mappings().to_vec(),
        gates: file.gates.clone(),
        providers: file.providers.clone(),
        sync: file.sync,
        source: file.source,
        overlay: Overlay::default(),
        elsewhere,
    };
    let beside = rules.elsewhere.gates_beside(&rules);
    rules.gates.extend(beside);
    if !stored.is_bare() {
        overlay.fingerprint = stored.fingerprint(file.source);
        add_roles(&mut rules, stored, &mut overlay);
        add_groups(&mut rules, stored, &mut overlay);
        add_mappings(&mut rules, stored, &mut overlay);
        add_exposures(&rules, stored, &mut overlay);
    }
    RuleSet::compile(epoch, Rules { overlay, ..rules })
}

const DECLARED_BY_FILE: &str = "the configuration file declares one of this name, case aside";

fn add_roles(rules: &mut Rules, stored: &Stored, overlay: &mut Overlay) {
    let taken: HashSet<String> = rules.roles.keys().map(|name| alike(name.as_str()).into_owned()).collect();
    for entry in stored.roles.values() {
        let Some(own) = &entry.body.own else { continue };
        match RoleName::parse(&entry.body.name) {
            Ok(name) if !taken.contains(&*alike(&entry.body.name)) => {
                let role = Role { protected: own.protected, privileged: own.privileged, brake: !own.unbraked };
                rules.roles.insert(name, role);
            }
            Ok(_) => drop(overlay.left_out.insert(entry.number, DECLARED_BY_FILE.into())),
            Err(why) => drop(overlay.left_out.insert(entry.number, why.to_string())),
        }
    }
}

fn add_groups(rules: &mut Rules, stored: &Stored, overlay: &mut Overlay) {
    let taken: HashSet<String> = rules.groups.keys().map(|name| alike(name.as_str()).into_owned()).collect();
    for entry in stored.groups.values() {
        let Some(own) = &entry.body.own else { continue };
        match GroupName::parse(&entry.body.name) {
            Ok(name) if !taken.contains(&*alike(&entry.body.name)) => {
                let carried = |role: &String| rules.roles.get_key_value(role.as_str()).map(|(name, _)| name.clone());
                let group = Group {
                    roles: own.roles.iter().filter_map(carried).collect(),
                    stages: own.stages.iter().filter_map(|stage| Stage::parse(stage).ok()).collect(),
                    protected: own.protected,
                    privileged: own.privileged,
                    brake: !own.unbraked,
                };
                rules.groups.insert(name, group);
            }
            Ok(_) => drop(overlay.left_out.insert(entry.number, DECLARED_BY_FILE.into())),
            Err(why) => drop(overlay.left_out.insert(entry.number, why.to_string())),
        }
    }
}

/// Claims of one provider that mappings may imply: each is read at every login.
pub const MOST_IMPLIED: usize = 100;

/// The claim that a mapping in the short form reads, as it is read where its provider does not declare it.
pub fn implied(definition: &Definition) -> Option<(ProviderName, ClaimRule)> {
    let short = definition.short()?;
    let (provider, name) = (ProviderName::parse(short.provider).ok()?, ClaimName::parse(short.claim).ok()?);
    let selector = Selector::Name(short.claim.to_owned());
    Some((provider, ClaimRule::plain(name, selector, vec![Source::Assertion])))
}

fn add_implied(rules: &mut Rules, definition: &Definition, overlay: &mut Overlay) {
    let Some((provider, claim)) = implied(definition) else { return };
    let Some(known) = rules.providers.get_mut(&provider) else { return };
    let implied = overlay.implied.entry(provider).or_default();
    if implied.len() < MOST_IMPLIED && known.claims.iter().all(|rule| rule.name != claim.name) {
        implied.push(claim.clone());
        known.claims.push(claim);
    }
}

fn add_mappings(rules: &mut Rules, stored: &Stored, overlay: &mut Overlay) {
    let mut added = Vec::new();
    for entry in stored.in_order() {
        if entry.body.any_claim {
            add_implied(rules, &entry.body.definition, overlay);
        }
        let declared = Declared { groups: &rules.groups, roles: &rules.roles, providers: &rules.providers };
        let id = Mapping::id_of_number(entry.number);
        match entry.body.definition.compile(id, declared, TextLimits::NONE) {
            Ok(mapping) => {
                overlay.numbers.insert(id, entry.number);
                if !entry.body.admin {
                    overlay.lesser.insert(id);
                }
                added.push(mapping);
            }
            Err(faults) => drop(overlay.left_out.insert(entry.number, reason(&faults))),
        }
    }
    rules.mappings.extend(added);
}

/// Faults in one line.
pub fn reason(faults: &[Fault]) -> String {
    let each: Vec<String> = faults
        .iter()
        .map(|fault| match &fault.value {
            Some(value) => format!("{}: `{value}` {}", fault.field, fault.message),
            None => format!("{}: {}", fault.field, fault.message),
        })
        .collect();
    each.join("; ")
}

/// Every name that an alias may not have: those of all groups and roles, folded.
pub fn taken_names<'a>(
    groups: impl Iterator<Item = &'a GroupName>,
    roles: impl Iterator<Item = &'a RoleName>,
) -> HashSet<String> {
    let groups = groups.map(|name| alike(name.as_str()).into_owned());
    groups.chain(roles.map(|name| alike(name.as_str()).into_owned())).collect()
}

fn add_exposures(rules: &Rules, stored: &Stored, overlay: &mut Overlay) {
    let mut taken = taken_names(rules.groups.keys(), rules.roles.keys());
    let declared_privileged = |group: &Group| {
        let role_is = |name: &RoleName| rules.roles.get(name).is_some_and(|role| role.privileged);
        group.privileged || group.roles.iter().any(role_is)
    };
    for exposure in stored.exposures.values() {
        let (Some((provider, _)), Some((group, content))) = (
            rules.providers.get_key_value(exposure.provider.as_str()),
            rules.groups.get_key_value(exposure.group.as_str()),
        ) else {
            continue;
        };
        // A name that came into use since is not given twice: the group goes out under its own.
        let alias = exposure
            .alias
            .as_deref()
            .filter(|alias| !declared_privileged(content) && taken.insert(alike(alias).into_owned()));
        let shown = Shown { alias: alias.map(Arc::from), hidden: exposure.hidden };
        overlay.exposures.entry(provider.clone()).or_default().insert(group.clone(), shown);
    }
}

impl RuleSet {
    /// How a group is shown for the users of a provider, where anything was said of that.
    pub fn shown(&self, provider: &ProviderName, group: &str) -> Option<&Shown> {
        self.overlay.exposures.get(provider)?.get(group)
    }

    /// The number of a mapping of the store; `None` for one of the file.
    pub fn number(&self, id: MappingId) -> Option<i64> {
        self.overlay.numbers.get(&id).copied()
    }

    /// What tells this set of rules from another by what it decides.
    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        self.overlay.fingerprint.or(self.source)
    }
}

/// The targets that were there before and are no more.
pub fn removed_targets(before: &Stored, after: &Stored) -> Vec<Target> {
    let groups =
        before.groups.iter().filter(|(number, entry)| entry.body.own.is_some() && !after.groups.contains_key(number));
    let roles =
        before.roles.iter().filter(|(number, entry)| entry.body.own.is_some() && !after.roles.contains_key(number));
    let groups = groups.filter_map(|(_, entry)| GroupName::parse(&entry.body.name).ok().map(Target::Group));
    let roles = roles.filter_map(|(_, entry)| RoleName::parse(&entry.body.name).ok().map(Target::Role));
    groups.chain(roles).collect()
}
