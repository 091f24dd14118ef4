//! The header fields that tell the app who sent a request, and what that person effectively holds.
//!
//! | preset | user | groups | roles |
//! |---|---|---|---|
//! | `loginsync` | `X-Loginsync-User` | `X-Loginsync-Groups` | `X-Loginsync-Roles` |
//! | `oauth2-proxy` | `X-Forwarded-User` | `X-Forwarded-Groups` | |
//! | `authelia`, `octoprint` | `Remote-User` | `Remote-Groups` | |
//! | `open-webui` | `X-Forwarded-User` | `X-Forwarded-Groups` | `X-Forwarded-Role`: `admin`, `user` or `pending` |
//! | `grafana` | `X-Webauth-User` | `X-Webauth-Groups` | `X-Webauth-Role`: `Admin`, `Editor`, `Viewer` or `None` |
//! | `jenkins` | `X-Forwarded-User` | `X-Forwarded-Groups` | |
//! | `netbox` | `Remote-User` | `Remote-User-Group` | |
//! | `cloudbeaver` | `X-User` | `X-Team` | |

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::AsciiSet;

use crate::config::{HeaderPreset, Headers};
use crate::pipeline::claims::Claims;
use crate::pipeline::ids::ProviderName;
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::plan::Plan;
use crate::ports::sessions::Session;
use crate::serve::bearer::Bearer;

/// What the identity headers of a login came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Groups and roles were left out, since all headers together exceed `headers.max_bytes`.
    pub over_budget: bool,
    /// Values that the headers cannot carry ([`Headers::unfit`]), and those with a control character.
    pub unfit: usize,
}

/// Who a person is, and what they effectively hold.
#[derive(Debug)]
pub struct Identity<'a> {
    /// Through which they are known here: aliases of groups are its own.
    pub provider: &'a ProviderName,
    /// Within which the user's name is unique.
    pub namespace: &'a str,
    pub user: &'a str,
    pub email: Option<&'a str>,
    pub display_name: Option<&'a str>,
    pub groups: Vec<&'a str>,
    pub roles: Vec<&'a str>,
    /// Groups that the app had better not show to the person.
    pub hidden: Vec<&'a str>,
}

impl<'a> Identity<'a> {
    /// The same with groups under their aliases for the users of the provider.
    pub fn shown<'r>(&self, rules: &'r RuleSet) -> Identity<'r>
    where
        'a: 'r,
    {
        let (mut groups, mut hidden) = (Vec::with_capacity(self.groups.len()), Vec::new());
        for &group in &self.groups {
            let shown = rules.shown(self.provider, group);
            let name = shown.and_then(|shown| shown.alias.as_deref()).unwrap_or(group);
            groups.push(name);
            if shown.is_some_and(|shown| shown.hidden) {
                hidden.push(name);
            }
        }
        Identity {
            provider: self.provider,
            namespace: self.namespace,
            user: self.user,
            email: self.email,
            display_name: self.display_name,
            groups,
            roles: self.roles.clone(),
            hidden,
        }
    }

    pub fn of_login(plan: &'a Plan, claims: &'a Claims) -> Self {
        Self {
            provider: &plan.provider,
            namespace: plan.user.namespace.as_str(),
            user: plan.user.subject.as_str(),
            email: claims.email.as_deref(),
            display_name: claims.display_name.as_deref(),
            groups: plan.after.groups.iter().map(|group| group.as_str()).collect(),
            roles: plan.after.roles.iter().map(|role| role.as_str()).collect(),
            hidden: Vec::new(),
        }
    }

    pub fn of_bearer(bearer: &'a Bearer) -> Self {
        Self {
            provider: &bearer.provider,
            namespace: bearer.user.namespace.as_str(),
            user: bearer.user.subject.as_str(),
            email: bearer.email.as_deref(),
            display_name: bearer.display_name.as_deref(),
            groups: bearer.groups.iter().map(String::as_str).collect(),
            roles: bearer.roles.iter().map(String::as_str).collect(),
            hidden: Vec::new(),
        }
    }

    pub fn of_session(session: &'a Session) -> Self {
        Self {
            provider: &session.provider,
            namespace: session.user.namespace.as_str(),
            user: session.user.subject.as_str(),
            email: session.email.as_deref(),
            display_name: session.display_name.as_deref(),
            groups: session.groups.iter().map(String::as_str).collect(),
            roles: session.roles.iter().map(String::as_str).collect(),
            hidden: Vec::new(),
        }
    }
}

