//! `[[scim]]`: an app with users and groups of its own, which are kept by SCIM 2.0.

use std::path::PathBuf;

use url::Url;

use super::super::client_credentials::{self, ClientCredentials};
use super::super::reader::Section;
use super::super::{Secret, files};

/// How an app's own users and groups are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scim {
    pub login: ScimLogin,
    pub user_name: UserNameSource,
    pub users: ScimUsers,
    /// Groups that the app does not have are made.
    pub create_groups: bool,
    /// Members that others put into its groups are removed.
    pub authoritative: bool,
}

/// How the app knows us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScimLogin {
    /// A token in a file, which is read again for each user, so that it can be rotated.
    TokenFile(PathBuf),
    Token(Secret),
    /// Tokens that live for a while, of an authorization server.
    Client(ClientCredentials),
}

/// What of a user is their `userName`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserNameSource {
    Subject,
    Email,
    Name,
}

/// What is done with the app's users themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScimUsers {
    /// Nothing: who is not there holds nothing there.
    Match,
    /// They are made.
    Create,
    /// They are made, and lose their access there where they are disabled or erased here.
    CreateAndDeactivate,
}

impl ScimUsers {
    pub fn creates(self) -> bool {
        self != Self::Match
    }
}

/// Bytes of a token at most.
const MOST_TOKEN: usize = 16 * 1024;

/// Reads what a SCIM receiver alone has.
pub fn read(section: &Section<'_>, url: Option<&Url>) -> Option<Scim> {
    if let (Some(url), Some(span)) = (url, section.written("url"))
        && url.query().is_some()
    {
        section.raise(&span, "url", "has a query; expected the address below which `/Users` and `/Groups` are");
    }
    let login = login(section);
    let sources =
        [("subject", UserNameSource::Subject), ("email", UserNameSource::Email), ("name", UserNameSource::Name)];
    let user_name = section.word("user_name", &sources, UserNameSource::Subject);
    let words = [
        ("create", ScimUsers::Create),
        ("match", ScimUsers::Match),
        ("create-and-deactivate", ScimUsers::CreateAndDeactivate),
    ];
    let users = section.word("users", &words, ScimUsers::Create);
    let create_groups = section.flag("create_groups", false);
    let authoritative = section.flag("authoritative", false);
    Some(Scim { login: login?, user_name, users, create_groups, authoritative })
}

/// A token, or the way to one.
fn login(section: &Section<'_>) -> Option<ScimLogin> {
    let fixed = files::checked_file(section, "token_file", check_token).map(|file| ScimLogin::TokenFile(file.value));
    let variable =
        files::text_variable(section, "token_env").and_then(|found| match check_token(found.value.as_bytes()) {
            Ok(()) => Some(ScimLogin::Token(Secret::new(found.value.trim().as_bytes().to_vec()))),
            Err(why) => {
                section.context.raise(&found.span, section.name.clone(), format!("what the variable holds {why}"));
                None
            }
        });
    let client = client_credentials::read(section);
    let written: Vec<&str> = ["token_file", "token_env", "token_endpoint"]
        .into_iter()
        .filter(|key| section.written(key).is_some())
        .collect();
    match written.as_slice() {
        [] => {
            let message = format!(
                "missing in `{}`; expected a token (`token_file` or `token_env`), or `token_endpoint` where tokens come from",
                section.name
            );
            section.context.raise_absent(&section.span, section.key("token_file"), message);
        }
        [_] => {}
        [first, second, ..] => {
            if let Some(span) = section.written(second) {
                section.raise(&span, second, format!("`{first}` is set too; expected one of them"));
            }
        }
    }
    fixed.or(variable).or(client.map(ScimLogin::Client))
}

/// A token as a header can carry it (RFC 6750 section 2.1), and nothing else.
fn check_token(bytes: &[u8]) -> Result<(), String> {
    let token = bytes.trim_ascii();
    match !token.is_empty() && token.len() <= MOST_TOKEN && token.iter().all(u8::is_ascii_graphic) {
        true => Ok(()),
        false => Err(String::from("does not hold a token; expected one line of printable characters without spaces")),
    }
}
