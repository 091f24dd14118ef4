//! Cookies of ours: taken out of what goes to the app, sealed so that no other party can read or make one.
//!
//! ```text
//! __Host-loginsync-s=<256 random bits>                      a session: its meaning is a row of the store
//! __Host-loginsync-b-2f6a0c…=<sealed>                       a login that the app began, and what must come back
//! __Host-loginsync-p-91be44…=<sealed>                       a login that we began
//! sealed = base64url(nonce | AES-256-GCM(time, content))
//! ```
//!
//! A cookie's name is the additional data of its seal, so no value can be moved under another name. The time is inside, so
//! only our own record says how old it is.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderMap, HeaderValue};

pub use crate::config::SameSite;
use crate::config::{PublicUrl, Secret};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::reading::name::{self, CookieNames};

/// Every name of ours begins so, behind the prefix. Names that begin otherwise are the app's.
const MARK: &[u8] = b"loginsync-";
/// RFC 6265bis section 4.1.3.2: only this host can have set it, over TLS, so no sibling domain can plant one.
const HOST_PREFIX: &str = "__Host-";
/// The same without the host: over TLS, by any host of the domain that the cookie names.
const SECURE_PREFIX: &str = "__Secure-";
/// How long a login may take: cookies and their content end together.
const LIFETIME_SECONDS: u32 = 15 * 60;
pub const LIFETIME: std::time::Duration = std::time::Duration::from_secs(LIFETIME_SECONDS as u64);
/// Logins of one kind that one browser may have open.
pub const MOST_KEPT: usize = 12;
/// Cookies of ours that are looked at in a request, however many come.
const MOST_READ: usize = 32;
/// What browsers keep of one cookie, name and attributes apart (RFC 6265bis section 5.6).
const MOST_BYTES: usize = 3800;

/// Our cookies of one request, taken out of what goes to the app.
#[derive(Debug, Clone, Default)]
pub struct Jar(pub(super) Vec<(String, String)>);

