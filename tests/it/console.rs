//! The console through its front door: who gets in, what a form needs, and what pages say.

mod acts;
mod operate;
mod operators;
mod pages;
mod program;

use std::time::Duration;

use loginsync::config::Scope;
use loginsync::pipeline::ids::Timestamp;
use loginsync::ports::console::{Operator, SignIn};
use loginsync::ports::sessions::Digest;

use crate::api::{Office, configuration};
use crate::attacks::here;
use crate::front_door::{Answer, House};
use crate::kit::NOW;

const ON: &str = "[console]\nenabled = true\n";
const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");

/// The office of the APIs, with its console, and an operator in front of it.
pub struct Desk {
    pub office: Office,
    pub cookie: String,
}

impl Desk {
    pub async fn open(scope: Scope) -> Self {
        Self::with(scope, "").await
    }

    /// With further configuration.
    pub async fn with(scope: Scope, more: &str) -> Self {
        let office = Office::with(&format!("{ON}{more}")).await;
        let cookie = sign_in(&office.house, scope).await;
        Self { office, cookie }
    }

    pub async fn ask(&self, method: &str, target: &str, extra: &[(&str, &str)], body: &str) -> Answer {
        let mut headers = vec![("cookie", self.cookie.as_str())];
        headers.extend_from_slice(extra);
        let house = &self.office.house;
        house.send_to(house.running.admin, method, target, &headers, body.as_bytes()).await
    }

    /// A page that is there.
    pub async fn get(&self, target: &str) -> String {
        let answer = self.ask("GET", target, &[], "").await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.body);
        answer.body
    }

    /// Sends a form of this session as a browser does.
    pub async fn post(&self, target: &str, fields: &[(&str, &str)]) -> Answer {
        let token = token(&self.ask("GET", "/console/", &[], "").await.body);
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", &token).extend_pairs(fields);
        let kind = ("content-type", "application/x-www-form-urlencoded");
        self.ask("POST", target, &[SAME, kind], &form.finish()).await
    }
}

fn token(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"token\" value=\"").expect("a form with a token");
    rest.split('"').next().unwrap().to_owned()
}

async fn link(house: &House, scope: Scope, lifetime: Duration) -> String {
    let until = house.clock.now().plus(lifetime);
    let operator = Operator { name: "root by link".into(), scopes: vec![scope], person: None };
    let link = SignIn {
        key: Digest::of(b"the link"),
        is_link: true,
        operator,
        created_at: house.clock.now(),
        idle_until: until,
        expires_at: until,
    };
    house.store().console().add(link).await.unwrap();
    "the+link".into()
}

async fn enter(house: &House, link: &str, extra: &[(&str, &str)]) -> Answer {
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
    headers.extend_from_slice(extra);
    house.send_to(house.running.admin, "POST", "/console/enter", &headers, format!("link={link}").as_bytes()).await
}

