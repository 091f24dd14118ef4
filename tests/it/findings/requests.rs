//! Paths, header names and bodies, as the laxest app reads them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tokio::io::AsyncWriteExt as _;

use crate::relying_party::{Scene, Setting as SceneSetting};
use crate::support::app::App;
use crate::support::wire::{Answer, get, post, send};
use crate::support::{Proxy, Setting};

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.0/8\"]";

async fn typed(proxy: &Proxy, target: &str, kind: &str, body: &str) -> Answer {
    let request =
        format!("POST {target} HTTP/1.1\r\nhost: app.example\r\n{kind}content-length: {}\r\n\r\n{body}", body.len());
    send(proxy.address, request).await
}

/// Names that move a request, lend an identity, or that apps read as other names.
const NEVER: [&str; 82] = [
    "SCRIPT_NAME",
    "Script-Name",
    "PATH_INFO",
    "Path-Info",
    "REQUEST_URI",
    "Request-Uri",
    "QUERY_STRING",
    "X-Script-Name",
    "X_Script_Name",
    "X-Override-Url",
    "X-Original-Url",
    "X.Original.Url",
    "X-Rewrite-Url",
    "X-Envoy-Original-Path",
    "X-HTTP-DestinationUrl",
    "X-Invoke-Path",
    "X-Middleware-Subrequest",
    "X-Accel-Mapping",
    "Unencoded-Url",
    "IIS-WasUrlRewritten",
    "Proxy",
    "PROXY",
    "X-Remote-User",
    "X_REMOTE_USER",
    "X-Webauth-User",
    "X-Auth-Request-Groups",
    "X-Auth-Request-User",
    "X-Forwarded-Roles",
    "X-Forwarded-User",
    "Remote-Role",
    "Remote-User",
    "REMOTE_USER",
    "X-Token-Subject",
    "X-Token-User-Roles",
    "X-Goog-Authenticated-User-Email",
    "X-Goog-Iap-Jwt-Assertion",
    "X-Ms-Client-Principal",
    "X-Ms-Client-Principal-Name",
    "X-Ms-Token-Aad-Id-Token",
    "X-Pomerium-Claim-Email",
    "X-Pomerium-Jwt-Assertion",
    "X-Authentik-Username",
    "X-Vouch-User",
    "Tailscale-User-Login",
    "Cf-Access-Authenticated-User-Email",
    "X-Amzn-Oidc-Identity",
    "X-Consumer-Username",
    "X-Proxy-User",
    "Shib-Session-Id",
    "Sm-User",
    "Iv-User",
    "Oidc-Claim-Sub",
    "Ssl-Client-Verify",
    "X-Forwarded-Client-Cert",
    "X-User",
    "X-Email",
    "X-Alfresco-Remote-User",
    "X-Amzn-Ava-User-Context",
    "X-Hass-Is-Admin",
    "X-Rstudio-Username",
    "X-Warpgate-Username",
    "Rstudio-Connect-Credentials",
    "Shiny-Server-Credentials",
    "Sec-Username",
    "Sec-Roles",
    "Osso-User-Dn",
    "Wl-Proxy-Client-Cert",
    "Ngrok-Auth-User-Email",
    "Domino-Username",
    "Ynh-User",
    "Mail",
    "Grpc-Metadata-X-Loginsync-User",
    "Grpc-Metadata-Grpc-Metadata-Remote-User",
    "Grpcgateway-X-Webauth-User",
    "Grpc-Metadata-Cookie",
    "Grpc-Metadata-Content-Type",
    "Grpc-Metadata-X-Original-Url",
    "Any_Thing",
    "X_Api_Key",
    "a.b",
    "Content_Type",
    "X-Loginsync-Groups",
];

#[tokio::test]
async fn sec11_no_header_moves_a_request_or_lends_an_identity() {
    let app = App::start().await;
    for listen in ["", TRUSTED] {
        let proxy = Proxy::with(app.address, Setting { listen, ..Setting::default() }).await;
        for names in NEVER.chunks(12) {
            let headers: String = names.iter().map(|name| format!("{name}: /forged\r\n")).collect();
            let answer = get(proxy.address, "/public/cb", &format!("{headers}x-api-key: kept\r\n")).await;
            assert_eq!(answer.status, 200, "{names:?}: {answer:?}");
            let request = app.last();
            assert!(!request.head.contains("forged"), "{}", request.head);
            assert_eq!(request.all("x-api-key"), ["kept"]);
        }
        assert!(proxy.counters.headers_dropped.get() > 10);
        let dropped = proxy.counters.headers_dropped.get();
        get(proxy.address, "/", "x_a: 1\r\nx_b: 2\r\n").await;
        assert_eq!(proxy.counters.headers_dropped.get(), dropped + 2);
    }
}

#[tokio::test]
async fn sec11_what_is_named_passes() {
    let app = App::start().await;
    let headers =
        "allow_underscores = [\"X_Plan\"]\ntrust = [\"X-Forwarded-Prefix\", \"X-Real-IP\", \"X-Ssl-Client-Dn\"]";
    let proxy = Proxy::with(app.address, Setting { listen: TRUSTED, headers, ..Setting::default() }).await;
    let sent = "x_plan: gold\r\nx_other: forged\r\nx-forwarded-prefix: /a\r\nx-forwarded-path: forged\r\nx-forwarded-uri: forged\r\n\
                x-forwarded-method: forged\r\nx-real-ip: 192.0.2.1\r\nx-ssl-client-dn: cn=a\r\nx-forwarded-port: 8443\r\n\
                x-forwarded-roles: forged\r\nforwarded: for=192.0.2.1\r\n";
    get(proxy.address, "/", sent).await;
    let request = app.last();
    assert!(!request.head.contains("forged"), "{}", request.head);
    for (name, value) in [
        ("x_plan", "gold"),
        ("x-forwarded-prefix", "/a"),
        ("x-real-ip", "192.0.2.1"),
        ("x-ssl-client-dn", "cn=a"),
        ("x-forwarded-port", "8443"),
        ("forwarded", "for=192.0.2.1"),
    ] {
        assert_eq!(request.all(name), [value], "{name}");
    }
    let stranger = Proxy::with(
        app.address,
        Setting { listen: "trusted_proxies = [\"192.0.2.1\"]", headers, ..Setting::default() },
    )
    .await;
    get(stranger.address, "/", sent).await;
    let request = app.last();
    assert_eq!(request.all("x_plan"), ["gold"]);
    for name in ["x-forwarded-prefix", "x-real-ip", "x-ssl-client-dn", "forwarded"] {
        assert!(request.all(name).is_empty(), "{name}");
    }
}

#[test]
fn sec11_a_name_that_may_not_pass_is_a_fault() {
    let address = ([127, 0, 0, 1], 1).into();
    let fault = |listen: &'static str, headers: &'static str| {
        let loaded = std::panic::catch_unwind(|| {
            crate::support::config(address, Setting { listen, headers, ..Setting::default() });
        });
        let told = loaded.expect_err(headers);
        told.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    for (listen, headers, expected) in [
        ("", "allow_underscores = [\"Content_Type\"]", "`content-type` to CGI"),
        ("", "allow_underscores = [\"X_Remote_User\"]", "`x-remote-user` to CGI"),
        ("", "allow_underscores = [\"SCRIPT_NAME\"]", "`script-name` to CGI"),
        ("", "allow_underscores = [\"X.Forwarded_For\"]", "`x-forwarded-for` to CGI"),
        ("", "allow_underscores = [\"X-Plan\"]", "a name with `_`"),
        ("", "allow_underscores = [\"a b\"]", "the name of a header"),
        ("", "trust = [\"X-Real-IP\"]", "listen.trusted_proxies"),
        (TRUSTED, "trust = [\"X-Forwarded-For\"]", "passes from every trusted proxy"),
        (TRUSTED, "trust = [\"X-Forwarded-User\"]", "only loginsync may tell the app"),
        (TRUSTED, "preset = \"grafana\"\ntrust = [\"X-Webauth-Role\"]", "only loginsync may set"),
        (TRUSTED, "preset = \"cloudbeaver\"\ntrust = [\"X-First-Name\"]", "only loginsync may set"),
        (TRUSTED, "trust = [\"X-Original-URL\"]", "another path"),
        (TRUSTED, "trust = [\"Proxy\"]", "httpoxy"),
        (TRUSTED, "trust = [\"Accept\"]", "passes from everyone"),
    ] {
        let told = fault(listen, headers);
        assert!(told.contains(expected), "{headers}: {told}");
    }
}

#[tokio::test]
async fn sec11_another_method_is_refused_at_callbacks_alone() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { binding: "observe", ..Setting::default() }).await;
    for name in ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override"] {
        let header = format!("{name}: DELETE\r\n");
        assert_eq!(post(proxy.address, "/login/callback", &header, &proxy.login_form()).await.status, 400, "{name}");
        assert_eq!(get(proxy.address, "/login/callback", &header).await.status, 400, "{name}");
        assert_eq!(post(proxy.address, "/other", &header, "a=1").await.status, 200);
        assert_eq!(app.last().all(name), ["DELETE"]);
    }
    let form = proxy.login_form();
    for (target, body) in [
        ("/login/callback?_method=put", form.clone()),
        ("/login/callback", format!("{form}&_method=delete")),
        ("/login/callback", format!("_Method=delete&{form}")),
        ("/login/callback", format!("{form}&X-HTTP-Method-Override=PUT")),
        ("/login/callback", "_method=delete&a=1".into()),
    ] {
        assert_eq!(post(proxy.address, target, "", &body).await.status, 400, "{target} {body}");
    }
    assert_eq!(post(proxy.address, "/other", "", "_method=delete").await.status, 200);
    assert!(!proxy.has_users().await);
}

