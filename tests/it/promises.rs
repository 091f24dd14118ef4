//! The promises of the design that show from outside, each through the front door: 1, 2, 7, 8, 10. The others are promised
//! by the store and the plan, and kept in `store_suite` and `plan_laws`; 1 is kept by the types as well, in `layers`.

use std::io::{BufRead as _, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo};
use loginsync::cli::demo::mint::{oidc, saml};
use loginsync::clock::Clock;
use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::ids::Timestamp;
use loginsync::ports::store::HoldFilter;
use rusqlite::Connection;
use serde_json::json;

use crate::attacks::{FORM, LEAVE, Siege, claims, config, form, header, here, saml_leave, signed, with};
use crate::front_door::{App, House, Seen};
use crate::kit::{ACS, AUDIENCE, ISSUER, NOW, REQUEST, key, login, signed_assertion};

fn body_of(token: &str) -> Vec<u8> {
    form(&[("id_token", token), ("state", "state-1")]).into_bytes()
}

fn body_of_response(document: &str) -> Vec<u8> {
    form(&[("SAMLResponse", &saml::field(document))]).into_bytes()
}

/// One login that differs from a right one in one respect changes nothing; the right one changes what it should.
#[tokio::test(flavor = "multi_thread")]
async fn promise_01_only_verified_claims_change_anything() {
    let siege = Siege::open().await;
    let stranger = key("stranger-rsa");
    let unsigned = {
        let token = signed(&claims("1"));
        format!("{}.", token.rsplit_once('.').unwrap().0)
    };
    let late = Timestamp(NOW.0 - 3_600_000);
    let mut elsewhere = login();
    elsewhere.audiences = vec!["https://other.example".into()];
    let mut old = login();
    (old.not_on_or_after, old.issued_at) = (late.0, late.0);
    let mut theirs = login();
    theirs.in_response_to = Some("_another-browser".into());
    let rows: Vec<(&str, &str, Vec<u8>)> = vec![
        ("signature", "/callback", body_of(&oidc::id_token(&stranger, "RS256", &header(), &claims("1")).unwrap())),
        ("no signature", "/callback", body_of(&unsigned)),
        ("issuer", "/callback", body_of(&signed(&with(&json!({"iss": "https://evil.example/"}))))),
        ("audience", "/callback", body_of(&signed(&with(&json!({"aud": "other"}))))),
        ("time", "/callback", body_of(&signed(&with(&json!({"exp": late.seconds()}))))),
        ("binding", "/callback", body_of(&signed(&with(&json!({"nonce": "nonce-2"}))))),
        ("SAML signature", "/saml/acs", body_of_response(&signed_assertion(&login(), &stranger))),
        ("SAML, none", "/saml/acs", body_of_response(&saml::response(&login(), &saml::assertion(&login())))),
        ("SAML audience", "/saml/acs", body_of_response(&signed_assertion(&elsewhere, &key("idp-rsa")))),
        ("SAML time", "/saml/acs", body_of_response(&signed_assertion(&old, &key("idp-rsa")))),
        ("SAML binding", "/saml/acs", body_of_response(&signed_assertion(&theirs, &key("idp-rsa")))),
    ];
    for (what, path, body) in rows {
        assert_eq!(siege.send(path, FORM.1, &body).await.status, 403, "{what}");
        assert_eq!(siege.house.memberships().await, "\n", "{what}");
    }
    assert!(siege.house.app.seen().is_empty());
    siege.lets_the_honest_in().await;
    let memberships = siege.house.memberships().await;
    let token = body_of(&signed(&claims("honest")));
    assert_eq!(siege.send("/callback", FORM.1, &token).await.status, 409, "replay");
    assert_eq!(siege.house.memberships().await, memberships);
}

/// What another process reads of the store: grants, audit rows, tokens that were spent.
fn counts(connection: &Connection) -> (i64, i64, i64) {
    let count = |query: &str| connection.query_row(query, [], |row| row.get(0)).unwrap();
    (
        count("SELECT count(*) FROM grants"),
        count("SELECT count(*) FROM audit WHERE event = 'login'"),
        count("SELECT count(*) FROM tokens"),
    )
}

