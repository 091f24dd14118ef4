//! What a browser remembers of the login it left for, sealed into cookies that only we can read.
//!
//! The sidecar sees the login leave: a redirect whose `Location` is a provider's endpoint, or an auto-post form on a listed
//! login path. SAML request ID, state and nonce go into one cookie for each request, so that two tabs do not overwrite each
//! other. The login that comes back must match one of them, which ties it to this browser.
//!
//! ```text
//! __Host-loginsync-b-2f6a0c…=<base64url(nonce | AES-256-GCM(version, time, provider, request))>
//! ```
//!
//! The cookie's name is the additional data of the seal, so no value can be moved under another name. The time is inside, so
//! nobody but us says how old it is.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderMap, HeaderValue};
use url::Url;

use super::scan;
use crate::config::{PublicUrl, Secret};
use crate::pipeline::capture::saml;
use crate::pipeline::ids::{ProviderName, Timestamp};
use crate::pipeline::provider::{Protocol, Provider};
use crate::pipeline::verify::{Remembered, RememberedRequest};
use crate::ports::keys::KeySource;

/// Every name of ours contains this.
const MARK: &[u8] = b"loginsync-b-";
/// RFC 6265bis section 4.1.3.2: only this host can have set it, over TLS, so no sibling domain can plant one.
const HOST_PREFIX: &str = "__Host-";
/// How long a login may take: cookies and their content end together.
const LIFETIME_SECONDS: u32 = 15 * 60;
const LIFETIME: std::time::Duration = std::time::Duration::from_secs(LIFETIME_SECONDS as u64);
/// Logins that one browser may have open.
const MOST_KEPT: usize = 6;
/// Cookies of ours that are looked at in a request, however many come.
const MOST_READ: usize = 16;
/// What browsers keep of one cookie, name and attributes apart (RFC 6265bis section 5.6).
const MOST_BYTES: usize = 3800;

/// Our cookies of one request, taken out of what goes to the app.
#[derive(Debug, Default)]
pub struct Jar(Vec<(String, String)>);

impl Jar {
    /// Takes our cookies out of the `Cookie` fields. Other cookies stay byte for byte; the several fields that HTTP/2 may
    /// split them into become the one that HTTP/1.1 allows (RFC 9113 section 8.2.3).
    pub fn take(headers: &mut HeaderMap) -> Self {
        let mut lines = headers.get_all(header::COOKIE).iter();
        let Some(first) = lines.next() else { return Self::default() };
        let several = lines.next().is_some();
        if !several && memchr::memmem::find(first.as_bytes(), MARK).is_none() {
            return Self::default();
        }
        let mut jar = Self::default();
        let mut others: Vec<u8> = Vec::new();
        for line in headers.get_all(header::COOKIE) {
            let mut separator: &[u8] = b"; ";
            for cookie in line.as_bytes().split(|byte| *byte == b';') {
                if !jar.takes(cookie) {
                    let first = others.is_empty();
                    others.extend_from_slice(if first { b"" } else { separator });
                    others.extend_from_slice(if first { cookie.trim_ascii_start() } else { cookie });
                }
                separator = b";";
            }
        }
        headers.remove(header::COOKIE);
        if let (false, Ok(value)) = (others.is_empty(), HeaderValue::from_bytes(&others)) {
            headers.insert(header::COOKIE, value);
        }
        jar
    }