#[tokio::test]
async fn sec13_no_second_name_describes_a_login() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    for name in [
        "Content_Type",
        "CONTENT_TYPE",
        "content.type",
        "Content_Length",
        "Content_Encoding",
        "Content~Disposition",
        "Transfer_Encoding",
        "Cookie_",
        "Authorization_",
    ] {
        let header = format!("{name}: multipart/form-data; boundary=XX\r\n");
        // Not every one of these folds onto another name; those that do not merely stay behind.
        let folds = !name.ends_with('_');
        for target in ["/login/callback", "/saml/acs", "/index.php/login/callback"] {
            let answer = post(proxy.address, target, &header, "a=1").await;
            assert_eq!(answer.status, if folds { 400 } else { 200 }, "{name} at {target}: {answer:?}");
        }
        assert_eq!(post(proxy.address, "/other", &header, "a=1").await.status, 200, "{name}");
        assert!(!app.last().head.contains("boundary"), "{}", app.last().head);
    }
    assert!(!proxy.has_users().await);
}

const MULTIPART: &str = "content-type: multipart/form-data; boundary=XX\r\n";
const JSON: &str = "content-type: application/json\r\n";

#[tokio::test]
async fn sec12_what_follows_a_script_is_a_path_too() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { binding: "observe", ..Setting::default() }).await;
    let token = proxy.token(|_| {});
    let part = format!("--XX\r\nContent-Disposition: form-data; name=\"id_token\"\r\n\r\n{token}\r\n--XX--\r\n");
    let json = format!("{{\"id_token\":\"{token}\"}}");
    for target in [
        "/index.php/login/callback",
        "/INDEX.PHP/login/callback",
        "/app.php/login/callback/",
        "/index.aspx/login/callback.json",
        "/cgi-bin/app.cgi/login/callback",
        "/cgi-bin/app/login/callback",
        "/a/b.do/login/callback",
        "/x.jsp;v=1/login/callback",
        "/index.php/index.php/login/callback",
        "/index%2ephp/login/callback",
        "/index.php%2flogin/callback",
        "/login/callback.php/x",
        "/login/callback.php",
    ] {
        for (kind, body) in [(MULTIPART, &part), (JSON, &json)] {
            let answer = typed(&proxy, target, kind, body).await;
            assert!(matches!(answer.status, 400 | 415), "{target}: {answer:?}");
        }
    }
    assert!(app.received().is_empty(), "{:#?}", app.received());
    assert!(!proxy.has_users().await);
    // The honest login at such an address is one: verified, and synced.
    let answer = post(proxy.address, "/index.php/login/callback", "", &proxy.login_form()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(app.last().all("x-loginsync-user"), ["alice"]);
}

fn part(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n--XX--\r\n")
}

#[tokio::test]
async fn sec12_no_body_carries_a_login_elsewhere() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let token = proxy.token(|_| {});
    let saml = STANDARD.encode("<samlp:Response><saml:Assertion/></samlp:Response>");
    let sealed = format!("{}.AAAA.AAAA.AAAA.AAAA", URL_SAFE_NO_PAD.encode("{\"alg\":\"dir\",\"enc\":\"A256GCM\"}"));
    let nameless = proxy.token(|claims| drop(claims.as_object_mut().unwrap().remove("iss")));
    let broken = format!("{}.x", token.rsplit_once('.').unwrap().0);
    for (name, value) in [
        ("id_token", &token),
        ("ID_TOKEN", &token),
        ("credential", &token),
        ("SAMLResponse", &saml),
        ("id_token", &sealed),
        ("id_token", &nameless),
        ("id_token", &format!("{token}.x")),
        ("id_token", &broken),
    ] {
        let form: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        for (kind, body) in [
            (MULTIPART, part(name, value)),
            (JSON, format!("{{\"a\": 1, \"{name}\": \"{value}\"}}")),
            (JSON, format!("{{/*\"*/'{name}': ['{value}']}}")),
            ("content-type: text/plain\r\n", format!("{{\"{name}\": \"{value}\"}}")),
            (MULTIPART, format!("{{\"{name}\": \"{value}\"}}")),
            ("content-type: application/vnd.api+json\r\n", format!("{{\"{name}\": \"{value}\"}}")),
            ("content-type: application/x-www-form-urlencoded\r\n", format!("{name}={form}")),
        ] {
            let answer = typed(&proxy, "/other?route=saml/acs", kind, &body).await;
            assert_eq!(answer.status, 403, "{kind}{body}: {answer:?}");
            // PRX1: the one who runs the app hears which setting it is, and nothing of what was sent or found.
            assert!(answer.body.contains("the setting `elsewhere`") && !answer.body.contains(name), "{}", answer.body);
        }
        assert_eq!(get(proxy.address, &format!("/other?{name}={form}"), "").await.status, 403, "{name}");
    }
    // What Rack, Werkzeug, PHP, Jetty, Jackson and Ruby read, beside what is written to the letter.
    let headed = |head: &str| format!("--XX\r\n{head}\r\n\r\n{token}\r\n--XX--\r\n");
    for body in [
        headed("Content-Type: id_token"),
        headed("X: Content-Disposition: form-data; name=\"id_token\""),
        headed("Content-Disposition: form-data; name=\"\"; filename=\"id_token\""),
        headed("Content-Disposition: form-data; name=id_token=x"),
        headed("Content-Disposition: form-data; name==id_token"),
        headed("Content-Disposition: form-data; name=\"id\"\"_token\""),
    ] {
        let answer = typed(&proxy, "/other", MULTIPART, &body).await;
        assert_eq!(answer.status, 403, "{body}: {answer:?}");
    }
    for (kind, body) in [
        (JSON, format!("{{\"a\":\"\\x\",\"id_token\":\"{token}\"}}")),
        ("content-type: text/plain\r\n", format!("/**/{{\"id_token\":\"{token}\"}}")),
        ("content-type: app/own\r\ncontent-encoding: own\r\n", format!("{{\"id_token\":\"{token}\"}}")),
    ] {
        let answer = typed(&proxy, "/other", kind, &body).await;
        assert_eq!(answer.status, 403, "{kind}{body}: {answer:?}");
    }
    let disposition = "--XX\r\nContent-Disposition: form-data; name=\"id_token\"";
    for ends in ["\n\n", "\r\n\n", "\r\r\n"] {
        let answer = typed(&proxy, "/other", MULTIPART, &format!("{disposition}{ends}{token}\r\n--XX--\r\n")).await;
        assert_eq!(answer.status, 415, "{ends:?}: {answer:?}");
    }
    for coding in ["gzip", "br", "none", "\"gzip\"", "chunked", "identity, gzip"] {
        let coding = format!("content-encoding: {coding}\r\n");
        for (kind, body) in [
            (JSON, format!("{{\"id_token\":\"{token}\"}}")),
            ("content-type: text/plain\r\n", format!("{{\"id_token\":\"{token}\"}}")),
            (MULTIPART, part("id_token", &token)),
        ] {
            let answer = typed(&proxy, "/other", &format!("{kind}{coding}"), &body).await;
            assert_eq!(answer.status, 415, "{kind}{coding}: {answer:?}");
        }
    }
    for (kind, body) in [
        ("content-type: multipart/form-data; boundary=XX:x\r\n", part("id_token", &token)),
        ("content-type: multipart/form-data; boundary==XX\r\n", part("id_token", &token)),
        ("content-type: multipart/form-data; charset=ibm037; boundary=XX\r\n", part("a", "b")),
        (MULTIPART, format!("{}{}", part("_charset_", "ibm037").trim_end_matches("--\r\n"), "\r\n")),
        ("content-type: multipart/form-data\r\n", part("a", "b")),
        ("content-type: multipart/form-data; boundary=XX; boundary=YY\r\n", part("a", "b")),
        (MULTIPART, part("a", "b").replace("\r\n", "\n")),
        (MULTIPART, part("a", "x--XX").clone()),
        ("content-type: application/json; charset=utf-16\r\n", "{}".into()),
        ("content-type: text/plain; charset=utf-7\r\n", "+AHs-".into()),
        (JSON, "{\0\"\0".into()),
    ] {
        let answer = typed(&proxy, "/other", kind, &body).await;
        assert_eq!(answer.status, 415, "{kind}{body}: {answer:?}");
    }
    assert_eq!(app.complete(), 0, "{:#?}", app.received());
    assert!(!proxy.has_users().await);
}

