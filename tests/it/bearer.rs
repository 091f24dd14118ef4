//! Mode `bearer`: tokens in headers of any request, through the whole program, against key servers of the test's own.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use loginsync::cli::demo::mint::{Curve, KeyKind, MintKey, Scheme, oidc};
use loginsync::pipeline::ids::{Namespace, Subject, UserId};
use loginsync::ports::store::Act;
use serde_json::{Value, json};

use crate::front_door::{Answer, House};
use crate::kit::NOW;
use crate::support::idp::{Idp, Scripted};

const CONFIG: &str = r#"
public_url = "https://app.example"

[listen]
trusted_proxies = ["127.0.0.1"]

[app]
url = "http://127.0.0.1:1"

PROVIDERS

[[group]]
name = "Staff"

[[group]]
name = "Board"
"#;

const PROVIDER: &str = r#"
[[provider]]
name = "NAME"
mode = "bearer"
issuer = "ISSUER"
audience = "AUDIENCE"
header = "HEADER"
FURTHER

[provider.claims.groups]

[[mapping]]
provider = "NAME"
claim = "groups"
value = "staff"
group = "Staff"

[[mapping]]
provider = "NAME"
claim = "groups"
value = "board"
group = "Board"
"#;

const ARN: &str = "arn:aws:elasticloadbalancing:eu-west-3:123456789012:loadbalancer/app/a/b";

fn provider(name: &str, issuer: &str, audience: &str, header: &str, further: &str) -> String {
    PROVIDER
        .replace("NAME", name)
        .replace("ISSUER", issuer)
        .replace("AUDIENCE", audience)
        .replace("HEADER", header)
        .replace("FURTHER", further)
}

struct Scene {
    house: House,
    idp: Idp,
}

impl Scene {
    /// One provider of the header `Authorization`.
    async fn new() -> Self {
        let idp = Idp::start().await;
        let text = provider("api", &idp.issuer(), "the-app", "authorization", "algorithms = [\"EdDSA\"]");
        Self::of(idp, &text).await
    }

    async fn of(idp: Idp, providers: &str) -> Self {
        let text = CONFIG.replace("PROVIDERS", providers);
        Self { house: House::open(&text, Path::new("bearer.toml"), NOW).await, idp }
    }

    fn claims(&self, subject: &str, groups: &[&str]) -> Value {
        let now = NOW.seconds();
        json!({"iss": self.idp.issuer(), "aud": "the-app", "sub": subject, "iat": now - 60, "exp": now + 600, "groups": groups})
    }

    async fn bear(&self, token: &str) -> Answer {
        self.get(&[("authorization", &format!("Bearer {token}"))]).await
    }

    async fn get(&self, headers: &[(&str, &str)]) -> Answer {
        self.house.send("GET", "/page", headers, b"").await
    }

    /// User and groups as the app saw them last.
    fn told(&self) -> (String, String) {
        let seen = self.house.app.seen();
        let header = |name: &str| {
            let all: Vec<&str> =
                seen.last().unwrap().headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
            all.join(" & ")
        };
        (header("x-loginsync-user"), header("x-loginsync-groups"))
    }

    async fn groups(&self, provider: &str, subject: &str) -> Option<Vec<String>> {
        let user = self.user(provider, subject);
        self.house.view(user).await.map(|user| user.groups)
    }

    fn user(&self, namespace: &str, subject: &str) -> UserId {
        UserId { namespace: Namespace::parse(namespace).unwrap(), subject: Subject::parse(subject).unwrap() }
    }

    async fn logins(&self) -> usize {
        self.house.events().await.iter().filter(|event| matches!(event.event.as_str(), "login" | "login_older")).count()
    }

    fn later(&self, seconds: i64) {
        self.house.clock.set(loginsync::pipeline::ids::Timestamp(self.house.clock.now().0 + seconds * 1000));
    }
}

fn text(left: &str, right: &str) -> (String, String) {
    (left.to_owned(), right.to_owned())
}

