//! Requests that an app might read as a login and we as none (threats 14, 18 to 26, 39, 40, 85 to 88, 93, against callbacks).
//!
//! One law covers them: **no login without a sync**. Each row carries an honest login in a dishonest shape. Either it is
//! refused and leaves nothing, or it reached the app with its grants written before.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Attack, FORM, Siege, claims, config, form, saml_leave, signed, with};
use crate::kit::{key, login, signed_assertion};

/// A user of its own for each row, so that a grant tells which login was applied.
fn honest(row: usize) -> (String, String) {
    let user = format!("user-{row}");
    let mut claims = with(&json!({"sub": user}));
    claims["jti"] = json!(format!("row-{row}"));
    (user, signed(&claims))
}

/// The law. `reached` says whether the token arrived at the app in any part of any request.
async fn no_login_without_a_sync(siege: &Siege, what: &str, user: &str, token: &str, before: usize) -> bool {
    let seen = siege.house.app.seen().split_off(before);
    let reached = seen.iter().any(|seen| {
        let squeezed: Vec<u8> = seen.body.iter().copied().filter(|byte| *byte != 0).collect();
        let body = String::from_utf8_lossy(&squeezed).into_owned();
        body.contains(token) || seen.target.contains(token) || format!("{:?}", seen.headers).contains(token)
    });
    let memberships = siege.house.memberships().await;
    let synced = memberships.contains(&format!("oidc/{user}: groups [\"Staff\"]"));
    assert_eq!(reached, synced, "{what}: reached the app: {reached}, synced: {synced}");
    reached
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Threats 39, 40: names under which some framework finds `id_token`, at the callback and elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn no_field_name_hides_a_login() {
    let names = [
        "id_token",
        "ID_TOKEN",
        "Id_Token",
        "id%5ftoken",
        "%69d_token",
        "%69%64%5F%74%6f%6b%65%6e",
        "+id_token",
        "%20id_token",
        "%09id_token",
        "%0Aid_token",
        "id.token",
        "id+token",
        "id%20token",
        "id[token",
        "id_token[]",
        "id_token[0]",
        "id_token%5B%5D",
        ".id_token",
        "%2eid_token",
        "!id_token",
        "%id_token",
        "id%_token",
        "id_token:string",
        "model.id_token",
        "[id_token]",
        "[id_token][0]",
        "[id_token]x",
        "%5bid_token%5d",
        "]id_token",
        "id_token]",
        "[[id_token",
        "id_token%00",
        "id_token%00x",
        "%u0069d_token",
        "%U0069%u0064_token",
        "id_token%20",
        "id_token+",
        "\u{feff}id_token",
        "%EF%BB%BFid_token",
        "%C4%B1d_token",
        "\u{ff49}d_token",
        "id_to%e2%84%aaen",
    ];
    let siege = Siege::open().await;
    for (row, name) in names.into_iter().enumerate() {
        for (path, shape) in [
            ("/callback", format!("{name}=@@&state=state-1")),
            ("/callback", format!("state=state-1&{name}=@@")),
            ("/callback", format!("state=state-1;{name}=@@")),
            ("/elsewhere", format!("a=1&{name}=@@")),
            ("/elsewhere", format!("a=1;{name}=@@")),
        ] {
            let (user, token) = honest(row * 1000 + siege.house.app.seen().len());
            let before = siege.house.app.seen().len();
            let answer = siege.send(path, FORM.1, shape.replace("@@", &token).as_bytes()).await;
            let reached = no_login_without_a_sync(&siege, &shape, &user, &token, before).await;
            assert!(!reached || path == "/callback", "{shape} at {path}");
            assert!(reached || (400..500).contains(&answer.status), "{shape} at {path}: {}", answer.status);
        }
    }
}

/// Threats 39, 40: duplicated, misplaced, mixed and missing fields.
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_takes_one_login_in_one_place() {
    let siege = Siege::open().await;
    let token = signed(&claims("attack"));
    let evil = signed(&with(&json!({"sub": "mallory", "jti": "evil"})));
    let document = encoded(&loginsync::cli::demo::mint::saml::field(&signed_assertion(&login(), &key("idp-rsa"))));
    let bodies = [
        format!("id_token={token}&id_token={token}&state=state-1"),
        format!("id_token={token}&id_token={evil}&state=state-1"),
        format!("id_token={evil}&state=state-1&ID_TOKEN={token}"),
        format!("id_token[]={token}&id_token[]={evil}&state=state-1"),
        format!("id_token={token}&state=state-1&state=state-2"),
        format!("id_token={token}&state=state-1;State=state-2"),
        format!("id_token={token}&state=state-1&SAMLResponse={document}"),
        format!("id_token={token}&state=state-1&SAMLart=AAQAAA"),
        format!("id_token={token}&state=state-2"),
        format!("id_token={token}"),
        format!("id_token={token}&state="),
        "id_token=&state=state-1".into(),
        "id_token&state=state-1".into(),
        "code=abc&state=state-1".into(),
        "access_token=abc&state=state-1".into(),
        format!("access_token={token}&error=x&state=state-1"),
        format!("credential={token}&g_csrf_token=x"),
        format!("id_token={token}&state=state-1&credential={evil}"),
        format!("response={token}"),
        format!("id_token={token}&state=state-1&Response={evil}"),
        format!("wresult={document}&wa=wsignin1.0"),
        format!("code=abc&code={token}&state=state-1"),
        format!("error=x&id_token={token}&error=y&state=state-1"),
        format!("id_token=%ff%fe{token}&state=state-1"),
        format!("id_token={token}\0&state=state-1"),
    ];
    for body in &bodies {
        // State and nonce are looked at behind the signature, so those may leave a row.
        siege
            .withstands_one(&Attack::body(&body[..40.min(body.len())], "/callback", body.clone().into_bytes(), true))
            .await;
    }
    for (target, body) in [
        (format!("/callback?id_token={token}&state=state-1"), String::new()),
        (format!("/callback?id_token={token}"), "state=state-1".into()),
        (format!("/callback?id_token={token}"), format!("id_token={token}&state=state-1")),
        ("/callback?state=state-2".into(), format!("id_token={token}&state=state-1")),
        ("/callback?ID%5ftoken[]=x".into(), format!("id_token={token}&state=state-1")),
        (format!("/saml/acs?SAMLResponse={document}"), String::new()),
        (format!("/elsewhere?id_token={token}"), String::new()),
        (format!("/elsewhere?[id_token]={token}"), String::new()),
        (format!("/elsewhere?a=1;%u0069d_token={token}"), "a=1".into()),
        (format!("/elsewhere?SAMLResponse={document}"), "a=1".into()),
    ] {
        let attack = Attack::body("in the query", &target, body.into_bytes(), false);
        siege.withstands_one(&attack).await;
    }
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "post", "LOGIN"] {
        let seen = siege.house.app.seen().len();
        let headers = [("cookie", siege.cookies.as_str()), FORM];
        let target = format!("/callback?id_token={token}&state=state-1");
        let status = siege.house.send(method, &target, &headers, b"").await.status;
        assert!(matches!(status, 400 | 405), "{method}: {status}");
        let body = format!("id_token={token}&state=state-1");
        let status = siege.house.send(method, "/callback", &headers, body.as_bytes()).await.status;
        assert!(matches!(status, 400 | 405), "{method} with a body: {status}");
        let overridden = [headers[0], ("x-http-method-override", "POST")];
        let status = siege.house.send(method, &target, &overridden, b"").await.status;
        assert!(matches!(status, 400 | 405), "{method} overridden: {status}");
        assert_eq!(siege.house.app.seen().len(), seen, "{method}");
    }
    siege.lets_the_honest_in().await;
}

