//! Groups: those of the file to look at, those of the store to change.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    Call, Draft, Refused, Service, World, check_description, check_marks, check_version, new_entry, no_faults, not_own,
};
use crate::config::Scope;
use crate::pipeline::ids::{GroupName, Target};
use crate::pipeline::mapping::condition::alike;
use crate::pipeline::mapping::definition::Definition;
use crate::pipeline::mapping::stored::{Entry, Exposure, GroupBody, MappingBody, OwnGroup};
use crate::pipeline::mapping::{Group, RuleSet};

/// A group, as the API shows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupView {
    pub name: String,
    /// The number that the vendor APIs with numbers use.
    pub number: i64,
    /// The UUID that the vendor APIs with UUIDs use.
    pub key: String,
    /// `file`: the configuration declares it, and it is read-only here. `store`: made by an API.
    pub origin: &'static str,
    pub description: String,
    /// Roles that every member holds.
    pub roles: Vec<String>,
    /// Empty: every stage.
    pub stages: Vec<String>,
    pub protected: bool,
    /// Whether it is marked as privileged, or carries a privileged role.
    pub privileged: bool,
    /// Whether the brake on mass revocation covers it.
    pub brake: bool,
    /// Why it is not in use; absent if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactive: Option<String>,
    pub version: i64,
    /// RFC 3339.
    pub created_at: String,
    pub updated_at: String,
}

/// A new group.
#[derive(Debug, Clone, Default)]
pub struct GroupInput {
    pub name: String,
    pub own: OwnGroup,
}

/// What of a group changes; absent parts stay.
#[derive(Debug, Clone, Default)]
pub struct GroupChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub roles: Option<Vec<String>>,
    pub stages: Option<Vec<String>>,
    pub protected: Option<bool>,
    pub privileged: Option<bool>,
    pub brake: Option<bool>,
}

impl GroupView {
    /// One that a file declared once, and no more, has a number and nothing else: it is not there.
    fn living(entry: &Entry<GroupBody>, rules: &RuleSet) -> Option<Self> {
        let lives = entry.body.own.is_some() || rules.groups.contains_key(entry.body.name.as_str());
        lives.then(|| Self::new(entry, rules))
    }

    fn new(entry: &Entry<GroupBody>, rules: &RuleSet) -> Self {
        let content = rules.groups.get(entry.body.name.as_str());
        let inactive = rules.overlay.left_out.get(&entry.number);
        let own = entry.body.own.as_ref();
        // Where the file declares the name too, what it says is what holds.
        let (roles, stages) = match own.filter(|_| inactive.is_none() || content.is_none()) {
            Some(own) => (own.roles.clone(), own.stages.clone()),
            None => content.map_or_else(Default::default, |group| {
                let roles = group.roles.iter().map(ToString::to_string).collect();
                (roles, group.stages.iter().map(ToString::to_string).collect())
            }),
        };
        let flag = |own: Option<bool>, declared: fn(&Group) -> bool| {
            own.unwrap_or_default() || content.map(declared).unwrap_or_default()
        };
        let target = content.and_then(|_| GroupName::parse(&entry.body.name).ok()).map(Target::Group);
        let through_role = target.is_some_and(|target| rules.is_privileged(&target));
        Self {
            name: entry.body.name.clone(),
            number: entry.number,
            key: entry.key.clone(),
            origin: if own.is_some() { "store" } else { "file" },
            description: own.map(|own| own.description.clone()).unwrap_or_default(),
            roles,
            stages,
            protected: flag(own.map(|own| own.protected), |group| group.protected),
            privileged: through_role || flag(own.map(|own| own.privileged), |group| group.privileged),
            brake: own.map_or_else(|| content.is_none_or(|group| group.brake), |own| !own.unbraked),
            inactive: inactive.cloned(),
            version: entry.version,
            created_at: entry.created_at.to_string(),
            updated_at: entry.updated_at.to_string(),
        }
    }
}

impl Service {
    /// All groups that are declared, by name.
    pub fn groups(&self) -> Vec<GroupView> {
        let (stored, rules) = (self.inspect.stored(), self.inspect.rules());
        let mut views: Vec<GroupView> =
            stored.groups.values().filter_map(|entry| GroupView::living(entry, &rules)).collect();
        views.sort_by(|one, other| (&one.name, one.number).cmp(&(&other.name, other.number)));
        views
    }

