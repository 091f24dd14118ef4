//! One person, with the same groups at the provider, through every mode there is: they end with the same memberships, since
//! only the way in differs.

use loginsync::pipeline::ids::{Namespace, Subject, UserId};
use loginsync::pipeline::provider::Mode;
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

fn mappings() -> String {
    let others = Mode::ALL.into_iter().filter(|mode| *mode != Mode::RelyingParty);
    let pairs = others.flat_map(|mode| [(mode, "staff", "Staff"), (mode, "board", "Board")]);
    let mapping = |(mode, value, group): (Mode, &str, &str)| {
        let provider = mode.word();
        format!(
            "[[mapping]]\nprovider = \"{provider}\"\nclaim = \"groups\"\nvalue = \"{value}\"\ngroup = \"{group}\"\n\n"
        )
    };
    pairs.map(mapping).collect()
}

#[tokio::test]
async fn the_same_person_through_every_mode_ends_with_the_same_memberships() {
    let more: &'static str = Box::leak(format!("{OTHERS}{}", mappings()).into_boxed_str());
    let scene = Scene::open(Setting { more, ..Setting::default() }).await;
    let house = &scene.house;
    let groups = json!(["staff", "board"]);
    let token = |id: &str| scene.token("n", |claims| (claims["groups"], claims["jti"]) = (groups.clone(), json!(id)));
    let form = [("content-type", "application/x-www-form-urlencoded")];

    let mut login = kit::login();
    (login.in_response_to, login.attributes) =
        (None, vec![loginsync::cli::demo::mint::saml::MintAttribute::of("groups", &["staff", "board"])]);
    let document = kit::signed_assertion(&login, &kit::key("idp-rsa"));
    let response = kit::body("SAMLResponse", &loginsync::cli::demo::mint::saml::field(&document));
    assert_eq!(house.send("POST", "/saml/acs", &form, response.as_bytes()).await.status, 200, "saml-post");

    let posted = kit::body("id_token", &token("form"));
    assert_eq!(house.send("POST", "/form", &form, posted.as_bytes()).await.status, 200, "oidc-form-post");

    scene.tokens(&token("relay"));
    let body = "grant_type=authorization_code&code=c&client_id=the+app";
    let asked = wire::post(house.running.relay.unwrap(), "/token-relay/token", "", body).await;
    assert_eq!(asked.status, 200, "token-relay");

    let bearer = format!("Bearer {}", token("bearer"));
    assert_eq!(house.send("GET", "/public", &[("authorization", &bearer)], b"").await.status, 200, "bearer");

    let returned = scene.browser().log_in(|claims| claims["groups"] = groups.clone()).await;
    assert_eq!(returned.status, 303, "relying-party: {returned:?}");

    for mode in Mode::ALL {
        let namespace = if mode == Mode::RelyingParty { "idp" } else { mode.word() };
        let user =
            UserId { namespace: Namespace::parse(namespace).unwrap(), subject: Subject::parse("alice").unwrap() };
        let view = house.store().user(user, house.rules()).await.unwrap();
        let view = view.unwrap_or_else(|| panic!("nobody came by {}", mode.word()));
        assert_eq!(view.groups, ["Board", "Staff"], "{}", mode.word());
        assert_eq!(view.roles, ["editor"], "{}", mode.word());
        let held: Vec<(&str, &str)> =
            view.memberships.iter().map(|held| (held.name.as_str(), held.membership)).collect();
        assert_eq!(held, [("Board", "mapped"), ("Staff", "mapped")], "{}", mode.word());
    }
}
