//! What the pages say: with no rows, one and many, and with names that try to be markup.

use loginsync::config::Scope;
use loginsync::pipeline::ids::{Namespace, Subject, UserId};
use loginsync::ports::store::{Act, By};
use serde_json::json;

use super::Desk;
use super::operate::plain;
use crate::api::short;
use crate::attacks::{FORM, LEAVE, claims, form, signed};

/// Bytes of a page at most, with fifty rows.
const MOST_BYTES: usize = 60_000;

fn by() -> By {
    By { name: "test".into(), admin: true, epoch: None }
}

fn user(subject: &str) -> UserId {
    UserId { namespace: Namespace::parse("oidc").unwrap(), subject: Subject::parse(subject).unwrap() }
}

async fn make(desk: &Desk, people: &[(&str, Option<&str>)]) {
    let house = &desk.office.house;
    let acts = people.iter().map(|(subject, name)| {
        let act = Act::Create { email: None, display_name: name.map(str::to_owned), enabled: true };
        (user(subject), act)
    });
    house.store().act_all(acts.collect(), by(), house.clock.now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_pages_say_that_they_are_empty() {
    let desk = Desk::open(Scope::Read).await;
    for (target, says) in [
        ("/console/", "None yet since this sidecar started."),
        ("/console/people", "There is no one yet"),
        ("/console/people?q=zoe", "No one has <bdi>zoe</bdi>"),
        ("/console/logins?what=refused", "Nothing here fits the filter"),
        ("/console/explain", "By number"),
    ] {
        let page = desk.get(target).await;
        assert!(page.contains(says), "{target}: {page}");
    }
    let answer = desk.ask("GET", "/console/people/7", &[], "").await;
    assert_eq!((answer.status, answer.body.contains("There is no person with this number")), (404, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_shows_every_reason_and_what_happened() {
    let desk = Desk::open(Scope::Admin).await;
    desk.office.login("1", &["staff"]).await;
    let page = desk.get("/console/people/1").await;
    for part in [
        "alice",
        "Staff",
        "mapped by groups = staff through oidc since",
        "editor",
        "through Staff",
        "gained group Staff",
    ] {
        assert!(plain(&page).contains(part), "no {part} in {page}");
    }
    assert!(page.contains("<code><bdi>staff</bdi></code>"), "the recorded value: {page}");
    // Who reads alone sees which claims came, and not their values.
    let reader = Desk { cookie: super::sign_in(&desk.office.house, Scope::Read).await, office: desk.office };
    let page = reader.get("/console/people/1").await;
    assert!(
        !page.contains("<code><bdi>staff</bdi></code>") && page.contains("<code><bdi>groups</bdi></code>"),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_stay_text_on_every_page() {
    let desk = Desk::open(Scope::Admin).await;
    let names = ["<script>alert(1)</script>", "\"><img src=x onerror=alert(2)>", "\u{202e}evil\u{2066}", "'&amp;<b>"];
    for name in names {
        make(&desk, &[(name, Some(name))]).await;
    }
    let long = "x".repeat(1000);
    make(&desk, &[(&long, Some(&long))]).await;
    let mut pages = vec![desk.get("/console/people").await, desk.get("/console/logins").await];
    for name in names {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("q", name).finish();
        pages.push(desk.get(&format!("/console/people?{query}")).await);
        pages.push(desk.get(&format!("/console/logins?{}", query.replace("q=", "person="))).await);
        pages.push(desk.ask("GET", &format!("/console/explain?{}", query.replace("q=", "id=")), &[], "").await.body);
    }
    for number in 1..=5 {
        pages.push(desk.get(&format!("/console/people/{number}")).await);
    }
    // As a group, as the value of a mapping, and as a receiver of a form that is wrong.
    desk.office.post("/api/v1/groups", json!({"name": names[0]})).await;
    let made = desk.office.post("/api/v1/mappings", short(names[1], names[0])).await;
    let mapping = format!("/console/mappings/{}", made["id"].as_str().unwrap());
    for target in
        ["/console/groups", "/console/mappings", "/console/mappings/order", "/console/operators", "/console/logins"]
    {
        pages.push(desk.get(target).await);
    }
    pages.push(desk.get(&mapping).await);
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("name", names[0]).finish();
    pages.push(desk.get(&format!("/console/groups/group?{query}")).await);
    for fields in [
        vec![("act", "assign"), ("target", "group:<script>alert(1)</script>")],
        vec![("act", "deny"), ("target", "group:Staff"), ("reason", names[1])],
        vec![("act", "rekey"), ("to", "oidc/<img src=x>")],
        vec![("act", "tell-anew"), ("receiver", names[0])],
    ] {
        pages.push(desk.post("/console/people/1/preview", &fields).await.body);
    }
    let fields = [("act", "try-people"), ("people", names[1]), ("definition", names[0])];
    pages.push(desk.post("/console/mappings/new", &fields).await.body);
    pages.push(desk.post(&mapping, &[("act", "save"), ("version", "7"), ("definition", names[0])]).await.body);
    pages.push(desk.post("/console/clients", &[("name", names[0]), ("scope", names[1])]).await.body);
    let typed = names.join("\n");
    pages.push(desk.post("/console/explain", &[("provider", "oidc"), ("login", &format!("{{{typed}"))]).await.body);
    for page in pages {
        for raw in ["<script>alert", "<img", "<b>"] {
            assert!(!page.contains(raw), "{raw} in {page}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_people_come_page_by_page() {
    let desk = Desk::open(Scope::Read).await;
    let subjects: Vec<String> = (0..10_000).map(|number| format!("person-{number:05}")).collect();
    for part in subjects.chunks(1000) {
        let people: Vec<(&str, Option<&str>)> = part.iter().map(|subject| (subject.as_str(), None)).collect();
        make(&desk, &people).await;
    }
    let mut target = String::from("/console/people");
    for page in 0..3 {
        let text = desk.get(&target).await;
        assert!(text.len() < MOST_BYTES, "{} bytes", text.len());
        assert_eq!(text.matches("/console/people/").count(), 50);
        assert!(text.contains(&format!("person-{:05}", page * 50)), "{text}");
        let (_, rest) = text.split_once("href=\"/console/people?after=").expect("a next page");
        target = format!("/console/people?after={}", rest.split('"').next().unwrap());
    }
    let found = desk.get("/console/people?q=person-0999").await;
    assert!(found.contains("10 found, by name."), "{found}");
    let found = desk.get("/console/people?q=person").await;
    assert!(found.contains("there are more") && found.len() < MOST_BYTES);
    // The audit of as many rows, newest first, and its older pages.
    let newest = desk.get("/console/logins?what=acts").await;
    assert!(newest.len() < MOST_BYTES, "{} bytes", newest.len());
    let (_, rest) = newest.split_once("href=\"/console/logins?what=acts&#38;before=").expect("an older page");
    let before: i64 = rest.split('"').next().unwrap().parse().unwrap();
    let older = desk.get(&format!("/console/logins?what=acts&before={before}")).await;
    assert!(
        older.contains(&format!("id=\"row-{}\"", before - 1))
            && !newest.contains(&format!("id=\"row-{}\"", before - 1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_in_addresses_that_lead_nowhere_are_answered_at_once() {
    let desk = Desk::open(Scope::Read).await;
    desk.office.login("1", &["staff"]).await;
    for target in [
        "/console/logins?before=9223372036854775807",
        "/console/logins?before=-9223372036854775808",
        "/console/groups/group?name=Staff&from=18446744073709551615",
        "/console/mappings?from=18446744073709551615",
        "/console/people?after=9223372036854775807",
        "/console/people?after=-9223372036854775808",
    ] {
        let page = tokio::time::timeout(std::time::Duration::from_secs(10), desk.get(target)).await;
        assert!(page.is_ok(), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_found_by_its_number() {
    let desk = Desk::open(Scope::Read).await;
    let house = &desk.office.house;
    // A token that no signature vouches for: the audit does not have it.
    let cookies = house.leave(LEAVE).await;
    let mut forged = signed(&claims("1"));
    forged.replace_range(forged.len() - 4.., "AAAA");
    let headers = [("cookie", cookies.as_str()), ("content-type", FORM.1), ("accept", "text/html")];
    let body = form(&[("id_token", &forged), ("state", "state-1")]);
    let refused = house.send("POST", "/callback", &headers, body.as_bytes()).await;
    assert_eq!(refused.status, 403);
    let id = shown_id(&refused.body);
    let page = desk.get(&format!("/console/explain?id={id}")).await;
    assert!(page.contains("From the memory of this sidecar") && page.contains("signature"), "{page}");
    // One that the provider signed, and that came twice.
    desk.office.login("2", &["staff"]).await;
    let login = house.events().await.iter().find(|row| row.event == "login").unwrap().detail["login"].clone();
    let page = desk.get(&format!("/console/explain?id={}", login.as_str().unwrap())).await;
    assert!(page.contains("From the audit") && plain(&page).contains("gained group Staff"), "{page}");
    let answer = desk.ask("GET", "/console/explain?id=no-such", &[], "").await;
    assert_eq!((answer.status, answer.body.contains("No login has the number")), (404, true));
    // The API tells the same.
    let (status, told, _) =
        desk.office.call(crate::api::READER, "POST", "/api/v1/explain", &[], Some(json!({ "id": id }))).await;
    assert_eq!((status, &told["stage"], &told["login"]), (200, &json!("verify"), &json!(id)));
}

fn shown_id(page: &str) -> String {
    let (_, rest) = page.split_once("this number to your administrator: <code>").expect("a number");
    rest.split('<').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_and_tokens_are_explained_and_nothing_is_written() {
    let desk = Desk::open(Scope::Read).await;
    desk.office.post("/api/v1/mappings", short("buyers", "Staff")).await;
    let before = desk.office.house.events().await.len();
    let claims = json!({"sub": "zoe", "groups": ["buyers"]}).to_string();
    let page = desk.post("/console/explain", &[("provider", "oidc"), ("login", &claims)]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.body.contains("they are not verified") && page.body.contains("gains"), "{}", page.body);
    let token = signed(&crate::attacks::claims("9"));
    let page = desk.post("/console/explain", &[("provider", "oidc"), ("login", &token)]).await;
    assert_eq!((page.status, page.body.contains(&token)), (200, false), "a token is not shown again");
    // What cannot be read comes back with what is wrong.
    let page = desk.post("/console/explain", &[("provider", "oidc"), ("login", "{\"sub\": ")]).await;
    assert_eq!(page.status, 422);
    assert!(
        page.body.contains("is not a JSON object to its end") && page.body.contains("{&#34;sub&#34;:"),
        "{}",
        page.body
    );
    assert_eq!(desk.office.house.events().await.len(), before);
    assert_eq!(desk.office.house.store().users(None, 10).await.unwrap().len(), 0);
}
