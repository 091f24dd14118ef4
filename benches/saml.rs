//! Verifying a SAML response alone: the guard (decoding, one parse, canonical forms), and what follows it (signature, digest, the
//! signed bytes parsed and read). The second should stay below 50 µs at 20 groups and 130 µs at 200.

#![allow(clippy::expect_used, reason = "what cannot be set up cannot be measured")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::Method;
use loginsync::cli::demo::mint::saml::{self, MintAttribute, SamlLogin, Signer, Style};
use loginsync::cli::demo::mint::{Hash, KeyKind, MintKey};
use loginsync::pipeline::capture::{self, Arrival, CallbackMessage, Captured};
use loginsync::pipeline::ids::{Issuer, Namespace, ProviderName, Timestamp};
use loginsync::pipeline::provider::{
    Binding, ClaimLimits, Fold, Mode, Protocol, Provider, SamlPolicy, UserClaim, UserRule, UserTake,
};
use loginsync::pipeline::verify::saml::CertificateSet;
use loginsync::pipeline::verify::{self, Origin, ProviderKeys};

const ISSUER: &str = "https://idp.example/saml";
const AUDIENCE: &str = "https://app.example/saml";
const ACS: &str = "https://app.example/saml/acs";
const NOW: Timestamp = Timestamp(1_769_860_800_000);

fn login(criterion: &mut Criterion) {
    let key = MintKey::generate(KeyKind::Rsa).expect("a key");
    let certificate = key.certificate("idp").expect("a certificate");
    let keys = ProviderKeys::Saml(CertificateSet::from_ders([certificate.clone()]).expect("a set"));
    let provider = [Arc::new(provider())];
    for groups in [20, 200] {
        let form = form(&key, &certificate, groups);
        let mut group = criterion.benchmark_group("SAML login");
        group.bench_function(BenchmarkId::new("guard", groups), |bencher| {
            bencher.iter(|| read(&provider, black_box(&form)));
        });
        let captured = read(&provider, &form);
        group.bench_function(BenchmarkId::new("verification", groups), |bencher| {
            bencher.iter(|| {
                let verdict = verify::verify(black_box(&captured), &keys, &Origin::Watched(Vec::new()), NOW);
                assert!(verdict.is_ok());
            });
        });
        group.finish();
    }
}

fn read(providers: &[Arc<Provider>], form: &str) -> Captured {
    let message = CallbackMessage {
        method: &Method::POST,
        query: None,
        content_type: Some("application/x-www-form-urlencoded"),
        encoded: false,
        body: form.as_bytes(),
    };
    match capture::read(providers, message, 256 * 1024).expect("a message") {
        Arrival::Login(captured) => captured,
        Arrival::NoLogin | Arrival::Denied(_) => unreachable!("it is a login"),
    }
}

fn form(key: &MintKey, certificate: &[u8], groups: usize) -> String {
    let mut login = SamlLogin::new(ISSUER, AUDIENCE, ACS, ("_response-1", "_assertion-1"), NOW.0);
    login.name_id = Some(("alice@example.com".into(), None));
    let values: Vec<String> = (0..groups).map(|group| format!("Engineering Team Number {group}")).collect();
    login.attributes = vec![MintAttribute::of("groups", &values.iter().map(String::as_str).collect::<Vec<_>>())];
    let signer = Signer { key, hash: Hash::Sha256, pss: false, certificate: Some(certificate), style: Style::Prefixed };
    let signed = saml::sign(&saml::assertion(&login), &login.assertion_id, signer).expect("a signature");
    let field = saml::field(&saml::response(&login, &signed));
    form_urlencoded::Serializer::new(String::new()).append_pair("SAMLResponse", &field).finish()
}

fn provider() -> Provider {
    let policy = SamlPolicy {
        audience: AUDIENCE.into(),
        acs_urls: vec![ACS.into()],
        allow_idp_initiated: true,
        allow_cbc: false,
        friendly_names: true,
        decryption_keys: Vec::new(),
    };
    Provider {
        name: ProviderName::parse("idp").expect("a name"),
        issuer: Issuer::parse(ISSUER).expect("an issuer"),
        issuer_aliases: Vec::new(),
        mode: Mode::SamlPost,
        protocol: Protocol::Saml(policy),
        callbacks: vec!["/saml/acs".into()],
        binding: Binding::Require,
        stages: Vec::new(),
        user: UserRule {
            namespace: Namespace::parse("idp").expect("a namespace"),
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

criterion_group!(benches, login);
criterion_main!(benches);