/// At the moment when the app gets the callback, another connection to the file already sees what the login did.
#[tokio::test(flavor = "multi_thread")]
async fn promise_02_the_app_sees_a_login_after_its_commit() {
    let siege = Siege::open().await;
    let path = siege.house.folder.path().join("store.db");
    let found: Arc<Mutex<Vec<(i64, i64, i64)>>> = Arc::default();
    let record = Arc::clone(&found);
    siege.house.app.on_arrival(move |_| {
        record.lock().unwrap().push(counts(&Connection::open(&path).unwrap()));
    });
    siege.lets_the_honest_in().await;
    assert_eq!(*found.lock().unwrap(), [(1, 1, 1), (2, 2, 2)]);
}

/// Whatever the store cannot do, nobody enters, nothing stays half-written, and the same login passes later.
#[tokio::test(flavor = "multi_thread")]
async fn promise_02_a_store_that_fails_lets_nobody_in() {
    let siege = Siege::open().await;
    let intruder = Connection::open(siege.house.folder.path().join("store.db")).unwrap();
    let before = counts(&intruder);
    let breaks = |table: &str, what: &str, how: &str| {
        format!("CREATE TRIGGER broken BEFORE {what} ON {table} BEGIN SELECT RAISE({how}, 'a test'); END")
    };
    let faults = [
        breaks("tokens", "INSERT", "ABORT"),
        breaks("users", "INSERT", "FAIL"),
        breaks("holdings", "INSERT", "ABORT"),
        breaks("records", "INSERT", "ROLLBACK"),
        breaks("audit", "INSERT", "ABORT"),
        breaks("audit", "INSERT", "ROLLBACK"),
        "BEGIN IMMEDIATE".into(),
        "BEGIN EXCLUSIVE".into(),
    ];
    let bodies = [
        ("/callback", body_of(&signed(&claims("honest")))),
        ("/saml/acs", body_of_response(&signed_assertion(&login(), &key("idp-rsa")))),
    ];
    for fault in faults {
        intruder.execute_batch(&fault).unwrap();
        for (path, body) in &bodies {
            let answer = siege.send(path, FORM.1, body).await;
            assert_eq!(answer.status, 503, "{fault}: {}", answer.body);
            assert_eq!(answer.headers["retry-after"], "5", "{fault}");
            assert!(!answer.body.contains("a test") && answer.body.contains("wait a moment"), "{}", answer.body);
        }
        intruder.execute_batch(if fault.starts_with("BEGIN") { "ROLLBACK" } else { "DROP TRIGGER broken" }).unwrap();
        assert_eq!(counts(&intruder), before, "{fault}");
        assert_eq!(siege.house.memberships().await, "\n", "{fault}");
    }
    assert!(siege.house.app.seen().is_empty());
    siege.lets_the_honest_in().await;
}