/// Some servers take a body that breaks off for a whole one, so that what was forwarded before a value is judged is with the app.
#[tokio::test]
async fn sec12_no_piece_of_a_value_goes_on_before_it_is_judged() {
    const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let ours = proxy.token(|_| {});
    let other = proxy.token(|claims| claims["iss"] = serde_json::json!("https://other.example"));
    let bodies = |token: &str| {
        [
            (FORM, format!("a=b&id_token={token}")),
            (JSON, format!("{{\"a\":1,\"id_token\":\"{token}\"")),
            (MULTIPART, part("id_token", token)),
        ]
    };
    let chunked = |kind: &str, body: &str, end: &str| {
        let head = format!("POST /other HTTP/1.1\r\nhost: app.example\r\n{kind}transfer-encoding: chunked\r\n\r\n");
        let (one, two) = body.split_at(body.len() - 9);
        format!("{head}{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n{end}", one.len(), two.len())
    };
    for (kind, body) in bodies(&ours) {
        let sized = format!("POST /other HTTP/1.1\r\nhost: app.example\r\n{kind}content-length: 99999\r\n\r\n{body}");
        // Two that break off, and one that comes to its end.
        for request in [chunked(kind, &body, ""), sized] {
            let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(send(proxy.address, chunked(kind, &body, "0\r\n\r\n")).await.status, 403, "{kind}");
    }
    // What was forwarded is recorded once the connection to the app has ended.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let signature = ours.rsplit_once('.').unwrap().1.get(..20).unwrap();
    let forwarded: Vec<String> =
        app.received().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    assert!(!forwarded.iter().any(|body| body.contains(signature)), "{forwarded:#?}");
    assert_eq!(app.complete(), 0);

    for (kind, body) in bodies(&other) {
        let answer = send(proxy.address, chunked(kind, &body, "0\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{kind}{answer:?}");
        assert_eq!(String::from_utf8_lossy(&app.last().body), body, "{kind}");
    }
}

/// Apps trim, and a `+` in a form is a blank.
#[tokio::test]
async fn sec12_no_blanks_hide_a_token() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let token = proxy.token(|_| {});
    let saml: String = form_urlencoded::byte_serialize(
        STANDARD.encode("<samlp:Response><saml:Assertion/></samlp:Response>").as_bytes(),
    )
    .collect();
    for blank in ["+", "%20", "%22", "%C2%A0"] {
        for times in [1, 600, 5000] {
            for (name, value) in [("id_token", &token), ("SAMLResponse", &saml)] {
                let body = format!("{name}={}{value}", blank.repeat(times));
                let kind = "content-type: application/x-www-form-urlencoded\r\n";
                let answer = typed(&proxy, "/other", kind, &body).await;
                assert_eq!(answer.status, 403, "{name} behind {times} times `{blank}`: {answer:?}");
            }
        }
    }
    assert_eq!(app.complete(), 0);
}

#[tokio::test]
async fn sec12_what_is_no_login_of_ours_passes() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let other = proxy.token(|claims| claims["iss"] = serde_json::json!("https://other.example"));
    let ours = proxy.token(|_| {});
    let another = proxy.token(|claims| claims["aud"] = serde_json::json!("another-app"));
    let event = proxy.token(|claims| {
        claims["events"] = serde_json::json!({"http://schemas.openid.net/event/backchannel-logout": {}});
        claims.as_object_mut().unwrap().remove("nonce");
    });
    let mut bodies = vec![
        (JSON, format!("{{\"data\": {{\"id_token\": \"{other}\"}}}}")),
        (JSON, format!("{{\"data\": {{\"subject_token\": \"{another}\"}}}}")),
        ("content-type: application/x-www-form-urlencoded\r\n", format!("logout_token={event}")),
        (JSON, format!("{{\"SET\": \"{event}\"}}")),
        ("content-type: application/x-www-form-urlencoded\r\n", format!("id_token_hint={ours}")),
        ("content-type: application/x-www-form-urlencoded\r\n", format!("id_token_hint=+{ours}%0d%0a&a={{\"b\"}};c")),
        (
            "content-type: application/x-www-form-urlencoded\r\n",
            format!("a=1;id_token_hint={}", ours.replace('.', "%2e")),
        ),
        ("content-type: application/xml\r\n", "<D:propfind xmlns:D='DAV:'><D:allprop/></D:propfind>".into()),
        ("content-encoding: gzip\r\ncontent-type: application/x-protobuf\r\n", "as it is".into()),
        ("content-type: text/plain\r\n", format!("id_token={other}")),
        ("content-type: application/octet-stream\r\n", "\u{1}\u{2}{".into()),
        (MULTIPART, part("file\"; filename=\"id_token.json", "{\"a\": 1}")),
        (MULTIPART, part("note", "# a title\r\n{\"id_token\": \"word\"} it's \\x4 / or")),
        (
            "content-type: application/x-www-form-urlencoded\r\n",
            "next=/a;b&c=#fff&text=%23+a+title%0D%0A%7B%22id_token%22%3A+%22word%22%7D+it's&d={\"SAMLResponse\":null}&e=%zz".into(),
        ),
    ];
    for value in [other.as_str(), "", "word", "yes.no.maybe", "6Ly5"] {
        bodies.push((JSON, format!("{{\"id_token\": \"{value}\", \"SAMLResponse\": null}}")));
        bodies.push((MULTIPART, part("id_token", value)));
        bodies.push(("content-type: application/x-www-form-urlencoded\r\n", format!("id_token={value}&a=b")));
        assert_eq!(get(proxy.address, &format!("/other?id_token={value}"), "").await.status, 200, "{value}");
    }
    for (kind, body) in bodies {
        let answer = typed(&proxy, "/other", kind, &body).await;
        assert_eq!(answer.status, 200, "{kind}{body}: {answer:?}");
        assert_eq!(app.last().body, body.as_bytes());
    }
    // Large bodies stream.
    let large = "x".repeat(3 << 20);
    for (kind, body) in [(JSON, format!("{{\"a\": \"{large}\"}}")), (MULTIPART, part("file", &large))] {
        assert_eq!(typed(&proxy, "/other", kind, &body).await.status, 200);
        assert_eq!(app.last().body.len(), body.len());
    }
}

