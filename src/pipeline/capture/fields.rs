//! The protocol fields of a login message, found the way the laxest app would find them.
//!
//! Names are compared decoded and without case, since apps differ in both. [`ProtocolFields`] reads a whole query or
//! body; [`FieldScan`] watches a stream of which it keeps nothing but the name under its eyes.

use std::borrow::Cow;
use std::sync::Arc;

use super::CaptureRefusal;
use crate::pipeline::reading::token::{self, Reading, Unclear};

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
    const ALL: [(Field, &'static str); 13] = [
        (Field::IdToken, "id_token"),
        (Field::Code, "code"),
        (Field::State, "state"),
        (Field::Error, "error"),
        (Field::SamlResponse, "samlresponse"),
        (Field::SamlArt, "samlart"),
        (Field::RelayState, "relaystate"),
        (Field::AccessToken, "access_token"),
        (Field::Response, "response"),
        (Field::Credential, "credential"),
        (Field::WsResult, "wresult"),
        (Field::Method, "_method"),
        (Field::MethodOverride, "x-http-method-override"),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| name.eq_ignore_ascii_case(known)).map(|(field, _)| field)
    }

    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(field, _)| *field == self).map_or("", |(_, name)| name)
    }

    /// Whether the field alone makes a message a login, or may be taken for one.
    fn is_token(self) -> bool {
        !matches!(self, Field::State | Field::Error | Field::RelayState | Field::Method | Field::MethodOverride)
    }
}

/// Fields of a query and a body together, each at most once.
#[derive(Debug, Default)]
pub struct ProtocolFields {
    found: Vec<(Field, Place, String)>,
    /// Where a `code` stands that every reader reads alike: by its very name, and not empty.
    code: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Query,
    Body,
}