/// A fault that makes SQLite give up the whole transaction, in the midst of logins that wait together: each is either told
/// that it failed and is not there, or entered and is.
#[tokio::test(flavor = "multi_thread")]
async fn promise_02_a_transaction_that_is_lost_is_lost_for_all() {
    let siege = Arc::new(Siege::open().await);
    let intruder = Connection::open(siege.house.folder.path().join("store.db")).unwrap();
    intruder
        .execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON users WHEN NEW.subject = 'user-3'
             BEGIN SELECT RAISE(ROLLBACK, 'a test'); END",
        )
        .unwrap();
    // While the lock is held, the first waits for it and the others wait together behind.
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut sending = tokio::task::JoinSet::new();
    for number in 0..8 {
        let siege = Arc::clone(&siege);
        sending.spawn(async move {
            let mut claims = with(&json!({"sub": format!("user-{number}")}));
            claims["jti"] = json!(format!("lost-{number}"));
            (number, siege.send("/callback", FORM.1, &body_of(&signed(&claims))).await.status)
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    intruder.execute_batch("ROLLBACK").unwrap();
    let mut refused = 0;
    while let Some(done) = sending.join_next().await {
        let (number, status) = done.unwrap();
        let user = format!("user-{number}");
        let written = siege.house.memberships().await.contains(&format!("oidc/{user}: groups [\"Staff\"]"));
        let entered = siege.house.app.seen().iter().any(|seen| seen.headers["x-loginsync-user"] == user.as_str());
        assert!(matches!(status, 200 | 503), "{user}: {status}");
        assert_eq!((written, entered), (status == 200, status == 200), "{user}");
        refused += usize::from(status == 503);
    }
    assert!(refused >= 1);
    assert!(siege.house.store().verify_audit().await.unwrap().broken.is_none());
}

/// The body arrives byte for byte; identity is ours and nobody else's; our cookies stay here and others pass.
#[tokio::test(flavor = "multi_thread")]
async fn promise_07_the_app_gets_what_the_browser_sent_and_our_word_for_who_it_is() {
    let siege = Siege::open().await;
    let token = |jti: &str| signed(&claims(jti));
    let document = saml::field(&signed_assertion(&login(), &key("idp-rsa")));
    let folded: String =
        document.as_bytes().chunks(76).flat_map(|line| [line, b"\r\n"]).flatten().map(|b| char::from(*b)).collect();
    let escaped: String = token("3").bytes().map(|byte| format!("%{byte:02X}")).collect();
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("/callback", body_of(&token("1"))),
        ("/callback", format!("&&x=%zz&state=state-1&%69d_token={}&=&%", token("2")).into_bytes()),
        ("/callback", format!("st%61te=state-1&id_token={escaped}&a=b+c%20d").into_bytes()),
        (
            "/Callback//",
            [b"odd=\xff\xfe\x80&state=state-1&id_token=", token("4").as_bytes(), b"&\xc3\xa4=\xe2\x82\xac\r\n"]
                .concat(),
        ),
        ("/callback?keep=%2F&this=+", body_of(&token("5"))),
        ("/callback", [body_of(&token("6")), b"&filler=".to_vec(), vec![b'x'; 300_000]].concat()),
        (
            "/saml/acs",
            format!("RelayState=%2fhome%3f&SAMLResponse={}", form(&[("x", &folded)]).split_off(2)).into_bytes(),
        ),
    ];
    let forged = [
        ("x-loginsync-user", "root"),
        ("X-LoginSync-Groups", "Administrators"),
        ("x_loginsync_roles", "admin"),
        ("x-loginsync_email", "root@example.com"),
        ("x-loginsync-anything", "x"),
        ("X-Forwarded-User", "root"),
        ("x_forwarded_groups", "Administrators"),
        ("Remote-User", "root"),
        ("REMOTE_GROUPS", "Administrators"),
        ("x-original-url", "/admin"),
    ];
    for (path, body) in &bodies {
        let cookie = format!("first=1; {}; last=\"a b\"", siege.cookies);
        let mut headers = vec![FORM, ("cookie", &cookie), ("x-app", "kept"), ("accept-language", "de")];
        headers.extend(forged);
        let answer = siege.house.send("POST", path, &headers, body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let Seen { method, target, headers, body: got } = siege.house.app.seen().pop().unwrap();
        assert_eq!(got, body, "{path}");
        assert_eq!((method.as_str(), target.as_str()), ("POST", *path));
        let ours: Vec<(&str, &str)> = headers
            .iter()
            .filter(|(name, _)| {
                ["x-loginsync", "x_", "x-forwarded-user", "remote", "x-original"]
                    .iter()
                    .any(|head| name.as_str().starts_with(head))
            })
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        let mut expected =
            vec![("x-loginsync-groups", "Staff"), ("x-loginsync-roles", "editor"), ("x-loginsync-user", "alice")];
        if !path.starts_with("/saml") {
            expected.insert(0, ("x-loginsync-email", "alice@example.com"));
        }
        let mut sorted = ours.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected, "{path}");
        assert_eq!(headers["cookie"], "first=1; last=\"a b\"", "{path}");
        assert_eq!(
            (&headers["x-app"], &headers["accept-language"]),
            (&"kept".parse().unwrap(), &"de".parse().unwrap())
        );
    }
}

/// A file with faults does not replace the rules at a reload; a good one does.
#[tokio::test(flavor = "multi_thread")]
async fn promise_08_a_bad_configuration_never_replaces_a_good_one() {
    let siege = Siege::open().await;
    let file = siege.house.folder.path().join("unwatched.toml");
    let root = env!("CARGO_MANIFEST_DIR");
    let good = config("", "")
        .replace("http://127.0.0.1:1", &siege.house.app_url)
        .replace("fixtures/", &format!("{root}/fixtures/"))
        .replace("\"Staff\"", "\"Crew\"");
    let log_in = async |jti: &str| {
        assert_eq!(siege.send("/callback", FORM.1, &body_of(&signed(&claims(jti)))).await.status, 200);
        let seen = siege.house.app.seen().pop().unwrap();
        seen.headers["x-loginsync-groups"].to_str().unwrap().to_owned()
    };
    assert_eq!(log_in("1").await, "Staff");
    let faulty = [
        good.replace("value = \"admins\"", "valeu = \"admins\""),
        good.replace("group = \"Crew\"", "group = \"Crwe\""),
        good.replace("mode = \"saml-post\"", "mode = \"saml\""),
        good.replace("https://app.example\"", "http://app.example\""),
        good.replace("idp-rsa.certificate", "idp-rsa.key"),
        good.replace("idp-rsa.certificate", "absent"),
        good.replace("[app]", "[app"),
        format!("{good}\n[unknown]\n"),
        String::new(),
        "\u{0}\u{1}".into(),
    ];
    for (number, text) in faulty.iter().enumerate() {
        assert_ne!(*text, good, "{number}");
        std::fs::write(&file, text).unwrap();
        siege.house.running.reload().await;
        assert_eq!(log_in(&format!("bad-{number}")).await, "Staff", "{text}");
    }
    std::fs::remove_file(&file).unwrap();
    siege.house.running.reload().await;
    assert_eq!(log_in("gone").await, "Staff", "a file that is gone");
    std::fs::write(&file, &good).unwrap();
    siege.house.running.reload().await;
    assert_eq!(log_in("good").await, "Crew");
}

/// The program itself, which prints every fault, makes nothing and ends.
#[test]
fn promise_08_a_bad_configuration_never_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("loginsync.toml");
    let text = config("", "")
        .replace("fixtures/", &format!("{}/fixtures/", env!("CARGO_MANIFEST_DIR")))
        .replace("value = \"admins\"", "valeu = \"admins\"")
        .replace("mode = \"saml-post\"", "mode = \"saml-pots\"")
        .replace("https://app.example\"", "http://app.example\"");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_loginsync"))
        .args(["serve", "--config"])
        .arg(&file)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    for part in ["public_url", "valeu", "value", "saml-pots", "saml-post", "loginsync.toml"] {
        assert!(told.contains(part), "`{part}` is not in {told}");
    }
    assert!(!folder.path().join("store.db").exists(), "it opened its store");
}