/// By parsers of other formats, under names of the app's own, and where only a client of SAML posts: Go's frameworks bind XML, YAML,
/// TOML, MessagePack, BSON and CBOR to the fields of JSON, aiohttp and Koa inflate, mod_auth_mellon takes responses within SOAP and
/// fetches one by an artifact.
#[tokio::test]
async fn sec12_a_token_passes_under_no_name_and_in_no_format() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let token = proxy.token(|_| {});
    let (head, tail) = token.split_at(token.find('.').unwrap() + 9);
    let dotted = |dot: &str| token.replacen('.', dot, 1);
    let wide: Vec<u8> = std::iter::once(0xfeff)
        .chain(format!("<x><t>{token}</t></x>").encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let packed = [b"\x81\xa8id_token\xd9".as_slice(), b"e", token.as_bytes()].concat();
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let zlib = |text: &str| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    // A name in the head of gzip that is longer than some read.
    let named = [b"\x1f\x8b\x08\x08\0\0\0\0\0\x03".as_slice(), &[b'n'; 70_000], b"\0"].concat();
    let member = format!("{{\"id_token\":\"{token}\"}}");
    // A payload with letters that Ruby reads behind a backslash, and others as a control character.
    let padded =
        proxy.token(|claims| claims["pad"] = serde_json::json!("?>~ abcdefghijklmnopqrstuvwxyz 0123456789 ".repeat(5)));
    let escaped = |letter: char, escape: &str| {
        let mut parts = padded.splitn(3, '.');
        let (header, payload, signature) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        assert!(payload.contains(letter), "{payload}");
        format!("{header}.{}.{signature}", payload.replace(letter, escape))
    };
    let artifact = STANDARD.encode([[0, 4, 0, 0].as_slice(), &[7; 40]].concat());
    // Letters that Node cuts to a byte where it makes bytes of a text.
    let cut_later = |letter: char| char::from_u32(0x100 + u32::from(letter)).unwrap().to_string();
    let document = "<p:Response><a:Assertion ID='a'/></p:Response>";
    let response = STANDARD.encode(document);
    let after = |text: &str| STANDARD.encode(format!("{text}{document}")).replace('+', "%2b");
    let wide_response = response.replacen('P', &cut_later('P'), 1);
    // `\x` and two digits are three letters to Ruby. Each third `1x` of a text has them in base64.
    let lettered = proxy.token(|claims| claims["pad"] = serde_json::json!("1x".repeat(6)));
    let payload = lettered.split('.').nth(1).unwrap();
    let has_digits =
        |at: usize| payload.as_bytes().get(at + 1..at + 3).is_some_and(|next| next.iter().all(u8::is_ascii_hexdigit));
    let at = payload.match_indices('x').map(|(at, _)| at).find(|at| has_digits(*at)).unwrap();
    let (begins, ends) = payload.split_at(at);
    let ruby = lettered.replace(payload, &format!("{begins}\\{ends}"));
    // An escape that an app does not undo has letters of base64, and jwcrypto passes over what is none.
    let payload = token.split('.').nth(1).unwrap();
    let digits = |at: usize| payload.as_bytes()[at..at + 2].iter().all(u8::is_ascii_hexdigit);
    let at = (12..payload.len() - 2).find(|at| digits(*at)).unwrap();
    let (begins, ends) = payload.split_at(at);
    let kept = |escape: &str| token.replace(payload, &format!("{begins}{escape}{ends}"));
    // JSON in JSON, so often, all of it in escapes.
    let nested = |times: usize| {
        let spelt = |text: &str| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
        (0..times).fold(token.clone(), |inner, _| format!("{{\"token\":\"{}\"}}", spelt(&inner)))
    };
    let wrapped = |times: usize| {
        let inner = format!("{{\"token\":\"{}\"}}", dotted("\\u002e"));
        (0..times).fold(inner, |inner, _| serde_json::json!({"message": inner}).to_string())
    };
    let percented = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    // Escapes that Jetty alone undoes.
    let jetty = token.replace('J', "%4:").replace('.', "%2>").replace('k', "%6;").replace('m', "%6=");
    // Digits that Java's `Integer.parseInt` takes, and JavaScript's `parseInt`, and references of HTML.
    let fullwidth = |text: &str| -> String {
        let digit = |digit: char| char::from_u32(u32::from(digit.to_ascii_uppercase()) - 0x30 + 0xff10).unwrap();
        text.bytes()
            .map(|byte| format!("{byte:02x}"))
            .map(|pair| pair.chars().map(digit).collect::<String>())
            .fold(String::new(), |all, pair| format!("{all}%{pair}"))
    };
    let json_wide = |text: &str| fullwidth(text).replace('%', "\\u００");
    let spelt = |text: &str, before: &str, after: &str| -> String {
        text.bytes().map(|byte| format!("{before}{byte:02x}{after}")).collect()
    };
    let numbered = |text: &str, after: &str| text.bytes().map(|byte| format!("&#{byte}{after}")).collect::<String>();
    // What the parser of one language takes and that of another does not.
    let with_claim = |claim: &str| {
        let parts: Vec<&str> = token.split('.').collect();
        let mut payload = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        payload.pop();
        payload.extend(format!(",\"n\":{claim}}}").bytes());
        format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(payload), parts[2])
    };
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let odd_claims = ["\"\\ud800\"", "1e400", "NaN", &deep];
    let kind = |kind: &str| format!("content-type: {kind}\r\n");
    let (xml, form) = (kind("application/xml"), kind("application/x-www-form-urlencoded"));
    let cases: Vec<(String, Vec<u8>)> = vec![
        (xml.clone(), format!("<x><Credential>{token}</Credential></x>").into()),
        (xml.clone(), format!("<x a='{token}'/>").into()),
        (xml.clone(), format!("<x>{}</x>", dotted("&#46;")).into()),
        (xml.clone(), format!("<x>{}</x>", dotted("&#x2e;")).into()),
        (xml.clone(), format!("<x>{head}<!-- > -->{tail}</x>").into()),
        (xml.clone(), format!("<x>{head}<![CDATA[{tail}]]></x>").into()),
        (xml.clone(), format!("<x><![CDATA[{head}]]><![CDATA[{tail}]]></x>").into()),
        (xml.clone(), format!("<!DOCTYPE x [<!ENTITY a \"{head}\">]><x>&a;{tail}</x>").into()),
        (xml.clone(), format!("<x>{head}&#{}{};{}</x>", "0".repeat(60), tail.as_bytes()[0], &tail[1..]).into()),
        (xml.clone(), format!("<x>{head}<b>z</b>{tail}</x>").into()),
        (xml.clone(), format!("<x>{head}<b>z<c/></b><d/>{tail}</x>").into()),
        (xml.clone(), format!("<x>{head}<!FOO <a> z>{tail}</x>").into()),
        (String::new(), format!("<x>{head}<!-- b -->{tail}</x>").into()),
        (form.clone(), format!("<x>{}</x>", dotted("&#46;")).into()),
        (xml.clone(), wide),
        (xml.clone(), format!("<?xml version='1.0' encoding='utf-7'?><x>{token}</x>").into()),
        (
            xml.clone(),
            format!("<!-- a --><?xml version='1.0' encoding='iso-2022-jp'?><x>{head}\u{1b}(B{tail}</x>").into(),
        ),
        (
            xml.clone(),
            format!("<!-- {} --><?xml encoding='iso-2022-jp'?><x>{head}\u{1b}(B{tail}</x>", "a".repeat(300)).into(),
        ),
        (kind("application/yaml"), format!("id_token: {token}\n").into()),
        (kind("application/yaml"), format!("id_token: \"{}\"\n", dotted("\\x2e")).into()),
        (kind("application/yaml"), format!("id_token: \"{head}\\\n   {tail}\"\n").into()),
        (kind("application/toml"), format!("id_token = \"{}\"\n", dotted("\\U0000002e")).into()),
        (kind("application/msgpack"), packed),
        (kind("application/grpc-web+json"), [&[0, 0, 0, 1, 0], member.as_bytes()].concat()),
        (JSON.into(), format!("{{\"a\":[{{\"b\":\"{token}\"}}]}}").into()),
        (JSON.into(), format!("{{\"variables\":{{\"token\":\"{}\"}}}}", dotted("\\u002e")).into()),
        (JSON.into(), format!("\"{{\\\"token\\\":\\\"{}\\\"}}\"", dotted("\\\\u002e")).into()),
        (JSON.into(), format!("[\"{token}\"]").into()),
        (JSON.into(), format!("{{\"token\":\"{}\"}}", escaped('v', "\\v")).into()),
        (JSON.into(), format!("{{\"token\":\"{}\"}}", escaped('0', "\\0")).into()),
        (JSON.into(), format!("{{\"token\":\"{}\"}}", escaped('v', "\\v").replace('0', "\\0")).into()),
        (form.clone(), format!("message={{\"token\":\"{}\"}}", escaped('v', "%5cv")).into()),
        (JSON.into(), format!("[\"{}\"]", dotted(".\\n")).into()),
        (JSON.into(), format!("[\"{}\"]", dotted(" . ")).into()),
        (JSON.into(), format!("[\"{head}!*\\t{tail}\"]").into()),
        (form.clone(), format!("session={}", dotted(".%0a")).into()),
        (form.clone(), format!("session={head}+%09{tail}").into()),
        (form.clone(), format!("session={token}").into()),
        (form.clone(), format!("session={}", dotted("%252e")).into()),
        (form.clone(), format!("message={{\"token\":\"{}\"}}", dotted("%5cu002e")).into()),
        (form.clone(), format!("id_token_hint=1&session={token}").into()),
        (form.clone(), format!("access_token={token}").into()),
        (MULTIPART.into(), part("session", &token).into()),
        (
            MULTIPART.into(),
            part("f", "\u{1}\u{2}")
                .replace("--XX--\r\n", &part("operations", &format!("[\"{}\"]", dotted("\\u002e"))))
                .into(),
        ),
        (kind("image/png"), format!("\u{1}=1&session={}", dotted("%2e")).into()),
        (kind("application/csp-report") + "content-encoding: gzip\r\n", gzip(&member)),
        (kind("application/octet-stream") + "content-encoding: x-gzip\r\n", gzip(&format!("a{member}"))),
        (kind("application/octet-stream") + "content-encoding: deflate\r\n", zlib(&member)),
        (kind("application/octet-stream") + "content-encoding: deflate\r\n", gzip(&member)),
        (kind("application/octet-stream") + "content-encoding: gzip\r\n", zlib(&member)),
        (kind("application/octet-stream") + "content-encoding: deflate\r\n", [zlib("{}"), zlib(&member)].concat()),
        (kind("application/octet-stream") + "content-encoding: gzip\r\n", named),
        (kind("application/octet-stream") + "content-encoding: br\r\n", b"anything".to_vec()),
        (kind("application/octet-stream") + "content-encoding: gzip\r\n", gzip(&"x".repeat(20 << 20))),
        (
            kind("multipart/mixed; boundary=XX"),
            [b"--XX\r\nContent-Encoding: gzip\r\n\r\n".as_slice(), &gzip(&member), b"\r\n--XX--\r\n"].concat(),
        ),
        (
            kind("application/vnd.paos+xml"),
            b"<S:Envelope><S:Body><p:Response><a:Assertion ID='a'/></p:Response></S:Body></S:Envelope>".to_vec(),
        ),
        (
            form.clone(),
            b"<S:Envelope><S:Body><p:Response><a:Assertion ID='a'/></p:Response></S:Body></S:Envelope>".to_vec(),
        ),
        (String::new(), b"<S:Envelope><a:Assertion ID='a=b&c'/></S:Envelope>".to_vec()),
        (MULTIPART.into(), part("SAMLart", &artifact).into()),
        (MULTIPART.into(), format!("SAMLart={}&RelayState=", artifact.replace('+', "%2b")).into()),
        (JSON.into(), {
            let parts: Vec<&str> = token.split('.').collect();
            let jws = serde_json::json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]});
            serde_json::json!({"session": jws.to_string()}).to_string().into()
        }),
        // Dots, quotes and what follows `=` in the payload of a JWS as JSON, which jwcrypto passes over.
        (JSON.into(), {
            let parts: Vec<&str> = token.split('.').collect();
            let payload: String = parts[1].chars().map(|letter| format!("{letter}.\\\"")).collect();
            format!("{{\"protected\":\"{}\",\"payload\":\"{payload}\",\"signature\":\"{}\"}}", parts[0], parts[2])
                .into()
        }),
        (JSON.into(), {
            let parts: Vec<&str> = token.split('.').collect();
            let payload = format!("{}==\u{7f}AAAA", parts[1]);
            format!("{{\"payload\":\"{payload}\",\"protected\":\"{}\",\"signature\":\"{}\"}}", parts[0], parts[2])
                .into()
        }),
        (form.clone(), format!("SAMLart={}", artifact.replace('+', "%2b")).into()),
        // What says that it is a form, or nothing, and is read as JSON or as text.
        (form.clone(), member.clone().into()),
        (form.clone(), format!(" [1, {{\"a\": \"=&;\", \"session\": \"{token}\"}}]").into()),
        (String::new(), member.replace(&token, &dotted("\\u002e")).into()),
        ("content-type:\r\n".into(), member.clone().into()),
        (kind("application/json") + &form, member.clone().into()),
        (kind("application/json, application/x-www-form-urlencoded"), member.clone().into()),
        (form.clone(), token.clone().into()),
        (String::new(), format!("\r\n{token}\r\n").into()),
        (form.clone(), format!("session: {}", dotted("%2e")).into()),
        (form.clone(), format!("a=1&hello {token}").into()),
        (JSON.into(), {
            let parts: Vec<&str> = token.split('.').collect();
            format!("{{\"protected\":\"{}\",\"payload\":\"{}\",\"signature\":\"{}\"}}", parts[0], parts[1], parts[2])
                .into()
        }),
        (
            MULTIPART.into(),
            part("session", "\x1b(Be")
                .replace("\"session\"\r\n", "\"session\"\r\nContent-Type: text/plain; charset=IBM037\r\n")
                .into(),
        ),
        (
            MULTIPART.into(),
            part("session", "e=79")
                .replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
                .into(),
        ),
        // What is no file to some servers.
        (
            MULTIPART.into(),
            part("session", "YQ==")
                .replace("\"session\"\r\n", "\"session\"; filename=\"\"\r\nContent-Transfer-Encoding: base64\r\n")
                .into(),
        ),
        (
            MULTIPART.into(),
            part("session", "e=79")
                .replace(
                    "\"session\"\r\n",
                    "\"session\"; filename=\"/\"\r\nContent-Transfer-Encoding: quoted-printable\r\n",
                )
                .into(),
        ),
        (
            MULTIPART.into(),
            part("session", "\x1b(Be")
                .replace(
                    "\"session\"\r\n",
                    "\"session\"; filename*=utf-8''x\r\nContent-Type: text/plain; charset=IBM037\r\n",
                )
                .into(),
        ),
        (xml.clone(), "\x0b<S:Envelope><a:Assertion ID='a'/></S:Envelope>".into()),
        (xml.clone(), "\u{2028}\u{3000}\u{a0}<S:Envelope><a:Assertion ID='a'/></S:Envelope>".into()),
        (xml.clone(), b"\x1c\x85<S:Envelope><a:Assertion ID='a'/></S:Envelope>".to_vec()),
        // Parsers pass over any number of blanks before markup.
        (xml.clone(), format!("\u{feff}{}<x>{head}<![CDATA[{tail}]]></x>", "\n ".repeat(5_000)).into()),
        (xml.clone(), format!("{}<S:Envelope><a:Assertion ID='a'/></S:Envelope>", " ".repeat(300)).into()),
        (form.clone(), format!("SAMLResponse={}", wide_response.replace('+', "%2b")).into()),
        (JSON.into(), format!("{{\"SAMLResponse\":\"{wide_response}\"}}").into()),
        (JSON.into(), format!("{{\"SAMLResponse\":\"{}\"}}", response.replacen('P', "\\u0150", 1)).into()),
        (JSON.into(), format!("{{\"SAMLResponse\":\"{}\"}}", response.replacen('P', "\\x50", 1)).into()),
        (MULTIPART.into(), part("SAMLResponse", &wide_response).into()),
        (form.clone(), format!("session=%C2{}{}", cut_later('\u{a0}'), dotted(&cut_later('.'))).into()),
        (form.clone(), format!("session=%C2\u{1a0}{}", token.replacen('e', &cut_later('e'), 1)).into()),
        (JSON.into(), format!("{{\"token\":\"{ruby}\"}}").into()),
        (form.clone(), format!("message={{\"token\":\"{}\"}}", ruby.replace('\\', "%5c")).into()),
        // Behind a `;` that divides forms for some readers and not for others, a name under which a token may stand.
        (form.clone(), format!("payload={{\"x\":\";id_token_hint=\",\"token\":\"{token}\"}}").into()),
        (form.clone(), format!("payload={{\"x\":\";Logout_Token=%22%2c\"token\":\"{token}\"}}").into()),
        (form.clone(), format!("payload={{\"x\":\";id_token_hint=a\",\"token\":\"{}\"}}", dotted("%5cu002e")).into()),
        (form.clone(), format!("payload={{\"x\":\";access_token=\",\"token\":\"{}\"}}", dotted("\\u002e")).into()),
        (form.clone(), format!("payload={{\"x\":\";id_token=\",\"token\":\"{}\"}}", dotted("\\u002e")).into()),
        (
            form.clone(),
            format!("payload={{\"x\":\";id_token_hint={}\",\"token\":\"{token}\"}}", "a".repeat(70_000)).into(),
        ),
        // jwcrypto and others pass over what is no letter of base64, and `;`, `&` and `=` are none.
        (form.clone(), format!("session={head};{tail}").into()),
        (form.clone(), format!("{head}&{tail}").into()),
        (String::new(), format!("token: {head}={tail}").into()),
        // A comment, which Ruby's JSON passes over.
        (form.clone(), format!("/*&id_token_hint=*/{{\"token\":\"{token}\"}}").into()),
        (String::new(), format!("//&id_token_hint=\n{{\"token\":\"{token}\"}}").into()),
        // Text before a document, which xmldom and REXML pass over.
        (form.clone(), format!("SAMLResponse={}", after("junk")).into()),
        (form.clone(), format!("SAMLResponse={}", after(&"\u{a0}&amp; > ".repeat(300))).into()),
        (form.clone(), format!("SAMLResponse={}", after(&"j".repeat(60_000))).into()),
        (form.clone(), format!("wresult=junk{document}").into()),
        // All that an app is sent, as JSON in one field.
        (form.clone(), format!("payload=%7B%22SAMLResponse%22%3A%22{}%22%7D", after("")).into()),
        (form.clone(), format!("payload=/*;*/{{\"x\":\";a=b\",\"SAMLResponse\":\"{}\"}}", after("")).into()),
        (form.clone(), format!("a=1;payload={{\"SAMLResponse\":\"{}\"}}", after("")).into()),
        (MULTIPART.into(), part("payload", &format!("{{\"SAMLResponse\":\"{response}\"}}")).into()),
        (JSON.into(), format!("{{\"SAMLResponse\":\"{}\"}}", after("junk")).into()),
        (MULTIPART.into(), part("SAMLResponse", &after("junk")).into()),
        // Decoders of base64 pass over a `%` that begins no escape.
        (form.clone(), format!("SAMLResponse=%{}", after("")).into()),
        (form.clone(), format!("SAMLResponse={}", after("").replacen("PHA6", "PHA%6", 1)).into()),
        (form.clone(), format!("SAMLResponse=P%{}", &after("")[1..]).into()),
        (form.clone(), format!("payload={{\"SAMLResponse\":\"%{}\"}}", after("")).into()),
        (form.clone(), format!("token={jetty}").into()),
        (form.clone(), format!("a=%6=&token={}", token.replace('J', "%4:")).into()),
        (form.clone(), format!("id_token={jetty}").into()),
        (form.clone(), format!("access_token={jetty}").into()),
        (form.clone(), format!("payload=%7B%22token%22%3A%22{jetty}%22%7D").into()),
        (String::new(), format!("token={jetty}").into()),
        (form.clone(), format!("SAMLResp%6?nse={}", after("")).into()),
        (form.clone(), format!("SA%4=LResponse={}", after("")).into()),
        (form.clone(), format!("S%41MLRespons%6\u{15}={}", after("")).into()),
        (form.clone(), format!("SAMLResponse={}", after("").replace('P', "%5\u{10}")).into()),
        (form.clone(), format!("payload={}", percented(&nested(2))).into()),
        (form.clone(), format!("payload={}", nested(4)).into()),
        (JSON.into(), nested(4).into()),
        (JSON.into(), wrapped(5).into()),
        (form.clone(), format!("payload={}", percented(&wrapped(4))).into()),
        (JSON.into(), format!("{{\"token\":\"{}\"}}", kept("%")).into()),
        (JSON.into(), format!("{{\"payload\":\"{{\\\"token\\\":\\\"{}\\\"}}\"}}", kept("%")).into()),
        (form.clone(), format!("token={}", kept("%25")).into()),
        (form.clone(), format!("payload=%7B%22token%22%3A%22{}%22%7D", kept("%25")).into()),
        (MULTIPART.into(), part("token", &kept("%")).into()),
        (xml.clone(), format!("<x>{}</x>", kept("%")).into()),
        // Text before the first element, which xmldom passes over, and REXML.
        (xml.clone(), format!("{{}}<x>{head}<!-- b -->{tail}</x>").into()),
        (kind("text/plain"), format!("abc < ' <x>{head}<!-- b -->{tail}</x>").into()),
        (JSON.into(), format!("{{}}<x>{head}<b/>{tail}</x>").into()),
        (String::new(), format!("[]<x>{head}<b/>{tail}</x>").into()),
        (xml.clone(), format!("abc {document}").into()),
        (kind("text/plain"), format!("{{}}{document}").into()),
        (String::new(), format!("{{}}{document}").into()),
        (form.clone(), format!("token={}", fullwidth(&token)).into()),
        (form.clone(), format!("{}={}", fullwidth("id_token"), fullwidth(&token)).into()),
        (form.clone(), format!("access_token={}", fullwidth(&token)).into()),
        (form.clone(), format!("token={}", fullwidth(&token).replace('６', "٦")).into()),
        (form.clone(), format!("SAMLResponse={}", fullwidth(&response)).into()),
        (form.clone(), format!("{}={}", fullwidth("SAMLResponse"), after("")).into()),
        (form.clone(), format!("payload={}", fullwidth(&member)).into()),
        (kind("text/plain"), format!("token={}", fullwidth(&token)).into()),
        (JSON.into(), format!("{{\"token\":\"{}\"}}", json_wide(&token)).into()),
        (JSON.into(), format!("{{\"a\":[\"{}\"]}}", spelt(&token, "\\u+0", "")).into()),
        (JSON.into(), format!("{{\"token\":\"{}\"}}", spelt(&token, "\\u 0", "")).into()),
        (JSON.into(), format!("{{\"token\":\"{}\"}}", spelt(&token, "\\u", "  ")).into()),
        (JSON.into(), format!("{{\"token\":\"{}\"}}", spelt(&token, "\\u0x", "")).into()),
        (JSON.into(), format!("{{\"id_token\":\"{}\"}}", spelt(&token, "\\u+0", "")).into()),
        (JSON.into(), format!("{{\"SAMLResponse\":\"{}\"}}", spelt(&response, "\\u+0", "")).into()),
        (JSON.into(), format!("{{\"SAML\\u+052esponse\":\"{response}\"}}").into()),
        (JSON.into(), format!("{{\"{}\":\"{response}\"}}", json_wide("SAMLResponse")).into()),
        (form.clone(), format!("payload={{\"token\":\"{}\"}}", spelt(&token, "\\u%2b0", "")).into()),
        (form.clone(), format!("payload={{\"SAML\\u%2b052esponse\":\"{}\"}}", after("")).into()),
        (xml.clone(), format!("<x>{}</x>", numbered(&token, "z;")).into()),
        (xml.clone(), format!("<x>{}</x>", numbered(&token, "")).into()),
        (xml.clone(), format!("<x>{}</x>", spelt(&token, "&#x", "z;")).into()),
        (xml.clone(), format!("<x>{}</x>", fullwidth(&token).replace('%', ";&#x").replacen(';', "", 1) + ";").into()),
        (xml.clone(), format!("<x>{}</x>", dotted("&period;")).into()),
        // A quote within a word without quotes is a letter to Gson and org.json.
        (JSON.into(), format!("{{x:a'b,SAMLResponse:\"{response}\"}}").into()),
        (JSON.into(), format!("{{\"x\":a'b,\"SAMLResponse\":\"{response}\"}}").into()),
        (kind("text/plain"), format!("{{x:a\"b,id_token:{token}}}").into()),
        (form.clone(), format!("payload={{x:a'b,SAMLResponse:\"{}\"}}", after("")).into()),
        (xml.clone(), format!("abc <!DOCTYPE x [<!ENTITY a \"{head}\">]><x>&a;{tail}</x>").into()),
    ];
    let cases: Vec<(String, Vec<u8>)> = cases
        .into_iter()
        .chain(odd_claims.iter().map(|claim| (JSON.into(), format!("[\"{}\"]", with_claim(claim)).into())))
        .chain(odd_claims.iter().map(|claim| (form.clone(), format!("session={}", with_claim(claim)).into())))
        .collect();
    for (headers, body) in &cases {
        let before = app.complete();
        let request =
            |framing: &str| format!("POST /other HTTP/1.1\r\nhost: app.example\r\n{headers}{framing}\r\n\r\n");
        let whole = [request(&format!("content-length: {}", body.len())).as_bytes(), body].concat();
        let answer = send(proxy.address, whole).await;
        let said = String::from_utf8_lossy(body.get(..body.len().min(600)).unwrap_or_default());
        assert!(matches!(answer.status, 403 | 415), "{headers}{said}: {answer:?}");
        let pieces =
            body.chunks(41).map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        let chunked =
            [request("transfer-encoding: chunked").into_bytes(), pieces.flatten().collect(), b"0\r\n\r\n".to_vec()];
        let answer = send(proxy.address, chunked.concat()).await;
        // A form in chunks is held, as far as it may be long.
        assert!(matches!(answer.status, 403 | 413 | 415), "{headers}{said} in chunks: {answer:?}");
        assert_eq!(app.complete(), before, "{headers}{said}");
    }
    for query in [
        format!("session={token}"),
        format!("session={}", dotted(".+")),
        format!("session={}", dotted(".!*")),
        format!("session={}", dotted("%2e")),
        format!("session={}", dotted("%252e")),
        format!("message={{\"a\":\"{}\"}}", dotted("%5Cu002e")).replace('"', "%22"),
        format!("access_token={token}"),
        format!("session={}", with_claim("1e400")),
        format!("SAMLResponse={}", wide_response.replace('+', "%2b").replace(&cut_later('P'), "%C5%90")),
        format!("SAMLart={}", artifact.replace('+', "%2b")),
        format!("payload=%7B%22x%22%3A%22;id_token_hint=%22%2C%22token%22%3A%22{token}%22%7D"),
        format!("SAMLResponse={}", after("junk")),
        format!("session={head};{tail}"),
        format!("payload=%7B%22SAMLResponse%22%3A%22{}%22%7D", after("")),
        token.clone(),
        format!("{{%22session%22:%22{token}%22}}"),
        format!("token={}", token.replace('J', "%4:")),
        format!("to%6;en={}", token.replace('.', "%2e").replace('m', "%6=")),
        format!("SAMLResp%6?nse={}", after("")),
        format!("token={}", kept("%25")),
    ] {
        let answer = get(proxy.address, &format!("/other?{query}"), "").await;
        assert_eq!(answer.status, 403, "{query}: {answer:?}");
    }
    let recoded = get(proxy.address, "/other?session=a", "Content-Type: text/plain; charset=utf-7\r\n").await;
    assert_eq!(recoded.status, 415, "{recoded:?}");
    let basic = |credentials: String| format!("Authorization: basic\t{}", STANDARD.encode(credentials));
    for header in [
        format!("Authorization: Bearer {token}"),
        format!("X-Token: {token}"),
        format!("X-Token: {}", with_claim("1e400")),
        format!("Authorization: Bearer {}", with_claim("\"\\udfff\"")),
        format!("Authorization: Token token=\"{}\"", token.replace('I', "\\I").replace('.', "\\.")),
        format!("Authorization: Digest username=\"{}\"", token.replace('n', "\\n").replace('t', "\\t")),
        format!("Sec-WebSocket-Protocol: bearer, {token}"),
        format!("X-Token: {}", kept("%")),
        basic(format!("x:{token}")),
        basic(format!("{token}:")).replace("ey", "e!y"),
        basic(format!("a:{token}")).replace("basic", "Basic").replacen("OmV5", "-OmV5", 1),
    ] {
        let answer = get(proxy.address, "/other", &format!("{header}\r\n")).await;
        assert_eq!(answer.status, 403, "{header}: {answer:?}");
    }
    let another = proxy.token(|claims| claims["aud"] = serde_json::json!("an-api"));
    for header in [
        format!("Authorization: Bearer {another}"),
        format!("Cookie: session={token}"),
        format!("Referer: https://app.example/?session={token}"),
        basic("a person:a.password".into()),
    ] {
        assert_eq!(get(proxy.address, "/other", &format!("{header}\r\n")).await.status, 200, "{header}");
    }
    // A drawing within JSON declares its own encoding.
    let drawing = r#"{"a":"<p>","svg":"<?xml version=\"1.0\" encoding=\"UTF-16\"?><svg/>"}"#;
    assert_eq!(typed(&proxy, "/other", JSON, drawing).await.status, 200);
    // A file may be in any encoding.
    let file = "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\nContent-Type: text/plain; \
                charset=Shift_JIS\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==\r\n--XX--\r\n";
    assert_eq!(typed(&proxy, "/other", MULTIPART, file).await.status, 200);
    let none = file
        .replace("filename=\"f\"", "filename=\"\"")
        .replace("; charset=Shift_JIS", "")
        .replace("Content-Transfer-Encoding: base64\r\n", "");
    assert_eq!(typed(&proxy, "/other", MULTIPART, &none).await.status, 200);
    assert_eq!(typed(&proxy, "/other", &form, "{\"a\":\"b.c\"}").await.status, 200);
    // What looks like an escape or markup, and carries nothing.
    for (headers, body) in [
        (form.as_str(), "discount=50%; 100%=all&a=%zz%4:"),
        (JSON, "{\"text\":\"<saml:Assertion> holds 5 % of it, see <a.eyJ\\u0041>\"}"),
        (JSON, "{\"text\":\"it's 5 % & \\u00e9\\u0435, ６５ %６ &copy; &#169; &#169\"}"),
        (&form, "a={don't do \"this\"}&b=C:\\users\\ute&c=AT&T;d=%e2%82%ac"),
        (&kind("text/plain"), "if a < b && c.eye > d { print(\"eyJ%41\") }"),
    ] {
        assert_eq!(typed(&proxy, "/other", headers, body).await.status, 200, "{headers}{body}");
    }
    assert_eq!(get(proxy.address, "/other?discount=50%;b&a=100%=all&c=%4:", "").await.status, 200);
}