pub async fn sign_in(house: &House, scope: Scope) -> String {
    let link = link(house, scope, Duration::from_secs(60)).await;
    let answer = enter(house, &link, &[SAME]).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_is_off_unless_it_is_turned_on() {
    let office = Office::open().await;
    let house = &office.house;
    let answer = house.send_to(house.running.admin, "GET", "/console/", &[], b"").await;
    assert_eq!((answer.status, answer.body.contains("enabled = true")), (404, true));
    assert_eq!(enter(house, "x", &[SAME]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_is_shown_without_a_session() {
    let desk = Desk::open(Scope::Read).await;
    let house = &desk.office.house;
    for target in [
        "/console/",
        "/console/people",
        "/console/people/1",
        "/console/logins",
        "/console/explain?id=1",
        "/console/x",
        "/console/live",
        "/console/deliveries",
        "/console/clients",
        "/console/operators",
        "/console/configuration",
    ] {
        for headers in [vec![], vec![("cookie", "loginsync-console=guessed")]] {
            let answer = house.send_to(house.running.admin, "GET", target, &headers, b"").await;
            assert_eq!(answer.status, 401, "{target}");
            assert!(answer.body.contains("loginsync console") && !answer.body.contains("<nav"), "{}", answer.body);
        }
    }
    // A session of the app and the secret of an API client are of no use here.
    let bearer = format!("Bearer {}", crate::api::ADMIN);
    let answer = house.send_to(house.running.admin, "GET", "/console/", &[("authorization", &bearer)], b"").await;
    assert_eq!(answer.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_opens_one_session_and_its_page_spends_nothing() {
    let office = Office::with(ON).await;
    let house = &office.house;
    let link = link(house, Scope::Read, Duration::from_secs(60)).await;
    for _ in 0..2 {
        let page = house.send_to(house.running.admin, "GET", &format!("/console/enter?link={link}"), &[], b"").await;
        assert_eq!((page.status, page.body.contains("name=\"link\" value=\"the link\"")), (200, true), "{}", page.body);
    }
    assert_eq!(enter(house, &link, &[]).await.status, 403, "neither `Sec-Fetch-Site` nor `Origin`");
    assert_eq!(enter(house, &link, &[("sec-fetch-site", "cross-site")]).await.status, 403);
    assert_eq!(enter(house, &link, &[("origin", "http://evil.example")]).await.status, 403);
    let own = format!("http://{}", house.running.admin);
    let entered = enter(house, &link, &[("origin", &own)]).await;
    assert_eq!((entered.status, &entered.headers["location"]), (303, &"/console/".parse().unwrap()));
    let cookie = entered.headers["set-cookie"].to_str().unwrap();
    for part in ["loginsync-console=", "Path=/console/", "HttpOnly", "SameSite=Lax"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert_eq!(enter(house, &link, &[SAME]).await.status, 401, "a second time");
    let rows = office.events("console_signed_in").await;
    assert_eq!((rows.len(), &rows[0]["by"], &rows[0]["scopes"][0]), (1, &"root by link".into(), &"read".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_by_its_time_and_guesses_are_limited() {
    let office = Office::with(ON).await;
    let house = &office.house;
    let link = link(house, Scope::Read, Duration::from_secs(60)).await;
    house.clock.set(Timestamp(NOW.0 + 60_000));
    assert_eq!(enter(house, &link, &[SAME]).await.status, 401);
    let mut last = 401;
    for guess in 0..40 {
        last = enter(house, &format!("guess{guess}"), &[SAME]).await.status;
    }
    assert_eq!(last, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_it_is_idle_too_old_or_signed_out() {
    let desk = Desk::open(Scope::Read).await;
    let clock = &desk.office.house.clock;
    let minutes = |minutes: i64| Timestamp(NOW.0 + minutes * 60_000);
    // In use it goes on past its first quarter of an hour, and not past eight hours.
    for minute in (10..480).step_by(10) {
        clock.set(minutes(minute));
        desk.get("/console/").await;
    }
    clock.set(minutes(480));
    assert_eq!(desk.ask("GET", "/console/", &[], "").await.status, 401);
    let idle = Desk { cookie: sign_in(&desk.office.house, Scope::Read).await, ..desk };
    idle.office.house.clock.set(minutes(480 + 15));
    assert_eq!(idle.ask("GET", "/console/", &[], "").await.status, 401);
    let left = Desk { cookie: sign_in(&idle.office.house, Scope::Read).await, ..idle };
    let answer = left.post("/console/leave", &[]).await;
    assert_eq!((answer.status, answer.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0")), (200, true));
    assert_eq!(left.ask("GET", "/console/", &[], "").await.status, 401);
    assert_eq!(left.office.events("console_signed_out").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_needs_the_token_of_its_session_and_a_browser_that_says_it_is_ours() {
    let desk = Desk::open(Scope::Admin).await;
    let token = token(&desk.get("/console/").await);
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let right = format!("token={token}");
    let other = Desk { cookie: sign_in(&desk.office.house, Scope::Admin).await, office: desk.office };
    let others = token_of(&other).await;
    let desk = Desk { cookie: desk.cookie, office: other.office };
    for (headers, body) in [
        (vec![kind], right.as_str()),
        (vec![kind, ("sec-fetch-site", "same-site")], &right),
        (vec![kind, ("sec-fetch-site", "none")], &right),
        (vec![kind, ("origin", "null")], &right),
        (vec![kind, ("origin", "http://127.0.0.1:1")], &right),
        (vec![kind, SAME], ""),
        (vec![kind, SAME], "token="),
        (vec![kind, SAME], &format!("token={others}")),
    ] {
        let answer = desk.ask("POST", "/console/leave", &headers, body).await;
        assert_eq!(answer.status, 403, "{headers:?} {body}");
    }
    desk.get("/console/").await;
    assert_eq!(desk.ask("POST", "/console/leave", &[kind, SAME], &right).await.status, 200);
}

async fn token_of(desk: &Desk) -> String {
    token(&desk.get("/console/").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_forbids_frames_inline_script_and_storing() {
    let desk = Desk::open(Scope::Read).await;
    let house = &desk.office.house;
    let without = house.send_to(house.running.admin, "GET", "/console/", &[], b"").await;
    let pages = [
        "/console/",
        "/console/people",
        "/console/people/9",
        "/console/logins",
        "/console/explain",
        "/console/x",
        "/console/deliveries",
        "/console/operators",
        "/console/configuration",
        "/console/clients",
        "/console/mappings/order",
    ];
    let mut answers = vec![without];
    for page in pages {
        answers.push(desk.ask("GET", page, &[], "").await);
    }
    for answer in answers {
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        for part in
            ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
        {
            assert!(policy.contains(part), "{policy}");
        }
        assert_eq!(answer.headers["x-frame-options"], "DENY");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        for inline in ["<style", "style=\"", "onclick", "javascript:", "<script>"] {
            assert!(!answer.body.contains(inline), "{inline}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stylesheet_and_script_come_from_the_binary_and_are_asked_for_again_by_their_tag() {
    let desk = Desk::open(Scope::Read).await;
    for (target, kind) in
        [("/console/style.css", "text/css; charset=utf-8"), ("/console/script.js", "text/javascript; charset=utf-8")]
    {
        let whole = desk.ask("GET", target, &[], "").await;
        assert_eq!((whole.status, whole.headers["content-type"].to_str().unwrap()), (200, kind));
        let tag = whole.headers["etag"].to_str().unwrap();
        let again = desk.ask("GET", target, &[("if-none-match", tag)], "").await;
        assert_eq!((again.status, again.body.as_str()), (304, ""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_a_strangers_leads_nowhere() {
    let desk = Desk::open(Scope::Read).await;
    assert_eq!(desk.ask("GET", "/console/", &[("host", "rebound.example")], "").await.status, 421);
}

#[test]
fn over_a_network_the_console_needs_tls() {
    use loginsync::config::{Config, Surroundings};
    let load = |admin: &str| {
        let text = format!("{}\n{ON}", configuration(""));
        let text = format!("{text}\n[admin]\naddress = \"0.0.0.0:9901\"\nallow_remote = true\n{admin}");
        let around =
            Surroundings { file: &here(), read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
        Config::from_text(&text, &around).map(drop).map_err(|faults| faults.to_string())
    };
    let refused = load("").unwrap_err();
    assert!(refused.contains("console.enabled") && refused.contains("admin.tls_certificate"), "{refused}");
    load("public_url = \"https://loginsync.example\"").unwrap();
}
