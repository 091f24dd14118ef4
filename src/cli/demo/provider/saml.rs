//! The provider's SAML side: Web Browser SSO with the redirect binding for the request and the POST binding for the answer
//! (SAML Profiles 4.1).

use std::io::Read as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roxmltree::Document;
use serde::Deserialize;

use super::super::fresh_id;
use super::super::mint::{Hash, saml as mint};
use super::super::people::{DELIMITER, Person};
use super::{Chosen, Honesty, Provider, Question, answer};

const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
/// SAML Core 8.3.7: a name that stays the same.
const PERSISTENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent";
/// Bytes of a request, inflated.
const MOST_XML: u64 = 64 * 1024;

pub fn routes() -> Router<Arc<Provider>> {
    Router::new().route("/saml/metadata", get(metadata)).route("/saml/sso", get(ask).post(choose))
}

async fn metadata(State(provider): State<Arc<Provider>>) -> Response {
    let sso = format!("{}/saml/sso", provider.issuer);
    let entity_id = Provider::entity_id(&provider.issuer);
    let document = mint::metadata(&entity_id, std::slice::from_ref(&provider.certificate), &sso, &sso);
    ([(header::CONTENT_TYPE, "application/samlmetadata+xml")], document).into_response()
}

/// A request by the redirect binding (SAML Bindings 3.4.4.1).
#[derive(Deserialize)]
struct Redirected {
    #[serde(rename = "SAMLRequest")]
    request: Option<String>,
    #[serde(rename = "RelayState")]
    relay_state: Option<String>,
}

async fn ask(State(provider): State<Arc<Provider>>, Query(redirected): Query<Redirected>) -> Response {
    match check(&provider, redirected) {
        Ok(question) => question.ask(&provider),
        Err(why) => provider.message(StatusCode::BAD_REQUEST, "That is not offered here", why),
    }
}

fn check(provider: &Provider, redirected: Redirected) -> Result<Question, &'static str> {
    let message = redirected.request.ok_or("There is no “SAMLRequest”.")?;
    let xml = inflate(&message).ok_or("The “SAMLRequest” is not deflated XML in base64.")?;
    let document = Document::parse(&xml).map_err(|_| "The “SAMLRequest” is not well-formed XML.")?;
    let request = document.root_element();
    if !request.has_tag_name((PROTOCOL, "AuthnRequest")) {
        return Err("The “SAMLRequest” is not an AuthnRequest.");
    }
    let issuer =
        request.children().find(|child| child.has_tag_name((ASSERTION, "Issuer"))).and_then(|issuer| issuer.text());
    if issuer != Some(&provider.app.entity_id) {
        return Err("No app with this entity ID is registered.");
    }
    // Anywhere else the answer would go to a stranger.
    if request.attribute("AssertionConsumerServiceURL").is_some_and(|url| url != provider.app.acs_url) {
        return Err("The “AssertionConsumerServiceURL” is not the one that is registered for the app.");
    }
    let id = request.attribute("ID").ok_or("The AuthnRequest has no “ID”.")?;
    let mut fields = vec![("request", id.to_owned())];
    fields.extend(redirected.relay_state.map(|relay_state| ("RelayState", relay_state)));
    Ok(Question { protocol: "SAML", shape: in_words, action: "/saml/sso", fields })
}

fn inflate(message: &str) -> Option<String> {
    let deflated = STANDARD.decode(message).ok()?;
    let mut xml = String::new();
    flate2::read::DeflateDecoder::new(deflated.as_slice()).take(MOST_XML).read_to_string(&mut xml).ok()?;
    Some(xml)
}

/// The groups as the assertion carries them.
fn in_words(person: &Person) -> String {
    format!("groups = \"{}\"", delimited(person))
}

fn delimited(person: &Person) -> String {
    person.groups.join(&DELIMITER.to_string())
}

async fn choose(State(provider): State<Arc<Provider>>, Form(chosen): Form<Chosen>) -> Response {
    let Some((person, honesty)) = provider.chosen(&chosen) else {
        return provider.message(StatusCode::NOT_FOUND, "No such user", "The provider has no user of this name.");
    };
    let Some(response) = response(&provider, &person, honesty, chosen.get("request")) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut fields = vec![("SAMLResponse", mint::field(&response))];
    fields.extend(chosen.get("RelayState").map(|relay_state| ("RelayState", relay_state.clone())));
    answer(&provider, &person, honesty, &provider.app.acs_url, &fields)
}

/// A response around one signed assertion (SAML Profiles 4.1.4.2).
fn response(provider: &Provider, person: &Person, honesty: Honesty, request: Option<&String>) -> Option<String> {
    // An XML ID does not begin with a digit.
    let (response_id, assertion_id) = (format!("_{}", fresh_id().ok()?), format!("_{}", fresh_id().ok()?));
    let entity_id = Provider::entity_id(&provider.issuer);
    let ids = (response_id.as_str(), assertion_id.as_str());
    let app = &provider.app;
    let mut login = mint::SamlLogin::new(&entity_id, &app.entity_id, &app.acs_url, ids, provider.clock.now().0);
    login.in_response_to = request.cloned();
    login.name_id = Some((format!("demo|{}", person.account), Some(PERSISTENT.to_owned())));
    login.attributes = vec![
        mint::MintAttribute::of("account", &[&person.account]),
        mint::MintAttribute::of("name", &[&person.name]),
        mint::MintAttribute::of("email", &[&person.email]),
        mint::MintAttribute::of("groups", &[&delimited(person)]),
    ];
    let signer = mint::Signer {
        key: provider.key(honesty),
        hash: Hash::Sha256,
        pss: false,
        // A forger shows the genuine certificate too: it is public.
        certificate: Some(&provider.certificate),
        style: login.style,
    };
    let assertion = mint::sign(&mint::assertion(&login), &assertion_id, signer).ok()?;
    Some(mint::response(&login, &assertion))
}
