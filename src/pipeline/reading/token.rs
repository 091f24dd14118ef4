//! Could an app read this text as a token, and whose?
//!
//! ```text
//! read(value)       a whole value: of a form, a query, a JSON member, a part of multipart, a cookie
//! within(header)    what stands anywhere in the value of a header, behind whatever word
//! may_begin(head)   whether a value that begins so is worth holding until its end
//! ```
//!
//! | form | told by |
//! |---|---|
//! | JWS, compact (RFC 7515 section 7.1) | a part before the first dot, or the one after it, that is base64 of a JSON object |
//! | JWE, compact (RFC 7516 section 7.1) | the same, with five parts and `enc` |
//! | JWS and JWE as JSON (sections 7.2) | `payload` with a signature; `ciphertext` |
//! | SAML response or assertion | XML with an `Assertion` element, raw, in base64, or in DEFLATE within base64 |
//!
//! A form is recognised by the laxest reading there is, and counts as read by the strictest. What lies between is [`Unclear`]: an
//! app might read it, and we cannot tell as whose. Nothing here is verified. The work is linear in the length of the text.

use std::borrow::Cow;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::{DeflateDecoder, ZlibDecoder};
use serde_json::{Map, Value};

use crate::pipeline::capture::oidc::{UntrustedIdToken, object};
use crate::pipeline::capture::saml::{self, Message};

/// What an app could make of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// No reader takes it for a token.
    NotAToken,
    /// A token that reads strictly and names one issuer.
    Token { issuer: String },
    /// Some reader may take it for a token, and we cannot tell whose.
    Unclear(Unclear),
}

/// Why we cannot tell whose token a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    #[error("it cannot be read strictly")]
    Unreadable,
    #[error("it is encrypted")]
    Encrypted,
    #[error("it names no issuer")]
    NoIssuer,
    /// Signed with a secret that its reader shares (HS256 and the like), which no provider here can have.
    #[error("it names no issuer")]
    NoIssuerSharedSecret,
    #[error("it names more than one issuer")]
    SeveralIssuers,
    #[error("it is longer than {MAX_TOKEN} bytes")]
    TooLong,
    #[error("it stands among more than {MAX_WITHIN} tokens")]
    TooMany,
}

/// A text longer than this is not read. A token of 2,000 group names stays well below.
pub const MAX_TOKEN: usize = 512 * 1024;

/// Tokens in one header's value. An honest one has one.
const MAX_WITHIN: usize = 4;

/// Anything shorter holds no header, no issuer and no signature.
const SHORTEST: usize = 24;

/// How much of a value [`may_begin`] needs in order to say no for good.
pub const HEAD: usize = 512;

impl Reading {
    /// Whether an app may get it unread: it is not a token, or it reads strictly and its issuer is not ours.
    ///
    /// # Errors
    /// Why not.
    pub fn passes<'o>(&self, ours: impl IntoIterator<Item = &'o str>) -> Result<(), NotForeign> {
        match self {
            Self::NotAToken => Ok(()),
            Self::Unclear(unclear) => Err(NotForeign::Unclear(*unclear)),
            Self::Token { issuer } => {
                if ours.into_iter().any(|ours| is_like(issuer, ours)) {
                    Err(NotForeign::Ours)
                } else {
                    Ok(())
                }
            }
        }
    }
}

/// Why a text may not reach an app unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotForeign {
    #[error("it is a token of an issuer of ours")]
    Ours,
    #[error("it may be a token, and {0}")]
    Unclear(Unclear),
}

/// Whether some reader takes two names for one issuer: case, a slash at the end and the scheme aside (Google writes its own in
/// two ways).
pub fn is_like(found: &str, ours: &str) -> bool {
    let bare = |text: &str| {
        let text = text.trim().to_ascii_lowercase();
        let text = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest).to_owned();
        text.trim_end_matches('/').to_owned()
    };
    found == ours || bare(found) == bare(ours)
}

/// Reads a whole value, decoded as its place asks (percent, JSON escapes).
pub fn read(value: &[u8]) -> Reading {
    let value = bare(value);
    if value.len() < SHORTEST {
        return Reading::NotAToken;
    }
    if value.len() > MAX_TOKEN {
        let head = value.get(..HEAD).unwrap_or_default();
        return if may_begin(head) { Reading::Unclear(Unclear::TooLong) } else { Reading::NotAToken };
    }
    match value.first() {
        Some(b'{') => as_json(value),
        // Text that is no login by its root is the app's own, whatever it holds.
        Some(b'<') if !is_login_root(value.get(..value.len().min(HEAD)).unwrap_or_default()) => Reading::NotAToken,
        Some(b'<') => as_xml(value.to_vec()),
        _ if value.contains(&b'.') => as_compact(value).0,
        _ => as_base64(value),
    }
}

