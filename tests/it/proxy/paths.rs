//! Callbacks under every spelling, and logins where none belongs (threats 18 to 26).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::Read as _;

use crate::support::app::App;
use crate::support::wire::{get, post, send};
use crate::support::{Proxy, Setting};

/// A POST that would log in at the callback, under the spelling given: never reaches the app.
#[tokio::test]
async fn a_callback_under_another_spelling_is_still_one() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    for target in [
        "/login/callback",
        "/Login/CALLBACK",
        "//login/callback",
        "/login//callback",
        "/login/callback/",
        "/login%2fcallback",
        "/login%2Fcallback",
        "/login%5ccallback",
        "/%5clogin/callback",
        "/login\\callback",
        "/%6cogin/callback",
        "/%256cogin/callback",
        "/login;v=1/callback",
        "/login/callback;jsessionid=1",
        "/login/callback%3b",
        "/login/callback%23",
        "/login/callback#x",
        "/login/callback?x=/public",
        "/./login/callback",
        "/login/./callback",
        "/login/callback%20",
        "/login/callback/.",
        "http://app.example/login/callback",
        "/public/../login/callback",
        "/public/%2e%2e/login/callback",
        "/x//../callback",
        "/public/..;/login/callback",
        "/login/callback%00",
        "/login%c0%afcallback",
        "/%252e%252e/login/callback",
    ] {
        // JSON, which only the rules of a callback refuse: elsewhere it would pass.
        let request = format!(
            "POST {target} HTTP/1.1\r\nhost: app.example\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{{\"id_token\":\"x\"}}"
        );
        let answer = send(proxy.address, request).await;
        assert!(matches!(answer.status, 400 | 415), "{target}: {answer:?}");
    }
    assert!(app.received().is_empty(), "{:#?}", app.received());
    assert!(!proxy.has_users().await);
}

/// Threats 21, 26.
#[tokio::test]
async fn the_path_that_is_decided_on_is_the_path_that_is_forwarded() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    for target in [
        "/",
        "/a//b",
        "/A%2fb%252F?c=%2F&d=+%20",
        "/a;b=c/d",
        "/a\\b",
        "/%e4%bd%a0?%00",
        "/wiki/C%23",
        "/a?",
        "/a?b?c",
        "//a",
        "/a%",
        "/a%zz",
        "/{x}|",
        "/Login/Callback",
        "/login%2Fcallback?x=1",
    ] {
        let answer = get(proxy.address, target, "").await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert_eq!(app.last().target(), target);
    }
    assert_eq!(send(proxy.address, "OPTIONS * HTTP/1.1\r\nhost: app.example\r\n\r\n").await.status, 200);
    assert_eq!(app.last().target(), "*");
}

/// A response that holds something for an assertion.
const RESPONSE: &str = "<samlp:Response><saml:Assertion/></samlp:Response>";

#[tokio::test]
async fn a_login_elsewhere_is_refused_and_the_app_never_sees_it_whole() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let token = proxy.token(|_| {});
    let saml: String = form_urlencoded::byte_serialize(STANDARD.encode(RESPONSE).as_bytes()).collect();
    for body in [
        format!("id_token={token}"),
        format!("a=1&ID_TOKEN={token}"),
        format!("a=1;id%5ftoken={token}"),
        format!("%20id.token[]={token}"),
        format!("a=1&SAMLResponse={saml}"),
        format!("samlresponse=%50{}", &saml[1..]),
        format!("SAMLResponse=PHNhbWxwOkxvZ291dFJlc3BvbnNlIC8+&id_token={token}"),
    ] {
        for kind in [
            "content-type: application/x-www-form-urlencoded\r\n",
            "content-type: Application/X-WWW-Form-Urlencoded, text/plain\r\n",
            "",
        ] {
            let request = format!(
                "POST /other HTTP/1.1\r\nhost: app.example\r\n{kind}content-length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = send(proxy.address, &request).await;
            assert_eq!(answer.status, 403, "{body}: {answer:?}");
            assert!(answer.body.contains("does not take logins"), "{answer:?}");
            let chunked = format!(
                "POST /other HTTP/1.1\r\nhost: app.example\r\n{kind}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
                body.as_bytes()
                    .chunks(97)
                    .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)))
                    .collect::<String>()
            );
            assert_eq!(send(proxy.address, &chunked).await.status, 403, "{body} in chunks");
        }
    }
    for query in [
        format!("id_token={token}"),
        format!("a=1&Id_Token={token}"),
        format!("%69d_token={token}"),
        format!("SAMLResponse={saml}"),
        format!("a=1;samlresponse={saml}"),
    ] {
        assert_eq!(get(proxy.address, &format!("/other?{query}"), "").await.status, 403, "{query}");
    }
    assert_eq!(app.complete(), 0, "{:#?}", app.received());
    assert!(!proxy.has_users().await);
}

