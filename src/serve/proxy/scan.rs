//! Looks into what passes: protocol fields where no login belongs, and auto-post forms that leave for a provider.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::GeneralPurposeConfig;
use http::header::{self, HeaderMap};

use crate::pipeline::capture::fields::{self, Field, FieldScan, Sighting};
use crate::pipeline::capture::saml::{self, RootName};
use crate::serve::respond::Trouble;

/// Looks for a login in a query.
pub fn query_carries_login(query: &str) -> Option<Field> {
    if !fields::may_carry_login(query) {
        return None;
    }
    let mut scan = FieldScan::default();
    let sighting = match scan.read(query.as_bytes(), redirect_answers_logout) {
        Sighting::Clear => scan.finish(redirect_answers_logout),
        sighting => sighting,
    };
    match sighting {
        Sighting::Login(field) => Some(field),
        Sighting::Clear | Sighting::Foreign => None,
    }
}

/// Whether the body of such a request has to be watched for a login.
///
/// # Errors
/// When an app might read the body as a form that we cannot read as it passes: it could hold a login that we would miss.
pub fn watches_body(headers: &HeaderMap) -> Result<bool, Trouble> {
    let types = headers.get_all(header::CONTENT_TYPE);
    // Without a media type an app may guess (RFC 9110 section 8.3), and a form is what it would guess first.
    let unnamed = types.iter().next().is_none();
    let may_be_form = unnamed || types.iter().any(|kind| fields::may_be_form(kind.as_bytes()));
    if !may_be_form {
        return Ok(false);
    }
    // An app that takes compressed forms could read a login out of one, and we could not.
    if is_encoded(headers) {
        return Err(Trouble::UnreadableForm("a content encoding"));
    }
    if types.iter().any(|kind| fields::has_foreign_charset(kind.as_bytes())) {
        return Err(Trouble::UnreadableForm("a character encoding other than UTF-8 or one byte a letter"));
    }
    Ok(true)
}

/// Whether a Content-Encoding other than `identity` is named.
pub fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// Whether the head of a posted `SAMLResponse` begins a LogoutResponse (SAML Bindings 3.5.4: base64).
pub fn post_answers_logout(head: &[u8]) -> bool {
    is_logout_response(&saml::root_name(&decode_head(head)))
}

/// The same of one in a query (SAML Bindings 3.4.4.1: DEFLATE, then base64).
pub fn redirect_answers_logout(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|value| is_logout_response(&saml::redirect_root_name(value)))
}

fn is_logout_response(root: &RootName) -> bool {
    matches!(root, RootName::Known(name) if name == "LogoutResponse")
}

/// As much of a base64 text as is whole, white space aside.
fn decode_head(head: &[u8]) -> Vec<u8> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let compact: Vec<u8> = head.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let whole = compact.len() - compact.len() % 4;
    LENIENT.decode(compact.get(..whole).unwrap_or_default()).unwrap_or_default()
}

/// A form of a page, with its hidden fields.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub action: String,
    pub fields: Vec<(String, String)>,
}

/// The forms of a page that have an absolute address, in order.
pub fn forms(html: &[u8]) -> Vec<Form> {
    let text = String::from_utf8_lossy(html);
    let mut forms = Vec::new();
    let mut open: Option<Form> = None;
    for Ok(token) in html5gum::Tokenizer::new(&*text) {
        match token {
            html5gum::Token::StartTag(tag) => {
                let attribute = |name: &[u8]| {
                    let value = tag.attributes.iter().find(|(key, _)| key.as_slice() == name).map(|(_, value)| value);
                    value.map(|value| String::from_utf8_lossy(value.as_slice()).trim().to_owned())
                };
                match tag.name.as_slice() {
                    b"form" => {
                        forms.extend(open.take());
                        open = attribute(b"action").map(|action| Form { action, fields: Vec::new() });
                    }
                    b"input" => {
                        if let (Some(form), Some(name)) = (open.as_mut(), attribute(b"name")) {
                            form.fields.push((name, attribute(b"value").unwrap_or_default()));
                        }
                    }
                    _ => {}
                }
            }
            html5gum::Token::EndTag(tag) if tag.name.as_slice() == b"form" => forms.extend(open.take()),
            _ => {}
        }
    }
    forms.extend(open);
    forms
}