    /// # Errors
    /// When there is no such group.
    pub fn group(&self, name: &str) -> Result<GroupView, Refused> {
        let (stored, index) = self.indexed();
        let found = index.groups.by_name.get(name).and_then(|number| stored.groups.get(number));
        let found = found.and_then(|entry| GroupView::living(entry, &self.inspect.rules()));
        found.ok_or_else(|| Refused::NotFound(format!("there is no group `{name}`")))
    }

    /// The group with a UUID.
    pub fn group_by_key(&self, key: &str) -> Option<GroupView> {
        let (stored, index) = self.indexed();
        GroupView::living(stored.groups.get(&index.groups.by_key(key)?)?, &self.inspect.rules())
    }

    /// # Errors
    /// When the caller may not, something is wrong with the group, or there is one of this name.
    pub async fn create_group(&self, call: &Call, input: GroupInput) -> Result<GroupView, Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let name = input.name.clone();
        let own = call.clone();
        self.change(call, move |world| create(world, &own, input)).await?;
        self.group(&name)
    }

    /// # Errors
    /// When the caller may not, something is wrong with the change, or the group is of the file.
    pub async fn update_group(&self, call: &Call, name: &str, change: GroupChange) -> Result<GroupView, Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let after = change.name.clone().unwrap_or_else(|| name.to_owned());
        let (own, name) = (call.clone(), name.to_owned());
        self.change(call, move |world| update(world, &own, &name, change)).await?;
        self.group(&after)
    }

    /// Takes its mappings, and what came through it, with it.
    ///
    /// # Errors
    /// When the caller may not, or the group is of the file or not there.
    pub async fn delete_group(&self, call: &Call, name: &str) -> Result<(), Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let (own, name) = (call.clone(), name.to_owned());
        self.change(call, move |world| delete(world, &own, &name)).await
    }
}

/// The group of the store with a name.
fn own_group<'w>(world: &'w World, name: &str) -> Result<(&'w Arc<Entry<GroupBody>>, &'w OwnGroup), Refused> {
    let found = world.stored.groups.values().find(|entry| entry.body.name == name && entry.body.own.is_some());
    if let Some(entry) = found
        && let Some(own) = &entry.body.own
    {
        return Ok((entry, own));
    }
    Err(not_own("group", name, world.file.groups.contains_key(name)))
}

fn check(
    world: &World,
    call: &Call,
    own: &OwnGroup,
) -> Result<Vec<crate::pipeline::mapping::definition::Fault>, Refused> {
    let mut faults = Vec::new();
    check_description(&mut faults, &own.description);
    World::check_stages(&mut faults, &own.stages);
    world.check_roles(&mut faults, call, &own.roles)?;
    Ok(faults)
}

fn create(world: &World, call: &Call, input: GroupInput) -> Result<(Draft, ()), Refused> {
    check_marks(call, input.own.privileged || input.own.protected || input.own.unbraked)?;
    let mut faults = check(world, call, &input.own)?;
    world.check_name(&mut faults, &input.name, &world.group_names())?;
    no_faults(faults)?;
    let mut draft = world.draft();
    let left = draft.after.group(&input.name).cloned();
    let body = GroupBody { name: input.name, own: Some(input.own) };
    draft.note("group_created", call, &body);
    let entry = new_entry(&mut draft.after, left.as_deref(), world.now, body)?;
    draft.after.groups.insert(entry.number, entry);
    Ok((draft, ()))
}

fn update(world: &World, call: &Call, name: &str, change: GroupChange) -> Result<(Draft, ()), Refused> {
    let (entry, own) = own_group(world, name)?;
    if world.file.groups.contains_key(name) {
        // What is left of the store's under a name that the file has since declared: its members are the file's.
        return Err(not_own("group", name, true));
    }
    check_version(call, entry.version)?;
    let marks = change.protected.is_some_and(|wanted| wanted != own.protected)
        || change.privileged.is_some_and(|wanted| wanted != own.privileged)
        || change.brake.is_some_and(|wanted| wanted == own.unbraked);
    let target = GroupName::parse(name).map(Target::Group).map_err(|why| Refused::Conflict(why.to_string()))?;
    check_marks(call, marks || world.rules.is_privileged(&target))?;
    let after = OwnGroup {
        description: change.description.unwrap_or_else(|| own.description.clone()),
        roles: change.roles.unwrap_or_else(|| own.roles.clone()),
        stages: change.stages.unwrap_or_else(|| own.stages.clone()),
        protected: change.protected.unwrap_or(own.protected),
        privileged: change.privileged.unwrap_or(own.privileged),
        unbraked: change.brake.map_or(own.unbraked, |brake| !brake),
    };
    let mut faults = check(world, call, &after)?;
    let renamed = change.name.filter(|wanted| wanted != name);
    if let Some(wanted) = &renamed {
        let mut taken = world.group_names();
        taken.remove(&*alike(name));
        world.check_name(&mut faults, wanted, &taken)?;
    }
    no_faults(faults)?;
    let mut draft = world.draft();
    let body = GroupBody { name: renamed.clone().unwrap_or_else(|| name.to_owned()), own: Some(after) };
    draft.note("group_changed", call, json!({ "before": entry.body, "after": body }));
    draft.after.groups.insert(entry.number, Arc::new(entry.changed(world.now, body)));
    if let Some(wanted) = renamed {
        rename(world, &mut draft, name, &wanted);
        if let Ok(to) = GroupName::parse(&wanted) {
            draft.renamed.push((target, Target::Group(to)));
        }
    }
    Ok((draft, ()))
}

