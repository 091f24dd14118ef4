//! `explain` and the login say the same of one message: both are one walk.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loginsync::cli::demo::mint::saml;
use loginsync::pipeline::ids::Timestamp;
use serde_json::{Value, json};

use super::{Desk, Said, run_with};
use crate::attacks::{FORM, claims, config, form, here, signed, with};
use crate::front_door::House;
use crate::kit::{self, NOW};
use crate::login_cases;

/// What `explain` does not look at, and says so: whether the browser left for the login.
const BOUND: [&str; 2] = ["oidc-another-browser", "oidc-wrong-nonce"];

/// Every login case: what `explain` says of the captured body, against the store as it stood, is what the login then does.
#[tokio::test(flavor = "multi_thread")]
async fn see01_every_login_case_is_explained_as_it_ends() {
    for case in login_cases::all() {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        let read = |file: &str| std::fs::read_to_string(case.join(file)).unwrap();
        let about: Value = serde_json::from_str(&read("case.json")).unwrap();
        let now = Timestamp(about["now"].as_i64().unwrap());
        let house = House::open(&read("config.toml"), &case.join("config.toml"), now).await;
        login_cases::prepare(&house, &serde_json::from_str(&read("before.json")).unwrap(), now).await;
        let cookies = match about["leave"].as_str() {
            Some(address) => house.leave(address).await,
            None => String::new(),
        };
        let request = read("request.txt");
        let (head, body) = request.split_once("\n\n").unwrap();

        let desk = Desk::new();
        let store = house.folder.path().join("store.db");
        let text = read("config.toml").replace("loginsync.db", store.to_str().unwrap());
        let config = desk.config("config.toml", &text);
        let said = run_with(&["explain", "--config", &config, "--at", &now.to_string(), "--json", "-"], body);
        let report = said.json();

        let mut headers: Vec<(&str, &str)> = head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
        headers.push(("cookie", &cookies));
        let (method, target) = head.lines().next().unwrap().split_once(' ').unwrap();
        let happened = house.happened();
        house.send(method, target, &headers, body.as_bytes()).await;
        let plans = house.plans_after(happened);
        if BOUND.contains(&name.as_str()) {
            assert!(plans.is_empty() && report["outcome"] == "enters", "{name}: {report:#}");
            assert!(report["notes"].to_string().contains("not checked here"), "{name}: {report:#}");
            continue;
        }
        assert_eq!(report["outcome"] == "enters", !plans.is_empty(), "{name}: {report:#}");
        for plan in &plans {
            let groups: Vec<&str> = plan.after.groups.iter().map(|group| group.as_str()).collect();
            let roles: Vec<&str> = plan.after.roles.iter().map(|role| role.as_str()).collect();
            assert_eq!(
                (&report["plan"]["groups"], &report["plan"]["roles"]),
                (&json!(groups), &json!(roles)),
                "{name}"
            );
            assert_eq!(report["plan"]["older"], json!(plan.older), "{name}");
        }
        house.running.stop().await;
    }
}

/// The configuration of the attacks, with one provider more for tokens in headers.
fn everything() -> String {
    let bearer = "[[provider]]\nname = \"api\"\nmode = \"bearer\"\nissuer = \"https://idp.example/\"\naudience = \"the-app\"\n\
        jwks_file = \"fixtures/tokens/jwks.json\"\n\n[provider.claims.groups]\n";
    format!("{}\n{bearer}", config("binding = \"observe\"", "allow_idp_initiated = true"))
}

struct Pair {
    house: House,
    desk: Desk,
    config: String,
}

impl Pair {
    async fn open() -> Self {
        let text = everything();
        let house = House::open(&text, &here(), NOW).await;
        let desk = Desk::new();
        let fixtures = format!("\"{}/fixtures/", env!("CARGO_MANIFEST_DIR"));
        let config = desk.file("config.toml", &text.replace("\"fixtures/", &fixtures));
        Self { house, desk, config }
    }

    fn explained(&self, provider: &str, text: &str) -> Said {
        let at = NOW.to_string();
        let arguments =
            ["explain", "--config", &self.config, "--provider", provider, "--at", &at, "--no-store", "--json", "-"];
        run_with(&arguments, text)
    }

    /// Whether the login that is sent is committed.
    async fn enters(&self, path: &str, headers: &[(&str, &str)], body: &str) -> bool {
        let happened = self.house.happened();
        let method = if body.is_empty() { "GET" } else { "POST" };
        self.house.send(method, path, headers, body.as_bytes()).await;
        !self.house.plans_after(happened).is_empty()
    }
}

