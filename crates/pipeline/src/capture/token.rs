//! Could an app read this text as a token, and whose?
//!
//! ```text
//! read(value)       a whole value: of a form, a query, a JSON member, a part of multipart, a cookie
//! within(header)    what stands anywhere in the value of a header, behind whatever word
//! beginning(head)   whether a value that begins so may be a token
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

mod addressed;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::{Decompress, FlushDecompress, Status};
use serde_json::{Map, Value};

pub use self::addressed::Addressed;
use crate::capture::oidc::{UntrustedIdToken, object};
use crate::capture::saml::{self, Message};
use crate::reading::issuer;

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

/// How much of a value [`beginning`] needs in order to tell most values apart.
pub const HEAD: usize = 512;

/// What a value may be, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Some reader may take it for a token, depending on the rest.
    Token,
    /// No reader takes it for a token, whatever follows.
    Other,
    /// So far there is nothing but what readers pass over: blanks, letters that are not in the alphabet of base64, a prolog of XML.
    Unknown,
}

/// How much of a value that is too long to be read is looked at.
const MOST_LOOKED_AT: usize = 64 * 1024;

impl Beginning {
    fn any(each: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::Other;
        for each in each {
            match each {
                Self::Token => return Self::Token,
                Self::Unknown => all = Self::Unknown,
                Self::Other => {}
            }
        }
        all
    }
}

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
                if ours.into_iter().any(|ours| issuer::is_like(issuer, ours)) {
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

/// Reads a whole value, decoded as its place asks (percent, JSON escapes).
pub fn read(value: &[u8]) -> Reading {
    let (whole, bare) = (trim(value), bare(value));
    let reading = read_bare(bare);
    if bare.len() == whole.len() {
        return reading;
    }
    // What looks like a word before the value may be part of it.
    match reading {
        Reading::NotAToken => read_bare(whole),
        reading => together([reading, as_base64(whole)]),
    }
}

fn read_bare(value: &[u8]) -> Reading {
    if value.len() < SHORTEST {
        return Reading::NotAToken;
    }
    if value.len() > MAX_TOKEN {
        return match beginning(value.get(..MOST_LOOKED_AT).unwrap_or_default()) {
            Beginning::Other => Reading::NotAToken,
            Beginning::Token | Beginning::Unknown => Reading::Unclear(Unclear::TooLong),
        };
    }
    let reading = match value.first() {
        Some(b'{') => as_json(value),
        // Text that is no login by its root is the app's own, whatever it holds.
        Some(b'<') if root(value) == Beginning::Token => as_wrapped_xml(value.to_vec()),
        _ if value.contains(&b'.') => as_compact(value).0,
        _ => Reading::NotAToken,
    };
    // Lax decoders of base64 pass over a dot, a bracket and a brace.
    if reading == Reading::NotAToken { as_base64(value) } else { reading }
}

/// What a text is that has several readings, by readers who differ.
fn together(readings: impl IntoIterator<Item = Reading>) -> Reading {
    let mut all = Reading::NotAToken;
    for reading in readings {
        all = match (all, reading) {
            (Reading::NotAToken, reading) | (reading, Reading::NotAToken) => reading,
            (unclear @ Reading::Unclear(_), _) | (_, unclear @ Reading::Unclear(_)) => unclear,
            (one, other) if one == other => one,
            _ => Reading::Unclear(Unclear::SeveralIssuers),
        };
    }
    all
}

/// What a value may be that begins so. `head` may end anywhere; the more of it there is, the fewer values are unknown.
pub fn beginning(head: &[u8]) -> Beginning {
    let (whole, bare) = (trim_start(head), bare_start(head));
    let words = (bare.len() < whole.len()).then(|| beginning_bare(bare));
    Beginning::any(std::iter::once(beginning_bare(whole)).chain(words))
}

fn beginning_bare(head: &[u8]) -> Beginning {
    let raw = match head.first() {
        None => Beginning::Unknown,
        Some(b'{') => Beginning::Token,
        Some(b'<') => root(head),
        Some(_) => Beginning::Other,
    };
    let parts = head.splitn(3, |byte| *byte == b'.').take(2).map(begins_like_json);
    let behind_dots = if opens_behind_dots(head) { Beginning::Token } else { Beginning::Other };
    let raw = Beginning::any([raw, behind_dots].into_iter().chain(parts));
    let decoded =
        || decodings(head).map(|decoded| Beginning::any([begins_like_xml(&decoded), begins_inflated(&decoded)]));
    if raw == Beginning::Token { raw } else { Beginning::any(std::iter::once(raw).chain(decoded())) }
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
            let credentials = decode(run, Alphabet::Both, Padding::PassedOver);
            let runs = credentials.split(|byte| !is_token_byte(*byte)).filter(|run| run.len() >= SHORTEST);
            found.extend(runs.filter_map(in_run));
        }
        if found.len() > MAX_WITHIN {
            return Err(Unclear::TooMany);
        }
    }
    Ok(found)
}