impl ProtocolFields {
    /// # Errors
    /// When a protocol field appears twice, or a name or value is no UTF-8.
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
        // Some frameworks take `;` for `&` (HTML 4.01 appendix B.2.2), so a name behind one counts too.
        for pair in form.split(|byte| *byte == b'&' || *byte == b';') {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
                None => (pair, &[][..]),
            };
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
        if form.split(|byte| *byte == b'&').any(plain) {
            self.code = Some(place);
        }
        Ok(())
    }

    /// Whether no field was found that could be part of a login. `state` and `RelayState` alone are none: apps use these
    /// words for purposes of their own.
    pub fn is_empty(&self) -> bool {
        !self.found.iter().any(|(field, ..)| field.is_token() || *field == Field::Error)
    }

    pub fn has(&self, field: Field) -> bool {
        self.found.iter().any(|(known, ..)| *known == field)
    }

    /// Whether an app that reads a field also reads a `code` beside it: one, plainly named, not empty, in the same place.
    pub fn has_plain_code_beside(&self, field: Field) -> bool {
        let place = self.found.iter().find(|(known, ..)| *known == field).map(|(_, place, _)| *place);
        self.code.is_some() && self.code == place
    }

    pub fn carries_token(&self) -> bool {
        self.found.iter().any(|(field, ..)| field.is_token())
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

/// Watches a form go by in pieces for a field that carries a login, by the same lax reading as [`ProtocolFields`]. Holds the
/// name under its eyes and, where a value has to be looked into, the head of that; nothing else.
///
/// ```text
/// "a=1&SAMLRes" "ponse=PHNh" "bWxw…"     a name and a value split over pieces
/// ```
#[derive(Debug)]
pub struct FieldScan {
    seeks: Seeks,
    place: ScanPlace,
    name: Vec<u8>,
    /// The decoded head of a value that is looked into.
    head: Vec<u8>,
    /// Digits of an escape in a value that are still to come, and what was read of it.
    escape: Escape,
    /// The first bytes of all.
    opening: Vec<u8>,
}

/// What a scan looks for.
#[derive(Debug, Clone)]
pub struct Seeks {
    /// Fields by which a browser logs in.
    pub login: bool,
    /// `access_token` (RFC 6750 section 2.2), unless it is a token of another issuer than these.
    pub access_token: Option<Arc<[String]>>,
}

impl Default for Seeks {
    fn default() -> Self {
        Self { login: true, access_token: None }
    }
}

impl Seeks {
    pub fn is_nothing(&self) -> bool {
        !self.login && self.access_token.is_none()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanPlace {
    Name,
    /// A value that matters to nobody.
    Value,
    /// The value of a field that is looked into.
    Held(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Percent,
    Digit(u8),
}

/// What a scan has to say of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// Nothing that carries a login, so far.
    Clear,
    /// A field that carries a login (`id_token`, or a `SAMLResponse` that is no LogoutResponse), or an `access_token`.
    Login(Field),
    /// A byte order mark by which an app may read other letters than we do.
    Foreign,
}

impl Default for FieldScan {
    fn default() -> Self {
        Self::new(Seeks::default())
    }
}

impl FieldScan {
    pub fn new(seeks: Seeks) -> Self {
        Self {
            seeks,
            place: ScanPlace::Name,
            name: Vec::new(),
            head: Vec::new(),
            escape: Escape::None,
            opening: Vec::new(),
        }
    }

    /// Reads the next piece. `answers_logout` says of the base64 head of a `SAMLResponse` whether its root is a
    /// LogoutResponse.
    pub fn read(&mut self, mut piece: &[u8], answers_logout: impl Fn(&[u8]) -> bool) -> Sighting {
        if self.opening.len() < MARK {
            self.opening.extend_from_slice(piece.get(..piece.len().min(MARK - self.opening.len())).unwrap_or_default());
            if has_foreign_mark(&self.opening) {
                return Sighting::Foreign;
            }
        }
        while !piece.is_empty() {
            let (consumed, sighting) = match self.place {
                ScanPlace::Name => self.read_name(piece),
                ScanPlace::Value => (self.skip_value(piece), Sighting::Clear),
                ScanPlace::Held(field) => self.read_held(field, piece, &answers_logout),
            };
            if sighting != Sighting::Clear {
                return sighting;
            }
            piece = piece.get(consumed..).unwrap_or_default();
        }
        Sighting::Clear
    }

    /// The form has ended: judges what is still under its eyes.
    pub fn finish(&mut self, answers_logout: impl Fn(&[u8]) -> bool) -> Sighting {
        match self.place {
            ScanPlace::Name => self.name_ended(),
            ScanPlace::Value => Sighting::Clear,
            ScanPlace::Held(field) => self.held_ended(field, &answers_logout),
        }
    }

    fn read_name(&mut self, piece: &[u8]) -> (usize, Sighting) {
        let end = piece.iter().position(|byte| matches!(byte, b'&' | b';' | b'='));
        self.keep_name(piece.get(..end.unwrap_or(piece.len())).unwrap_or_default());
        let Some(end) = end else { return (piece.len(), Sighting::Clear) };
        let sighting = self.name_ended();
        let begins_value = piece.get(end) == Some(&b'=');
        if matches!(self.place, ScanPlace::Held(_)) && !begins_value {
            self.place = ScanPlace::Name;
        } else if self.place == ScanPlace::Name && begins_value {
            self.place = ScanPlace::Value;
        }
        (end + 1, sighting)
    }

    /// Keeps what [`field_named`] looks at. Leading padding is dropped at once, however much of it comes.
    fn keep_name(&mut self, mut bytes: &[u8]) {
        while self.name.len() < MAX_RAW_NAME && !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(MAX_RAW_NAME - self.name.len()));
            self.name.extend_from_slice(now);
            let stripped = strip_padding(&self.name).len();
            self.name.drain(..self.name.len() - stripped);
            bytes = later;
        }
    }

    fn name_ended(&mut self) -> Sighting {
        // Most names are told apart by their first letter, which costs nothing.
        let may_be_access = self.seeks.access_token.is_some();
        let hopeless = |first: &u8| match first.to_ascii_lowercase() {
            b'i' | b's' => false,
            b'a' => !may_be_access,
            other => other.is_ascii_alphanumeric(),
        };
        let field = if self.name.first().is_none_or(hopeless) { None } else { field_named(&self.name) };
        self.name.clear();
        match field {
            Some(Field::IdToken) if self.seeks.login => return Sighting::Login(Field::IdToken),
            Some(Field::SamlResponse) if self.seeks.login => self.place = ScanPlace::Held(Field::SamlResponse),
            Some(Field::AccessToken) if self.seeks.access_token.is_some() => {
                self.place = ScanPlace::Held(Field::AccessToken);
            }
            _ => return Sighting::Clear,
        }
        self.escape = Escape::None;
        self.head.clear();
        Sighting::Clear
    }

    fn skip_value(&mut self, piece: &[u8]) -> usize {
        match memchr::memchr2(b'&', b';', piece) {
            Some(end) => {
                self.place = ScanPlace::Name;
                end + 1
            }
            None => piece.len(),
        }
    }

    fn read_held(&mut self, field: Field, piece: &[u8], answers_logout: impl Fn(&[u8]) -> bool) -> (usize, Sighting) {
        for (index, byte) in piece.iter().enumerate() {
            if matches!(byte, b'&' | b';') {
                let sighting = self.held_ended(field, answers_logout);
                self.place = ScanPlace::Name;
                return (index + 1, sighting);
            }
            self.keep_value(*byte);
            if self.head.len() >= MAX_HEAD {
                let sighting = self.held_ended(field, answers_logout);
                self.place = ScanPlace::Value;
                return (index + 1, sighting);
            }
        }
        (piece.len(), Sighting::Clear)
    }

    fn keep_value(&mut self, byte: u8) {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        self.escape = match (self.escape, byte) {
            (_, b'%') => Escape::Percent,
            (Escape::Percent, byte) => digit(byte).map_or(Escape::None, Escape::Digit),
            (Escape::Digit(high), byte) => {
                self.head.extend(digit(byte).map(|low| high << 4 | low));
                Escape::None
            }
            (Escape::None, byte) => {
                self.head.push(byte);
                Escape::None
            }
        };
    }

    /// The value has ended, or there is more of it than is held.
    fn held_ended(&mut self, field: Field, answers_logout: impl Fn(&[u8]) -> bool) -> Sighting {
        // Apps name a field without filling it in (an empty one carries nothing).
        let clear = self.head.is_empty()
            || match field {
                Field::AccessToken => self.passes_access_token(),
                _ => answers_logout(&self.head),
            };
        if clear { Sighting::Clear } else { Sighting::Login(field) }
    }

    fn passes_access_token(&self) -> bool {
        if self.head.len() >= MAX_HEAD {
            return !token::may_begin(&self.head);
        }
        let reading = token::read(&self.head);
        let issuers = self.seeks.access_token.iter().flat_map(|issuers| issuers.iter().map(String::as_str));
        // The app's own, by a secret of its own.
        reading == Reading::Unclear(Unclear::NoIssuerSharedSecret) || reading.passes(issuers).is_ok()
    }
}

/// The longest byte order mark.
const MARK: usize = 4;

/// How much of a value is held: of a `SAMLResponse`, in base64, enough for an XML declaration, a comment and the root's name.
const MAX_HEAD: usize = 4096;

/// Whether a query may hold a field that carries a login: cheap, and never wrong when it says no. A name without an
/// escape begins with the very letters of the field, whatever a lax reader makes of its separators.
pub fn may_carry_login(query: &str) -> bool {
    let bytes = query.as_bytes();
    if !bytes.is_ascii() || memchr::memchr(b'%', bytes).is_some() {
        return true;
    }
    memchr::memchr2_iter(b's', b'S', bytes).any(|at| starts_with(bytes, at, b"samlresponse"))
        || memchr::memchr2_iter(b'i', b'I', bytes).any(|at| starts_with(bytes, at, b"id"))
}

/// Whether a query may hold a field: cheap, and never wrong when it says no.
pub fn may_hold(query: &str, field: Field) -> bool {
    let bytes = query.as_bytes();
    // Readers differ in what they take for an underscore, not in what comes before it.
    let word = field.name().split('_').next().unwrap_or_default().as_bytes();
    let Some(first) = word.first() else { return true };
    !bytes.is_ascii()
        || memchr::memchr(b'%', bytes).is_some()
        || memchr::memchr2_iter(*first, first.to_ascii_uppercase(), bytes).any(|at| starts_with(bytes, at, word))
}

/// The values of a field, decoded, wherever the laxest reader finds them.
pub fn values(form: &[u8], field: Field) -> impl Iterator<Item = Vec<u8>> {
    // A second `?` begins a query anew for readers that look for the last one.
    let pairs = form.split(|byte| matches!(byte, b'&' | b';' | b'?')).filter_map(move |pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (name, value) = (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default());
        (field_named(name) == Some(field)).then_some(value)
    });
    pairs.map(|value| {
        let spaced: Vec<u8> = value.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        percent_encoding::percent_decode(&spaced).collect()
    })
}

