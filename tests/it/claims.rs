//! From a verified login and what came beside it to the claims that mappings read.

mod sources;

use std::path::Path;
use std::sync::Arc;

use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::capture::{self, Arrival, CallbackMessage};
use loginsync::pipeline::provider::Provider;
use loginsync::pipeline::verify::oidc::KeySet;
use loginsync::pipeline::verify::{self, Assertion, Origin, ProviderKeys, Remembered, RememberedRequest, Verified};
use serde_json::Value;

use crate::fixtures::{NOW, folder, id_token_claims, signed_id_token};

const ISSUER: &str = "https://idp.example.com";
const CLIENT: &str = "the-app";

/// A provider by what its configuration says beside the usual.
fn oidc_provider(own: &str) -> Provider {
    let text = format!(
        "public_url = 'https://app.example.com'\n[app]\nurl = 'http://127.0.0.1:3000'\n[[provider]]\nname = 'idp'\n\
         mode = 'oidc-form-post'\nissuer = '{ISSUER}'\nclient_id = '{CLIENT}'\ncallback = '/callback'\n\
         jwks_file = '../tokens/jwks.json'\nauthorization_endpoint = 'https://idp.example.com/authorize'\n{own}\n"
    );
    let file = folder("login").join("claims.toml");
    let config = load(&file, &text).unwrap_or_else(|faults| panic!("{faults}"));
    Provider::clone(&config.providers[0].provider)
}

fn load(file: &Path, text: &str) -> Result<Config, loginsync::config::problem::Faults> {
    let around = Surroundings { file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    Config::from_text(text, &around)
}

/// A login of alice with these claims, signed and verified.
fn id_token(provider: &Provider, own: &Value) -> Verified<Assertion> {
    let token = signed_id_token(&id_token_claims(provider.issuer.as_str(), CLIENT, own), "idp-rsa");
    let body = format!("id_token={token}&state=s");
    let message = CallbackMessage {
        method: &http::Method::POST,
        query: None,
        content_type: Some("application/x-www-form-urlencoded"),
        encoded: false,
        body: body.as_bytes(),
    };
    let Arrival::Login(captured) = capture::read(&[Arc::new(provider.clone())], message, 0).unwrap() else {
        panic!("no login")
    };
    let jwks = std::fs::read(folder("tokens").join("jwks.json")).unwrap();
    let keys = ProviderKeys::Oidc(KeySet::from_jwks(serde_json::from_slice(&jwks).unwrap()));
    let request = RememberedRequest::Oidc { state: Some("s".into()), nonce: Some("nonce-1".into()) };
    let origin = Origin::Watched(vec![Remembered { provider: provider.name.clone(), request }]);
    verify::verify(&captured, &keys, &origin, NOW).unwrap()
}