/// A header's value without the backslashes by which parameters are quoted (RFC 9110 section 5.6.4), where it has any.
pub fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'\\', value)?;
    let mut quoted = false;
    let mut is_meant = |byte: &u8| {
        quoted = *byte == b'\\' && !quoted;
        !quoted
    };
    Some(value.iter().copied().filter(|byte| is_meant(byte)).collect())
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

/// Whether a value is an artifact of SAML, by which an app fetches a response (SAML Bindings section 3.6.4: a type, an endpoint, 20
/// bytes that name the provider, 20 bytes).
pub fn is_artifact(value: &[u8]) -> bool {
    let decoded = decode(bare(value), Alphabet::Both, Padding::PassedOver);
    decoded.len() >= 42 && matches!(decoded.as_slice(), [0, 1 | 2 | 4, ..])
}

/// The token of a run of letters that tokens are written in. What stands before it without a separator (`BearereyJ…`,
/// `token=eyJ…`) is not part of it.
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
    trim_end(bare_start(trim(value)))
}

fn bare_start(value: &[u8]) -> &[u8] {
    let value = trim_start(value);
    let word = value.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    match value.get(word) {
        Some(b' ' | b'\t' | b'+' | b':') if (1..=MAX_WORD).contains(&word) => {
            trim_start(value.get(word + 1..).unwrap_or_default())
        }
        _ => value,
    }
}

/// A value without the one blank before it that readers drop.
pub fn without_blank(value: &[u8]) -> Option<&[u8]> {
    match value {
        [b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c | 0 | b'"' | b'\'' | b'`' | b',' | 0xa0, rest @ ..]
        | [0xc2, 0xa0, rest @ ..]
        | [0xef, 0xbb, 0xbf, rest @ ..] => Some(rest),
        _ => None,
    }
}

/// The longest scheme that is dropped before a value.
const MAX_WORD: usize = 16;

fn trim(value: &[u8]) -> &[u8] {
    trim_end(trim_start(value))
}

fn trim_start(mut value: &[u8]) -> &[u8] {
    while let Some(rest) = without_blank(value) {
        value = rest;
    }
    value
}

fn trim_end(mut value: &[u8]) -> &[u8] {
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
        let reading = if opens_behind_dots(value) { Reading::Unclear(Unclear::Unreadable) } else { Reading::NotAToken };
        return (reading, None);
    }
    if let Some((reading, token)) = std::str::from_utf8(value).ok().and_then(strictly) {
        return (reading, Some(token));
    }
    let header = decode(first, Alphabet::Both, Padding::PassedOver);
    let mentions = |word: &[u8]| has_word(&header, word) || header.contains(&b'\\');
    let reading = if has_header && value.iter().filter(|byte| **byte == b'.').count() == 4 && mentions(b"enc") {
        Reading::Unclear(Unclear::Encrypted)
    } else if has_payload || mentions(b"alg") || opens_behind_dots(value) {
        Reading::Unclear(Unclear::Unreadable)
    } else {
        // Signed cookies of frameworks look alike: an object, a time, a signature. Without an algorithm and without claims no
        // reader of tokens takes them.
        Reading::NotAToken
    };
    (reading, None)
}

