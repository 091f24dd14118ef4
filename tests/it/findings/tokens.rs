//! Tokens that an app could read, wherever they stand in a request: what an app gets was verified, or names another issuer.
//! The relay's are in `tokens_relay`.

use std::path::Path;

use loginsync::cli::demo::mint::oidc;
use loginsync::pipeline::ids::{Namespace, Subject, UserId};
use loginsync::ports::store::Act;
use serde_json::{Value, json};

use crate::front_door::House;
use crate::kit::NOW;
use crate::support::corpus::{Case, Change, Values, cases, changed, written};
use crate::support::idp::Idp;
use crate::support::wire::{self, Answer};

const CONFIG: &str = r#"
public_url = "https://app.example"

[app]
url = "http://127.0.0.1:1"

[bearer]
BEARER

[[provider]]
name = "api"
mode = "bearer"
issuer = "ISSUER"
audience = "the-app"
header = "authorization"
algorithms = ["EdDSA"]
NAMESPACE

[provider.claims.groups]

[[provider]]
name = "edge"
mode = "bearer"
issuer = "GATEWAY"
audience = "the-app"
header = "cf-access-jwt-assertion"
jwks_url = "GATEWAY/jwks"
algorithms = ["EdDSA"]
NAMESPACE

[provider.claims.groups]

[[group]]
name = "Staff"

[[mapping]]
provider = "api"
claim = "groups"
value = "staff"
group = "Staff"
"#;

/// Two bearer providers, an honest person, and one who is disabled.
pub(super) struct Scene {
    pub house: House,
    pub idp: Idp,
    gateway: Idp,
    pub honest: String,
    pub disabled: String,
}

impl Scene {
    pub async fn new(bearer: &str) -> Self {
        Self::with(bearer, "").await
    }

    async fn guarded(elsewhere: &str) -> Self {
        Self::with(&format!("[guard]\nelsewhere = \"{elsewhere}\""), "").await
    }

    pub async fn with(bearer: &str, namespace: &str) -> Self {
        let (idp, gateway) = (Idp::start().await, Idp::start().await);
        let text = CONFIG
            .replace("ISSUER", &idp.issuer())
            .replace("GATEWAY", &gateway.issuer())
            .replace("BEARER", bearer)
            .replace("NAMESPACE", namespace);
        let house = House::open(&text, Path::new("tokens.toml"), NOW).await;
        let honest = idp.sign(&claims(&idp, "alice"));
        let disabled = idp.sign(&claims(&idp, "mallory"));
        let scene = Self { house, idp, gateway, honest, disabled };
        assert_eq!(scene.bear(&scene.honest).await.status, 200);
        assert_eq!(scene.bear(&scene.disabled).await.status, 200);
        let home = if namespace.is_empty() { "api" } else { "shared" };
        scene.house.store().act(user(home, "mallory"), Act::Disable, "test".into(), NOW).await.unwrap();
        scene.later(31);
        assert_eq!(scene.bear(&scene.disabled).await.status, 403);
        scene
    }

    pub fn later(&self, seconds: i64) {
        self.house.clock.set(loginsync::pipeline::ids::Timestamp(self.house.clock.now().0 + seconds * 1000));
    }

    pub async fn bear(&self, token: &str) -> Answer {
        self.get(&format!("Authorization: Bearer {token}\r\n")).await
    }

    pub async fn get(&self, headers: &str) -> Answer {
        wire::get(self.house.running.proxy, "/page", headers).await
    }

    /// How much reached the app since, of requests that are long enough to hold a token.
    pub fn reached(&self, before: usize) -> usize {
        let seen = self.house.app.seen();
        let size = |seen: &crate::front_door::Seen| {
            let headers: usize = seen.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            headers + seen.target.len() + seen.body.len()
        };
        seen[before..].iter().filter(|seen| size(seen) > self.disabled.len()).count()
    }

    /// Sends a case with the token of the disabled person.
    async fn send(&self, case: &Case) -> Option<(Answer, usize)> {
        let mut values = Values {
            token: &self.disabled,
            honest: &self.honest,
            field: "access_token",
            who: "mallory",
            issuer: &self.idp.issuer(),
        };
        let token = case.token.as_ref().map(|change| self.minted(change, &values));
        if let Some(token) = &token {
            values.token = token;
        }
        let request = case.request(&values)?;
        let before = self.house.app.seen().len();
        let answer =
            tokio::time::timeout(std::time::Duration::from_secs(5), wire::send(self.house.running.proxy, request));
        let answer = answer.await.unwrap_or_else(|_| panic!("{}: no answer", case.name));
        Some((answer, self.reached(before)))
    }

