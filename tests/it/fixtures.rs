//! Where the data under `fixtures/login`, `fixtures/tokens` and `fixtures/saml/shapes` comes from.
//!
//! `make fixtures` (this file with `BLESS=1`) writes all of it anew from the tables below and the test keys. Without it, a
//! test compares what is on disk with what would be written, so that nobody edits a token by hand. Times are arguments:
//! every token was issued at [`NOW`], and no fixture ages.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use loginsync::cli::demo::mint::saml::{
    ContentEncryption, KeyTransport, MintAttribute, MintValue, Recipient, SamlLogin, Signer, Style,
};
use loginsync::cli::demo::mint::{Hash, MintKey, oidc, saml};
use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::capture::{self, Arrival, CallbackMessage};
use loginsync::pipeline::claims;
use loginsync::pipeline::claims::sources::Sources;
use loginsync::pipeline::ids::Timestamp;
use loginsync::pipeline::provider::Provider;
use loginsync::pipeline::verify::oidc::KeySet;
use loginsync::pipeline::verify::saml::CertificateSet;
use loginsync::pipeline::verify::{self, Origin, ProviderKeys, Remembered, RememberedRequest};
use serde_json::{Value, json};

/// 2026-03-01T12:00:00Z.
pub const NOW: Timestamp = Timestamp(1_772_366_400_000);

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

pub fn key(name: &str) -> MintKey {
    MintKey::from_pem(&std::fs::read_to_string(folder("keys").join(format!("{name}.key.test-only.pem"))).unwrap())
        .unwrap()
}

pub fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

/// Writes a fixture when blessing, else compares it.
pub fn settle(path: &Path, expected: &str) {
    if blessing() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, expected, "{} differs; `make fixtures` writes it anew", path.display());
}

// ------------------------------------------------------------------------------------------------ shapes of providers

/// An ID token as one provider writes it, and what its claims come to.
pub struct TokenShape {
    pub name: &'static str,
    pub source: &'static str,
    pub issuer: &'static str,
    pub client_id: &'static str,
    /// The claim that carries groups, as a selector.
    pub groups: &'static str,
    pub expected: &'static [&'static str],
    pub user_claim: &'static str,
    pub user: &'static str,
    pub claims: fn() -> Value,
}

