//! What passes, and what is refused before anything is spent.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{CONFIG, FORM, Scene};
use crate::support::idp::Scripted;
use crate::support::wire;

fn assertion(audience: &Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.c2ln",
        part(json!({"alg": "ES256"})),
        part(json!({"iss": "the-app", "sub": "the-app", "aud": audience}))
    )
}

fn with_assertion(audience: &Value) -> String {
    format!(
        "grant_type=authorization_code&code=c&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
         &client_assertion={}",
        assertion(audience)
    )
}

#[tokio::test]
async fn every_way_of_client_authentication_passes_unchanged_and_the_reply_comes_back_byte_for_byte() {
    let scene = Scene::new().await;
    let issuer = json!(scene.idp.issuer());
    let rows = [
        (
            "basic",
            format!("{FORM}authorization: Basic dGhlLWFwcDpzZWNyZXQ=\r\n"),
            "grant_type=authorization_code&code=c%2D1&x=%20+".to_owned(),
        ),
        ("post", FORM.to_owned(), "client_secret=s&client_id=the-app&grant_type=authorization_code&code=c".to_owned()),
        (
            "public with PKCE",
            FORM.to_owned(),
            "grant_type=authorization_code&code=c&client_id=the-app&code_verifier=v".to_owned(),
        ),
        ("private_key_jwt", FORM.to_owned(), with_assertion(&issuer)),
        ("private_key_jwt, in a list", FORM.to_owned(), with_assertion(&json!([issuer]))),
        ("several resources", FORM.to_owned(), "grant_type=authorization_code&code=c&resource=a&resource=b".to_owned()),
    ];
    for (what, headers, body) in rows {
        let mut reply = Scripted::json(scene.reply(&scene.claims(&["staff"])));
        reply.headers.push(("x-of-the-provider", "kept".into()));
        reply.headers.push(("connection", "x-hop".into()));
        reply.headers.push(("x-hop", "not kept".into()));
        scene.idp.answers("/token", reply.clone());
        let answer = scene.post(&format!("{headers}x-of-the-app: kept\r\naccept-encoding: gzip\r\n"), &body).await;
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        assert_eq!(answer.body.as_bytes(), reply.body, "{what}");
        assert_eq!((answer.one("x-of-the-provider"), answer.one("x-hop")), (Some("kept"), None), "{what}");
        let asked = scene.idp.asked("/token").pop().unwrap();
        assert_eq!(asked.body, body.as_bytes(), "{what}");
        assert_eq!(asked.header("x-of-the-app"), "kept", "{what}");
        assert_eq!(asked.header("accept-encoding"), "", "{what}: what is compressed cannot be read");
        assert_eq!(asked.header("host"), scene.idp.address.to_string(), "{what}");
        assert_eq!(asked.header("authorization").is_empty(), what != "basic", "{what}");
    }
    assert_eq!(scene.groups().await, ["Staff"]);
    let event = scene.last_event().await;
    assert_eq!((event.event.as_str(), &event.detail["binding"]), ("login", &json!("exchanged by the app")));
}

#[tokio::test]
async fn a_login_is_committed_before_the_app_has_its_tokens_and_the_next_one_revokes() {
    let scene = Scene::new().await;
    scene.replies(&scene.claims(&["staff", "board"]));
    assert_eq!(scene.code().await.status, 200);
    assert_eq!(scene.groups().await, ["Board", "Staff"]);
    let mut later = scene.claims(&["staff"]);
    later["iat"] = json!(later["iat"].as_i64().unwrap() + 1);
    scene.replies(&later);
    assert_eq!(scene.code().await.status, 200);
    assert_eq!(scene.groups().await, ["Staff"]);
}

