//! What Graph answers, read strictly: an element that is not what was asked for makes the whole answer none.

use serde::Deserialize;
use serde_json::Value;

use super::super::DirectoryError;
use crate::config::{GroupAttribute, LookUp};
use crate::ports::client_credentials::word;

/// The values of one page.
pub struct Page {
    pub values: Vec<String>,
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct Collection {
    value: Vec<Value>,
    #[serde(rename = "@odata.nextLink")]
    next: Option<String>,
    /// Some gateways in front of Graph answer 200 and say here that they failed.
    #[serde(default)]
    error: Value,
}

/// Reads a page by what was asked.
pub fn read(body: &[u8], look_up: &LookUp) -> Result<Page, DirectoryError> {
    let Collection { value, next, error } =
        serde_json::from_slice(body).map_err(|_| DirectoryError::Malformed("expected a list of values"))?;
    if !error.is_null() {
        return Err(DirectoryError::Malformed("it has both values and an error"));
    }
    let mut values = Vec::with_capacity(value.len());
    for element in &value {
        let found = match look_up {
            LookUp::Ids { .. } => Some(text(element).ok_or(DirectoryError::Malformed("expected IDs"))?),
            LookUp::Names { attribute, security_only } => group(element, *attribute, *security_only)?,
            LookUp::Assigned { service_principal, names } => assignment(element, service_principal, *names)?,
        };
        values.extend(found.map(str::to_owned));
    }
    Ok(Page { values, next })
}

fn text(element: &Value) -> Option<&str> {
    element.as_str().filter(|text| !text.trim().is_empty())
}

/// A group's property. A group that the application may not read comes without any (learn.microsoft.com, limited information
/// returned for inaccessible member objects), which is not the same as having none.
fn group(element: &Value, attribute: GroupAttribute, security_only: bool) -> Result<Option<&str>, DirectoryError> {
    let property = |name: &str| element.get(name).and_then(text);
    let name = property("displayName").ok_or(DirectoryError::Hidden)?;
    let security = element.get("securityEnabled").and_then(Value::as_bool).ok_or(DirectoryError::Hidden)?;
    if security_only && !security {
        return Ok(None);
    }
    Ok(match attribute {
        GroupAttribute::DisplayName => Some(name),
        // A group of the cloud has none, and no place in such a claim either.
        GroupAttribute::OnPremisesSamAccountName => property("onPremisesSamAccountName"),
    })
}

/// The group that an assignment is of; assignments of the person itself, or to other applications, are none.
fn assignment<'e>(element: &'e Value, service_principal: &str, names: bool) -> Result<Option<&'e str>, DirectoryError> {
    let property = |name: &str| {
        element.get(name).and_then(text).ok_or(DirectoryError::Malformed("expected assignments with their principals"))
    };
    let is_ours = property("resourceId")?.eq_ignore_ascii_case(service_principal);
    let is_group = property("principalType")?.eq_ignore_ascii_case("Group");
    if !is_ours || !is_group {
        return Ok(None);
    }
    property(if names { "principalDisplayName" } else { "principalId" }).map(Some)
}

/// `error.code` of an error answer, if it is a word: messages may quote what was sent.
pub fn error_code(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let code = answer.get("error")?.get("code")?.as_str()?;
    word(code)
}