pub const TOKEN_SHAPES: &[TokenShape] = &[
    TokenShape {
        name: "okta",
        source: "developer.okta.com, OpenID Connect API, ID token payload; groups claim of an org authorization server",
        issuer: "https://example.okta.com",
        client_id: "0oa1example",
        groups: "groups",
        expected: &["Everyone", "Engineering"],
        user_claim: "sub",
        user: "00u1alice",
        claims: || {
            json!({"sub": "00u1alice", "ver": 1, "jti": "ID.okta-1", "amr": ["pwd", "mfa"], "idp": "00o1example",
                "auth_time": 1_772_366_390, "at_hash": "preview_at_hash", "name": "Alice Example", "email": "alice@example.com",
                "preferred_username": "alice@example.com", "email_verified": true, "groups": ["Everyone", "Engineering"]})
        },
    },
    TokenShape {
        name: "entra-v2",
        source: "learn.microsoft.com, ID token claims reference (v2.0)",
        issuer: "https://login.microsoftonline.com/4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10/v2.0",
        client_id: "5b1f0f3e-6f0d-4c1c-8a93-0a6fd6a3b1c2",
        groups: "groups",
        expected: &["2f1c7d0a-51f2-4a5e-8a46-8b6f8c3b7a11", "c7c9a1ab-8a39-4b0e-93a4-2b7a8a8f1a52"],
        user_claim: "oid",
        user: "b4a0f5a6-1f9a-4c1e-9d60-0d4d50f6ab01",
        claims: || {
            json!({"ver": "2.0", "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ", "tid": "4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10",
                "oid": "b4a0f5a6-1f9a-4c1e-9d60-0d4d50f6ab01", "name": "Alice Example", "preferred_username": "alice@example.com",
                "uti": "uti-1", "rh": "0.AAAA", "nbf": 1_772_366_400,
                "groups": ["2f1c7d0a-51f2-4a5e-8a46-8b6f8c3b7a11", "c7c9a1ab-8a39-4b0e-93a4-2b7a8a8f1a52"]})
        },
    },
    TokenShape {
        name: "entra-v1",
        source: "learn.microsoft.com, ID token claims reference (v1.0)",
        issuer: "https://sts.windows.net/4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10/",
        client_id: "5b1f0f3e-6f0d-4c1c-8a93-0a6fd6a3b1c2",
        groups: "roles",
        expected: &["Task.Approver"],
        user_claim: "oid",
        user: "b4a0f5a6-1f9a-4c1e-9d60-0d4d50f6ab01",
        claims: || {
            json!({"ver": "1.0", "sub": "subject-v1", "tid": "4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10", "amr": ["pwd"],
                "oid": "b4a0f5a6-1f9a-4c1e-9d60-0d4d50f6ab01", "unique_name": "alice@example.com", "upn": "alice@example.com",
                "family_name": "Example", "given_name": "Alice", "ipaddr": "192.0.2.1", "nbf": 1_772_366_400,
                "roles": ["Task.Approver"]})
        },
    },
    TokenShape {
        name: "keycloak",
        source: "www.keycloak.org, server administration guide: group membership mapper (full path) and realm roles",
        issuer: "https://keycloak.example.com/realms/staff",
        client_id: "app",
        groups: "/realm_access/roles",
        expected: &["editor", "offline_access"],
        user_claim: "sub",
        user: "f1c0a3a1-1f37-44a5-bb27-8e0a4ad0a1f0",
        claims: || {
            json!({"sub": "f1c0a3a1-1f37-44a5-bb27-8e0a4ad0a1f0", "jti": "kc-1", "typ": "ID", "azp": "app", "acr": "1",
                "sid": "session-1", "auth_time": 1_772_366_390, "email_verified": true, "preferred_username": "alice",
                "groups": ["/sales/admin", "/engineering"], "realm_access": {"roles": ["editor", "offline_access"]},
                "resource_access": {"app": {"roles": ["publisher"]}, "other": {"roles": ["admin"]}}})
        },
    },
    TokenShape {
        name: "adfs",
        source: "learn.microsoft.com, AD FS OpenID Connect: claim types by their short names",
        issuer: "https://adfs.example.com/adfs",
        client_id: "adfs-client",
        groups: "group",
        expected: &["Domain Users", "Engineering"],
        user_claim: "sub",
        user: "alice-subject",
        claims: || {
            json!({"sub": "alice-subject", "auth_time": 1_772_366_390, "unique_name": "EXAMPLE\\alice", "upn": "alice@example.com",
                "email": "alice@example.com", "group": ["Domain Users", "Engineering"], "role": "editor", "sid": "S-1-5-21-1"})
        },
    },
    TokenShape {
        name: "google",
        source: "developers.google.com, OpenID Connect, ID token payload; Workspace sends no groups, `hd` names the domain",
        issuer: "https://accounts.google.com",
        client_id: "1234987819200.apps.googleusercontent.com",
        groups: "hd",
        expected: &["example.com"],
        user_claim: "sub",
        user: "10769150350006150715113082367",
        claims: || {
            json!({"sub": "10769150350006150715113082367", "azp": "1234987819200.apps.googleusercontent.com",
                "email": "alice@example.com", "email_verified": "true", "hd": "example.com", "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q"})
        },
    },
    TokenShape {
        name: "auth0",
        source: "auth0.com/docs, custom claims: names are addresses",
        issuer: "https://example.eu.auth0.com/",
        client_id: "auth0client",
        groups: "https://app.example.com/roles",
        expected: &["editor"],
        user_claim: "sub",
        user: "auth0|5f7c8ec7c33c6c004bbafe82",
        claims: || {
            json!({"sub": "auth0|5f7c8ec7c33c6c004bbafe82", "nickname": "alice", "name": "alice@example.com",
                "updated_at": "2026-03-01T11:59:00.000Z", "email": "alice@example.com", "email_verified": true,
                "https://app.example.com/roles": "editor"})
        },
    },
    TokenShape {
        name: "ping",
        source: "docs.pingidentity.com, PingFederate OpenID Connect policy: attribute contract with a multi-valued attribute",
        issuer: "https://ping.example.com",
        client_id: "ac_client",
        groups: "memberOf",
        expected: &["CN=Engineering,OU=Groups,DC=example,DC=com", "CN=Staff,OU=Groups,DC=example,DC=com"],
        user_claim: "sub",
        user: "alice",
        claims: || {
            json!({"sub": "alice", "jti": "ping-1", "auth_time": 1_772_366_390, "pi.sri": "session",
                "memberOf": ["CN=Engineering,OU=Groups,DC=example,DC=com", "CN=Staff,OU=Groups,DC=example,DC=com"]})
        },
    },
    TokenShape {
        name: "onelogin",
        source: "developers.onelogin.com, OpenID Connect, groups scope",
        issuer: "https://example.onelogin.com/oidc/2",
        client_id: "9a1b2c30-example",
        groups: "groups",
        expected: &["Marketing", "Sales"],
        user_claim: "sub",
        user: "41853121",
        claims: || {
            json!({"sub": "41853121", "email": "alice@example.com", "name": "Alice Example", "preferred_username": "alice",
                "sid": "ff7b9b4e", "groups": ["Marketing", "Sales"]})
        },
    },
    TokenShape {
        name: "cognito",
        source: "docs.aws.amazon.com, Cognito user pools, ID token payload",
        issuer: "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Example",
        client_id: "7example",
        groups: "cognito:groups",
        expected: &["admins", "eu-west-1_Example_Saml"],
        user_claim: "sub",
        user: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        claims: || {
            json!({"sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "cognito:groups": ["admins", "eu-west-1_Example_Saml"],
                "cognito:username": "alice", "token_use": "id", "auth_time": 1_772_366_390, "email_verified": true,
                "event_id": "64f513be", "origin_jti": "origin", "jti": "cognito-1"})
        },
    },
    TokenShape {
        name: "gitlab",
        source: "docs.gitlab.com, GitLab as OpenID Connect provider, shared information",
        issuer: "https://gitlab.example.com",
        client_id: "gitlabclient",
        groups: "groups_direct",
        expected: &["platform/sre"],
        user_claim: "sub",
        user: "42",
        claims: || {
            json!({"sub": "42", "sub_legacy": "legacy", "auth_time": 1_772_366_390, "nickname": "alice",
                "groups_direct": ["platform/sre"]})
        },
    },
];

/// A SAML response as one provider writes it.
pub struct SamlShape {
    pub name: &'static str,
    pub source: &'static str,
    pub issuer: &'static str,
    pub name_id: (&'static str, &'static str),
    pub groups: &'static str,
    pub delimiter: Option<&'static str>,
    pub expected: &'static [&'static str],
    pub sign: Signs,
    pub style: Style,
    pub attributes: fn() -> Vec<MintAttribute>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    Assertion,
    Response,
    Both,
}

const PERSISTENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent";
const EMAIL: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress";
const UNSPECIFIED: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified";
const TRANSIENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient";

fn friendly(name: &str, friendly: &str, values: &[&str]) -> MintAttribute {
    MintAttribute { friendly_name: Some(friendly.into()), ..MintAttribute::of(name, values) }
}

