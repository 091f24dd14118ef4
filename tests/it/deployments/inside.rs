//! Providers inside a network (SAY6): http issuers, and signatures on P-521.

use loginsync::config::{Config, Surroundings};
use loginsync::ports::http::HttpClient;
use serde_json::json;

use super::enters;
use crate::attacks::{config, form, here, signed, with};
use crate::front_door::House;
use crate::kit::NOW;
use crate::support::idp::{Idp, Scripted};

const HEAD: &str =
    "public_url = \"https://app.example.com\"\n[app]\nurl = \"http://127.0.0.1:3000\"\n[[provider]]\nname = \"idp\"\n";

fn faults(provider: &str) -> String {
    let around = Surroundings { file: &here(), read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    let config = Config::from_text(&format!("{HEAD}{provider}"), &around);
    config.map(|config| config.warnings.join("\n")).unwrap_or_else(|faults| faults.to_string())
}

const POST: &str = "mode = \"oidc-form-post\"\nclient_id = \"app\"\ncallback = \"/cb\"\n";

#[test]
fn say06_http_issuers_are_said_and_private() {
    let inside = "issuer = \"http://keycloak.auth.svc:8080/realms/app\"\n";
    let told = faults(&format!("{POST}{inside}"));
    assert!(
        told.contains("provider.issuer") && told.contains("`allow_http = true`, for private addresses alone"),
        "{told}"
    );
    let told = faults(&format!("{POST}{inside}allow_http = true\n"));
    assert!(told.contains("may be asked over plain http") && !told.contains("fault"), "{told}");
    for host in ["8.8.8.8", "169.254.169.254", "[2001:db8::1]", "172.32.0.1"] {
        let told = faults(&format!("{POST}issuer = \"http://{host}\"\nallow_http = true\n"));
        assert!(told.contains("http to a private address alone"), "{host}: {told}");
    }
    for host in ["10.1.2.3", "172.16.0.1", "192.168.1.1:8080", "100.64.0.1", "[fd00::1]"] {
        let told = faults(&format!("{POST}issuer = \"http://{host}\"\nallow_http = true\n"));
        assert!(!told.contains("fault"), "{host}: {told}");
    }
    // What browsers are sent to is theirs to reach.
    let told = faults(&format!(
        "mode = \"relying-party\"\nclient_id = \"app\"\nclient_auth = \"none\"\n{inside}allow_http = true\n\
         token_endpoint = \"http://keycloak.auth.svc:8080/token\"\nauthorization_endpoint = \"http://keycloak.auth.svc:8080/auth\"\n"
    ));
    assert!(told.contains("provider.authorization_endpoint") && told.contains("1 fault found"), "{told}");
}

/// An issuer whose keys are in a file is a text, and asked for nothing.
#[tokio::test]
async fn say06_an_http_issuer_is_a_text_where_its_keys_are_in_a_file() {
    let text = config("binding = \"observe\"", "");
    let issuer = text.split("issuer = \"").nth(1).unwrap().split('"').next().unwrap();
    let issuer = format!("issuer = \"{issuer}\"");
    let text = text.replacen(&issuer, "issuer = \"http://idp.cluster.internal/realm\"", 1);
    let house = House::open(&text, &here(), NOW).await;
    let theirs = json!({"iss": "http://idp.cluster.internal/realm", "groups": ["staff"], "sub": "alice"});
    assert_eq!(enters(&house, "alice", 1, &theirs).await.0, ["Staff"]);
    // It is compared like any other.
    let other = signed(&with(&json!({"jti": "2", "iss": "https://idp.cluster.internal/realm"})));
    let body = form(&[("id_token", &other), ("state", "s")]);
    let refused = house.send("POST", "/callback", &[crate::attacks::FORM], body.as_bytes()).await;
    assert_eq!(refused.status, 403);
    house.running.stop().await;
}

/// What a name leads to is looked at for each connection. `127.1` is a name to us, and leads to this machine.
#[tokio::test]
async fn say06_plain_http_goes_to_private_addresses_alone() {
    let idp = Idp::start().await;
    idp.answers("/keys", Scripted::json("{}"));
    let port = idp.issuer().rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
    let client = HttpClient::new(None, None, None).unwrap();
    let address = format!("http://127.1:{port}/keys");
    let told = client.get(&address, 1000).await.unwrap_err().to_string();
    assert!(told.contains("with `allow_http` for private addresses"), "{told}");
    let client = client.allowing_http(true);
    assert_eq!(client.get(&address, 1000).await.unwrap(), b"{}");
    for outside in ["192.0.2.1", "169.254.169.254", "[2001:db8::1]"] {
        let told = client.get(&format!("http://{outside}:{port}/keys"), 1000).await.unwrap_err().to_string();
        assert!(told.contains("is not a private address"), "{outside}: {told}");
    }
}
