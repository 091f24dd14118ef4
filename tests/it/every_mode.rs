//! One person, with the same groups at the provider, through every mode there is: they end with the same memberships, since
//! only the way in differs.

use loginsync::pipeline::ids::{Namespace, Subject, UserId};
use loginsync::pipeline::provider::Mode;
use loginsync::ports::store::Act;
use serde_json::json;

use crate::kit;
use crate::relying_party::{Scene, Setting};
use crate::support::wire;

/// The other modes beside that of the scene, each a provider of its own. What stands in capitals is put in.
const OTHERS: &str = r#"
[relay]
address = "127.0.0.1:0"

[[provider]]
name = "saml-post"
mode = "saml-post"
issuer = "https://idp.example/saml"
audience = "https://app.example/saml"
callback = "/saml/acs"
certificate_files = ["fixtures/keys/idp-rsa.certificate.test-only.pem"]
allow_idp_initiated = true

[provider.claims.groups]

[[provider]]
name = "oidc-form-post"
mode = "oidc-form-post"
issuer = "ISSUER"
client_id = "the app"
callback = "/form"
algorithms = ["EdDSA"]
binding = "observe"

[provider.claims.groups]

[[provider]]
name = "token-relay"
mode = "token-relay"
issuer = "ISSUER"
client_id = "the app"
callback = "/code"
algorithms = ["EdDSA"]

[provider.claims.groups]

[[provider]]
name = "bearer"
mode = "bearer"
issuer = "ISSUER"
audience = "the app"
algorithms = ["EdDSA"]

[provider.claims.groups]
"#;

/// One of each name.
fn modes() -> impl Iterator<Item = Mode> {
    Mode::words().filter_map(Mode::named)
}

fn mappings() -> String {
    let others = modes().filter(|mode| *mode != Mode::RelyingParty);
    let pairs = others.flat_map(|mode| [(mode, "staff", "Staff"), (mode, "board", "Board")]);
    let mapping = |(mode, value, group): (Mode, &str, &str)| {
        let provider = mode.word();
        format!(
            "[[mapping]]\nprovider = \"{provider}\"\nclaim = \"groups\"\nvalue = \"{value}\"\ngroup = \"{group}\"\n\n"
        )
    };
    pairs.map(mapping).collect()
}

async fn open() -> Scene {
    let more: &'static str = Box::leak(format!("{OTHERS}{}", mappings()).into_boxed_str());
    Scene::open(Setting { more, ..Setting::default() }).await
}

#[tokio::test]
async fn the_same_person_through_every_mode_ends_with_the_same_memberships() {
    let scene = open().await;
    log_in_by_every_mode(&scene).await;
    let house = &scene.house;
    for mode in modes() {
        let namespace = provider(mode);
        let user =
            UserId { namespace: Namespace::parse(namespace).unwrap(), subject: Subject::parse("alice").unwrap() };
        let view = house.view(user).await;
        let view = view.unwrap_or_else(|| panic!("nobody came by {}", mode.word()));
        assert_eq!(view.groups, ["Board", "Staff"], "{}", mode.word());
        assert_eq!(view.roles, ["editor"], "{}", mode.word());
        let held: Vec<(&str, &str)> =
            view.memberships.iter().map(|held| (held.name.as_str(), held.membership)).collect();
        assert_eq!(held, [("Board", "mapped"), ("Staff", "mapped")], "{}", mode.word());
    }
}

/// The provider of a mode.
fn provider(mode: Mode) -> &'static str {
    if mode == Mode::RelyingParty { "idp" } else { mode.word() }
}

