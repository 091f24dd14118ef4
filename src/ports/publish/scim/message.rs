//! What is asked of a SCIM server, and what is read of its answers (RFC 7643, RFC 7644). Nothing here reaches out.

use http::Method;
use serde_json::{Map, Value, json};

use super::super::{Fault, FaultKind, judge};
use crate::ports::client_credentials::word;

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
/// Bytes of an id at most: it comes back in addresses and in the store.
const MOST_ID: usize = 512;

/// What a server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Users,
    Groups,
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Users => "Users",
            Self::Groups => "Groups",
        }
    }

    /// The attribute by which people find one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Users => "userName",
            Self::Groups => "displayName",
        }
    }
}

/// A request below the server's address.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub method: Method,
    pub path: Vec<String>,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
}

impl Request {
    fn new(method: Method, kind: Kind, id: Option<&str>) -> Self {
        let path = std::iter::once(kind.path()).chain(id).map(str::to_owned).collect();
        Self { method, path, query: Vec::new(), body: None }
    }

    /// Looks for what has a value, from a place on behind the first page. Not every server reads `startIndex`.
    pub fn find(kind: Kind, attribute: &str, value: &str, from: usize) -> Self {
        let mut request = Self::new(Method::GET, kind, None);
        request.query.push(("filter", format!("{attribute} eq {}", quoted(value))));
        if from > 1 {
            request.query.push(("startIndex", from.to_string()));
        }
        request
    }

    pub fn get(kind: Kind, id: &str) -> Self {
        let mut request = Self::new(Method::GET, kind, Some(id));
        if kind == Kind::Groups {
            // Some show members to those alone who ask for them.
            request.query.push(("attributes", "id,displayName,members".into()));
        }
        request
    }

    pub fn create(kind: Kind, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, kind, None) }
    }

    /// One operation, which is what every server takes.
    pub fn patch(kind: Kind, id: &str, operation: Value) -> Self {
        let body = json!({ "schemas": [PATCH], "Operations": [operation] });
        Self { body: Some(body), ..Self::new(Method::PATCH, kind, Some(id)) }
    }

    pub fn put(kind: Kind, id: &str, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PUT, kind, Some(id)) }
    }

    pub fn delete(kind: Kind, id: &str) -> Self {
        Self::new(Method::DELETE, kind, Some(id))
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    pub status: u16,
    /// `Null` where there is none, or it is not JSON.
    pub body: Value,
    /// It was longer than what is read.
    pub is_too_long: bool,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// There is nothing at the address.
    pub fn is_gone(&self) -> bool {
        matches!(self.status, 404 | 410)
    }

    /// The server does not do this at all.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.status, 405 | 501)
    }

    /// Why this is not what was hoped for. `what`: what was to be done.
    pub fn fault(&self, what: &str) -> Fault {
        if self.is_too_long {
            return Fault::new(FaultKind::Refused, format!("{what}: the answer is longer than what is read"));
        }
        if self.is_success() {
            let why = format!("{what}: the answer is not what SCIM has there");
            return Fault::new(FaultKind::Away(None), why);
        }
        // Texts of a server may quote what was sent; its codes are words.
        let code = self.body.get("scimType").and_then(Value::as_str).and_then(word);
        let code = code.map(|code| format!(" (`{code}`)")).unwrap_or_default();
        let why = format!("{what}: the receiver answers with status {}{code}", self.status);
        let kind = match self.status {
            403..=406 | 410 | 412 | 501 => FaultKind::Refused,
            status => {
                let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
                judge(status, None).err().unwrap_or(FaultKind::Refused)
            }
        };
        Fault::new(kind, why)
    }
}

/// A list of resources, and how many there are in all.
pub fn page(body: &Value) -> Option<(&Vec<Value>, usize)> {
    let empty = || static_empty();
    let resources = match body.get("Resources") {
        Some(found) => found.as_array()?,
        None => empty(),
    };
    let total = body.get("totalResults")?.as_u64()?;
    Some((resources, usize::try_from(total).unwrap_or(usize::MAX)))
}

fn static_empty() -> &'static Vec<Value> {
    static EMPTY: Vec<Value> = Vec::new();
    &EMPTY
}

/// The id of a resource, as far as it can stand in an address.
pub fn id(resource: &Value) -> Option<String> {
    let id = match resource.get("id")? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    is_id(&id).then_some(id)
}

fn is_id(id: &str) -> bool {
    // A dot segment would lead to another resource.
    !matches!(id, "" | "." | "..") && id.len() <= MOST_ID && !id.chars().any(char::is_control)
}