/// An app that does not know chunks would read their sizes as letters of the form (thin).
#[tokio::test]
async fn sec12_a_form_in_chunks_goes_on_with_its_length() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    for kind in ["content-type: application/x-www-form-urlencoded\r\n", ""] {
        let request = format!(
            "POST /other HTTP/1.1\r\nhost: app.example\r\n{kind}transfer-encoding: chunked\r\n\r\n3\r\na=1\r\n3\r\n&b=\r\n1\r\n2\r\n0\r\n\r\n"
        );
        assert_eq!(send(proxy.address, request).await.status, 200, "{kind}");
        let received = app.last();
        assert_eq!(received.body, b"a=1&b=2", "{kind}");
        let head = received.head.to_ascii_lowercase();
        assert!(head.contains("content-length: 7") && !head.contains("transfer-encoding"), "{head}");
    }
}

/// thin and uWSGI's `http11-socket` do not know chunks, and read what comes after a head as the next request of the connection; others do
/// so with the body of a method that seldom has one. Such a request is the only one of its connection.
#[tokio::test]
async fn sec12_a_body_that_a_server_may_leave_ends_its_connection() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: app.example\r\nx-loginsync-user: mallory\r\n\r\n";
    let chunk = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    let length = format!("content-length: {}\r\n", smuggled.len());
    const CHUNKED: &str = "transfer-encoding: chunked\r\n";
    for (method, framing, body, ends) in [
        ("POST", CHUNKED, chunk.as_str(), true),
        ("PUT", CHUNKED, &chunk, true),
        ("GET", CHUNKED, &chunk, true),
        ("GET", &length, smuggled, true),
        ("DELETE", &length, smuggled, true),
        ("PROPFIND", &length, smuggled, true),
        ("POST", &length, smuggled, false),
        ("PUT", &length, smuggled, false),
        ("GET", "", "", false),
        ("POST", "content-length: 0\r\n", "", false),
    ] {
        let request = format!(
            "{method} /other HTTP/1.1\r\nhost: app.example\r\ncontent-type: application/octet-stream\r\nte: trailers\r\n\
             connection: te\r\n{framing}\r\n{body}"
        );
        assert_eq!(send(proxy.address, request).await.status, 200, "{method} {framing}");
        let received = app.last();
        assert_eq!(received.all("connection").contains(&"close"), ends, "{method} {framing}: {}", received.head);
    }
}

