//! The protocol fields of a login message, found the way the laxest app would find them.
//!
//! Names are compared decoded and without case, since apps differ in both. [`ProtocolFields`] reads a whole query or body;
//! [`super::watch`] looks into what goes by.

use std::borrow::Cow;

use super::CaptureRefusal;
use super::denial::Denial;
use crate::reading::escape;
use crate::reading::media::has_foreign_mark;
use crate::reading::name::{readings, within};

/// A form field that carries a login, part of one, or the denial of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    IdToken,
    Code,
    State,
    Error,
    SamlResponse,
    SamlArt,
    RelayState,
    AccessToken,
    /// A JWT around an authorization response (JARM).
    Response,
    /// Google's ID token.
    Credential,
    /// A token of WS-Federation.
    WsResult,
    /// By which Rails, Symfony, Laravel and Express take a POST for another method.
    Method,
    /// The same in ASP.NET.
    MethodOverride,
}

impl Field {
    const ALL: [Field; 13] = [
        Field::IdToken,
        Field::Code,
        Field::State,
        Field::Error,
        Field::SamlResponse,
        Field::SamlArt,
        Field::RelayState,
        Field::AccessToken,
        Field::Response,
        Field::Credential,
        Field::WsResult,
        Field::Method,
        Field::MethodOverride,
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| name.eq_ignore_ascii_case(field.name()))
    }

    pub const fn name(self) -> &'static str {
        match self {
            Field::IdToken => "id_token",
            Field::Code => "code",
            Field::State => "state",
            Field::Error => "error",
            Field::SamlResponse => "samlresponse",
            Field::SamlArt => "samlart",
            Field::RelayState => "relaystate",
            Field::AccessToken => "access_token",
            Field::Response => "response",
            Field::Credential => "credential",
            Field::WsResult => "wresult",
            Field::Method => "_method",
            Field::MethodOverride => "x-http-method-override",
        }
    }

    /// Whether the field alone makes a message a login, or may be taken for one.
    pub fn is_token(self) -> bool {
        !matches!(self, Field::State | Field::Error | Field::RelayState | Field::Method | Field::MethodOverride)
    }
}

/// Bytes of an `error_description` that are looked at, encoded as they come.
const MOST_DESCRIPTION: usize = 2048;

/// Fields of a query and a body together, each at most once.
#[derive(Debug, Default)]
pub struct ProtocolFields {
    found: Vec<(Field, Place, String)>,
    /// Where a `code` stands that every reader reads alike: by its very name, and not empty.
    code: Option<Place>,
    /// The first field that comes with an error.
    description: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Query,
    Body,
}

impl ProtocolFields {
    /// # Errors
    /// When a protocol field appears twice, or a name or value is not UTF-8.
    pub fn read_query(&mut self, query: &str) -> Result<(), CaptureRefusal> {
        self.read(query.as_bytes(), Place::Query)
    }

    /// # Errors
    /// As for [`Self::read_query`], and when the body is in an encoding whose bytes are not the letters that we compare.
    pub fn read_body(&mut self, body: &[u8]) -> Result<(), CaptureRefusal> {
        if has_foreign_mark(body) || body.contains(&0) {
            return Err(CaptureRefusal::Form("it is in UTF-16 or UTF-32".into()));
        }
        self.read(body, Place::Body)
    }