/// Bodies whose letters are other bytes than those that we compare.
#[tokio::test(flavor = "multi_thread")]
async fn no_encoding_hides_a_login() {
    let siege = Siege::open().await;
    let wide = |text: &str, little: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
    };
    let wider = |text: &str| -> Vec<u8> { text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect() };
    let gzip = |text: &str| {
        let mut bytes = Vec::new();
        let mut encoder = flate2::read::GzEncoder::new(text.as_bytes(), flate2::Compression::fast());
        std::io::Read::read_to_end(&mut encoder, &mut bytes).unwrap();
        bytes
    };
    for path in ["/callback", "/elsewhere"] {
        let (user, token) = honest(path.len());
        let text = format!("id_token={token}&state=state-1");
        let rows: Vec<(&str, &str, &str, Vec<u8>)> = vec![
            ("UTF-16 by its mark", FORM.1, "", [&[0xff, 0xfe], wide(&text, true).as_slice()].concat()),
            ("UTF-16 by its other mark", FORM.1, "", [&[0xfe, 0xff], wide(&text, false).as_slice()].concat()),
            ("UTF-32 by its mark", FORM.1, "", [&[0, 0, 0xfe, 0xff], wider(&text).as_slice()].concat()),
            ("UTF-16 named", "application/x-www-form-urlencoded; charset=utf-16", "", wide(&text, false)),
            ("UTF-16LE named", "application/x-www-form-urlencoded;charset=\"UTF-16LE\"", "", wide(&text, true)),
            ("UTF-7 named", "application/x-www-form-urlencoded; charset=utf-7", "", b"+AGkAZA-_token=x".to_vec()),
            ("EBCDIC named", "application/x-www-form-urlencoded; charset=ibm500", "", vec![0x89, 0x84, 0x6d]),
            ("named twice", "application/x-www-form-urlencoded; charset=utf-8; charset=utf-16", "", wide(&text, true)),
            ("gzip", FORM.1, "gzip", gzip(&text)),
            ("gzip under another name", FORM.1, "x-gzip", gzip(&text)),
            ("gzip behind nothing", FORM.1, "identity, gzip", gzip(&text)),
            ("unknown", FORM.1, "br", gzip(&text)),
        ];
        for (what, content_type, encoding, body) in rows {
            let before = siege.house.app.seen().len();
            let mut headers = vec![("content-type", content_type), ("cookie", siege.cookies.as_str())];
            if !encoding.is_empty() {
                headers.push(("content-encoding", encoding));
            }
            let answer = siege.house.send("POST", path, &headers, &body).await;
            assert!(matches!(answer.status, 400 | 415), "{what} at {path}: {}", answer.status);
            assert!(!no_login_without_a_sync(&siege, what, &user, &token, before).await);
            assert_eq!(siege.house.app.seen().len(), before, "{what} at {path}");
        }
        // The mark of UTF-8 hides nothing: it is no part of a name.
        let before = siege.house.app.seen().len();
        siege.send(path, FORM.1, &[b"\xef\xbb\xbf", text.as_bytes()].concat()).await;
        no_login_without_a_sync(&siege, "UTF-8 by its mark", &user, &token, before).await;
    }
    for content_type in [
        "application/json",
        "text/xml",
        "application/soap+xml",
        "application/samlassertion+xml",
        "text/plain",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
        "multipart/form-data; boundary=application/x-www-form-urlencoded",
        "",
        "application/x-www-form-urlencoded, application/json",
        "application/x-www-form-urlencodedx",
        "x-www-form-urlencoded",
    ] {
        let token = signed(&claims("attack"));
        let body = form(&[("id_token", &token), ("state", "state-1")]).into_bytes();
        let attack = Attack { content_type, status: &[415], ..Attack::body(content_type, "/callback", body, false) };
        siege.withstands_one(&attack).await;
    }
}