/// Whether a value that begins so may be a token. `head` is its first [`HEAD`] bytes, or all of it.
pub fn may_begin(head: &[u8]) -> bool {
    let head = bare(head);
    match head.first() {
        None => true,
        Some(b'{') => true,
        Some(b'<') => is_login_root(head),
        Some(_) => {
            let end = head.iter().position(|byte| *byte == b'.');
            let (first, second) = match end {
                Some(end) => (head.get(..end).unwrap_or_default(), head.get(end + 1..).unwrap_or_default()),
                None => (head, &[][..]),
            };
            if opens_json(first) || opens_json(second) {
                return true;
            }
            let decoded = decode(head);
            opens_xml(&decoded) || inflated(&decoded, HEAD).is_some_and(|text| opens_xml(&text))
        }
    }
}

/// The tokens that stand anywhere in a header's value, in base64 of credentials (RFC 7617) too.
///
/// # Errors
/// When there are so many that no honest request has them.
pub fn within(value: &[u8]) -> Result<Vec<Found>, Unclear> {
    if value.len() < SHORTEST {
        return Ok(Vec::new());
    }
    if value.contains(&b'%') {
        return standing_in(&percent_encoding::percent_decode(value).collect::<Vec<u8>>());
    }
    standing_in(value)
}

fn standing_in(value: &[u8]) -> Result<Vec<Found>, Unclear> {
    let mut found = Vec::new();
    for run in value.split(|byte| !is_token_byte(*byte)).filter(|run| run.len() >= SHORTEST) {
        if let Some(token) = in_run(run) {
            found.push(token);
        } else if !run.contains(&b'.') {
            let credentials = decode(run);
            let runs = credentials.split(|byte| !is_token_byte(*byte)).filter(|run| run.len() >= SHORTEST);
            found.extend(runs.filter_map(in_run));
        }
        if found.len() > MAX_WITHIN {
            return Err(Unclear::TooMany);
        }
    }
    Ok(found)
}

/// Whether a token stands anywhere in a body that we cannot take apart, whatever it is written in. Escapes of JSON are undone.
pub fn is_within(body: &[u8]) -> bool {
    let holds = |text: &[u8]| !matches!(within(text).as_deref(), Ok([]));
    holds(body) || (body.contains(&b'\\') && holds(&unescaped(body)))
}

/// Undoes the escapes by which JSON may write an ASCII character (RFC 8259 section 7).
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let escaped = match (byte, after) {
            (b'\\', [b'u' | b'U', digits @ ..]) => {
                let digits = digits.get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
                digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(|byte| (byte, 5))
            }
            // JSON5.
            (b'\\', [b'x', digits @ ..]) => {
                let digits = digits.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(|byte| (byte, 3))
            }
            (b'\\', [byte, ..]) => Some((*byte, 1)),
            _ => None,
        };
        match escaped {
            Some((byte, length)) => {
                plain.push(byte);
                rest = after.get(length..).unwrap_or_default();
            }
            None => plain.push(*byte),
        }
    }
    plain
}

/// A token that stands in a text.
#[derive(Debug, Clone)]
pub struct Found {
    pub reading: Reading,
    /// Where it reads strictly.
    pub token: Option<UntrustedIdToken>,
}

/// The token of a run of letters that tokens are written in. What stands before it without a separator (`BearereyJ…`,
/// `token=eyJ…`) is no part of it.
fn in_run(run: &[u8]) -> Option<Found> {
    let dot = run.iter().position(|byte| *byte == b'.')?;
    let head = run.get(..dot).unwrap_or_default();
    let starts = head.windows(2).enumerate().filter(|(_, pair)| matches!(pair, [b'e', b'w' | b'y'])).map(|(at, _)| at);
    let start = std::iter::once(0).chain(starts).find(|at| opens_json(head.get(*at..).unwrap_or_default()));
    let token = run.get(start.unwrap_or_default()..).unwrap_or_default();
    let (reading, token) = match token.len() > MAX_TOKEN {
        true => (Reading::Unclear(Unclear::TooLong), None),
        false => as_compact(token),
    };
    (reading != Reading::NotAToken).then_some(Found { reading, token })
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'/' | b'=' | b'.')
}