#[tokio::test]
async fn logout_answers_and_ordinary_forms_pass() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let logout =
        b"<?xml version=\"1.0\"?><samlp:LogoutResponse xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"a\"/>";
    let posted = format!("RelayState=1&SAMLResponse={}", STANDARD.encode(logout).replace('+', "%2B"));
    for body in [posted.as_str(), "a=1&b=id_token", "code=1&state=2", "", "SAMLResponse="] {
        assert_eq!(post(proxy.address, "/slo", "", body).await.status, 200, "{body}");
        assert_eq!(app.last().body, body.as_bytes());
    }
    let mut deflated = Vec::new();
    flate2::read::DeflateEncoder::new(&logout[..], flate2::Compression::best()).read_to_end(&mut deflated).unwrap();
    let value: String = form_urlencoded::byte_serialize(STANDARD.encode(deflated).as_bytes()).collect();
    for query in [format!("SAMLResponse={value}&RelayState=1"), "id=1&s=x&token=id_token".into()] {
        assert_eq!(get(proxy.address, &format!("/slo?{query}"), "").await.status, 200, "{query}");
    }
}

#[tokio::test]
async fn forms_that_cannot_be_read_as_they_pass_are_refused() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    assert_eq!(post(proxy.address, "/other", "content-encoding: gzip\r\n", "xx").await.status, 415);
    assert_eq!(post(proxy.address, "/login/callback", "content-encoding: gzip\r\n", "xx").await.status, 415);
    for path in ["/other", "/login/callback"] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: app.example\r\ncontent-type: application/x-www-form-urlencoded; charset=utf-16\r\ncontent-length: 1\r\n\r\nx"
        );
        assert_eq!(send(proxy.address, request).await.status, 415, "{path}");
    }
    assert!(app.received().is_empty());
}

/// PRX1: `curl -T` puts a file without a media type.
#[tokio::test]
async fn prx01_a_file_that_is_put_without_a_media_type_is_no_form() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let saml: String = form_urlencoded::byte_serialize(STANDARD.encode(RESPONSE).as_bytes()).collect();
    let body = format!("10:00 GET /?a=1&SAMLResponse={saml}&b=2 200");
    let request = |method: &str| {
        format!("{method} /log.txt HTTP/1.1\r\nhost: app.example\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    assert_eq!(send(proxy.address, request("PUT")).await.status, 200);
    assert_eq!(
        send(proxy.address, request("POST")).await.status,
        403,
        "Rack takes what is posted without a type for a form"
    );
}

/// PRX1: whatever the file holds. Only what looks like a JSON object is read as one where no type says JSON.
#[tokio::test]
async fn prx01_any_file_is_put_without_a_media_type() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let mut state = 0x9e37_79b9_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(300_000)
    .collect();
    let form = proxy.login_form();
    let token = form.split('&').find_map(|pair| pair.strip_prefix("id_token=")).unwrap();
    let object = format!("{{\"id_token\":\"{token}\"}}");
    for magic in ["\u{89}PNG\r\n\x1a\n", "PK\x03\x04", "\x1f\u{8b}\x08\0", "%PDF-1.7\n", "\x7fELF", "a", "0"] {
        let magic: Vec<u8> = magic.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        let body = [&magic, noise.as_slice()].concat();
        let head = format!("PUT /file HTTP/1.1\r\nhost: app.example\r\ncontent-length: {}\r\n\r\n", body.len());
        let answer = send(proxy.address, [head.as_bytes(), &body].concat()).await;
        assert_eq!(answer.status, 200, "{magic:?}: {answer:?}");
        assert_eq!(app.last().body, body, "{magic:?}");
    }
    let head = format!("PUT /file HTTP/1.1\r\nhost: app.example\r\ncontent-length: {}\r\n\r\n", object.len());
    assert_eq!(
        send(proxy.address, [head.as_bytes(), object.as_bytes()].concat()).await.status,
        403,
        "an object is read"
    );
}

#[tokio::test]
async fn elsewhere_can_be_left_to_the_app() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { elsewhere: "pass", ..Setting::default() }).await;
    assert_eq!(post(proxy.address, "/other?id_token=1", "", "id_token=x").await.status, 200);
    assert_eq!(app.only().body, b"id_token=x");
}
