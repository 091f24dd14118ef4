//! Sessions that the app begins by itself from the headers: their cookies neither reach it nor stay with the browser, so that it reads
//! the headers at each request (`headers.drop_cookies`).

use serde_json::json;

use super::{ORIGIN, Scene, Setting};

const OCTOPRINT: Setting =
    Setting { base: "", top: "", listen: "", session: "", provider: "", more: "[headers]\npreset = \"octoprint\"\n" };

/// What the app gets of the app's cookies, by the `Cookie` fields that the browser sends. A stale session that a person wants to keep
/// may come in every spelling that some app reads.
#[tokio::test]
async fn the_cookies_of_an_apps_own_session_do_not_reach_it() {
    let cases: [(&[&str], &str); 20] = [
        (&["session_P5000=alice; csrf_token_P5000=t"], "csrf_token_P5000=t"),
        (&["a=b; session=alice;c=d"], "a=b;c=d"),
        (&["remember_token_P80_R|printer=alice; a=b"], "a=b"),
        (&["a=b", "session_P5000=alice", "c=d"], "a=b; c=d"),
        (&["session_P5000 =alice; a=b"], "a=b"),
        (&["session_P5000; a=b"], "a=b"),
        (&["$Version=1; session_P5000=alice; $Path=/"], "$Version=1; $Path=/"),
        (&["sess%69on_P5000=alice; a=b"], "a=b"),
        (&["__Host-session_P5000=alice; __Secure-session=alice; a=b"], "a=b"),
        (&["\"session_P5000\"=alice; a=b"], "a=b"),
        (&["x=\"y; session_P5000=alice; z\"; a=b"], "x=\"y; z\"; a=b"),
        (&["x=y session_P5000=alice; a=b"], "a=b"),
        (&["x=y session_P5000 =alice; a=b"], "a=b"),
        (&["x=y\tsession=alice; a=b"], "a=b"),
        (&["x=y,session=alice; a=b"], "a=b"),
        (&["SESSION_P5000=alice; a=b"], "a=b"),
        (&["session.P5000=alice; session[P5000=alice; session[a]=alice; a=b"], "a=b"),
        (&["session_P5000=1; session_P5000=2; a=b"], "a=b"),
        (
            &["sessions=1; xsession=2; my_session_P1=3; a=session=4"],
            "sessions=1; xsession=2; my_session_P1=3; a=session=4",
        ),
        (&["a=session_P5000"], "a=session_P5000"),
    ];
    let scene = Scene::open(OCTOPRINT).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    for (lines, expected) in cases {
        let lines: Vec<(&str, &str)> = lines.iter().map(|line| ("cookie", *line)).collect();
        browser.send("GET", "/page", &lines, b"").await;
        let heard = scene.house.app.seen().last().unwrap().headers.clone();
        let left: Vec<_> = heard.get_all("cookie").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(left, [expected], "{lines:?}");
        assert_eq!(heard["remote-user"], "alice");
    }
    // Also where a path needs no session: who has signed out is signed out there too.
    browser.cookies.clear();
    browser.send("GET", "/public", &[("cookie", "session_P5000=alice; a=b")], b"").await;
    let heard = scene.house.app.seen().last().unwrap().headers.clone();
    assert_eq!((heard["cookie"].to_str().unwrap(), heard.contains_key("remote-user")), ("a=b", false));
}

/// The browser gets none either: left there, it would count again once the setting is gone.
#[tokio::test]
async fn what_the_app_sets_of_its_session_stays_behind() {
    let scene = Scene::open(OCTOPRINT).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    for (line, passes) in [
        ("session_P5000=eyJ; HttpOnly; Path=/", false),
        ("remember_token_P5000=alice|1|x; Path=/", false),
        ("session=; Expires=Thu, 01 Jan 1970 00:00:00 GMT", false),
        ("csrf_token_P5000=t; Path=/", true),
        ("a=session_P5000; Path=/", true),
    ] {
        scene.house.app.sets(200, line);
        let answer = browser.send("POST", "/page", &[("origin", ORIGIN)], b"").await;
        let set: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(set, if passes { vec![line] } else { vec![] });
    }
}

/// Two people in one browser, and one of them demoted: with the app's own cookie kept, every request names who sends it and what they hold.
#[tokio::test]
async fn the_app_hears_of_the_next_person_and_of_other_groups_in_the_same_browser() {
    let scene = Scene::open(OCTOPRINT).await;
    let mut browser = scene.browser();
    for (who, groups, expected) in
        [("alice", &["staff", "board"][..], "Board,Staff"), ("alice", &["staff"], "Staff"), ("bob", &[], "-")]
    {
        let change = |claims: &mut serde_json::Value| {
            claims["sub"] = json!(who);
            claims["groups"] = json!(groups);
        };
        browser.log_in(change).await;
        browser.cookies.insert("session_P5000".into(), "of the first person, as an administrator".into());
        let heard = browser.heard("/page").await.unwrap();
        assert!(!heard.contains_key("cookie"), "{heard:?}");
        assert_eq!((heard["remote-user"].to_str().unwrap(), heard["remote-groups"].to_str().unwrap()), (who, expected));
        browser
            .send("POST", "/.loginsync/sign-out", &[("sec-fetch-site", "same-origin"), ("origin", ORIGIN)], b"")
            .await;
        scene.later(1);
    }
}

/// The key replaces what the preset says, also by nothing.
#[tokio::test]
async fn the_operator_names_other_cookies_or_none() {
    let cookies = "session_P5000=a; JSESSIONID.1a2b=b; sid=c";
    for (headers, expected) in [
        ("preset = \"octoprint\"\ndrop_cookies = []", cookies),
        ("preset = \"octoprint\"\ndrop_cookies = [\"sid\"]", "session_P5000=a; JSESSIONID.1a2b=b"),
        ("drop_cookies = [\"JSESSIONID.*\", \"__Host-sid\"]", "session_P5000=a"),
        ("preset = \"grafana\"", cookies),
    ] {
        let scene = Scene::open(Setting { more: format!("[headers]\n{headers}\n").leak(), ..OCTOPRINT }).await;
        let mut browser = scene.browser();
        browser.log_in(|_| {}).await;
        browser.send("GET", "/page", &[("cookie", cookies)], b"").await;
        let heard = scene.house.app.seen().last().unwrap().headers.clone();
        assert_eq!(heard["cookie"].to_str().unwrap(), expected, "{headers}");
    }
}