/// Without what readers drop around a value: blanks of every alphabet, quotes, a byte order mark, a word before it.
fn bare(value: &[u8]) -> &[u8] {
    let value = trim(value);
    let word = value.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    match value.get(word) {
        Some(b' ' | b'\t' | b'+' | b':') if (1..=MAX_WORD).contains(&word) => {
            trim(value.get(word + 1..).unwrap_or_default())
        }
        _ => value,
    }
}

/// A value without the blanks before it, by readers that decode a form: a `+` is one of them there.
pub fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let Some(rest) = value.strip_prefix(b"+").or_else(|| without_blank(value)) {
        value = rest;
    }
    value
}

/// A value without the one blank before it that readers drop.
fn without_blank(value: &[u8]) -> Option<&[u8]> {
    match value {
        [b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c | 0 | b'"' | b'\'' | b'`' | b',' | 0xa0, rest @ ..]
        | [0xc2, 0xa0, rest @ ..]
        | [0xef, 0xbb, 0xbf, rest @ ..] => Some(rest),
        _ => None,
    }
}

/// The longest scheme that is dropped before a value.
const MAX_WORD: usize = 16;

fn trim(mut value: &[u8]) -> &[u8] {
    while let Some(rest) = without_blank(value) {
        value = rest;
    }
    loop {
        value = match value {
            [rest @ .., 0xc2, 0xa0]
            | [rest @ .., b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c | 0 | b'"' | b'\'' | b'`' | b',' | 0xa0] => rest,
            _ => return value,
        };
    }
}

fn as_compact(value: &[u8]) -> (Reading, Option<UntrustedIdToken>) {
    let mut parts = value.splitn(3, |byte| *byte == b'.');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (has_header, has_payload) = (opens_json(first), opens_json(second));
    if !has_header && !has_payload {
        return (Reading::NotAToken, None);
    }
    if let Some((reading, token)) = std::str::from_utf8(value).ok().and_then(strictly) {
        return (reading, Some(token));
    }
    let header = decode(first);
    let mentions = |word: &[u8]| has_word(&header, word) || header.contains(&b'\\');
    let reading = if has_header && value.iter().filter(|byte| **byte == b'.').count() == 4 && mentions(b"enc") {
        Reading::Unclear(Unclear::Encrypted)
    } else if has_payload || mentions(b"alg") {
        Reading::Unclear(Unclear::Unreadable)
    } else {
        // Signed cookies of frameworks look alike: an object, a time, a signature. Without an algorithm and without claims no
        // reader of tokens takes them.
        Reading::NotAToken
    };
    (reading, None)
}

/// A JWS by RFC 7515 and RFC 7519, to the letter, and whose it is; `None` where it is none.
fn strictly(compact: &str) -> Option<(Reading, UntrustedIdToken)> {
    let token = UntrustedIdToken::parse_any(compact).ok()?;
    let (_, signature) = token.as_received();
    if !signature.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return None;
    }
    let shares_secret = matches!(token.header().algorithm.as_str(), "HS256" | "HS384" | "HS512");
    let reading = match issuer([&token.header().members, token.payload().0]) {
        Reading::Unclear(Unclear::NoIssuer) if shares_secret => Reading::Unclear(Unclear::NoIssuerSharedSecret),
        reading => reading,
    };
    Some((reading, token))
}

/// The issuer that all of these objects name. The header may repeat it (RFC 7519 section 5.3).
fn issuer<'m>(objects: impl IntoIterator<Item = &'m Map<String, Value>>) -> Reading {
    let mut named: Option<&str> = None;
    for (name, value) in objects.into_iter().flatten().filter(|(name, _)| is_word(name, "iss")) {
        match value {
            Value::String(issuer) if name == "iss" && named.is_none_or(|named| named == issuer) => named = Some(issuer),
            Value::String(_) => return Reading::Unclear(Unclear::SeveralIssuers),
            _ => return Reading::Unclear(Unclear::Unreadable),
        }
    }
    match named.filter(|issuer| !issuer.trim().is_empty()) {
        Some(issuer) => Reading::Token { issuer: issuer.to_owned() },
        None => Reading::Unclear(Unclear::NoIssuer),
    }
}

