//! Which header fields cross the proxy: hop-by-hop ones do not, forged ones never, ours are set last.
//!
//! Always delete first, then set: a client's `Connection: x-loginsync-user` deletes its own forgery and cannot reach what is
//! set afterwards. What a name means to apps, [`crate::pipeline::reading::header`] knows; a name that apps may fold onto
//! another one (`X_Forwarded_User`) does not pass.

mod dropped;

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use prometheus_client::metrics::counter::Counter;

use self::dropped::Dropped;
use crate::config::{Headers, ProviderSettings};
use crate::pipeline::capture::token;
use crate::pipeline::provider::Protocol;
use crate::pipeline::reading::header::{Meaning, bare, folded, is_authorization, is_plain, is_usual, meaning};
use crate::serve::framing::Framing;
use crate::serve::identity;

const KEEP_ALIVE: &str = "keep-alive";
const PROXY_CONNECTION: &str = "proxy-connection";
const HTTP2_SETTINGS: &str = "http2-settings";
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What a request wants of the next hop, taken out of its hop-by-hop fields.
#[derive(Debug, Default)]
pub struct Wishes {
    /// The protocol to switch to (RFC 9110 section 7.8).
    pub upgrade: Option<HeaderValue>,
    /// Trailer fields are welcome in the answer (RFC 9110 section 10.1.4).
    pub trailers: bool,
}

/// Which names pass that do not by themselves, and what was dropped so far.
#[derive(Debug)]
pub struct Hygiene {
    /// `headers.allow_underscores`.
    allowed: Vec<HeaderName>,
    /// `headers.trust`: from a trusted hop.
    trusted: Vec<HeaderName>,
    /// Headers whose tokens are verified.
    read: Vec<HeaderName>,
    /// By which we tell the app of identities: nothing that `trusted` names may pass for that.
    own: Vec<HeaderName>,
    dropped: Dropped,
}

/// What became of a request's headers.
#[derive(Debug, Default)]
pub struct Cleaned {
    pub wishes: Wishes,
    /// A dropped name that apps may read as one which says how the message is to be read, or who sends it.
    pub folded: Option<HeaderName>,
    /// A name by which apps may take the request for one of another method.
    pub method_override: Option<HeaderName>,
}

impl Hygiene {
    pub fn new(settings: &Headers, providers: &[ProviderSettings], dropped: Counter) -> Self {
        let read = providers.iter().filter_map(|settings| match &settings.provider.protocol {
            Protocol::Oidc(policy) => policy.bearer.as_ref().map(|bearer| bearer.form.rules().header),
            Protocol::Saml(_) => None,
        });
        Self {
            allowed: settings.allow_underscores.clone(),
            trusted: settings.trust.clone(),
            read: read.map(HeaderName::from_static).collect(),
            own: identity::names(settings.preset).collect(),
            dropped: Dropped::new(dropped),
        }
    }

    /// Removes from a request what must not reach the app: hop-by-hop fields (RFC 9110 section 7.6.1), names that apps fold
    /// onto others, identity headers, what moves the request to another path, and, unless the peer is trusted, what it says of
    /// hops before it. `asked` keeps what gateways say of the request that they ask about.
    ///
    /// # Errors
    /// When the framing is one that the app could read differently.
    pub fn clean_request(
        &self,
        headers: &mut HeaderMap,
        peer_is_trusted: bool,
        asked: bool,
    ) -> Result<Cleaned, Framing> {
        let mut cleaned = Cleaned::default();
        let mut hop_by_hop = false;
        let mut unwanted: Vec<HeaderName> = Vec::new();
        for name in headers.keys() {
            if is_usual(name.as_str()) {
                continue;
            }
            if !is_plain(name.as_str()) {
                if !self.allowed.contains(name) {
                    if meaning(&folded(name.as_str())) == Some(Meaning::Message) {
                        cleaned.folded = Some(name.clone());
                    }
                    self.dropped.underscore(name);
                    unwanted.push(name.clone());
                }
                continue;
            }
            hop_by_hop |= is_hop_by_hop(name);
            match meaning(name.as_str()) {
                // A second cookie or media type, which the app alone would read. Credentials are looked into wherever they stand.
                Some(Meaning::Message) if bare(name.as_str()) != name.as_str() && !is_authorization(name.as_str()) => {
                    unwanted.push(name.clone());
                }
                None | Some(Meaning::Message) => {}
                Some(Meaning::Method) => cleaned.method_override = Some(name.clone()),
                Some(meaning) if self.passes(name, meaning, peer_is_trusted, asked) => {}
                Some(_) => unwanted.push(name.clone()),
            }
        }
        if hop_by_hop {
            cleaned.wishes = take_hop_by_hop(headers)?;
        }
        for name in unwanted {
            headers.remove(name);
        }
        check_length(headers)?;
        Ok(cleaned)
    }