/// Whether a token begins behind a part that is empty: readers that look for a token within a text find it there.
fn opens_behind_dots(value: &[u8]) -> bool {
    let mut behind_empty = false;
    value
        .split(|byte| *byte == b'.')
        .any(|part| std::mem::replace(&mut behind_empty, part.is_empty()) && opens_json(part))
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
    // Most values are told apart by their first letters, which saves decoding the rest.
    let head = value.get(..value.len().min(HEAD)).unwrap_or_default();
    let decoded = |text: &[u8]| decodings(text).map(|decoded| (begins(&decoded), decoded)).collect::<Vec<_>>();
    if decoded(head).iter().all(|(begins, _)| *begins == Beginning::Other) {
        return Reading::NotAToken;
    }
    together(
        decoded(value)
            .into_iter()
            .filter(|(begins, _)| *begins != Beginning::Other)
            .map(|(_, bytes)| as_decoded(bytes)),
    )
}

/// The same of what base64 decodes to, JSON included, which only a whole value is looked into for.
fn begins(decoded: &[u8]) -> Beginning {
    let json = if decoded.trim_ascii_start().first() == Some(&b'{') { Beginning::Token } else { Beginning::Other };
    Beginning::any([json, begins_like_xml(decoded), begins_inflated(decoded)])
}

fn as_decoded(decoded: Vec<u8>) -> Reading {
    let inflated = inflations(&decoded, MAX_TOKEN + 1).map(|document| match document.len() > MAX_TOKEN {
        true => Reading::Unclear(Unclear::TooLong),
        false if begins_like_xml(&document) == Beginning::Token => as_wrapped_xml(document),
        false => Reading::NotAToken,
    });
    let inflated = together(inflated);
    let bare = decoded.trim_ascii();
    let json = if bare.first() == Some(&b'{') { as_json(bare) } else { Reading::NotAToken };
    let xml = match begins_like_xml(&decoded) {
        Beginning::Token => as_wrapped_xml(decoded),
        _ => Reading::NotAToken,
    };
    together([xml, inflated, json])
}

/// A document that was made to look like something else: no page of text comes so.
fn as_wrapped_xml(document: Vec<u8>) -> Reading {
    // Entities can hold elements, and other encodings other letters.
    let hides = has_document_type(&document)
        || document.contains(&0)
        || document.starts_with(&EBCDIC)
        || declares_other_encoding(&document);
    if hides { Reading::Unclear(Unclear::Unreadable) } else { as_xml(document) }
}

fn as_xml(document: Vec<u8>) -> Reading {
    if !holds_assertion(&document) {
        return Reading::NotAToken;
    }
    let text = String::from_utf8(document).ok();
    match text.and_then(|text| saml::read_text(text).ok()) {
        Some(Message::Response(response)) if response.denial().is_some() => Reading::NotAToken,
        Some(Message::Response(response)) if response.is_encrypted() => Reading::Unclear(Unclear::Encrypted),
        Some(Message::Response(response)) => Reading::Token { issuer: response.issuer().to_owned() },
        Some(Message::LogoutResponse) => Reading::NotAToken,
        None => Reading::Unclear(Unclear::Unreadable),
    }
}

