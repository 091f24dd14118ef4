//! The header fields that tell the app who sent a request, and what that person effectively holds.

use http::header::{HeaderMap, HeaderName, HeaderValue};

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
    /// Values that the preset cannot carry: a separator or a control character in them.
    pub unfit: usize,
}

/// Who somebody is, and what they effectively hold.
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

/// Every name that a preset sends.
pub fn names(preset: HeaderPreset) -> impl Iterator<Item = HeaderName> {
    let names = Names::of(preset).into_iter();
    names.flat_map(|names| {
        let always = [names.user, names.email, names.groups];
        always.into_iter().chain(names.roles).chain(names.hidden).chain(names.display_name)
    })
}

/// Sets the identity headers. A value that is absent sets nothing, and since every name was removed before,
/// nothing forged stays in its place.
///
/// Under preset `loginsync` every byte of `%`, `,`, controls and non-ASCII is percent-encoded, so that lists split at `,` and
/// each piece then percent-decodes to the very name. The other presets are written as their own proxies write them.
pub fn set(headers: &mut HeaderMap, settings: &Headers, identity: &Identity<'_>) -> Told {
    let mut told = Told::default();
    let Some(names) = Names::of(settings.preset) else { return told };
    let escaped = settings.preset == HeaderPreset::Loginsync;
    let singles = [
        (Some(names.user), Some(identity.user)),
        (Some(names.email), identity.email),
        (names.display_name, identity.display_name),
    ];
    let lists = [
        (Some(names.groups), list(identity.groups.iter().copied(), escaped, &mut told.unfit)),
        (names.roles, list(identity.roles.iter().copied(), escaped, &mut told.unfit)),
        (names.hidden, list(identity.hidden.iter().copied(), escaped, &mut told.unfit)),
    ];

    let mut bytes = 0;
    let mut set = Vec::new();
    for (name, value) in singles {
        let (Some(name), Some(value)) = (name, value.filter(|value| !value.is_empty())) else { continue };
        match HeaderValue::from_bytes(&field(value, escaped)) {
            Ok(value) => set.push((name, value)),
            Err(_) => told.unfit += 1,
        }
    }
    for (name, value) in &set {
        bytes += name.as_str().len() + value.len() + SEPARATORS;
    }
    let full: usize = lists
        .iter()
        .flat_map(|(name, value)| Some(name.as_ref()?.as_str().len() + value.as_ref()?.len() + SEPARATORS))
        .sum();
    told.over_budget = bytes + full > settings.max_bytes;
    for (name, value) in set {
        headers.insert(name, value);
    }
    if !told.over_budget {
        for (name, value) in lists {
            if let (Some(name), Some(value)) = (name, value) {
                headers.insert(name, value);
            }
        }
    }
    told
}

/// `: ` and the line's end.
const SEPARATORS: usize = 4;

/// The names of one preset.
struct Names {
    user: HeaderName,
    email: HeaderName,
    groups: HeaderName,
    roles: Option<HeaderName>,
    hidden: Option<HeaderName>,
    display_name: Option<HeaderName>,
}

impl Names {
    fn of(preset: HeaderPreset) -> Option<Self> {
        let name = HeaderName::from_static;
        match preset {
            HeaderPreset::None => None,
            HeaderPreset::Loginsync => Some(Self {
                user: name("x-loginsync-user"),
                email: name("x-loginsync-email"),
                groups: name("x-loginsync-groups"),
                roles: Some(name("x-loginsync-roles")),
                hidden: Some(name("x-loginsync-hidden-groups")),
                display_name: None,
            }),
            HeaderPreset::Oauth2Proxy => Some(Self {
                user: name("x-forwarded-user"),
                email: name("x-forwarded-email"),
                groups: name("x-forwarded-groups"),
                roles: None,
                hidden: None,
                display_name: Some(name("x-forwarded-preferred-username")),
            }),
            HeaderPreset::Authelia => Some(Self {
                user: name("remote-user"),
                email: name("remote-email"),
                groups: name("remote-groups"),
                roles: None,
                hidden: None,
                display_name: Some(name("remote-name")),
            }),
        }
    }
}

/// One value from many; `None` when there is nothing to say.
fn list<'a>(names: impl Iterator<Item = &'a str>, escaped: bool, unfit: &mut usize) -> Option<HeaderValue> {
    let mut joined = Vec::new();
    for name in names {
        // A comma would tear the name in two, and a control character could end the header.
        if !escaped && name.bytes().any(|byte| byte == b',' || byte.is_ascii_control()) {
            *unfit += 1;
            continue;
        }
        if !joined.is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(&field(name, escaped));
    }
    if joined.is_empty() { None } else { HeaderValue::from_bytes(&joined).ok() }
}

fn field(value: &str, escaped: bool) -> std::borrow::Cow<'_, [u8]> {
    const ESCAPED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%').add(b',');
    if escaped {
        std::borrow::Cow::Owned(percent_encoding::percent_encode(value.as_bytes(), ESCAPED).to_string().into_bytes())
    } else {
        std::borrow::Cow::Borrowed(value.as_bytes())
    }
}