#[tokio::test]
async fn a_token_is_synced_once_and_again_when_it_says_something_new() {
    let scene = Scene::new().await;
    let first = scene.idp.sign(&scene.claims("alice", &["staff", "board"]));
    for _ in 0..5 {
        let forged = ("x_loginsync_groups", "Admins");
        assert_eq!(scene.get(&[("authorization", &format!("bearer {first}")), forged]).await.status, 200);
        assert_eq!(scene.told(), text("alice", "Board,Staff"));
    }
    assert_eq!(scene.logins().await, 1, "five requests, one login");
    assert!(scene.house.app.seen()[0].headers.contains_key("authorization"), "the app gets the token as well");

    // Another token that says the same is no login either; one that says less revokes at once.
    let mut same = scene.claims("alice", &["staff", "board"]);
    same["iat"] = json!(NOW.seconds() - 30);
    assert_eq!(scene.bear(&scene.idp.sign(&same)).await.status, 200);
    assert_eq!(scene.logins().await, 1);
    let mut less = scene.claims("alice", &["staff"]);
    less["iat"] = json!(NOW.seconds() - 20);
    assert_eq!(scene.bear(&scene.idp.sign(&less)).await.status, 200);
    assert_eq!(scene.told(), text("alice", "Staff"));
    assert_eq!(scene.groups("api", "alice").await.unwrap(), ["Staff"]);
    assert_eq!(scene.logins().await, 2);

    // The older token still authenticates, gives nothing back, and after a moment shows what the store has.
    scene.later(31);
    assert_eq!(scene.bear(&first).await.status, 200);
    assert_eq!(scene.told(), text("alice", "Staff"));
    assert_eq!(scene.logins().await, 2);
    let mut again = scene.claims("alice", &["staff", "board"]);
    again["iat"] = json!(NOW.seconds() - 10);
    assert_eq!(scene.bear(&scene.idp.sign(&again)).await.status, 200);
    assert_eq!(scene.told(), text("alice", "Board,Staff"), "what was said before may be said anew");
}

#[tokio::test]
async fn a_revocation_shows_within_the_stated_age_and_expiry_at_once() {
    let scene = Scene::new().await;
    let mut claims = scene.claims("alice", &["staff"]);
    claims["exp"] = json!(NOW.seconds() + 100);
    let token = scene.idp.sign(&claims);
    assert_eq!(scene.bear(&token).await.status, 200);
    let board = loginsync::pipeline::ids::Target::Group(loginsync::pipeline::ids::GroupName::parse("Board").unwrap());
    scene.house.store().act(scene.user("api", "alice"), Act::Assign(board), "test".into(), NOW).await.unwrap();
    scene.later(31);
    assert_eq!(scene.bear(&token).await.status, 200);
    assert_eq!(scene.told(), text("alice", "Board,Staff"));
    scene.house.store().act(scene.user("api", "alice"), Act::Disable, "test".into(), NOW).await.unwrap();
    scene.later(31);
    assert_eq!(scene.bear(&token).await.status, 403);
    scene.house.store().act(scene.user("api", "alice"), Act::Enable, "test".into(), NOW).await.unwrap();
    assert_eq!(scene.bear(&token).await.status, 200);
    scene.later(99);
    assert_eq!(scene.bear(&token).await.status, 401, "past expiry and leeway");
}