    fn read(&mut self, form: &[u8], place: Place) -> Result<(), CaptureRefusal> {
        if escape::is_odd(form) {
            return Err(CaptureRefusal::Form(
                "it has percent escapes with digits that few readers take for such".into(),
            ));
        }
        // Some frameworks take `;` for `&` (HTML 4.01 appendix B.2.2), so a name behind one counts too.
        for pair in pairs(form, b';') {
            let (name, value) = match memchr::memchr(b'=', pair) {
                Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
                None => (pair, &[][..]),
            };
            if name == b"error_description" && self.description.is_none() {
                let text: Vec<u8> = value.iter().copied().take(MOST_DESCRIPTION).collect();
                self.description = decode(&text).map(Cow::into_owned);
            }
            let Some(field) = field_named(name) else { continue };
            if self.found.iter().any(|(known, ..)| *known == field) {
                return Err(CaptureRefusal::Repeated(field.name().into()));
            }
            let value =
                decode(value).ok_or_else(|| CaptureRefusal::Form(format!("field `{}` is not UTF-8", field.name())))?;
            self.found.push((field, place, value.into_owned()));
        }
        // For this one a `;` divides nothing, as for most readers.
        let plain = |pair: &[u8]| {
            let value = pair.strip_prefix(b"code=").and_then(decode);
            value.is_some_and(|value| value.chars().any(|letter| !letter.is_whitespace() && !letter.is_control()))
        };
        if pairs(form, b'&').any(plain) {
            self.code = Some(place);
        }
        Ok(())
    }

    /// Whether no field was found that could be part of a login. `state` and `RelayState` alone are none: apps use these
    /// words for purposes of their own.
    pub fn is_empty(&self) -> bool {
        !self.has_token() && !self.has(Field::Error)
    }

    /// Whether something stands there by which an app may log a person in.
    pub fn has_token(&self) -> bool {
        self.found.iter().any(|(field, ..)| field.is_token())
    }

    pub fn has(&self, field: Field) -> bool {
        self.found.iter().any(|(known, ..)| *known == field)
    }

    /// Whether an app that reads a field also reads a `code` with it: one, plainly named, not empty, in the same place.
    pub fn has_plain_code_beside(&self, field: Field) -> bool {
        let place = self.found.iter().find(|(known, ..)| *known == field).map(|(_, place, _)| *place);
        self.code.is_some() && self.code == place
    }

    /// Why the provider logs no person in, where that is all that the message says (RFC 6749 section 4.1.2.1).
    pub fn denial(&self) -> Option<Denial> {
        let error = self.value(Field::Error).filter(|_| !self.has_token())?;
        Some(Denial::new(error, self.description.as_deref()))
    }

    pub fn value(&self, field: Field) -> Option<&str> {
        self.found.iter().find(|(known, ..)| *known == field).map(|(_, _, value)| value.as_str())
    }

    /// The value of a token field, which must have come in the body.
    ///
    /// # Errors
    /// When it came in the query.
    pub fn token(&self, field: Field) -> Result<Option<&str>, CaptureRefusal> {
        match self.found.iter().find(|(known, ..)| *known == field) {
            Some((_, Place::Query, _)) => Err(CaptureRefusal::InQuery(field.name().into())),
            Some((_, Place::Body, value)) => Ok(Some(value)),
            None => Ok(None),
        }
    }
}

/// What stands between `&`, and between this one.
fn pairs(form: &[u8], other: u8) -> impl Iterator<Item = &[u8]> {
    let mut dividers = memchr::memchr2_iter(b'&', other, form);
    let mut rest = Some(0);
    std::iter::from_fn(move || {
        let from = rest?;
        let end = dividers.next();
        rest = end.map(|end| end + 1);
        form.get(from..end.unwrap_or(form.len()))
    })
}

/// Whether a query may hold one of these fields: cheap, and never wrong when it says no.
pub fn may_hold(query: &str, fields: &[Field]) -> bool {
    let bytes = query.as_bytes();
    // Every request with a query comes by here, and few of its letters begin a name.
    let firsts = fields.iter().filter_map(|field| field.name().bytes().next()).fold(0, |all, first| all | bit(first));
    let begins_a_name = |at: usize, byte: u8| {
        let rest = bytes.get(at..).unwrap_or_default();
        firsts & bit(byte) != 0 && fields.iter().any(|field| begins_with_word(rest, field.name()))
    };
    bytes.iter().enumerate().any(|(at, byte)| !byte.is_ascii() || *byte == b'%' || begins_a_name(at, *byte))
}