pub const SAML_SHAPES: &[SamlShape] = &[
    SamlShape {
        name: "adfs",
        source: "learn.microsoft.com, AD FS claim types; token groups as unqualified names",
        issuer: "http://adfs.example.com/adfs/services/trust",
        name_id: ("alice@example.com", EMAIL),
        groups: "http://schemas.xmlsoap.org/claims/Group",
        delimiter: None,
        expected: &["Domain Users", "Engineering"],
        sign: Signs::Assertion,
        style: Style::DefaultNamespaces,
        attributes: || {
            vec![
                MintAttribute::of("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn", &["alice@example.com"]),
                MintAttribute::of("http://schemas.xmlsoap.org/claims/Group", &["Domain Users", "Engineering"]),
            ]
        },
    },
    SamlShape {
        name: "okta",
        source: "help.okta.com, group attribute statements",
        issuer: "http://www.okta.com/exk1example",
        name_id: ("alice@example.com", EMAIL),
        groups: "groups",
        delimiter: None,
        expected: &["Everyone", "Engineering"],
        sign: Signs::Both,
        style: Style::Typed,
        attributes: || vec![MintAttribute::of("groups", &["Everyone", "Engineering"])],
    },
    SamlShape {
        name: "entra",
        source: "learn.microsoft.com, SAML token claims reference",
        issuer: "https://sts.windows.net/4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10/",
        name_id: ("alice@example.com", EMAIL),
        groups: "http://schemas.microsoft.com/ws/2008/06/identity/claims/groups",
        delimiter: None,
        expected: &["2f1c7d0a-51f2-4a5e-8a46-8b6f8c3b7a11"],
        sign: Signs::Assertion,
        style: Style::DefaultNamespaces,
        attributes: || {
            vec![
                MintAttribute::of(
                    "http://schemas.microsoft.com/identity/claims/tenantid",
                    &["4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10"],
                ),
                MintAttribute::of(
                    "http://schemas.microsoft.com/identity/claims/objectidentifier",
                    &["b4a0f5a6-1f9a-4c1e-9d60-0d4d50f6ab01"],
                ),
                MintAttribute::of(
                    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
                    &["alice@example.com"],
                ),
                MintAttribute::of("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name", &["alice@example.com"]),
                MintAttribute::of("http://schemas.microsoft.com/ws/2008/06/identity/claims/role", &["Task.Approver"]),
                MintAttribute::of(
                    "http://schemas.microsoft.com/ws/2008/06/identity/claims/groups",
                    &["2f1c7d0a-51f2-4a5e-8a46-8b6f8c3b7a11"],
                ),
            ]
        },
    },
    SamlShape {
        name: "keycloak",
        source: "www.keycloak.org, group list mapper without a single attribute: one Attribute element a group",
        issuer: "https://keycloak.example.com/realms/staff",
        name_id: ("G-3a7c5c1e-7f36-4b4d-8a3e-6a1ad8f0d7b5", PERSISTENT),
        groups: "member",
        delimiter: None,
        expected: &["/engineering", "/sales/admin"],
        sign: Signs::Response,
        style: Style::Prefixed,
        attributes: || {
            vec![
                friendly("member", "member", &["/engineering"]),
                MintAttribute::of("Role", &["editor"]),
                friendly("member", "member", &["/sales/admin"]),
            ]
        },
    },
    SamlShape {
        name: "shibboleth",
        source: "wiki.shibboleth.net, attribute encoders: OID names with friendly names",
        issuer: "https://idp.example.edu/idp/shibboleth",
        name_id: ("AAdzZWNyZXQx", PERSISTENT),
        groups: "isMemberOf",
        delimiter: None,
        expected: &["urn:mace:example.edu:groups:staff"],
        sign: Signs::Both,
        style: Style::Prefixed,
        attributes: || {
            vec![
                friendly("urn:oid:1.3.6.1.4.1.5923.1.5.1.1", "isMemberOf", &["urn:mace:example.edu:groups:staff"]),
                MintAttribute {
                    friendly_name: Some("eduPersonTargetedID".into()),
                    name: "urn:oid:1.3.6.1.4.1.5923.1.1.1.10".into(),
                    values: vec![MintValue::Markup(
                        "<saml:NameID Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:persistent\">target</saml:NameID>".into(),
                    )],
                },
            ]
        },
    },
    SamlShape {
        name: "onelogin",
        source: "developers.onelogin.com, SAML custom connector: roles as one string with a delimiter",
        issuer: "https://app.onelogin.com/saml/metadata/1234",
        name_id: ("alice@example.com", EMAIL),
        groups: "memberOf",
        delimiter: Some(";"),
        expected: &["Marketing", "Sales & Events"],
        sign: Signs::Assertion,
        style: Style::Typed,
        attributes: || vec![MintAttribute::of("memberOf", &["Marketing; Sales & Events ;"])],
    },
    SamlShape {
        name: "ping",
        source: "docs.pingidentity.com, PingFederate SP connection: multi-valued attribute of DNs",
        issuer: "https://ping.example.com",
        name_id: ("alice", UNSPECIFIED),
        groups: "memberOf",
        delimiter: None,
        expected: &["CN=Engineering,OU=Groups,DC=example,DC=com"],
        sign: Signs::Response,
        style: Style::Prefixed,
        attributes: || vec![MintAttribute::of("memberOf", &["CN=Engineering,OU=Groups,DC=example,DC=com"])],
    },
    SamlShape {
        name: "google",
        source: "support.google.com, custom SAML apps, group membership",
        issuer: "https://accounts.google.com/o/saml2?idpid=C01example",
        name_id: ("alice@example.com", EMAIL),
        groups: "groups",
        delimiter: None,
        expected: &["engineering"],
        sign: Signs::Response,
        style: Style::Prefixed,
        attributes: || vec![MintAttribute::of("groups", &["engineering"])],
    },
    SamlShape {
        name: "auth0",
        source: "auth0.com/docs, default attribute mappings of the SAML2 add-on",
        issuer: "urn:example.eu.auth0.com",
        name_id: ("auth0|5f7c8ec7c33c6c004bbafe82", UNSPECIFIED),
        groups: "http://schemas.xmlsoap.org/claims/Group",
        delimiter: None,
        expected: &["Engineering"],
        sign: Signs::Assertion,
        style: Style::Typed,
        attributes: || {
            vec![
                MintAttribute::of(
                    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
                    &["alice@example.com"],
                ),
                MintAttribute::of("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name", &["Alice Example"]),
                MintAttribute::of("http://schemas.xmlsoap.org/claims/Group", &["Engineering"]),
            ]
        },
    },
];