/// Whether an element that logs a person in stands anywhere in a value, as it is, in base64 or in DEFLATE within that: xmldom (node-saml) and
/// REXML pass over text before a document.
pub fn hides_assertion(value: &[u8]) -> bool {
    let holds = |document: &[u8]| {
        let narrow: Vec<u8> = document.iter().copied().filter(|byte| *byte != 0).collect();
        holds_assertion(&narrow)
    };
    let inflated = |decoded: &[u8]| inflations(decoded, MAX_TOKEN).any(|document| holds(&document));
    holds(value) || decodings(value).any(|decoded| holds(&decoded) || inflated(&decoded))
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

/// Whether raw XML is a login by its root, behind whatever prolog. Other documents are the app's own, however long they are.
fn root(head: &[u8]) -> Beginning {
    const ROOTS: [&[u8]; 6] = [
        b"Response",
        b"Assertion",
        b"EncryptedAssertion",
        b"RequestSecurityTokenResponse",
        b"RequestSecurityTokenResponseCollection",
        b"Envelope",
    ];
    let mut rest = head;
    loop {
        rest = without_nothing(rest);
        let end: &[u8] = match rest {
            [] | b"<" | b"<!" | b"<!-" => return Beginning::Unknown,
            [b'<', b'?', ..] => b"?>",
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            [b'<', b'!', ..] => b">",
            [b'<', name @ ..] => {
                let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>');
                let Some(end) = name.iter().position(ends) else { return Beginning::Unknown };
                let name = name.get(..end).unwrap_or_default();
                let local = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
                return if ROOTS.contains(&local) { Beginning::Token } else { Beginning::Other };
            }
            _ => return Beginning::Other,
        };
        let Some(at) = memchr::memmem::find(rest, end) else { return Beginning::Unknown };
        let (markup, after) = rest.split_at(at + end.len());
        // What a document type declares may be elements, and another encoding has other letters.
        let declares = markup.starts_with(b"<!") && !markup.starts_with(b"<!--") && markup.contains(&b'[');
        if declares || declares_other_encoding(markup) {
            return Beginning::Token;
        }
        rest = after;
    }
}

/// Whether a document has a type, by which entities can hold elements. That of HTML has none.
fn has_document_type(document: &[u8]) -> bool {
    const TYPE: &[u8] = b"<!doctype";
    let types = document.windows(TYPE.len()).enumerate().filter(|(_, window)| window.eq_ignore_ascii_case(TYPE));
    let is_html = |at: usize| {
        let name = document.get(at + TYPE.len()..).unwrap_or_default().trim_ascii_start();
        name.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"html"))
    };
    types.into_iter().any(|(at, _)| !is_html(at)) || has_word(document, b"<!entity")
}

/// Whether an XML declaration names an encoding in which letters are not the bytes that we compare, or cannot be told. REXML takes one
/// wherever it stands.
pub fn declares_other_encoding(document: &[u8]) -> bool {
    const DECLARATION: &[u8] = b"<?xml";
    let mut later = document;
    while let Some(at) = memchr::memmem::find(later, DECLARATION) {
        let rest = later.get(at + DECLARATION.len()..).unwrap_or_default();
        let Some(end) = memchr::memmem::find(rest, b"?>") else { return true };
        let (declaration, behind) = rest.split_at(end);
        // `<?xml-stylesheet` is another instruction.
        if !declaration.starts_with(b"-") && names_other_encoding(declaration) {
            return true;
        }
        later = behind;
    }
    false
}

/// The same of what stands in one declaration.
fn names_other_encoding(declaration: &[u8]) -> bool {
    const KNOWN: [&[u8]; 5] = [b"utf-8", b"us-ascii", b"iso-8859-1", b"iso-8859-15", b"windows-1252"];
    const NAME: &[u8] = b"encoding";
    let declaration = declaration.to_ascii_lowercase();
    let mut named = memchr::memmem::find_iter(&declaration, NAME).map(|at| {
        let value = declaration.get(at + NAME.len()..)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
        let (quote, value) = value.split_first().filter(|(quote, _)| matches!(quote, b'"' | b'\''))?;
        value.split(|byte| byte == quote).next()
    });
    match (named.next(), named.next()) {
        (None, _) => false,
        (Some(Some(name)), None) => !KNOWN.contains(&name),
        _ => true,
    }
}

fn opens_json(part: &[u8]) -> bool {
    begins_like_json(part) == Beginning::Token
}

/// Whether base64 of either alphabet begins with a JSON object, white space and a byte order mark aside.
fn begins_like_json(part: &[u8]) -> Beginning {
    // What begins otherwise does so by its first letters, of which a few are enough.
    let letters: Vec<u8> = part.iter().copied().filter(|byte| is_token_byte(*byte) && *byte != b'=').take(24).collect();
    let head = decode(&letters, Alphabet::Both, Padding::PassedOver);
    match head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head).trim_ascii_start() {
        [b'{', next, ..] if next.is_ascii_whitespace() || matches!(next, b'"' | b'}') => Beginning::Token,
        [] | [b'{'] if letters.len() < 24 => Beginning::Unknown,
        _ => Beginning::Other,
    }
}