/// A letter as one bit of a set, whatever its case; 0 for any other byte.
fn bit(byte: u8) -> u32 {
    if byte.is_ascii_alphabetic() { 1 << (byte & 0x1f) } else { 0 }
}

/// Whether a text begins with a name's first word: readers differ in what they take for an underscore, not in what comes before it.
fn begins_with_word(text: &[u8], name: &str) -> bool {
    let mut text = text.iter();
    let mut word = name.bytes().take_while(|byte| *byte != b'_');
    word.all(|letter| text.next().is_some_and(|byte| byte.eq_ignore_ascii_case(&letter)))
}

/// The values of a field, decoded, wherever the laxest reader finds them.
pub fn values(form: &[u8], field: Field) -> impl Iterator<Item = Vec<u8>> {
    // A second `?` begins a new query for readers that look for the last one.
    let pairs = form.split(|byte| matches!(byte, b'&' | b';' | b'?')).filter_map(move |pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (name, value) = (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default());
        (field_named(name) == Some(field)).then_some(value)
    });
    pairs.map(undone)
}

/// The protocol field that the laxest app would read under a raw name. PHP strips leading space and reads `.`, space and a
/// lone `[` as `_`; PHP, Rack and qs (Express) read `name[]` as a list called `name`; qs reads `[name]` as `name`, and Rack
/// did with any brackets around it; ASP.NET reads `%u0069` as `i`; C programs stop at NUL.
pub fn field_named(raw: &[u8]) -> Option<Field> {
    let exact = readings(raw).iter().find_map(|name| Field::named(name));
    exact.or_else(|| within(raw).iter().find_map(|name| Field::named(name).filter(|field| field.is_token())))
}

/// Whether a raw name may be that of a field with a token or an artifact: cheap, and never wrong when it says no. The letters of the
/// name come in their order, and each may be written otherwise.
pub fn may_be_token(raw: &[u8]) -> bool {
    const NAMES: [&[u8]; 8] =
        [b"idtoken", b"code", b"samlresponse", b"samlart", b"accesstoken", b"response", b"credential", b"wresult"];
    // An escape, or the first byte of what `fold` takes for a letter.
    let is_any = |byte: u8| matches!(byte, b'%' | 0xc4 | 0xc5 | 0xe2 | 0xef);
    let mut seen = [0_usize; NAMES.len()];
    for byte in raw.iter().filter(|byte| byte.is_ascii_alphabetic() || is_any(**byte)) {
        for (name, seen) in NAMES.iter().zip(&mut seen) {
            let next = name.get(*seen).copied().unwrap_or_default();
            *seen += usize::from(byte.to_ascii_lowercase() == next || is_any(*byte));
            if *seen == name.len() {
                return true;
            }
        }
    }
    false
}

/// A name or a value of a form, decoded. What stands between two escapes is copied as one piece: a SAML response has thousands
/// of letters, and few escapes.
fn undone(raw: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = raw.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let mut decoded = Vec::with_capacity(spaced.len());
    let mut rest = &*spaced;
    loop {
        let (plain, escaped) = rest.split_at(memchr::memchr(b'%', rest).unwrap_or(rest.len()));
        decoded.extend_from_slice(plain);
        let Some((_, behind)) = escaped.split_first() else { break };
        let digits = behind.iter().take(2).take_while(|byte| **byte != b'%').count();
        let (escape, behind) = escaped.split_at(1 + digits);
        decoded.extend(percent_encoding::percent_decode(escape));
        rest = behind;
    }
    decoded
}

