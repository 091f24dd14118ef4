//! Claim mappings of a group: the short form, its texts as ODC bounds and escapes them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::claims::{escaped, key_of_file};
use super::{Errors, Made, Problem, groups, providers};
use crate::config::Scope;
use crate::pipeline::ids::{GroupName, ProviderName, Target};
use crate::pipeline::mapping::definition::{Definition, Short, ShortTarget};
use crate::pipeline::mapping::stored::MappingBody;
use crate::pipeline::mapping::{Group, stages_meet};
use crate::serve::admin::Inspect;
use crate::serve::admin::http::{Admin, Head, json};
use crate::serve::admin::service::{NewMapping, Place, Reference, Refused, World, provider_key};

/// Characters at most: of a claim's name, its value, and a delimiter.
const NAME: usize = 50;
const VALUE: usize = 256;
const DELIMITER: usize = 3;

/// A new claim mapping.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewClaimMapping {
    provider_key: String,
    foreign_claim: ClaimChange,
}

/// Changes to a claim mapping; absent fields stay as they are.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimMappingChange {
    provider_key: Option<String>,
    /// Moves it to another group.
    group_key: Option<String>,
    #[serde(default)]
    foreign_claim: ClaimChange,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimChange {
    name: Option<String>,
    value: Option<String>,
    /// Empty: the value is taken whole.
    value_delimiter: Option<String>,
}

/// The number of the mapping with a key, if it is one of this group.
fn find(inspect: &dyn Inspect, group: &str, key: &str) -> Result<i64, Problem> {
    let stored = inspect.stored();
    let of_group = |definition: &Definition| matches!(definition.short(), Some(Short { target: ShortTarget::Group(name), .. }) if name == group);
    let found = stored.mappings.values().find(|entry| entry.key.eq_ignore_ascii_case(key));
    if let Some(entry) = found.filter(|entry| of_group(&entry.body.definition)) {
        return Ok(entry.number);
    }
    let in_file =
        inspect.file_rules().mappings().iter().any(|mapping| key_of_file(mapping.id).eq_ignore_ascii_case(key));
    match in_file {
        true => {
            Err(Refused::ReadOnly("this mapping is declared in the configuration file, and read-only here".into())
                .into())
        }
        false => Err(Problem::not_found("claim mapping")),
    }
}

/// Creates a claim mapping (an extension)
#[utoipa::path(post, path = "/api/identity/v1/groups/{key}/claim-mappings", operation_id = "create_claim_mapping",
    params(("key" = String, Path)),
    request_body = NewClaimMapping,
    responses((status = 201, description = "The key of the new claim mapping", body = Made), Errors))]
pub async fn create(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Made>), Problem> {
    call.caller.may(Scope::WriteMappings)?;
    let group = groups::by_key(&admin, &key)?.name;
    let NewClaimMapping { provider_key, foreign_claim: ClaimChange { name, value, value_delimiter } } =
        json(&body, false)?;
    let (provider, saml) = provider_of(&admin, &provider_key)?;
    let claim = checked(name.unwrap_or_default(), value.unwrap_or_default(), value_delimiter.unwrap_or_default())?;
    let definition = claim.definition(&provider, &group)?;
    let guard = move |world: &World| check_scope(world, &provider, saml, &group);
    let new = NewMapping { definition, place: Place::Last, guard: Some(Box::new(guard)) };
    let made = admin.service.create_mapping(&call, new).await?;
    Ok((StatusCode::CREATED, Json(Made { key: made.key.unwrap_or_default() })))
}

/// Changes a claim mapping (an extension). Its grants stay until each user's next login.
#[utoipa::path(patch, path = "/api/identity/v1/groups/{key}/claim-mappings/{mappingKey}", operation_id = "update_claim_mapping",
    params(("key" = String, Path), ("mappingKey" = String, Path)), request_body = ClaimMappingChange,
    responses((status = 204, description = "The claim mapping is changed"), Errors))]
pub async fn update(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((key, mapping)): Path<(String, String)>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMappings)?;
    let group = groups::by_key(&admin, &key)?.name;
    let number = find(admin.inspect(), &group, &mapping)?;
    let change: ClaimMappingChange = json(&body, false)?;
    let provider = change.provider_key.as_deref().map(|key| provider_of(&admin, key)).transpose()?;
    let target = match change.group_key {
        Some(key) => groups::by_key(&admin, &key)?.name,
        None => group,
    };
    let shapes: Vec<(ProviderName, bool)> = admin
        .inspect()
        .config()
        .providers
        .iter()
        .filter_map(|settings| providers::by_key(admin.inspect(), &provider_key(&settings.provider.name)))
        .collect();
    let ClaimChange { name, value, value_delimiter } = change.foreign_claim;
    let edit = move |world: &World, before: &MappingBody| {
        let Some(short) = before.definition.short() else {
            return Err(Refused::NotFound("there is no such claim mapping".into()));
        };
        let (provider, saml) = match provider {
            Some(provider) => provider,
            None => shapes
                .into_iter()
                .find(|(name, _)| name.as_str() == short.provider)
                .ok_or_else(|| Refused::Conflict("its provider is gone; say another".into()))?,
        };
        let kept = |text: &str| escaped(text);
        let claim = checked(
            name.unwrap_or_else(|| kept(short.claim)),
            value.unwrap_or_else(|| kept(short.value)),
            value_delimiter.unwrap_or_else(|| kept(short.delimiter.unwrap_or_default())),
        )?;
        check_scope(world, &provider, saml, &target)?;
        let made = claim.definition(&provider, &target)?;
        let definition =
            Definition { name: before.definition.name.clone(), enabled: before.definition.enabled, ..made };
        Ok((definition, Place::Keep))
    };
    admin.service.update_mapping(&call, Reference::Number(number), edit).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Users who are in the group only by this mapping lose it at once.
