//! The demo's identity provider: OIDC and SAML over the same few people, whose groups any user of this machine may edit.
//!
//! ```text
//! GET  /                                    people and their groups, to be edited
//! GET  /.well-known/openid-configuration    oidc: what it is, and its keys at /jwks
//! GET  /authorize                           oidc: who are you?
//! POST /authorize                           oidc: the answer, an id_token posted to the app
//! GET  /saml/metadata                       saml: what it is, and its certificate
//! GET  /saml/sso                            saml: who are you?
//! POST /saml/sso                            saml: the answer, a SAMLResponse posted to the app
//! ```
//!
//! It asks for no password, and can be set to forge: an answer signed by a key that is not the provider's, in which the
//! person claims to be an administrator. So a newcomer can watch one fail.

mod oidc;
mod saml;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Form, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::agreed::MAPPED;
use super::mint::{KeyKind, MintError, MintKey};
use super::pages::{Links, Message, Party, SUBMIT, page};
use super::people::{People, Person, Unchanged};
use crate::clock::Clock;

/// The group that a forged answer claims in addition to the person's own.
const COVETED: &str = "administrators";

/// The app, as it is registered at the provider: answers go nowhere else.
#[derive(Debug, Clone)]
pub struct Registration {
    /// OIDC.
    pub client_id: String,
    pub redirect_uri: String,
    /// SAML.
    pub entity_id: String,
    pub acs_url: String,
}

/// The provider.
pub struct Provider {
    /// Its address: the OIDC issuer, and what the SAML names begin with.
    issuer: String,
    app: Registration,
    links: Links,
    people: People,
    key: MintKey,
    certificate: Vec<u8>,
    /// A key that the provider does not publish.
    strangers_key: MintKey,
    clock: Clock,
}

impl Provider {
    /// Makes its keys; they are nowhere but in memory.
    ///
    /// # Errors
    /// When the operating system returned no random bytes.
    pub fn new(issuer: String, app: Registration, links: Links, people: People) -> Result<Self, MintError> {
        let key = MintKey::generate(KeyKind::Rsa)?;
        Ok(Self {
            certificate: key.certificate("loginsync demo, for tests only")?,
            key,
            strangers_key: MintKey::generate(KeyKind::Rsa)?,
            issuer,
            app,
            links,
            people,
            clock: Clock::system(),
        })
    }

    /// The SAML entity ID of a provider at this address.
    pub fn entity_id(issuer: &str) -> String {
        format!("{issuer}/saml")
    }

    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/", get(edit))
            .route("/people/add", post(add))
            .route("/people/remove", post(remove))
            .merge(oidc::routes())
            .merge(saml::routes())
            .layer(middleware::from_fn_with_state(Arc::clone(&self), only_own_pages))
            .with_state(self)
    }

    fn message(&self, status: StatusCode, title: &str, text: &str) -> Response {
        page(status, &Message { party: Party::Provider, links: &self.links, title, text })
    }
}

/// There is no login here, so the browser must say that it is one of our own pages that asks: no other site may edit people, nor
/// reach us under a name of its own (DNS rebinding).
async fn only_own_pages(State(provider): State<Arc<Provider>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let authority = provider.issuer.split_once("://").map(|(_, authority)| authority).unwrap_or_default();
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    let foreign = origin.is_some_and(|origin| origin != provider.issuer.as_bytes());
    if host != authority.as_bytes() || (request.method() != Method::GET && foreign) {
        let text = format!("Please open {}.", provider.issuer);
        return provider.message(StatusCode::FORBIDDEN, "Not from here", &text);
    }
    next.run(request).await
}

// ----------------------------------------------------------------------------------------------------------- people

#[derive(Template)]
#[template(path = "demo/people.html")]
struct PeoplePage<'a> {
    party: Party,
    links: &'a Links,
    people: &'a [Person],
    /// Groups that mean something in the app.
    mapped: &'a [String],
    /// Groups that a user could be put into: those, and what a user has.
    known: &'a [String],
}

