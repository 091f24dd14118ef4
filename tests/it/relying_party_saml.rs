//! Mode `relying-party` with SAML: the service provider that we are, against an identity provider whose messages are chosen.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loginsync::cli::demo::mint::saml::{self, MintAttribute, SamlLogin};
use loginsync::cli::demo::mint::{Hash, MintKey, Scheme};
use loginsync::pipeline::ids::Timestamp;

use crate::front_door::{Answer, House};
use crate::kit::{self, NOW, read, signer};

const ISSUER: &str = "https://idp.example/saml";
const ENTITY: &str = "https://app.example/.loginsync/metadata";
const ACS: &str = "https://app.example/.loginsync/acs";
const SLO: &str = "https://app.example/.loginsync/slo";

const CONFIG: &str = r#"
public_url = "https://app.example"

[app]
url = "http://127.0.0.1:1"
start_page = "/start"

[[provider]]
name = "saml"
mode = "relying-party"
issuer = "https://idp.example/saml"
metadata_file = "METADATA"
KEYS
MORE

[provider.claims.groups]

[[group]]
name = "Staff"

[[mapping]]
provider = "saml"
claim = "groups"
value = "staff"
group = "Staff"
"#;

struct Scene {
    house: House,
    key: MintKey,
    _folder: tempfile::TempDir,
}

/// A login that has left.
struct Left {
    cookies: String,
    request: String,
    id: String,
    query: String,
    relay_state: String,
}

impl Scene {
    async fn open(more: &str, signs: bool) -> Self {
        Self::beside("", more, signs).await
    }

    /// With another provider before this one.
    async fn beside(other: &str, more: &str, signs: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = rustls_der("idp-rsa");
        let metadata = saml::metadata(ISSUER, &[certificate], "https://idp.example/sso", "https://idp.example/post");
        let slo = "<md:SingleLogoutService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" \
                   Location=\"https://idp.example/slo?a=b\" ResponseLocation=\"https://idp.example/slo-done\"/>\
                   <md:SingleSignOnService";
        let path = folder.path().join("metadata.xml");
        std::fs::write(&path, metadata.replacen("<md:SingleSignOnService", slo, 1)).unwrap();
        let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/keys");
        let signing = format!(
            "sp_key_file = \"{keys}/idp-rsa-next.key.test-only.pem\"\n\
             sp_certificate_file = \"{keys}/idp-rsa-next.certificate.test-only.pem\""
        );
        let text = CONFIG
            .replacen("[[provider]]", &format!("{other}\n[[provider]]"), 1)
            .replace("METADATA", path.to_str().unwrap())
            .replace("KEYS", if signs { &signing } else { "" })
            .replace("MORE", more);
        let house = House::open(&text, &path, NOW).await;
        Self { house, key: kit::key("idp-rsa"), _folder: folder }
    }

    async fn get(&self, target: &str, cookies: &str) -> Answer {
        let headers = [("accept", "text/html"), ("cookie", cookies)];
        self.house.send("GET", target, &headers[..if cookies.is_empty() { 1 } else { 2 }], b"").await
    }