/// Every login is counted once, by its mode, its provider and what became of it: let in, refused, and refused as a decision
/// against the person.
#[tokio::test]
async fn see02_the_outcome_of_every_mode_shows_in_the_metrics() {
    let scene = open().await;
    log_in_by_every_mode(&scene).await;
    let counted = |text: &str, mode: Mode, outcome: &str, detail: &str| -> u64 {
        let (mode, provider) = (mode.word(), provider(mode));
        let wanted = format!(
            "loginsync_logins_total{{mode=\"{mode}\",provider=\"{provider}\",outcome=\"{outcome}\",detail=\"{detail}\"}} "
        );
        text.lines().find_map(|line| line.strip_prefix(&wanted)).map_or(0, |count| count.parse().unwrap())
    };
    let metrics = async || scene.house.fetch(&format!("http://{}/metrics", scene.house.running.admin)).await;
    let text = metrics().await;
    let logins = text.lines().filter(|line| line.starts_with("loginsync_logins_total{")).count();
    assert_eq!(logins, modes().count(), "{text}");
    for mode in modes() {
        assert_eq!(counted(&text, mode, "entered", ""), 1, "{}: {text}", mode.word());
        let seconds = format!("loginsync_login_seconds_count{{mode=\"{}\"}} 1", mode.word());
        assert!(text.contains(&seconds), "{}: {text}", mode.word());
    }

    // Refused by its signature, in every mode.
    let forged = |token: &str| format!("{}AAAA", token.get(..token.len() - 4).unwrap());
    let house = &scene.house;
    let document = document("other").replace("staff", "board");
    let response = kit::body("SAMLResponse", &loginsync::cli::demo::mint::saml::field(&document));
    assert_eq!(house.send("POST", "/saml/acs", &FORM, response.as_bytes()).await.status, 403);
    let posted = kit::body("id_token", &forged(&token(&scene, "form-2")));
    assert_eq!(house.send("POST", "/form", &FORM, posted.as_bytes()).await.status, 403);
    scene.tokens(&forged(&token(&scene, "relay-2")));
    assert_eq!(exchange(&scene).await, 400);
    let bearer = format!("Bearer {}", forged(&token(&scene, "bearer-2")));
    assert_eq!(house.send("GET", "/public", &[("authorization", &bearer)], b"").await.status, 401);
    let mut browser = scene.browser();
    let left = browser.leave("/page").await;
    scene.tokens(&forged(&scene.token(&left.query["nonce"], |_| {})));
    let callback = format!("/.loginsync/callback?code=c-2&state={}", left.query["state"]);
    assert_eq!(browser.get(&callback).await.status, 403);
    let text = metrics().await;
    for mode in modes() {
        assert_eq!(counted(&text, mode, "refused", "verify"), 1, "{}: {text}", mode.word());
    }

    // A decision against the person, in every mode.
    for mode in modes() {
        let namespace = Namespace::parse(provider(mode)).unwrap();
        let user = UserId { namespace, subject: Subject::parse("alice").unwrap() };
        house.store().act(user, Act::Disable, "test".into(), kit::NOW).await.unwrap();
    }
    let response = kit::body("SAMLResponse", &loginsync::cli::demo::mint::saml::field(&self::document("third")));
    assert_eq!(house.send("POST", "/saml/acs", &FORM, response.as_bytes()).await.status, 403);
    let posted = kit::body("id_token", &token(&scene, "form-3"));
    assert_eq!(house.send("POST", "/form", &FORM, posted.as_bytes()).await.status, 403);
    scene.tokens(&token(&scene, "relay-3"));
    assert_eq!(exchange(&scene).await, 400);
    let bearer = format!("Bearer {}", token(&scene, "bearer-3"));
    assert_eq!(house.send("GET", "/public", &[("authorization", &bearer)], b"").await.status, 403);
    assert_eq!(scene.browser().log_in(|_| {}).await.status, 403);
    let text = metrics().await;
    for mode in modes() {
        assert_eq!(counted(&text, mode, "disabled", ""), 1, "{}: {text}", mode.word());
        assert_eq!(counted(&text, mode, "entered", ""), 1, "{}: {text}", mode.word());
    }

    // A token that comes again, where a token counts once.
    assert_eq!(
        house.send("POST", "/form", &FORM, kit::body("id_token", &token(&scene, "form")).as_bytes()).await.status,
        409
    );
    assert_eq!(counted(&metrics().await, Mode::OidcFormPost, "replay", ""), 1);
}

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

fn token(scene: &Scene, id: &str) -> String {
    scene.token("n", |claims| (claims["groups"], claims["jti"]) = (json!(["staff", "board"]), json!(id)))
}

/// A signed SAML response that nobody has asked for.
fn document(id: &str) -> String {
    let mut login = kit::login();
    (login.in_response_to, login.assertion_id) = (None, format!("_{id}"));
    login.attributes = vec![loginsync::cli::demo::mint::saml::MintAttribute::of("groups", &["staff", "board"])];
    kit::signed_assertion(&login, &kit::key("idp-rsa"))
}

async fn exchange(scene: &Scene) -> u16 {
    let body = "grant_type=authorization_code&code=c&client_id=the+app";
    wire::post(scene.house.running.relay.unwrap(), "/token-relay/token", "", body).await.status
}

async fn log_in_by_every_mode(scene: &Scene) {
    let house = &scene.house;
    let response = kit::body("SAMLResponse", &loginsync::cli::demo::mint::saml::field(&document("first")));
    assert_eq!(house.send("POST", "/saml/acs", &FORM, response.as_bytes()).await.status, 200, "saml-post");

    let posted = kit::body("id_token", &token(scene, "form"));
    assert_eq!(house.send("POST", "/form", &FORM, posted.as_bytes()).await.status, 200, "oidc-form-post");

    scene.tokens(&token(scene, "relay"));
    assert_eq!(exchange(scene).await, 200, "token-relay");

    let bearer = format!("Bearer {}", token(scene, "bearer"));
    assert_eq!(house.send("GET", "/public", &[("authorization", &bearer)], b"").await.status, 200, "bearer");

    let returned = scene.browser().log_in(|claims| claims["groups"] = json!(["staff", "board"])).await;
    assert_eq!(returned.status, 303, "relying-party: {returned:?}");
}