    fn passes(&self, name: &HeaderName, meaning: Meaning, peer_is_trusted: bool, asked: bool) -> bool {
        match meaning {
            Meaning::Ours | Meaning::Path | Meaning::Proxy => false,
            Meaning::Hop => peer_is_trusted,
            Meaning::Identity | Meaning::OtherHop => {
                let of_hops = name.as_str().starts_with(FORWARDING_PREFIX);
                let passes = self.own.iter().all(|own| own.as_str() != bare(name.as_str()))
                    && ((self.read.contains(name) && (peer_is_trusted || !of_hops))
                        || (peer_is_trusted && (self.trusted.contains(name) || (asked && is_asked_about(name)))));
                if peer_is_trusted && !passes {
                    self.dropped.untrusted(name);
                }
                passes
            }
            Meaning::Method | Meaning::Message => true,
        }
    }
}

const FORWARDING_PREFIX: &str = "x-forwarded";

/// By these a gateway says what it asks about.
fn is_asked_about(name: &HeaderName) -> bool {
    matches!(name.as_str(), "x-forwarded-uri" | "x-forwarded-method")
}

/// Removes an answer's hop-by-hop fields.
pub fn clean_response(headers: &mut HeaderMap) {
    let mut names_others = false;
    let mut unwanted: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        // Most answers have this one alone, and no list is made for it.
        if *name == header::CONNECTION {
            names_others = true;
        } else if is_hop_by_hop(name) {
            unwanted.push(name.clone());
        }
    }
    if names_others {
        remove_named_in_connection(headers);
        headers.remove(header::CONNECTION);
    }
    for name in unwanted {
        headers.remove(name);
    }
}

/// Removes from trailer fields what may not be a header either, what says how a message is to be read (RFC 9110 section
/// 6.5.1), and tokens: the headers were looked into. Some apps merge the two.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    let passes = |name: &&HeaderName| {
        let has_token = trailers.get_all(*name).iter().any(|value| token::is_within(value.as_bytes()));
        let name = name.as_str();
        is_plain(name) && !has_token && (meaning(name).is_none() || matches!(name, "content-digest" | "content-md5"))
    };
    let unwanted: Vec<HeaderName> = trailers.keys().filter(|name| !passes(name)).cloned().collect();
    for name in unwanted {
        trailers.remove(name);
    }
}

/// The headers that describe the client's connection to the app.
#[derive(Debug)]
pub struct PublicSide {
    pub scheme: HeaderValue,
    pub host: HeaderValue,
}

/// Sets what the app learns of the client, once [`Hygiene`] has removed what the client said of itself. What a trusted
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

/// The addresses that `X-Forwarded-For` names, the nearest first, up to the first that is none.
pub fn forwarded_chain(headers: &HeaderMap) -> impl Iterator<Item = IpAddr> {
    let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
    let names = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    names.map_while(|name| std::str::from_utf8(name.trim_ascii()).ok()?.parse().ok())
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
    ) || matches!(name.as_str(), KEEP_ALIVE | PROXY_CONNECTION | HTTP2_SETTINGS)
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
        [header::CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE, header::PROXY_AUTHORIZATION]
    {
        headers.remove(name);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    // We answer 100 (Continue) ourselves, as soon as the app's connection takes the body.
    headers.remove(header::EXPECT);
    Ok(wishes)
}

/// An upgrade to another HTTP, or to TLS, would open a tunnel in which requests pass us unseen, so it is not passed on.
fn asks_to_upgrade(headers: &HeaderMap) -> bool {
    let listed =
        headers.get_all(header::CONNECTION).iter().flat_map(tokens).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let mut lines = headers.get_all(header::UPGRADE).iter();
    let (Some(protocols), None) = (lines.next(), lines.next()) else { return false };
    let carries_http = |token: &[u8]| {
        let at = token.iter().position(u8::is_ascii_alphanumeric).unwrap_or(token.len());
        let token = token.get(at..).unwrap_or_default();
        let begins = |word: &[u8]| token.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        begins(b"h2") || begins(b"h3") || begins(b"http") || begins(b"tls") || begins(b"connect")
    };
    let is_token = |part: &[u8]| HeaderName::from_bytes(part).is_ok();
    // RFC 9110 section 7.8. What is written otherwise, some servers read with quotes and blanks taken off.
    let is_protocol = |token: &[u8]| token.splitn(2, |byte| *byte == b'/').all(is_token);
    listed && tokens(protocols).all(|token| is_protocol(token) && !carries_http(token))
}

/// The protocol that an answer switches to, if it is one of those that were asked for.
pub fn agreed_protocol(asked: &HeaderValue, answer: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = answer.get_all(header::UPGRADE).iter();
    let (Some(protocol), None) = (lines.next(), lines.next()) else { return None };
    let is_asked = tokens(asked).any(|token| token.eq_ignore_ascii_case(protocol.as_bytes()));
    is_asked.then(|| protocol.clone())
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