/// LOG11: a mapping that is made through the API counts for a token that is remembered, a second later.
#[tokio::test]
async fn log11_a_change_of_rules_shows_for_a_token_that_is_remembered() {
    let idp = Idp::start().await;
    let providers = provider("api", &idp.issuer(), "the-app", "authorization", "algorithms = [\"EdDSA\"]");
    let admin = crate::api::client("admin", crate::api::ADMIN, r#"["admin"]"#, "");
    let scene = Scene::of(idp, &format!("{providers}\n{admin}\n[bearer]\ncache_age = \"60s\"\n")).await;
    let token = scene.idp.sign(&scene.claims("alice", &["staff", "guests"]));
    assert_eq!(scene.bear(&token).await.status, 200);
    assert_eq!(scene.told(), text("alice", "Staff"));
    let mapping = json!({"definition": {
        "provider": "api", "when": [{"claim": "groups", "is": "guests"}], "then": [{"add_group": "Board"}],
    }});
    let authorization = format!("Bearer {}", crate::api::ADMIN);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let admin = scene.house.running.admin;
    let made = scene.house.send_to(admin, "POST", "/api/v1/mappings", &headers, mapping.to_string().as_bytes()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    scene.later(2);
    assert_eq!(scene.bear(&token).await.status, 200);
    assert_eq!(scene.told(), text("alice", "Board,Staff"), "the token is remembered by the old rules");
    assert_eq!(scene.groups("api", "alice").await.unwrap(), ["Board", "Staff"]);
    assert_eq!(scene.bear(&token).await.status, 200);
    assert_eq!(scene.logins().await, 2, "one login for each set of rules");
}

#[tokio::test]
async fn a_token_that_is_not_believed_is_401_and_what_is_nobodys_passes_unsaid() {
    let scene = Scene::new().await;
    let valid = scene.claims("alice", &["staff"]);
    let with = |name: &str, value: Value| {
        let mut claims = valid.clone();
        claims[name] = value;
        scene.idp.sign(&claims)
    };
    let good = scene.idp.sign(&valid);
    let stranger = MintKey::generate(KeyKind::Ed25519).unwrap();
    let header = json!({"alg": "EdDSA", "kid": "k"});
    let mut flipped = good.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let unsigned = {
        let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(&json!({"alg": "none"})), part(&valid))
    };
    let believed = [
        ("as it is", good.clone()),
        ("one of several audiences, by another party", {
            let mut claims = valid.clone();
            claims["aud"] = json!(["https://userinfo", "the-app"]);
            claims["azp"] = json!("a-client");
            scene.idp.sign(&claims)
        }),
        ("that calls itself an access token", {
            oidc::id_token(&scene.idp.key, "EdDSA", &json!({"alg": "EdDSA", "kid": "k", "typ": "at+jwt"}), &valid)
                .unwrap()
        }),
    ];
    for (what, token) in believed {
        assert_eq!(scene.bear(&token).await.status, 200, "{what}");
        assert_eq!(scene.told().0, "alice", "{what}");
    }
    let before = scene.house.app.seen().len();
    let refused = [
        ("of another client of the same issuer", with("aud", json!("other"))),
        ("for several without us", with("aud", json!(["a", "b"]))),
        ("for nobody", with("aud", json!([]))),
        ("an audience that is none", with("aud", json!({"the-app": true}))),
        ("expired", with("exp", json!(NOW.seconds() - 61))),
        ("without an expiry", with("exp", Value::Null)),
        ("from the future", with("iat", json!(NOW.seconds() + 61))),
        ("not yet valid", with("nbf", json!(NOW.seconds() + 61))),
        ("by a stranger's key", oidc::id_token(&stranger, "EdDSA", &header, &valid).unwrap()),
        ("unsigned", unsigned),
        ("flipped", String::from_utf8(flipped).unwrap()),
        ("cut", good[..good.len() - 4].to_owned()),
    ];
    for (what, token) in refused {
        let answer = scene.bear(&token).await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer error=\"invalid_token\"", "{what}");
    }
    // Werkzeug takes the backslashes out of a parameter.
    let quoted: String = good.chars().flat_map(|letter| ['\\', letter]).collect();
    for value in [format!("Token token=\"{quoted}\""), format!("Digest username=\"{}\"", good.replace('.', "\\."))] {
        assert_eq!(scene.get(&[("authorization", value.as_str())]).await.status, 401, "{value}");
    }
    let twice = [("authorization", format!("Bearer {good}")), ("authorization", "Basic abc".to_owned())];
    let twice: Vec<(&str, &str)> = twice.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(scene.get(&twice).await.status, 400);
    assert_eq!(scene.house.app.seen().len(), before);

    for value in ["Basic dXNlcjpwYXNz", "Bearer opaque-token", "Bearer a.b.c", "Bearer", "", "Digest x", "é"] {
        assert_eq!(scene.get(&[("authorization", value)]).await.status, 200, "{value}");
        assert_eq!(scene.told(), text("", ""), "{value}");
    }
    let mut foreign = valid.clone();
    foreign["iss"] = json!("https://elsewhere.example");
    assert_eq!(scene.bear(&scene.idp.sign(&foreign)).await.status, 200, "the app's own business");
    assert_eq!(scene.told(), text("", ""));
    assert_eq!(scene.logins().await, 1);
}

