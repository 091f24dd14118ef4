//! What the verification tests share: providers, keys, and one way in, which is the one that a real login takes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use loginsync_mint::MintKey;
use loginsync_mint::saml::{self, SamlLogin, Signer, Style};
use loginsync_mint::{Hash, saml::MintAttribute};
use loginsync_pipeline::capture::{self, Arrival, CallbackMessage};
use loginsync_pipeline::ids::{Issuer, Namespace, ProviderName, Timestamp};
use loginsync_pipeline::provider::decryption_key::DecryptionKey;
use loginsync_pipeline::provider::{
    Binding, ClaimLimits, Fold, Mode, OidcPolicy, Protocol, Provider, SamlPolicy, UserClaim, UserRule, UserTake,
};
use loginsync_pipeline::verify::oidc::SigningAlgorithm;
use loginsync_pipeline::verify::saml::CertificateSet;
use loginsync_pipeline::verify::{self, Assertion, Origin, ProviderKeys, Remembered, RememberedRequest};

pub const ISSUER: &str = "https://idp.example/saml";
pub const AUDIENCE: &str = "https://app.example/saml";
pub const ACS: &str = "https://app.example/saml/acs";
pub const OIDC_ISSUER: &str = "https://idp.example/";
pub const CLIENT: &str = "the-app";
pub const REQUEST: &str = "_request-1";
/// 2026-01-31T12:00:00Z.
pub const NOW: Timestamp = Timestamp(1_769_860_800_000);
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// The folder of the repository, from the tests of this package and from those of the whole program.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|folder| folder.join("fixtures").is_dir()).expect("fixtures")
}

pub fn read(path: &str) -> String {
    let path = root().join("fixtures").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn key(name: &str) -> MintKey {
    MintKey::from_pem(&read(&format!("keys/{name}.key.test-only.pem"))).unwrap()
}

pub fn certificates(names: &[&str]) -> CertificateSet {
    let pem: String = names.iter().map(|name| read(&format!("keys/{name}.certificate.test-only.pem"))).collect();
    CertificateSet::from_pem(pem.as_bytes()).unwrap()
}

pub fn saml_policy() -> SamlPolicy {
    SamlPolicy {
        audience: AUDIENCE.into(),
        acs_urls: vec![ACS.into()],
        allow_idp_initiated: false,
        allow_cbc: false,
        friendly_names: true,
        decryption_keys: Vec::new(),
    }
}

pub fn decryption_key() -> Arc<DecryptionKey> {
    Arc::new(DecryptionKey::from_pem(read("keys/app-decryption.key.test-only.pem").as_bytes()).unwrap())
}

pub fn oidc_policy() -> OidcPolicy {
    let algorithms = SigningAlgorithm::names().filter_map(SigningAlgorithm::named).collect();
    OidcPolicy {
        client_id: CLIENT.into(),
        trusted_audiences: Vec::new(),
        authorized_parties: Vec::new(),
        algorithms,
        bearer: None,
    }
}

pub fn provider(protocol: Protocol) -> Provider {
    let issuer = match protocol {
        Protocol::Saml(_) => ISSUER,
        Protocol::Oidc(_) => OIDC_ISSUER,
    };
    Provider {
        name: ProviderName::parse("idp").unwrap(),
        issuer: Issuer::parse(issuer).unwrap(),
        issuer_aliases: Vec::new(),
        mode: if matches!(protocol, Protocol::Saml(_)) { Mode::SamlPost } else { Mode::OidcFormPost },
        protocol,
        callbacks: vec!["/saml/acs".into()],
        binding: Binding::Require,
        stages: Vec::new(),
        user: UserRule {
            namespace: Namespace::parse("idp").unwrap(),
            claim: UserClaim::Subject,
            take: UserTake::Only,
            fold: Fold::Exact,
            email_claim: None,
            name_claim: None,
        },
        claims: Vec::new(),
        overage: None,
        strict: false,
        leeway: Duration::from_secs(60),
        max_age: Duration::from_secs(600),
        limits: ClaimLimits { values: 10_000, bytes: 1 << 20 },
    }
}

pub fn saml_provider() -> Provider {
    provider(Protocol::Saml(saml_policy()))
}

/// The provider with its SAML policy changed.
pub fn saml_provider_with(change: impl FnOnce(&mut SamlPolicy)) -> Provider {
    let mut policy = saml_policy();
    change(&mut policy);
    provider(Protocol::Saml(policy))
}

pub fn remembered() -> Vec<Remembered> {
    let request = RememberedRequest::Saml { request_id: REQUEST.into() };
    vec![Remembered { provider: ProviderName::parse("idp").unwrap(), request }]
}

/// A login that is right in every respect.
pub fn login() -> SamlLogin {
    let mut login = SamlLogin::new(ISSUER, AUDIENCE, ACS, ("_response-1", "_assertion-1"), NOW.0);
    login.in_response_to = Some(REQUEST.into());
    login.name_id = Some(("alice".into(), None));
    login.attributes = vec![MintAttribute::of("groups", &["staff", "admins & more"])];
    login
}

pub fn signer(key: &MintKey) -> Signer<'_> {
    Signer { key, hash: Hash::Sha256, pss: false, certificate: None, style: Style::Prefixed }
}

