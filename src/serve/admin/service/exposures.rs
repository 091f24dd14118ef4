//! How groups are shown to the app and to people: aliases and the hidden flag, for the users of one provider.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::{Call, Draft, Refused, Service, World};
use crate::config::Scope;
use crate::pipeline::ids::{GroupName, Target};
use crate::pipeline::mapping::condition::folded;
use crate::pipeline::mapping::definition::Fault;
use crate::pipeline::mapping::stored::{Exposure, taken_names};

#[derive(Debug, Clone, Serialize)]
pub struct ExposureView {
    pub group: String,
    /// The UUID of the group.
    pub key: String,
    pub alias: Option<String>,
    pub hidden: bool,
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
        let stored = self.inspect.stored();
        let of = stored.exposures.values().filter(|exposure| exposure.provider == provider);
        of.filter_map(|exposure| {
            let group = stored.group(&exposure.group)?;
            Some(ExposureView {
                group: exposure.group.clone(),
                key: group.key.clone(),
                alias: exposure.alias.clone(),
                hidden: exposure.hidden,
            })
        })
        .collect()
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
            set(world, &mut draft, &own, &provider, &group, change)?;
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
            let before: Vec<_> =
                draft.after.exposures.keys().filter(|(owner, _)| *owner == provider).cloned().collect();
            for key in before {
                // One that stays keeps nothing: what the list leaves out is as if it were new.
                draft.after.exposures.remove(&key);
                if !list.iter().any(|(group, _)| *group == key.1) {
                    draft.note("exposure_deleted", &own, json!({ "provider": provider, "group": key.1 }));
                }
            }
            for (group, change) in list {
                set(world, &mut draft, &own, &provider, &group, change)?;
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
    call: &Call,
    provider: &str,
    group: &str,
    change: ExposureChange,
) -> Result<(), Refused> {
    let key = (provider.to_owned(), group.to_owned());
    let before = draft.after.exposures.get(&key).cloned();
    let name = GroupName::parse(group).ok().filter(|name| world.rules.groups.contains_key(name));
    let Some(name) = name else { return Err(Refused::NotFound(format!("there is no group `{group}`"))) };
    let kept = before.as_ref().and_then(|exposure| exposure.alias.clone());
    let alias = change.alias.unwrap_or(kept);
    let hidden = change.hidden.or(before.as_ref().map(|exposure| exposure.hidden)).unwrap_or_default();
    if let Some(alias) = &alias {
        if world.rules.is_privileged(&Target::Group(name)) {
            return Err(Refused::Forbidden(format!("group `{group}` is privileged and takes no alias")));
        }
        check_alias(world, draft, alias, &key)?;
    }
    let exposure = Exposure { provider: provider.to_owned(), group: group.to_owned(), alias, hidden };
    draft.note("exposure_set", call, &exposure);
    draft.after.exposures.insert(key, Arc::new(exposure));
    Ok(())
}

/// An alias may not be the name of anything else, case aside: it would pass for that.
fn check_alias(world: &World, draft: &Draft, alias: &str, own: &(String, String)) -> Result<(), Refused> {
    if let Err(why) = GroupName::parse(alias) {
        return Err(Refused::Invalid(vec![Fault::new("alias", Some(alias), why.to_string())]));
    }
    if let Some(why) = world.headers.unfit(alias) {
        return Err(Refused::Invalid(vec![Fault::new("alias", Some(alias), why.to_string())]));
    }
    let names = taken_names(world.rules.groups.keys(), world.rules.roles.keys());
    let others =
        draft.after.exposures.iter().filter(|(key, _)| *key != own).filter_map(|(_, other)| other.alias.as_deref());
    let mut others = others.map(folded);
    if names.contains(&*folded(alias)) || others.any(|other| other == folded(alias)) {
        return Err(Refused::Conflict(format!("`{alias}` is the name or alias of something else, case aside")));
    }
    Ok(())
}