/// The program at its most talkative, through logins and refusals of all kinds, a reload and an end: nothing that was secret
/// is in its log, its metrics, its pages or its database.
#[tokio::test(flavor = "multi_thread")]
async fn promise_10_nothing_secret_is_written() {
    let now = Clock::system().now();
    let folder = tempfile::tempdir().unwrap();
    let (audit_key, cookie_key) =
        ("an-audit-key-of-more-than-32-bytes-x9", "Y29va2llLWtleS1vZi0zMi1ieXRlcy1mb3ItdGVzdHM=");
    std::fs::write(folder.path().join("audit.key"), audit_key).unwrap();
    std::fs::write(folder.path().join("cookie.keys"), cookie_key).unwrap();
    let app = App::default();
    let address = app.start().await;
    let text = config("", "allow_idp_initiated = true")
        .replace("http://127.0.0.1:1", &format!("http://{address}"))
        .replace("fixtures/", &format!("{}/fixtures/", env!("CARGO_MANIFEST_DIR")));
    let text = format!(
        "{text}\n[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n[sync]\nrecord_claims = false\n[log]\nlevel = \"trace\"\n\
         [audit]\nkey_file = \"audit.key\"\n[cookies]\nkeys_file = \"cookie.keys\"\n"
    );
    let file = folder.path().join("loginsync.toml");
    std::fs::write(&file, &text).unwrap();
    let program = Program::start(&file);
    let client = program.client("proxy");

    let mut secrets = vec![audit_key.to_owned(), cookie_key.to_owned(), "cookie-key-of-32-bytes-for-tests".into()];
    app.leave_to(LEAVE);
    let mut cookies = client.cookies().await;
    app.leave_to(&saml_leave(REQUEST));
    cookies.extend(client.cookies().await);
    assert_eq!(cookies.len(), 2);
    secrets.extend(cookies.iter().map(|cookie| cookie.split_once('=').unwrap().1.to_owned()));
    let cookies = format!("session=the-apps-own-session-cookie; {}", cookies.join("; "));
    secrets.extend(["the-apps-own-session-cookie".into(), "a-bearer-token-of-the-app".into()]);

    let token = |changes: serde_json::Value, jti: &str| {
        let mut claims = with(&changes);
        claims["jti"] = json!(jti);
        for (name, offset) in [("iat", 0), ("exp", 300)] {
            if changes.get(name).is_none() {
                claims[name] = json!(now.seconds() + offset);
            }
        }
        claims["secret"] = json!("a-claim-that-no-mapping-names");
        signed(&claims)
    };
    let good = token(json!({}), "good");
    let in_parts = |part: usize, text: &str| {
        use base64::Engine as _;
        let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
        parts[part] = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        parts.join(".")
    };
    let response = |change: fn(&mut saml::SamlLogin), id: &str| {
        let mut login = saml::SamlLogin::new(ISSUER, AUDIENCE, ACS, ("_response-1", id), now.0);
        login.in_response_to = Some(REQUEST.into());
        login.name_id = Some(("alice".into(), None));
        login.attributes = vec![saml::MintAttribute::of("groups", &["staff", "a-group-that-no-mapping-names"])];
        change(&mut login);
        signed_assertion(&login, &key("idp-rsa"))
    };
    let document = response(|_| {}, "_good");
    let posts: Vec<(&str, String, u16)> = vec![
        ("/callback", form(&[("id_token", &good), ("state", "state-1")]), 200),
        ("/callback", form(&[("id_token", &good), ("state", "state-1")]), 409),
        ("/callback", form(&[("id_token", &good), ("id_token", &good)]), 400),
        (
            "/callback",
            form(&[("id_token", &token(json!({"nonce": "a-nonce-of-another-browser"}), "n")), ("state", "state-1")]),
            403,
        ),
        ("/callback", form(&[("id_token", &token(json!({"exp": 1}), "e")), ("state", "state-1")]), 403),
        ("/callback", form(&[("id_token", &token(json!({"sub": ""}), "s")), ("state", "state-1")]), 403),
        ("/callback", form(&[("id_token", &format!("{good}AAAA")), ("state", "state-1")]), 403),
        (
            "/callback",
            form(&[("id_token", &in_parts(1, "\"a-payload-that-is-only-text\"")), ("state", "state-1")]),
            400,
        ),
        (
            "/callback",
            form(&[("id_token", &in_parts(1, "{\"iss\": a-payload-that-is-no-json}")), ("state", "state-1")]),
            400,
        ),
        ("/callback", form(&[("id_token", &in_parts(0, "[\"a-header-that-is-a-list\"]")), ("state", "state-1")]), 400),
        ("/callback", "code=an-authorization-code&state=state-1".into(), 400),
        ("/elsewhere", form(&[("id_token", &good)]), 403),
        ("/saml/acs", form(&[("SAMLResponse", &saml::field(&document)), ("RelayState", "a-relay-state")]), 200),
        ("/saml/acs", form(&[("SAMLResponse", &saml::field(&document))]), 409),
        ("/saml/acs", form(&[("SAMLResponse", &saml::field(&document.replace("staff", "admins")))]), 403),
        ("/saml/acs", form(&[("SAMLResponse", &saml::field(&document[..document.len() - 5]))]), 400),
        ("/saml/acs", form(&[("SAMLResponse", &saml::field(&response(|login| login.name_id = None, "_nobody")))]), 403),
        (
            "/saml/acs",
            form(&[(
                "SAMLResponse",
                &saml::field(&response(|login| login.audiences = vec!["https://x".into()], "_other")),
            )]),
            403,
        ),
        ("/other", "password=a-password-in-a-form".into(), 200),
    ];
    let mut told = String::new();
    for (path, body, status) in &posts {
        let headers = [FORM, ("cookie", cookies.as_str()), ("authorization", "Bearer a-bearer-token-of-the-app")];
        let answer = client.send("POST", path, &headers, body.as_bytes()).await;
        assert_eq!(answer.0, *status, "{path} {body}: {}", answer.1);
        told.push_str(&answer.1);
        // Pieces of what was sent, as it was sent and as it decodes.
        secrets.extend(pieces(body));
        for (_, value) in form_urlencoded::parse(body.as_bytes()) {
            secrets.extend(value.split('.').flat_map(decoded));
        }
    }
    secrets.extend(
        ["a-claim-that-no-mapping-names", "a-group-that-no-mapping-names", "a-nonce-of-another-browser"]
            .map(String::from),
    );
    secrets.extend(
        ["a-payload-that-is", "a-header-that-is", "an-authorization-code", "a-relay-state", "a-password-in-a-form"]
            .map(String::from),
    );
    assert_eq!(client.send_by_http2("/callback", &cookies, &posts[0].1).await, 409);
    let query = format!("/q?id_token={good}&access_token=a-token-in-a-query");
    assert_eq!(client.send("GET", &query, &[], b"").await.0, 403);
    secrets.push("a-token-in-a-query".into());
    told.push_str(&program.client("admin").send("GET", "/metrics", &[], b"").await.1);
    std::fs::write(&file, text.replace("[log]", "[log")).unwrap();
    program.signal("-HUP");
    program.line_with("the new configuration has faults");

    let log = program.end();
    assert!(log.contains("request refused") && log.contains("login applied"), "{log}");
    let mut database = Vec::new();
    for name in ["store.db", "store.db-wal"] {
        if let Ok(mut found) = std::fs::File::open(folder.path().join(name)) {
            found.read_to_end(&mut database).unwrap();
        }
    }
    let database = String::from_utf8_lossy(&database);
    assert!(told.contains("loginsync_") && database.contains("login_refused"));
    let written = [("log", log.as_str()), ("pages and metrics", told.as_str()), ("database", &database)];
    for secret in &secrets {
        for (place, text) in written {
            assert!(!text.contains(secret.as_str()), "`{secret}` is in the {place}");
        }
    }
    assert!(secrets.len() > 100);
}

