//! The callback of a relayed provider at the proxy: codes pass, and nothing else that could log somebody in.

use super::Scene;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[tokio::test]
async fn codes_pass_by_get_and_by_post_and_nothing_else_logs_in() {
    let scene = Scene::new().await;
    let token = scene.idp.sign(&scene.claims(&["staff"]));
    let passes = [
        String::from("code=c&state=s"),
        String::from("code=c&state=s&iss=http%3A%2F%2Fidp&session_state=x"),
        format!("code=c&state=s&id_token={token}"),
        String::from("error=access_denied&state=s"),
        String::from("x=y"),
    ];
    for fields in &passes {
        let before = scene.house.app.seen().len();
        let got = scene.house.send("GET", &format!("/oauth/callback?{fields}"), &[], b"").await;
        let posted = scene.house.send("POST", "/oauth/callback", &[FORM], fields.as_bytes()).await;
        assert_eq!((got.status, posted.status), (200, 200), "{fields}");
        let seen = scene.house.app.seen();
        assert_eq!(seen.len(), before + 2);
        assert_eq!(seen[before].target, format!("/oauth/callback?{fields}"));
        assert_eq!(seen[before + 1].body, fields.as_bytes(), "byte for byte");
        assert!(seen[before + 1].headers.keys().all(|name| !name.as_str().starts_with("x-loginsync")));
    }
    let before = scene.house.app.seen().len();
    let refused = [
        format!("id_token={token}&state=s"),
        String::from("access_token=a&state=s"),
        String::from("code=c&access_token=a"),
        String::from("code=c&id_token=not-a-token"),
        String::from("code=c&code=d"),
        String::from("code=c&Code=d"),
        String::from("SAMLResponse=PHg%2B"),
        String::from("code=c&SAMLart=x"),
        String::from("response=a.b.c"),
        String::from("credential=a.b.c&code=c"),
        String::from("wresult=x&code=c"),
    ];
    for fields in &refused {
        let got = scene.house.send("GET", &format!("/OAuth//callback/?{fields}"), &[], b"").await;
        let posted = scene.house.send("POST", "/oauth/callback", &[FORM], fields.as_bytes()).await;
        assert!(
            (400..500).contains(&got.status) && (400..500).contains(&posted.status),
            "{fields}: {got:?} {posted:?}"
        );
    }
    let split = scene.house.send("POST", "/oauth/callback?code=c", &[FORM], b"code=d").await;
    assert_eq!(split.status, 400);
    let other = scene.house.send("POST", "/oauth/callback", &[("content-type", "application/json")], b"{}").await;
    assert_eq!(other.status, 415);
    assert_eq!(scene.house.app.seen().len(), before, "none of these reached the app");
    assert_eq!(scene.groups().await, ["Staff"], "an ID token beside a code is synced");
}

#[tokio::test]
async fn a_browser_that_leaves_for_a_relayed_provider_is_given_no_cookie() {
    let scene = Scene::new().await;
    let to = format!("{}/authorize?client_id=the-app&state=s&nonce=n&response_type=code", scene.idp.issuer());
    assert_eq!(scene.house.leave(&to).await, "", "state and nonce stay with the app");
}