    async fn leave(&self) -> Left {
        let away = self.get("/.loginsync/sign-in?rd=/page", "").await;
        assert_eq!(away.status, 303, "{}", away.body);
        let address = away.headers["location"].to_str().unwrap().to_owned();
        let query = address.strip_prefix("https://idp.example/sso?").unwrap().to_owned();
        let request = inflated(&parameter(&query, "SAMLRequest"));
        let id = request.split(" ID=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let cookie = away.headers["set-cookie"].to_str().unwrap();
        assert!(cookie.starts_with("__Host-loginsync-p-") && cookie.contains("SameSite=None"), "{cookie}");
        let cookies = cookie.split(';').next().unwrap().to_owned();
        Left { cookies, request, id, relay_state: parameter(&query, "RelayState"), query }
    }

    fn login(&self, left: &Left, assertion: &str) -> SamlLogin {
        let mut login = SamlLogin::new(ISSUER, ENTITY, ACS, ("_response", assertion), self.house.clock.now().0);
        login.in_response_to = Some(left.id.clone());
        login.name_id = Some(("alice".into(), None));
        login.attributes = vec![MintAttribute::of("groups", &["staff"])];
        login
    }

    async fn acs(&self, login: &SamlLogin, relay_state: &str, cookies: &str) -> Answer {
        self.acs_as(&[], login, relay_state, cookies).await
    }

    async fn acs_as(&self, more: &[(&str, &str)], login: &SamlLogin, relay_state: &str, cookies: &str) -> Answer {
        let document = kit::signed_assertion(login, &self.key);
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("SAMLResponse", &saml::field(&document))
            .append_pair("RelayState", relay_state)
            .finish();
        let headers =
            [("content-type", "application/x-www-form-urlencoded"), ("accept", "text/html"), ("cookie", cookies)];
        let headers = [&headers[..], more].concat();
        self.house.send("POST", "/.loginsync/acs", &headers, body.as_bytes()).await
    }

    /// A whole login: the cookie of its session.
    async fn log_in(&self, assertion: &str) -> String {
        let left = self.leave().await;
        let answer = self.acs(&self.login(&left, assertion), &left.relay_state, &left.cookies).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        session(&answer).unwrap()
    }

    async fn user(&self, session: &str) -> Option<String> {
        let before = self.house.app.seen().len();
        self.get("/page", session).await;
        let seen = self.house.app.seen();
        Some(seen.get(before)?.headers.get("x-loginsync-user")?.to_str().unwrap().to_owned())
    }
}

fn rustls_der(name: &str) -> Vec<u8> {
    let pem = read(&format!("keys/{name}.certificate.test-only.pem"));
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).unwrap()
}

fn session(answer: &Answer) -> Option<String> {
    let lines = answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    let line = lines.into_iter().find(|line| line.starts_with("__Host-loginsync-s="))?;
    Some(line.split(';').next().unwrap().to_owned())
}

fn parameter(query: &str, name: &str) -> String {
    let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn inflated(value: &str) -> String {
    let mut text = String::new();
    flate2::read::DeflateDecoder::new(&STANDARD.decode(value).unwrap()[..]).read_to_string(&mut text).unwrap();
    text
}

fn deflated(document: &str) -> String {
    let mut packed = Vec::new();
    flate2::read::DeflateEncoder::new(document.as_bytes(), flate2::Compression::best())
        .read_to_end(&mut packed)
        .unwrap();
    STANDARD.encode(packed)
}

/// SAML Bindings section 3.4.4.1: the signature covers the query up to itself.
fn is_signed_by(query: &str, key: &str) -> bool {
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    let Some((signed, signature)) = query.split_once("&Signature=") else { return false };
    let signature = percent_encoding::percent_decode_str(signature).decode_utf8().unwrap().into_owned();
    let public = kit::key(key).public_key().unwrap();
    assert_eq!(parameter(query, "SigAlg"), "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256");
    let signature = STANDARD.decode(signature).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).verify(signed.as_bytes(), &signature).is_ok()
}

#[tokio::test]
async fn a_person_signs_in_by_saml() {
    let scene = Scene::open("", true).await;
    let left = scene.leave().await;
    for part in [
        "AssertionConsumerServiceURL=\"https://app.example/.loginsync/acs\"",
        "Destination=\"https://idp.example/sso\"",
        "<saml:Issuer>https://app.example/.loginsync/metadata</saml:Issuer>",
        "Version=\"2.0\"",
    ] {
        assert!(left.request.contains(part), "{part}: {}", left.request);
    }
    assert!(is_signed_by(&left.query, "idp-rsa-next"), "{}", left.query);
    let back = scene.acs(&scene.login(&left, "_a1"), &left.relay_state, &left.cookies).await;
    assert_eq!((back.status, back.headers["location"].to_str().unwrap()), (303, "https://app.example/page"));
    let session = session(&back).unwrap();
    assert_eq!(scene.user(&session).await.as_deref(), Some("alice"));
    let replay = scene.acs(&scene.login(&left, "_a1"), &left.relay_state, &left.cookies).await;
    assert_eq!(replay.status, 409, "from another browser");
    let again = scene.acs(&scene.login(&left, "_a1"), &left.relay_state, &format!("{}; {session}", left.cookies)).await;
    assert_eq!((again.status, again.headers["location"].to_str().unwrap()), (303, "https://app.example/start"));

    // LOG12: a reload brings neither the session cookie nor what the browser left with.
    let login = scene.login(&left, "_a1");
    let reload = scene.acs(&login, &left.relay_state, "").await;
    assert_eq!(reload.status, 403, "a program");
    let reload = scene.acs_as(&[("sec-fetch-mode", "navigate")], &login, &left.relay_state, "").await;
    assert_eq!((reload.status, reload.headers["location"].to_str().unwrap()), (303, ACS));
    let by_get = scene.get("/.loginsync/acs", &session).await;
    assert_eq!((by_get.status, by_get.headers["location"].to_str().unwrap()), (303, "https://app.example/start"));
    assert_eq!(scene.get("/.loginsync/acs", "").await.status, 403);

    let metadata = scene.get("/.loginsync/metadata", "").await;
    assert_eq!(metadata.headers["content-type"], "application/samlmetadata+xml");
    let document = roxmltree::Document::parse(&metadata.body).unwrap();
    assert_eq!(document.root_element().attribute("entityID"), Some(ENTITY));
    let certificate = STANDARD.encode(rustls_der("idp-rsa-next"));
    for part in [ACS, SLO, "AuthnRequestsSigned=\"true\"", &certificate] {
        assert!(metadata.body.contains(part), "{part}");
    }
    let unsigned = Scene::open("", false).await;
    assert!(!unsigned.leave().await.query.contains("Signature"));
}