async fn raw(siege: &Siege, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(siege.house.running.proxy).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // Some answers keep the connection.
    let _ = tokio::time::timeout(Duration::from_millis(400), stream.read_to_end(&mut answer)).await;
    answer
}

/// Threats 18 to 26, with an honest login: a spelling of the callback's path is a callback, or is refused, or the app would
/// not find a login there.
#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_the_path_hides_a_login() {
    let siege = Siege::open().await;
    let targets = [
        "/callback",
        "/Callback",
        "/CALLBACK/",
        "//callback",
        "///callback//",
        "/./callback",
        "/callback/.",
        "/callback;a=b",
        "/;x/callback",
        "/callback%2f",
        "/%2fcallback",
        "/%5ccallback",
        "\\callback",
        "/%63allback",
        "/%2563allback",
        "/callback%20",
        "/callback%00",
        "/callback%23",
        "/callback%3fx",
        "/callback?x=/public",
        "/callback#x",
        "/callback.json",
        "/x/../callback",
        "/x/%2e%2e/callback",
        "/x/..%2fcallback",
        "/x/..;/callback",
        "/%c0%afcallback",
        "/call%0aback",
        "/c%61llback/",
        "/callback.",
        "/callba%E2%84%AA",
        "/callbacK",
        "http://app.example/callback",
        "HTTP://APP.EXAMPLE//callback",
        "http://other.example/callback",
        "/x//other",
        "/X/OTHER",
        "/x%2Fother",
        "/x;y=z/other",
        "*",
        "callback",
    ];
    let mut entered = 0;
    for (row, target) in targets.into_iter().enumerate() {
        let (user, token) = honest(row);
        let body = format!("id_token={token}&state=state-1");
        let request = format!(
            "POST {target} HTTP/1.1\r\nhost: app.example\r\ncookie: {}\r\ncontent-type: {}\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            siege.cookies,
            FORM.1,
            body.len()
        );
        let before = siege.house.app.seen().len();
        raw(&siege, request.as_bytes()).await;
        entered += usize::from(no_login_without_a_sync(&siege, target, &user, &token, before).await);
    }
    // Where a format may stand behind a path, the app may read a login that is no form.
    for target in ["/callback.json", "/callback.xml?x", "/saml/acs.json", "/SAML//ACS.xml/"] {
        for (content_type, body) in [
            ("application/json", "{\"id_token\":\"x\"}"),
            (
                "multipart/form-data; boundary=x",
                "--x\r\ncontent-disposition: form-data; name=\"SAMLResponse\"\r\n\r\nx\r\n--x--\r\n",
            ),
            ("application/xml", "<SAMLResponse/>"),
        ] {
            let body = body.as_bytes().to_vec();
            let attack = Attack { content_type, status: &[415], ..Attack::body(target, target, body, false) };
            siege.withstands_one(&attack).await;
        }
    }
    assert!(entered > 5, "spellings that everybody reads alike still log in: {entered}");
}