/// JWS and JWE as JSON (RFC 7515 section 7.2, RFC 7516 section 7.2).
fn as_json(value: &[u8]) -> Reading {
    // A name may be written in escapes.
    let plain = if value.contains(&b'\\') { Cow::Owned(unescaped(value)) } else { Cow::Borrowed(value) };
    let has = |word: &[u8]| has_word(&plain, word);
    if !has(b"ciphertext") && !(has(b"payload") && (has(b"signature") || has(b"protected"))) {
        return Reading::NotAToken;
    }
    let Ok(members) = object("token", value) else { return Reading::Unclear(Unclear::Unreadable) };
    let member = |word: &str| members.iter().find(|(name, _)| is_word(name, word)).map(|(_, value)| value);
    if member("ciphertext").is_some_and(Value::is_string)
        && ["protected", "recipients", "encrypted_key", "iv", "tag"].into_iter().any(|word| member(word).is_some())
    {
        return Reading::Unclear(Unclear::Encrypted);
    }
    let payload = member("payload").and_then(Value::as_str).filter(|payload| opens_json(payload.as_bytes()));
    let Some(payload) = payload else { return Reading::NotAToken };
    if ["signature", "signatures", "protected"].into_iter().all(|word| member(word).is_none()) {
        return Reading::NotAToken;
    }
    let claims = URL_SAFE_NO_PAD.decode(payload).ok().and_then(|payload| object("payload", &payload).ok());
    claims.map_or(Reading::Unclear(Unclear::Unreadable), |claims| issuer([&claims]))
}

fn as_base64(value: &[u8]) -> Reading {
    if !may_begin(value.get(..value.len().min(HEAD)).unwrap_or_default()) {
        return Reading::NotAToken;
    }
    let decoded = decode(value);
    if opens_xml(&decoded) {
        return as_wrapped_xml(decoded);
    }
    match inflated(&decoded, MAX_TOKEN + 1) {
        Some(document) if document.len() > MAX_TOKEN => Reading::Unclear(Unclear::TooLong),
        Some(document) if opens_xml(&document) => as_wrapped_xml(document),
        _ if decoded.trim_ascii_start().first() == Some(&b'{') => as_json(decoded.trim_ascii()),
        _ => Reading::NotAToken,
    }
}

/// A document that was made to look like something else: no page of text comes so.
fn as_wrapped_xml(document: Vec<u8>) -> Reading {
    // Entities can hold elements, and other encodings other letters.
    let hides = has_word(&document, b"<!entity") || document.contains(&0) || declares_other_encoding(&document);
    if hides { Reading::Unclear(Unclear::Unreadable) } else { as_xml(document) }
}

fn as_xml(document: Vec<u8>) -> Reading {
    if !holds_assertion(&document) {
        return Reading::NotAToken;
    }
    let text = String::from_utf8(document).ok();
    match text.and_then(|text| saml::read_text(text).ok()) {
        Some(Message::Response(response)) if response.denies() => Reading::NotAToken,
        Some(Message::Response(response)) if response.is_encrypted() => Reading::Unclear(Unclear::Encrypted),
        Some(Message::Response(response)) => Reading::Token { issuer: response.issuer().to_owned() },
        Some(Message::LogoutResponse) => Reading::NotAToken,
        None => Reading::Unclear(Unclear::Unreadable),
    }
}

/// Whether some element is called so that a library looks for it to log a person in: SAML 1.1 and 2.0 in whatever envelope.
fn holds_assertion(document: &[u8]) -> bool {
    [&b"Assertion"[..], b"EncryptedAssertion"].into_iter().any(|name| {
        memchr::memmem::find_iter(document, name).any(|at| {
            let before = at.checked_sub(1).and_then(|at| document.get(at));
            let after = document.get(at + name.len());
            matches!(before, Some(b'<' | b':'))
                && after.is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'))
        })
    })
}

/// Whether raw XML begins like a login. Other documents are the app's own, however long they are.
fn is_login_root(head: &[u8]) -> bool {
    const ROOTS: [&str; 6] = [
        "Response",
        "Assertion",
        "EncryptedAssertion",
        "RequestSecurityTokenResponse",
        "RequestSecurityTokenResponseCollection",
        "Envelope",
    ];
    match saml::root_name(head) {
        saml::RootName::Known(name) => ROOTS.contains(&name.as_str()),
        saml::RootName::NeedMore => true,
        saml::RootName::NotXml => holds_assertion(head),
    }
}

