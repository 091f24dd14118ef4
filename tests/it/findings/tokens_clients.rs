//! Tokens of people that look like a client's, and tokens under names that only an app reads as the one that is looked into.

use loginsync::ports::store::Act;
use serde_json::{Value, json};

use super::tokens::{Scene, claims, user};
use crate::kit::NOW;

impl Scene {
    /// A token with these claims beside the usual ones; `null` takes one away.
    fn sign(&self, members: &Value) -> String {
        let mut all = claims(&self.idp, "mallory");
        // As an access token has it, which names a person by `sub` alone.
        all.as_object_mut().unwrap().remove("login");
        for (name, value) in members.as_object().unwrap() {
            all[name] = value.clone();
        }
        all.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.idp.sign(&all)
    }

    fn told(&self) -> Option<String> {
        let seen = self.house.app.seen();
        seen.last().unwrap().headers.get("x-loginsync-user").map(|value| value.to_str().unwrap().to_owned())
    }

    /// What a request with these headers hears, and how many tokens reached the app.
    async fn passes(&self, headers: &str) -> (u16, usize) {
        let before = self.house.app.seen().len();
        let answer = self.get(headers).await;
        (answer.status, self.reached(before))
    }
}

/// What vendors put into the tokens of clients.
fn of_clients() -> Vec<(&'static str, Value)> {
    let keycloak = |address: &str| {
        json!({
            "sub": "a-guid", "azp": "svc", "typ": "Bearer", "acr": "1", "scope": "openid email profile", "email_verified": false,
            "preferred_username": "service-account-svc", address: "192.0.2.1", "client_id": "svc",
        })
    };
    let mut older = keycloak("clientAddress");
    older["clientId"] = older["client_id"].take();
    vec![
        ("RFC 9068", json!({"sub": "svc", "client_id": "svc", "scope": "read"})),
        ("Cognito", json!({"sub": "svc", "client_id": "svc", "token_use": "access", "scope": "api/read"})),
        (
            "Cloud Foundry",
            json!({"sub": "svc", "client_id": "svc", "cid": "svc", "azp": "svc", "grant_type": "client_credentials"}),
        ),
        ("Okta", json!({"sub": "0oa1", "cid": "0oa1", "scp": ["read"]})),
        ("Auth0", json!({"sub": "abc@clients", "azp": "abc", "gty": "client-credentials"})),
        (
            "Entra",
            json!({"sub": "a-guid", "oid": "a-guid", "idtyp": "app", "azp": "svc", "azpacr": "1", "roles": ["Read"]}),
        ),
        ("Keycloak", keycloak("clientHost")),
        ("Keycloak before version 23", older),
        ("Duende", json!({"sub": null, "client_id": "svc", "scope": ["read"]})),
        ("Cloudflare", json!({"sub": "", "common_name": "x.access", "type": "app"})),
    ]
}