/// Threats 14, 85 to 88: framing and hop tricks around a login.
#[tokio::test(flavor = "multi_thread")]
async fn no_framing_hides_a_login() {
    let siege = Siege::open().await;
    let rows: [(&str, &str); 12] = [
        ("two lengths", "content-length: LENGTH\r\ncontent-length: 5\r\n\r\nBODY"),
        ("length and chunks", "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\nHEX\r\nBODY\r\n0\r\n\r\n"),
        ("unknown coding", "transfer-encoding: gzip, chunked\r\n\r\nHEX\r\nBODY\r\n0\r\n\r\n"),
        ("coding twice", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\nHEX\r\nBODY\r\n0\r\n\r\n"),
        ("coding with a tab", "transfer-encoding:\tchunked\r\n\r\nHEX\r\nBODY\r\n0\r\n\r\n"),
        ("obsolete folding", "transfer-encoding:\r\n chunked\r\n\r\nHEX\r\nBODY\r\n0\r\n\r\n"),
        ("a chunk's extension", "transfer-encoding: chunked\r\n\r\nHEX;a=b\r\nBODY\r\n0\r\n\r\n"),
        (
            "trailers",
            "transfer-encoding: chunked\r\n\r\nHEX\r\nBODY\r\n0\r\nx-loginsync-user: root\r\nid_token: x\r\n\r\n",
        ),
        ("an upgrade", "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: LENGTH\r\n\r\nBODY"),
        (
            "an upgrade to h2c",
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\ncontent-length: LENGTH\r\n\r\nBODY",
        ),
        (
            "a second request behind",
            "content-length: LENGTH\r\n\r\nBODYPOST /callback HTTP/1.1\r\nhost: app.example\r\ncontent-length: 3\r\n\r\na=b",
        ),
        ("type named away", "connection: content-type, cookie\r\ncontent-length: LENGTH\r\n\r\nBODY"),
    ];
    for (row, (what, rest)) in rows.into_iter().enumerate() {
        let (user, token) = honest(row);
        let body = format!("id_token={token}&state=state-1");
        let rest = rest
            .replace("BODY", &body)
            .replace("LENGTH", &body.len().to_string())
            .replace("HEX", &format!("{:x}", body.len()));
        let request = format!(
            "POST /callback HTTP/1.1\r\nhost: app.example\r\ncookie: {}\r\ncontent-type: {}\r\n{rest}",
            siege.cookies, FORM.1
        );
        let before = siege.house.app.seen().len();
        raw(&siege, request.as_bytes()).await;
        no_login_without_a_sync(&siege, what, &user, &token, before).await;
        for seen in siege.house.app.seen().split_off(before) {
            assert_ne!(
                seen.headers.get("x-loginsync-user").map(|value| value.as_bytes()),
                Some(&b"root"[..]),
                "{what}"
            );
        }
    }
}

/// The same over HTTP/2, where the target is a pseudo header and a body may end in trailers.
#[tokio::test(flavor = "multi_thread")]
async fn http2_hides_no_login() {
    let siege = Siege::open().await;
    let stream = TcpStream::connect(siege.house.running.proxy).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let targets = [
        "/callback",
        "//callback",
        "/Callback",
        "/callback%2f",
        "/%63allback;x",
        "/x/../callback",
        "/callback%00",
        "/elsewhere",
    ];
    for (row, target) in targets.into_iter().enumerate() {
        let (user, token) = honest(row);
        let data = format!("id_token={token}&state=state-1");
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-loginsync-user", "root".parse().unwrap());
        trailers.insert("x_forwarded_user", "root".parse().unwrap());
        let frames = Frames(VecDeque::from([Frame::data(Bytes::from(data)), Frame::trailers(trailers)]));
        let request = http::Request::post(format!("http://app.example{target}"))
            .header("cookie", &siege.cookies)
            .header("content-type", FORM.1)
            .header("x_loginsync_user", "root")
            .body(frames)
            .unwrap();
        let before = siege.house.app.seen().len();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let _ = answer.into_body().collect().await;
        let reached = no_login_without_a_sync(&siege, target, &user, &token, before).await;
        assert!(reached || (400..500).contains(&status), "{target}: {status}");
        for seen in siege.house.app.seen().split_off(before) {
            assert_eq!(
                seen.headers.get_all("x-loginsync-user").iter().collect::<Vec<_>>(),
                [user.as_str()],
                "{target}"
            );
            assert!(seen.headers.keys().all(|name| !name.as_str().contains('_')), "{:?}", seen.headers);
        }
    }
}

/// A body whose frames are all there.
struct Frames(VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// Threat 41 and binding cookies: those of another provider, another request, another name, or too many.
#[tokio::test(flavor = "multi_thread")]
async fn a_binding_cookie_binds_one_login_of_one_provider() {
    let siege = Siege::open().await;
    let (oidc, saml) = siege.cookies.split_once("; ").unwrap();
    let (oidc_name, oidc_value) = oidc.split_once('=').unwrap();
    let (saml_name, saml_value) = saml.split_once('=').unwrap();
    let other_state =
        siege.house.leave("https://idp.example/authorize?client_id=the-app&state=state-2&nonce=nonce-1").await;
    let other_nonce =
        siege.house.leave("https://idp.example/authorize?client_id=the-app&state=state-1&nonce=nonce-2").await;
    let half = siege.house.leave("https://idp.example/authorize?client_id=the-app&state=state-1").await;
    let filler: Vec<String> = (0..200).map(|number| format!("{oidc_name}{number}={}", "A".repeat(200))).collect();
    let jars = [
        ("none", String::new()),
        ("the other provider's", saml.to_owned()),
        ("the other provider's under this one's name", format!("{oidc_name}={saml_value}")),
        ("this one's under the other's name", format!("{saml_name}={oidc_value}")),
        ("another state", other_state.clone()),
        ("another nonce", other_nonce.clone()),
        ("state alone", half),
        ("half each of two", format!("{other_state}; {other_nonce}")),
        ("cut", oidc[..oidc.len() - 3].to_owned()),
        ("one bit", format!("{oidc_name}={}{}", if oidc_value.starts_with('A') { 'B' } else { 'A' }, &oidc_value[1..])),
        ("without the prefix", oidc.replacen("__Host-", "", 1)),
        ("in quotes", format!("{oidc_name}=\"{oidc_value}\"")),
        ("empty", format!("{oidc_name}=")),
        ("behind two hundred others", format!("{}; {oidc}", filler.join("; "))),
        ("30 KB of one", format!("{oidc_name}={}", "A".repeat(30_000))),
    ];
    let body = form(&[("id_token", &signed(&claims("attack"))), ("state", "state-1")]);
    for (what, cookies) in jars {
        let seen = siege.house.app.seen().len();
        let answer = siege.house.send("POST", "/callback", &[FORM, ("cookie", &cookies)], body.as_bytes()).await;
        assert!(matches!(answer.status, 403 | 431), "{what}: {}", answer.status);
        assert_eq!(siege.house.app.seen().len(), seen, "{what}");
        assert_eq!(siege.house.memberships().await, "\n", "{what}");
    }
    siege.lets_the_honest_in().await;
}

/// What `binding = "observe"` lets through is a missing binding, and nothing else: not a replay, not another fault.
#[tokio::test(flavor = "multi_thread")]
async fn observing_relaxes_the_binding_alone() {
    let observe = "binding = \"observe\"";
    let siege = Siege::with(&config(observe, observe)).await;
    let nobody = Siege { cookies: String::new(), house: siege.house };
    let token = signed(&claims("observed"));
    let body = form(&[("id_token", &token)]);
    assert_eq!(nobody.send("/callback", FORM.1, body.as_bytes()).await.status, 200);
    let row = nobody.house.events().await.pop().unwrap();
    assert_eq!(row.detail["binding"], "missing (observed)");
    let replay = Attack { status: &[409], ..Attack::token("a replay", &token, true) };
    nobody.withstands_one(&replay).await;
    for (what, changes) in
        [("expired", json!({"exp": 1})), ("another client's", json!({"azp": "other"})), ("old", json!({"iat": 1}))]
    {
        nobody.withstands_one(&Attack::token(what, &signed(&with(&changes)), true)).await;
    }
    let mut unasked = login();
    unasked.in_response_to = None;
    let document = signed_assertion(&unasked, &key("idp-rsa"));
    nobody.withstands_one(&Attack::document("unsolicited is something else", &document, true)).await;
    let _ = nobody.house.leave(&saml_leave("_x")).await;
}

/// Threat 93: what a claim holds never becomes a header or a line of its own.
#[tokio::test(flavor = "multi_thread")]
async fn no_value_splits_a_header() {
    let siege = Siege::open().await;
    let emails = [
        "a@b\r\nx-loginsync-groups: Administrators",
        "a@b\nset-cookie: a=b",
        "a@b\u{0}",
        "a@b\u{85}\u{2028}",
        "é@b",
        "%0d%0a",
    ];
    for (row, email) in emails.into_iter().enumerate() {
        let mut claims = with(&json!({"email": email, "sub": format!("user-{row}")}));
        claims["jti"] = json!(format!("header-{row}"));
        let body = form(&[("id_token", &signed(&claims)), ("state", "state-1")]);
        let before = siege.house.app.seen().len();
        siege.send("/callback", FORM.1, body.as_bytes()).await;
        for seen in siege.house.app.seen().split_off(before) {
            assert_eq!(seen.headers["x-loginsync-groups"], "Staff", "{email:?}");
            assert!(!seen.headers.contains_key("set-cookie"));
            let told = seen.headers.get_all("x-loginsync-email").iter().count();
            assert!(told <= 1);
        }
    }
}