/// Whether some reader takes the name of a cookie or field for this one.
pub fn is_like(raw: &[u8], named: &str) -> bool {
    let fold = |text: &str| -> String { text.chars().map(fold).flat_map(char::to_lowercase).collect() };
    let decoded = decode_name(strip_padding(raw.get(..raw.len().min(MAX_COOKIE_NAME)).unwrap_or_default()));
    let text = String::from_utf8_lossy(&decoded);
    let text = text.split('\0').next().unwrap_or_default().trim_matches(|c: char| c.is_whitespace() || c == '"');
    let text = text.split(['[', ']']).next().unwrap_or_default();
    fold(text) == fold(named)
}

/// How much of a cookie's name is looked at.
const MAX_COOKIE_NAME: usize = 512;

fn starts_with(bytes: &[u8], at: usize, word: &[u8]) -> bool {
    bytes.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
}

/// Whether any reader may take a body of this media type for a form: some look for the name anywhere in the field, or take
/// what stands before a comma.
pub fn may_be_form(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"x-www-form-urlencoded";
    content_type.windows(NAME.len()).any(|window| window.eq_ignore_ascii_case(NAME))
}

/// Whether a media type asks for a character encoding in which a name would not be the bytes that we compare. UTF-16, UTF-7
/// and EBCDIC are honoured by some frameworks.
pub fn has_foreign_charset(content_type: &[u8]) -> bool {
    const KNOWN: [&str; 5] = ["utf-8", "utf8", "us-ascii", "iso-8859-1", "windows-1252"];
    let text = String::from_utf8_lossy(content_type).to_ascii_lowercase();
    text.split("charset").skip(1).any(|rest| {
        let named = rest.trim_start_matches([' ', '\t', '=', '"', '\'', '*']);
        let named = named.split([';', ',', '"', '\'', ' ', '\t']).next().unwrap_or_default();
        !KNOWN.contains(&named)
    })
}