/// A response with a signed assertion.
pub fn signed_assertion(login: &SamlLogin, key: &MintKey) -> String {
    let signer = Signer { style: login.style, ..signer(key) };
    let assertion = saml::sign(&saml::assertion(login), &login.assertion_id, signer).unwrap();
    saml::response(login, &assertion)
}

/// A signed response with an unsigned assertion.
pub fn signed_response(login: &SamlLogin, key: &MintKey) -> String {
    let signer = Signer { style: login.style, ..signer(key) };
    saml::sign(&saml::response(login, &saml::assertion(login)), &login.response_id, signer).unwrap()
}

/// A signed response with a signed assertion.
pub fn signed_twice(login: &SamlLogin, key: &MintKey) -> String {
    let signer = Signer { style: login.style, ..signer(key) };
    saml::sign(&signed_assertion(login, key), &login.response_id, signer).unwrap()
}

/// A form body with one field.
pub fn body(name: &str, value: &str) -> String {
    form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish()
}

/// Sends a document through capture and verification. A refusal is told as its message, with its stage.
pub fn submit(
    provider: &Provider,
    certificates: &CertificateSet,
    document: &str,
    remembered: &[Remembered],
) -> Result<Assertion, String> {
    let keys = ProviderKeys::Saml(certificates.clone());
    submit_body(provider, &keys, &body("SAMLResponse", &saml::field(document)), remembered, NOW)
}

pub fn submit_body(
    provider: &Provider,
    keys: &ProviderKeys,
    body: &str,
    remembered: &[Remembered],
    now: Timestamp,
) -> Result<Assertion, String> {
    submit_by(&Origin::Watched(remembered.to_vec()), provider, keys, body, now)
}

/// Sends a form through capture and verification as if it had come that way.
pub fn submit_by(
    origin: &Origin,
    provider: &Provider,
    keys: &ProviderKeys,
    body: &str,
    now: Timestamp,
) -> Result<Assertion, String> {
    let message = CallbackMessage {
        method: &Method::POST,
        query: None,
        content_type: Some("application/x-www-form-urlencoded"),
        encoded: false,
        body: body.as_bytes(),
    };
    let captured = match capture::read(&[Arc::new(provider.clone())], message, MAX_DOCUMENT) {
        Ok(Arrival::Login(captured)) => captured,
        Ok(Arrival::NoLogin | Arrival::Denied(_)) => return Err("capture: no login".into()),
        Err(refusal) => return Err(format!("capture: {refusal}")),
    };
    match verify::verify(&captured, keys, origin, now) {
        Ok(verified) => Ok(verified.get().clone()),
        Err(refused) => {
            let signed = if refused.signed.is_some() { "signed" } else { "unsigned" };
            Err(format!("verify, {signed}: {}", refused.fault))
        }
    }
}

/// Processor time of this thread so far: unlike the clock's, it does not grow while other tests run. Zero where the system
/// does not tell.
pub fn processor_time() -> Duration {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = spent.split(' ').next().and_then(|spent| spent.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}