/// Mappings and aliases speak of groups by name.
fn rename(world: &World, draft: &mut Draft, from: &str, to: &str) {
    // What a group of the file left behind under the new name would be a second one of it.
    draft.after.groups.retain(|_, entry| entry.body.own.is_some() || entry.body.name != to);
    for entry in world.stored.mappings.values() {
        let mut definition = entry.body.definition.clone();
        for action in &mut definition.then {
            if action.add_group.as_deref() == Some(from) {
                action.add_group = Some(to.to_owned());
            }
        }
        if definition != entry.body.definition {
            let body = MappingBody { definition, ..entry.body.clone() };
            draft.after.mappings.insert(entry.number, Arc::new(entry.changed(world.now, body)));
        }
    }
    move_exposures(draft, from, Some(to));
}

fn move_exposures(draft: &mut Draft, from: &str, to: Option<&str>) {
    let keys: Vec<_> = draft.after.exposures.keys().filter(|(_, group)| group == from).cloned().collect();
    for key in keys {
        let Some(exposure) = draft.after.exposures.remove(&key) else { continue };
        let Some(to) = to else { continue };
        let moved = Exposure { group: to.to_owned(), ..Exposure::clone(&exposure) };
        draft.after.exposures.insert((key.0, to.to_owned()), Arc::new(moved));
    }
}

fn delete(world: &World, call: &Call, name: &str) -> Result<(Draft, ()), Refused> {
    let (entry, own) = own_group(world, name)?;
    check_version(call, entry.version)?;
    let target = GroupName::parse(name).map(Target::Group).map_err(|why| Refused::Conflict(why.to_string()))?;
    check_marks(call, world.rules.is_privileged(&target) || world.rules.is_protected(&target))?;
    let mut draft = world.draft();
    if world.file.groups.contains_key(name) {
        // The leftover alone goes: mappings, members and aliases are those of the file's group.
        draft.note("group_deleted", call, &entry.body);
        let body = GroupBody { name: name.to_owned(), own: None };
        draft.after.groups.insert(entry.number, Arc::new(entry.changed(world.now, body)));
        return Ok((draft, ()));
    }
    draft.exempt = own.unbraked;
    draft.after.groups.remove(&entry.number);
    move_exposures(&mut draft, name, None);
    remove_from_mappings(world, &mut draft, |action| action.add_group.as_deref() == Some(name));
    draft.note("group_deleted", call, &entry.body);
    Ok((draft, ()))
}

/// Takes actions out of the store's mappings, and with its last action the mapping.
pub(super) fn remove_from_mappings(
    world: &World,
    draft: &mut Draft,
    goes: impl Fn(&crate::pipeline::mapping::definition::ActionDefinition) -> bool,
) {
    for entry in world.stored.mappings.values() {
        if !entry.body.definition.then.iter().any(&goes) {
            continue;
        }
        let then: Vec<_> = entry.body.definition.then.iter().filter(|action| !goes(action)).cloned().collect();
        if then.is_empty() {
            draft.after.mappings.remove(&entry.number);
            continue;
        }
        let definition = Definition { then, ..entry.body.definition.clone() };
        let body = MappingBody { definition, ..entry.body.clone() };
        draft.after.mappings.insert(entry.number, Arc::new(entry.changed(world.now, body)));
    }
    super::mappings::close_gaps(&mut draft.after, world.now);
}
