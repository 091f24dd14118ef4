//! What a browser remembers of a login that the app sends it off to, sealed into cookies that only we can read.
//!
//! The sidecar sees the login leave: a redirect whose `Location` is a provider's endpoint, or an auto-post form on a listed
//! login path. SAML request ID, state and nonce go into one cookie for each request, so that two tabs do not overwrite each
//! other. The login that comes back must match one of them, which ties it to this browser.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderValue};
use url::Url;

use super::scan;
use crate::pipeline::capture::saml;
use crate::pipeline::ids::{ProviderName, Timestamp};
use crate::pipeline::provider::{Protocol, Provider};
use crate::pipeline::verify::{Remembered, RememberedRequest};
use crate::ports::keys::KeySource;
use crate::serve::cookies::{Framed, Jar, Notes, Sealer, take_field};

/// A request that this browser left with, and the cookie that says so.
#[derive(Debug)]
pub struct Kept {
    pub name: String,
    pub remembered: Remembered,
}

/// Sets, opens and clears binding cookies.
pub struct Binder {
    notes: Notes,
    providers: Vec<Arc<Provider>>,
}

impl Binder {
    pub fn new(sealer: Sealer, providers: Vec<Arc<Provider>>) -> Self {
        Self { notes: Notes::new(sealer, "b-"), providers }
    }

    /// What the browser remembers, oldest first. What does not open, or is too old, is left out.
    pub fn open(&self, jar: &Jar, now: Timestamp) -> Vec<Kept> {
        let notes = self.notes.open(jar, now).into_iter();
        notes.filter_map(|note| Some(Kept { remembered: unframe(&note.content)?, name: note.name })).collect()
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
        let note = |request: &Remembered| (self.notes.name(&frame(request)), frame(request));
        let notes: Vec<(String, Vec<u8>)> = requests.iter().map(note).collect();
        let unset = self.notes.remember(&notes, jar, now, headers);
        if unset > 0 {
            tracing::warn!(requests = unset, "login requests are too large to be remembered");
        }
    }

    /// Clears one cookie.
    pub fn forget(&self, name: &str, headers: &mut HeaderMap) {
        self.notes.forget(name, headers);
    }

    fn providers_at<'a>(&'a self, url: &'a Url, keys: &'a dyn KeySource) -> impl Iterator<Item = &'a Arc<Provider>> {
        self.providers.iter().filter(|provider| {
            let endpoints = keys.endpoints(&provider.name);
            endpoints.iter().any(|endpoint| Url::parse(endpoint).is_ok_and(|endpoint| same_place(&endpoint, url)))
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

fn frame(request: &Remembered) -> Vec<u8> {
    let mut framed = Framed(vec![VERSION]);
    framed.put(Some(request.provider.as_str()));
    let kind = match &request.request {
        RememberedRequest::Oidc { state, nonce } => {
            framed.put(state.as_deref());
            framed.put(nonce.as_deref());
            OIDC
        }
        RememberedRequest::Saml { request_id } => {
            framed.put(Some(request_id));
            SAML
        }
    };
    framed.0.push(kind);
    framed.0
}

fn unframe(framed: &[u8]) -> Option<Remembered> {
    let (version, rest) = framed.split_first()?;
    let (kind, mut rest) = rest.split_last()?;
    if *version != VERSION {
        return None;
    }
    let mut take = || take_field(&mut rest);
    let provider = ProviderName::parse(&take()??).ok()?;
    let request = match *kind {
        OIDC => RememberedRequest::Oidc { state: take()?, nonce: take()? },
        SAML => RememberedRequest::Saml { request_id: take()?? },
        _ => return None,
    };
    rest.is_empty().then_some(Remembered { provider, request })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(state: &str, nonce: &str) -> Remembered {
        let request = RememberedRequest::Oidc { state: Some(state.into()), nonce: Some(nonce.into()) };
        Remembered { provider: ProviderName::parse("p").unwrap(), request }
    }

    #[test]
    fn every_kind_of_request_comes_back_as_it_was() {
        for request in [
            RememberedRequest::Oidc { state: None, nonce: Some(String::new()) },
            RememberedRequest::Oidc { state: Some("ä".into()), nonce: None },
            RememberedRequest::Saml { request_id: "_1".into() },
        ] {
            let request = Remembered { provider: ProviderName::parse("p").unwrap(), request };
            assert_eq!(unframe(&frame(&request)), Some(request));
        }
    }

    /// Threat 35: no byte of one field can count for another.
    #[test]
    fn fields_do_not_slide_into_each_other() {
        let frames: Vec<Vec<u8>> =
            [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")].map(|(s, n)| frame(&request(s, n))).into();
        for (at, one) in frames.iter().enumerate() {
            assert!(frames.iter().skip(at + 1).all(|other| one != other));
            assert!(unframe(one).is_some());
            for cut in 0..one.len() {
                assert_eq!(unframe(&one[..cut]).filter(|request| frame(request) != one[..cut]), None);
            }
        }
    }
}