    fn minted(&self, change: &Change, values: &Values<'_>) -> String {
        let header = changed(&json!({"alg": "EdDSA", "kid": "k"}), &change.header, values);
        let claims = changed(&claims(&self.idp, "mallory"), &change.claims, values);
        let token = oidc::id_token(&self.idp.key, "EdDSA", &header, &claims).unwrap();
        written(change, &token)
    }
}

pub(super) fn user(namespace: &str, subject: &str) -> UserId {
    UserId { namespace: Namespace::parse(namespace).unwrap(), subject: Subject::parse(subject).unwrap() }
}

pub(super) fn claims(idp: &Idp, subject: &str) -> Value {
    let now = NOW.seconds();
    json!({
        "iss": idp.issuer(), "aud": "the-app", "sub": subject, "iat": now - 60, "exp": now + 3600, "groups": ["staff"], "login": subject,
    })
}

/// What readers decode, beside what is written to the letter: base64 with other letters in it (Python, PHP, Ruby, Node), escapes of a
/// cookie (Werkzeug, cookie-parser), and PHP's own names for credentials, which Symfony reads as headers.
#[tokio::test]
async fn sec01_credentials_that_servers_decode_otherwise_do_not_reach_the_app() {
    use base64::Engine as _;
    let scene = Scene::new("cookies = [\"token\"]").await;
    let token = &scene.disabled;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("x:{token}"));
    let (head, tail) = basic.split_at(9);
    let octal: String = token.bytes().map(|byte| format!("\\{byte:03o}")).collect();
    let json: String = token.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    // RFC 7515 section 7.2: some libraries take this form of a token too.
    let parts: Vec<&str> = token.split('.').collect();
    let jws = serde_json::json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string();
    let dotted = jws.replacen('{', "{ \"header\":{\"a\":\"..\"},", 1);
    let encoded: String = percent_encoding::utf8_percent_encode(&jws, percent_encoding::NON_ALPHANUMERIC).collect();
    let in_basic = base64::engine::general_purpose::STANDARD.encode(format!("x:{jws}"));
    for (headers, status) in [
        (format!("Authorization: Basic {basic}\r\n"), 403),
        (format!("Authorization: Basic {head}.{tail}\r\n"), 401),
        (format!("Authorization: Basic {head}-{tail}\r\n"), 401),
        (format!("Authorization: Basic {head}!{tail}\r\n"), 401),
        (format!("Authorization: basic {head} {tail}\r\n"), 401),
        (format!("Authorization: Bearer .{token}\r\n"), 401),
        (format!("Authorization: Bearer ..{token}\r\n"), 401),
        (format!("Authorization: Bearer ...{token}\r\n"), 401),
        (format!("Authorization: Bearer x..{token}\r\n"), 401),
        (format!("Authorization: ..{token}\r\n"), 401),
        (format!("Authorization: Bearer {jws}\r\n"), 401),
        (format!("Authorization: {dotted}\r\n"), 401),
        (format!("Authorization: basic {in_basic}\r\n"), 401),
        (format!("Cookie: token={encoded}\r\n"), 401),
        (format!("Cookie: token={}\r\n", jws.replace(',', "%2c")), 401),
        (format!("Cookie: token=\"{octal}\"\r\n"), 401),
        (format!("Cookie: token=j:\"{json}\"\r\n"), 401),
        (format!("Cookie: token=j%3A%22{}%22\r\n", json.replace('\\', "%5C")), 401),
    ] {
        let before = scene.house.app.seen().len();
        let answer = scene.get(&headers).await;
        assert_eq!((answer.status, scene.reached(before)), (status, 0), "{headers}");
    }
    for name in ["Php-Auth-Digest", "Php-Auth-Pw", "Php-Auth-User"] {
        let before = scene.house.app.seen().len();
        scene.get(&format!("{name}: Bearer {token}\r\n")).await;
        assert_eq!(scene.reached(before), 0, "{name}");
    }
    assert_eq!(scene.get("Authorization: Basic dXNlcjpwYXNz\r\n").await.status, 200, "the app's own");
    let brace = base64::engine::general_purpose::STANDARD.encode("user:{p\"a}ss");
    assert_eq!(scene.get(&format!("Authorization: Basic {brace}\r\n")).await.status, 200, "a password with a brace");
    let query = format!("GET /?access_token={encoded} HTTP/1.1\r\nhost: app.example\r\n\r\n");
    let before = scene.house.app.seen().len();
    assert_eq!(crate::support::wire::send(scene.house.running.proxy, query).await.status, 401, "in the query");
    assert_eq!(scene.reached(before), 0);
}