pub const SAML_AUDIENCE: &str = "https://app.example.com/saml/metadata";
pub const SAML_ACS: &str = "https://app.example.com/saml/acs";
pub const SAML_REQUEST: &str = "_request-1";

/// The claims that every ID token has, under those of its shape.
pub fn id_token_claims(issuer: &str, client_id: &str, own: &Value) -> Value {
    let mut claims =
        json!({"iss": issuer, "aud": client_id, "iat": NOW.seconds(), "exp": NOW.seconds() + 3600, "nonce": "nonce-1"});
    if let (Some(claims), Some(own)) = (claims.as_object_mut(), own.as_object()) {
        claims.extend(own.clone());
    }
    claims
}

pub fn signed_id_token(claims: &Value, signer: &str) -> String {
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": signer});
    oidc::id_token(&key(signer), "RS256", &header, claims).unwrap()
}

fn shape_login(shape: &SamlShape) -> SamlLogin {
    let mut login = SamlLogin::new(shape.issuer, SAML_AUDIENCE, SAML_ACS, ("_response-1", "_assertion-1"), NOW.0);
    login.in_response_to = Some(SAML_REQUEST.into());
    login.name_id = Some((shape.name_id.0.into(), Some(shape.name_id.1.into())));
    login.attributes = (shape.attributes)();
    login.style = shape.style;
    login
}

/// Writes a login as a document, signed as asked.
pub fn saml_document(login: &SamlLogin, signs: Signs, signer: &str) -> String {
    let key = key(signer);
    let signer = Signer { key: &key, hash: Hash::Sha256, pss: false, certificate: None, style: login.style };
    let assertion = saml::assertion(login);
    let assertion = match signs {
        Signs::Response => assertion,
        Signs::Assertion | Signs::Both => saml::sign(&assertion, &login.assertion_id, signer).unwrap(),
    };
    let response = saml::response(login, &assertion);
    match signs {
        Signs::Assertion => response,
        Signs::Response | Signs::Both => saml::sign(&response, &login.response_id, signer).unwrap(),
    }
}

#[test]
fn tokens_of_every_provider_are_current() {
    let jwks = oidc::jwks(&[oidc::jwk(&key("idp-rsa"), "idp-rsa").unwrap()]);
    settle(&folder("tokens").join("jwks.json"), &pretty(&jwks));
    for shape in TOKEN_SHAPES {
        let claims = id_token_claims(shape.issuer, shape.client_id, &(shape.claims)());
        settle(
            &folder("tokens").join(format!("{}.json", shape.name)),
            &pretty(&json!({"source": shape.source, "claims": claims})),
        );
        settle(&folder("tokens").join(format!("{}.jwt", shape.name)), &signed_id_token(&claims, "idp-rsa"));
    }
}

#[test]
fn assertions_of_every_provider_are_current() {
    let sources: serde_json::Map<String, Value> =
        SAML_SHAPES.iter().map(|shape| (shape.name.to_owned(), json!(shape.source))).collect();
    settle(&folder("saml").join("shapes").join("sources.json"), &pretty(&Value::Object(sources)));
    for shape in SAML_SHAPES {
        let document = saml_document(&shape_login(shape), shape.sign, "idp-rsa");
        settle(&folder("saml").join("shapes").join(format!("{}.xml", shape.name)), &document);
    }
}

/// A provider as the configuration would have it.
fn provider(
    name: &str,
    protocol: &str,
    groups: &str,
    delimiter: Option<&str>,
    user_claim: Option<&str>,
) -> Arc<Provider> {
    let user = user_claim.map(|claim| format!("user_claim = '{claim}'")).unwrap_or_default();
    let delimiter = delimiter.map(|delimiter| format!("delimiter = '{delimiter}'")).unwrap_or_default();
    let text = format!(
        "public_url = 'https://app.example.com'\n[app]\nurl = 'http://127.0.0.1:3000'\n[[provider]]\nname = '{name}'\n\
         {protocol}\n{user}\n[provider.claims.groups]\nname = '{groups}'\n{delimiter}\n"
    );
    let file = folder("login").join("shape.toml");
    let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    let config = Config::from_text(&text, &around).unwrap_or_else(|faults| panic!("{faults}"));
    Arc::clone(&config.providers[0].provider)
}

fn read_groups(arrival: Arrival, keys: &ProviderKeys, remembered: &[Remembered]) -> (String, Vec<String>) {
    let Arrival::Login(captured) = arrival else { panic!("expected a login") };
    let verified = verify::verify(&captured, keys, &Origin::Watched(remembered.to_vec()), NOW).unwrap();
    let claims = claims::read(&verified, &Sources::default(), &captured.provider, &|_| true).unwrap();
    let groups = claims.claims[0].pieces(None).into_iter().map(str::to_owned).collect();
    (claims.user.subject.to_string(), groups)
}

fn posted(body: &str) -> CallbackMessage<'_> {
    CallbackMessage {
        method: &http::Method::POST,
        query: None,
        content_type: Some("application/x-www-form-urlencoded"),
        encoded: false,
        body: body.as_bytes(),
    }
}