/// What people can bring about where they choose a name: as users of the provider, and by asking for other scopes.
fn of_people() -> Vec<Value> {
    let service_account = json!({"azp": "the-client", "preferred_username": "service-account-the-client"});
    let with = |base: &Value, members: Value| {
        let mut all = base.clone();
        all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        all
    };
    let named = json!({"sub": "the-client", "client_id": "the-client"});
    let mut rows = vec![
        service_account.clone(),
        with(&service_account, json!({"client_id": "the-client"})),
        with(&service_account, json!({"clientHost": "192.0.2.1"})),
        with(&service_account, json!({"clientHost": "192.0.2.1", "client_id": "other"})),
        with(&service_account, json!({"clientHost": "192.0.2.1", "client_id": "the-client", "azp": "other"})),
        json!({"preferred_username": "service-account-", "client_id": "", "clientHost": "192.0.2.1"}),
        json!({"sub": "the-client", "azp": "the-client"}),
        json!({"sub": "the-client", "appid": "the-client"}),
        json!({"sub": "the-client", "cid": "the-client", "uid": "00u1"}),
        json!({"gty": "client-credentials", "azp": "the-client"}),
        json!({"gty": ["client-credentials"], "azp": "the-client"}),
        json!({"sub": "the-client@clients", "azp": "the-client"}),
        json!({"sub": "the-client@clients", "azp": "the-client", "gty": "password"}),
        json!({"idtyp": "user"}),
        json!({"idtyp": "app", "scp": "User.Read"}),
        json!({"idtyp": "app", "name": "Mallory"}),
        json!({"idtyp": "app", "azpacr": "0"}),
    ];
    let personal = [
        ("sid", json!("s")),
        ("session_state", json!("s")),
        ("nonce", json!("n")),
        ("auth_time", json!(NOW.seconds())),
        ("at_hash", json!("h")),
        ("amr", json!(["pwd"])),
        ("acr", json!("1")),
        ("act", json!({"sub": "the-client"})),
        ("email", json!("m@example.com")),
        ("name", json!("Mallory")),
        ("givenName", json!("Mallory")),
        ("preferred_username", json!("mallory")),
        ("UPN", json!("m@example.com")),
        ("user_name", json!("mallory")),
        ("cognito:username", json!("mallory")),
        ("https://app.example/email", json!("m@example.com")),
        ("typ", json!("ID")),
        ("token_use", json!("id")),
        ("idtyp", json!("user")),
        ("grant_type", json!("password")),
        ("scope", json!("read openid")),
        ("scope", json!("Profile")),
        ("scp", json!(["read", "offline_access"])),
    ];
    rows.extend(personal.iter().map(|(name, value)| with(&named, json!({ *name: value }))));
    // Whatever it is that a service account has, a session of a person's makes it theirs.
    let whole = with(&service_account, json!({"client_id": "the-client", "clientHost": "192.0.2.1"}));
    let of_login = personal.iter().filter(|(name, _)| !["acr", "preferred_username", "scope", "scp"].contains(name));
    rows.extend(of_login.map(|(name, value)| with(&whole, json!({ *name: value }))));
    rows
}

#[tokio::test]
async fn sec01_no_person_passes_for_a_client() {
    let scene = Scene::new("").await;
    for subject in ["the-client", "the-client@clients"] {
        assert_eq!(scene.bear(&scene.sign(&json!({"sub": subject}))).await.status, 200);
        scene.house.store().act(user("api", subject), Act::Disable, "test".into(), NOW).await.unwrap();
    }
    scene.later(31);
    for members in of_people() {
        let before = scene.house.app.seen().len();
        let answer = scene.bear(&scene.sign(&members)).await;
        assert_eq!((answer.status, scene.reached(before)), (403, 0), "{members}");
    }
    // Without a subject, and without a client who it could be.
    for members in [
        json!({"sub": null}),
        json!({"sub": null, "azp": "the-client"}),
        json!({"sub": null, "client_id": "the-client", "sid": "s"}),
        json!({"sub": null, "client_id": "the-client", "scope": "openid"}),
        json!({"sub": "", "azp": "the-client"}),
        json!({"sub": " "}),
    ] {
        let before = scene.house.app.seen().len();
        let answer = scene.bear(&scene.sign(&members)).await;
        assert_eq!((answer.status, scene.reached(before)), (403, 0), "{members}");
    }
}

/// Where people are known by another claim than `sub`, that claim is a person's.
#[tokio::test]
async fn sec01_the_claim_that_names_users_makes_a_person() {
    let scene = Scene::with("", "namespace = \"shared\"\nuser_claim = \"login\"").await;
    let service_account = json!({
        "sub": "a-guid", "client_id": "svc", "preferred_username": "service-account-svc", "clientHost": "192.0.2.1",
    });
    for base in [json!({"sub": "svc", "client_id": "svc"}), json!({"sub": "a-guid", "idtyp": "app"}), service_account] {
        assert_eq!((scene.bear(&scene.sign(&base)).await.status, scene.told()), (200, None), "{base}");
        let mut named = base;
        named["login"] = json!("mallory");
        assert_eq!(scene.bear(&scene.sign(&named)).await.status, 403, "{named}");
    }
}