/// Places of the corpus that mode `bearer` looks into.
pub(super) fn is_looked_into(case: &Case) -> bool {
    const PLACES: [&str; 8] = [
        "authorization: ",
        "gateway header ",
        "a token beside ",
        "cookie: ",
        "query: ",
        "form: ",
        "JSON: ",
        "multipart: ",
    ];
    // No reader that we know of: RFC 2965 is obsolete, a comma, a `#` and an escaped `&` divide nothing, and UTF-8 has no overlong forms.
    const UNREAD: [&str; 10] = [
        "query: an escaped separator",
        "cookie: Cookie2",
        "query: in a fragment",
        "form: in a fragment",
        "query: commas",
        "form: commas",
        "query: overlong (access)",
        "form: overlong (access)",
        "query: an escape of an escape (access)",
        "form: an escape of an escape (access)",
    ];
    // Names of `id_token` alone, and what only an app takes that looks for it itself: deeper members, a body that is the token. The
    // others no reader takes that we know of.
    const OTHERS: [&str; 13] = [
        "multipart: a dot",
        "multipart: a blank",
        "multipart: a bracket",
        "multipart: percent escapes",
        "JSON: an escaped name",
        "JSON: upper case",
        "JSON: a list of objects",
        "JSON: in a member",
        "JSON: a text alone",
        "multipart: a NUL after",
        "multipart: of type a boundary in single quotes",
        "multipart: of type a boundary that begins so",
        "multipart: of type a boundary in upper case",
    ];
    // Names that fold onto others with a `_` are for `findings::headers` to drop.
    let folds = ["named authorization_", "named http_authorization", "named redirect_http_authorization"];
    let folds_type = case.name.starts_with("multipart: folded type");
    PLACES.iter().any(|place| case.name.starts_with(place))
        && !UNREAD.contains(&case.name.as_str())
        && !OTHERS.contains(&case.name.as_str())
        && !folds_type
        && !folds.iter().any(|name| case.name.ends_with(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn sec01_no_token_passes_unread_however_it_is_written() {
    for bearer in ["cookies = [\"token\"]", "cookies = [\"token\"]\nform = true"] {
        let scene = Scene::new(bearer).await;
        let cases: Vec<Case> = cases("places", "bearer").into_iter().filter(is_looked_into).collect();
        assert!(cases.len() > 250, "{}", cases.len());
        let mut passed = Vec::new();
        for case in &cases {
            let Some((answer, reached)) = scene.send(case).await else { continue };
            if reached > 0 {
                passed.push(format!("{}: {}", case.name, answer.status));
            }
        }
        assert!(passed.is_empty(), "with {bearer}:\n{}", passed.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec01_a_malformed_token_of_ours_is_401_and_logged() {
    let scene = Scene::new("").await;
    let users = scene.house.memberships().await;
    for case in cases("tokens", "bearer").into_iter().filter(|case| case.name.starts_with("header: ")) {
        let Some((answer, reached)) = scene.send(&case).await else { continue };
        assert_eq!(reached, 0, "{}: {answer:?}", case.name);
        assert!(matches!(answer.status, 401 | 403), "{}: {answer:?}", case.name);
    }
    let token = &scene.disabled;
    let parts: Vec<&str> = token.split('.').collect();
    let encode = |value: &Value| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let twice = {
        use base64::Engine as _;
        let header = r#"{"alg":"EdDSA","kid":"k","alg":"none"}"#;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header)
    };
    for header in [
        encode(&json!({"kid": "k"})),
        encode(&json!({"alg": ["EdDSA"], "kid": "k"})),
        encode(&json!({"alg": null})),
        encode(&json!({"alg": "none"})),
        encode(&json!({"alg": "EdDSA", "typ": ["JWT"]})),
        encode(&json!({})),
        twice,
        "bm90LWpzb24".into(),
        String::new(),
    ] {
        let answer = scene.bear(&format!("{header}.{}.{}", parts[1], parts[2])).await;
        assert_eq!(answer.status, 401, "{header}: {answer:?}");
        assert_eq!(answer.one("www-authenticate"), Some("Bearer error=\"invalid_token\""));
        assert!(!answer.body.contains(parts[1]), "no token in an answer");
    }
    assert_eq!(scene.house.memberships().await, users);
    let metrics = scene.house.fetch(&format!("http://{}/metrics", scene.house.running.admin)).await;
    assert!(metrics.contains("stage=\"capture\""), "{metrics}");
}

#[tokio::test]
async fn sec01_what_is_no_token_of_ours_passes_as_before() {
    let scene = Scene::new("").await;
    let mut foreign = claims(&scene.idp, "mallory");
    foreign["iss"] = json!("https://elsewhere.example");
    let foreign = scene.idp.sign(&foreign);
    let shared = {
        use base64::Engine as _;
        let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2lnbmF0dXJl", part(&json!({"alg": "HS256"})), part(&json!({"userId": 7, "exp": 1})))
    };
    let values = [
        "Basic dXNlcjpwYXNzd29yZC1vZi1zb21lLWxlbmd0aA==".to_owned(),
        "Bearer ghp_0123456789abcdefghijklmnopqrstuvwxyz".into(),
        "Digest username=\"u\", realm=\"r\", nonce=\"MTY5Nzg2MDgwMDAwMDpmZmZmZmZm\", uri=\"/\", response=\"x\"".into(),
        "AWS4-HMAC-SHA256 Credential=AKIA/20260131/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=fe5f80"
            .into(),
        format!("Bearer {foreign}"),
        format!("Token {foreign}"),
        format!("Bearer {shared}"),
    ];
    for value in values {
        let before = scene.house.app.seen().len();
        assert_eq!(scene.get(&format!("Authorization: {value}\r\n")).await.status, 200, "{value}");
        let seen = scene.house.app.seen();
        assert_eq!(seen[before].headers["authorization"].to_str().unwrap(), value);
        assert!(!seen[before].headers.contains_key("x-loginsync-user"));
    }
    for (form, expected) in [
        (format!("access_token={foreign}&a=b"), 200),
        ("access_token=an-opaque-token-of-the-app&a=b".to_owned(), 200),
        ("a=b".to_owned(), 200),
        (format!("access_token={}", scene.honest), 401),
    ] {
        let answer = wire::post(scene.house.running.proxy, "/page", "", &form).await;
        assert_eq!(answer.status, expected, "{form}");
    }
}

#[tokio::test]
async fn sec12_an_access_token_of_ours_in_json_or_multipart_is_401() {
    const JSON: &str = "content-type: application/json\r\n";
    const PARTS: &str = "content-type: multipart/form-data; boundary=XX\r\n";
    const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
    let part = |head: &str, value: &str| {
        format!("--XX\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n--XX--\r\n")
    };
    for bearer in ["", "form = true"] {
        let scene = Scene::new(bearer).await;
        let send = async |kind: &str, body: &str| {
            let head = format!("POST /page HTTP/1.1\r\nhost: app.example\r\nconnection: close\r\n{kind}");
            let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
            let before = scene.house.app.seen().len();
            let answer = wire::send(scene.house.running.proxy, request).await;
            (answer.status, scene.house.app.seen()[before..].iter().any(|seen| seen.body == body))
        };
        let mut foreign = claims(&scene.idp, "mallory");
        foreign["iss"] = json!("https://elsewhere.example");
        let foreign = scene.idp.sign(&foreign);
        let broken = format!("{}.x", scene.honest);
        for (token, expected) in [
            (scene.honest.as_str(), (401, false)),
            (&scene.disabled, (401, false)),
            (&broken, (401, false)),
            (&foreign, (200, true)),
            ("an-opaque-token-of-the-app", (200, true)),
        ] {
            for (kind, body) in [
                (JSON, format!("{{\"a\": 1, \"access_token\": \"{token}\"}}")),
                (JSON, format!("{{\"access\\u005ftoken\": [\"{token}\"]}}")),
                ("content-type: text/plain\r\n", format!("{{\"Access_Token\": \"{token}\"}}")),
                (FORM, format!("{{\"access_token\": \"{token}\"}}")),
                (PARTS, part("name=\"access_token\"", token)),
                (PARTS, part("name*=utf-8''access%5ftoken", token)),
            ] {
                assert_eq!(send(kind, &body).await, expected, "with `{bearer}`: {kind}{body}");
            }
        }
        let mut another = claims(&scene.idp, "mallory");
        another["aud"] = json!("another-app");
        let another = scene.idp.sign(&another);
        for (token, expected) in [(&scene.honest, (403, false)), (&another, (200, true)), (&foreign, (200, true))] {
            for (kind, body) in [
                (JSON, format!("{{\"data\": {{\"access_token\": \"{token}\"}}}}")),
                (PARTS, part("name=\"file\"; filename=\"a\"", token)),
            ] {
                assert_eq!(send(kind, &body).await, expected, "deeper, and under other names: {body}");
            }
        }
        let unclear = part("name=\"a\"", "b").replace("\r\n", "\n");
        assert_eq!(send(PARTS, &unclear).await, (415, false));
        assert_eq!(send("content-type: application/json; charset=utf-16\r\n", "{}").await, (415, false));
    }
}

#[tokio::test]
async fn sec12_the_guard_says_whether_an_access_token_passes_in_json() {
    let scene = Scene::guarded("pass").await;
    let body = format!("{{\"access_token\": \"{}\"}}", scene.honest);
    let head = "POST /page HTTP/1.1\r\nhost: app.example\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    assert_eq!(wire::send(scene.house.running.proxy, request).await.status, 200);
    let form = format!("access_token={}", scene.honest);
    assert_eq!(
        wire::post(scene.house.running.proxy, "/page", "", &form).await.status,
        401,
        "a form has a key of its own"
    );
}

#[tokio::test]
async fn sec01_query_form_and_cookie_are_verified_like_the_header() {
    let scene = Scene::new("form = true\ncookies = [\"token\"]").await;
    let proxy = scene.house.running.proxy;
    let told = || {
        let seen = scene.house.app.seen();
        let last = seen.last().unwrap();
        (last.headers.get("x-loginsync-user").map(|value| value.to_str().unwrap().to_owned()), last.body.clone())
    };
    let (honest, disabled) = (&scene.honest, &scene.disabled);
    let alice = Some("alice".to_owned());
    assert_eq!(wire::get(proxy, &format!("/hub?id=1&access_token={honest}"), "").await.status, 200);
    assert_eq!(told().0, alice);
    assert_eq!(wire::get(proxy, &format!("/hub?access_token={disabled}"), "").await.status, 403);
    assert_eq!(wire::get(proxy, &format!("/hub?access_token={honest}&Access_Token={honest}"), "").await.status, 400);
    let body = format!("a=b&access_token={honest}&c=d");
    assert_eq!(wire::post(proxy, "/page", "", &body).await.status, 200);
    assert_eq!((told().0, told().1.as_ref()), (alice.clone(), body.as_bytes()), "byte for byte");
    assert_eq!(wire::post(proxy, "/page", "", &format!("access_token={disabled}")).await.status, 403);
    assert_eq!(wire::post(proxy, "/page", "", "a=b").await.status, 200);
    assert_eq!(
        wire::post(
            proxy,
            "/page",
            "",
            &format!("access_token={honest}&id_token=eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA")
        )
        .await
        .status,
        403
    );
    assert_eq!(wire::get(proxy, "/page", &format!("Cookie: a=b; token={honest}\r\n")).await.status, 200);
    assert_eq!(told().0, alice);
    assert_eq!(wire::get(proxy, "/page", &format!("Cookie: a=b; token={disabled}\r\n")).await.status, 403);
    assert_eq!(wire::get(proxy, "/page", &format!("Cookie: other={disabled}\r\n")).await.status, 200, "not named");
}

/// Names, media types and cookies that readers of several frameworks take apart otherwise: Koa, CherryPy, Spring, Zope and ASP.NET
/// names; Bottle, which reads a form of nearly every type; the cookies of Python, Tornado and PHP; the prefix that Gson passes over.
#[tokio::test]
async fn sec01_what_single_frameworks_read_otherwise_does_not_reach_the_app() {
    let scene = Scene::new("form = true\ncookies = [\"my_token\"]").await;
    let (proxy, token) = (scene.house.running.proxy, &scene.disabled);
    let post = |kind: &str, body: &str| {
        let head = format!("POST /page HTTP/1.1\r\nhost: app.example\r\ncontent-type: {kind}\r\n");
        wire::send(proxy, format!("{head}content-length: {}\r\n\r\n{body}", body.len()))
    };
    let names = [
        ".access_token",
        "%2eaccess_token",
        "!access_token",
        "access_%token",
        "access_token:string",
        "model.access_token",
        "access_token.",
    ];
    for name in names {
        for kind in ["application/x-www-form-urlencoded", "image/png", "text/plain", "Multipart/form-data; boundary=x"]
        {
            let before = scene.house.app.seen().len();
            post(kind, &format!("a=b&{name}={token}")).await;
            assert_eq!(scene.reached(before), 0, "{name} in {kind}");
        }
        let before = scene.house.app.seen().len();
        wire::get(proxy, &format!("/page?{name}={token}"), "").await;
        assert_eq!(scene.reached(before), 0, "{name} in a query");
    }
    for kind in [
        "image/png",
        "application/json",
        "application/octet-stream",
        "video/mp4",
        "text/html",
        "application/x-protobuf",
    ] {
        let before = scene.house.app.seen().len();
        post(kind, &format!("access_token={token}")).await;
        assert_eq!(scene.reached(before), 0, "a form as {kind}");
        let answer = post(kind, "access_token=of-the-app&x=1").await;
        assert_eq!(answer.status, 200, "the app's own as {kind}");
    }
    let before = scene.house.app.seen().len();
    let guarded = format!(")]}}'\n{{\"access_token\":\"{token}\"}}");
    post("application/json", &guarded).await;
    assert_eq!(scene.reached(before), 0, "JSON behind a prefix");
    for cookie in [
        format!("a=b my_token={token}"),
        format!("a=b  my_token={token}"),
        format!("a=b\tmy_token={token}"),
        format!("my[token={token}"),
        format!(".my_token={token}"),
    ] {
        let before = scene.house.app.seen().len();
        wire::get(proxy, "/page", &format!("Cookie: {cookie}\r\n")).await;
        assert_eq!(scene.reached(before), 0, "{cookie}");
    }
    for padding in [b"\xa0".as_slice(), b"\x85", b"\xc2\xa0"] {
        let before = scene.house.app.seen().len();
        let head = b"GET /page HTTP/1.1\r\nhost: app.example\r\nconnection: close\r\ncookie: ".as_slice();
        wire::send(proxy, [head, padding, b"my_token=", token.as_bytes(), b"\r\n\r\n"].concat()).await;
        assert_eq!(scene.reached(before), 0, "{padding:?}");
    }
    assert_eq!(wire::get(proxy, "/page", "Cookie: a=b c; my_theme=dark blue\r\n").await.status, 200, "others pass");
}

/// A gateway tells the query of the request in a header of its own; the app behind it reads the token there.
#[tokio::test]
async fn sec01_a_gateway_hears_of_the_token_in_the_query_that_it_asks_about() {
    let idp = Idp::start().await;
    let text = CONFIG
        .replace("ISSUER", &idp.issuer())
        .replace("GATEWAY", &idp.issuer())
        .replace(
            "[app]",
            "[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n\n[forward_auth]\ngateway = \"traefik\"\n\n[app]",
        )
        .replace("BEARER", "")
        .replace("NAMESPACE", "");
    let house = House::open(&text, Path::new("tokens.toml"), NOW).await;
    let ask = async |token: &str| {
        let uri = format!("/hub?access_token={token}");
        house.send("GET", "/.loginsync/auth", &[("x-forwarded-uri", &uri), ("x-forwarded-method", "GET")], b"").await
    };
    let yes = ask(&idp.sign(&claims(&idp, "alice"))).await;
    assert_eq!((yes.status, yes.headers["x-loginsync-user"].as_bytes()), (200, &b"alice"[..]));
    house.store().act(user("api", "alice"), Act::Disable, "test".into(), NOW).await.unwrap();
    house.clock.set(loginsync::pipeline::ids::Timestamp(NOW.0 + 31_000));
    assert_eq!(ask(&idp.sign(&claims(&idp, "alice"))).await.status, 403);
    assert_eq!(ask("eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJ4Ig.x").await.status, 401);
}

#[tokio::test]
async fn sec02_every_header_is_verified_and_two_people_are_refused() {
    let scene = Scene::new("").await;
    let gateway = |subject: &str| scene.gateway.sign(&claims(&scene.gateway, subject));
    let users = scene.house.memberships().await;
    let both = async |edge: &str, api: &str| {
        scene.get(&format!("Cf-Access-Jwt-Assertion: {edge}\r\nAuthorization: Bearer {api}\r\n")).await.status
    };
    let before = scene.house.app.seen().len();
    assert_eq!(both(&gateway("alice"), &scene.disabled).await, 401, "the disabled person's token is looked at");
    assert_eq!(both(&gateway("bob"), &scene.honest).await, 401, "two people");
    assert_eq!(both(&gateway("alice"), &scene.honest).await, 401, "one name in two namespaces is two people");
    assert_eq!(both(&gateway("alice"), "a.b.c").await, 200, "no second token");
    let forged =
        oidc::id_token(&scene.idp.key, "EdDSA", &json!({"alg": "EdDSA", "kid": "k"}), &claims(&scene.gateway, "x"));
    assert_eq!(both(&forged.unwrap(), &scene.honest).await, 401);
    assert_eq!(
        scene.get(&format!("Authorization: Bearer {}\r\n", gateway("alice"))).await.status,
        401,
        "another's header"
    );
    let list = format!("Authorization: Bearer {}, Bearer {}\r\n", scene.honest, scene.honest);
    assert_eq!(scene.get(&list).await.status, 200, "one token twice is one");
    assert_eq!(scene.house.app.seen().len(), before + 2);
    let after = scene.house.memberships().await;
    assert!(after.starts_with(users.lines().next().unwrap()), "{after}");
    assert!(!after.contains("edge/bob"), "two people: neither is synced\n{after}");

    let scene = Scene::with("", "namespace = \"shared\"\nuser_claim = \"login\"").await;
    let both = async |subject: &str, api: &str| {
        let edge = scene.gateway.sign(&claims(&scene.gateway, subject));
        scene.get(&format!("Cf-Access-Jwt-Assertion: {edge}\r\nAuthorization: Bearer {api}\r\n")).await.status
    };
    assert_eq!(both("alice", &scene.honest).await, 200, "a shared namespace says that they are one");
    assert_eq!(both("mallory", &scene.disabled).await, 403);
    assert_eq!(both("alice", &scene.disabled).await, 401);
}

#[tokio::test]
async fn sec03_what_is_signed_for_another_purpose_is_no_login() {
    let scene = Scene::new("").await;
    let users = scene.house.memberships().await;
    let kinds = [
        json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}, "sid": "s"}),
        json!({"events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked": {}}}),
        json!({"typ": "Logout"}),
        json!({"typ": "Refresh"}),
        json!({"token_introspection": {"active": true, "sub": "alice"}}),
        json!({"htm": "GET", "htu": "https://app.example/"}),
        json!({"sub": scene.idp.issuer(), "jwks": {"keys": []}}),
    ];
    for kind in &kinds {
        let mut claims = claims(&scene.idp, "alice");
        claims["groups"] = Value::Null;
        for (name, value) in kind.as_object().unwrap() {
            claims[name] = value.clone();
        }
        assert_eq!(scene.bear(&scene.idp.sign(&claims)).await.status, 401, "{kind}");
    }
    for kind in [
        "logout+jwt",
        "secevent+jwt",
        "token-introspection+jwt",
        "dpop+jwt",
        "entity-statement+jwt",
        "client-authentication+jwt",
    ] {
        let header = json!({"alg": "EdDSA", "kid": "k", "typ": kind});
        let token = oidc::id_token(&scene.idp.key, "EdDSA", &header, &claims(&scene.idp, "alice")).unwrap();
        assert_eq!(scene.bear(&token).await.status, 401, "{kind}");
    }
    assert_eq!(scene.house.memberships().await, users, "nothing changed");
}

/// A provider of mode `bearer` verifies tokens in its own header, and lets none of them pass in another.
#[tokio::test]
async fn sec12_a_token_is_verified_in_its_header_and_passes_in_no_other() {
    let idp = Idp::start().await;
    let text = format!(
        "public_url = \"https://app.example\"\n[app]\nurl = \"http://127.0.0.1:1\"\n[headers]\n\
         trust = [\"cf-access-jwt-assertion\"]\n[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [[provider]]\nname = \"api\"\nmode = \"bearer\"\nissuer = \"{0}\"\naudience = \"the-app\"\n\
         header = \"cf-access-jwt-assertion\"\nalgorithms = [\"EdDSA\"]\njwks_url = \"{0}/jwks\"\n\
         [[provider]]\nname = \"web\"\nmode = \"oidc-form-post\"\nissuer = \"{0}\"\nclient_id = \"the-app\"\ncallback = \"/callback\"\n\
         algorithms = [\"EdDSA\"]\njwks_url = \"{0}/jwks\"\nauthorization_endpoint = \"{0}/authorize\"\nnamespace = \"api\"\n",
        idp.issuer()
    );
    let house = House::open(&text, Path::new("tokens.toml"), NOW).await;
    let token = idp.sign(&claims(&idp, "mallory"));
    for (header, status) in
        [("cf-access-jwt-assertion: ", 200), ("authorization: Bearer ", 403), ("x-access-token: ", 403)]
    {
        let answer = wire::get(house.running.proxy, "/page", &format!("{header}{token}\r\n")).await;
        assert_eq!(answer.status, status, "{header}");
    }
}

/// Entra ID issues tokens for one app under two names, with the same keys, and the person chooses. Apps accept both.
#[tokio::test]
async fn sec01_a_token_by_another_name_of_the_issuer_is_not_foreign() {
    const TENANT: &str = "4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10";
    let ours = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
    let idp = Idp::start().await;
    let text = format!(
        "public_url = \"https://app.example\"\n[app]\nurl = \"http://127.0.0.1:1\"\n\
         [[provider]]\nname = \"api\"\nmode = \"bearer\"\nissuer = \"{ours}\"\naudience = \"the-app\"\nheader = \"authorization\"\n\
         algorithms = [\"EdDSA\"]\njwks_url = \"{0}/jwks\"\nissuer_aliases = [\"https://login.example\"]\n\
         [[provider]]\nname = \"web\"\nmode = \"oidc-form-post\"\nissuer = \"{ours}\"\nclient_id = \"the-app\"\ncallback = \"/callback\"\n\
         algorithms = [\"EdDSA\"]\njwks_url = \"{0}/jwks\"\nauthorization_endpoint = \"{0}/authorize\"\nnamespace = \"api\"\n",
        idp.issuer()
    );
    let house = House::open(&text, Path::new("tokens.toml"), NOW).await;
    let signed = |issuer: &str| {
        let mut claims = claims(&idp, "mallory");
        claims["iss"] = json!(issuer);
        idp.sign(&claims)
    };
    let bear = async |token: &str| {
        wire::get(house.running.proxy, "/page", &format!("authorization: Bearer {token}\r\n")).await.status
    };
    assert_eq!(bear(&signed(&ours)).await, 200);
    assert_eq!(bear(&signed("https://idp.example/another")).await, 200);
    let before = house.app.seen().len();
    for issuer in [
        format!("https://sts.windows.net/{TENANT}/"),
        format!("https://login.windows.net/{TENANT}/v2.0"),
        // By another domain of the provider, which the configuration names.
        "https://login.example/".to_owned(),
    ] {
        let token = signed(&issuer);
        assert_eq!(bear(&token).await, 401, "{issuer}");
        assert_eq!(wire::get(house.running.proxy, &format!("/page?access_token={token}"), "").await.status, 401);
        assert_eq!(wire::get(house.running.proxy, &format!("/page?id_token={token}"), "").await.status, 403);
        for (kind, body) in [
            ("application/x-www-form-urlencoded", format!("id_token={token}")),
            ("application/json", format!("{{\"id_token\":\"{token}\"}}")),
        ] {
            let request = format!(
                "POST /page HTTP/1.1\r\nhost: app.example\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            assert_eq!(wire::send(house.running.proxy, request).await.status, 403, "{issuer} as {kind}");
        }
    }
    assert_eq!(house.app.seen().len(), before, "the app got nothing of these");
}