#[test]
fn the_id_token_of_every_provider_is_read() {
    let jwks = std::fs::read(folder("tokens").join("jwks.json")).unwrap();
    let keys = ProviderKeys::Oidc(KeySet::read(&jwks).unwrap());
    for shape in TOKEN_SHAPES {
        let token = std::fs::read_to_string(folder("tokens").join(format!("{}.jwt", shape.name))).unwrap();
        let protocol = format!(
            "mode = 'oidc-form-post'\nissuer = '{}'\nclient_id = '{}'\ncallback = '/callback'\njwks_file = '../tokens/jwks.json'\nauthorization_endpoint = 'https://idp.example.com/authorize'",
            shape.issuer, shape.client_id
        );
        let provider = provider(shape.name, &protocol, shape.groups, None, Some(shape.user_claim));
        let arrival = capture::read(&[Arc::clone(&provider)], posted(&format!("id_token={token}&state=s")), 0).unwrap();
        let request = RememberedRequest::Oidc { state: Some("s".into()), nonce: Some("nonce-1".into()) };
        let remembered = Remembered { provider: provider.name.clone(), request };
        let (user, groups) = read_groups(arrival, &keys, &[remembered]);
        assert_eq!((user.as_str(), groups), (shape.user, shape.expected.iter().map(ToString::to_string).collect()));
    }
}

