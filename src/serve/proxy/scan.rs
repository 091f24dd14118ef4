//! Looks into what passes: protocol fields where no login belongs, and auto-post forms that leave for a provider.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use http_body::Body as _;

use super::Site;
use super::route::{Found, Route};
use crate::pipeline::capture::fields::Field;
use crate::pipeline::capture::watch::inflate::Coding;
use crate::pipeline::capture::watch::{self, BodyScan, Seeks, Sighted, Sighting};
use crate::pipeline::reading::media;
use crate::pipeline::reading::query::divided;
use crate::serve::arriving::Arriving;
use crate::serve::forward_auth;
use crate::serve::respond::{IN_HEADERS, Trouble};

/// How the body of a request that is no login has to be watched on its way, once its query was looked into.
///
/// # Errors
/// When the query carries a login, or when an app might read the body as something that we cannot read as it passes: it could
/// hold a login that we would miss.
pub fn outgoing(seeks: &Seeks, request: &Request<Arriving>) -> Result<Option<BodyScan>, Trouble> {
    if seeks.is_nothing() {
        return Ok(None);
    }
    look_at_head(seeks, request.uri().query(), request.headers())?;
    if request.body().is_end_stream() {
        return Ok(None);
    }
    let headers = request.headers();
    let types = || headers.get_all(header::CONTENT_TYPE).iter().map(|kind| kind.as_bytes());
    let mut readings = media::readings(types());
    // What has no media type is a form where it is posted; `curl -T` puts files so, and no app takes those for forms.
    if request.method() == Method::PUT && types().next().is_none() {
        (readings.form, readings.form_to_some) = (false, false);
    }
    readings.is_file = request.method() == Method::PUT;
    let mut inflated = None;
    if readings.form {
        check_form(headers)?;
    } else if seeks.looks_into_bodies() && is_encoded(headers) {
        // Express decompresses it, and the others read it as it stands, whatever the label says; many apps look for JSON in text.
        if readings.json || readings.multipart != media::Multipart::No || types().any(media::is_text) {
            return Err(Trouble::UnreadableForm("a content encoding"));
        }
        inflated = coding(headers)?;
    } else if seeks.looks_into_bodies() && types().any(media::has_foreign_charset) {
        // Whatever the media type is: some apps decode every body by its label and look for JSON in it.
        return Err(FOREIGN_CHARSET);
    }
    let scan = BodyScan::new(seeks, &readings).map_err(Trouble::UnreadableForm)?;
    match (scan, inflated) {
        (Some(scan), Some(coding)) => scan.inflating(coding, &readings).map(Some).map_err(Trouble::UnreadableForm),
        (scan, _) => Ok(scan),
    }
}

/// Looks for logins in a request that a gateway asks about, as far as the gateway tells of it. Callbacks and our own pages come through
/// here afterwards.
///
/// # Errors
/// When its query or headers carry a login.
pub fn asked_about(site: &Site, method: Option<&Method>, target: &str, headers: &HeaderMap) -> Result<(), Trouble> {
    let (path, query) = divided(target);
    let Found { route, beside } = site.router.route(path, query);
    if matches!(route, Route::Callback(_) | Route::Own) {
        return Ok(());
    }
    look_at_head(site.seeks.of(method, target, headers, &beside), query, headers)
}

/// Looks into a query and the headers.
fn look_at_head(seeks: &Seeks, query: Option<&str>, headers: &HeaderMap) -> Result<(), Trouble> {
    if let Some(query) = query {
        // Django decodes the query by it, with or without a body.
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        if seeks.stray.is_some() && types.any(|kind| media::has_foreign_charset(kind.as_bytes())) {
            return Err(FOREIGN_CHARSET);
        }
        check(watch::read_query(query, seeks), "query")?;
    }
    if seeks.stray_in_headers.is_some() {
        // Cookies are the app's own; a page before this one may have had a token in its address; and what a gateway asks about is read as
        // an address.
        let is_read = |name: &HeaderName| {
            !matches!(*name, header::COOKIE | header::REFERER) && name.as_str() != forward_auth::URI
        };
        for (name, value) in headers.iter().filter(|(name, _)| is_read(name)) {
            check(watch::read_header(name.as_str(), value.as_bytes(), seeks), IN_HEADERS)?;
        }
    }
    Ok(())
}

/// Looks at all of a message at a callback but the fields that are captured there: an app reads headers and fields of its own at each
/// address.
///
/// # Errors
/// When something else may carry a login.
pub fn beside_login(seeks: &Seeks, query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Result<(), Trouble> {
    if seeks.stray.is_none() {
        return Ok(());
    }
    look_at_head(seeks, query, headers)?;
    let types = || headers.get_all(header::CONTENT_TYPE).iter();
    // No body but a form passes a callback.
    if !types().all(|kind| kind.to_str().is_ok_and(media::is_form)) {
        return Ok(());
    }
    match BodyScan::new(seeks, &media::readings(types().map(HeaderValue::as_bytes))).map_err(Trouble::UnreadableForm)? {
        Some(scan) => check(scan.read_whole(body), "body"),
        None => Ok(()),
    }
}

/// Which coding some framework undoes whatever the media type is; of those that none undoes (snappy, `aws-chunked`), nothing.
///
/// # Errors
/// When one is undone, and not here.
fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Trouble> {
    let is = |coding: &[u8], names: &[&str]| names.iter().any(|name| coding.eq_ignore_ascii_case(name.as_bytes()));
    let mut found = None;
    for coding in codings(headers) {
        let known = match coding {
            coding if is(coding, &["gzip", "x-gzip"]) => Some(Coding::Gzip),
            coding if is(coding, &["deflate"]) => Some(Coding::Deflate),
            coding if is(coding, &["br", "zstd"]) => {
                return Err(Trouble::UnreadableForm("a content encoding other than gzip and deflate"));
            }
            _ => None,
        };
        if known.is_some() && found.is_some() {
            return Err(Trouble::UnreadableForm("more than one content encoding"));
        }
        found = found.or(known);
    }
    Ok(found)
}

const FOREIGN_CHARSET: Trouble = Trouble::UnreadableForm("a character encoding other than UTF-8 or one byte a letter");

/// # Errors
/// For a form that apps may read and we cannot: compressed, or in another character encoding.
pub fn check_form(headers: &HeaderMap) -> Result<(), Trouble> {
    if is_encoded(headers) {
        return Err(Trouble::UnreadableForm("a content encoding"));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    if types.any(|kind| media::has_foreign_charset(kind.as_bytes())) { Err(FOREIGN_CHARSET) } else { Ok(()) }
}

/// What a sighting means for the request.
///
/// # Errors
/// When it may carry a login.
pub fn check(sighting: Sighting, place: &'static str) -> Result<(), Trouble> {
    match sighting {
        Sighting::Clear => Ok(()),
        Sighting::Login(sighted) => Err(trouble(sighted, place)),
        Sighting::Unreadable(why) => Err(Trouble::UnreadableForm(why)),
    }
}

pub fn trouble(sighted: Sighted, place: &'static str) -> Trouble {
    match sighted.field {
        Some(Field::AccessToken) => Trouble::TokenInBody,
        _ => Trouble::Elsewhere { sighted, place },
    }
}

/// Whether a Content-Encoding other than `identity` is named.
pub fn is_encoded(headers: &HeaderMap) -> bool {
    codings(headers).next().is_some()
}

/// The content codings that are named, but for `identity`.
fn codings(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let named =
        headers.get_all(header::CONTENT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    named.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
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
