//! Sign-in to the console by a provider: who gets in, as what, and for how long.

use loginsync::config::{Config, Surroundings};
use loginsync::ports::store::{Act, By};
use serde_json::{Value, json};

use crate::front_door::Answer;
use crate::kit::NOW;
use crate::relying_party::{Browser, Scene, Setting, challenge_of, location, user};

const ADMIN: &str = "https://admin.example";

const OPERATORS: &str = r#"
[admin]
public_url = "https://admin.example"

[console]
enabled = true
provider = "idp"
read_role = "auditor"
write_role = "operator"

[[role]]
name = "auditor"
privileged = true

[[role]]
name = "operator"
privileged = true

[[mapping]]
provider = "idp"
claim = "groups"
value = "audit"
role = "auditor"

[[mapping]]
provider = "idp"
claim = "groups"
value = "ops"
role = "operator"
"#;

const SETTING: Setting = Setting { base: "", top: "", listen: "", session: "", provider: "", more: OPERATORS };

/// Leaves for the provider by the link of the page that a browser without a session sees.
async fn leave(browser: &mut Browser<'_>, page: &str) -> crate::relying_party::Left {
    let shown = browser.get(page).await;
    assert_eq!(shown.status, 401, "{}", shown.body);
    let (_, rest) = shown.body.split_once(&format!("href=\"{ADMIN}/console/provider/sign-in")).expect("a way in");
    let query = rest.split('"').next().unwrap();
    browser.leave_by(&format!("/console/provider/sign-in{query}")).await
}

/// A whole sign-in, with claims that are changed.
async fn sign_in(browser: &mut Browser<'_>, page: &str, change: impl FnOnce(&mut Value)) -> Answer {
    let left = leave(browser, page).await;
    let token = browser.scene.token(&left.query["nonce"], change);
    browser.scene.tokens(&token);
    browser.get(&format!("/console/provider/callback?code=c-1&state={}", left.query["state"])).await
}

fn groups(names: &[&str]) -> impl FnOnce(&mut Value) {
    let names = json!(names);
    move |claims| claims["groups"] = names
}

fn has_session(browser: &Browser<'_>) -> bool {
    browser.cookies.contains_key("__Secure-loginsync-console")
}

async fn token(browser: &mut Browser<'_>) -> String {
    super::token(&browser.get("/console/").await.body)
}

async fn post(browser: &mut Browser<'_>, target: &str, fields: &[(&str, &str)]) -> Answer {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("token", &token(browser).await).extend_pairs(fields);
    let headers = [super::SAME, ("content-type", "application/x-www-form-urlencoded")];
    browser.send("POST", target, &headers, form.finish().as_bytes()).await
}