#[test]
fn the_assertion_of_every_provider_is_read() {
    let pem = std::fs::read_to_string(folder("keys").join("idp-rsa.certificate.test-only.pem")).unwrap();
    let keys = ProviderKeys::Saml(CertificateSet::from_pem(pem.as_bytes()).unwrap());
    for shape in SAML_SHAPES {
        let document =
            std::fs::read_to_string(folder("saml").join("shapes").join(format!("{}.xml", shape.name))).unwrap();
        let protocol = format!(
            "mode = 'saml-post'\nissuer = '{}'\naudience = '{SAML_AUDIENCE}'\ncallback = '/saml/acs'\n\
             certificate_files = ['../keys/idp-rsa.certificate.test-only.pem']\nsso_url = 'https://idp.example.com/sso'",
            shape.issuer
        );
        let provider = provider(shape.name, &protocol, shape.groups, shape.delimiter, None);
        let field: String = form_urlencoded::byte_serialize(saml::field(&document).as_bytes()).collect();
        let body = format!("SAMLResponse={field}");
        let arrival = capture::read(&[Arc::clone(&provider)], posted(&body), 1 << 20).unwrap();
        let request = RememberedRequest::Saml { request_id: SAML_REQUEST.into() };
        let remembered = Remembered { provider: provider.name.clone(), request };
        let (user, groups) = read_groups(arrival, &keys, &[remembered]);
        let expected: Vec<String> = shape.expected.iter().map(ToString::to_string).collect();
        assert_eq!((user.as_str(), groups), (shape.name_id.0, expected), "{}", shape.name);
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

// ------------------------------------------------------------------------------------------------------- login cases

/// One login as data: what is on disk is what the test reads; this table is how it got there.
pub struct Case {
    pub name: &'static str,
    pub title: &'static str,
    /// Added to the common configuration.
    pub config: &'static str,
    /// Grants, denies and watermarks before, as JSON.
    pub before: fn() -> Value,
    /// Where the app sent the browser; `None`: it did not leave.
    pub leave: Option<&'static str>,
    pub request: fn() -> String,
}

const OIDC_ISSUER: &str = "https://idp.example.com";
const CLIENT: &str = "the-app";
pub const OIDC_LEAVE: Option<&str> =
    Some("https://idp.example.com/authorize?client_id=the-app&state=state-1&nonce=nonce-1");
const SAML_ISSUER: &str = "https://saml.example.com/idp";

/// What every case's configuration begins with.
pub const COMMON: &str = r#"public_url = "https://app.example.com"

[app]
url = "http://127.0.0.1:3000"

[store]
path = "loginsync.db"

[[role]]
name = "editor"

[[role]]
name = "admin"
protected = true

[[group]]
name = "Staff"

[[group]]
name = "Marketing"
roles = ["editor"]

[[group]]
name = "On-call"

[[group]]
name = "Administrators"
roles = ["admin"]
"#;

pub const OIDC_PROVIDER: &str = r#"
[[provider]]
name = "oidc"
mode = "oidc-form-post"
issuer = "https://idp.example.com"
client_id = "the-app"
callback = "/callback"
jwks_file = "../../tokens/jwks.json"
authorization_endpoint = "https://idp.example.com/authorize"
email_claim = "email"
"#;

pub const SAML_PROVIDER: &str = r#"
[[provider]]
name = "saml"
mode = "saml-post"
issuer = "https://saml.example.com/idp"
audience = "https://app.example.com/saml/metadata"
callback = "/saml/acs"
certificate_files = ["../../keys/idp-rsa.certificate.test-only.pem"]
sso_url = "https://saml.example.com/sso"
decryption_key_files = ["../../keys/app-decryption.key.test-only.pem"]
"#;

const GROUPS: &str = "\n[provider.claims.groups]\n";

pub const MAPPINGS: &str = r#"
[[mapping]]
provider = "PROVIDER"
claim = "groups"
value = "staff"
group = "Staff"

[[mapping]]
provider = "PROVIDER"
claim = "groups"
value = "marketing"
group = "Marketing"

[[mapping]]
provider = "PROVIDER"
claim = "groups"
value = "on-call"
group = "On-call"

[[mapping]]
name = "administrators"
provider = "PROVIDER"
claim = "groups"
value = "admins"
group = "Administrators"
"#;

fn configuration(case: &Case) -> String {
    let (provider, name) =
        if case.name.starts_with("saml") { (SAML_PROVIDER, "saml") } else { (OIDC_PROVIDER, "oidc") };
    let claims = if case.config.contains("[provider.claims") { "" } else { GROUPS };
    // Keys of the provider must stand before its first sub-table.
    let (own, rest) =
        case.config.split_once("\n[").map_or((case.config, String::new()), |(own, rest)| (own, format!("\n[{rest}")));
    format!("{COMMON}{provider}{own}{claims}{rest}{}", MAPPINGS.replace("PROVIDER", name))
}

fn nothing() -> Value {
    json!({})
}

fn two_groups() -> Value {
    json!({"users": [{"user": "alice", "mapped": ["groups = staff", "groups = on-call"]}]})
}

pub fn oidc_request(own: &Value) -> String {
    oidc_form(&id_token_claims(OIDC_ISSUER, CLIENT, own), "idp-rsa")
}

fn oidc_form(claims: &Value, signer: &str) -> String {
    let token = signed_id_token(claims, signer);
    format!("POST /callback\ncontent-type: application/x-www-form-urlencoded\n\nid_token={token}&state=state-1")
}

fn with_groups(groups: &Value) -> String {
    oidc_request(&json!({"sub": "alice", "jti": "token-1", "email": "alice@example.com", "groups": groups}))
}

pub fn saml_login(attributes: Vec<MintAttribute>) -> SamlLogin {
    let mut login = SamlLogin::new(SAML_ISSUER, SAML_AUDIENCE, SAML_ACS, ("_response-1", "_assertion-1"), NOW.0);
    login.in_response_to = Some(SAML_REQUEST.into());
    login.name_id = Some(("alice".into(), Some(UNSPECIFIED.into())));
    login.attributes = attributes;
    login
}

pub fn saml_request(login: &SamlLogin) -> String {
    saml_form(&saml_document(login, Signs::Assertion, "idp-rsa"))
}

fn saml_form(document: &str) -> String {
    let field: String = form_urlencoded::byte_serialize(saml::field(document).as_bytes()).collect();
    format!(
        "POST /saml/acs\ncontent-type: application/x-www-form-urlencoded\n\nSAMLResponse={field}&RelayState=%2Fhome"
    )
}

/// The AuthnRequest `_request-1` in the redirect binding.
pub fn saml_leave() -> String {
    use base64::Engine as _;
    use std::io::Write as _;
    let request = format!(
        "<samlp:AuthnRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"{SAML_REQUEST}\" Version=\"2.0\" \
         IssueInstant=\"2026-03-01T12:00:00Z\"/>"
    );
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(request.as_bytes()).unwrap();
    let deflated = base64::engine::general_purpose::STANDARD.encode(encoder.finish().unwrap());
    let field: String = form_urlencoded::byte_serialize(deflated.as_bytes()).collect();
    format!("https://saml.example.com/sso?SAMLRequest={field}&RelayState=%2Fhome")
}

fn groups_attribute(values: &[&str]) -> Vec<MintAttribute> {
    vec![MintAttribute::of("groups", values)]
}

pub const CASES: &[Case] = &[
    Case {
        name: "oidc-first-login",
        title: "a first login creates the user and grants what its groups are mapped to",
        config: "",
        before: nothing,
        leave: OIDC_LEAVE,
        request: || with_groups(&json!(["staff", "marketing", "not-mapped"])),
    },
    Case {
        name: "oidc-one-goes-one-stays",
        title: "a group that the claim no longer brings is revoked, the other stays, nothing else is touched",
        config: "",
        before: || {
            json!({"users": [
                {"user": "alice", "mapped": ["groups = staff", "groups = on-call"], "assigned": ["On-call", "Marketing"]},
                {"user": "bob", "mapped": ["groups = on-call"]}]})
        },
        leave: OIDC_LEAVE,
        request: || with_groups(&json!(["staff"])),
    },
    Case {
        name: "oidc-empty-list-revokes",
        title: "present and empty revokes all",
        config: "",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || with_groups(&json!([])),
    },
    Case {
        name: "oidc-empty-string-revokes",
        title: "an empty string is an empty list",
        config: "",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || with_groups(&json!("")),
    },
    Case {
        name: "oidc-none-match",
        title: "values of which none is mapped revoke all, and the login goes on",
        config: "",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || with_groups(&json!(["elsewhere"])),
    },
    Case {
        name: "oidc-missing-clears",
        title: "a missing claim clears by default: several providers drop it with the last group",
        config: "",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || oidc_request(&json!({"sub": "alice", "jti": "token-1"})),
    },
    Case {
        name: "oidc-null-is-missing",
        title: "null counts as missing",
        config: "\n[provider.claims.groups]\nwhen_missing = \"keep\"\n",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || with_groups(&Value::Null),
    },
    Case {
        name: "oidc-missing-keeps",
        title: "under `keep` a missing claim changes nothing",
        config: "\n[provider.claims.groups]\nwhen_missing = \"keep\"\n",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || oidc_request(&json!({"sub": "alice", "jti": "token-1"})),
    },
    Case {
        name: "oidc-missing-refuses",
        title: "under `refuse` a missing claim refuses the login",
        config: "\n[provider.claims.groups]\nwhen_missing = \"refuse\"\n",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || oidc_request(&json!({"sub": "alice", "jti": "token-1"})),
    },
    Case {
        name: "oidc-overage-keeps",
        title: "groups left out with a pointer elsewhere (`_claim_names`) revoke nothing",
        config: "",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || {
            oidc_request(&json!({"sub": "alice", "jti": "token-1", "_claim_names": {"groups": "src1"},
                "_claim_sources": {"src1": {"endpoint": "https://graph.example.com/users/alice/getMemberObjects"}}}))
        },
    },
    Case {
        name: "oidc-hasgroups-keeps",
        title: "`hasgroups` says the same in the implicit flow",
        config: "",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || oidc_request(&json!({"sub": "alice", "jti": "token-1", "hasgroups": true})),
    },
    Case {
        name: "oidc-overage-strict-refuses",
        title: "a strict provider refuses what it cannot resolve",
        config: "strict = true\n",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || oidc_request(&json!({"sub": "alice", "jti": "token-1", "hasgroups": true})),
    },
    Case {
        name: "oidc-malformed-keeps",
        title: "elements that are all of a wrong type make the claim malformed: nothing is revoked",
        config: "",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || with_groups(&json!([{"name": "staff"}, ["on-call"]])),
    },
    Case {
        name: "oidc-one-bad-element",
        title: "a bad element beside good ones is skipped and counted, never an abort of the set",
        config: "",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || with_groups(&json!(["staff", {"name": "on-call"}])),
    },
    Case {
        name: "oidc-delimited-string",
        title: "one string with a delimiter is split, trimmed, and empty pieces dropped",
        config: "\n[provider.claims.groups]\ndelimiter = \";\"\n",
        before: nothing,
        leave: OIDC_LEAVE,
        request: || with_groups(&json!(" staff ; on-call;;")),
    },
    Case {
        name: "oidc-pointer",
        title: "a claim inside an object is found by JSON Pointer",
        config: "\n[provider.claims.groups]\nname = \"/realm_access/roles\"\n",
        before: nothing,
        leave: OIDC_LEAVE,
        request: || oidc_request(&json!({"sub": "alice", "jti": "token-1", "realm_access": {"roles": ["marketing"]}})),
    },
    Case {
        name: "oidc-list-of-objects",
        title: "a field of each object of a list",
        config: "\n[provider.claims.groups]\nname = \"/orgs/*/name\"\n",
        before: nothing,
        leave: OIDC_LEAVE,
        request: || {
            oidc_request(
                &json!({"sub": "alice", "jti": "token-1", "orgs": [{"name": "staff"}, {"name": "on-call"}, {"id": 3}]}),
            )
        },
    },
    Case {
        name: "oidc-older-login",
        title: "an older login than the last one applied authenticates and changes nothing",
        config: "",
        before: || json!({"users": [{"user": "alice", "mapped": ["groups = staff"], "issued_at": NOW.0 + 30_000}]}),
        leave: OIDC_LEAVE,
        request: || with_groups(&json!(["marketing"])),
    },
    Case {
        name: "oidc-disabled-user",
        title: "a disabled user is refused, and no login enables them",
        config: "",
        before: || json!({"users": [{"user": "alice", "mapped": ["groups = staff"], "disabled": true}]}),
        leave: OIDC_LEAVE,
        request: || with_groups(&json!(["marketing"])),
    },
    Case {
        name: "oidc-denied-group",
        title: "a deny outranks every mapping",
        config: "",
        before: || json!({"users": [{"user": "alice", "denied": ["Marketing"]}]}),
        leave: OIDC_LEAVE,
        request: || with_groups(&json!(["staff", "marketing"])),
    },
    Case {
        name: "oidc-last-administrator",
        title: "the last holder of a protected role keeps what carries it; the rest of the plan goes on",
        config: "",
        before: || json!({"users": [{"user": "alice", "mapped": ["administrators", "groups = on-call"]}]}),
        leave: OIDC_LEAVE,
        request: || with_groups(&json!(["staff"])),
    },
    Case {
        name: "oidc-not-the-last-administrator",
        title: "with another holder the protected role is revoked like any other",
        config: "",
        before: || json!({"users": [{"user": "alice", "mapped": ["administrators"]}, {"user": "bob", "assigned": ["Administrators"]}]}),
        leave: OIDC_LEAVE,
        request: || with_groups(&json!(["staff"])),
    },
    Case {
        name: "oidc-another-browser",
        title: "an answer in a browser that did not ask is refused",
        config: "",
        before: two_groups,
        leave: None,
        request: || with_groups(&json!(["marketing"])),
    },
    Case {
        name: "oidc-observed-binding",
        title: "`observe` lets it through and says so",
        config: "binding = \"observe\"\n",
        before: nothing,
        leave: None,
        request: || with_groups(&json!(["marketing"])),
    },
    Case {
        name: "oidc-wrong-nonce",
        title: "another nonce than the one the browser left with is refused",
        config: "",
        before: two_groups,
        leave: Some("https://idp.example.com/authorize?state=state-1&nonce=another"),
        request: || with_groups(&json!(["marketing"])),
    },
    Case {
        name: "oidc-forged",
        title: "a token signed by a stranger's key changes nothing",
        config: "",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || {
            oidc_form(
                &id_token_claims(OIDC_ISSUER, CLIENT, &json!({"sub": "alice", "groups": ["admins"]})),
                "stranger-rsa",
            )
            .replace("stranger-rsa", "idp-rsa")
        },
    },
    Case {
        name: "oidc-expired",
        title: "an expired token is refused",
        config: "",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || {
            oidc_request(
                &json!({"sub": "alice", "groups": [], "jti": "token-1", "iat": NOW.seconds() - 500, "exp": NOW.seconds() - 100}),
            )
        },
    },
    Case {
        name: "oidc-folded-user",
        title: "under `case` two spellings are one user",
        config: "user_claim = \"email\"\nuser_fold = \"case\"\n",
        before: || json!({"users": [{"user": "alice@example.com", "mapped": ["groups = staff"]}]}),
        leave: OIDC_LEAVE,
        request: || {
            oidc_request(&json!({"sub": "1", "jti": "token-1", "email": "Alice@Example.com", "groups": ["marketing"]}))
        },
    },
    Case {
        name: "oidc-another-stage",
        title: "a mapping whose provider and group share no stage is inactive",
        config: "stages = [\"test\"]\n\n[provider.claims.groups]\n\n[[group]]\nname = \"Production\"\nstages = [\"production\"]\n\n[[mapping]]\nprovider = \"oidc\"\nclaim = \"groups\"\nvalue = \"staff\"\ngroup = \"Production\"\n",
        before: nothing,
        leave: OIDC_LEAVE,
        request: || with_groups(&json!(["staff"])),
    },
    Case {
        name: "oidc-denied-by-the-provider",
        title: "an error answer is no login: it passes to the app",
        config: "",
        before: two_groups,
        leave: OIDC_LEAVE,
        request: || {
            "POST /callback\ncontent-type: application/x-www-form-urlencoded\n\nerror=access_denied&state=state-1"
                .into()
        },
    },
    Case {
        name: "saml-first-login",
        title: "a SAML attribute with a delimiter, as OutSystems ODC describes it",
        config: "\n[provider.claims.groups]\nname = \"department\"\ndelimiter = \";\"\n",
        before: nothing,
        leave: Some("saml"),
        request: || saml_request(&saml_login(vec![MintAttribute::of("department", &["staff; marketing"])])),
    },
    Case {
        name: "saml-one-goes-one-stays",
        title: "the same story as with OIDC",
        config: "",
        before: || json!({"users": [{"user": "alice", "mapped": ["groups = staff", "groups = on-call"], "assigned": ["On-call", "Marketing"]}]}),
        leave: Some("saml"),
        request: || saml_request(&saml_login(groups_attribute(&["staff"]))),
    },
    Case {
        name: "saml-one-element-a-group",
        title: "several Attribute elements of one name are one claim",
        config: "",
        before: nothing,
        leave: Some("saml"),
        request: || {
            let attributes = [groups_attribute(&["staff"]), groups_attribute(&["marketing"])].concat();
            saml_request(&saml_login(attributes))
        },
    },
    Case {
        name: "saml-missing-clears",
        title: "an attribute that is not there clears by default",
        config: "",
        before: two_groups,
        leave: Some("saml"),
        request: || saml_request(&saml_login(Vec::new())),
    },
    Case {
        name: "saml-nil-is-missing",
        title: "xsi:nil counts as missing",
        config: "\n[provider.claims.groups]\nwhen_missing = \"keep\"\n",
        before: two_groups,
        leave: Some("saml"),
        request: || {
            let nil = MintAttribute { name: "groups".into(), friendly_name: None, values: vec![MintValue::Nil] };
            saml_request(&saml_login(vec![nil]))
        },
    },
    Case {
        name: "saml-empty-revokes",
        title: "an attribute without values is empty, and revokes all",
        config: "",
        before: two_groups,
        leave: Some("saml"),
        request: || saml_request(&saml_login(groups_attribute(&[]))),
    },
    Case {
        name: "saml-overage-keeps",
        title: "Entra's link in place of more than 150 groups revokes nothing",
        config: "\n[provider.claims.groups]\nname = \"http://schemas.microsoft.com/ws/2008/06/identity/claims/groups\"\n",
        before: two_groups,
        leave: Some("saml"),
        request: || {
            saml_request(&saml_login(vec![MintAttribute::of(
                "http://schemas.microsoft.com/claims/groups.link",
                &["https://graph.example.com/users/alice/getMemberObjects"],
            )]))
        },
    },
    Case {
        name: "saml-malformed-keeps",
        title: "values that are markup make the claim malformed: nothing is revoked",
        config: "",
        before: two_groups,
        leave: Some("saml"),
        request: || {
            let values = vec![MintValue::Markup("<saml:NameID>staff</saml:NameID>".into())];
            saml_request(&saml_login(vec![MintAttribute { name: "groups".into(), friendly_name: None, values }]))
        },
    },
    Case {
        name: "saml-transient-name-id",
        title: "a transient NameID names nobody",
        config: "",
        before: nothing,
        leave: Some("saml"),
        request: || {
            let mut login = saml_login(groups_attribute(&["staff"]));
            login.name_id = Some(("_x1".into(), Some(TRANSIENT.into())));
            saml_request(&login)
        },
    },
    Case {
        name: "saml-idp-initiated",
        title: "a login that the app did not ask for is refused unless allowed",
        config: "",
        before: nothing,
        leave: None,
        request: || {
            let mut login = saml_login(groups_attribute(&["staff"]));
            login.in_response_to = None;
            saml_request(&login)
        },
    },
    Case {
        name: "saml-idp-initiated-allowed",
        title: "allowed, it enters",
        config: "allow_idp_initiated = true\n",
        before: nothing,
        leave: None,
        request: || {
            let mut login = saml_login(groups_attribute(&["staff"]));
            login.in_response_to = None;
            saml_request(&login)
        },
    },
    Case {
        name: "saml-wrong-audience",
        title: "an assertion for another app is refused",
        config: "",
        before: two_groups,
        leave: Some("saml"),
        request: || {
            let mut login = saml_login(groups_attribute(&["staff"]));
            login.audiences = vec!["https://another.example.com".into()];
            saml_request(&login)
        },
    },
    Case {
        name: "saml-denied-by-the-provider",
        title: "a Response with another status than success and no assertion passes to the app",
        config: "",
        before: two_groups,
        leave: Some("saml"),
        request: || {
            let mut login = saml_login(Vec::new());
            login.status = "urn:oasis:names:tc:SAML:2.0:status:AuthnFailed".into();
            saml_form(&saml::response(&login, ""))
        },
    },
];

/// Encryption is not repeatable, so this document is written when blessing and only read otherwise.
#[test]
fn an_encrypted_login_can_be_written_anew() {
    let path = folder("saml").join("encrypted.xml");
    if !blessing() {
        assert!(path.is_file());
        return;
    }
    let login = saml_login(groups_attribute(&["staff"]));
    let idp = key("idp-rsa");
    let signer = Signer { key: &idp, hash: Hash::Sha256, pss: false, certificate: None, style: login.style };
    let assertion = saml::sign(&saml::assertion(&login), &login.assertion_id, signer).unwrap();
    let public_key = key("app-decryption").public_key().unwrap();
    let recipient = Recipient {
        public_key: &public_key,
        content: ContentEncryption::Aes256Gcm,
        transport: KeyTransport::OaepSha256,
        beside: false,
    };
    let encrypted = saml::encrypt(&assertion, recipient).unwrap();
    std::fs::write(path, saml::response(&login, &encrypted)).unwrap();
}

/// Writes configuration, request and state before; `plan.txt` and `after.json` are the runner's.
#[test]
fn login_cases_are_current() {
    for case in CASES {
        let folder = folder("login").join(case.name);
        let leave = case.leave.map(|leave| if leave == "saml" { saml_leave() } else { leave.to_owned() });
        let about = json!({"title": case.title, "now": NOW.0, "leave": leave});
        settle(&folder.join("case.json"), &pretty(&about));
        settle(&folder.join("config.toml"), &configuration(case));
        settle(&folder.join("before.json"), &pretty(&(case.before)()));
        settle(&folder.join("request.txt"), &(case.request)());
    }
}
