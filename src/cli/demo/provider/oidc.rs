//! The provider's OIDC side: the implicit flow with `form_post`, which is what an app asks for when it wants an `id_token`
//! posted to its callback (OpenID Connect Core 1.0 section 3.2).

use std::sync::Arc;

use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::fresh_id;
use super::super::mint::oidc as mint;
use super::super::people::Person;
use super::{Chosen, Honesty, Provider, Question, answer};

const KEY_ID: &str = "demo";
/// Seconds that an ID token is good for.
const LIFETIME: i64 = 300;

pub fn routes() -> Router<Arc<Provider>> {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/jwks", get(jwks))
        .route("/authorize", get(ask).post(choose))
}

/// OpenID Connect Discovery 1.0 section 3.
async fn discovery(State(provider): State<Arc<Provider>>) -> Json<Value> {
    let issuer = &provider.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["id_token"],
        "response_modes_supported": ["form_post"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
        "claims_supported": ["sub", "name", "email", "account", "groups"],
    }))
}

async fn jwks(State(provider): State<Arc<Provider>>) -> Response {
    match mint::jwk(&provider.key, KEY_ID) {
        Ok(key) => Json(mint::jwks(&[key])).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// An authentication request (OpenID Connect Core 1.0 section 3.2.2.1).
#[derive(Deserialize)]
struct AuthenticationRequest {
    client_id: Option<String>,
    redirect_uri: Option<String>,
    response_type: Option<String>,
    response_mode: Option<String>,
    scope: Option<String>,
    state: Option<String>,
    nonce: Option<String>,
}

async fn ask(State(provider): State<Arc<Provider>>, Query(request): Query<AuthenticationRequest>) -> Response {
    match check(&provider, request) {
        Ok(question) => question.ask(&provider),
        Err(why) => provider.message(StatusCode::BAD_REQUEST, "That is not offered here", why),
    }
}

fn check(provider: &Provider, request: AuthenticationRequest) -> Result<Question, &'static str> {
    if request.client_id.as_deref() != Some(&provider.app.client_id) {
        return Err("No app with this “client_id” is registered.");
    }
    // Anywhere else the answer would go to a stranger.
    if request.redirect_uri.as_deref() != Some(&provider.app.redirect_uri) {
        return Err("The “redirect_uri” is not the one that is registered for the app.");
    }
    if request.response_type.as_deref() != Some("id_token") || request.response_mode.as_deref() != Some("form_post") {
        return Err("Only “response_type=id_token” with “response_mode=form_post” is offered.");
    }
    if !request.scope.unwrap_or_default().split(' ').any(|scope| scope == "openid") {
        return Err("The “scope” lacks “openid”.");
    }
    let nonce = request.nonce.ok_or("A “nonce” is required where the answer is an ID token.")?;
    let mut fields = vec![("nonce", nonce)];
    fields.extend(request.state.map(|state| ("state", state)));
    Ok(Question { protocol: "OIDC", shape: in_words, action: "/authorize", fields })
}

/// The groups as the token carries them.
fn in_words(person: &Person) -> String {
    json!({ "groups": person.groups }).to_string()
}

async fn choose(State(provider): State<Arc<Provider>>, Form(chosen): Form<Chosen>) -> Response {
    let Some((person, honesty)) = provider.chosen(&chosen) else {
        return provider.message(StatusCode::NOT_FOUND, "No such user", "The provider has no user of this name.");
    };
    let Some(token) = id_token(&provider, &person, honesty, chosen.get("nonce")) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut fields = vec![("id_token", token)];
    fields.extend(chosen.get("state").map(|state| ("state", state.clone())));
    answer(&provider, &person, honesty, &provider.app.redirect_uri, &fields)
}

/// OpenID Connect Core 1.0 section 2.
fn id_token(provider: &Provider, person: &Person, honesty: Honesty, nonce: Option<&String>) -> Option<String> {
    let now = provider.clock.now().seconds();
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": KEY_ID });
    let claims = json!({
        "iss": provider.issuer,
        "aud": provider.app.client_id,
        "sub": format!("demo|{}", person.account),
        "iat": now,
        "exp": now.saturating_add(LIFETIME),
        "jti": fresh_id().ok()?,
        "nonce": nonce,
        "account": person.account,
        "name": person.name,
        "preferred_username": person.account,
        "email": person.email,
        "groups": person.groups,
    });
    mint::id_token(provider.key(honesty), "RS256", &header, &claims).ok()
}
