//! The header fields that tell the app who sent a request, and what that person effectively holds. Their names are in [`crate::config::HeaderNames`].

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::AsciiSet;

use crate::config::{HeaderNames, HeaderPreset, HeaderRoles as Roles, Headers};
use crate::pipeline::claims::Claims;
use crate::pipeline::ids::ProviderName;
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::plan::Plan;
use crate::ports::sessions::Session;
use crate::serve::bearer::Bearer;

/// The outcome of the identity headers of a login.
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
    HeaderNames::of(preset).into_iter().flat_map(HeaderNames::all).map(HeaderName::from_static)
}

/// Sets the identity headers. A value that is absent sets nothing, and since every name was removed before,
/// nothing forged stays in its place. An empty list is `headers.no_groups`, where that is set.
///
/// Under preset `loginsync` every byte of `%`, `,`, the delimiter, controls and non-ASCII is percent-encoded, so that lists
/// split at the delimiter and each piece then percent-decodes to the very name. The other presets are written as the app
/// reads them.
pub fn set(headers: &mut HeaderMap, settings: &Headers, identity: &Identity<'_>) -> Told {
    let mut told = Told::default();
    let Some(names) = HeaderNames::of(settings.preset) else { return told };
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
    names: &HeaderNames,
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