fn declares_other_encoding(document: &[u8]) -> bool {
    const KNOWN: [&[u8]; 5] = [b"utf-8", b"us-ascii", b"iso-8859-1", b"iso-8859-15", b"windows-1252"];
    let head = document.get(..document.len().min(HEAD)).unwrap_or_default().to_ascii_lowercase();
    let Some(end) = head.strip_prefix(b"<?xml").and_then(|head| head.windows(2).position(|pair| pair == b"?>")) else {
        return false;
    };
    let declaration = head.get(..end).unwrap_or_default();
    memchr::memmem::find(declaration, b"encoding").is_some()
        && !KNOWN.into_iter().any(|known| memchr::memmem::find(declaration, known).is_some())
}

/// Whether base64 of either alphabet begins with a JSON object, white space and a byte order mark aside.
fn opens_json(part: &[u8]) -> bool {
    let head = decode(part.get(..part.len().min(24)).unwrap_or_default());
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head).trim_ascii_start();
    match head {
        [b'{', next, ..] => next.is_ascii_whitespace() || matches!(next, b'"' | b'}'),
        _ => false,
    }
}

/// Whether bytes begin like XML, in UTF-8 or UTF-16.
fn opens_xml(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    match bytes {
        [b'<', next, ..] if *next != 0 => next.is_ascii_alphabetic() || matches!(next, b'_' | b':' | b'?' | b'!'),
        [0xff, 0xfe, b'<', 0, ..] | [0xfe, 0xff, 0, b'<', ..] | [b'<', 0, _, 0, ..] | [0, b'<', 0, _, ..] => true,
        _ => false,
    }
}

/// Undoes DEFLATE (RFC 1951), or zlib around it, as far as `limit` bytes. What ends too early gives what there was.
fn inflated(bytes: &[u8], limit: usize) -> Option<Vec<u8>> {
    let limit = u64::try_from(limit).ok()?;
    let mut document = Vec::new();
    let _ = match bytes {
        [0x78, ..] => ZlibDecoder::new(bytes).take(limit).read_to_end(&mut document),
        _ => DeflateDecoder::new(bytes).take(limit).read_to_end(&mut document),
    };
    (!document.is_empty()).then_some(document)
}

/// Base64 of either alphabet, as the laxest decoder reads it: whatever is not in the alphabet is passed over.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for byte in text {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => continue,
        };
        held = (held << 6) | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            decoded.push(u8::try_from((held >> bits) & 0xff).unwrap_or_default());
            held &= (1 << bits) - 1;
        }
    }
    decoded
}