/// Runs of 24 characters and more, of which the first 24: long enough to be nobody's word.
fn pieces(text: &str) -> Vec<String> {
    let runs = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    runs.flat_map(|run| run.as_bytes().chunks_exact(24))
        .map(|piece| String::from_utf8_lossy(piece).into_owned())
        .collect()
}

/// What stands between the tags of an encoded document, where it is long enough to be a signature or digest.
fn decoded(part: &str) -> Vec<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(part).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let values = ["SignatureValue>", "DigestValue>"];
    values.iter().filter_map(|tag| text.split(tag).nth(1)?.get(..24).map(str::to_owned)).collect()
}

/// The program, with everything that it says. It ends with the test, however that ends.
pub struct Program {
    child: std::process::Child,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Program {
    pub fn start(file: &std::path::Path) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_loginsync")).args(["serve", "--config"]), file)
    }

    /// The same by a command that runs the program, perhaps after it has set limits; the file is its last argument.
    #[allow(clippy::zombie_processes, reason = "`stop` waits for it")]
    pub fn start_by(command: &mut Command, file: &std::path::Path) -> Self {
        let child = command
            .arg(file)
            .current_dir(file.parent().unwrap())
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "1")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut program = Self { child, log: Arc::default(), reader: None };
        let (record, errors) = (Arc::clone(&program.log), program.child.stderr.take().unwrap());
        program.reader = Some(std::thread::spawn(move || {
            for line in std::io::BufReader::new(errors).split(b'\n').map_while(Result::ok) {
                let mut log = record.lock().unwrap();
                log.push_str(&String::from_utf8_lossy(&line));
                log.push('\n');
            }
        }));
        program
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line that holds a text.
    pub fn line_with(&self, text: &str) -> String {
        let started = Instant::now();
        loop {
            if let Some(line) = self.log().lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(started.elapsed() < Duration::from_secs(20), "`{text}` is not in {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One of its listeners: `proxy` or `admin`.
    pub fn client(&self, listener: &str) -> Client {
        let line: serde_json::Value = serde_json::from_str(&self.line_with("\"listening\"")).unwrap();
        let host = if listener == "admin" { "localhost" } else { "app.example" };
        Client(line[listener].as_str().unwrap().to_owned(), host)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn end(mut self) -> String {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success());
        self.reader.take().unwrap().join().unwrap();
        self.log()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that writes its requests out, on a connection each.
pub struct Client(pub String, &'static str);

impl Client {
    pub async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, String, Vec<String>) {
        let mut request =
            format!("{method} {target} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.1).into_bytes();
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        write!(request, "content-length: {}\r\n\r\n", body.len()).unwrap();
        request.extend_from_slice(body);
        let address = self.0.clone();
        let exchange = move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(&request).unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).into_owned()
        };
        let answer = tokio::task::spawn_blocking(exchange).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let cookies = head
            .lines()
            .filter_map(|line| line.strip_prefix("set-cookie: "))
            .map(|cookie| cookie.split(';').next().unwrap().to_owned());
        (status, body.to_owned(), cookies.collect())
    }

    /// By a library of which we know that it logs header fields where it may.
    async fn send_by_http2(&self, path: &str, cookies: &str, body: &str) -> u16 {
        let stream = tokio::net::TcpStream::connect(&self.0).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post(format!("http://app.example{path}"))
            .header("cookie", cookies)
            .header(FORM.0, FORM.1)
            .body(body.to_owned())
            .unwrap();
        sender.send_request(request).await.unwrap().status().as_u16()
    }

    pub async fn cookies(&self) -> Vec<String> {
        self.send("GET", "/leave", &[], b"").await.2
    }
}

/// What the tests above start from is a house that opens.
#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_these_tests_is_a_good_one() {
    let house = House::open(&config("", ""), &here(), NOW).await;
    assert_eq!(house.memberships().await, "\n");
    house.running.stop().await;
}

/// A good file with other rules, for the program that serves `siege`.
fn changed(siege: &Siege, change: impl Fn(String) -> String) -> String {
    let text = config("", "")
        .replace("http://127.0.0.1:1", &siege.house.app_url)
        .replace("fixtures/", &format!("{}/fixtures/", env!("CARGO_MANIFEST_DIR")));
    change(text)
}

const NO_LOSSES: &str = "\n[brake]\nminimum = 0\nshare = \"0%\"\n";

/// A reload whose rules would revoke too much keeps the old ones; one that an operator has confirmed does not.
#[tokio::test(flavor = "multi_thread")]
async fn promise_09_a_reload_that_revokes_too_much_keeps_the_old_rules() {
    let siege = Siege::open().await;
    let file = siege.house.folder.path().join("unwatched.toml");
    siege.lets_the_honest_in().await;
    let before = siege.house.memberships().await;
    assert!(before.contains("Staff"), "{before}");
    let fewer = changed(&siege, |text| text.replace("\"staff\"", "\"nobody\"") + NO_LOSSES);
    std::fs::write(&file, &fewer).unwrap();
    let epoch = siege.house.rules().epoch;
    siege.house.running.reload().await;
    assert_eq!((siege.house.rules().epoch, siege.house.memberships().await), (epoch, before));

    let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    let source = Config::from_text(&fewer, &around).unwrap().rules.source.unwrap();
    siege.house.store().confirm(source, "test".into(), NOW).await.unwrap();
    siege.house.running.reload().await;
    assert!(!siege.house.memberships().await.contains("Staff"));
}

/// A start with such rules ends with 1, says what would be lost, and how to confirm it.
#[tokio::test(flavor = "multi_thread")]
async fn promise_09_a_start_that_revokes_too_much_ends() {
    let siege = Siege::open().await;
    siege.lets_the_honest_in().await;
    let fewer = changed(&siege, |text| text.replace("\"staff\"", "\"nobody\"") + NO_LOSSES)
        + "\n[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
    let House { running, folder, .. } = siege.house;
    running.stop().await;
    let folder = folder.path();
    std::fs::write(folder.join("loginsync.toml"), fewer).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_loginsync"))
        .args(["serve", "--config"])
        .arg(folder.join("loginsync.toml"))
        .current_dir(folder)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("group `Staff` would go from") && told.contains("--confirm"), "{told}");
    assert_eq!(counts(&Connection::open(folder.join("store.db")).unwrap()).0, 2, "both still hold Staff");
}

/// With `apply = "now"` a changed mapping reaches people who do not log in.
#[tokio::test(flavor = "multi_thread")]
async fn changed_rules_reach_everyone_at_once_where_that_is_asked_for() {
    let siege = Siege::open().await;
    siege.lets_the_honest_in().await;
    let file = siege.house.folder.path().join("unwatched.toml");
    let more = changed(&siege, |text| {
        text + "\n[sync]\napply = \"now\"\n[[group]]\nname = \"Everyone\"\n\
        [[mapping]]\nname = \"everyone\"\nalways = true\ngroup = \"Everyone\"\n"
    });
    std::fs::write(&file, more).unwrap();
    siege.house.running.reload().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while siege.house.memberships().await.matches("Everyone").count() < 2 {
        assert!(Instant::now() < deadline, "{}", siege.house.memberships().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The brake at the front door: the login enters with what it had, and the operator is told.
#[tokio::test(flavor = "multi_thread")]
async fn promise_09_the_brake_holds_a_login_and_is_told() {
    let siege = Siege::with(&(config("", "") + NO_LOSSES)).await;
    let log_in = async |changes: serde_json::Value| {
        let answer = siege.send("/callback", FORM.1, &body_of(&signed(&with(&changes)))).await;
        assert_eq!(answer.status, 200);
        let seen = siege.house.app.seen().pop().unwrap();
        seen.headers["x-loginsync-groups"].to_str().unwrap().to_owned()
    };
    assert_eq!(log_in(json!({"jti": "1", "groups": ["staff"]})).await, "Staff");
    assert_eq!(log_in(json!({"jti": "2", "groups": []})).await, "Staff");
    let held = siege.house.store().holds(HoldFilter::default(), siege.house.rules()).await.unwrap();
    assert_eq!(held.len(), 1);
    let address = format!("http://{}/metrics", siege.house.running.admin);
    let metrics = siege.house.fetch(&address).await;
    assert!(metrics.contains("loginsync_revocations_held_total 1"), "{metrics}");
    let row = siege.house.events().await.pop().unwrap();
    assert_eq!(row.detail["held"][0]["group"], "Staff");
}