#[tokio::test]
async fn errors_of_the_provider_pass_untouched() {
    let scene = Scene::new().await;
    let rows = [
        Scripted::of(
            400,
            "application/json; charset=UTF-8",
            "{\"error\" :\"invalid_grant\",  \"error_description\":\"x\"}",
        ),
        Scripted::of(401, "application/json", r#"{"error":"invalid_client"}"#),
        Scripted::of(500, "text/html", "<h1>oops</h1>"),
        Scripted::of(503, "text/plain", ""),
        Scripted::of(200, "application/json", r#"{"error":"authorization_pending"}"#),
    ];
    for mut row in rows {
        row.headers.push(("www-authenticate", "Basic realm=\"x\"".into()));
        scene.idp.answers("/token", row.clone());
        for body in ["grant_type=authorization_code&code=c", "grant_type=refresh_token&refresh_token=r"] {
            let answer = scene.grant(body).await;
            assert_eq!((answer.status, answer.body.as_bytes()), (row.status, row.body.as_slice()), "{body}");
            assert_eq!(answer.one("www-authenticate"), Some("Basic realm=\"x\""));
            assert_eq!(answer.one("content-type"), Some(row.headers[0].1.as_str()));
        }
    }
    assert!(scene.user().await.is_none());
    assert!(scene.idp.asked("/revoke").is_empty());
}

/// OUT12: an assertion for the provider's token endpoint (OpenID Connect Core section 9) is the provider's to judge.
#[tokio::test]
async fn out12_an_assertion_for_the_token_endpoint_goes_on() {
    let scene = Scene::new().await;
    let reply = scene.replies(&scene.claims(&["staff"]));
    let endpoint = json!(format!("{}/token", scene.idp.issuer()));
    let ours = json!("http://sidecar.internal:8090/the%20idp/token");
    // Readers drop a byte order mark.
    let marked = format!("\u{feff}{reply}");
    scene.idp.answers("/token", Scripted::json(marked.clone()));
    for audience in [endpoint.clone(), json!([endpoint, ours])] {
        let answer = scene.grant(&with_assertion(&audience)).await;
        assert_eq!((answer.status, &answer.body), (200, &marked), "{audience}");
    }
    assert_eq!(scene.groups().await, ["Staff"]);
    assert_eq!(scene.idp.asked("/token").len(), 2);
}

#[tokio::test]
async fn what_the_provider_could_only_refuse_is_refused_with_its_reason() {
    let scene = Scene::new().await;
    scene.replies(&scene.claims(&["staff"]));
    let plain = "grant_type=authorization_code&code=c";
    let ours = json!("http://sidecar.internal:8090/the%20idp/token");
    let json_type = "content-type: application/json\r\n";
    let rows: [(&str, String, String, u16, &str, &str); 13] = [
        (
            "DPoP",
            format!("{FORM}dpop: a.b.c\r\n"),
            plain.into(),
            400,
            "invalid_dpop_proof",
            "a DPoP proof names the address",
        ),
        ("for our endpoint", FORM.into(), with_assertion(&ours), 400, "invalid_client", "sidecar.internal"),
        ("without an audience", FORM.into(), with_assertion(&Value::Null), 400, "invalid_client", "for no audience"),
        (
            "an assertion that is none",
            FORM.into(),
            format!("{plain}&client_assertion=x"),
            400,
            "invalid_client",
            "it is not a JWT",
        ),
        ("JSON", json_type.into(), "{}".into(), 400, "invalid_request", "application/x-www-form-urlencoded"),
        ("no media type", String::new(), plain.into(), 400, "invalid_request", "content type"),
        (
            "compressed",
            format!("{FORM}content-encoding: gzip\r\n"),
            plain.into(),
            400,
            "invalid_request",
            "a content encoding",
        ),
        ("no grant", FORM.into(), "code=c".into(), 400, "invalid_request", "`grant_type` is missing"),
        (
            "two grants",
            FORM.into(),
            format!("{plain}&grant_type=client_credentials"),
            400,
            "invalid_request",
            "`grant_type` appears more than once",
        ),
        (
            "two grants, in another spelling",
            FORM.into(),
            format!("Grant%5FType=client_credentials&{plain}"),
            400,
            "invalid_request",
            "`grant_type` in another spelling",
        ),
        ("two codes", FORM.into(), format!("{plain}&code=d"), 400, "invalid_request", "`code` appears more than once"),
        (
            "not UTF-8",
            FORM.into(),
            String::from("grant_type=authorization_code&code=c&code=d"),
            400,
            "invalid_request",
            "`code`",
        ),
        (
            "too large",
            FORM.into(),
            format!("{plain}&x={}", "x".repeat(70_000)),
            413,
            "invalid_request",
            "relay.request_body",
        ),
    ];
    for (what, headers, body, status, error, reason) in rows {
        let answer = scene.post(&headers, &body).await;
        scene.assert_withheld(what, &answer, status, error);
        assert!(answer.body.contains(reason), "{what}: {}", answer.body);
        assert!(!answer.body.contains("code=c"), "{what}");
    }
    for (method, target, status) in [
        ("GET", "/the%20idp/token", 405),
        ("PUT", "/the%20idp/token", 405),
        ("POST", "/the%20idp/.well-known/openid-configuration", 405),
        ("POST", "/other/token", 404),
        ("POST", "/token", 404),
        ("POST", "/the%20idp/token/", 404),
        ("POST", "/the%20idp/../the%20idp/token", 404),
        ("POST", "/the%20idp/token?grant_type=client_credentials", 400),
    ] {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\n{FORM}content-length: 31\r\n\r\ngrant_type=authorization_code&c"
        );
        let answer = wire::send(scene.relay, request).await;
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
    }
    assert!(scene.idp.asked("/token").is_empty(), "nothing was forwarded, so that nothing was spent");
}

#[tokio::test]
async fn a_grant_is_not_spent_while_no_login_could_be_committed() {
    let scene = Scene::new().await;
    scene.replies(&scene.claims(&["staff"]));
    let database = scene.database();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let answer = scene.code().await;
    scene.assert_withheld("a locked store", &answer, 503, "temporarily_unavailable");
    assert_eq!(answer.one("retry-after"), Some("5"));
    assert!(scene.idp.asked("/token").is_empty(), "the grant is unspent");
    scene.idp.answers("/token", Scripted::json(r#"{"access_token":"a","token_type":"Bearer"}"#));
    let machine = scene.grant("grant_type=client_credentials&client_id=the-app&client_secret=s").await;
    assert_eq!(machine.status, 200, "the app's own token needs no store");
    database.execute_batch("ROLLBACK").unwrap();
    scene.replies(&scene.claims(&["staff"]));
    // What a look at the store found is good for a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(scene.code().await.status, 200);
    assert_eq!(scene.groups().await, ["Staff"]);
}

#[tokio::test]
async fn a_slow_provider_and_one_that_is_gone_are_told_apart() {
    let scene = Scene::new().await;
    let mut slow = Scripted::json(scene.reply(&scene.claims(&["staff"])));
    slow.after = Duration::from_secs(5);
    scene.idp.answers("/token", slow);
    scene.assert_withheld("slow", &scene.code().await, 504, "server_error");
    assert!(scene.user().await.is_none());

    let gone = Scene::with("token_endpoint = \"http://127.0.0.1:1/token\"", "").await;
    gone.assert_withheld("gone", &gone.code().await, 502, "server_error");
}

#[tokio::test]
async fn an_endpoint_that_the_configuration_names_goes_before_the_discovered_one() {
    let scene = Scene::with("token_endpoint = \"IDP/elsewhere?tenant=1\"", "").await;
    scene.idp.answers("/elsewhere", Scripted::json(scene.reply(&scene.claims(&["staff"]))));
    assert_eq!(scene.code().await.status, 200);
    assert_eq!(scene.idp.asked("/elsewhere").len(), 1);
    assert!(scene.idp.asked("/token").is_empty());
}

#[tokio::test]
async fn the_discovery_document_is_the_providers_but_for_the_token_endpoint() {
    let own = Scene::new().await;
    own.idp.answers("/.well-known/openid-configuration", Scripted::json(own.idp.document().to_string()));
    let page = "/the%20idp/.well-known/openid-configuration";
    let answer = wire::get(own.relay, page, "").await;
    assert_eq!((answer.status, answer.one("content-type")), (200, Some("application/json")));
    let found: Value = serde_json::from_str(&answer.body).unwrap();
    let mut expected = own.idp.document();
    expected["token_endpoint"] = json!("http://sidecar.internal:8090/the%20idp/token");
    assert_eq!(found, expected);

    let idp = crate::support::idp::Idp::start().await;
    let mut theirs = idp.document();
    theirs["mtls_endpoint_aliases"] =
        json!({"token_endpoint": "https://mtls.example/token", "x": "https://mtls.example/x"});
    theirs["signed_metadata"] = json!("a.b.c");
    idp.answers("/.well-known/openid-configuration", Scripted::json(theirs.to_string()));
    let text = CONFIG.replace("ISSUER", &idp.issuer()).replace("PROVIDER", "").replace("CLAIM", "");
    let house = crate::front_door::House::open(&text, std::path::Path::new("relay.toml"), super::NOW).await;
    let answer = wire::get(house.running.relay.unwrap(), page, "").await;
    let found: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(found["mtls_endpoint_aliases"]["token_endpoint"], expected["token_endpoint"], "no way around us");
    assert_eq!(found["mtls_endpoint_aliases"]["x"], "https://mtls.example/x");
    assert_eq!(found["signed_metadata"], Value::Null, "what is signed would go before what is not");
}

/// A reload takes effect at the next request: another address of ours, another bound for replies, and no relay at all, after
/// which nobody is handed on any more though the listener is there until the next start.
#[tokio::test]
async fn a_reload_changes_what_is_relayed() {
    let scene = Scene::new().await;
    scene.replies(&scene.claims(&["staff"]));
    assert_eq!(scene.code().await.status, 200);
    assert_eq!(scene.groups().await, ["Staff"]);
    let text = super::CONFIG
        .replace("ISSUER", &scene.idp.issuer())
        .replace("PROVIDER", "")
        .replace("CLAIM", "")
        .replace("http://127.0.0.1:1\"", &format!("{}\"", scene.house.app_url))
        .replace("address = \"127.0.0.1:0\"", &format!("address = \"{}\"", scene.relay));
    let reload = async |text: String| {
        std::fs::write(scene.house.folder.path().join("unwatched.toml"), text).unwrap();
        scene.house.running.reload().await;
    };
    let document = async || {
        let request = "GET /the%20idp/.well-known/openid-configuration HTTP/1.1\r\nhost: sidecar.internal:8090\r\n\r\n";
        wire::send(scene.relay, request.to_owned()).await
    };
    reload(text.replace("sidecar.internal:8090", "other.internal:9000").replace("64KiB", "1KiB")).await;
    let published: Value = serde_json::from_str(&document().await.body).unwrap();
    assert_eq!(published["token_endpoint"], "http://other.internal:9000/the%20idp/token");
    let mut long = scene.claims(&["board"]);
    long["padding"] = "x".repeat(1_000).into();
    scene.replies(&long);
    assert_eq!(scene.code().await.status, 502, "a reply that is longer than the bound of now");
    assert_eq!(scene.groups().await, ["Staff"]);
    reload(text.replace("\"staff\"", "\"crew\"")).await;
    scene.replies(&scene.claims(&["crew"]));
    assert_eq!(scene.code().await.status, 200);
    assert_eq!(scene.groups().await, ["Staff"]);

    let (before, rest) = text.split_once("[relay]").unwrap();
    let (_, rest) = rest.split_once("[[group]]").unwrap();
    let (groups, _) = rest.split_once("[[mapping]]").unwrap();
    let other = "[[provider]]\nname = \"another\"\nmode = \"oidc-form-post\"\nissuer = \"https://id.example\"\n\
                 client_id = \"the-app\"\ncallback = \"/other\"\n";
    reload(format!("{before}{other}[[group]]{groups}")).await;
    let asked = scene.idp.asked("/token").len();
    assert_eq!(scene.code().await.status, 404);
    assert_eq!(document().await.status, 404);
    assert_eq!(scene.idp.asked("/token").len(), asked, "the provider hears nothing");
    reload(text).await;
    scene.replies(&scene.claims(&["staff"]));
    assert_eq!(scene.code().await.status, 200, "and back again");
}