    fn takes(&mut self, cookie: &[u8]) -> bool {
        let cookie = cookie.trim_ascii();
        let (name, value) = match memchr::memchr(b'=', cookie) {
            Some(at) => (cookie.get(..at).unwrap_or_default(), cookie.get(at + 1..).unwrap_or_default()),
            None => (cookie, &[][..]),
        };
        if !is_ours(name) {
            return false;
        }
        if self.0.len() < MOST_READ
            && value.len() <= MOST_BYTES
            && let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value))
        {
            self.0.push((name.to_owned(), value.to_owned()));
        }
        true
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Removes what the app sets under our names.
pub fn drop_foreign(headers: &mut HeaderMap) {
    let ours = |value: &HeaderValue| is_ours(value.as_bytes().trim_ascii_start());
    if !headers.get_all(header::SET_COOKIE).iter().any(ours) {
        return;
    }
    let kept: Vec<HeaderValue> =
        headers.get_all(header::SET_COOKIE).iter().filter(|value| !ours(value)).cloned().collect();
    headers.remove(header::SET_COOKIE);
    for value in kept {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Without case: browsers treat the prefix of a name so (RFC 6265bis section 4.1.3).
fn is_ours(name: &[u8]) -> bool {
    let begins = |name: &[u8], word: &[u8]| name.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    let name =
        if begins(name, HOST_PREFIX.as_bytes()) { name.get(HOST_PREFIX.len()..).unwrap_or_default() } else { name };
    begins(name, MARK)
}

/// A cookie that opened.
#[derive(Debug)]
pub struct Kept {
    pub name: String,
    at: Timestamp,
    pub remembered: Remembered,
}

/// Why keys are of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CookieKeyError {
    #[error("no cookie key; expected at least one of 32 bytes")]
    None,
    #[error("a cookie key is {0} bytes long; expected 32")]
    Length(usize),
}

/// Seals, sets, opens and clears binding cookies.
pub struct Binder {
    /// The first seals, all open.
    keys: Vec<LessSafeKey>,
    secure: bool,
    providers: Vec<Arc<Provider>>,
}

impl Binder {
    /// # Errors
    /// When there is no key, or one that AES-256 cannot take.
    pub fn new(keys: &[Secret], public_url: &PublicUrl, providers: Vec<Arc<Provider>>) -> Result<Self, CookieKeyError> {
        if keys.is_empty() {
            return Err(CookieKeyError::None);
        }
        let keys = keys.iter().map(|key| {
            let length = key.expose().len();
            UnboundKey::new(&AES_256_GCM, key.expose())
                .map(LessSafeKey::new)
                .map_err(|_| CookieKeyError::Length(length))
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()?, secure: public_url.secure, providers })
    }

    /// What the browser remembers, oldest first. What does not open, or is too old, is left out.
    pub fn open(&self, jar: &Jar, now: Timestamp) -> Vec<Kept> {
        let opened = jar.0.iter().filter_map(|(name, value)| {
            let (at, remembered) = self.unseal(name, value)?;
            let fresh = now < at.plus(LIFETIME) && at <= now.plus(LIFETIME);
            fresh.then(|| Kept { name: name.clone(), at, remembered })
        });
        let mut kept: Vec<Kept> = opened.collect();
        kept.sort_by_key(|kept| kept.at);
        kept
    }

    /// The requests that a redirect sends a browser away with; usually none.
    pub fn departures(&self, location: &HeaderValue, keys: &dyn KeySource) -> Vec<Remembered> {
        let Some(url) = location.to_str().ok().and_then(|location| Url::parse(location).ok()) else {
            return Vec::new();
        };
        let parameter =
            |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        self.providers_at(&url, keys)
            .filter_map(|provider| remembered(provider, &parameter, saml::request_id_of_redirect))
            .collect()
    }

    /// The requests that an auto-post form carries (SAML Bindings 3.5.4, and OIDC by POST: Core 3.1.2.1).
    pub fn form_departures(&self, html: &[u8], keys: &dyn KeySource) -> Vec<Remembered> {
        let forms = scan::forms(html);
        let requests = forms.iter().flat_map(|form| {
            let url = Url::parse(&form.action).ok();
            let field = |name: &str| form.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            let found: Vec<Remembered> = url
                .iter()
                .flat_map(|url| self.providers_at(url, keys))
                .filter_map(|provider| remembered(provider, &field, saml::request_id_of_post))
                .collect();
            found
        });
        requests.collect()
    }

    /// Sets a cookie for each request, and clears the oldest where a browser would keep too many.
    pub fn remember(&self, requests: &[Remembered], jar: &Jar, now: Timestamp, headers: &mut HeaderMap) {
        if requests.is_empty() {
            return;
        }
        let requests = requests.get(..requests.len().min(MOST_KEPT)).unwrap_or_default();
        let names: Vec<String> = requests.iter().map(|request| self.name(request)).collect();
        let mut kept = self.open(jar, now);
        kept.retain(|kept| !names.contains(&kept.name));
        let surplus = (kept.len() + names.len()).saturating_sub(MOST_KEPT);
        for old in kept.iter().take(surplus) {
            self.forget(&old.name, headers);
        }
        for (name, request) in names.iter().zip(requests) {
            match self.seal(name, request, now) {
                Some(value) if value.len() <= MOST_BYTES => self.set(name, &value, LIFETIME_SECONDS, headers),
                _ => tracing::warn!(provider = %request.provider, "a login request is too large to be remembered"),
            }
        }
    }

    /// Clears one cookie.
    pub fn forget(&self, name: &str, headers: &mut HeaderMap) {
        self.set(name, "", 0, headers);
    }

    fn set(&self, name: &str, value: &str, max_age: u32, headers: &mut HeaderMap) {
        // The provider's answer is a POST from another site, which `Lax` would not bring. Without TLS browsers refuse
        // `None`, and on loopback ports do not make another site.
        let attributes = if self.secure { "; Secure; HttpOnly; SameSite=None" } else { "; HttpOnly; SameSite=Lax" };
        let cookie = format!("{name}={value}; Path=/; Max-Age={max_age}{attributes}");
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }

    fn providers_at<'a>(&'a self, url: &'a Url, keys: &'a dyn KeySource) -> impl Iterator<Item = &'a Arc<Provider>> {
        self.providers.iter().filter(|provider| {
            let endpoints = keys.endpoints(&provider.name);
            endpoints.iter().any(|endpoint| Url::parse(endpoint).is_ok_and(|endpoint| same_place(&endpoint, url)))
        })
    }

    /// The same request gives the same name, so that a reload of the redirect does not fill the jar.
    fn name(&self, request: &Remembered) -> String {
        let digest = digest::digest(&digest::SHA256, &frame(request, None));
        let hash = URL_SAFE_NO_PAD.encode(digest.as_ref().get(..12).unwrap_or_default());
        format!("{}loginsync-b-{hash}", if self.secure { HOST_PREFIX } else { "" })
    }

    fn seal(&self, name: &str, request: &Remembered, now: Timestamp) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = frame(request, Some(now));
        let nonce_bytes = Nonce::assume_unique_for_key(nonce);
        self.keys.first()?.seal_in_place_append_tag(nonce_bytes, Aad::from(name.as_bytes()), &mut sealed).ok()?;
        let mut whole = nonce.to_vec();
        whole.append(&mut sealed);
        Some(URL_SAFE_NO_PAD.encode(whole))
    }

    fn unseal(&self, name: &str, value: &str) -> Option<(Timestamp, Remembered)> {
        // A cookie without the prefix could have been set by a sibling domain.
        if name.starts_with(HOST_PREFIX) != self.secure {
            return None;
        }
        let whole = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (nonce, sealed) = whole.split_first_chunk::<NONCE_LEN>()?;
        self.keys.iter().find_map(|key| {
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let plain = key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut sealed).ok()?;
            unframe(plain)
        })
    }
}

