//! SAY2: what a path needs, by method.

use crate::relying_party::{Scene, Setting};

#[tokio::test]
async fn say02_a_preflight_needs_no_session_and_nothing_passes_as_one() {
    let more = "[[path]]\nprefix = \"/api\"\nmethods = [\"OPTIONS\"]\naccess = \"public\"\n";
    let scene = Scene::open(Setting { more, ..Setting::default() }).await;
    let mut browser = scene.browser();
    let preflight = [("origin", "https://other.example"), ("access-control-request-method", "DELETE")];
    let answer = browser.send("OPTIONS", "/api/things?x=1", &preflight, b"").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(scene.house.app.seen().len(), 1);
    assert!(!scene.house.app.seen()[0].headers.contains_key("x-loginsync-user"));
    for (method, target, header) in [
        ("GET", "/api/things", ("accept", "*/*")),
        ("DELETE", "/api/things", ("accept", "*/*")),
        ("POST", "/api/things", ("accept", "*/*")),
        ("options", "/api/things", ("accept", "*/*")),
        ("OPTIONS", "/page", ("accept", "*/*")),
        ("OPTIONS", "/API/things", ("accept", "*/*")),
        ("OPTIONS", "/api/things?_method=DELETE", ("accept", "*/*")),
        ("OPTIONS", "/api/things?a=b;_METHOD=DELETE", ("accept", "*/*")),
        ("OPTIONS", "/api/things?_method=a&_method=b", ("accept", "*/*")),
        ("OPTIONS", "/api/things", ("x-http-method-override", "DELETE")),
        ("OPTIONS", "/api/things", ("x-http-method", "DELETE")),
        ("OPTIONS", "/api/../page", ("accept", "*/*")),
    ] {
        let answer = browser.send(method, target, &[header], b"").await;
        assert!([400, 401].contains(&answer.status), "{method} {target} {header:?}: {}", answer.status);
    }
    assert_eq!(scene.house.app.seen().len(), 1, "nothing else reached the app");
    browser.log_in(|_| {}).await;
    assert_eq!(browser.send("DELETE", "/api/things", &[], b"").await.status, 200);
}