pub fn text<'v>(resource: &'v Value, name: &str) -> Option<&'v str> {
    resource.get(name)?.as_str()
}

/// The ids of a group's members.
pub fn members(group: &Value) -> Vec<String> {
    let entries = match group.get("members") {
        Some(Value::Array(entries)) => entries.as_slice(),
        Some(entry @ Value::Object(_)) => std::slice::from_ref(entry),
        _ => &[],
    };
    let value = |entry: &Value| match entry.get("value") {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    entries.iter().filter_map(value).collect()
}

/// How much is said of a user who is made. Servers differ in what they ask for, and in what they do not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Much {
    Usual,
    Named,
    Least,
}

impl Much {
    /// In the order in which they are tried: first all that an app may want to show.
    pub const ALL: [Self; 3] = [Self::Usual, Self::Named, Self::Least];
}

/// Who a user is at the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// `namespace/subject`.
    pub external_id: String,
    /// The state at the last delivery.
    pub former_id: Option<String>,
    pub user_name: String,
    pub former_name: Option<String>,
    pub display_name: Option<String>,
    pub email: Option<String>,
}

impl Person {
    pub fn body(&self, much: Much) -> Value {
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| drop(body.insert(name.into(), value));
        put("schemas", json!([USER]));
        put("userName", json!(self.user_name));
        put("externalId", json!(self.external_id));
        put("active", json!(true));
        let name = self.display_name.as_deref().unwrap_or(&self.user_name);
        let (first, last) = name.trim().rsplit_once(char::is_whitespace).unwrap_or((name, name));
        let (names, email): (_, fn(&str) -> Value) = match much {
            Much::Least => return Value::Object(body),
            Much::Usual => {
                (json!({ "formatted": name }), |email| json!({ "value": email, "type": "work", "primary": true }))
            }
            // Some want the parts of a name, and less of an address.
            Much::Named => {
                let parts = json!({ "formatted": name, "familyName": last, "givenName": first.trim() });
                (parts, |email| json!({ "value": email }))
            }
        };
        put("displayName", json!(name));
        put("name", names);
        if let Some(address) = &self.email {
            put("emails", json!([email(address)]));
        }
        Value::Object(body)
    }

    /// Whether a resource that was this person still is. Names of users may differ by case. `takes_over`: others may call it
    /// otherwise.
    pub fn is(&self, resource: &Value, takes_over: bool) -> bool {
        let names = [Some(&self.user_name), self.former_name.as_ref()];
        let is_named = text(resource, "userName")
            .is_none_or(|name| names.into_iter().flatten().any(|ours| ours.eq_ignore_ascii_case(name)));
        match text(resource, "externalId").filter(|id| !id.is_empty()) {
            Some(found) => {
                let is_ours = found == self.external_id || self.former_id.as_deref() == Some(found);
                is_ours || (takes_over && is_named)
            }
            None => is_named,
        }
    }
}

/// A member as groups name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    pub display: String,
    /// Its address.
    pub address: String,
}

impl Member {
    fn entry(&self) -> Value {
        json!({ "value": self.id, "display": self.display, "$ref": self.address })
    }

    pub fn add(&self) -> Value {
        json!({ "op": "add", "path": "members", "value": [self.entry()] })
    }

    pub fn remove(&self) -> Value {
        json!({ "op": "remove", "path": format!("members[value eq {}]", quoted(&self.id)) })
    }
}

/// A new group; some servers have none without a member.
pub fn group(name: &str, first: Option<&Member>) -> Value {
    let mut body = json!({ "schemas": [GROUP], "displayName": name });
    if let (Some(first), Some(object)) = (first, body.as_object_mut()) {
        object.insert("members".into(), json!([first.entry()]));
    }
    body
}

/// A group as it was read, with or without a member.
pub fn group_with(read: &Value, member: &Member, is_in: bool) -> Value {
    let mut body = read.as_object().cloned().unwrap_or_default();
    body.remove("meta");
    body.entry("schemas").or_insert_with(|| json!([GROUP]));
    let entries = body.get("members").and_then(Value::as_array).cloned().unwrap_or_default();
    let other = |entry: &Value| members(&json!({ "members": [entry] })).first() != Some(&member.id);
    let mut entries: Vec<Value> = entries.into_iter().filter(other).collect();
    if is_in {
        entries.push(member.entry());
    }
    body.insert("members".into(), Value::Array(entries));
    Value::Object(body)
}

/// Another value of an attribute of a user.
pub fn replace(path: &str, value: Value) -> Value {
    json!({ "op": "replace", "path": path, "value": value })
}

/// A text in a filter (RFC 7644 section 3.4.2.2: as JSON writes it).
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