#[tokio::test]
async fn a_response_that_this_browser_did_not_ask_for_logs_nobody_in() {
    let scene = Scene::open("", true).await;
    let (left, other) = (scene.leave().await, scene.leave().await);
    let login = scene.login(&left, "_a1");
    let unsolicited = SamlLogin { in_response_to: None, ..login.clone() };
    let foreign = SamlLogin { recipient: "https://other.example/acs".into(), ..login.clone() };
    let audience = SamlLogin { audiences: vec!["https://other.example".into()], ..login.clone() };
    for (name, login, relay_state, cookies) in [
        ("no cookie", &login, left.relay_state.as_str(), "x=1"),
        ("another browser's cookie", &login, &left.relay_state, other.cookies.as_str()),
        ("another browser's RelayState", &login, &other.relay_state, &left.cookies),
        ("a RelayState that is an address", &login, "https://evil.example/", &left.cookies),
        ("no request", &unsolicited, &left.relay_state, &left.cookies),
        ("no request, no RelayState", &unsolicited, "", &left.cookies),
        ("another recipient", &foreign, &left.relay_state, &left.cookies),
        ("another audience", &audience, &left.relay_state, &left.cookies),
    ] {
        let answer = scene.acs(login, relay_state, cookies).await;
        assert_eq!((answer.status, session(&answer)), (403, None), "{name}: {}", answer.body);
        assert!(scene.house.store().users(None, 9).await.unwrap().is_empty(), "{name}");
    }
    let answer = scene.acs(&login, "", &left.cookies).await;
    assert_eq!(answer.status, 303, "InResponseTo alone says which request it was");

    // Where the operator allows it, the provider may begin; what it says of a place to go is not followed (threat 29).
    let open = Scene::open("allow_idp_initiated = true", true).await;
    let login = SamlLogin { in_response_to: None, ..open.login(&left, "_a2") };
    let answer = open.acs(&login, "https://evil.example/", "x=1").await;
    assert_eq!((answer.status, answer.headers["location"].to_str().unwrap()), (303, "https://app.example/start"));
    // OUT12: a place of our own origin is.
    let login = SamlLogin { in_response_to: None, ..open.login(&left, "_a3") };
    let answer = open.acs(&login, "/reports?year=1", "x=1").await;
    assert_eq!(
        (answer.status, answer.headers["location"].to_str().unwrap()),
        (303, "https://app.example/reports?year=1")
    );
}

