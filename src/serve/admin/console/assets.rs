//! Stylesheet and script. Their addresses carry no version, so browsers ask each time, and get 304 if nothing changed.

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};

use crate::ports::sessions::Digest;

const STYLE: &str = include_str!("../../../../templates/console/style.css");
const SCRIPT: &str = include_str!("../../../../templates/console/script.js");

const ICON: &str = include_str!("../../../../templates/console/icon.svg");

pub async fn icon(headers: HeaderMap) -> Response {
    asset(&headers, ICON, "image/svg+xml")
}

pub async fn style(headers: HeaderMap) -> Response {
    asset(&headers, STYLE, "text/css; charset=utf-8")
}

pub async fn script(headers: HeaderMap) -> Response {
    asset(&headers, SCRIPT, "text/javascript; charset=utf-8")
}

fn asset(headers: &HeaderMap, text: &'static str, kind: &'static str) -> Response {
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(Digest::of(text.as_bytes()).0));
    let fields = [(CONTENT_TYPE, kind.to_owned()), (CACHE_CONTROL, "no-cache".to_owned()), (ETAG, tag.clone())];
    let known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    match known {
        true => (StatusCode::NOT_MODIFIED, fields).into_response(),
        false => (fields, text).into_response(),
    }
}