async fn edit(State(provider): State<Arc<Provider>>) -> Response {
    let people = provider.people.all();
    let mapped = MAPPED.map(|mapped| mapped.value.to_owned());
    let held = people.iter().flat_map(|person| &person.groups);
    let known: BTreeSet<String> = mapped.iter().chain(held).cloned().collect();
    let known = Vec::from_iter(known);
    let links = &provider.links;
    page(StatusCode::OK, &PeoplePage { party: Party::Provider, links, people: &people, mapped: &mapped, known: &known })
}

#[derive(Deserialize)]
struct Edit {
    account: String,
    group: String,
}

async fn add(State(provider): State<Arc<Provider>>, Form(edit): Form<Edit>) -> Response {
    edited(&provider, provider.people.add(&edit.account, &edit.group))
}

async fn remove(State(provider): State<Arc<Provider>>, Form(edit): Form<Edit>) -> Response {
    edited(&provider, provider.people.remove(&edit.account, &edit.group))
}

fn edited(provider: &Provider, outcome: Result<(), Unchanged>) -> Response {
    match outcome {
        Ok(()) => Redirect::to("/").into_response(),
        Err(why) => provider.message(StatusCode::UNPROCESSABLE_ENTITY, "Nothing was changed", &why.to_string()),
    }
}

// ----------------------------------------------------------------------------------------------------------- logins

/// A request to log a user in, checked, while the person is asked who they are.
struct Question {
    protocol: &'static str,
    /// What the groups will look like in the answer.
    shape: fn(&Person) -> String,
    /// Where the choice goes.
    action: &'static str,
    /// What of the request the answer must repeat.
    fields: Vec<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "demo/choose.html")]
struct ChoosePage<'a> {
    party: Party,
    links: &'a Links,
    question: &'a Question,
    people: &'a [Person],
    coveted: &'static str,
}

impl Question {
    fn ask(&self, provider: &Provider) -> Response {
        let people = provider.people.all();
        let links = &provider.links;
        page(
            StatusCode::OK,
            &ChoosePage { party: Party::Provider, links, question: self, people: &people, coveted: COVETED },
        )
    }
}

/// Who was chosen, and the fields of the question.
type Chosen = HashMap<String, String>;

/// Whether the answer is what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Honesty {
    Genuine,
    Forged,
}

impl Provider {
    /// The person that was chosen, as the answer shall describe them, and by whose key it is signed.
    fn chosen(&self, chosen: &Chosen) -> Option<(Person, Honesty)> {
        let mut person = self.people.find(chosen.get("person")?)?;
        if chosen.get("how").is_none_or(|how| how != "forged") {
            return Some((person, Honesty::Genuine));
        }
        if !person.groups.iter().any(|group| group == COVETED) {
            person.groups.push(COVETED.to_owned());
        }
        Some((person, Honesty::Forged))
    }

    fn key(&self, honesty: Honesty) -> &MintKey {
        match honesty {
            Honesty::Genuine => &self.key,
            Honesty::Forged => &self.strangers_key,
        }
    }
}

#[derive(Template)]
#[template(path = "demo/answer.html")]
struct AnswerPage<'a> {
    party: Party,
    links: &'a Links,
    person: &'a Person,
    forged: bool,
    action: &'a str,
    fields: &'a [(&'static str, String)],
    script: &'static str,
}

/// Takes the answer to the app through the browser: a form that sends itself (OAuth 2.0 Form Post Response Mode section 2,
/// SAML Bindings 3.5).
fn answer(
    provider: &Provider,
    person: &Person,
    honesty: Honesty,
    action: &str,
    fields: &[(&'static str, String)],
) -> Response {
    let forged = honesty == Honesty::Forged;
    let links = &provider.links;
    page(StatusCode::OK, &AnswerPage { party: Party::Provider, links, person, forged, action, fields, script: SUBMIT })
}
