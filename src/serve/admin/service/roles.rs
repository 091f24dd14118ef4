//! Roles: those of the file to look at, those of the store to change.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::groups::remove_from_mappings;
use super::{
    Call, Draft, Refused, Service, World, check_description, check_marks, check_version, new_entry, no_faults, not_own,
};
use crate::config::Scope;
use crate::pipeline::mapping::stored::{Entry, GroupBody, OwnGroup, OwnRole, RoleBody};
use crate::pipeline::mapping::{Role, RuleSet};

/// A role, as the API shows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RoleView {
    pub name: String,
    /// The number that the vendor APIs with numbers use.
    pub number: i64,
    /// The UUID that the vendor APIs with UUIDs use.
    pub key: String,
    /// `file`: the configuration declares it, and it is read-only here. `store`: made by an API.
    pub origin: &'static str,
    pub description: String,
    pub protected: bool,
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

/// A new role.
#[derive(Debug, Clone, Default)]
pub struct RoleInput {
    pub name: String,
    pub own: OwnRole,
}

/// What of a role changes; absent parts stay.
#[derive(Debug, Clone, Default)]
pub struct RoleChange {
    pub description: Option<String>,
    pub protected: Option<bool>,
    pub privileged: Option<bool>,
    pub brake: Option<bool>,
}

impl RoleView {
    /// One that a file declared once, and no more, has a number and nothing else: it is not there.
    fn living(entry: &Entry<RoleBody>, rules: &RuleSet) -> Option<Self> {
        let content = rules.roles.get(entry.body.name.as_str());
        let inactive = rules.overlay.left_out.get(&entry.number);
        (entry.body.own.is_some() || content.is_some()).then(|| Self::new(entry, content, inactive))
    }

    fn new(entry: &Entry<RoleBody>, content: Option<&Role>, inactive: Option<&String>) -> Self {
        let own = entry.body.own.as_ref();
        let flag = |own: Option<bool>, declared: fn(&Role) -> bool| {
            own.unwrap_or_default() || content.map(declared).unwrap_or_default()
        };
        Self {
            name: entry.body.name.clone(),
            number: entry.number,
            key: entry.key.clone(),
            origin: if own.is_some() { "store" } else { "file" },
            description: own.map(|own| own.description.clone()).unwrap_or_default(),
            protected: flag(own.map(|own| own.protected), |role| role.protected),
            privileged: flag(own.map(|own| own.privileged), |role| role.privileged),
            brake: own.map_or_else(|| content.is_none_or(|role| role.brake), |own| !own.unbraked),
            inactive: inactive.cloned(),
            version: entry.version,
            created_at: entry.created_at.to_string(),
            updated_at: entry.updated_at.to_string(),
        }
    }
}

impl Service {
    /// All roles that are declared, by name.
    pub fn roles(&self) -> Vec<RoleView> {
        let (stored, rules) = (self.inspect.stored(), self.inspect.rules());
        let mut views: Vec<RoleView> =
            stored.roles.values().filter_map(|entry| RoleView::living(entry, &rules)).collect();
        views.sort_by(|one, other| (&one.name, one.number).cmp(&(&other.name, other.number)));
        views
    }

    /// # Errors
    /// When there is no such role.
    pub fn role(&self, name: &str) -> Result<RoleView, Refused> {
        let (stored, index) = self.indexed();
        let found = index.roles.by_name.get(name).and_then(|number| stored.roles.get(number));
        let found = found.and_then(|entry| RoleView::living(entry, &self.inspect.rules()));
        found.ok_or_else(|| Refused::NotFound(format!("there is no role `{name}`")))
    }

    pub fn role_by_number(&self, number: i64) -> Option<RoleView> {
        RoleView::living(self.inspect.stored().roles.get(&number)?, &self.inspect.rules())
    }

    pub fn role_by_key(&self, key: &str) -> Option<RoleView> {
        let (stored, index) = self.indexed();
        RoleView::living(stored.roles.get(&index.roles.by_key(key)?)?, &self.inspect.rules())
    }

    /// # Errors
    /// When the caller may not, something is wrong with the role, or there is one of this name.
    pub async fn create_role(&self, call: &Call, input: RoleInput) -> Result<RoleView, Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let name = input.name.clone();
        let own = call.clone();
        self.change(call, move |world| create(world, &own, input)).await?;
        self.role(&name)
    }

    /// # Errors
    /// When the caller may not, or the role is of the file or not there.
    pub async fn update_role(&self, call: &Call, name: &str, change: RoleChange) -> Result<RoleView, Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let (own, changed) = (call.clone(), name.to_owned());
        self.change(call, move |world| update(world, &own, &changed, change)).await?;
        self.role(name)
    }

    /// Takes its mappings, and its place in groups, with it.
    ///
    /// # Errors
    /// When the caller may not, or the role is of the file or not there.
    pub async fn delete_role(&self, call: &Call, name: &str) -> Result<(), Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let (own, name) = (call.clone(), name.to_owned());
        self.change(call, move |world| delete(world, &own, &name)).await
    }
}