/// Every name that a preset sends, and those that its app reads besides.
pub fn names(preset: HeaderPreset) -> impl Iterator<Item = HeaderName> {
    Names::of(preset).into_iter().flat_map(Names::all).map(HeaderName::from_static)
}

/// Sets the identity headers. A value that is absent sets nothing, and since every name was removed before,
/// nothing forged stays in its place. An empty list is `headers.no_groups`, where that is set.
///
/// Under preset `loginsync` every byte of `%`, `,`, the delimiter, controls and non-ASCII is percent-encoded, so that lists
/// split at the delimiter and each piece then percent-decodes to the very name. The other presets are written as the app
/// reads them.
pub fn set(headers: &mut HeaderMap, settings: &Headers, identity: &Identity<'_>) -> Told {
    let mut told = Told::default();
    let Some(names) = Names::of(settings.preset) else { return told };
    let mut set = Vec::with_capacity(6);
    let singles = [
        (Some(names.user), Some(identity.user)),
        (names.email, identity.email),
        (names.display_name, identity.display_name),
    ];
    for (name, value) in singles {
        let (Some(name), Some(value)) = (name, value.filter(|value| !value.is_empty())) else { continue };
        match HeaderValue::from_bytes(&field(value, settings)) {
            Ok(value) => set.push((name, value)),
            Err(_) => told.unfit += 1,
        }
    }
    let held = held(names, settings, identity, &mut told.unfit);
    let bytes: usize = set.iter().chain(&held).map(|(name, value)| name.len() + value.len() + SEPARATORS).sum();
    told.over_budget = bytes > settings.max_bytes;
    if !told.over_budget {
        set.extend(held);
    }
    for (name, value) in set {
        headers.insert(HeaderName::from_static(name), value);
    }
    told
}

/// `: ` and the line's end.
const SEPARATORS: usize = 4;

/// The headers of groups and roles.
fn held(
    names: &Names,
    settings: &Headers,
    identity: &Identity<'_>,
    unfit: &mut usize,
) -> Vec<(&'static str, HeaderValue)> {
    let mut held = Vec::with_capacity(3);
    let mut push = |name, list: &[&str]| held.extend(one(list, settings, unfit).map(|value| (name, value)));
    push(names.groups, &identity.groups);
    if let Roles::List(name) = names.roles {
        push(name, &identity.roles);
    }
    if let Some(name) = names.hidden {
        push(name, &identity.hidden);
    }
    if let Roles::Highest { name, ranks, none } = names.roles {
        let highest = ranks.iter().copied().find(|rank| identity.roles.contains(rank));
        held.push((name, HeaderValue::from_static(highest.unwrap_or(none))));
    }
    held
}

/// One value from many; `None` where the header is left out.
fn one(list: &[&str], settings: &Headers, unfit: &mut usize) -> Option<HeaderValue> {
    let mut joined = Vec::new();
    for name in list {
        // What the app would read as another name, or as two, it does not hear of; a control character could end the header.
        let breaks = settings.preset != HeaderPreset::Loginsync && name.bytes().any(|byte| byte.is_ascii_control());
        if breaks || settings.unfit(name).is_some() {
            *unfit += 1;
            continue;
        }
        if !joined.is_empty() {
            let mut bytes = [0; 4];
            joined.extend_from_slice(settings.delimiter.encode_utf8(&mut bytes).as_bytes());
        }
        joined.extend_from_slice(&field(name, settings));
    }
    if joined.is_empty() {
        joined.extend_from_slice(settings.no_groups.as_ref()?.as_bytes());
    }
    HeaderValue::from_bytes(&joined).ok()
}

fn field<'v>(value: &'v str, settings: &Headers) -> Cow<'v, [u8]> {
    const ESCAPED: &AsciiSet = &percent_encoding::CONTROLS.add(b'%').add(b',');
    const ESCAPED_FOR_BARS: &AsciiSet = &ESCAPED.add(b'|');
    if settings.preset != HeaderPreset::Loginsync {
        return Cow::Borrowed(value.as_bytes());
    }
    let escaped = if settings.delimiter == '|' { ESCAPED_FOR_BARS } else { ESCAPED };
    Cow::Owned(percent_encoding::percent_encode(value.as_bytes(), escaped).to_string().into_bytes())
}

/// The names of one preset, in lower case.
struct Names {
    user: &'static str,
    email: Option<&'static str>,
    display_name: Option<&'static str>,
    groups: &'static str,
    roles: Roles,
    hidden: Option<&'static str>,
    /// What the app reads though we do not send it: a client must not send it either.
    besides: &'static [&'static str],
}