/// Messages at a callback that are right but for their shape, through the front door and through `explain`.
#[tokio::test(flavor = "multi_thread")]
async fn see01_a_message_is_read_as_the_login_reads_it() {
    let pair = Pair::open().await;
    let token = |jti: &str| signed(&claims(jti));
    let document = |id: &str| {
        let mut login = kit::login();
        (login.in_response_to, login.assertion_id) = (None, format!("_{id}"));
        saml::field(&kit::signed_assertion(&login, &kit::key("idp-rsa")))
    };
    let oidc = [
        ("a login", form(&[("id_token", &token("1")), ("state", "s")]), true),
        ("two tokens", form(&[("id_token", &token("2")), ("id_token", &token("3"))]), false),
        ("two tokens, spelt otherwise", form(&[("id_token", &token("4")), ("ID_Token", &token("5"))]), false),
        ("two protocols", form(&[("id_token", &token("6")), ("SAMLResponse", &document("6"))]), false),
        ("WS-Federation beside it", form(&[("id_token", &token("7")), ("wresult", "<t/>")]), false),
        ("Google's field beside it", form(&[("id_token", &token("8")), ("credential", &token("9"))]), false),
        ("a JARM response beside it", form(&[("id_token", &token("10")), ("response", "x")]), false),
        ("an artifact beside it", form(&[("id_token", &token("11")), ("SAMLart", "x")]), false),
        ("a method override", form(&[("id_token", &token("12")), ("_method", "PUT")]), false),
        ("a code beside it that it does not vouch for", form(&[("id_token", &token("13")), ("code", "c")]), false),
        ("a code alone", form(&[("code", "c"), ("state", "s")]), false),
        ("an access token alone", form(&[("access_token", &token("14"))]), false),
        ("a denial", form(&[("error", "access_denied"), ("state", "s")]), false),
        ("another issuer", form(&[("id_token", &signed(&with(&json!({"iss": "https://other.example/"}))))]), false),
        ("another client", form(&[("id_token", &signed(&with(&json!({"aud": "another"}))))]), false),
    ];
    let saml = [
        ("a login", form(&[("SAMLResponse", &document("20"))]), true),
        ("two responses", form(&[("SAMLResponse", &document("21")), ("SAMLResponse", &document("22"))]), false),
        ("a response that is changed", form(&[("SAMLResponse", &changed(&document("23")))]), false),
    ];
    let all =
        oidc.iter().map(|row| ("oidc", "/callback", row)).chain(saml.iter().map(|row| ("saml", "/saml/acs", row)));
    for (provider, path, (what, body, enters)) in all {
        let said = pair.explained(provider, body);
        let report = said.json();
        assert_eq!(report["outcome"] == "enters", *enters, "explain: {what}: {report:#}");
        assert_eq!(said.code, if *enters { 0 } else { 3 }, "explain: {what}");
        assert_eq!(pair.enters(path, &[FORM], body).await, *enters, "login: {what}");
    }
    let denied = pair.explained("oidc", &form(&[("error", "access_denied"), ("state", "s")])).json();
    assert!(denied["refused"].as_str().unwrap().starts_with("the identity provider logs no person in"), "{denied:#}");
    assert!(pair.desk.folder.path().join("config.toml").exists());
}

fn changed(field: &str) -> String {
    let xml = String::from_utf8(STANDARD.decode(field).unwrap()).unwrap();
    STANDARD.encode(xml.replace("staff", "board"))
}

/// Tokens that requests bear: of people, of clients, of others.
#[tokio::test(flavor = "multi_thread")]
async fn see01_a_token_in_a_header_is_judged_as_the_login_judges_it() {
    let pair = Pair::open().await;
    let token = |changes: Value| signed(&with(&changes));
    let of_client = |mut changes: Value| {
        (changes["nonce"], changes["email"]) = (Value::Null, Value::Null);
        token(changes)
    };
    for (what, token, enters) in [
        ("a person", token(json!({"jti": "1", "client_id": "some-client"})), true),
        ("a client for itself", of_client(json!({"sub": "robot", "client_id": "robot"})), false),
        ("a client for itself, by Entra", of_client(json!({"sub": "x", "idtyp": "app"})), false),
        (
            "a client for itself, by Auth0",
            of_client(json!({"sub": "x@clients", "azp": "x", "gty": "client-credentials"})),
            false,
        ),
        ("a person called as a client is", token(json!({"jti": "2", "sub": "robot", "client_id": "robot"})), true),
        ("nobody", token(json!({"sub": null, "email": null})), false),
        ("a logout token", token(json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}})), false),
        ("another audience", token(json!({"aud": "another"})), false),
        ("an expired one", token(json!({"exp": NOW.seconds() - 3600})), false),
    ] {
        let bearer = format!("Bearer {token}");
        for text in [token.clone(), bearer.clone(), format!("Authorization: {bearer}"), format!("access_token={token}")]
        {
            let report = pair.explained("api", &text).json();
            assert_eq!(report["outcome"] == "enters", enters, "explain: {what}: {report:#}");
        }
        assert_eq!(pair.enters("/page", &[("authorization", &bearer)], "").await, enters, "login: {what}");
    }
    let said = pair.explained("api", "Bearer opaque");
    assert_eq!(said.json()["outcome"], "refused", "{said:?}");
    assert!(!pair.enters("/page", &[("authorization", "Bearer opaque")], "").await);
}