/// An app reads headers, and fields of its own, at its callback as everywhere; and scripts and formats make a callback of many addresses.
#[tokio::test]
async fn sec12_no_token_passes_at_a_callback_next_to_its_login() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { binding: "observe", ..Setting::default() }).await;
    let token = proxy.token(|_| {});
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let basic = format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("x:{token}")));
    // Some apps look for the scheme wherever it stands, and pass over what is not base64.
    let behind = format!("Authorization: {{\"a\":\"Basic {}\"}}\r\n", STANDARD.encode(format!("x:{token}")));
    for target in
        ["/login/callback", "/api.php/login/callback", "/login/callback.json", "/login/callback;x", "/saml/acs"]
    {
        for header in [&bearer, &basic, &behind, &format!("X-Access-Token: {token}\r\n")] {
            let answer = get(proxy.address, target, header).await;
            assert_eq!(answer.status, 403, "{target} {header}: {answer:?}");
        }
        for query in [
            format!("token={token}"),
            format!("user[id_token]={token}"),
            format!("error=x&state={token}"),
            token.clone(),
        ] {
            let answer = get(proxy.address, &format!("{target}?{query}"), "").await;
            assert_eq!(answer.status, 403, "{target}?{query}: {answer:?}");
        }
    }
    let kind = "content-type: application/x-www-form-urlencoded\r\n";
    let alice = || proxy.login_form();
    for (target, headers, body) in [
        ("/login/callback", kind.into(), format!("state=s&token={token}")),
        ("/login/callback", kind.into(), format!("error=access_denied&state=s&user[id_token]={token}")),
        ("/login/callback", kind.into(), format!("state={token}")),
        ("/login/callback", kind.into(), format!("state=s&{token}")),
        ("/login/callback", kind.into(), format!("{}&token={token}", alice())),
        ("/login/callback", kind.into(), format!("{}&payload={{\"token\":\"{token}\"}}", alice())),
        ("/login/callback", format!("{kind}{bearer}"), alice()),
        ("/login/callback?token=@", kind.into(), alice()),
        ("/saml/acs", kind.into(), format!("RelayState={token}")),
    ] {
        let answer = typed(&proxy, &target.replace('@', &token), &headers, &body).await;
        assert_eq!(answer.status, 403, "{target} {headers}{body}: {answer:?}");
    }
    for (target, more) in
        [("/login/callback", "token=%６５%７９"), ("/login/callback?x=%4:", ""), ("/login/callback", "x=%6=")]
    {
        let answer = typed(&proxy, target, kind, &format!("{}&{more}", alice())).await;
        assert_eq!(answer.status, 400, "{target} {more}: {answer:?}");
    }
    assert_eq!(app.complete(), 0);
    assert!(!proxy.has_users().await);
    assert_eq!(typed(&proxy, "/login/callback?a=b.c", kind, &format!("{}&d=e.f", alice())).await.status, 200);
}

