//! From a verified login and what came beside it to the claims that mappings read.

mod presets;
mod reading;
mod sources;

use std::sync::Arc;

use loginsync::cli::demo::mint::saml::{self, MintAttribute as Attribute, SamlLogin};
use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::capture::{self, Arrival, CallbackMessage};
use loginsync::pipeline::provider::Provider;
use loginsync::pipeline::verify::oidc::KeySet;
use loginsync::pipeline::verify::saml::CertificateSet;
use loginsync::pipeline::verify::{self, Assertion, Origin, ProviderKeys, Remembered, RememberedRequest, Verified};
use serde_json::Value;

use crate::fixtures::{
    NOW, SAML_ACS, SAML_AUDIENCE, SAML_REQUEST, Signs, folder, id_token_claims, saml_document, signed_id_token,
};

const ISSUER: &str = "https://idp.example.com";
const CLIENT: &str = "the-app";

/// A provider by what its configuration says beside the usual.
fn oidc_provider(own: &str) -> Provider {
    provider(&format!(
        "mode = 'oidc-form-post'\nissuer = '{ISSUER}'\nclient_id = '{CLIENT}'\ncallback = '/callback'\n\
         jwks_file = '../tokens/jwks.json'\nauthorization_endpoint = 'https://idp.example.com/authorize'\n{own}\n"
    ))
}

fn saml_provider(own: &str) -> Provider {
    provider(&format!(
        "mode = 'saml-post'\nissuer = '{ISSUER}'\naudience = '{SAML_AUDIENCE}'\ncallback = '/saml/acs'\n\
         certificate_files = ['../keys/idp-rsa.certificate.test-only.pem']\nsso_url = 'https://idp.example.com/sso'\n{own}\n"
    ))
}

fn provider(own: &str) -> Provider {
    let config = load(own).unwrap_or_else(|faults| panic!("{faults}"));
    Provider::clone(&config.providers[0].provider)
}

fn load(own: &str) -> Result<Config, loginsync::config::problem::Faults> {
    let text = format!(
        "public_url = 'https://app.example.com'\n[app]\nurl = 'http://127.0.0.1:3000'\n[[provider]]\nname = 'idp'\n{own}"
    );
    let file = folder("login").join("claims.toml");
    let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    Config::from_text(&text, &around)
}

/// A login of alice with these claims, signed and verified.
fn id_token(provider: &Provider, own: &Value) -> Verified<Assertion> {
    signed(provider, &signed_id_token(&id_token_claims(provider.issuer.as_str(), CLIENT, own), "idp-rsa"))
}

fn signed(provider: &Provider, token: &str) -> Verified<Assertion> {
    let jwks = std::fs::read(folder("tokens").join("jwks.json")).unwrap();
    let keys = ProviderKeys::Oidc(KeySet::read(&jwks).unwrap());
    let request = RememberedRequest::Oidc { state: Some("s".into()), nonce: Some("nonce-1".into()) };
    verified(provider, &format!("id_token={token}&state=s"), &keys, request)
}

/// A login of alice with these attributes, signed and verified.
fn saml_login(provider: &Provider, attributes: Vec<Attribute>) -> Verified<Assertion> {
    let mut login = SamlLogin::new(provider.issuer.as_str(), SAML_AUDIENCE, SAML_ACS, ("_r-1", "_a-1"), NOW.0);
    login.in_response_to = Some(SAML_REQUEST.into());
    let format = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified";
    login.name_id = Some(("alice".into(), Some(format.into())));
    login.attributes = attributes;
    assertion(provider, &saml_document(&login, Signs::Assertion, "idp-rsa"))
}

fn assertion(provider: &Provider, document: &str) -> Verified<Assertion> {
    let pem = std::fs::read(folder("keys").join("idp-rsa.certificate.test-only.pem")).unwrap();
    let keys = ProviderKeys::Saml(CertificateSet::from_pem(&pem).unwrap());
    let field: String = form_urlencoded::byte_serialize(saml::field(document).as_bytes()).collect();
    let request = RememberedRequest::Saml { request_id: SAML_REQUEST.into() };
    verified(provider, &format!("SAMLResponse={field}"), &keys, request)
}

fn attribute(name: &str, values: &[&str]) -> Attribute {
    Attribute::of(name, values)
}

fn verified(provider: &Provider, body: &str, keys: &ProviderKeys, request: RememberedRequest) -> Verified<Assertion> {
    let message = CallbackMessage {
        method: &http::Method::POST,
        query: None,
        content_type: Some("application/x-www-form-urlencoded"),
        encoded: false,
        body: body.as_bytes(),
    };
    let Arrival::Login(captured) = capture::read(&[Arc::new(provider.clone())], message, 1 << 20).unwrap() else {
        panic!("no login")
    };
    let origin = Origin::Watched(vec![Remembered { provider: provider.name.clone(), request }]);
    verify::verify(&captured, keys, &origin, NOW).unwrap()
}