/// `<?xm` in EBCDIC, by which parsers know it.
const EBCDIC: [u8; 4] = [0x4c, 0x6f, 0xa7, 0x94];

/// Whether bytes begin like XML, in UTF-8, UTF-16 or EBCDIC, behind any number of blanks.
fn begins_like_xml(bytes: &[u8]) -> Beginning {
    if bytes.starts_with(&EBCDIC) {
        return Beginning::Token;
    }
    if EBCDIC.starts_with(bytes) {
        return Beginning::Unknown;
    }
    match without_nothing(bytes) {
        [] | [b'<'] => Beginning::Unknown,
        [b'<', next, ..] if next.is_ascii_alphabetic() || matches!(next, 0 | b'_' | b':' | b'?' | b'!' | 0x80..) => {
            Beginning::Token
        }
        _ => Beginning::Other,
    }
}

/// Without what says nothing before XML: blanks, and byte order marks and zeros of any encoding.
fn without_nothing(bytes: &[u8]) -> &[u8] {
    let nothing = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b | 0xef | 0xbb | 0xbf | 0xfe | 0xff);
    let length = bytes.iter().take_while(|byte| nothing(byte)).count();
    bytes.get(length..).unwrap_or_default()
}

/// Whether bytes begin like XML once DEFLATE is undone.
fn begins_inflated(bytes: &[u8]) -> Beginning {
    Beginning::any(wrapped(bytes).map(|deflated| {
        let mut before = Vec::new();
        // So much of nothing is made to be passed over.
        let mut beginning = Beginning::Token;
        let ended = inflate(deflated, MAX_TOKEN, |piece| {
            before.extend_from_slice(piece);
            beginning = begins_like_xml(&before);
            before.drain(..before.len() - without_nothing(&before).len());
            beginning == Beginning::Unknown
        });
        match ended {
            Inflated::Stopped => beginning,
            Inflated::Broken => Beginning::Other,
            Inflated::Ended => Beginning::Unknown,
        }
    }))
}

/// What DEFLATE is undone to, as far as `limit` bytes. What ends too early gives what there was.
fn inflations(bytes: &[u8], limit: usize) -> impl Iterator<Item = Vec<u8>> {
    wrapped(bytes).map(move |deflated| {
        let mut document = Vec::new();
        inflate(deflated, limit, |piece| {
            document.extend_from_slice(piece);
            true
        });
        document
    })
}

/// Bytes as DEFLATE (RFC 1951) and, where they may be, as what zlib puts a head before (RFC 1950). Its check is not looked at.
fn wrapped(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let zlib = bytes.get(2..).filter(|_| bytes.first().is_some_and(|first| first & 0x0f == 8));
    std::iter::once(bytes).chain(zlib)
}

enum Inflated {
    /// The stream has ended, or its bytes have.
    Ended,
    /// It is no stream of DEFLATE from here on.
    Broken,
    /// At the limit, or told to stop.
    Stopped,
}

/// Undoes DEFLATE in pieces for as long as `goes_on` says so. What came before a fault counts.
fn inflate(bytes: &[u8], limit: usize, mut goes_on: impl FnMut(&[u8]) -> bool) -> Inflated {
    let mut stream = Decompress::new(false);
    let mut piece = [0; 4096];
    let (mut read, mut written) = (0, 0);
    loop {
        let status = stream.decompress(bytes.get(read..).unwrap_or_default(), &mut piece, FlushDecompress::None);
        let made = usize::try_from(stream.total_out()).unwrap_or(usize::MAX).saturating_sub(written);
        let taken = usize::try_from(stream.total_in()).unwrap_or(usize::MAX).saturating_sub(read);
        (read, written) = (read + taken, written + made);
        if made > 0 && (!goes_on(piece.get(..made).unwrap_or_default()) || written >= limit) {
            return Inflated::Stopped;
        }
        match status {
            Ok(Status::StreamEnd) => return Inflated::Ended,
            Ok(_) if made == 0 && taken == 0 => return Inflated::Ended,
            Ok(_) => {}
            Err(_) => return Inflated::Broken,
        }
    }
}

