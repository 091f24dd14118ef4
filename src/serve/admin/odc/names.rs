//! The roles of a user, with the reasons that the API shows.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::ports::store::{MembershipView, UserView};
use crate::serve::admin::http::Admin;
use crate::serve::admin::service::RoleView;

pub const ASSIGNED: &str = "Assigned";
pub const MAPPED: &str = "Mapped";

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserRoleObject {
    pub key: String,
    pub name: String,
    pub is_directly_assigned: bool,
    pub assigned_groups: Vec<RoleGroupObject>,
}

/// A group through which a role comes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleGroupObject {
    pub key: String,
    pub name: String,
    pub membership_type: &'static str,
}

/// All roles and groups, looked up once for however many people.
pub struct Names {
    roles: Vec<RoleView>,
    /// Keys by name.
    groups: HashMap<String, String>,
}

impl Names {
    pub fn of(admin: &Admin) -> Self {
        let groups = admin.service.groups().into_iter().map(|group| (group.name, group.key));
        Self { roles: admin.service.roles(), groups: groups.collect() }
    }

    /// The roles that a user has, and by what.
    pub fn roles_of(&self, view: &UserView) -> Vec<UserRoleObject> {
        let has = |role: &&RoleView| view.roles.contains(&role.name);
        self.roles.iter().filter(has).map(|role| self.role_of(role, view)).collect()
    }

    fn role_of(&self, role: &RoleView, view: &UserView) -> UserRoleObject {
        let direct = view.memberships.iter().any(|one| one.kind == "role" && one.name == role.name && one.effective);
        let through = view.roles_through_groups.iter().filter(|one| one.role == role.name).flat_map(|one| &one.groups);
        let mut groups = Vec::new();
        for name in through {
            let membership = view.memberships.iter().find(|one| one.kind == "group" && one.name == *name);
            let (Some(key), Some(membership)) = (self.groups.get(name), membership) else { continue };
            for membership_type in types_of(membership) {
                groups.push(RoleGroupObject { key: key.clone(), name: name.clone(), membership_type });
            }
        }
        let (key, name) = (role.key.clone(), role.name.clone());
        UserRoleObject { key, name, is_directly_assigned: direct, assigned_groups: groups }
    }
}

pub fn types(mapped: bool, assigned: bool) -> Vec<&'static str> {
    [(assigned, ASSIGNED), (mapped, MAPPED)].into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect()
}

pub fn types_of(membership: &MembershipView) -> Vec<&'static str> {
    let word = membership.membership;
    types(matches!(word, "mapped" | "both"), matches!(word, "assigned" | "both"))
}