#[tokio::test]
async fn a_token_without_a_person_never_syncs() {
    let scene = Scene::new().await;
    let rows = [
        ("RFC 9068", json!({"sub": "svc", "client_id": "svc"})),
        ("Entra", json!({"sub": "guid", "idtyp": "app"})),
        ("Auth0", json!({"sub": "abc@clients", "azp": "abc", "gty": "client-credentials"})),
        ("Okta", json!({"sub": "0oa1", "cid": "0oa1"})),
        (
            "Keycloak",
            json!({
                "sub": "guid", "azp": "svc", "client_id": "svc", "clientHost": "192.0.2.1",
                "preferred_username": "service-account-svc",
            }),
        ),
        ("a service token of Cloudflare", json!({"sub": "", "common_name": "x.access"})),
        ("no subject", json!({"sub": null, "client_id": "svc"})),
    ];
    for (what, members) in rows {
        let mut claims = scene.claims("x", &["staff"]);
        for (name, value) in members.as_object().unwrap() {
            claims[name] = value.clone();
        }
        for _ in 0..2 {
            assert_eq!(scene.bear(&scene.idp.sign(&claims)).await.status, 200, "{what}");
            assert_eq!(scene.told(), text("", ""), "{what}");
        }
    }
    assert!(scene.house.store().users(None, 10).await.unwrap().is_empty());
    assert_eq!(scene.logins().await, 0);
}

/// Operators know people by claims that clients have as well.
#[tokio::test]
async fn a_client_is_no_user_whatever_claim_names_users() {
    let rows = [
        ("oid", json!({"sub": "guid", "oid": "guid", "idtyp": "app", "azpacr": "1", "roles": ["Read"]})),
        (
            "preferred_username",
            json!({"sub": "guid", "client_id": "svc", "clientHost": "::1", "preferred_username": "service-account-svc"}),
        ),
    ];
    for (claim, members) in rows {
        let idp = Idp::start().await;
        let further = format!("algorithms = [\"EdDSA\"]\nuser_claim = \"{claim}\"");
        let text_of = provider("api", &idp.issuer(), "the-app", "authorization", &further);
        let scene = Scene::of(idp, &text_of).await;
        let mut claims = scene.claims("x", &["staff"]);
        claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        assert_eq!(scene.bear(&scene.idp.sign(&claims)).await.status, 200, "{claim}");
        assert_eq!(scene.told(), text("", ""), "{claim}");
        claims["name"] = json!("Alice");
        assert_eq!(scene.bear(&scene.idp.sign(&claims)).await.status, 200, "{claim}");
        assert_ne!(scene.told(), text("", ""), "{claim}: a person");
    }
}