/// What lax decoders of base64 make of a text. They pass over what is not in their alphabet, and differ in what is.
pub fn decodings(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let has_other_letters = memchr::memchr2(b'-', b'_', text).is_some();
    let is_padded_within =
        text.iter().rev().skip_while(|byte| !is_token_byte(**byte) || **byte == b'=').any(|byte| *byte == b'=');
    let alphabets = std::iter::once(Alphabet::Both).chain(has_other_letters.then_some(Alphabet::Standard));
    let ways = alphabets.flat_map(move |alphabet| {
        let paddings = std::iter::once(Padding::PassedOver).chain(is_padded_within.then_some(Padding::Restarts));
        paddings.map(move |padding| (alphabet, padding))
    });
    ways.map(|(alphabet, padding)| decode(text, alphabet, padding))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alphabet {
    /// `+/` and `-_` alike (Node, Python).
    Both,
    /// `+/` alone (Ruby, PHP).
    Standard,
}

/// What `=` does before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    PassedOver,
    /// It ends a group of four.
    Restarts,
}

/// Base64 as a lax decoder reads it: whatever is not in the alphabet is passed over.
fn decode(text: &[u8], alphabet: Alphabet, padding: Padding) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for byte in text {
        let digit = match byte {
            b'-' | b'_' if alphabet != Alphabet::Both => continue,
            b'=' if padding == Padding::Restarts => {
                (held, bits) = (0, 0);
                continue;
            }
            byte => match digit(*byte) {
                Some(digit) => digit,
                None => continue,
            },
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

/// What a letter of base64 stands for, of either alphabet.
pub fn digit(letter: u8) -> Option<u8> {
    Some(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
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
    use std::io::Read as _;

    use base64::engine::general_purpose::STANDARD;
    use flate2::Compression;
    use flate2::read::DeflateEncoder;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_declaration_counts_wherever_it_stands_and_each_is_read_once() {
        for (document, is_other) in [
            ("<?xml version='1.0' encoding='UTF-8'?><a/>", false),
            ("<!----><?xml version='1.0' encoding='ISO-2022-JP'?><a/>", true),
            ("<?xml version='1.0'?><?xml encoding='utf-16'?>", true),
            ("<?xml encoding='utf-8' encoding='utf-8'?>", true),
            ("<?xml encoding=utf-8?>", true),
            ("<?xml-stylesheet encoding='x'?><a/>", false),
            ("<a/>", false),
        ] {
            assert_eq!(declares_other_encoding(document.as_bytes()), is_other, "{document}");
        }
        // Read from each beginning to the end, this would take minutes.
        let many = "<?xml ".repeat(400_000) + "?>";
        assert!(!declares_other_encoding(many.as_bytes()));
    }

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
            (
                json!({"payload": parts[1], "protected": parts[0], "signature": "x"}).to_string(),
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
            assert_eq!(beginning(&text.as_bytes()[..text.len().min(HEAD)]), Beginning::Token, "{text}");
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
            json!({"ciphertext": "a word", "payload": "text"}).to_string(),
            json!({"ciphertext": 1, "protected": "e30"}).to_string(),
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
        // An object is looked for within so many letters, and then the rest tells.
        for (blanks, rest, expected) in [(15, "", Beginning::Unknown), (18, "a word", Beginning::Other)] {
            let text = STANDARD.encode(format!("{}{rest}", " ".repeat(blanks)));
            assert_eq!(beginning(text.as_bytes()), expected, "{text}");
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
            // To Ruby and PHP no letter.
            base64.chars().map(|letter| format!("{letter}_")).collect(),
            base64.chars().map(|letter| format!("{letter}-")).collect(),
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
    fn a_token_of_an_issuer_that_is_not_ours_passes() {
        assert_eq!(of("https://a").passes(["https://b"]), Ok(()));
        assert_eq!(of("https://a").passes(["https://b", "https://a/"]), Err(NotForeign::Ours));
    }
}
