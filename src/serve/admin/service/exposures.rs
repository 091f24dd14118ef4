//! How groups are shown to the app and to people: aliases and the hidden flag, for the users of one provider.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::{Call, Draft, Index, Refused, Service, World};
use crate::config::Scope;
use crate::pipeline::ids::{GroupName, Target};
use crate::pipeline::mapping::condition::alike;
use crate::pipeline::mapping::definition::Fault;
use crate::pipeline::mapping::stored::{Exposure, Stored, taken_names};

#[derive(Debug, Clone, Serialize)]
pub struct ExposureView {
    pub group: String,
    /// The UUID of the group.
    pub key: String,
    pub alias: Option<String>,
    pub hidden: bool,
}

impl ExposureView {
    fn of(exposure: &Exposure, stored: &Stored, index: &Index) -> Option<Self> {
        let group = stored.groups.get(index.groups.by_name.get(&exposure.group)?)?;
        Some(Self {
            group: exposure.group.clone(),
            key: group.key.clone(),
            alias: exposure.alias.clone(),
            hidden: exposure.hidden,
        })
    }
}

/// What of an exposure changes.
#[derive(Debug, Clone, Default)]
#[allow(clippy::option_option, reason = "absent keeps, null clears")]
pub struct ExposureChange {
    pub alias: Option<Option<String>>,
    pub hidden: Option<bool>,
}

impl Service {
    pub fn exposures(&self, provider: &str) -> Vec<ExposureView> {
        let (stored, index) = self.indexed();
        let of = stored.exposures.values().filter(|exposure| exposure.provider == provider);
        of.filter_map(|exposure| ExposureView::of(exposure, &stored, &index)).collect()
    }

    /// How one group is shown for a provider.
    pub fn exposure(&self, provider: &str, group: &str) -> Option<ExposureView> {
        let (stored, index) = self.indexed();
        let exposure = stored.exposures.get(&(provider.to_owned(), group.to_owned()))?;
        ExposureView::of(exposure, &stored, &index)
    }

    /// Makes or changes one.
    ///
    /// # Errors
    /// When the caller may not, or the alias cannot be.
    pub async fn set_exposure(
        &self,
        call: &Call,
        provider: &str,
        group: &str,
        change: ExposureChange,
    ) -> Result<(), Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let (own, provider, group) = (call.clone(), provider.to_owned(), group.to_owned());
        self.change(call, move |world| {
            let mut draft = world.draft();
            let mut taken = Taken::of(world, &draft);
            set(world, &mut draft, &mut taken, &own, (provider, group), change)?;
            Ok((draft, ()))
        })
        .await
    }

    /// Makes these all that the provider has.
    ///
    /// # Errors
    /// When the caller may not, or one of the aliases cannot be.
    pub async fn replace_exposures(
        &self,
        call: &Call,
        provider: &str,
        list: Vec<(String, ExposureChange)>,
    ) -> Result<(), Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let (own, provider) = (call.clone(), provider.to_owned());
        self.change(call, move |world| {
            let mut draft = world.draft();
            let wanted: HashSet<&str> = list.iter().map(|(group, _)| group.as_str()).collect();
            let before: Vec<_> =
                draft.after.exposures.keys().filter(|(owner, _)| *owner == provider).cloned().collect();
            for key in before {
                // One that stays keeps nothing: what the list leaves out is as if it were new.
                draft.after.exposures.remove(&key);
                if !wanted.contains(key.1.as_str()) {
                    draft.note("exposure_deleted", &own, json!({ "provider": provider, "group": key.1 }));
                }
            }
            let mut taken = Taken::of(world, &draft);
            for (group, change) in list {
                set(world, &mut draft, &mut taken, &own, (provider.clone(), group), change)?;
            }
            Ok((draft, ()))
        })
        .await
    }

    /// # Errors
    /// When the caller may not, or there is none.
    pub async fn delete_exposure(&self, call: &Call, provider: &str, group: &str) -> Result<(), Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let (own, key) = (call.clone(), (provider.to_owned(), group.to_owned()));
        self.change(call, move |world| {
            let mut draft = world.draft();
            if draft.after.exposures.remove(&key).is_none() {
                return Err(Refused::NotFound("there is no such mapping of a group".into()));
            }
            draft.note("exposure_deleted", &own, json!({ "provider": key.0, "group": key.1 }));
            Ok((draft, ()))
        })
        .await
    }
}

fn set(
    world: &World,
    draft: &mut Draft,
    taken: &mut Taken,
    call: &Call,
    key: (String, String),
    change: ExposureChange,
) -> Result<(), Refused> {
    let group = &key.1;
    let before = draft.after.exposures.get(&key).cloned();
    let name = GroupName::parse(group).ok().filter(|name| world.rules.groups.contains_key(name));
    let Some(name) = name else { return Err(Refused::NotFound(format!("there is no group `{group}`"))) };
    let kept = before.as_ref().and_then(|exposure| exposure.alias.clone());
    if let Some(kept) = &kept {
        taken.aliases.remove(&*alike(kept));
    }
    let alias = change.alias.unwrap_or(kept);
    let hidden = change.hidden.or(before.as_ref().map(|exposure| exposure.hidden)).unwrap_or_default();
    if let Some(alias) = &alias {
        if world.rules.is_privileged(&Target::Group(name)) {
            return Err(Refused::Forbidden(format!("group `{group}` is privileged and takes no alias")));
        }
        taken.check(world, alias)?;
        taken.aliases.insert(alike(alias).into_owned());
    }
    let exposure = Exposure { provider: key.0.clone(), group: group.clone(), alias, hidden };
    draft.note("exposure_set", call, &exposure);
    draft.after.exposures.insert(key, Arc::new(exposure));
    Ok(())
}

/// What an alias may not be, since it would pass for that.
struct Taken {
    /// Of all groups and roles.
    names: HashSet<String>,
    /// Of other groups.
    aliases: HashSet<String>,
}

impl Taken {
    fn of(world: &World, draft: &Draft) -> Self {
        let aliases = draft.after.exposures.values().filter_map(|exposure| exposure.alias.as_deref());
        Self {
            names: taken_names(world.rules.groups.keys(), world.rules.roles.keys()),
            aliases: aliases.map(|alias| alike(alias).into_owned()).collect(),
        }
    }

    fn check(&self, world: &World, alias: &str) -> Result<(), Refused> {
        if let Err(why) = GroupName::parse(alias) {
            return Err(Refused::Invalid(vec![Fault::new("alias", Some(alias), why.to_string())]));
        }
        if let Some(why) = world.headers.unfit(alias) {
            return Err(Refused::Invalid(vec![Fault::new("alias", Some(alias), why.to_string())]));
        }
        let name = alike(alias);
        if self.names.contains(&*name) || self.aliases.contains(&*name) {
            return Err(Refused::Conflict(format!("`{alias}` is the name or alias of something else, case aside")));
        }
        Ok(())
    }
}
