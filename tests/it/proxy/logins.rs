//! Logins through the listener: applied before the app sees them, or refused with nothing written (threats 35 to 41).

use serde_json::json;

use crate::support::app::{App, Reply, ok, respond};
use crate::support::wire::{Answer, get, post, send};
use crate::support::{Proxy, Setting, config};

const DEPARTURE: &str =
    "location: https://idp.example/authorize?client_id=the-app&state=s-1&nonce=n-1&response_mode=form_post\r\n";

async fn departing() -> App {
    App::with(|request| match request.target() {
        "/go" => respond("302 Found", DEPARTURE, ""),
        "/go-saml" => {
            let xml = "<samlp:AuthnRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"_r1\"/>";
            respond(
                "303 See Other",
                &format!("location: https://saml.example/sso?SAMLRequest={}&RelayState=x\r\n", deflated(xml)),
                "",
            )
        }
        "/go-elsewhere" => respond("302 Found", "location: https://idp.example/other?state=s-1&nonce=n-1\r\n", ""),
        "/sso" => respond("200 OK", "content-type: text/html\r\n", &auto_post()),
        _ => ok("welcome"),
    })
    .await
}

fn deflated(xml: &str) -> String {
    use base64::Engine as _;
    use std::io::Read as _;
    let mut bytes = Vec::new();
    flate2::read::DeflateEncoder::new(xml.as_bytes(), flate2::Compression::best()).read_to_end(&mut bytes).unwrap();
    form_urlencoded::byte_serialize(base64::engine::general_purpose::STANDARD.encode(bytes).as_bytes()).collect()
}

fn auto_post() -> String {
    "<html><!-- <form action='https://idp.example/authorize'> --><body onload='document.forms[0].submit()'>\
     <FORM method=post action=\"https://idp.example/authorize?x=1&amp;y=2\"><input type=hidden name=state value=\"s-1\">\
     <input type=hidden name='nonce' value=n-1></form></body></html>"
        .into()
}

async fn log_in(proxy: &Proxy, cookies: &[String], form: &str) -> Answer {
    post(proxy.address, "/login/callback", &format!("cookie: sid=1; {}\r\n", cookies.join("; ")), form).await
}