async fn events(scene: &Scene, event: &str) -> Vec<Value> {
    scene.house.events().await.into_iter().filter(|row| row.event == event).map(|row| row.detail).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_signs_operators_in_as_what_their_roles_make_them() {
    let scene = Scene::open(SETTING).await;
    let mut browser = scene.operator();
    let left = leave(&mut browser, "/console/people?q=al%20b").await;
    // An image on a page of another site would push it out.
    let image = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
    let refused = browser.send("GET", "/console/provider/sign-in", &image, b"").await;
    assert_eq!((refused.status, refused.headers.contains_key("set-cookie")), (403, false));
    assert_eq!(left.query["redirect_uri"], format!("{ADMIN}/console/provider/callback"));
    assert!(browser.cookies.keys().all(|name| name.starts_with("__Host-loginsync-o-")), "{:?}", browser.cookies);
    scene.tokens(&scene.token(&left.query["nonce"], groups(&["audit"])));
    let entered = browser.get(&format!("/console/provider/callback?code=c-1&state={}", left.query["state"])).await;
    assert_eq!(entered.status, 303, "{}", entered.body);
    assert_eq!(location(&entered), format!("{ADMIN}/console/people?q=al%20b"), "the page that was asked for");
    let cookie = entered.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    let cookie = cookie.into_iter().find(|line| line.starts_with("__Secure-loginsync-console=")).expect("a session");
    for part in ["Path=/console/", "HttpOnly", "SameSite=Lax", "; Secure"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let asked = scene.idp.asked("/token").pop().unwrap();
    let sent: std::collections::BTreeMap<String, String> = form_urlencoded::parse(&asked.body).into_owned().collect();
    assert_eq!(challenge_of(&sent["code_verifier"]), left.query["code_challenge"]);
    let page = browser.get("/console/").await;
    assert!(page.body.contains("idp/alice by Example Corp") && page.body.contains("read-only"), "{}", page.body);
    assert_eq!(post(&mut browser, "/console/people/1/preview", &[("act", "disable")]).await.status, 403);
    let signed_in = events(&scene, "console_signed_in").await;
    assert_eq!(
        (&signed_in[0]["by"], &signed_in[0]["scopes"][0]),
        (&"idp/alice by Example Corp".into(), &"read".into())
    );
    // Another, with the role that changes: the audit names them.
    let mut writer = scene.operator();
    let entered = sign_in(&mut writer, "/console/", |claims| {
        claims["sub"] = json!("olga");
        claims["groups"] = json!(["ops"]);
    });
    assert_eq!(location(&entered.await), format!("{ADMIN}/console/"));
    let target = [("act", "assign"), ("target", "group:Board")];
    assert_eq!(post(&mut writer, "/console/people/1/act", &target).await.status, 303);
    assert_eq!(events(&scene, "assigned").await[0]["by"], "`idp/olga by Example Corp` in the console");
    // Neither login opened a session of the app.
    assert!(scene.house.store().sessions().list(user("alice")).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_role_or_is_not_believed_stays_outside() {
    let scene = Scene::open(SETTING).await;
    let mut browser = scene.operator();
    let answer = sign_in(&mut browser, "/console/", groups(&["staff"])).await;
    assert_eq!((answer.status, has_session(&browser)), (403, false));
    assert!(super::operate::plain(&answer.body).contains("auditor or operator"), "{}", answer.body);
    assert!(!answer.body.contains("<nav"));
    assert_eq!(events(&scene, "console_refused").await[0]["by"], "idp/alice by Example Corp");
    type Change = fn(&mut Value);
    let cases: [(&str, Change, u16); 4] = [
        ("of another nonce", |claims| claims["nonce"] = json!("other"), 403),
        ("for another client", |claims| claims["aud"] = json!("other"), 403),
        ("of another issuer", |claims| claims["iss"] = json!("https://evil.example"), 403),
        ("expired", |claims| claims["exp"] = json!(NOW.seconds() - 3600), 403),
    ];
    for (case, change, status) in cases {
        let answer = sign_in(&mut browser, "/console/", |claims| {
            claims["groups"] = json!(["ops"]);
            change(claims);
        });
        let answer = answer.await;
        assert_eq!((answer.status, has_session(&browser)), (status, false), "{case}: {}", answer.body);
        assert!(answer.body.contains("The number of this login is"), "{case}: {}", answer.body);
    }
    // A person who is disabled is refused by the walk of every login.
    let by = By { name: "test".into(), admin: true, epoch: None };
    scene.house.store().act_all(vec![(user("alice"), Act::Disable)], by, scene.house.clock.now()).await.unwrap();
    let answer = sign_in(&mut browser, "/console/", groups(&["ops"])).await;
    assert_eq!((answer.status, has_session(&browser)), (403, false), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_once_in_the_browser_that_asked_and_for_the_console_alone() {
    let scene = Scene::open(SETTING).await;
    let (mut browser, mut other) = (scene.operator(), scene.operator());
    let left = leave(&mut browser, "/console/").await;
    scene.tokens(&scene.token(&left.query["nonce"], groups(&["ops"])));
    let callback = format!("/console/provider/callback?code=c-1&state={}", left.query["state"]);
    let answer = other.get(&callback).await;
    assert_eq!((answer.status, answer.body.contains("not started in this browser")), (403, true), "{}", answer.body);
    let at_the_app = scene.house.send("GET", &callback.replace("/console/provider", "/.loginsync"), &[], b"").await;
    assert_eq!(at_the_app.status, 403);
    assert_eq!(scene.idp.asked("/token").len(), 0, "no code was exchanged");
    assert_eq!(browser.get(&callback).await.status, 303);
    let again = browser.get(&callback).await;
    assert_eq!((again.status, scene.idp.asked("/token").len()), (403, 1));
    // What the app left for does not open the console.
    let mut of_the_app = scene.browser();
    let left = of_the_app.leave("/page").await;
    scene.tokens(&scene.token(&left.query["nonce"], groups(&["ops"])));
    of_the_app.at = scene.house.running.admin;
    let answer = of_the_app.get(&format!("/console/provider/callback?code=c-1&state={}", left.query["state"])).await;
    assert_eq!((answer.status, has_session(&of_the_app)), (403, false));
    assert_eq!(scene.idp.asked("/token").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lasts_as_long_as_the_role_and_the_person() {
    type Loss = (&'static str, fn() -> Act);
    let cases: [Loss; 3] = [
        ("denied", || Act::Deny {
            target: loginsync::pipeline::ids::Target::Role("operator".parse_role()),
            reason: "left".into(),
            until: None,
        }),
        ("disabled", || Act::Disable),
        ("erased", || Act::Erase),
    ];
    for (case, act) in cases {
        let scene = Scene::open(SETTING).await;
        let mut browser = scene.operator();
        assert_eq!(sign_in(&mut browser, "/console/", groups(&["ops"])).await.status, 303);
        assert!(browser.get("/console/").await.body.contains("may change"));
        let by = By { name: "test".into(), admin: true, epoch: None };
        scene.house.store().act_all(vec![(user("alice"), act())], by, scene.house.clock.now()).await.unwrap();
        let answer = browser.get("/console/people").await;
        assert_eq!((answer.status, answer.body.contains("no role for the console any more")), (403, true), "{case}");
        assert_eq!(browser.get("/console/").await.status, 401, "{case}: the session is gone");
        assert_eq!(events(&scene, "console_ended").await.len(), 1, "{case}");
    }
    // A role that changes is what counts, not what it was at the sign-in.
    let scene = Scene::open(SETTING).await;
    let mut browser = scene.operator();
    sign_in(&mut browser, "/console/", groups(&["ops"])).await;
    sign_in(&mut scene.operator(), "/console/", |claims| {
        claims["groups"] = json!(["audit"]);
        claims["iat"] = json!(scene.house.clock.now().seconds() + 1);
    })
    .await;
    assert!(browser.get("/console/").await.body.contains("read-only"));
}

trait Parse {
    fn parse_role(&self) -> loginsync::pipeline::ids::RoleName;
}

impl Parse for str {
    fn parse_role(&self) -> loginsync::pipeline::ids::RoleName {
        loginsync::pipeline::ids::RoleName::parse(self).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_leads_to_the_console_and_nowhere_else() {
    let scene = Scene::open(SETTING).await;
    for (wanted, place) in [
        ("/console/people/1?x=%26#top", "/console/people/1?x=%26#top"),
        ("//evil.example/", "/console/"),
        ("/\\evil.example", "/console/"),
        ("https://evil.example/console/", "/console/"),
        ("https://admin.example.evil.example/console/", "/console/"),
        ("/console/../metrics", "/console/"),
        ("/metrics", "/console/"),
        ("/console/provider/sign-in", "/console/"),
        ("/console//evil.example", "/console//evil.example"),
        ("", "/console/"),
    ] {
        let mut browser = scene.operator();
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("rd", wanted).finish();
        let left = browser.leave_by(&format!("/console/provider/sign-in?{query}")).await;
        scene.tokens(&scene.token(&left.query["nonce"], groups(&["audit"])));
        let answer = browser.get(&format!("/console/provider/callback?code=c&state={}", left.query["state"])).await;
        assert_eq!(location(&answer), format!("{ADMIN}{place}"), "{wanted}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_are_limited() {
    let scene = Scene::open(SETTING).await;
    let mut browser = scene.operator();
    let mut last = 0;
    for _ in 0..32 {
        last = browser.get("/console/provider/callback?code=c&state=guessed").await.status;
    }
    assert_eq!(last, 429);
    assert_eq!(browser.get("/console/provider/sign-in").await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_provider_for_it_there_is_no_such_way_in() {
    let scene = Scene::open(Setting { more: "[console]\nenabled = true\n", ..SETTING }).await;
    let mut browser = scene.operator();
    let shown = browser.get("/console/").await;
    assert!(!shown.body.contains("Sign in with"), "{}", shown.body);
    for page in ["sign-in", "callback?code=c&state=s"] {
        assert_eq!(browser.get(&format!("/console/provider/{page}")).await.status, 404);
    }
}

#[test]
fn what_cannot_decide_who_signs_in_is_a_fault() {
    let base = format!(
        "public_url = \"https://app.example\"\n[app]\nurl = \"http://127.0.0.1:1\"\n[[provider]]\nname = \"idp\"\n\
         mode = \"relying-party\"\nissuer = \"https://idp.example\"\nclient_id = \"app\"\nclient_auth = \"none\"\n\
         [provider.claims.groups]\n[[provider]]\nname = \"posts\"\nmode = \"oidc-form-post\"\n\
         issuer = \"https://other.example\"\nclient_id = \"app\"\ncallback = \"/cb\"\n[provider.claims.groups]\n{OPERATORS}"
    );
    let load = |text: &str| {
        let around = Surroundings {
            file: &crate::attacks::here(),
            read: &|path| std::fs::read(path),
            environment: &|_| None,
            now: NOW,
        };
        Config::from_text(text, &around).map(drop).map_err(|faults| faults.to_string())
    };
    load(&base).unwrap();
    for (change, to, says) in [
        ("public_url = \"https://admin.example\"", "", "needs `admin.public_url`"),
        ("provider = \"idp\"\nread_role", "provider = \"ipd\"\nread_role", "provider `ipd` is not declared"),
        (
            "provider = \"idp\"\nread_role",
            "provider = \"posts\"\nread_role",
            "is in mode `oidc-form-post`; expected one in mode `relying-party`",
        ),
        ("provider = \"idp\"\nread_role", "read_role", "needs `provider`"),
        ("read_role = \"auditor\"\nwrite_role = \"operator\"", "", "no one could sign in by it"),
        ("read_role = \"auditor\"", "read_role = \"auditors\"", "role `auditors` is not declared"),
        ("name = \"operator\"\nprivileged = true", "name = \"operator\"", "role `operator` is not privileged"),
    ] {
        assert!(base.contains(change), "{change}");
        let faults = load(&base.replace(change, to)).expect_err(says);
        assert!(faults.contains(says), "{says}: {faults}");
    }
}