/// Scheme, host, port and path; what an endpoint's own query says is part of no comparison, since apps add to it.
fn same_place(endpoint: &Url, url: &Url) -> bool {
    endpoint.scheme() == url.scheme()
        && endpoint.host_str() == url.host_str()
        && endpoint.port_or_known_default() == url.port_or_known_default()
        && endpoint.path() == url.path()
}

/// What of a request to this provider is worth remembering, given its parameters.
fn remembered(
    provider: &Provider,
    parameter: &impl Fn(&str) -> Option<String>,
    request_id: impl Fn(&str) -> Option<String>,
) -> Option<Remembered> {
    let request = match &provider.protocol {
        Protocol::Oidc(policy) => {
            // Two clients of one issuer share its endpoint.
            if parameter("client_id").is_some_and(|client| client != policy.client_id) {
                return None;
            }
            let (state, nonce) = (parameter("state"), parameter("nonce"));
            if state.is_none() && nonce.is_none() {
                return None;
            }
            RememberedRequest::Oidc { state, nonce }
        }
        Protocol::Saml(_) => RememberedRequest::Saml { request_id: request_id(&parameter("SAMLRequest")?)? },
    };
    Some(Remembered { provider: provider.name.clone(), request })
}

const VERSION: u8 = 1;
const OIDC: u8 = 1;
const SAML: u8 = 2;
const ABSENT: u32 = u32::MAX;

/// Every field with its length before it, so that no byte can slide from one into the next.
fn frame(request: &Remembered, at: Option<Timestamp>) -> Vec<u8> {
    let mut framed = vec![VERSION];
    if let Some(at) = at {
        framed.extend_from_slice(&at.0.to_be_bytes());
    }
    let mut put = |text: Option<&str>| {
        let length = text.map_or(ABSENT, |text| u32::try_from(text.len()).unwrap_or(ABSENT));
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(text.unwrap_or_default().as_bytes());
    };
    put(Some(request.provider.as_str()));
    match &request.request {
        RememberedRequest::Oidc { state, nonce } => {
            put(state.as_deref());
            put(nonce.as_deref());
            framed.push(OIDC);
        }
        RememberedRequest::Saml { request_id } => {
            put(Some(request_id));
            framed.push(SAML);
        }
    }
    framed
}

