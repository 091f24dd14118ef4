//! The protocol fields of a login message, found the way the laxest app would find them.
//!
//! Names are compared decoded and without case, since apps differ in both. [`ProtocolFields`] reads a whole query or
//! body; [`FieldScan`] watches a stream of which it keeps nothing but the name under its eyes.

use std::borrow::Cow;

use super::CaptureRefusal;

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
}

impl Field {
    const ALL: [(Field, &'static str); 7] = [
        (Field::IdToken, "id_token"),
        (Field::Code, "code"),
        (Field::State, "state"),
        (Field::Error, "error"),
        (Field::SamlResponse, "samlresponse"),
        (Field::SamlArt, "samlart"),
        (Field::RelayState, "relaystate"),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| name.eq_ignore_ascii_case(known)).map(|(field, _)| field)
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(field, _)| *field == self).map_or("", |(_, name)| name)
    }

    /// Whether the field alone makes a message a login, or may be taken for one.
    fn is_token(self) -> bool {
        matches!(self, Field::IdToken | Field::Code | Field::SamlResponse | Field::SamlArt)
    }
}

/// Fields of a query and a body together, each at most once.
#[derive(Debug, Default)]
pub struct ProtocolFields {
    found: Vec<(Field, Place, String)>,
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
    /// As for [`Self::read_query`].
    pub fn read_body(&mut self, body: &[u8]) -> Result<(), CaptureRefusal> {
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

/// Whether a media type is `application/x-www-form-urlencoded`, parameters aside.
pub fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The protocol field that the laxest app would read under a raw name. PHP strips leading space and reads `.`, space and a
/// lone `[` as `_`; PHP and Rack read `name[]` as a list called `name`; C programs stop at NUL.
fn field_named(raw: &[u8]) -> Option<Field> {
    let raw = raw.trim_ascii_start();
    let raw = strip_leading_space(raw);
    let raw = raw.get(..raw.len().min(MAX_RAW_NAME)).unwrap_or_default();
    let decoded: Vec<u8> = percent_encoding::percent_decode(raw).collect();
    let text = String::from_utf8_lossy(&decoded);
    let text = text.split('\0').next().unwrap_or_default();
    let joined: String = text.trim().chars().map(|c| if matches!(c, ' ' | '.' | '+') { '_' } else { c }).collect();
    Field::named(joined.split('[').next().unwrap_or_default()).or_else(|| Field::named(&joined.replacen('[', "_", 1)))
}

fn strip_leading_space(mut raw: &[u8]) -> &[u8] {
    loop {
        raw = match raw {
            [b'+' | b' ' | b'\t' | b'\r' | b'\n', rest @ ..] => rest,
            [b'%', b'2', b'0', rest @ ..] => rest,
            [b'%', b'0', b'9' | b'a' | b'A' | b'd' | b'D', rest @ ..] => rest,
            _ => return raw,
        };
    }
}

/// How much of a raw name is looked at: `SAMLResponse` with every byte escaped takes 36.
const MAX_RAW_NAME: usize = 64;

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
            "%69%64%5f%74%6f%6b%65%6e",
        ] {
            assert_eq!(field_named(name.as_bytes()), Some(Field::IdToken), "{name}");
        }
        for name in ["id_tokens", "my_id_token", "idtoken", "", "="] {
            assert_eq!(field_named(name.as_bytes()), None, "{name}");
        }
        assert_eq!(field_named(b"SAMLResponse"), Some(Field::SamlResponse));
    }

    #[test]
    fn a_protocol_field_may_appear_once_over_query_and_body() {
        let mut fields = ProtocolFields::default();
        fields.read_query("state=1").unwrap();
        assert_eq!(fields.read_body(b"State=2&id_token=x"), Err(CaptureRefusal::Repeated("state".into())));
    }
}