impl Jar {
    /// Takes our cookies out of the `Cookie` fields, and those that the app is not to get ([`crate::config::Headers::drop_cookies`]).
    /// Other cookies stay byte for byte; the several fields that HTTP/2 may split them into become the one that HTTP/1.1 allows
    /// (RFC 9113 section 8.2.3).
    pub fn take(headers: &mut HeaderMap, dropped: &[CookieNames]) -> Self {
        let mut lines = headers.get_all(header::COOKIE).iter();
        let Some(first) = lines.next() else { return Self::default() };
        let several = lines.next().is_some();
        if !several && dropped.is_empty() && memchr::memmem::find(first.as_bytes(), MARK).is_none() {
            return Self::default();
        }
        let mut jar = Self::default();
        let mut others: Vec<u8> = Vec::new();
        for line in headers.get_all(header::COOKIE) {
            let mut separator: &[u8] = b"; ";
            for cookie in line.as_bytes().split(|byte| *byte == b';') {
                if !jar.takes(cookie) && !brings(cookie, dropped) {
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

    /// The value of the one cookie of a name; `None` also where there are two, of which a sibling domain may have set one.
    fn only(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

/// Whether some reader finds one of these cookies in what stands between two `;`.
fn brings(piece: &[u8], dropped: &[CookieNames]) -> bool {
    !dropped.is_empty() && name::cookies(piece).any(|(name, _)| dropped.iter().any(|names| names.has(name)))
}

/// Removes what the app sets under our names, and what it would not get back: left with the browser, that would count again once it
/// is no longer dropped.
pub fn drop_foreign(headers: &mut HeaderMap, dropped: &[CookieNames]) {
    let unwanted = |value: &HeaderValue| {
        let pair = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        is_ours(pair.trim_ascii_start()) || brings(pair, dropped)
    };
    if !headers.get_all(header::SET_COOKIE).iter().any(unwanted) {
        return;
    }
    let kept: Vec<HeaderValue> =
        headers.get_all(header::SET_COOKIE).iter().filter(|value| !unwanted(value)).cloned().collect();
    headers.remove(header::SET_COOKIE);
    for value in kept {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Without case: browsers treat the prefix of a name so (RFC 6265bis section 4.1.3).
fn is_ours(name: &[u8]) -> bool {
    let begins = |name: &[u8], word: &[u8]| name.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    let prefix =
        [HOST_PREFIX, SECURE_PREFIX].into_iter().find(|prefix| begins(name, prefix.as_bytes())).unwrap_or_default();
    begins(name.get(prefix.len()..).unwrap_or_default(), MARK)
}

/// Why keys are of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CookieKeyError {
    #[error("no cookie key; expected at least one of 32 bytes")]
    None,
    #[error("a cookie key is {0} bytes long; expected 32")]
    Length(usize),
}

/// Seals and opens with the cookie keys, and writes cookies as this site's scheme allows.
#[derive(Clone)]
pub struct Sealer {
    /// The first seals, all open.
    keys: std::sync::Arc<[LessSafeKey]>,
    secure: bool,
    /// To whose hosts browsers send the cookies; `None`: to this host alone.
    domain: Option<std::sync::Arc<str>>,
}

impl Sealer {
    /// # Errors
    /// When there is no key, or one that AES-256 cannot take.
    pub fn new(keys: &[Secret], public_url: &PublicUrl) -> Result<Self, CookieKeyError> {
        if keys.is_empty() {
            return Err(CookieKeyError::None);
        }
        let keys = keys.iter().map(|key| {
            let length = key.expose().len();
            UnboundKey::new(&AES_256_GCM, key.expose())
                .map(LessSafeKey::new)
                .map_err(|_| CookieKeyError::Length(length))
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()?, secure: public_url.secure, domain: None })
    }

    /// The same for cookies that every host of a domain gets, where there is one.
    pub fn of_domain(&self, domain: Option<&str>) -> Self {
        Self { domain: domain.map(std::sync::Arc::from), ..self.clone() }
    }

    /// Seals a content so that it opens under the same name alone. `None` where the operating system returned no random bytes.
    pub fn seal(&self, name: &[u8], content: &[u8]) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = content.to_vec();
        let nonce_bytes = Nonce::assume_unique_for_key(nonce);
        self.keys.first()?.seal_in_place_append_tag(nonce_bytes, Aad::from(name), &mut sealed).ok()?;
        let mut whole = nonce.to_vec();
        whole.append(&mut sealed);
        Some(whole)
    }

    pub fn unseal(&self, name: &[u8], whole: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = whole.split_first_chunk::<NONCE_LEN>()?;
        self.keys.iter().find_map(|key| {
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            key.open_in_place(nonce, Aad::from(name), &mut sealed).ok().map(|plain| plain.to_vec())
        })
    }

    /// A name of ours as it is written on this site. Without TLS browsers refuse the prefix.
    pub fn name(&self, rest: &str) -> String {
        let prefix = match (self.secure, &self.domain) {
            (false, _) => "",
            (true, None) => HOST_PREFIX,
            (true, Some(_)) => SECURE_PREFIX,
        };
        format!("{prefix}loginsync-{rest}")
    }

    /// The value of one of our cookies. One without the prefix could have been set by a sibling domain.
    pub fn cookie<'j>(&self, jar: &'j Jar, rest: &str) -> Option<&'j str> {
        jar.only(&self.name(rest))
    }

    /// Sets a cookie, for a time or for as long as the browser runs.
    pub fn set(&self, name: &str, value: &str, max_age: Option<u32>, same_site: SameSite, headers: &mut HeaderMap) {
        // Without TLS browsers refuse `None`, and on loopback ports do not make another site.
        let attributes = match (self.secure, same_site) {
            (true, SameSite::None) => "; Secure; HttpOnly; SameSite=None",
            (true, SameSite::Lax) => "; Secure; HttpOnly; SameSite=Lax",
            (true, SameSite::Strict) => "; Secure; HttpOnly; SameSite=Strict",
            (false, SameSite::Strict) => "; HttpOnly; SameSite=Strict",
            (false, _) => "; HttpOnly; SameSite=Lax",
        };
        let max_age = max_age.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
        let domain = self.domain.as_ref().map(|domain| format!("; Domain={domain}")).unwrap_or_default();
        if let Ok(cookie) = HeaderValue::try_from(format!("{name}={value}; Path=/{domain}{max_age}{attributes}")) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }

    /// Clears one cookie.
    pub fn clear(&self, name: &str, headers: &mut HeaderMap) {
        self.set(name, "", Some(0), SameSite::None, headers);
    }
}

/// Random bytes; `None` where the system gives none.
pub fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

/// 256 random bits as text that stands in a URL, a form and an XML attribute alike; `None` where the system gives none.
pub fn random_text() -> Option<String> {
    Some(URL_SAFE_NO_PAD.encode(random::<32>()?))
}

/// Sealed cookies of one kind: what a browser remembers of the logins that it left for, for [`LIFETIME`].
pub struct Notes {
    sealer: Sealer,
    kind: &'static str,
}

/// A cookie that opened.
#[derive(Debug)]
pub struct Note {
    pub name: String,
    pub content: Vec<u8>,
    at: Timestamp,
}

impl Notes {
    pub fn new(sealer: Sealer, kind: &'static str) -> Self {
        Self { sealer, kind }
    }

    /// What the browser remembers, oldest first. What does not open, or is too old, is left out.
    pub fn open(&self, jar: &Jar, now: Timestamp) -> Vec<Note> {
        let prefix = self.sealer.name(self.kind);
        let ours = jar.0.iter().filter(|(name, _)| name.starts_with(&prefix));
        let mut notes: Vec<Note> = ours.filter_map(|(name, value)| self.unseal(name, value, now)).collect();
        notes.sort_by_key(|note| note.at);
        notes
    }

    fn unseal(&self, name: &str, value: &str, now: Timestamp) -> Option<Note> {
        let plain = self.sealer.unseal(name.as_bytes(), &URL_SAFE_NO_PAD.decode(value).ok()?)?;
        let (at, content) = plain.split_first_chunk::<8>()?;
        let at = Timestamp(i64::from_be_bytes(*at));
        let fresh = now < at.plus(LIFETIME) && at <= now.plus(LIFETIME);
        fresh.then(|| Note { name: name.to_owned(), content: content.to_vec(), at })
    }

    /// The same identity gives the same name, so that a reload of a redirect does not fill the jar.
    pub fn name(&self, identity: &[u8]) -> String {
        let digest = digest::digest(&digest::SHA256, identity);
        let hash = URL_SAFE_NO_PAD.encode(digest.as_ref().get(..12).unwrap_or_default());
        self.sealer.name(&format!("{}{hash}", self.kind))
    }

    /// Sets a cookie for each name and content, and clears the oldest where a browser would keep too many. Answers how many
    /// were too large to be set.
    pub fn remember(&self, notes: &[(String, Vec<u8>)], jar: &Jar, now: Timestamp, headers: &mut HeaderMap) -> usize {
        let notes = notes.get(..notes.len().min(MOST_KEPT)).unwrap_or_default();
        let mut kept = self.open(jar, now);
        kept.retain(|kept| notes.iter().all(|(name, _)| *name != kept.name));
        let surplus = (kept.len() + notes.len()).saturating_sub(MOST_KEPT);
        for old in kept.iter().take(surplus) {
            self.forget(&old.name, headers);
        }
        let mut unset = 0;
        for (name, content) in notes {
            match self.sealed(name, content, now).filter(|value| value.len() <= MOST_BYTES) {
                Some(value) => self.sealer.set(name, &value, Some(LIFETIME_SECONDS), SameSite::None, headers),
                None => unset += 1,
            }
        }
        unset
    }

    fn sealed(&self, name: &str, content: &[u8], now: Timestamp) -> Option<String> {
        let mut plain = now.0.to_be_bytes().to_vec();
        plain.extend_from_slice(content);
        self.sealer.seal(name.as_bytes(), &plain).map(|whole| URL_SAFE_NO_PAD.encode(whole))
    }

    /// Clears one cookie.
    pub fn forget(&self, name: &str, headers: &mut HeaderMap) {
        self.sealer.clear(name, headers);
    }
}

/// Writes fields, each with its length before it, so that no byte can slide from one into the next.
#[derive(Debug, Default)]
pub struct Framed(pub Vec<u8>);

const ABSENT: u32 = u32::MAX;

impl Framed {
    pub fn put(&mut self, text: Option<&str>) {
        let length = text.map_or(ABSENT, |text| u32::try_from(text.len()).unwrap_or(ABSENT));
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(text.unwrap_or_default().as_bytes());
    }
}

/// Takes one field off the front; the outer `None` where there is none that is whole.
pub fn take_field(rest: &mut &[u8]) -> Option<Option<String>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    let length = u32::from_be_bytes(*length);
    if length == ABSENT {
        return Some(None);
    }
    let (text, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    Some(Some(String::from_utf8(text.to_vec()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn notes(keys: &[u8]) -> Notes {
        let keys: Vec<Secret> = keys.iter().map(|byte| Secret::new(vec![*byte; 32])).collect();
        let public_url = PublicUrl::new("https://app.example", "");
        Notes::new(Sealer::new(&keys, &public_url).unwrap(), "b-")
    }

    fn opened(notes: &Notes, name: &str, value: &str) -> Option<Vec<u8>> {
        notes.unseal(name, value, NOW).map(|note| note.content)
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let name = notes(&[1]).name(b"x");
        let value = notes(&[1]).sealed(&name, b"content", NOW).unwrap();
        assert_eq!(opened(&notes(&[2, 1]), &name, &value).as_deref(), Some(&b"content"[..]));
        assert_eq!(opened(&notes(&[2, 3]), &name, &value), None);
        let public_url = PublicUrl::new("https://app.example", "");
        assert!(matches!(Sealer::new(&[], &public_url), Err(CookieKeyError::None)));
    }

    /// Threat 36: a value that was touched anywhere opens to nothing, and nothing breaks.
    #[test]
    fn a_touched_value_does_not_open() {
        let notes = notes(&[1]);
        let name = notes.name(b"x");
        let value = notes.sealed(&name, b"content", NOW).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&value).unwrap();
        for at in 0..bytes.len() {
            let mut touched = bytes.clone();
            touched[at] ^= 1;
            assert_eq!(opened(&notes, &name, &URL_SAFE_NO_PAD.encode(&touched)), None, "byte {at}");
            assert_eq!(opened(&notes, &name, &URL_SAFE_NO_PAD.encode(&bytes[..at])), None, "cut at {at}");
        }
        for junk in ["", "=", "%%%", "AAAA", "ä", "99999999"] {
            assert_eq!(opened(&notes, &name, junk), None, "{junk}");
        }
        assert_eq!(opened(&notes, &format!("{name}x"), &value), None, "under another name");
    }

    #[test]
    fn an_old_cookie_is_ignored() {
        let notes = notes(&[1]);
        let name = notes.name(b"x");
        let jar = Jar(vec![(name.clone(), notes.sealed(&name, b"content", NOW).unwrap())]);
        assert_eq!(notes.open(&jar, NOW.plus(LIFETIME).minus(std::time::Duration::from_millis(1))).len(), 1);
        assert_eq!(notes.open(&jar, NOW.plus(LIFETIME)).len(), 0);
    }

    /// RFC 6265bis section 4.1.3.2: what lacks the prefix may be a sibling domain's, and of two one is.
    #[test]
    fn a_cookie_that_a_sibling_could_set_counts_for_nothing() {
        let sealer = notes(&[1]).sealer;
        let jar = |cookies: &[(&str, &str)]| Jar(cookies.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect());
        assert_eq!(sealer.cookie(&jar(&[("__Host-loginsync-s", "x")]), "s"), Some("x"));
        assert_eq!(sealer.cookie(&jar(&[("loginsync-s", "x")]), "s"), None);
        assert_eq!(sealer.cookie(&jar(&[("__Host-loginsync-s", "x"), ("__Host-loginsync-s", "y")]), "s"), None);
    }
}