/// OUT9: what ends no session is not told as a success, and an index that is empty names no session of its own.
#[tokio::test]
async fn out09_a_saml_logout_says_whether_it_ended_a_session() {
    let scene = Scene::open("", true).await;
    let session = scene.log_in("_a1").await;
    for (id, index, lives, status) in
        [("_l1", "unknown", true, "status:UnknownPrincipal"), ("_l2", " ", false, "status:Success")]
    {
        let index = format!("<samlp:SessionIndex>{index}</samlp:SessionIndex></samlp:LogoutRequest>");
        let change = |text: String| text.replace("</samlp:LogoutRequest>", &index);
        let query = redirected(&logout(id, change, NOW), &scene.key, None);
        let answer = scene.get(&format!("/.loginsync/slo?{query}"), "").await;
        let address = answer.headers["location"].to_str().unwrap();
        let response = inflated(&parameter(address.split_once('?').unwrap().1, "SAMLResponse"));
        assert!(response.contains(status), "{id}: {response}");
        assert_eq!(scene.user(&session).await.is_some(), lives, "{id}");
    }
}

/// A LogoutRequest in canonical form.
pub fn logout(id: &str, change: impl Fn(String) -> String, now: Timestamp) -> String {
    let saml = "xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\"";
    change(format!(
        "<samlp:LogoutRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" Destination=\"{SLO}\" ID=\"{id}\" \
         IssueInstant=\"{now}\" Version=\"2.0\"><saml:Issuer {saml}>{ISSUER}</saml:Issuer>\
         <saml:NameID {saml}>alice</saml:NameID></samlp:LogoutRequest>"
    ))
}