#[tokio::test]
async fn one_token_at_two_providers_is_two_tokens() {
    let idp = Idp::start().await;
    let further = "algorithms = [\"EdDSA\"]\nnamespace = \"NS\"";
    let text_of = |name: &str, audience: &str, header: &str| {
        provider(name, &idp.issuer(), audience, header, &further.replace("NS", name))
    };
    let providers = format!(
        "{}{}",
        text_of("first", "the-app", "cf-access-jwt-assertion").replace("value = \"staff\"", "value = \"other\""),
        text_of("second", "the-app", "authorization"),
    )
    .replace("cf-access-jwt-assertion\"", &format!("cf-access-jwt-assertion\"\njwks_url = \"{}/jwks\"", idp.issuer()));
    let scene = Scene::of(idp, &providers).await;
    let token = scene.idp.sign(&scene.claims("alice", &["staff"]));
    for _ in 0..2 {
        assert_eq!(scene.bear(&token).await.status, 200);
        assert_eq!(scene.told(), text("alice", "Staff"));
        assert_eq!(scene.get(&[("cf-access-jwt-assertion", &token)]).await.status, 200);
        assert_eq!(scene.told(), text("alice", ""), "what the other provider grants is not this one's");
    }
    assert_eq!(scene.groups("first", "alice").await, Some(vec![]));
    assert_eq!(scene.groups("second", "alice").await.unwrap(), ["Staff"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_never_mix_however_many_come_at_once() {
    let scene = std::sync::Arc::new(Scene::new().await);
    let tokens: Vec<(String, String)> = ["alice", "bob"]
        .map(|name| {
            let group = if name == "alice" { "staff" } else { "board" };
            (name.to_owned(), scene.idp.sign(&scene.claims(name, &[group])))
        })
        .to_vec();
    let mut tasks = Vec::new();
    for number in 0..200 {
        let (scene, (name, token)) = (std::sync::Arc::clone(&scene), tokens[number % 2].clone());
        tasks.push(tokio::spawn(async move {
            let headers = [("authorization", format!("Bearer {token}")), ("x-of-test", name)];
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(scene.get(&headers).await.status, 200);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for seen in scene.house.app.seen() {
        let of = |name: &str| seen.headers[name].to_str().unwrap().to_owned();
        assert_eq!(of("x-loginsync-user"), of("x-of-test"));
        let group = if of("x-of-test") == "alice" { "Staff" } else { "Board" };
        assert_eq!(of("x-loginsync-groups"), group);
    }
    assert_eq!(scene.logins().await, 2);
}

#[tokio::test]
async fn a_thousand_tokens_with_unknown_keys_are_hardly_a_fetch() {
    let scene = Scene::new().await;
    assert_eq!(scene.bear(&scene.idp.sign(&scene.claims("alice", &[]))).await.status, 200);
    let before = scene.idp.asked("/jwks").len();
    for number in 0..1000 {
        let header = json!({"alg": "EdDSA", "kid": format!("unknown-{number}")});
        let token = oidc::id_token(&scene.idp.key, "EdDSA", &header, &scene.claims("alice", &["staff"])).unwrap();
        assert_eq!(scene.bear(&token).await.status, 401);
    }
    // Two looks need not wait for the ten seconds, and as long as this takes there may be a third.
    assert!(scene.idp.asked("/jwks").len() <= before + 3, "{}", scene.idp.asked("/jwks").len());
}

fn public_pem(key: &MintKey) -> String {
    let der = base64::engine::general_purpose::STANDARD.encode(key.public_key().unwrap());
    let lines: Vec<&str> = der.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

/// A load balancer's token: padded, with its issuer, client, signer and expiry in the header.
fn alb_token(key: &MintKey, key_id: &str, header: Value, claims: &Value) -> String {
    let mut whole = json!({"alg": "ES256", "kid": key_id, "typ": "JWT"});
    for (name, value) in header.as_object().unwrap() {
        whole[name] = value.clone();
    }
    // Signed over what is sent, so the padding has to be there before the signature.
    let input = format!("{}.{}", URL_SAFE.encode(whole.to_string()), URL_SAFE.encode(claims.to_string()));
    let signature = key.sign(Scheme::Ecdsa, input.as_bytes()).unwrap();
    format!("{input}.{}", URL_SAFE.encode(signature))
}

#[tokio::test]
async fn a_load_balancers_token_is_believed_by_its_own_rules() {
    let idp = Idp::start().await;
    let key = MintKey::generate(KeyKind::Ec(Curve::P256)).unwrap();
    let stranger = MintKey::generate(KeyKind::Ec(Curve::P256)).unwrap();
    let further = format!("signer = \"{ARN}\"\nkey_url = \"{}\"", idp.issuer());
    let text_of = provider("alb", "https://login.example.com", "the-client", "x-amzn-oidc-data", &further);
    idp.answers("/key-1", Scripted::of(200, "text/plain", public_pem(&key)));
    let scene = Scene::of(idp, &text_of).await;
    let now = NOW.seconds();
    let header = |change: Value| {
        let mut header =
            json!({"iss": "https://login.example.com", "client": "the-client", "signer": ARN, "exp": now + 120});
        for (name, value) in change.as_object().unwrap() {
            header[name] = value.clone();
        }
        header
    };
    let claims = json!({"sub": "alice", "groups": ["staff"], "exp": now + 120, "iss": "https://login.example.com"});
    let good = alb_token(&key, "key-1", header(json!({})), &claims);
    assert!(good.contains('='), "a token with padding");
    assert_eq!(scene.get(&[("x-amzn-oidc-data", &good)]).await.status, 200);
    assert_eq!(scene.told(), text("alice", "Staff"));
    assert_eq!(scene.idp.asked("/key-1").len(), 1);

    let other_arn = ARN.replace("/b", "/c");
    let rows = [
        (
            "another load balancer of the region",
            alb_token(&key, "key-1", header(json!({"signer": other_arn})), &claims),
        ),
        ("no signer", alb_token(&key, "key-1", header(json!({"signer": null})), &claims)),
        ("another client", alb_token(&key, "key-1", header(json!({"client": "other"})), &claims)),
        ("expired by its header", alb_token(&key, "key-1", header(json!({"exp": now - 61})), &claims)),
        ("another issuer", alb_token(&key, "key-1", header(json!({"iss": "https://x.example"})), &claims)),
        ("another issuer within", {
            let mut claims = claims.clone();
            claims["iss"] = json!("https://x.example");
            alb_token(&key, "key-1", header(json!({})), &claims)
        }),
        ("a stranger's key", alb_token(&stranger, "key-1", header(json!({})), &claims)),
        ("a key that is nowhere", alb_token(&stranger, "key-2", header(json!({})), &claims)),
        ("a key elsewhere", alb_token(&stranger, "../../key-1", header(json!({})), &claims)),
        ("no token", "x".to_owned()),
        ("an ID token", scene.idp.sign(&scene.claims("alice", &["board"]))),
    ];
    for (what, token) in rows {
        let answer = scene.get(&[("x-amzn-oidc-data", token.as_str())]).await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
    }
    assert_eq!(scene.get(&[("x-amzn-oidc-data", &good), ("x-amzn-oidc-data", &good)]).await.status, 400);
    assert_eq!(scene.get(&[]).await.status, 200, "without a token nobody is known");
    assert_eq!(scene.told(), text("", ""));

    // Tokens without `iat` keep their order by expiry, also where the older one comes later.
    let newer = json!({"sub": "alice", "groups": ["board"], "exp": now + 119});
    let older = alb_token(&key, "key-1", header(json!({"exp": now + 119})), &newer);
    assert_eq!(scene.get(&[("x-amzn-oidc-data", &older)]).await.status, 200);
    assert_eq!(scene.told(), text("alice", "Staff"), "it is older than what was synced");

    // A made-up key asks for nothing where the rest of the token would be refused anyway.
    let useless = [json!({"signer": other_arn}), json!({"client": "other"}), json!({"exp": now - 61})];
    for (number, change) in useless.into_iter().enumerate() {
        let token = alb_token(&stranger, &format!("useless-{number}"), header(change), &claims);
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        assert_eq!(scene.get(&[("x-amzn-oidc-data", token.as_str())]).await.status, 401);
        assert!(scene.idp.asked(&format!("/useless-{number}")).is_empty(), "{number}");
    }
    for number in 0..1000 {
        let token = alb_token(&stranger, &format!("unknown-{number}"), header(json!({})), &claims);
        assert_eq!(scene.get(&[("x-amzn-oidc-data", token.as_str())]).await.status, 401);
    }
    let fetched: usize = (0..1000).map(|number| scene.idp.asked(&format!("/unknown-{number}")).len()).sum();
    assert!(fetched <= 30, "{fetched} fetches for a thousand names");
}

#[tokio::test]
async fn each_gateways_header_is_read_by_its_own_rules() {
    let rows = [
        ("cf-access-jwt-assertion", KeyKind::Ec(Curve::P256), "ES256", "algorithms = [\"ES256\"]"),
        ("x-goog-iap-jwt-assertion", KeyKind::Ec(Curve::P256), "ES256", ""),
        ("x-forwarded-access-token", KeyKind::Ed25519, "EdDSA", "algorithms = [\"EdDSA\"]"),
    ];
    for (header, kind, algorithm, further) in rows {
        let idp = Idp::start().await;
        let key = MintKey::generate(kind).unwrap();
        idp.answers("/keys", Scripted::json(oidc::jwks(&[oidc::jwk(&key, "k").unwrap()]).to_string()));
        let further = format!("{further}\njwks_url = \"{}/keys\"", idp.issuer());
        let text_of = provider("gateway", "https://gateway.example", "/projects/1/apps/x", header, &further);
        let scene = Scene::of(idp, &text_of).await;
        let mut claims = scene.claims("accounts.google.com:1", &["staff"]);
        claims["iss"] = json!("https://gateway.example");
        claims["aud"] = json!("/projects/1/apps/x");
        let sign =
            |claims: &Value| oidc::id_token(&key, algorithm, &json!({"alg": algorithm, "kid": "k"}), claims).unwrap();
        let token = sign(&claims);
        assert_eq!(scene.get(&[(header, token.as_str())]).await.status, 200, "{header}");
        assert_eq!(scene.told(), text("accounts.google.com:1", "Staff"), "{header}");
        assert_eq!(scene.get(&[("authorization", &format!("Bearer {token}"))]).await.status, 200);
        assert_eq!(scene.told(), text("", ""), "{header}: in another header it is nobody's");
        claims["aud"] = json!("/projects/2/apps/x");
        assert_eq!(scene.get(&[(header, sign(&claims).as_str())]).await.status, 401, "{header}: another project's");
        claims["iss"] = json!("https://other.example");
        let foreign = scene.get(&[(header, sign(&claims).as_str())]).await.status;
        let expected = if header == "x-forwarded-access-token" { 200 } else { 401 };
        assert_eq!(foreign, expected, "{header}: another issuer's");
    }
}

/// A reload takes effect at the next request, and forgets what was remembered of tokens: another audience refuses, a provider
/// that is gone means nothing any more, and one that is there again is believed as before.
#[tokio::test]
async fn a_reload_changes_who_is_believed() {
    let scene = Scene::new().await;
    let token = scene.idp.sign(&scene.claims("alice", &["staff"]));
    let of = |audience: &str| {
        let further = "algorithms = [\"EdDSA\"]";
        let provider = provider("api", &scene.idp.issuer(), audience, "authorization", further);
        CONFIG.replace("PROVIDERS", &provider).replace("http://127.0.0.1:1\"", &format!("{}\"", scene.house.app_url))
    };
    let reload = async |text: String| {
        std::fs::write(scene.house.folder.path().join("unwatched.toml"), text).unwrap();
        scene.house.running.reload().await;
    };
    assert_eq!(scene.bear(&token).await.status, 200);
    assert_eq!(scene.told(), ("alice".into(), "Staff".into()));
    reload(of("another-app")).await;
    assert_eq!(scene.bear(&token).await.status, 401, "remembered, and believed no more");
    reload(of("the-app") + "\n[bearer]\ncache_age = \"1s\"\n").await;
    assert_eq!(scene.bear(&token).await.status, 200);
    scene.house.store().act(scene.user("api", "alice"), Act::Disable, "test".into(), NOW).await.unwrap();
    assert_eq!(scene.bear(&token).await.status, 200, "within the stated age");
    scene.house.clock.set(loginsync::pipeline::ids::Timestamp(NOW.0 + 1_001));
    assert_eq!(scene.bear(&token).await.status, 403, "which is now a second");
    reload(of("the-app").replace("\"authorization\"", "\"x-forwarded-access-token\"")).await;
    assert_eq!(scene.bear(&token).await.status, 200, "nobody's header passes unread");
    assert_eq!(scene.told(), (String::new(), String::new()));
}