fn decode(raw: &[u8]) -> Option<Cow<'_, str>> {
    if memchr::memchr2(b'+', b'%', raw).is_none() {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    }
    String::from_utf8(undone(raw)).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_decoded_as_the_whole_would_be(raw in "[%+0-9A-Fa-fxz\u{e9}]{0,24}") {
            let spaced = raw.replace('+', " ");
            prop_assert_eq!(undone(raw.as_bytes()), percent_encoding::percent_decode_str(&spaced).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn names_are_read_as_the_laxest_app_would() {
        for name in [
            "id_token",
            "ID_TOKEN",
            "id%5ftoken",
            "+id_token",
            "%20%20id_token",
            "id.token",
            "id+token",
            "id_token%5b%5d",
            "id_token[0]",
            "id[token",
            "id_token%00x",
            "id_token+%20",
            "%69%64%5f%74%6f%6b%65%6e",
            "[id_token]",
            "[id_token][0]",
            "[id_token]x",
            "%5Bid_token%5D",
            "]id_token",
            "[[]][id_token",
            "id_token]",
            "%u0069d_token",
            "%U0069%u0064%u005f%u0074%u006f%u006B%u0065%u006e",
            "\u{feff}id_token",
            "%EF%BB%BFid_token",
            "\u{131}d_token",
            "id_to%e2%84%aaen",
            "\u{ff49}d_token",
            ".id_token",
            "%2eid_token",
            ".id_token.",
            "model.id_token",
            "!id_token",
            "%21id_token",
            "id_token:string",
            "id_token:utf8:ustring",
            "%id_token",
            "id%_token",
            "id_token%",
        ] {
            assert_eq!(field_named(name.as_bytes()), Some(Field::IdToken), "{name}");
            assert!(may_be_token(name.as_bytes()), "{name}");
        }
        for name in ["id_tokens", "my_id_token", "idtoken", "", "=", "[]", "a[id_token]", "%", "%u", "%u00"] {
            assert_eq!(field_named(name.as_bytes()), None, "{name}");
        }
        assert_eq!(field_named(b"SAMLResponse"), Some(Field::SamlResponse));
        for runs in [("%".repeat(200), String::new()), (String::new(), "%".repeat(200))] {
            let name = format!("{}id{}_token", runs.0, runs.1);
            assert_eq!(field_named(name.as_bytes()), Some(Field::IdToken), "{name}");
        }
        let longest: String = "\u{17f}amlresponse".encode_utf16().map(|unit| format!("%u{unit:04x}")).collect();
        for padding in ["", "%20%20%20%20%20%20%20%20%20%20%20%20", "[[[[[[[[[[[[[[[[", "%20%20%20%20%20%20%20%u0020"] {
            let name = format!("{longest}{padding}");
            assert_eq!(field_named(name.as_bytes()), Some(Field::SamlResponse), "{padding}");
            assert!(may_be_token(name.as_bytes()), "{padding}");
        }
    }

    proptest::proptest! {
        /// What may not be one is none.
        #[test]
        fn no_name_of_a_token_is_passed_over(
            before in "[%a-zA-Z.\\[ !_:\u{17f}\u{212a}\u{ff49}]{0,6}",
            name in proptest::sample::select(Field::ALL.map(Field::name).to_vec()),
            written in proptest::collection::vec(0_u8..6, 12),
            after in "[%a-z.\\[ ]{0,6}",
        ) {
            let letters: String = name.chars().zip(written).map(|(letter, way)| match way {
                0 => letter.to_ascii_uppercase().to_string(),
                1 => format!("%{:02x}", u32::from(letter)),
                2 => format!("%u{:04x}", u32::from(letter)),
                3 => char::from_u32(u32::from(letter) + 0xfee0).unwrap().to_string(),
                _ => letter.to_string(),
            }).collect();
            let raw = format!("{before}{letters}{after}");
            let is_token =
                field_named(raw.as_bytes()).is_some_and(|field| field.is_token() && !matches!(field, Field::Code | Field::Response));
            proptest::prop_assert!(!is_token || may_be_token(raw.as_bytes()), "{}", raw);
        }
    }

    #[test]
    fn a_protocol_field_may_appear_once_over_query_and_body() {
        let mut fields = ProtocolFields::default();
        fields.read_query("state=1").unwrap();
        assert_eq!(fields.read_body(b"State=2&id_token=x"), Err(CaptureRefusal::Repeated("state".into())));
    }
}