#[tokio::test]
async fn sec01_a_clients_token_passes_or_is_refused_as_the_configuration_says() {
    let scene = Scene::new("").await;
    for (vendor, members) in of_clients() {
        let token = scene.sign(&members);
        for _ in 0..2 {
            assert_eq!((scene.bear(&token).await.status, scene.told()), (200, None), "{vendor}");
        }
    }
    let users = scene.house.memberships().await;
    assert!(!users.contains("svc") && !users.contains("a-guid"), "{users}");
    let scene = Scene::new("machines = false").await;
    for (vendor, members) in of_clients() {
        let token = scene.sign(&members);
        for _ in 0..2 {
            assert_eq!(scene.bear(&token).await.status, 403, "{vendor}");
        }
    }
    assert_eq!((scene.bear(&scene.honest).await.status, scene.told().as_deref()), (200, Some("alice")));
}

/// gRPC-Gateway takes `Grpc-Metadata-` away, AWS and Google put words before the name.
#[tokio::test]
async fn sec01_a_name_behind_what_gateways_add_is_looked_into() {
    let scene = Scene::new("cookies = [\"my_token\"]").await;
    let (token, honest) = (&scene.disabled, &scene.honest);
    for name in [
        "Grpc-Metadata-Authorization",
        "GRPC-METADATA-AUTHORIZATION",
        "Grpc-Metadata-Grpc-Metadata-Authorization",
        "Grpcgateway-Authorization",
        "Grpc-Metadata-Grpcgateway-Authorization",
        "X-Amzn-Remapped-Authorization",
        "X-Original-Authorization",
    ] {
        for value in [format!("Bearer {token}"), token.clone(), format!("Bearer {honest}, Bearer {token}")] {
            let (status, reached) = scene.passes(&format!("{name}: {value}\r\n")).await;
            assert!(matches!(status, 401 | 403) && reached == 0, "{name}: {status}");
        }
        let (status, reached) =
            scene.passes(&format!("Authorization: Bearer {honest}\r\n{name}: Bearer {token}\r\n")).await;
        assert_eq!((status, reached), (401, 0), "{name} beside another person's");
        let (status, reached) = scene.passes(&format!("{name}: x\r\n{name}: Bearer {token}\r\n")).await;
        assert_eq!((status, reached), (403, 0), "{name} twice");
        assert_eq!(scene.passes(&format!("{name}: Bearer {honest}\r\n")).await, (200, 1), "{name}");
        assert_eq!(scene.told().as_deref(), Some("alice"), "{name}");
        assert_eq!(scene.passes(&format!("{name}: Bearer of-the-app\r\n")).await.0, 200, "{name}");
    }
    for name in [
        "Grpc-Metadata-X-Loginsync-User",
        "grpc-metadata-remote-user",
        "Grpcgateway-X-Forwarded-User",
        "X-Amzn-Remapped-Remote-User",
        "Grpc-Metadata-X-Webauth-User",
        "Grpc-Metadata-Cf-Access-Jwt-Assertion",
        "Grpc_Metadata_Authorization",
        "Grpc-Metadata_Authorization",
        "X_Forwarded_Authorization",
        "X-Forwarded-Authorization",
        "Grpc-Metadata-X-Forwarded-Access-Token",
    ] {
        let (status, reached) = scene.passes(&format!("{name}: Bearer {token}\r\n")).await;
        assert!(reached == 0, "{name}: {status}");
    }
    let (_, reached) = scene.passes(&format!("Grpc-Metadata-Cookie: my_token={token}\r\n")).await;
    assert_eq!(reached, 0, "a second cookie");
}

/// Sanic reads a cookie under the name behind the prefixes of RFC 6265bis.
#[tokio::test]
async fn sec01_a_cookie_is_known_with_and_without_its_prefix() {
    for named in ["my_token", "__Host-my_token"] {
        let scene = Scene::new(&format!("cookies = [\"{named}\"]")).await;
        let token = &scene.disabled;
        for name in [
            "my_token",
            "__Host-my_token",
            "__Secure-my_token",
            "__host-MY_TOKEN",
            "__SECURE-my_token",
            "__Http-my_token",
            "__Host-Http-my_token",
            "__Host-__Secure-my_token",
            "%5F%5FHost-my_token",
            "\"__Host-my_token\"",
            "a=b __Secure-my_token",
        ] {
            assert_eq!(scene.passes(&format!("Cookie: a=b; {name}={token}\r\n")).await, (403, 0), "{named}: {name}");
        }
        assert_eq!(scene.passes(&format!("Cookie: __Host-other={token}\r\n")).await, (200, 1), "not named");
    }
}