fn unframe(framed: &[u8]) -> Option<(Timestamp, Remembered)> {
    let (version, rest) = framed.split_first()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (kind, mut rest) = rest.split_last()?;
    if *version != VERSION {
        return None;
    }
    let mut take = || -> Option<Option<String>> {
        let (length, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        let length = u32::from_be_bytes(*length);
        if length == ABSENT {
            return Some(None);
        }
        let (text, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = after;
        Some(Some(String::from_utf8(text.to_vec()).ok()?))
    };
    let provider = ProviderName::parse(&take()??).ok()?;
    let request = match *kind {
        OIDC => RememberedRequest::Oidc { state: take()?, nonce: take()? },
        SAML => RememberedRequest::Saml { request_id: take()?? },
        _ => return None,
    };
    rest.is_empty().then_some((Timestamp(i64::from_be_bytes(*at)), Remembered { provider, request }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn binder(keys: &[u8]) -> Binder {
        let keys: Vec<Secret> = keys.iter().map(|byte| Secret::new(vec![*byte; 32])).collect();
        let public_url = PublicUrl { origin: "https://app.example".into(), secure: true };
        Binder::new(&keys, &public_url, Vec::new()).unwrap()
    }

    fn request(state: &str, nonce: &str) -> Remembered {
        let request = RememberedRequest::Oidc { state: Some(state.into()), nonce: Some(nonce.into()) };
        Remembered { provider: ProviderName::parse("p").unwrap(), request }
    }

    fn sealed(binder: &Binder, request: &Remembered) -> (String, String) {
        let name = binder.name(request);
        let value = binder.seal(&name, request, NOW).unwrap();
        (name, value)
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let (name, value) = sealed(&binder(&[1]), &request("s", "n"));
        assert_eq!(binder(&[2, 1]).unseal(&name, &value), Some((NOW, request("s", "n"))));
        assert_eq!(binder(&[2, 3]).unseal(&name, &value), None);
        assert!(matches!(
            Binder::new(&[], &PublicUrl { origin: String::new(), secure: true }, Vec::new()),
            Err(CookieKeyError::None)
        ));
    }

    #[test]
    fn every_kind_of_request_comes_back_as_it_was() {
        let binder = binder(&[1]);
        for request in [
            RememberedRequest::Oidc { state: None, nonce: Some(String::new()) },
            RememberedRequest::Oidc { state: Some("ä".into()), nonce: None },
            RememberedRequest::Saml { request_id: "_1".into() },
        ] {
            let request = Remembered { provider: ProviderName::parse("p").unwrap(), request };
            let (name, value) = sealed(&binder, &request);
            assert_eq!(binder.unseal(&name, &value), Some((NOW, request)));
        }
    }

    /// Threat 36: a value that was touched anywhere opens to nothing, and nothing breaks.
    #[test]
    fn a_touched_value_does_not_open() {
        let binder = binder(&[1]);
        let (name, value) = sealed(&binder, &request("s", "n"));
        let bytes = URL_SAFE_NO_PAD.decode(&value).unwrap();
        for at in 0..bytes.len() {
            let mut touched = bytes.clone();
            touched[at] ^= 1;
            assert_eq!(binder.unseal(&name, &URL_SAFE_NO_PAD.encode(&touched)), None, "byte {at}");
            assert_eq!(binder.unseal(&name, &URL_SAFE_NO_PAD.encode(&bytes[..at])), None, "cut at {at}");
        }
        for junk in ["", "=", "%%%", "AAAA", "ä", "99999999"] {
            assert_eq!(binder.unseal(&name, junk), None, "{junk}");
        }
        assert_eq!(binder.unseal(&format!("{name}x"), &value), None, "under another name");
    }

    /// Threat 35: no byte of one field can count for another.
    #[test]
    fn fields_do_not_slide_into_each_other() {
        let frames: Vec<Vec<u8>> =
            [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")].map(|(s, n)| frame(&request(s, n), Some(NOW))).into();
        for (at, one) in frames.iter().enumerate() {
            assert!(frames.iter().skip(at + 1).all(|other| one != other));
            assert!(unframe(one).is_some());
            for cut in 0..one.len() {
                assert_eq!(unframe(&one[..cut]).filter(|(_, request)| frame(request, Some(NOW)) != one[..cut]), None);
            }
        }
    }

    #[test]
    fn an_old_cookie_is_ignored() {
        let binder = binder(&[1]);
        let jar = Jar(vec![sealed(&binder, &request("s", "n"))]);
        assert_eq!(binder.open(&jar, NOW.plus(LIFETIME).minus(std::time::Duration::from_millis(1))).len(), 1);
        assert_eq!(binder.open(&jar, NOW.plus(LIFETIME)).len(), 0);
    }
}
