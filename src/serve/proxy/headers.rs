//! Which header fields cross the proxy: hop-by-hop ones do not, forged ones never, ours are set last.
//!
//! Always delete first, then set: a client's `Connection: x-loginsync-user` deletes its own forgery and cannot reach what is
//! set afterwards. Names are compared the way CGI folds them, where every character that is no letter or digit is the same
//! (RFC 3875 section 4.1.18, and the looser habits of servers): `X_Forwarded_User` is `X-Forwarded-User`.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config::{HeaderPreset, Headers};
use crate::pipeline::claims::Claims;
use crate::pipeline::ids::ProviderName;
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::plan::Plan;
use crate::ports::sessions::Session;
use crate::serve::bearer::Bearer;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Every name under which any preset hands over an identity, folded. Removed whatever preset is set, since an app may still
/// read what an earlier preset sent. Names under `x-loginsync-` belong to them.
const IDENTITY: [&[u8]; 8] = [
    b"x-forwarded-user",
    b"x-forwarded-email",
    b"x-forwarded-groups",
    b"x-forwarded-preferred-username",
    b"remote-user",
    b"remote-groups",
    b"remote-email",
    b"remote-name",
];
const OWN_PREFIX: &[u8] = b"x-loginsync-";

/// By these an app may take a path other than the one that was decided on, so nobody may send them.
const PATH_OVERRIDES: [&[u8]; 3] = [b"x-original-url", b"x-rewrite-url", b"x-original-uri"];

/// What a hop before us may say of the client, if it is trusted; beside everything under `x-forwarded`.
const FORWARDING: [&[u8]; 12] = [
    b"forwarded",
    b"x-real-ip",
    b"x-client-ip",
    b"true-client-ip",
    b"x-cluster-client-ip",
    b"x-original-host",
    b"x-original-for",
    b"x-original-proto",
    b"x-host",
    b"x-http-host-override",
    b"x-url-scheme",
    b"x-scheme",
];
const FORWARDING_PREFIX: &[u8] = b"x-forwarded";

/// What a request wants of the next hop, taken out of its hop-by-hop fields.
#[derive(Debug, Default)]
pub struct Wishes {
    /// The protocol to switch to (RFC 9110 section 7.8).
    pub upgrade: Option<HeaderValue>,
    /// Trailer fields are welcome in the answer (RFC 9110 section 10.1.4).
    pub trailers: bool,
}

/// Why a request's framing cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Framing {
    #[error("a transfer encoding other than one `chunked`")]
    TransferEncoding,
    #[error("both `Content-Length` and `Transfer-Encoding`")]
    TwoLengths,
    #[error("several differing `Content-Length` fields")]
    ContentLength,
}

/// Removes from a request what must not reach the app: hop-by-hop fields (RFC 9110 section 7.6.1), identity headers in every
/// spelling, and, unless the peer is trusted, what it says of hops before it.
///
/// # Errors
/// When the framing is one that the app could read differently.
pub fn clean_request(headers: &mut HeaderMap, peer_is_trusted: bool) -> Result<Wishes, Framing> {
    let mut hop_by_hop = false;
    let mut unwanted: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        match name.as_str().as_bytes() {
            [b'x' | b'r' | b'f' | b't', ..] if is_unwanted(name.as_str().as_bytes(), peer_is_trusted) => {
                unwanted.push(name.clone());
            }
            [b'c' | b'k' | b'p' | b't' | b'u' | b'e' | b'h', ..] => hop_by_hop |= is_hop_by_hop(name),
            _ => {}
        }
    }
    let wishes = if hop_by_hop { take_hop_by_hop(headers)? } else { Wishes::default() };
    for name in unwanted {
        headers.remove(name);
    }
    check_length(headers)?;
    Ok(wishes)
}

/// Removes an answer's hop-by-hop fields.
pub fn clean_response(headers: &mut HeaderMap) {
    let mut hop_by_hop = false;
    for name in headers.keys() {
        if let [b'c' | b'k' | b'p' | b't' | b'u', ..] = name.as_str().as_bytes() {
            hop_by_hop |= is_hop_by_hop(name);
        }
    }
    if hop_by_hop {
        remove_named_in_connection(headers);
        for name in [header::CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, header::TE, header::TRANSFER_ENCODING] {
            headers.remove(name);
        }
        for name in [header::UPGRADE, header::PROXY_AUTHENTICATE] {
            headers.remove(name);
        }
    }
}

/// Removes from trailer fields what may not be a header either. Some apps merge the two.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    let unwanted: Vec<HeaderName> =
        trailers.keys().filter(|name| is_unwanted(name.as_str().as_bytes(), false)).cloned().collect();
    for name in unwanted {
        trailers.remove(name);
    }
}

/// What the app is told about the client's side of us.
#[derive(Debug)]
pub struct PublicSide {
    pub scheme: HeaderValue,
    pub host: HeaderValue,
}