#[tokio::test]
async fn sec17_formats_and_scripts_open_no_path() {
    let scene = Scene::open(SceneSetting {
        more: "[access]\ndefault = \"public\"\n[[path]]\nprefix = \"/admin\"\naccess = \"required\"\n\
               [[path]]\nprefix = \"/admin.css\"\naccess = \"public\"",
        ..SceneSetting::default()
    })
    .await;
    let seen = scene.house.app.seen().len();
    for target in [
        "/admin",
        "/admin.json",
        "/admin.php",
        "/admin.php/users",
        "/index.php/admin",
        "/INDEX.php/Admin.json",
        "/index%2ephp/admin/x",
        "/x/y.aspx/admin",
        "/cgi-bin/app/admin",
        "/admin.css",
        "/index.php/api/x",
        "/ad%6=in",
        "/Adm%6@n/x",
        "/x/..;/ad%256=in",
        "/ad%６ｄin",
        "//x/admin",
        "///x/Admin/",
        "/\\x/admin",
        "/\\/x\\admin",
        "//x:80/admin",
        "//u:p@x/admin",
        "//x;a/admin/users",
        "//x/a%64min",
        "//:80/ad%6=in",
        "//@/index.php/admin",
        "/(S(lit3py55t21z5v55vlm25s55))/admin",
        "/(A(x)S(y))/admin.json",
    ] {
        let answer = scene.browser().get(target).await;
        assert!(matches!(answer.status, 303 | 400 | 401), "{target}: {}", answer.status);
    }
    // To Jetty the escape goes on, and ends the path only behind it.
    for target in ["/%6?x", "/a%?1", "/a%?@"] {
        assert_eq!(scene.browser().get(target).await.status, 400, "{target}");
    }
    assert_eq!(scene.house.app.seen().len(), seen);
    for target in
        ["/", "/administration", "/a.b/admin", "/index.php/x", "/x.json", "/public/x.php", "/50%", "/50%?x", "/a%6"]
    {
        assert_eq!(scene.browser().get(target).await.status, 200, "{target}");
    }
}

