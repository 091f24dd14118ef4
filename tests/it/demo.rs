//! The demo: its walk, the walk's own eyes, and pages that hostile names cannot break out of.

use http::StatusCode;
use loginsync::cli::demo::REPLICAS;
use loginsync::cli::demo::browser::{Browser, Page};
use loginsync::cli::demo::database;
use loginsync::cli::demo::people::{People, Person};
use loginsync::cli::demo::scene::Scene;
use loginsync::cli::demo::voice::Voice;
use loginsync::cli::demo::walk::{walk, walk_among};

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_tells_the_story() {
    let mut told = Vec::new();
    let outcome = walk(0, 1, &mut Voice::plain(&mut told)).await;
    let told = String::from_utf8(told).unwrap();
    assert!(outcome.is_ok(), "{}\n{told}", outcome.unwrap_err());
    for line in [
        "staff/alice through oidc",
        "  + group `Engineering`  granted by `groups = engineering`",
        "  + group `On-call`  granted by `groups = on-call`",
        "  + role `author`  granted by `groups = editors`",
        "group `Marketing`  assigned by demo:operator at ",
        "  - group `On-call`  no longer given by `groups = on-call`",
        "  = group `Engineering`  still given by `groups = engineering`",
        "  ! group `Administrators`  kept, as its last holder",
        "refused with 403: This login cannot be verified",
        "refused with 409: This login was used before",
        "refused with 403: This login was not started in this browser",
        "everything is as it should be: 10 steps, 5 logins entered, 4 refused",
    ] {
        assert!(told.contains(line), "no line {line:?} in\n{told}");
    }
    assert!(!told.contains('\u{1b}'), "colour where nobody sees it");
}

/// The same story through three sidecars over one database: each request goes through another one.
#[tokio::test(flavor = "multi_thread")]
async fn the_walk_tells_the_same_story_through_three_sidecars() {
    let mut told = Vec::new();
    let outcome = walk(0, REPLICAS, &mut Voice::plain(&mut told)).await;
    let told = String::from_utf8(told).unwrap();
    if database::programs().is_none() {
        let why = outcome.unwrap_err().to_string();
        assert!(why.contains("`make setup-postgres`"), "{why}");
        eprintln!(
            "NOT TESTED: the demo with three sidecars. No server is installed; `make setup-postgres` installs one"
        );
        return;
    }
    assert!(outcome.is_ok(), "{}\n{told}", outcome.unwrap_err());
    for line in [
        "refused with 409: This login was used before",
        "3 sidecars over one PostgreSQL took ",
        "everything is as it should be: 10 steps, 5 logins entered, 4 refused",
    ] {
        assert!(told.contains(line), "no line {line:?} in\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_sees_what_differs() {
    let others = || People::new(vec![Person::new("alice", "Alice Archer", &["engineering"])]);
    let failure = walk_among(0, 1, others, &mut Voice::plain(&mut Vec::new())).await.unwrap_err().to_string();
    for words in [
        "step 1 (alice logs in by OIDC",
        "grants: found group `Engineering`; expected group `Engineering`, group `On-call`",
        "groups: found Engineering; expected Engineering, On-call",
    ] {
        assert!(failure.contains(words), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_behind() {
    let scene = Scene::set_up(0, 1, People::of_the_story).await.unwrap();
    let files = scene.directory.path().to_owned();
    assert!(files.join("loginsync.db").exists());
    scene.take_down().await;
    assert!(!files.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_stay_text() {
    let account = "eve\"><script>alert(1)</script>";
    let people = move || {
        let groups = ["engineering", "<b onclick=alert(3)>", "'\"&amp;"];
        People::new(vec![Person::new(account, "<img src=x onerror=alert(2)>", &groups)])
    };
    let scene = Scene::set_up(0, 1, people).await.unwrap();
    let mut browser = Browser::default();
    let mut pages = vec![browser.open(&scene.addresses.provider).await.unwrap()];
    for protocol in ["oidc", "saml"] {
        let question = browser.open(&format!("{}/login/{protocol}", scene.addresses.proxy)).await.unwrap();
        let answer = browser.submit(&question, &[("person", account), ("how", "genuine")], &[]).await.unwrap();
        let home = browser.submit(&answer, &[], &[]).await.unwrap();
        assert!(home.body.contains("is in</h1>"), "{}", home.body);
        pages.extend([question, answer, home]);
    }
    for Page { url, status, body } in &pages {
        assert_eq!(*status, StatusCode::OK, "{url}");
        for raw in ["<script>alert", "<img", "<b onclick", "eve\"", "'\"&"] {
            assert!(!body.contains(raw), "{raw} at {url}:\n{body}");
        }
        assert!(
            body.contains("&#60;img src=x onerror=alert(2)&#62;") || body.contains("&#60;script&#62;alert(1)"),
            "{url}"
        );
    }
    scene.take_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_answers_its_own_app_alone() {
    let scene = Scene::set_up(0, 1, People::of_the_story).await.unwrap();
    let (provider, proxy) = (&scene.addresses.provider, &scene.addresses.proxy);
    let request = format!("{provider}/authorize?response_type=id_token&response_mode=form_post&scope=openid&nonce=n");
    let callback = "&redirect_uri=".to_owned() + proxy + "/callback/oidc";
    for (query, status) in [
        (format!("{request}&client_id=demo-app{callback}"), StatusCode::OK),
        (format!("{request}&client_id=another{callback}"), StatusCode::BAD_REQUEST),
        (format!("{request}&client_id=demo-app&redirect_uri=https://evil.example/"), StatusCode::BAD_REQUEST),
        (format!("{provider}/saml/sso?SAMLRequest=bm8="), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(Browser::default().open(&query).await.unwrap().status, status, "{query}");
    }
    // A page elsewhere that would edit people, and a name elsewhere that points here.
    let page = Browser::default().open(provider).await.unwrap();
    let elsewhere = Page { url: format!("{proxy}/").parse().unwrap(), ..page };
    let with = [("account", "alice"), ("change", "remove")];
    let body = elsewhere.body.replace("/people/", &format!("{provider}/people/"));
    let page = Browser::default().submit(&Page { body, ..elsewhere }, &with, &[]).await.unwrap();
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    let by_another_name = provider.replace("127.0.0.1", "localhost");
    assert_eq!(Browser::default().open(&by_another_name).await.unwrap().status, StatusCode::FORBIDDEN);
    scene.take_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_lets_nobody_in_around_the_sidecar() {
    let scene = Scene::set_up(0, 1, People::of_the_story).await.unwrap();
    let mut browser = Browser::default();
    let question = browser.open(&format!("{}/login/oidc", scene.addresses.proxy)).await.unwrap();
    let answer = browser.submit(&question, &[("person", "alice"), ("how", "genuine")], &[]).await.unwrap();
    let body = answer.body.replace(&scene.addresses.proxy, &scene.addresses.app);
    let page = browser.submit(&Page { body, ..answer }, &[("state", state_of(&question).as_str())], &[]).await.unwrap();
    assert_eq!((page.status, page.heading()), (StatusCode::FORBIDDEN, "Around the sidecar"));
    // Whoever came as `localhost` goes on under the name that the provider knows.
    let by_another_name = scene.addresses.proxy.replace("127.0.0.1", "localhost");
    let page = browser.open(&by_another_name).await.unwrap();
    assert_eq!(page.url.as_str(), format!("{}/", scene.addresses.proxy));
    scene.take_down().await;
}

fn state_of(question: &Page) -> String {
    let mut query = question.url.query_pairs();
    query.find(|(name, _)| name == "state").map(|(_, value)| value.into_owned()).unwrap()
}