/// Sets what the app learns of the client, once [`clean_request`] has removed what the client said of itself. What a trusted
/// hop said stands, with that hop added.
pub fn set_forwarded(headers: &mut HeaderMap, peer: &HeaderValue, peer_is_trusted: bool, public: &PublicSide) {
    if !peer_is_trusted {
        headers.insert(X_FORWARDED_FOR, peer.clone());
        headers.insert(X_FORWARDED_PROTO, public.scheme.clone());
        headers.insert(X_FORWARDED_HOST, public.host.clone());
        return;
    }
    let mut chain = Vec::new();
    for line in headers.get_all(X_FORWARDED_FOR) {
        chain.extend_from_slice(line.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.as_bytes());
    headers.insert(X_FORWARDED_FOR, HeaderValue::from_bytes(&chain).unwrap_or_else(|_| peer.clone()));
    headers.entry(X_FORWARDED_PROTO).or_insert_with(|| public.scheme.clone());
    headers.entry(X_FORWARDED_HOST).or_insert_with(|| public.host.clone());
}

/// Sets what the next hop is asked for.
pub fn set_wishes(headers: &mut HeaderMap, wishes: &Wishes) {
    if let Some(protocol) = &wishes.upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    } else if wishes.trailers {
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    if wishes.trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

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
pub fn identity_names(preset: HeaderPreset) -> impl Iterator<Item = HeaderName> {
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
pub fn set_identity(headers: &mut HeaderMap, settings: &Headers, identity: &Identity<'_>) -> Told {
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

fn is_unwanted(name: &[u8], peer_is_trusted: bool) -> bool {
    if starts_folded(name, OWN_PREFIX)
        || IDENTITY.iter().chain(&PATH_OVERRIDES).any(|unwanted| equals_folded(name, unwanted))
    {
        return true;
    }
    let forwarding =
        starts_folded(name, FORWARDING_PREFIX) || FORWARDING.iter().any(|unwanted| equals_folded(name, unwanted));
    // A trusted hop writes these names properly; another spelling came through it from a client.
    forwarding && (!peer_is_trusted || name.iter().any(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-'))
}

fn equals_folded(name: &[u8], folded: &[u8]) -> bool {
    name.len() == folded.len() && starts_folded(name, folded)
}

fn starts_folded(name: &[u8], folded: &[u8]) -> bool {
    let fold = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() >= folded.len() && name.iter().map(fold).zip(folded).all(|(ours, theirs)| ours == *theirs)
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TE
            | header::TRANSFER_ENCODING
            | header::UPGRADE
            | header::EXPECT
            | header::PROXY_AUTHORIZATION
            | header::PROXY_AUTHENTICATE
    ) || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
        || *name == HTTP2_SETTINGS
}

fn take_hop_by_hop(headers: &mut HeaderMap) -> Result<Wishes, Framing> {
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => {}
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => {}
        _ => return Err(Framing::TransferEncoding),
    }
    let wishes = Wishes {
        upgrade: headers.get(header::UPGRADE).filter(|_| asks_to_upgrade(headers)).cloned(),
        trailers: headers
            .get_all(header::TE)
            .iter()
            .flat_map(tokens)
            .any(|token| token.eq_ignore_ascii_case(b"trailers")),
    };
    remove_named_in_connection(headers);
    for name in
        [header::CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE]
    {
        headers.remove(name);
    }
    // `Expect`: we answer 100 (Continue) ourselves, as soon as the app's connection takes the body.
    for name in [header::EXPECT, header::PROXY_AUTHORIZATION, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    Ok(wishes)
}

/// An upgrade to another HTTP, or to TLS, would open a tunnel in which requests pass us unseen, so it is not passed on.
fn asks_to_upgrade(headers: &HeaderMap) -> bool {
    let listed =
        headers.get_all(header::CONNECTION).iter().flat_map(tokens).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let mut lines = headers.get_all(header::UPGRADE).iter();
    let (Some(protocols), None) = (lines.next(), lines.next()) else { return false };
    let carries_http = |token: &[u8]| {
        let begins = |word: &[u8]| token.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        begins(b"h2") || begins(b"h3") || begins(b"http") || begins(b"tls") || begins(b"connect")
    };
    listed && !tokens(protocols).any(carries_http)
}

/// RFC 9110 section 7.6.1: what `Connection` names is for this hop alone. `Host` and the length are part of every message.
fn remove_named_in_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(tokens)
        .filter(|token| {
            ![&b"keep-alive"[..], b"close", b"upgrade"].iter().any(|usual| token.eq_ignore_ascii_case(usual))
        })
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// hyper refuses lengths that differ on HTTP/1.1; on HTTP/2 nothing has looked at them yet.
fn check_length(headers: &mut HeaderMap) -> Result<(), Framing> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    match lengths.next() {
        Some(_) => Err(Framing::ContentLength),
        None if !first.is_empty() && first.as_bytes().iter().all(u8::is_ascii_digit) => Ok(()),
        None => Err(Framing::ContentLength),
    }
}