#[utoipa::path(delete, path = "/api/identity/v1/groups/{key}/claim-mappings/{mappingKey}", operation_id = "delete_claim_mapping",
    params(("key" = String, Path), ("mappingKey" = String, Path)),
    responses((status = 204, description = "The claim mapping and what it gave are gone"), Errors))]
pub async fn delete(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((key, mapping)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMappings)?;
    let group = groups::by_key(&admin, &key)?.name;
    let number = find(admin.inspect(), &group, &mapping)?;
    admin.service.delete_mapping(&call, Reference::Number(number)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn provider_of(admin: &Admin, key: &str) -> Result<(ProviderName, bool), Problem> {
    providers::by_key(admin.inspect(), key)
        .ok_or_else(|| Problem::input("The Provider field names no identity provider."))
}

/// A SAML provider takes mappings of groups of its own stage only, and none where it has no stage (Organization scope).
fn check_scope(world: &World, provider: &ProviderName, saml: bool, group: &str) -> Result<(), Refused> {
    if !saml {
        return Ok(());
    }
    let stages = world.rules.providers.get(provider).map(|rules| rules.stages.as_slice()).unwrap_or_default();
    if stages.is_empty() {
        return Err(input("Group mapping isn't available for SAML providers configured with the Organization scope."));
    }
    let name = GroupName::parse(group).ok();
    let group: Option<&Group> = name.and_then(|name| world.rules.groups.get(&name));
    match group.is_none_or(|group| stages_meet(stages, &group.stages)) {
        true => Ok(()),
        false => Err(input("The group must be in the same scope as the one configured for the SAML provider.")),
    }
}

fn input(issue: &str) -> Refused {
    Refused::fault("", None, issue)
}

/// A claim whose texts hold, as they are matched.
struct Checked {
    name: String,
    value: String,
    delimiter: String,
}

impl Checked {
    /// The delimiter is always written: one that is not there means the whole value, whatever the provider says of the claim.
    fn definition(&self, provider: &ProviderName, group: &str) -> Result<Definition, Refused> {
        let group = GroupName::parse(group).map_err(|why| Refused::Conflict(why.to_string()))?;
        let Self { name, value, delimiter } = self;
        Ok(Definition::of_value(provider.as_str(), name, value, Some(delimiter), &Target::Group(group)))
    }
}

/// OS-ID-BIZ-40001: all that is wrong, at once.
fn checked(name: String, value: String, delimiter: String) -> Result<Checked, Refused> {
    let mut faults = Vec::new();
    let mut read = |field: &str, text: &str, most: usize| {
        let mut raise = |issue: String| {
            faults.push(crate::pipeline::mapping::definition::Fault::new("", None, issue));
            String::new()
        };
        match unescaped(text) {
            None => raise(format!(
                "The {field} field must contain valid Unicode characters only (excluding '). \" or \\ or control \
                 characters must be escaped using backslash."
            )),
            Some(text) if text.chars().count() > most => {
                raise(format!("The {field} field must not be longer than {most} characters."))
            }
            Some(text) if text.trim().is_empty() && field != "Delimiter" => {
                raise(format!("The {field} field is required."))
            }
            Some(text) => text,
        }
    };
    let name = read("Claim name", &name, NAME);
    let value = read("Claim value", &value, VALUE);
    let delimiter = read("Delimiter", &delimiter, DELIMITER);
    if !delimiter.is_empty() && value.contains(&delimiter) {
        let issue = "The Claim value field cannot contain the delimiter.";
        faults.push(crate::pipeline::mapping::definition::Fault::new("", None, issue));
    }
    if faults.is_empty() { Ok(Checked { name, value, delimiter }) } else { Err(Refused::Invalid(faults)) }
}

/// The text of a JSON string's inside (RFC 8259 section 7), which may not hold a single quote.
fn unescaped(text: &str) -> Option<String> {
    if text.contains('\'') {
        return None;
    }
    serde_json::from_str(&format!("\"{text}\"")).ok()
}