enum Roles {
    Untold,
    List(&'static str),
    /// For an app that takes one role, out of its own: the first of these that is held.
    Highest {
        name: &'static str,
        ranks: &'static [&'static str],
        none: &'static str,
    },
}

const LOGINSYNC: Names = Names {
    user: "x-loginsync-user",
    email: Some("x-loginsync-email"),
    display_name: None,
    groups: "x-loginsync-groups",
    roles: Roles::List("x-loginsync-roles"),
    hidden: Some("x-loginsync-hidden-groups"),
    besides: &[],
};

const OAUTH2_PROXY: Names = Names {
    user: "x-forwarded-user",
    email: Some("x-forwarded-email"),
    display_name: Some("x-forwarded-preferred-username"),
    groups: "x-forwarded-groups",
    roles: Roles::Untold,
    hidden: None,
    besides: &[],
};

const AUTHELIA: Names = Names {
    user: "remote-user",
    email: Some("remote-email"),
    display_name: Some("remote-name"),
    groups: "remote-groups",
    roles: Roles::Untold,
    hidden: None,
    besides: &[],
};

/// A role that it does not know it ignores, and keeps the old one; `pending` may do nothing.
const OPEN_WEBUI: Names = Names {
    roles: Roles::Highest { name: "x-forwarded-role", ranks: &["admin", "user"], none: "pending" },
    ..OAUTH2_PROXY
};

/// Without a role it keeps the old one; `None` is a role of its own.
const GRAFANA: Names = Names {
    user: "x-webauth-user",
    email: Some("x-webauth-email"),
    display_name: Some("x-webauth-name"),
    groups: "x-webauth-groups",
    roles: Roles::Highest { name: "x-webauth-role", ranks: &["Admin", "Editor", "Viewer"], none: "None" },
    hidden: None,
    besides: &["x-webauth-login"],
};

const JENKINS: Names = Names {
    user: "x-forwarded-user",
    email: Some("x-forwarded-mail"),
    display_name: Some("x-forwarded-displayname"),
    groups: "x-forwarded-groups",
    roles: Roles::Untold,
    hidden: None,
    besides: &[],
};

const NETBOX: Names = Names {
    user: "remote-user",
    email: Some("remote-user-email"),
    display_name: None,
    groups: "remote-user-group",
    roles: Roles::Untold,
    hidden: None,
    besides: &["remote-user-first-name", "remote-user-last-name"],
};

/// `X-Role` is the older name of `X-Team`, and read where that is missing.
const CLOUDBEAVER: Names = Names {
    user: "x-user",
    email: None,
    display_name: Some("x-full-name"),
    groups: "x-team",
    roles: Roles::Untold,
    hidden: None,
    besides: &["x-role", "x-role-te", "x-first-name", "x-last-name"],
};

impl Names {
    fn of(preset: HeaderPreset) -> Option<&'static Self> {
        match preset {
            HeaderPreset::None => None,
            HeaderPreset::Loginsync => Some(&LOGINSYNC),
            HeaderPreset::Oauth2Proxy => Some(&OAUTH2_PROXY),
            HeaderPreset::Authelia | HeaderPreset::OctoPrint => Some(&AUTHELIA),
            HeaderPreset::OpenWebUi => Some(&OPEN_WEBUI),
            HeaderPreset::Grafana => Some(&GRAFANA),
            HeaderPreset::Jenkins => Some(&JENKINS),
            HeaderPreset::NetBox => Some(&NETBOX),
            HeaderPreset::CloudBeaver => Some(&CLOUDBEAVER),
        }
    }

    fn all(&self) -> impl Iterator<Item = &'static str> {
        let roles = match self.roles {
            Roles::Untold => None,
            Roles::List(name) | Roles::Highest { name, .. } => Some(name),
        };
        let optional = [self.email, self.display_name, roles, self.hidden];
        let besides = self.besides.iter().copied();
        [self.user, self.groups].into_iter().chain(optional.into_iter().flatten()).chain(besides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::reading::header::{Meaning, meaning};

    /// A name that passed from clients would let them be whoever they say.
    #[test]
    fn no_name_of_a_preset_passes_from_clients() {
        for names in [&LOGINSYNC, &OAUTH2_PROXY, &AUTHELIA, &OPEN_WEBUI, &GRAFANA, &JENKINS, &NETBOX, &CLOUDBEAVER] {
            for name in names.all() {
                let found = meaning(name);
                assert!(
                    matches!(found, Some(Meaning::Ours | Meaning::Identity | Meaning::OtherHop)),
                    "{name}: {found:?}"
                );
            }
        }
    }
}
