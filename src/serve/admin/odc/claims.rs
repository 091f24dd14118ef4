//! Claim mappings as groups list them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::pipeline::ids::{MappingId, ProviderName, Target};
use crate::pipeline::mapping::definition::{Definition, Short, ShortTarget};
use crate::pipeline::mapping::{Activity, Mapping};
use crate::serve::admin::Inspect;
use crate::serve::admin::service::provider_key;

/// A claim mapping, as a group lists it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimMappingObject {
    pub key: String,
    pub provider_key: String,
    pub foreign_claim: ClaimObject,
    /// Absent for one that the configuration file declares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_date: Option<String>,
    /// `Active`; or `Inactive`, where the provider and the group are in different stages, or the mapping is switched off.
    pub status: &'static str,
}

/// A claim, its texts with `"`, `\` and control characters escaped by a backslash.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimObject {
    pub name: String,
    pub value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_delimiter: Option<String>,
}

/// The claim mappings of groups: of the file first.
pub fn of_groups(inspect: &dyn Inspect, wanted: impl Fn(&str) -> bool) -> Vec<(String, ClaimMappingObject)> {
    let (rules, stored, file) = (inspect.rules(), inspect.stored(), inspect.file_rules());
    let mut found = Vec::new();
    for mapping in file.mappings() {
        if !mapping.then.named().any(|target| matches!(target, Target::Group(name) if wanted(name.as_str()))) {
            continue;
        }
        let definition = Definition::of(mapping);
        let active = mapping.activity == Activity::Active;
        if let Some((group, object)) = object(&definition, key_of_file(mapping.id), active) {
            found.push((group, object));
        }
    }
    for entry in stored.in_order() {
        let id = Mapping::id_of_number(entry.number);
        let activity = rules.mapping(id).map(|mapping| mapping.activity);
        let active = activity == Some(Activity::Active);
        let Some((group, mut object)) = object(&entry.body.definition, entry.key.clone(), active) else { continue };
        if wanted(&group) {
            object.last_updated_date = Some(entry.updated_at.to_string());
            found.push((group, object));
        }
    }
    found
}

fn object(definition: &Definition, key: String, active: bool) -> Option<(String, ClaimMappingObject)> {
    let Short { provider, claim, value, delimiter, target: ShortTarget::Group(group) } = definition.short()? else {
        return None;
    };
    let provider = ProviderName::parse(provider).ok()?;
    let object = ClaimMappingObject {
        key,
        provider_key: provider_key(&provider),
        foreign_claim: ClaimObject {
            name: escaped(claim),
            value: escaped(value),
            value_delimiter: delimiter.filter(|delimiter| !delimiter.is_empty()).map(escaped),
        },
        last_updated_date: None,
        status: if active { "Active" } else { "Inactive" },
    };
    Some((group.to_owned(), object))
}

/// Mappings of the file have no key in the store: it is made of their identity.
pub fn key_of_file(id: MappingId) -> String {
    uuid::Builder::from_custom_bytes(id.0).into_uuid().to_string()
}

/// A text with `"`, `\` and control characters escaped by a backslash.
pub fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default().to_owned()
}
