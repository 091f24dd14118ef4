//! Where groups are looked up that a token left out: `[provider.overage]`.

use std::time::Duration;

use url::Url;

use super::files;
use super::problem::alternatives;
use super::reader::{Found, Section};
use super::settings::seconds;
use super::values::{self, Wrong};
use super::{Limits, Secret};
use crate::pipeline::claims::selector::Selector;
use crate::pipeline::provider::{Mode, OverageRule};

/// A directory, how it is entered, and what it is asked for.
#[derive(Debug, Clone)]
pub struct OverageSettings {
    /// Scheme and authority.
    pub endpoint: Url,
    pub token_endpoint: Url,
    /// In lower case.
    pub tenant: String,
    pub client_id: String,
    pub credential: Secret,
    pub look_up: LookUp,
    /// For everything that one login asks.
    pub timeout: Duration,
}

/// What of a person's groups the claim would have carried, and so what is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookUp {
    /// Object IDs.
    Ids { security_only: bool },
    /// A property of each group, nested ones included.
    Names { attribute: GroupAttribute, security_only: bool },
    /// Groups that are assigned to the application, by ID or by name.
    Assigned { service_principal: String, names: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupAttribute {
    DisplayName,
    OnPremisesSamAccountName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    Id,
    Named(GroupAttribute),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Security,
    All,
    Assigned,
}

const ATTRIBUTES: [(&str, Attribute); 3] = [
    ("id", Attribute::Id),
    ("displayName", Attribute::Named(GroupAttribute::DisplayName)),
    ("onPremisesSamAccountName", Attribute::Named(GroupAttribute::OnPremisesSamAccountName)),
];
const SCOPES: [(&str, Scope); 3] = [("security", Scope::Security), ("all", Scope::All), ("assigned", Scope::Assigned)];

/// The clouds of Microsoft Graph, and where each issues tokens (learn.microsoft.com, national cloud deployments).
const CLOUDS: [(&str, &str); 4] = [
    ("graph.microsoft.com", "login.microsoftonline.com"),
    ("graph.microsoft.us", "login.microsoftonline.us"),
    ("dod-graph.microsoft.us", "login.microsoftonline.us"),
    ("microsoftgraph.chinacloudapi.cn", "login.chinacloudapi.cn"),
];

/// No longer answers, though tokens still point there.
const RETIRED: &str = "graph.windows.net";

/// Reads the table of one provider, if it has one.
pub fn read(
    provider: &Section<'_>,
    mode: Option<Mode>,
    client_id: Option<&str>,
    limits: &Limits,
) -> Option<(OverageRule, OverageSettings)> {
    provider.accept(&["overage"]);
    provider.written("overage")?;
    let section = &provider.section("overage");
    let user_claim = user_claim(section, mode);
    let endpoint = section.parsed("endpoint", endpoint);
    let tenant = section
        .required("tenant", "4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10")
        .and_then(|text| section.parse("tenant", text, guid));
    let token_endpoint = token_endpoint(section, endpoint.as_ref(), tenant.as_ref());
    let client_id = section.text("client_id").map(|text| text.value).or(client_id).map(str::to_owned);
    if client_id.is_none() && mode.is_some_and(Mode::is_saml) {
        missing(section, "client_id", "the application that may read groups");
    }
    let credential = files::secret(section, "credential_file", "credential_env");
    if section.written("credential_file").is_none() && section.written("credential_env").is_none() {
        missing(
            section,
            "credential_file",
            "the application's secret, from a file or, as `credential_env`, a variable",
        );
    }
    let look_up = look_up(section);
    let timeout = timeout(section, limits);
    section.finish();
    let settings = OverageSettings {
        endpoint: endpoint.map(|found| found.value).or_else(|| Url::parse("https://graph.microsoft.com").ok())?,
        token_endpoint: token_endpoint?,
        tenant: tenant?.value,
        client_id: client_id?,
        credential: Secret::new(credential?.value.to_vec()),
        look_up: look_up?,
        timeout,
    };
    Some((OverageRule { user_claim: user_claim? }, settings))
}

fn missing(section: &Section<'_>, key: &str, expected: &str) {
    let message = format!("missing in `{}`; expected {expected}", section.name);
    section.context.raise_absent(&section.span, section.key(key), message);
}

/// The claim that holds the person's object ID.
fn user_claim(section: &Section<'_>, mode: Option<Mode>) -> Option<String> {
    match section.text("user") {
        Some(text) => section.checked("user", &text, Selector::parse).map(|_| text.value.to_owned()),
        None if mode.is_some_and(Mode::is_saml) => Some(String::from("objectidentifier")),
        None => Some(String::from("oid")),
    }
}

fn endpoint(text: &str) -> Result<Url, Wrong> {
    let url = values::origin_of_service(text, "`https://graph.microsoft.com`")?;
    match url.host_str() {
        Some(RETIRED) => Err(Wrong::expected("`https://graph.microsoft.com`, which took this one's place")),
        _ => Ok(url),
    }
}

/// Where the directory's own tokens come from: known for Microsoft's clouds.
fn token_endpoint(section: &Section<'_>, endpoint: Option<&Found<Url>>, tenant: Option<&Found<String>>) -> Option<Url> {
    if let Some(written) = section.parsed("token_endpoint", values::endpoint) {
        return Some(written.value);
    }
    if section.written("token_endpoint").is_some() {
        return None;
    }
    let (host, place) = match (endpoint, section.written("endpoint")) {
        (Some(found), _) => (found.value.host_str().unwrap_or_default(), found.span.clone()),
        (None, None) => ("graph.microsoft.com", section.span.clone()),
        (None, Some(_)) => return None,
    };
    match CLOUDS.iter().find(|(graph, _)| *graph == host) {
        Some((_, authority)) => Url::parse(&format!("https://{authority}/{}/oauth2/v2.0/token", tenant?.value)).ok(),
        None => {
            let message = format!("missing in `{}`; `{host}` is none of Microsoft's clouds", section.name);
            section.context.raise_absent(&place, section.key("token_endpoint"), message);
            None
        }
    }
}

/// What is asked, of which every pair brings what the claim would have carried.
fn look_up(section: &Section<'_>) -> Option<LookUp> {
    let attribute = section.word("attribute", &ATTRIBUTES, Attribute::Id);
    let scope = section.word("scope", &SCOPES, Scope::Security);
    let service_principal = section.parsed("service_principal", guid);
    let security_only = scope == Scope::Security;
    match (scope, attribute, service_principal) {
        (Scope::Assigned, Attribute::Named(GroupAttribute::OnPremisesSamAccountName), _) => {
            let span = section.written("attribute").unwrap_or(section.span.clone());
            let able = alternatives(["id", "displayName"]);
            let message =
                format!("assignments carry no `onPremisesSamAccountName`; expected {able}, or another `scope`");
            section.raise(&span, "attribute", message);
            None
        }
        (Scope::Assigned, attribute, Some(found)) => {
            Some(LookUp::Assigned { service_principal: found.value, names: attribute != Attribute::Id })
        }
        (Scope::Assigned, _, None) => {
            if section.written("service_principal").is_none() {
                missing(section, "service_principal", "the object ID of the enterprise application whose groups count");
            }
            None
        }
        (_, _, Some(found)) => {
            section.raise(&found.span, "service_principal", "is read with `scope = \"assigned\"` alone");
            None
        }
        (_, Attribute::Id, None) => Some(LookUp::Ids { security_only }),
        (_, Attribute::Named(attribute), None) => Some(LookUp::Names { attribute, security_only }),
    }
}

/// The look-up ends before the login does, so that its failure is a claim's state and not the login's.
fn timeout(section: &Section<'_>, limits: &Limits) -> Duration {
    let usual = seconds(5).min(limits.login_timeout / 2);
    let timeout = section.duration("timeout", usual, Duration::from_millis(1)..=seconds(3600));
    if timeout >= limits.login_timeout
        && let Some(span) = section.written("timeout")
    {
        let most = values::written(limits.login_timeout);
        section.raise(&span, "timeout", format!("expected less than `limits.login_timeout`, which is {most}"));
    }
    timeout
}

/// 128 bits as Microsoft writes them, compared without case.
fn guid(text: &str) -> Result<String, Wrong> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let is_hex = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    match is_hex && lengths == [8, 4, 4, 4, 12] {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(Wrong::expected("an ID such as `4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10`")),
    }
}