#[tokio::test]
async fn a_login_is_applied_and_then_forwarded_byte_for_byte() {
    let app = departing().await;
    let proxy = Proxy::start(app.address).await;
    let left = get(proxy.address, "/go", "").await;
    let [cookie] = &left.cookies()[..] else { panic!("{left:?}") };
    let set = left.one("set-cookie").unwrap();
    assert!(
        set.starts_with("__Host-loginsync-b-")
            && set.ends_with("; Path=/; Max-Age=900; Secure; HttpOnly; SameSite=None"),
        "{set}"
    );

    let form = format!("state=s-1&%69d_token={}&extra=%C3%a4+b;c", proxy.token(|_| {}));
    let request = format!(
        "POST /Login//callback?x=%2f HTTP/1.1\r\nhost: app.example\r\ncookie: a=1; {cookie}; b=2\r\n\
         content-type: application/x-www-form-urlencoded; charset=utf-8\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let entered = send(proxy.address, request).await;
    assert_eq!((entered.status, entered.body.as_str()), (200, "welcome"), "{entered:?}");
    let seen = app.last();
    assert_eq!(seen.body, form.as_bytes());
    assert_eq!(seen.target(), "/Login//callback?x=%2f");
    assert_eq!(seen.one("content-type"), Some("application/x-www-form-urlencoded; charset=utf-8"));
    assert_eq!(seen.one("content-length"), Some(form.len().to_string().as_str()));
    assert_eq!(seen.one("cookie"), Some("a=1; b=2"));
    assert_eq!(seen.one("x-loginsync-user"), Some("alice"));
    let cleared = entered.one("set-cookie").unwrap();
    assert!(
        cleared.starts_with(cookie.split('=').next().unwrap()) && cleared.contains("=; Path=/; Max-Age=0"),
        "{cleared}"
    );
    let rules = config(app.address, Setting::default()).rules;
    assert_eq!(proxy.groups("alice", rules).await.unwrap(), ["Staff", "editor"].map(String::from)[..1].to_vec());
}

#[tokio::test]
async fn a_replay_is_never_forwarded() {
    let app = departing().await;
    let proxy = Proxy::start(app.address).await;
    let cookies = get(proxy.address, "/go", "").await.cookies();
    let form = proxy.login_form();
    assert_eq!(log_in(&proxy, &cookies, &form).await.status, 200);
    let again = post(
        proxy.address,
        "/login/callback",
        &format!("accept: text/html\r\ncookie: {}\r\n", cookies.join("; ")),
        &form,
    )
    .await;
    assert_eq!(again.status, 409);
    assert!(again.body.contains("used before") && again.body.contains("href=\"/start\""), "{again:?}");
    assert_eq!(app.received().len(), 2);
}

/// Threat 41, and cookies that were tampered with (35, 36).
#[tokio::test]
async fn a_login_that_this_browser_did_not_begin_is_refused() {
    let app = departing().await;
    let proxy = Proxy::start(app.address).await;
    let cookie = get(proxy.address, "/go", "").await.cookies().remove(0);
    let (name, value) = cookie.split_once('=').unwrap();
    let other = if &value[20..21] == "A" { "B" } else { "A" };
    let flipped = format!("{name}={}{other}{}", &value[..20], &value[21..]);
    let other_name = format!("{name}x={value}");
    let unprefixed = cookie.replace("__Host-", "");
    let truncated = cookie[..cookie.len() - 4].to_owned();
    let foreign = {
        // Sealed by another process, whose key is the same, for another request.
        let other = App::with(|_| {
            respond(
                "302 Found",
                "location: https://idp.example/authorize?client_id=the-app&state=s-2&nonce=n-2\r\n",
                "",
            )
        })
        .await;
        let proxy = Proxy::start(other.address).await;
        get(proxy.address, "/", "").await.cookies().remove(0)
    };
    for cookies in [
        vec![],
        vec![flipped],
        vec![other_name],
        vec![unprefixed],
        vec![truncated],
        vec![foreign],
        vec![format!("{name}=")],
    ] {
        let refused = log_in(&proxy, &cookies, &proxy.login_form()).await;
        assert_eq!(refused.status, 403, "{cookies:?}: {refused:?}");
        assert!(refused.body.contains("was not started in this browser"), "{refused:?}");
    }
    for form in [
        format!("id_token={}&state=s-2", proxy.token(|_| {})),
        format!("id_token={}", proxy.token(|_| {})),
        format!("id_token={}&state=s-1", proxy.token(|claims| claims["nonce"] = json!("n-2"))),
    ] {
        assert_eq!(log_in(&proxy, std::slice::from_ref(&cookie), &form).await.status, 403);
    }
    proxy.clock.set(crate::support::NOW.plus(std::time::Duration::from_secs(901)));
    let late = format!(
        "id_token={}&state=s-1",
        proxy.token(|claims| {
            claims["iat"] = json!(claims["iat"].as_i64().unwrap() + 900);
            claims["exp"] = json!(claims["exp"].as_i64().unwrap() + 900);
        })
    );
    assert_eq!(log_in(&proxy, &[cookie], &late).await.status, 403, "the cookie is too old");
    assert_eq!(app.received().len(), 1, "only the departure reached the app");
    assert!(!proxy.has_users().await);
}

#[tokio::test]
async fn what_leaves_for_a_provider_is_remembered_and_nothing_else() {
    let app = departing().await;
    let proxy = Proxy::start(app.address).await;
    assert_eq!(get(proxy.address, "/go-saml", "").await.cookies().len(), 1);
    assert_eq!(get(proxy.address, "/go-elsewhere", "").await.cookies().len(), 0);
    let page = get(proxy.address, "/sso", "accept-encoding: gzip\r\n").await;
    assert_eq!(page.body, auto_post());
    assert!(app.last().all("accept-encoding").is_empty());
    let cookies = page.cookies();
    assert_eq!(cookies.len(), 1, "{page:?}");
    assert_eq!(log_in(&proxy, &cookies, &proxy.login_form()).await.status, 200);
    // The same request again: the same name, so that a reload does not fill the browser.
    let first = get(proxy.address, "/go", "").await.cookies().remove(0);
    let second = get(proxy.address, "/go", &format!("cookie: {first}\r\n")).await;
    assert_eq!(second.cookies()[0].split('=').next(), first.split('=').next());
    assert_eq!(second.all("set-cookie").len(), 1);
}

#[tokio::test]
async fn a_browser_keeps_twelve_requests_and_the_oldest_go() {
    let app = App::with(|request| {
        respond(
            "302 Found",
            &format!("location: https://idp.example/authorize?state={}\r\n", &request.target()[1..]),
            "",
        )
    })
    .await;
    let proxy = Proxy::start(app.address).await;
    let mut kept: Vec<String> = Vec::new();
    for round in 0..14 {
        proxy.clock.set(crate::support::NOW.plus(std::time::Duration::from_secs(round)));
        let answer = get(proxy.address, &format!("/{round}"), &format!("cookie: {}\r\n", kept.join("; "))).await;
        let cleared: Vec<&str> = answer
            .all("set-cookie")
            .into_iter()
            .filter(|set| set.contains("Max-Age=0"))
            .filter_map(|set| set.split('=').next())
            .collect();
        assert_eq!(cleared.len(), usize::from(round >= 12), "{answer:?}");
        for name in cleared {
            assert!(kept[0].starts_with(name), "the oldest goes first");
            kept.remove(0);
        }
        kept.extend(answer.cookies());
    }
    assert_eq!(kept.len(), 12);
}

#[tokio::test]
async fn on_plain_loopback_cookies_do_without_tls() {
    let app = departing().await;
    let proxy = Proxy::with(app.address, Setting { public_url: "http://127.0.0.1:8080", ..Setting::default() }).await;
    let left = get(proxy.address, "/go", "").await;
    let set = left.one("set-cookie").unwrap();
    assert!(set.starts_with("loginsync-b-") && set.ends_with("; Max-Age=900; HttpOnly; SameSite=Lax"), "{set}");
    assert_eq!(log_in(&proxy, &left.cookies(), &proxy.login_form()).await.status, 200);
    assert_eq!(app.last().one("x-forwarded-proto"), Some("http"));
    assert_eq!(app.last().one("x-forwarded-host"), Some("127.0.0.1:8080"));
}

/// Threats 39, 40.
#[tokio::test]
async fn malformed_callbacks_are_refused_and_nothing_is_written() {
    let app = departing().await;
    let proxy = Proxy::start(app.address).await;
    let cookies = get(proxy.address, "/go", "").await.cookies();
    let token = proxy.token(|_| {});
    let forged = {
        let (head, _) = token.rsplit_once('.').unwrap();
        format!("{head}.{}", "A".repeat(86))
    };
    let twice = format!("id_token={token}&state=s-1&id_token={token}");
    let expired = proxy.token(|claims| claims["exp"] = json!(crate::support::NOW.seconds() - 1000));
    for (form, status) in [
        (twice.as_str(), 400),
        (&format!("id_token={token}&state=s-1&State=s-2"), 400),
        ("id_token=", 400),
        ("id_token=a.b.c", 400),
        ("id_token=....................", 400),
        ("code=abc&state=s-1", 400),
        ("SAMLart=AAQ", 400),
        (&format!("id_token={token}&SAMLResponse=AAAA"), 400),
        (&format!("id_token={forged}&state=s-1"), 403),
        (&format!("id_token={expired}&state=s-1"), 403),
        (&format!("id_token={}&state=s-1", proxy.token(|claims| claims["aud"] = json!("other"))), 403),
    ] {
        let answer = log_in(&proxy, &cookies, form).await;
        assert_eq!(answer.status, status, "{form:.60}: {answer:?}");
    }
    for request in [
        format!("GET /login/callback?id_token={token}&state=s-1 HTTP/1.1\r\nhost: app.example\r\n\r\n"),
        format!("POST /login/callback?id_token={token} HTTP/1.1\r\nhost: app.example\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 9\r\n\r\nstate=s-1"),
        "PUT /login/callback HTTP/1.1\r\nhost: app.example\r\ncontent-length: 1\r\n\r\nx".into(),
        "POST /login/callback HTTP/1.1\r\nhost: app.example\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: 1\r\n\r\nx".into(),
        "POST /login/callback HTTP/1.1\r\nhost: app.example\r\ncontent-length: 1\r\n\r\nx".into(),
        "POST /login/callback HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/xml\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 1\r\n\r\nx".into(),
    ] {
        let answer = send(proxy.address, &request).await;
        assert!(matches!(answer.status, 400 | 405 | 415), "{request:.60}: {answer:?}");
    }
    assert_eq!(app.received().len(), 1, "only the departure reached the app");
    assert!(!proxy.has_users().await);
}

#[tokio::test]
async fn what_is_no_login_passes_at_a_callback() {
    let app = departing().await;
    let proxy = Proxy::start(app.address).await;
    assert_eq!(get(proxy.address, "/login/callback", "").await.status, 200);
    assert_eq!(get(proxy.address, "/login/callback?error=access_denied&state=s-1", "").await.status, 200);
    assert_eq!(post(proxy.address, "/login/callback", "", "error=access_denied&state=s-1").await.status, 200);
    assert_eq!(post(proxy.address, "/login/callback", "", "a=1&RelayState=2").await.status, 200);
    assert_eq!(app.last().body, b"a=1&RelayState=2");
    assert!(app.last().all("x-loginsync-user").is_empty());
}

#[tokio::test]
async fn log16_a_committed_login_that_cannot_be_delivered_says_so() {
    let app = App::with(|request| if request.target() == "/login/callback" { Reply::Close } else { ok("") }).await;
    let proxy = Proxy::with(app.address, Setting { binding: "observe", ..Setting::default() }).await;
    let answer = post(proxy.address, "/login/callback", "accept: text/html\r\n", &proxy.login_form()).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    // Finding LOG16: this is the first time that it comes.
    assert!(answer.body.contains("The app did not receive this login"), "{answer:?}");
    assert_eq!(proxy.outcomes.count("not_delivered"), 1);
    assert!(proxy.has_users().await);
    assert_eq!(app.received().len(), 1, "a login is never sent twice");
}

#[tokio::test]
async fn refusals_tell_browsers_and_programs_what_each_can_use() {
    let app = departing().await;
    let proxy = Proxy::start(app.address).await;
    let page = post(proxy.address, "/login/callback", "accept: text/html,*/*\r\n", &proxy.login_form()).await;
    assert_eq!(page.one("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.one("cache-control"), Some("no-store"));
    assert!(page.one("content-security-policy").unwrap().starts_with("default-src 'none'; style-src 'sha256-"));
    assert!(!page.body.contains("<script") && page.body.contains("<code>"), "{page:?}");
    let problem = post(proxy.address, "/login/callback", "", &proxy.login_form()).await;
    assert_eq!(problem.one("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_str(&problem.body).unwrap();
    assert_eq!(problem["status"], 403);
    assert_eq!(problem["id"].as_str().unwrap().len(), 24);
    assert!(!problem.to_string().contains("alice"));
}