/// Whether a body begins with the byte order mark of UTF-16 or UTF-32. Some frameworks (Katana for one) follow it whatever the
/// media type says, and then read names that we never saw.
fn has_foreign_mark(body: &[u8]) -> bool {
    body.starts_with(&[0xfe, 0xff]) || body.starts_with(&[0xff, 0xfe]) || body.starts_with(&[0, 0, 0xfe, 0xff])
}

/// Whether a media type is `application/x-www-form-urlencoded`, parameters aside.
pub fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The protocol field that the laxest app would read under a raw name. PHP strips leading space and reads `.`, space and a
/// lone `[` as `_`; PHP, Rack and qs (Express) read `name[]` as a list called `name`; qs reads `[name]` as `name`, and Rack
/// did with any brackets around it; ASP.NET reads `%u0069` as `i`; C programs stop at NUL.
fn field_named(raw: &[u8]) -> Option<Field> {
    readings(raw).iter().find_map(|name| Field::named(name))
}

/// Whether the laxest reader could take a raw name for this one.
pub fn could_be(raw: &[u8], name: &str) -> bool {
    readings(raw).iter().any(|reading| reading.eq_ignore_ascii_case(name))
}

fn readings(raw: &[u8]) -> [String; 2] {
    let raw = strip_padding(raw);
    let decoded = decode_name(whole_escapes(raw.get(..raw.len().min(MAX_RAW_NAME)).unwrap_or_default()));
    let text = String::from_utf8_lossy(&decoded);
    let text = text.split('\0').next().unwrap_or_default();
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let joined: String = text.chars().map(fold).collect();
    let bare = joined.trim_start_matches(['[', ']']);
    [bare.split(['[', ']']).next().unwrap_or_default().to_owned(), joined.replacen('[', "_", 1)]
}