/// OIDC Core 3.3.2.11: without this an app exchanges the code of one person that came beside the ID token of another.
#[tokio::test]
async fn sec12_a_code_beside_an_id_token_is_the_one_that_it_vouches_for() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { binding: "observe", ..Setting::default() }).await;
    let c_hash = |text: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, text.as_bytes());
        serde_json::json!(URL_SAFE_NO_PAD.encode(&digest.as_ref()[..32]))
    };
    let rows = [
        ("&code=hers", Some(c_hash("hers")), 200),
        ("&code=", None, 200),
        ("&code=his", Some(c_hash("hers")), 403),
        ("&code=his", None, 403),
        ("&Code=his", Some(c_hash("hers")), 403),
    ];
    for (number, (beside, hash, status)) in rows.into_iter().enumerate() {
        let token = proxy.token(|claims| {
            claims["jti"] = serde_json::json!(format!("row {number}"));
            if let Some(hash) = hash {
                claims["c_hash"] = hash;
            }
        });
        let before = app.complete();
        let answer = post(proxy.address, "/login/callback", "", &format!("id_token={token}&state=s-1{beside}")).await;
        assert_eq!(answer.status, status, "row {number}: {answer:?}");
        assert_eq!(app.complete() - before, usize::from(status == 200), "row {number}");
    }
}

/// OIDC Core 3.2.2.9: without this an app believes an access token of one person beside an ID token of another.
#[tokio::test]
async fn sec12_an_access_token_beside_an_id_token_is_the_one_that_it_vouches_for() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { binding: "observe", ..Setting::default() }).await;
    // For EdDSA over Ed25519: the left half of the SHA-512 of the token's ASCII.
    let at_hash = |text: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, text.as_bytes());
        serde_json::json!(URL_SAFE_NO_PAD.encode(&digest.as_ref()[..32]))
    };
    let rows = [
        ("&access_token=hers", "", Some(at_hash("hers")), 200),
        ("&access_token=hers&token_type=Bearer", "", Some(at_hash("hers")), 200),
        ("", "", Some(at_hash("hers")), 200),
        ("&access_token=", "", None, 200),
        ("", "", None, 200),
        ("&access_token=his", "", Some(at_hash("hers")), 403),
        ("&access_token=his", "", None, 403),
        ("&access_token=hers", "", Some(serde_json::json!(5)), 403),
        ("&Access%5fToken=his", "", Some(at_hash("hers")), 403),
        ("", "?access_token=his", Some(at_hash("hers")), 403),
        ("", "?access_token=his", None, 403),
    ];
    for (number, (beside, query, hash, status)) in rows.into_iter().enumerate() {
        let token = proxy.token(|claims| {
            claims["jti"] = serde_json::json!(format!("row {number}"));
            if let Some(hash) = hash {
                claims["at_hash"] = hash;
            }
        });
        let before = app.complete();
        let form = format!("id_token={token}&state=s-1{beside}");
        let answer = post(proxy.address, &format!("/login/callback{query}"), "", &form).await;
        assert_eq!(answer.status, status, "row {number}: {answer:?}");
        assert_eq!(app.complete() - before, usize::from(status == 200), "row {number}");
    }
}