/// Whether a text holds a word, ASCII case aside.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// Whether a reader that folds case takes a name for this word (Go folds the long s too).
fn is_word(name: &str, word: &str) -> bool {
    name.eq_ignore_ascii_case(word) || name.replace('\u{17f}', "s").eq_ignore_ascii_case(word)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use flate2::Compression;
    use flate2::read::DeflateEncoder;
    use serde_json::json;

    use super::*;

    fn part(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn jws(header: &Value, payload: &Value) -> String {
        format!("{}.{}.c2lnbmF0dXJl", part(header), part(payload))
    }

    fn of(issuer: &str) -> Reading {
        Reading::Token { issuer: issuer.into() }
    }

    fn plain() -> String {
        jws(&json!({"alg": "RS256"}), &json!({"iss": "https://idp.example", "sub": "alice"}))
    }

    #[test]
    fn a_token_is_read_strictly_or_it_is_unclear() {
        let token = plain();
        let parts: Vec<&str> = token.split('.').collect();
        let unclear = |why| Reading::Unclear(why);
        let rows = [
            (token.clone(), of("https://idp.example")),
            (format!(" \"{token}\"\n"), of("https://idp.example")),
            (format!("Bearer {token}"), of("https://idp.example")),
            (format!("{token}\u{a0}"), of("https://idp.example")),
            (jws(&json!({"alg": "RS256", "iss": "a"}), &json!({"iss": "b"})), unclear(Unclear::SeveralIssuers)),
            (jws(&json!({"alg": "RS256"}), &json!({"iss": "b", "ISS": "a"})), unclear(Unclear::SeveralIssuers)),
            (jws(&json!({"alg": "RS256"}), &json!({"i\u{17f}s": "a"})), unclear(Unclear::SeveralIssuers)),
            (jws(&json!({"alg": "RS256"}), &json!({"iss": ["a"]})), unclear(Unclear::Unreadable)),
            (jws(&json!({"alg": "RS256"}), &json!({"sub": "a"})), unclear(Unclear::NoIssuer)),
            (jws(&json!({"alg": "HS256"}), &json!({"sub": "a"})), unclear(Unclear::NoIssuerSharedSecret)),
            (jws(&json!({"alg": ["RS256"]}), &json!({"iss": "a"})), unclear(Unclear::Unreadable)),
            (jws(&json!({"typ": "JWT", "x": 1}), &json!({"iss": "a"})), unclear(Unclear::Unreadable)),
            (jws(&json!({"alg": "RS256", "crit": ["x"]}), &json!({"iss": "a"})), unclear(Unclear::Unreadable)),
            (jws(&json!({"alg": "RS256", "kid": 5}), &json!({"iss": "a"})), unclear(Unclear::Unreadable)),
            (format!("{}.{}", parts[0], parts[1]), unclear(Unclear::Unreadable)),
            (format!("{token}.x"), unclear(Unclear::Unreadable)),
            (format!("{}.!{}.{}", parts[0], parts[1], parts[2]), unclear(Unclear::Unreadable)),
            (format!(".{}.{}", parts[1], parts[2]), unclear(Unclear::Unreadable)),
            (format!("{}.bm90IGpzb24.{}", parts[0], parts[2]), unclear(Unclear::Unreadable)),
            (format!("{}.AAAA.AAAA.AAAA.AAAA", part(&json!({"alg": "dir", "enc": "x"}))), unclear(Unclear::Encrypted)),
            (
                json!({"payload": parts[1], "signatures": [{"protected": parts[0], "signature": "x"}]}).to_string(),
                of("https://idp.example"),
            ),
            (json!({"ciphertext": "AAAA", "protected": "e30", "tag": "x"}).to_string(), unclear(Unclear::Encrypted)),
            // Some readers take the last of two members, some the first, and names may be written in escapes.
            (format!(r#"{{"a":1,"a":2,"payload":"{}","signature":"x"}}"#, parts[1]), unclear(Unclear::Unreadable)),
            (
                format!(r#"{{"a":1,"a":2,"\u0070ayload":"{}","\u0073ignature":"x"}}"#, parts[1]),
                unclear(Unclear::Unreadable),
            ),
            (format!(r#"{{"\x70ayload":"{}","signature":"x"}}"#, parts[1]), unclear(Unclear::Unreadable)),
            (r#"{"a":1,"a":2,"\u0063iphertext":"AAAA","protected":"e30"}"#.into(), unclear(Unclear::Unreadable)),
            (format!(r#"{{"\u0070ayload":"{}","\u0073ignature":"x"}}"#, parts[1]), of("https://idp.example")),
        ];
        for (text, expected) in rows {
            assert_eq!(read(text.as_bytes()), expected, "{text}");
            assert!(may_begin(&text.as_bytes()[..text.len().min(HEAD)]), "{text}");
        }
    }

    #[test]
    fn what_no_reader_takes_for_a_token_is_none() {
        let signed_cookie = format!("{}.ZyXw.dGhlLXNpZ25hdHVyZQ", part(&json!({"user": 1})));
        let rows = [
            String::new(),
            "www.example.com/some/longer/address".into(),
            "eyes.on.the.prize and much more text".into(),
            signed_cookie,
            part(&json!({"return_to": "/page", "nonce": "x"})),
            json!({"payload": {"id": 1}, "signature": "abcdefgh"}).to_string(),
            json!({"payload": "text", "signature": "abcdefgh"}).to_string(),
            r#"{"a":"line\n","a":"\u0070age","b":"and more text"}"#.into(),
            "<p>an Assertion is a statement: Assertion</p>".into(),
            STANDARD.encode("<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0'/></svg>"),
            STANDARD.encode("<md:EntityDescriptor><md:AssertionConsumerService/></md:EntityDescriptor>"),
            STANDARD.encode([0x89, b'P', b'N', b'G', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
            "a".repeat(MAX_TOKEN + 1),
        ];
        for text in rows {
            assert_eq!(read(text.as_bytes()), Reading::NotAToken, "{}", text.chars().take(80).collect::<String>());
        }
        assert_eq!(
            read(format!("{}{}", plain(), "A".repeat(MAX_TOKEN)).as_bytes()),
            Reading::Unclear(Unclear::TooLong)
        );
    }

    #[test]
    fn an_assertion_is_seen_in_base64_and_in_deflate() {
        let text = "<saml:Assertion xmlns:saml='urn:oasis:names:tc:SAML:2.0:assertion'><saml:Issuer>x</saml:Issuer></saml:Assertion>";
        let mut deflated = Vec::new();
        DeflateEncoder::new(text.as_bytes(), Compression::best()).read_to_end(&mut deflated).unwrap();
        let base64 = STANDARD.encode(text);
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let entity = "<!DOCTYPE a [<!ENTITY b '&#60;Assertion/>'>]><a>&b;</a>";
        for value in [
            text.to_owned(),
            base64.clone(),
            base64.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned(),
            base64.chars().map(|letter| format!("{letter}\r\n ")).collect(),
            format!("!{}!", base64.replacen('P', "P*", 1)),
            STANDARD.encode(&deflated),
            STANDARD.encode(format!("<?xml version='1.0'?><!-- x -->{text}")),
            STANDARD.encode(wide),
            STANDARD.encode(entity),
            STANDARD.encode("<?xml version='1.0' encoding='utf-7'?>+ADw-Assertion/+AD4-"),
        ] {
            assert_eq!(read(value.as_bytes()), Reading::Unclear(Unclear::Unreadable), "{value}");
        }
        let bomb = {
            let mut deflated = Vec::new();
            let text = format!("<a>{}", " ".repeat(8 << 20));
            DeflateEncoder::new(text.as_bytes(), Compression::best()).read_to_end(&mut deflated).unwrap();
            STANDARD.encode(deflated)
        };
        assert_eq!(read(bomb.as_bytes()), Reading::Unclear(Unclear::TooLong));
    }

    #[test]
    fn a_token_is_found_wherever_it_stands_in_a_header() {
        let token = plain();
        for value in [
            token.clone(),
            format!("Bearer {token}"),
            format!("Bearer\t{token}"),
            format!("bearer{token}"),
            format!("BearerX{token}"),
            format!("Basic eDp5, Bearer {token}"),
            format!("Bearer {token}, Basic eDp5"),
            format!("Token token=\"{token}\", x=y"),
            format!("JWT {token}"),
            format!("'{token}'"),
            format!("Basic {}", STANDARD.encode(format!("oauth2:{token}"))),
            format!("Basic {}", STANDARD.encode(format!("{token}:"))),
            format!("Bearer {}", STANDARD.encode(&token)),
            format!("Bearer%20{}", token.replace('.', "%2E")),
        ] {
            let found = within(value.as_bytes()).unwrap();
            assert_eq!(found.len(), 1, "{value}: {found:?}");
            assert_eq!(found[0].reading, of("https://idp.example"), "{value}");
            let (signed, signature) = found[0].token.as_ref().unwrap().as_received();
            assert_eq!(format!("{signed}.{signature}"), token, "{value}");
        }
        let blanks = [b"Bearer ", token.as_bytes(), b"\xa0"].concat();
        assert_eq!(within(&blanks).unwrap().len(), 1);
        assert_eq!(within(format!("Bearer {token} {token}").as_bytes()).unwrap().len(), 2);
        assert_eq!(within([token.as_str(); 5].join(" ").as_bytes()).unwrap_err(), Unclear::TooMany);
        for value in [
            "",
            "Basic dXNlcjpwYXNzd29yZC1vZi1zb21lLWxlbmd0aA==",
            "Bearer a.b.c",
            "Bearer ghp_0123456789abcdefghijklmnopqrstuvwxyz",
        ] {
            assert!(within(value.as_bytes()).unwrap().is_empty(), "{value}");
        }
    }

    #[test]
    fn two_spellings_of_an_issuer_are_one() {
        assert!(is_like("accounts.google.com", "https://accounts.google.com"));
        assert!(is_like("HTTPS://IdP.example/", "https://idp.example"));
        assert!(!is_like("https://idp.example/other", "https://idp.example"));
        assert_eq!(of("https://a").passes(["https://b"]), Ok(()));
        assert_eq!(of("https://a").passes(["https://b", "https://a/"]), Err(NotForeign::Ours));
    }
}