fn own_role<'w>(world: &'w World, name: &str) -> Result<(&'w Arc<Entry<RoleBody>>, &'w OwnRole), Refused> {
    let found = world.stored.roles.values().find(|entry| entry.body.name == name && entry.body.own.is_some());
    if let Some(entry) = found
        && let Some(own) = &entry.body.own
    {
        return Ok((entry, own));
    }
    Err(not_own("role", name, world.file.roles.contains_key(name)))
}

fn create(world: &World, call: &Call, input: RoleInput) -> Result<(Draft, ()), Refused> {
    check_marks(call, input.own.privileged || input.own.protected || input.own.unbraked)?;
    let mut faults = Vec::new();
    check_description(&mut faults, &input.own.description);
    world.check_name(&mut faults, &input.name, &world.role_names())?;
    no_faults(faults)?;
    let mut draft = world.draft();
    let left = draft.after.role(&input.name).cloned();
    let body = RoleBody { name: input.name, own: Some(input.own) };
    draft.note("role_created", call, &body);
    let entry = new_entry(&mut draft.after, left.as_deref(), world.now, body)?;
    draft.after.roles.insert(entry.number, entry);
    Ok((draft, ()))
}

fn update(world: &World, call: &Call, name: &str, change: RoleChange) -> Result<(Draft, ()), Refused> {
    let (entry, own) = own_role(world, name)?;
    if world.file.roles.contains_key(name) {
        return Err(not_own("role", name, true));
    }
    check_version(call, entry.version)?;
    let after = OwnRole {
        description: change.description.unwrap_or_else(|| own.description.clone()),
        protected: change.protected.unwrap_or(own.protected),
        privileged: change.privileged.unwrap_or(own.privileged),
        unbraked: change.brake.map_or(own.unbraked, |brake| !brake),
    };
    let marked =
        own.privileged || after.privileged || after.protected != own.protected || after.unbraked != own.unbraked;
    check_marks(call, marked)?;
    let mut faults = Vec::new();
    check_description(&mut faults, &after.description);
    no_faults(faults)?;
    let mut draft = world.draft();
    let body = RoleBody { name: name.to_owned(), own: Some(after) };
    draft.note("role_changed", call, json!({ "before": entry.body, "after": body }));
    draft.after.roles.insert(entry.number, Arc::new(entry.changed(world.now, body)));
    Ok((draft, ()))
}

fn delete(world: &World, call: &Call, name: &str) -> Result<(Draft, ()), Refused> {
    let (entry, own) = own_role(world, name)?;
    check_version(call, entry.version)?;
    check_marks(call, own.privileged || own.protected)?;
    if world.file.roles.contains_key(name) {
        // The leftover alone goes: what speaks of the role means the file's.
        let mut draft = world.draft();
        draft.note("role_deleted", call, &entry.body);
        let body = RoleBody { name: name.to_owned(), own: None };
        draft.after.roles.insert(entry.number, Arc::new(entry.changed(world.now, body)));
        return Ok((draft, ()));
    }
    // A condition on a role that is gone would change what its mapping means.
    for mapping in world.stored.mappings.values() {
        let asks = |role: &Option<String>| role.as_deref() == Some(name);
        if mapping.body.definition.when.iter().any(|condition| asks(&condition.has_role) || asks(&condition.lacks_role))
        {
            let number = mapping.number;
            return Err(Refused::Conflict(format!("mapping {number} asks for role `{name}`; change it first")));
        }
    }
    let mut draft = world.draft();
    draft.exempt = own.unbraked;
    draft.after.roles.remove(&entry.number);
    for group in world.stored.groups.values() {
        let Some(own) = group.body.own.as_ref().filter(|own| own.roles.iter().any(|role| role == name)) else {
            continue;
        };
        let roles = own.roles.iter().filter(|role| *role != name).cloned().collect();
        let body = GroupBody { name: group.body.name.clone(), own: Some(OwnGroup { roles, ..own.clone() }) };
        draft.after.groups.insert(group.number, Arc::new(group.changed(world.now, body)));
    }
    remove_from_mappings(world, &mut draft, |action| action.add_role.as_deref() == Some(name));
    draft.note("role_deleted", call, &entry.body);
    Ok((draft, ()))
}