/// What some reader takes for an underscore, or some comparison without case for an ASCII letter.
fn fold(c: char) -> char {
    match c {
        ' ' | '.' => '_',
        'ı' | 'İ' => 'i',
        'ſ' => 's',
        '\u{212a}' => 'k',
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

/// Decodes a form's name, and `%uXXXX` with it.
fn decode_name(mut raw: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some((byte, rest)) = raw.split_first() {
        let digits = |at: usize, count: usize| {
            let digits = rest.get(at..at + count).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let escaped = (*byte == b'%').then(|| match rest.first() {
            Some(b'u' | b'U') => digits(1, 4).and_then(char::from_u32).map(|c| (c, 5)),
            _ => None,
        });
        if let Some(Some((c, length))) = escaped {
            decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            raw = rest.get(length..).unwrap_or_default();
        } else if let (b'%', Some(value)) = (byte, digits(0, 2).and_then(|value| u8::try_from(value).ok())) {
            decoded.push(value);
            raw = rest.get(2..).unwrap_or_default();
        } else {
            decoded.push(if *byte == b'+' { b' ' } else { *byte });
            raw = rest;
        }
    }
    decoded
}

/// Drops an escape that a cut at [`MAX_RAW_NAME`] left incomplete; it would make a padded name one of its own.
fn whole_escapes(raw: &[u8]) -> &[u8] {
    if raw.len() < MAX_RAW_NAME {
        return raw;
    }
    match raw.iter().rposition(|byte| *byte == b'%') {
        Some(at) if raw.len() - at < ESCAPE => raw.get(..at).unwrap_or_default(),
        _ => raw,
    }
}

/// Drops what some reader drops before a name: white space, brackets, a byte order mark, a question mark (qs, by an option).
fn strip_padding(mut raw: &[u8]) -> &[u8] {
    loop {
        raw = match raw {
            [b'+' | b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c | b'[' | b']' | b'?', rest @ ..] => rest,
            [0xef, 0xbb, 0xbf, rest @ ..] => rest,
            [0, rest @ ..] | [b'%', b'0', b'0', rest @ ..] => rest,
            [b'%', b'2', b'0', rest @ ..] => rest,
            [b'%', b'0', b'9' | b'a'..=b'd' | b'A'..=b'D', rest @ ..] => rest,
            [b'%', b'5', b'b' | b'B' | b'd' | b'D', rest @ ..] => rest,
            _ => return raw,
        };
    }
}

/// How much of a raw name is looked at: `SAMLResponse` with every byte escaped at the longest takes 72.
const MAX_RAW_NAME: usize = 96;

/// The longest escape, `%uXXXX`.
const ESCAPE: usize = 6;

fn decode(raw: &[u8]) -> Option<Cow<'_, str>> {
    if !raw.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    }
    let spaced: Vec<u8> = raw.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded: Vec<u8> = percent_encoding::percent_decode(&spaced).collect();
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(field_named(name.as_bytes()), Some(Field::IdToken), "{name}");
        }
        for name in ["id_tokens", "my_id_token", "idtoken", "", "=", "[]", "a[id_token]", "%", "%u", "%u00"] {
            assert_eq!(field_named(name.as_bytes()), None, "{name}");
        }
        assert_eq!(field_named(b"SAMLResponse"), Some(Field::SamlResponse));
        let longest: String = "\u{17f}amlresponse".encode_utf16().map(|unit| format!("%u{unit:04x}")).collect();
        for padding in ["", "%20%20%20%20%20%20%20%20%20%20%20%20", "[[[[[[[[[[[[[[[[", "%20%20%20%20%20%20%20%u0020"] {
            assert_eq!(field_named(format!("{longest}{padding}").as_bytes()), Some(Field::SamlResponse), "{padding}");
        }
    }

    fn scan(pieces: &[&[u8]]) -> Sighting {
        let logout = |head: &[u8]| head.starts_with(b"LOGOUT");
        let mut scan = FieldScan::default();
        for piece in pieces {
            let sighting = scan.read(piece, logout);
            if sighting != Sighting::Clear {
                return sighting;
            }
        }
        scan.finish(logout)
    }

    #[test]
    fn a_scan_sees_what_is_split_anywhere() {
        let forms: [(&[u8], Sighting); 16] = [
            (b"[id_token]=x", Sighting::Login(Field::IdToken)),
            (b"\xef\xbb\xbfid_token=x", Sighting::Login(Field::IdToken)),
            (b"\xff\xfei\0d\0", Sighting::Foreign),
            (b"\0\0\xfe\xff\0\0\0i", Sighting::Foreign),
            (b"a=1&b=2", Sighting::Clear),
            (b"a=id_token&b=SAMLResponse", Sighting::Clear),
            (b"a=1&id_token=x&b=2", Sighting::Login(Field::IdToken)),
            (b"a=1;%69D_token=x", Sighting::Login(Field::IdToken)),
            (b"a=1&ID.TOKEN[]", Sighting::Login(Field::IdToken)),
            (
                b"++%20+%20%09id_token%20%20%20%20%20%20%20%20%20%20%20%20%20%20%20%20%20%20%20%20%20=x",
                Sighting::Login(Field::IdToken),
            ),
            (b"SAMLResponse=PHNh&a=1", Sighting::Login(Field::SamlResponse)),
            (b"samlresponse=&a=1", Sighting::Clear),
            (b"SAMLResponse&a=1", Sighting::Clear),
            (b"SAMLResponse=L%4fGOUT%3D%3D&a=1", Sighting::Clear),
            (b"SAMLResponse=LOGOUT&SAMLResponse=PHNh", Sighting::Login(Field::SamlResponse)),
            (b"SAMLResponse=LOGOUT;x&id_token=", Sighting::Login(Field::IdToken)),
        ];
        for (form, expected) in forms {
            let shown = String::from_utf8_lossy(form);
            assert_eq!(scan(&[form]), expected, "{shown}");
            for at in 0..form.len() {
                assert_eq!(scan(&[&form[..at], &form[at..]]), expected, "{shown} at {at}");
            }
            let bytes: Vec<&[u8]> = form.chunks(1).collect();
            assert_eq!(scan(&bytes), expected, "{shown} by bytes");
        }
    }

    #[test]
    fn a_scan_holds_little_of_long_names_and_values() {
        let logout = |_: &[u8]| true;
        let mut scan = FieldScan::default();
        scan.read(&[b'+'; 100_000], logout);
        scan.read(&[b'n'; 100_000], logout);
        assert!(scan.name.capacity() <= 256, "{}", scan.name.capacity());
        scan.read(b"&SAMLResponse=", logout);
        scan.read(&[b'A'; 100_000], logout);
        assert!(scan.head.len() <= MAX_HEAD);
    }

    #[test]
    fn a_query_is_looked_into_only_where_it_may_carry_a_login() {
        for query in ["page=2&sort=name", "q=hello+world", "s=1&same=x"] {
            assert!(!may_carry_login(query), "{query}");
        }
        for query in [
            "id_token=1",
            "a=1&ID.token=1",
            "SAMLResponse=1",
            "%73amlresponse=1",
            "id[token=1",
            "[id_token]=1",
            "ſamlresponse=1",
        ] {
            assert!(may_carry_login(query), "{query}");
        }
    }

    #[test]
    fn forms_are_known_by_any_sign() {
        assert!(may_be_form(b"application/X-WWW-form-urlencoded, text/plain"));
        assert!(!may_be_form(b"application/json"));
        assert!(!has_foreign_charset(b"application/x-www-form-urlencoded; charset=UTF-8"));
        assert!(!has_foreign_charset(b"application/x-www-form-urlencoded"));
        for charset in ["utf-16", "\"utf-7\"", "ibm037", "utf-8, utf-16; charset=utf-16"] {
            assert!(has_foreign_charset(format!("a/b; Charset={charset}").as_bytes()), "{charset}");
        }
    }

    #[test]
    fn a_protocol_field_may_appear_once_over_query_and_body() {
        let mut fields = ProtocolFields::default();
        fields.read_query("state=1").unwrap();
        assert_eq!(fields.read_body(b"State=2&id_token=x"), Err(CaptureRefusal::Repeated("state".into())));
    }
}
