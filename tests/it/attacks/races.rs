//! Many at once (threats 50, 51, 73): one token, one login; two users, never one.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use loginsync::cli::demo::mint::saml;
use loginsync::pipeline::ids::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{FORM, Siege, claims, config, form, here, signed, with};
use crate::kit::{NOW, key, login, signed_assertion};

async fn at_once(siege: &Arc<Siege>, path: &'static str, bodies: Vec<String>) -> HashMap<u16, usize> {
    let mut sending = JoinSet::new();
    for body in bodies {
        let siege = Arc::clone(siege);
        sending.spawn(async move { siege.send(path, FORM.1, body.as_bytes()).await.status });
    }
    let mut statuses = HashMap::new();
    while let Some(status) = sending.join_next().await {
        *statuses.entry(status.unwrap()).or_default() += 1;
    }
    statuses
}

/// Threat 73: of fifty copies that arrive together, exactly one reaches the app, and one row tells of the others.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_copies_one_enters() {
    let siege = Arc::new(Siege::open().await);
    let token = form(&[("id_token", &signed(&claims("copied"))), ("state", "state-1")]);
    let document = form(&[("SAMLResponse", &saml::field(&signed_assertion(&login(), &key("idp-rsa"))))]);
    for (path, body) in [("/callback", token), ("/saml/acs", document)] {
        let (seen, rows) = (siege.house.app.seen().len(), siege.house.events().await.len());
        let statuses = at_once(&siege, path, vec![body; 50]).await;
        assert_eq!(statuses, HashMap::from([(200, 1), (409, 49)]), "{path}");
        assert_eq!(siege.house.app.seen().len(), seen + 1, "{path}");
        let written: Vec<String> =
            siege.house.events().await.split_off(rows).into_iter().map(|row| row.event).collect();
        assert_eq!(written, ["login", "login_refused"], "{path}");
    }
}

/// Threat 73: a token that was used stays used over a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_no_token() {
    let siege = Siege::open().await;
    siege.lets_the_honest_in().await;
    let Siege { house, cookies } = siege;
    let siege = Siege { house: house.restart(&config("", ""), &here()).await, cookies };
    let (seen, memberships) = (siege.house.app.seen().len(), siege.house.memberships().await);
    let token = form(&[("id_token", &signed(&claims("honest"))), ("state", "state-1")]);
    let document = form(&[("SAMLResponse", &saml::field(&signed_assertion(&login(), &key("idp-rsa"))))]);
    for (path, body) in [("/callback", token), ("/saml/acs", document)] {
        // The cookies were sealed with a key that the store keeps, so it is the token that is refused and not the browser.
        assert_eq!(siege.send(path, FORM.1, body.as_bytes()).await.status, 409, "{path}");
    }
    assert_eq!(siege.house.app.seen().len(), seen);
    assert_eq!(siege.house.memberships().await, memberships);
}

/// A token that was spent long ago is no more acceptable by a configuration that accepts older ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_longer_max_age_brings_no_spent_token_back() {
    let minutes = |count: i64| Timestamp(NOW.0 + count * 60_000);
    let siege = Siege::with(&config("binding = \"observe\"", "")).await;
    let of = |jti: &str, at: Timestamp| {
        signed(&with(&json!({"jti": jti, "iat": at.seconds(), "exp": minutes(120).seconds()})))
    };
    let (spent, unspent) = (of("spent", NOW), of("unspent", NOW));
    let enter = async |siege: &Siege, token: &str| {
        siege.send("/callback", FORM.1, form(&[("id_token", token), ("state", "state-1")]).as_bytes()).await.status
    };
    assert_eq!(enter(&siege, &spent).await, 200);
    siege.house.clock.set(minutes(20));
    for number in 0..3 {
        // Every login clears away records that have had their time.
        assert_eq!(enter(&siege, &of(&format!("later-{number}"), minutes(20))).await, 200);
    }
    assert_eq!(enter(&siege, &spent).await, 403, "too old");
    let Siege { house, cookies } = siege;
    let older = config("binding = \"observe\"\nmax_age = \"1h\"\nleeway = \"10m\"", "");
    let siege = Siege { house: house.restart(&older, &here()).await, cookies };
    assert_eq!(enter(&siege, &unspent).await, 200, "the other configuration takes it");
    assert_eq!(enter(&siege, &spent).await, 409);
}

/// Threats 50, 51: two hundred logins of two users, whose names and token ids make the same text when they are joined, and who
/// share state, nonce and instants. Whoever enters is who the token says, with what is theirs.
#[tokio::test(flavor = "multi_thread")]
async fn users_never_mix() {
    let siege = Arc::new(Siege::open().await);
    let mut bodies = Vec::new();
    for number in 0..100 {
        for (sub, jti, group) in [("user", format!("1-{number}"), "staff"), ("user1", format!("-{number}"), "admins")] {
            let claims =
                with(&json!({"sub": sub, "jti": jti, "groups": [group], "email": format!("{sub}@example.com")}));
            bodies.push(form(&[("id_token", &signed(&claims)), ("state", "state-1")]));
        }
    }
    assert_eq!(at_once(&siege, "/callback", bodies).await, HashMap::from([(200, 200)]));
    let seen = siege.house.app.seen();
    assert_eq!(seen.len(), 200);
    for seen in seen {
        let (sub, _) = who(&seen.body);
        let group = if sub == "user" { "Staff" } else { "Administrators" };
        assert_eq!(seen.headers["x-loginsync-user"], sub.as_str());
        assert_eq!(seen.headers["x-loginsync-groups"], group);
        assert_eq!(seen.headers["x-loginsync-email"], format!("{sub}@example.com"));
    }
    let memberships = siege.house.memberships().await;
    assert!(memberships.contains("oidc/user: groups [\"Staff\"]"), "{memberships}");
    assert!(memberships.contains("oidc/user1: groups [\"Administrators\"]"), "{memberships}");
}

/// Threat 51: tokens of two users with one `jti`. One of each pair enters, as himself; the other is a replay.
#[tokio::test(flavor = "multi_thread")]
async fn one_id_is_one_login() {
    let siege = Arc::new(Siege::open().await);
    let mut bodies = Vec::new();
    for number in 0..20 {
        for (sub, group) in [("alice", "staff"), ("mallory", "admins")] {
            let claims = with(&json!({"sub": sub, "jti": format!("same-{number}"), "groups": [group]}));
            bodies.push(form(&[("id_token", &signed(&claims)), ("state", "state-1")]));
        }
    }
    assert_eq!(at_once(&siege, "/callback", bodies).await, HashMap::from([(200, 20), (409, 20)]));
    for seen in siege.house.app.seen() {
        let (sub, _) = who(&seen.body);
        assert_eq!(seen.headers["x-loginsync-user"], sub.as_str());
        assert_eq!(seen.headers["x-loginsync-groups"], if sub == "alice" { "Staff" } else { "Administrators" });
    }
}

/// Subject and id of the token that the app got.
fn who(body: &[u8]) -> (String, String) {
    let token = form_urlencoded::parse(body).find(|(name, _)| name == "id_token").unwrap().1.into_owned();
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    (claims["sub"].as_str().unwrap().into(), claims["jti"].as_str().unwrap().into())
}
