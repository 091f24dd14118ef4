//! Deliveries, API clients, operators, the configuration, the audit, and what pages tell of themselves as they change.

use loginsync::config::Scope;
use loginsync::ports::sessions::Digest;
use serde_json::json;

use super::Desk;
use crate::api::{names, short};
use crate::front_door::Answer;

const HOOK: &str = "[[webhook]]\nname = \"app\"\nurl = \"http://127.0.0.1:1/hook\"\n";

/// A page without its markup.
pub fn plain(page: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for letter in page.chars() {
        match letter {
            '<' => inside = true,
            '>' => inside = false,
            letter if !inside => text.push(letter),
            _ => {}
        }
    }
    text
}

async fn confirmed(desk: &Desk, page: &str, form: &str, fields: &[(&str, &str)]) -> (String, Answer) {
    let preview = desk.post(page, fields).await;
    assert_eq!(preview.status, 200, "{}", preview.body);
    (plain(&preview.body), desk.post(form, fields).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_shows_what_it_has_to_hear_and_is_steered() {
    let desk = Desk::with(Scope::Admin, HOOK).await;
    assert!(desk.get("/console/deliveries").await.contains("/console/deliveries/app"));
    desk.office.login("1", &["staff"]).await;
    let mut page = String::new();
    for _ in 0..100 {
        page = desk.get("/console/deliveries/app").await;
        if page.contains("1 × ") || page.contains("2 × ") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(page.contains("<bdi>oidc/alice</bdi>") && page.contains("Next try"), "{page}");
    let steps = [
        ("test", "Send app a ping if it is a webhook", "does not work"),
        ("pause", "Stop deliveries to app until it is resumed", "paused"),
        ("resume", "Resume deliveries to app", "app"),
        ("retry", "Retry every failed delivery to app now", "app"),
        ("resync", "Send app everything that all users hold", "app"),
    ];
    for (act, says, after) in steps {
        let fields = [("act", act)];
        let (shown, done) =
            confirmed(&desk, "/console/deliveries/app/preview", "/console/deliveries/app/act", &fields).await;
        assert!(shown.contains(says), "{act}: {shown}");
        assert_eq!(done.status, 303, "{act}: {}", done.body);
        assert!(plain(&desk.get("/console/deliveries/app").await).contains(after), "{act}");
    }
    assert_eq!(desk.office.events("delivery_paused").await[0]["by"], "`root by link` in the console");
    assert_eq!(desk.post("/console/deliveries/app/preview", &[("act", "dance")]).await.status, 422);
    assert_eq!(desk.ask("GET", "/console/deliveries/none", &[], "").await.status, 404);
    let (shown, done) = confirmed(
        &desk,
        "/console/people/1/preview",
        "/console/people/1/act",
        &[("act", "tell-anew"), ("receiver", "app")],
    )
    .await;
    assert!(shown.contains("Send app everything that this person holds"), "{shown}");
    assert_eq!(done.status, 303);
    let reader = Desk { cookie: super::sign_in(&desk.office.house, Scope::Read).await, office: desk.office };
    assert!(!reader.get("/console/deliveries/app").await.contains("Change something"));
    for target in ["/console/deliveries/app/preview", "/console/deliveries/app/act"] {
        assert_eq!(reader.post(target, &[("act", "pause")]).await.status, 403);
    }
    assert_eq!(reader.post("/console/people/1/act", &[("act", "tell-anew"), ("receiver", "app")]).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_api_is_made_shown_once_and_ended() {
    let desk = Desk::open(Scope::Admin).await;
    let wrong = desk.post("/console/clients", &[("name", "a robot"), ("scope", "read")]).await;
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.body.contains("value=\"a robot\"") && wrong.body.contains("value=\"read\" checked"),
        "{}",
        wrong.body
    );
    let made = desk.post("/console/clients", &[("name", "robot"), ("scope", "read"), ("scope", "members:write")]).await;
    assert_eq!((made.status, made.headers["cache-control"].to_str().unwrap()), (200, "no-store"));
    let (_, rest) = made.body.split_once("<code id=\"secret\">").expect("its secret");
    let secret = rest.split('<').next().unwrap();
    assert_eq!(desk.office.call(secret, "GET", "/api/v1/groups", &[], None).await.0, 200);
    let listed = desk.get("/console/clients").await;
    assert!(listed.contains("robot") && listed.contains("read, members:write") && !listed.contains(secret));
    let (shown, done) = confirmed(&desk, "/console/clients/end", "/console/clients/end", &[("name", "robot")]).await;
    assert!(shown.contains("End API client robot") && done.status == 200, "{shown}");
    assert_eq!(desk.office.call(secret, "GET", "/api/v1/groups", &[], None).await.0, 200, "nothing has ended yet");
    assert_eq!(desk.post("/console/clients/end", &[("name", "robot"), ("act", "end")]).await.status, 303);
    assert_eq!(desk.office.call(secret, "GET", "/api/v1/groups", &[], None).await.0, 401);
    let reader = Desk { cookie: super::sign_in(&desk.office.house, Scope::Read).await, office: desk.office };
    assert_eq!(reader.ask("GET", "/console/clients", &[], "").await.status, 403);
    assert_eq!(reader.post("/console/clients", &[("name", "x"), ("scope", "read")]).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_listed_and_another_one_is_ended() {
    let desk = Desk::open(Scope::Admin).await;
    let house = &desk.office.house;
    house.clock.set(loginsync::pipeline::ids::Timestamp(crate::kit::NOW.0 + 1000));
    let other = super::sign_in(house, Scope::Read).await;
    let page = desk.get("/console/operators").await;
    assert_eq!(page.matches("root by link").count(), 5, "itself, and two rows with a button each: {page}");
    for cookie in [&desk.cookie, &other] {
        let secret = cookie.split('=').nth(1).unwrap();
        let digest: String = Digest::of(secret.as_bytes()).0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!page.contains(secret) && !page.contains(&digest));
    }
    // The newest stands first.
    let (_, rest) = page.split_once("name=\"id\" value=\"").unwrap();
    let id = rest.split('"').next().unwrap().to_owned();
    let seen = async || {
        house.send_to(house.running.admin, "GET", "/console/", &[("cookie", other.as_str())], b"").await.status
    };
    let preview = desk.post("/console/operators/end", &[("id", &id)]).await;
    assert!(plain(&preview.body).contains("has to sign in again"), "{}", preview.body);
    assert_eq!(seen().await, 200, "nothing has ended yet");
    assert_eq!(desk.post("/console/operators/end", &[("id", &id), ("act", "end")]).await.status, 303);
    assert_eq!(seen().await, 401);
    desk.get("/console/operators").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_shown_without_secrets() {
    let desk = Desk::with(Scope::Read, "[[group]]\nname = \"Never\"\n").await;
    let page = desk.get("/console/configuration").await;
    for part in ["never given", "callback_body", "provider oidc", "enabled"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("secret_hash"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_verified_from_its_page() {
    let desk = Desk::open(Scope::Read).await;
    assert!(desk.get("/console/logins").await.contains("Not since this sidecar started"));
    assert_eq!(desk.post("/console/logins/verify", &[]).await.status, 303);
    let mut page = String::new();
    for _ in 0..100 {
        page = desk.get("/console/logins").await;
        if !page.contains("<progress") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(plain(&page).contains("nothing was altered, removed, moved or put in"), "{page}");
    assert_eq!(desk.post("/console/logins/verify", &[]).await.status, 409, "not twice within a minute");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_gets_another_key_and_their_sessions_end() {
    let desk = Desk::open(Scope::Admin).await;
    desk.office.login("1", &["staff"]).await;
    let fields = [("act", "rekey"), ("to", "oidc/alice2")];
    let (shown, done) = confirmed(&desk, "/console/people/1/preview", "/console/people/1/act", &fields).await;
    assert!(shown.contains("oidc/alice2") && shown.contains("from"), "{shown}");
    assert_eq!(done.status, 303, "{}", done.body);
    assert!(desk.get("/console/people/1").await.contains("oidc/alice2"));
    for to in ["", "alice", "/x", "oidc/"] {
        assert_eq!(desk.post("/console/people/1/preview", &[("act", "rekey"), ("to", to)]).await.status, 422, "{to}");
    }
    let (shown, done) =
        confirmed(&desk, "/console/people/1/preview", "/console/people/1/act", &[("act", "end-sessions")]).await;
    assert!(shown.contains("0 sessions"), "{shown}");
    assert_eq!(done.status, 303);
    assert_eq!(desk.office.events("sessions_ended").await[0]["by"], "`root by link` in the console");
    let writer = Desk { cookie: super::sign_in(&desk.office.house, Scope::WriteMembers).await, office: desk.office };
    assert_eq!(writer.post("/console/people/1/preview", &fields).await.status, 403);
    assert_eq!(writer.post("/console/people/1/act", &fields).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_is_tried_on_named_people_and_as_disabled() {
    let desk = Desk::open(Scope::Admin).await;
    desk.office.login("1", &["staff"]).await;
    desk.office.post("/api/v1/groups", json!({"name": "Extra"})).await;
    let text = short("staff", "Extra")["definition"].to_string();
    for people in ["oidc/alice", "alic", "\n oidc/alice \noidc/alice\n"] {
        let fields = [("act", "try-people"), ("definition", text.as_str()), ("people", people)];
        let tried = desk.post("/console/mappings/new", &fields).await;
        let shown = plain(&tried.body);
        assert!(
            shown.contains("those who are named") && shown.contains("1 person, of whom 1 gain"),
            "{people}: {shown}"
        );
    }
    for (people, says) in
        [("", "name at least one person"), ("zoe", "no one has zoe"), ("oidc/zoe", "no one has oidc/zoe")]
    {
        let fields = [("act", "try-people"), ("definition", text.as_str()), ("people", people)];
        let tried = desk.post("/console/mappings/new", &fields).await;
        assert_eq!((tried.status, plain(&tried.body).contains(says)), (422, true), "{people}: {}", plain(&tried.body));
    }
    let made = desk.office.post("/api/v1/mappings", short("staff", "Extra")).await;
    desk.office.login("2", &["staff"]).await;
    let target = format!("/console/mappings/{}", made["id"].as_str().unwrap());
    let fields = [("act", "try-disabling"), ("version", "1"), ("definition", text.as_str())];
    let tried = plain(&desk.post(&target, &fields).await.body);
    assert!(tried.contains("saving it as disabled would change") && tried.contains("group Extra"), "{tried}");
    assert_eq!(desk.office.holds().await.0, names(&["Extra", "Staff"]), "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn mappings_are_put_in_another_order() {
    let desk = Desk::open(Scope::Admin).await;
    let mut ids = Vec::new();
    for value in ["one", "two", "three"] {
        let made = desk.office.post("/api/v1/mappings", short(value, "Staff")).await;
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    let page = desk.get("/console/mappings/order").await;
    let generation = |page: &str| {
        let (_, rest) = page.split_once("name=\"generation\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let seen = generation(&page);
    let order = |page: &str| -> Vec<String> {
        page.split("name=\"mapping\" value=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    assert_eq!(order(&page), ids);
    let post = |act: String, ids: Vec<String>, seen: String| {
        let desk = &desk;
        async move {
            let mut fields: Vec<(&str, &str)> = vec![("act", &act), ("generation", &seen)];
            fields.extend(ids.iter().map(|id| ("mapping", id.as_str())));
            desk.post("/console/mappings/order", &fields).await
        }
    };
    let moved = post(format!("up {}", ids[2]), ids.clone(), seen.clone()).await;
    let wanted = vec![ids[0].clone(), ids[2].clone(), ids[1].clone()];
    assert_eq!(order(&moved.body), wanted);
    let tried = post("try".into(), wanted.clone(), seen.clone()).await;
    assert!(plain(&tried.body).contains("What saving this order would change"), "{}", tried.body);
    assert_eq!(order(&desk.get("/console/mappings/order").await), ids, "nothing was written");
    assert_eq!(post("save".into(), wanted.clone(), seen.clone()).await.status, 303);
    assert_eq!(order(&desk.get("/console/mappings/order").await), wanted);
    let stale = post("save".into(), ids.clone(), seen).await;
    assert_eq!((stale.status, order(&stale.body)), (412, ids), "what was chosen stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_the_store_cannot_take_comes_back_whole() {
    let desk = Desk::open(Scope::Admin).await;
    desk.office.login("1", &["staff"]).await;
    let page = desk.get("/console/people/1").await;
    let token = super::token(&page);
    // The store can no longer be asked who is signed in.
    let path = desk.office.house.folder.path().join("store.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("DROP TABLE console").unwrap();
    let form = format!("token={token}&act=deny&target=group%3AStaff&reason=a+long%0Astory&days=7");
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let answer = desk.ask("POST", "/console/people/1/preview", &[super::SAME, kind], &form).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("a long\nstory") && answer.body.contains("value=\"group:Staff\""), "{}", answer.body);
    assert!(answer.body.contains("Send it again") && answer.body.contains(&token), "{}", answer.body);
    // Another site's form is not.
    let foreign = desk.ask("POST", "/console/people/1/preview", &[("sec-fetch-site", "cross-site"), kind], &form).await;
    assert_eq!((foreign.status, foreign.body.contains("story")), (403, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_asks_too_often_waits_and_loses_nothing() {
    let desk = Desk::with(Scope::Admin, "[admin]\nrate_limit = 3\n").await;
    let token = super::token(&desk.get("/console/").await);
    for _ in 0..2 {
        desk.get("/console/").await;
    }
    let form = format!("token={token}&act=save&definition=%7B%22a+long+one%22%7D");
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let answer = desk.ask("POST", "/console/mappings/new", &[super::SAME, kind], &form).await;
    assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (429, true));
    assert!(answer.body.contains("a long one") && answer.body.contains("Send it again"), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_typed_comes_back_when_the_session_has_ended() {
    let desk = Desk::open(Scope::Admin).await;
    let token = super::token(&desk.get("/console/").await);
    desk.office.house.store().console().end(None).await.unwrap();
    let form = format!("token={token}&act=save&definition=%7B%22a+long+%3Cone%3E%22");
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let answer = desk.ask("POST", "/console/mappings/new", &[super::SAME, kind], &form).await;
    assert_eq!(answer.status, 401);
    assert!(answer.body.contains("{&#34;a long &#60;one&#62;&#34;"), "{}", answer.body);
    assert!(!answer.body.contains(&token) && !answer.body.contains("Send it again"), "{}", answer.body);
    // Another site's form is not shown to anyone.
    let foreign = desk.ask("POST", "/console/mappings/new", &[("sec-fetch-site", "cross-site"), kind], &form).await;
    assert_eq!((foreign.status, foreign.body.contains("a long")), (403, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_tells_the_last_hour_and_how_old_keys_are() {
    let desk = Desk::open(Scope::Read).await;
    desk.office.login("1", &["staff"]).await;
    let house = &desk.office.house;
    let cookies = house.leave(crate::attacks::LEAVE).await;
    let mut forged = crate::attacks::signed(&crate::attacks::claims("2"));
    forged.replace_range(forged.len() - 4.., "AAAA");
    let headers = [("cookie", cookies.as_str()), ("content-type", crate::attacks::FORM.1)];
    let body = crate::attacks::form(&[("id_token", &forged), ("state", "state-1")]);
    house.send("POST", "/callback", &headers, body.as_bytes()).await;
    let page = desk.get("/console/").await;
    let text = plain(&page);
    for part in ["1entered", "1did not enter", "verify", "signature does not verify", "Fetched"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(page.contains("data-live"));
    // Logins that lack a claim, and none with it.
    let desk = Desk::open(Scope::Read).await;
    let house = &desk.office.house;
    let cookies = house.leave(crate::attacks::LEAVE).await;
    let mut login = crate::attacks::claims("3");
    login.as_object_mut().unwrap().remove("groups");
    let headers = [("cookie", cookies.as_str()), ("content-type", crate::attacks::FORM.1)];
    let body = crate::attacks::form(&[("id_token", &crate::attacks::signed(&login)), ("state", "state-1")]);
    house.send("POST", "/callback", &headers, body.as_bytes()).await;
    let text = plain(&desk.get("/console/").await);
    assert!(text.contains("claim groups of provider oidc came with no login within the last hour"), "{text}");
}

/// Opens a stream, and answers the socket with what has come so far.
async fn stream(desk: &Desk) -> (tokio::net::TcpStream, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(desk.office.house.running.admin).await.unwrap();
    let head = format!("GET /console/live HTTP/1.1\r\nHost: localhost\r\nCookie: {}\r\n\r\n", desk.cookie);
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = vec![0; 8192];
    let mut text = String::new();
    while !text.contains("retry:") && !text.contains("HTTP/1.1 4") {
        let read = socket.read(&mut bytes).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    (socket, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_of_changes_and_streams_are_bounded() {
    use tokio::io::AsyncReadExt as _;
    let desk = Desk::open(Scope::Read).await;
    let (mut socket, head) = stream(&desk).await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
    desk.office.login("1", &["staff"]).await;
    let mut told = String::new();
    let heard = async {
        let mut bytes = [0; 1024];
        while !told.contains("event: changed") {
            let read = socket.read(&mut bytes).await.unwrap();
            assert!(read > 0, "the stream ended: {told}");
            told.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), heard).await.expect("a change is told");
    let mut open = vec![socket];
    let mut refused = 0;
    for _ in 0..22 {
        let (socket, head) = stream(&desk).await;
        refused += usize::from(head.starts_with("HTTP/1.1 429"));
        open.push(socket);
    }
    assert_eq!(refused, 3, "twenty at once");
    // Who has gone leaves their place to others.
    drop(open);
    let mut again = 429;
    for _ in 0..50 {
        let (_socket, head) = stream(&desk).await;
        again = if head.starts_with("HTTP/1.1 200") { 200 } else { 429 };
        if again == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(again, 200);
    // A process that ends does not wait for them.
    let (_open, _) = stream(&desk).await;
    let begun = std::time::Instant::now();
    desk.office.house.running.stop().await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_kept_up_to_date_does_not_keep_its_session() {
    let desk = Desk::open(Scope::Read).await;
    let clock = &desk.office.house.clock;
    let at = |minutes: i64| loginsync::pipeline::ids::Timestamp(crate::kit::NOW.0 + minutes * 60_000);
    for minute in [5, 10, 14] {
        clock.set(at(minute));
        assert_eq!(desk.ask("GET", "/console/", &[("x-loginsync-live", "1")], "").await.status, 200);
    }
    clock.set(at(15));
    assert_eq!(desk.ask("GET", "/console/", &[], "").await.status, 401);
}