pub fn redirected(document: &str, key: &MintKey, relay_state: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("SAMLRequest", &deflated(document));
    if let Some(relay_state) = relay_state {
        query.append_pair("RelayState", relay_state);
    }
    query.append_pair("SigAlg", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256");
    let signed = query.finish();
    let signature = key.sign(Scheme::RsaPkcs1(Hash::Sha256), signed.as_bytes()).unwrap();
    let signature: String = form_urlencoded::byte_serialize(STANDARD.encode(signature).as_bytes()).collect();
    format!("{signed}&Signature={signature}")
}

#[tokio::test]
async fn a_provider_ends_sessions_by_a_signed_logout_request() {
    let scene = Scene::open("", true).await;
    let first = scene.log_in("_a1").await;
    let query = redirected(&logout("_l1", |text| text, NOW), &scene.key, Some("their state"));
    let answer = scene.get(&format!("/.loginsync/slo?{query}"), "").await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    assert_eq!(scene.user(&first).await, None);
    let address = answer.headers["location"].to_str().unwrap();
    let query = address.strip_prefix("https://idp.example/slo-done?").unwrap();
    assert!(is_signed_by(query, "idp-rsa-next"));
    assert_eq!(parameter(query, "RelayState"), "their state");
    let response = inflated(&parameter(query, "SAMLResponse"));
    assert!(response.contains("InResponseTo=\"_l1\"") && response.contains("status:Success"), "{response}");
    assert!(scene.house.memberships().await.contains("Staff"), "memberships stay");

    let second = scene.log_in("_a2").await;
    let signed = saml::sign(&logout("_l2", |text| text, NOW), "_l2", signer(&scene.key)).unwrap();
    let body = kit::body("SAMLRequest", &saml::field(&signed));
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = scene.house.send("POST", "/.loginsync/slo", &headers, body.as_bytes()).await;
    assert_eq!(answer.status, 303, "by POST: {}", answer.body);
    assert_eq!(scene.user(&second).await, None);
    let third = scene.log_in("_a3").await;
    let again = scene.house.send("POST", "/.loginsync/slo", &headers, body.as_bytes()).await;
    assert_eq!(again.status, 400, "the same message again");
    assert!(scene.user(&third).await.is_some());
}

/// SAML Core section 3.7.1: an index names one of the person's sessions, and none names all of them.
#[tokio::test]
async fn a_provider_ends_the_session_that_it_names() {
    let scene = Scene::open("", true).await;
    let (first, second) = (scene.log_in("_a1").await, scene.log_in("_a2").await);
    let of = |id: &str, name: &str, indices: &[&str]| {
        let indices: String =
            indices.iter().map(|index| format!("<samlp:SessionIndex>{index}</samlp:SessionIndex>")).collect();
        let change = |text: String| {
            text.replace(">alice<", &format!(">{name}<"))
                .replace("</samlp:LogoutRequest>", &format!("{indices}</samlp:LogoutRequest>"))
        };
        redirected(&logout(id, change, NOW), &scene.key, None)
    };
    let send = async |query: String| scene.get(&format!("/.loginsync/slo?{query}"), "").await.status;
    let live = async |session: &str| scene.user(session).await.is_some();
    assert_eq!(send(of("_l1", "alice", &["_unknown"])).await, 303);
    assert_eq!(send(of("_l2", "bob", &["_a1-session"])).await, 303, "another person's session of that index");
    assert!(live(&first).await && live(&second).await);
    assert_eq!(send(of("_l3", "alice", &["_a1-session"])).await, 303);
    assert!(!live(&first).await && live(&second).await);
    let (third, fourth) = (scene.log_in("_a3").await, scene.log_in("_a4").await);
    assert_eq!(send(of("_l4", "alice", &["_a2-session", "_a3-session"])).await, 303);
    assert!(!live(&second).await && !live(&third).await && live(&fourth).await);
    assert_eq!(send(of("_l5", "alice", &[])).await, 303);
    assert!(!live(&fourth).await);
}

/// One issuer that is captured in two ways does not say which of them its logout is about: the session ends wherever it is.
#[tokio::test]
async fn a_logout_request_counts_for_every_provider_of_its_issuer() {
    let other = format!(
        "[[provider]]\nname = \"other\"\nmode = \"saml-post\"\nissuer = \"{ISSUER}\"\n\
         audience = \"https://app.example/other\"\ncallback = \"/other/acs\"\nmetadata_file = \"METADATA\"\n"
    );
    let scene = Scene::beside(&other, "", true).await;
    let session = scene.log_in("_a1").await;
    let query = redirected(&logout("_l1", |text| text, NOW), &scene.key, None);
    let answer = scene.get(&format!("/.loginsync/slo?{query}"), "").await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    assert_eq!(scene.user(&session).await, None);
    let again = scene.get(&format!("/.loginsync/slo?{query}"), "").await;
    assert_eq!(again.status, 400, "once for all of them");
}

/// Keycloak's issuer is one address for both protocols.
#[tokio::test]
async fn a_logout_request_is_answered_where_its_issuer_is_an_oidc_provider_too() {
    let oidc = format!(
        "[[provider]]\nname = \"oidc\"\nmode = \"relying-party\"\nissuer = \"{ISSUER}\"\nclient_id = \"app\"\n\
         client_auth = \"none\"\n"
    );
    let scene = Scene::beside(&oidc, "", true).await;
    let query = redirected(&logout("_l1", |text| text, NOW), &scene.key, None);
    let answer = scene.get(&format!("/.loginsync/slo?{query}"), "").await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let address = answer.headers["location"].to_str().unwrap();
    assert!(is_signed_by(address.strip_prefix("https://idp.example/slo-done?").unwrap(), "idp-rsa-next"));
}

/// Threats 74 and 75.
#[tokio::test]
async fn a_logout_request_that_is_not_signed_over_what_is_read_ends_nothing() {
    let scene = Scene::open("", true).await;
    let session = scene.log_in("_a1").await;
    let plain = logout("_l1", |text| text, NOW);
    let good = redirected(&plain, &scene.key, Some("r"));
    let stranger = kit::key("stranger-rsa");
    let (signed, signature) = good.split_once("&Signature=").unwrap();
    let (request, rest) = signed.split_once("&RelayState=").unwrap();
    let (_, algorithm) = rest.split_once('&').unwrap();
    let altered = |change: &dyn Fn(String) -> String| redirected(&logout("_l1", change, NOW), &scene.key, None);
    let queries = [
        ("unsigned", format!("SAMLRequest={}", parameter(&good, "SAMLRequest").replace('+', "%2B"))),
        ("by a stranger", redirected(&plain, &stranger, None)),
        ("another RelayState", good.replace("RelayState=r", "RelayState=s")),
        ("without its RelayState", good.replace("&RelayState=r", "")),
        ("a second request", format!("{good}&SAMLRequest=x")),
        ("a second RelayState", format!("{good}&RelayState=r")),
        ("a second algorithm", format!("{good}&SigAlg=x")),
        ("a second signature", format!("{good}&Signature={signature}")),
        ("a name in another case", format!("{good}&samlrequest=x")),
        ("an encoded name", good.replace("SAMLRequest=", "SAML%52equest=")),
        ("another encoding of it", good.replace("%3A", "%3a")),
        ("SHA-1", good.replace("rsa-sha256", "rsa-sha1")),
        ("an algorithm without a signature", format!("{request}&{algorithm}")),
        ("a signature without an algorithm", format!("{request}&Signature={signature}")),
        ("beside an answer", format!("{good}&SAMLResponse=x")),
        ("another issuer", altered(&|text| text.replace("idp.example/saml<", "evil.example<"))),
        ("for another app", altered(&|text| text.replace("app.example", "other.example"))),
        ("for nobody in particular", altered(&|text| text.replace("Destination", "Elsewhere"))),
        ("long ago", altered(&|text| text.replace("2026-", "2025-"))),
        ("of an older version", altered(&|text| text.replace("\"2.0\"", "\"1.1\""))),
        ("expired", altered(&|text| text.replace(" Version", " NotOnOrAfter=\"2020-01-01T00:00:00Z\" Version"))),
        ("without a name", altered(&|text| text.replace("NameID", "BaseID"))),
        ("with an assertion", altered(&|text| text.replace("</samlp:Log", "<Assertion/></samlp:Log"))),
        ("a bomb", format!("SAMLRequest={}", deflated(&" ".repeat(8 << 20)).replace('+', "%2B").replace('/', "%2F"))),
        ("nothing", String::new()),
    ];
    for (name, query) in queries {
        let answer = scene.get(&format!("/.loginsync/slo?{query}"), &session).await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.body);
        assert_eq!(scene.user(&session).await.as_deref(), Some("alice"), "{name}");
    }
    // By POST: the signature of another element, none, and one of a stranger.
    let own = saml::sign(&plain, "_l1", signer(&scene.key)).unwrap();
    for (name, document) in [
        ("unsigned", plain.clone()),
        ("by a stranger", saml::sign(&plain, "_l1", signer(&stranger)).unwrap()),
        ("altered", own.replace(">alice<", ">bob<")),
        ("wrapped", format!("<a ID=\"_x\">{own}</a>")),
        ("of another ID", own.replace(" ID=\"_l1\"", " ID=\"_l9\"")),
    ] {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let body = kit::body("SAMLRequest", &saml::field(&document));
        let answer = scene.house.send("POST", "/.loginsync/slo", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{name}");
        assert!(scene.user(&session).await.is_some(), "{name}");
    }
    assert_eq!(scene.get(&format!("/.loginsync/slo?{good}"), "").await.status, 303, "and the good one does");
    assert_eq!(scene.user(&session).await, None);
}

#[tokio::test]
async fn signing_out_goes_on_to_the_provider() {
    let scene = Scene::open("", true).await;
    let session = scene.log_in("_a1").await;
    let away = scene.house.send("POST", "/.loginsync/sign-out", &[("cookie", &session)], b"").await;
    assert_eq!(away.status, 200, "{}", away.body);
    let (_, onward) = away.body.split_once("content=\"0; url=").expect("a page that leads on");
    let onward = onward.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
    let query = onward.strip_prefix("https://idp.example/slo?a=b&").unwrap();
    assert!(is_signed_by(query, "idp-rsa-next"));
    let request = inflated(&parameter(query, "SAMLRequest"));
    assert!(request.contains(">alice</saml:NameID>") && request.contains("LogoutRequest"), "{request}");
    assert_eq!(scene.user(&session).await, None);
    let answer = "<samlp:LogoutResponse xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\"/>";
    let answer: String = form_urlencoded::byte_serialize(deflated(answer).as_bytes()).collect();
    let done = scene.get(&format!("/.loginsync/slo?SAMLResponse={answer}"), "").await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert!(done.body.contains("Signed out"));
}

/// Finding OUT10: what anybody can send says nothing of a session that lives.
#[tokio::test]
async fn out10_what_anybody_can_send_says_nothing_of_a_session_that_lives() {
    let scene = Scene::open("", true).await;
    let answer = "<samlp:LogoutResponse xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\"/>";
    let answer: String = form_urlencoded::byte_serialize(deflated(answer).as_bytes()).collect();
    let session = scene.log_in("_a2").await;
    let done = scene.get(&format!("/.loginsync/slo?SAMLResponse={answer}"), &session).await;
    assert!(done.body.contains("You are still signed in"), "{}", done.body);
    assert!(done.headers.get("set-cookie").is_none());
    assert!(scene.user(&session).await.is_some());
}
