//! `[[api_client]]`: who may call the APIs of the admin listener.

use serde::{Deserialize, Serialize};

use super::files;
use super::problem::{alternatives, nearest};
use super::reader::{Found, Section, shown};
use super::values::Wrong;
use crate::pipeline::ids::GroupName;

/// A caller that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiClientSettings {
    pub name: String,
    /// SHA-256 of its secret.
    pub secret: [u8; 32],
    pub scopes: Vec<Scope>,
    pub faces: Vec<Face>,
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    #[serde(rename = "read")]
    Read,
    /// Groups, roles, mappings and aliases, but for what is privileged.
    #[serde(rename = "mappings:write")]
    WriteMappings,
    /// Who is assigned, denied or disabled, but for what is privileged.
    #[serde(rename = "members:write")]
    WriteMembers,
    /// All of it.
    #[serde(rename = "admin")]
    Admin,
}

/// One of the APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Face {
    /// `/api/v1`.
    V1,
    /// `/api/2/mappings`.
    Onelogin,
    /// `/idp-group-mappings`.
    Opal,
    /// `/orgs/{org_id}`.
    Timbal,
    /// `/api/identity/v1`.
    Odc,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Read, Self::WriteMappings, Self::WriteMembers, Self::Admin];

    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::WriteMappings => "mappings:write",
            Self::WriteMembers => "members:write",
            Self::Admin => "admin",
        }
    }

    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.word() == word)
    }
}

impl Face {
    pub const ALL: [Self; 5] = [Self::V1, Self::Onelogin, Self::Opal, Self::Timbal, Self::Odc];

    pub fn word(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::Onelogin => "onelogin",
            Self::Opal => "opal",
            Self::Timbal => "timbal",
            Self::Odc => "odc",
        }
    }

    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|face| face.word() == word)
    }
}

/// Characters of a secret at the least: 256 bits in base64.
pub const SECRET_CHARACTERS: usize = 43;

pub fn read(root: &Section<'_>) -> Vec<ApiClientSettings> {
    let mut clients: Vec<ApiClientSettings> = Vec::new();
    for section in root.sections("api_client") {
        let name = section.required("name", "terraform");
        let secret = secret(&section);
        let scopes = words(&section, "scopes", Scope::ALL.map(Scope::word), Scope::named);
        let faces = match section.written("faces") {
            Some(_) => words(&section, "faces", Face::ALL.map(Face::word), Face::named),
            None => Face::ALL.to_vec(),
        };
        section.finish();
        let Some(name) = name.and_then(|name| checked_name(&section, &name, &clients)) else { continue };
        let Some(secret) = secret else { continue };
        if let Some(other) = clients.iter().find(|other| other.secret == secret) {
            let message = format!("has the secret of `{}`; expected one of its own", shown(&other.name));
            section.context.raise_absent(&section.span, "api_client", message);
        }
        clients.push(ApiClientSettings { name, secret, scopes, faces });
    }
    clients
}

fn checked_name(section: &Section<'_>, name: &Found<&str>, clients: &[ApiClientSettings]) -> Option<String> {
    if let Err(why) = valid_name(name.value) {
        section.raise(&name.span, "name", format!("found `{}`; {why}", shown(name.value)));
        return None;
    }
    if clients.iter().any(|client| client.name.eq_ignore_ascii_case(name.value)) {
        section.raise(&name.span, "name", format!("a client `{}` was declared before", shown(name.value)));
        return None;
    }
    Some(name.value.to_owned())
}

/// Names stand in credentials, where `:` and `,` separate.
///
/// # Errors
/// What is expected of a name.
pub fn valid_name(name: &str) -> Result<(), String> {
    let fits = GroupName::parse(name).is_ok()
        && name.len() <= 100
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if fits { Ok(()) } else { Err(String::from("expected up to 100 letters, digits, `.`, `_` and `-`")) }
}

fn secret(section: &Section<'_>) -> Option<[u8; 32]> {
    let hash = section.text("secret_hash");
    let file = files::secret(section, "secret_file", "secret_env");
    match (hash, file) {
        (Some(hash), None) => {
            let parsed = parse_hash(hash.value);
            if parsed.is_none() {
                let message = "expected the SHA-256 of the secret in 64 hexadecimal digits";
                section.raise(&hash.span, "secret_hash", message);
            }
            parsed
        }
        (None, Some(found)) => {
            if found.value.len() < SECRET_CHARACTERS {
                let message = format!(
                    "the secret has {} characters; expected at least {SECRET_CHARACTERS}: `openssl rand -base64 32`",
                    found.value.len()
                );
                section.context.raise(&found.span, section.name.clone(), message);
                return None;
            }
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &found.value);
            digest.as_ref().try_into().ok()
        }
        (Some(hash), Some(_)) => {
            section.raise(&hash.span, "secret_hash", "the secret is set another way too; expected one of them");
            None
        }
        (None, None) => {
            let written = ["secret_file", "secret_env"].iter().any(|key| section.written(key).is_some());
            if !written {
                let message = "has no secret; expected `secret_hash`, `secret_file` or `secret_env`";
                section.context.raise_absent(&section.span, "api_client", message);
            }
            None
        }
    }
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn words<T: PartialEq, const N: usize>(
    section: &Section<'_>,
    key: &'static str,
    valid: [&'static str; N],
    named: impl Fn(&str) -> Option<T>,
) -> Vec<T> {
    let parse =
        |word: &str| named(word).ok_or_else(|| Wrong { expected: alternatives(valid), nearest: nearest(word, valid) });
    let missing = |what: &str| {
        let message = format!("{what}; expected at least one of {}", alternatives(valid));
        section.context.raise_absent(&section.span, section.key(key), message);
    };
    let found = section.list(key, false, parse);
    match section.written(key) {
        None => missing("missing"),
        Some(_) if section.is_empty_list(key) => missing("is empty"),
        Some(_) => {}
    }
    found.unwrap_or_default()
}
