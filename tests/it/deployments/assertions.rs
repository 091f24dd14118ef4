//! SAY9: what an assertion says beside its attributes.

use loginsync::cli::demo::mint::saml::{self, MintAttribute, MintValue, SamlLogin};
use serde_json::json;

use super::{Log, saml_house, saml_house_with};
use crate::attacks::{FORM, form};
use crate::front_door::{Answer, House};
use crate::kit;
use crate::seeing::{Desk, run_with};

/// Logs in by an assertion whose text is changed before it is signed.
async fn sends(house: &House, login: &SamlLogin, change: impl Fn(String) -> String) -> (Answer, Vec<String>) {
    let key = kit::key("idp-rsa");
    let assertion = saml::sign(&change(saml::assertion(login)), &login.assertion_id, kit::signer(&key)).unwrap();
    let body = form(&[("SAMLResponse", &saml::field(&saml::response(login, &assertion)))]);
    let happened = house.happened();
    let answer = house.send("POST", "/saml/acs", &[FORM], body.as_bytes()).await;
    let groups = house.plans_after(happened).into_iter().flat_map(|plan| plan.after.groups);
    (answer, groups.map(|group| group.to_string()).collect())
}

fn alice() -> SamlLogin {
    let mut login = kit::login();
    login.in_response_to = None;
    login
}

#[tokio::test]
async fn say09_subject_context_and_session_are_claims() {
    let format = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress";
    for (name, value) in [
        ("NameID", "carol"),
        ("NameID.Format", format),
        ("NameID.NameQualifier", "https://upstream.example"),
        ("NameID.SPNameQualifier", "https://app.example/saml"),
        ("AuthnContextClassRef", "urn:oasis:names:tc:SAML:2.0:ac:classes:Password"),
        ("SessionIndex", "_assertion-1-session"),
    ] {
        let mapping = format!(
            "[[mapping]]\nprovider = \"saml\"\nclaim = \"groups\"\nvalue = \"{value}\"\ngroup = \"Administrators\"\n"
        );
        let house = saml_house_with(&format!("name = \"{name}\""), "", &mapping).await;
        let mut login = alice();
        login.name_id = Some(("carol".into(), Some(format.into())));
        // An attribute that is called the same says nothing.
        login.attributes = vec![MintAttribute::of(name, &["staff"])];
        let qualified = |text: String| {
            let own = "NameQualifier=\"https://upstream.example\" SPNameQualifier=\"https://app.example/saml\"";
            text.replace(">carol", &format!(" {own}>carol"))
        };
        let (answer, groups) = sends(&house, &login, qualified).await;
        assert_eq!(groups, ["Administrators"], "{name}: {answer:?}");
        house.running.stop().await;
    }
}

/// A value that is a NameID, as eduPersonTargetedID is: by itself, and with who gave it.
#[tokio::test]
async fn say09_a_value_may_be_a_name_id() {
    let bare = "<saml:NameID>staff</saml:NameID>";
    let qualified = "<saml:NameID NameQualifier=\"https://idp\" SPNameQualifier=\"https://sp\">staff</saml:NameID>";
    let half = "<saml:NameID NameQualifier=\"https://idp\">staff</saml:NameID>";
    let two = format!("{bare}{bare}");
    for (markup, value) in [
        (bare, Some("staff")),
        (qualified, Some("https://idp!https://sp!staff")),
        (half, Some("https://idp!!staff")),
        (two.as_str(), None),
        ("x<saml:NameID>staff</saml:NameID>", None),
        ("<saml:Issuer>staff</saml:Issuer>", None),
    ] {
        let wanted = value.unwrap_or("staff");
        let mapping = format!(
            "[[mapping]]\nprovider = \"saml\"\nclaim = \"groups\"\nvalue = \"{wanted}\"\ngroup = \"Administrators\"\n"
        );
        let house = saml_house_with("name = \"urn:oid:1.3.6.1.4.1.5923.1.1.1.10\"", "", &mapping).await;
        let mut login = alice();
        let values = vec![MintValue::Markup(markup.into())];
        login.attributes =
            vec![MintAttribute { values, ..MintAttribute::of("urn:oid:1.3.6.1.4.1.5923.1.1.1.10", &[]) }];
        let (answer, groups) = sends(&house, &login, |text| text).await;
        assert_eq!(groups.contains(&"Administrators".to_owned()), value.is_some(), "{markup}: {answer:?}");
        house.running.stop().await;
    }
}

/// What is encrypted by itself is not opened: a login that needs it is refused, and the log says why.
#[tokio::test]
async fn say09_what_is_encrypted_by_itself_is_said_so() {
    let log = Log::listen();
    let house = saml_house("").await;
    let (answer, groups) = sends(&house, &alice(), |text| {
        text.replace("<saml:NameID>alice</saml:NameID>", "<saml:EncryptedID></saml:EncryptedID>")
    })
    .await;
    assert_eq!((answer.status, groups.len()), (403, 0));
    assert_eq!(log.lines("WARN", "encrypted by itself (`EncryptedID`)").len(), 1);
    let (answer, _) = sends(&house, &alice(), |text| {
        text.replace(
            "<saml:AttributeStatement>",
            "<saml:AttributeStatement><saml:EncryptedAttribute></saml:EncryptedAttribute>",
        )
    })
    .await;
    assert_eq!(answer.status, 403);
    assert_eq!(log.lines("WARN", "encrypted by itself (`EncryptedAttribute`)").len(), 1);
    house.running.stop().await;

    // Where an attribute says who it is, the login goes on, and what the claim gave is kept.
    let house = saml_house_with("name = \"NameID\"", "user_claim = \"uid\"", "").await;
    let mut login = alice();
    login.attributes = vec![MintAttribute::of("uid", &["alice"])];
    login.name_id = Some(("staff".into(), None));
    assert_eq!(sends(&house, &login, |text| text).await.1, ["Staff"]);
    let again = SamlLogin { assertion_id: "_assertion-2".into(), ..login };
    let (answer, groups) = sends(&house, &again, |text| {
        text.replace("<saml:NameID>staff</saml:NameID>", "<saml:EncryptedID></saml:EncryptedID>")
    })
    .await;
    assert_eq!(groups, ["Staff"], "{answer:?}");
    house.running.stop().await;
}

/// `explain` reads the same names from a file of claims, and lists them.
#[test]
fn say09_explain_reads_and_lists_them() {
    let desk = Desk::new();
    let fixtures = format!("\"{}/fixtures/", env!("CARGO_MANIFEST_DIR"));
    let text = super::saml_text("name = \"AuthnContextClassRef\"", "", "").replace("\"fixtures/", &fixtures);
    let config = desk.file("config.toml", &text);
    let claims = json!({"NameID": "alice", "AuthnContextClassRef": "staff", "dept": "x"}).to_string();
    let said = run_with(&["explain", "--config", &config, "--provider", "saml", "--no-store", "--json", "-"], &claims);
    let report = said.json();
    assert_eq!(report["claims"][0]["values"], json!(["staff"]), "{said:?}");
    assert_eq!(report["arrived"][0]["names"], json!(["NameID", "AuthnContextClassRef", "dept"]), "{said:?}");
}

/// SAY10: of two attributes, one of which bears the other's name as its FriendlyName, only the one of that Name counts.
#[tokio::test]
async fn say10_names_alone_count_where_friendly_names_do_not() {
    let mut login = alice();
    let mut requested = MintAttribute::of("urn:example:requested-groups", &["admins"]);
    requested.friendly_name = Some("groups".into());
    login.attributes = vec![MintAttribute::of("groups", &["staff"]), requested.clone()];
    for (own, expected) in [("", &["Administrators", "Staff"][..]), ("friendly_names = false", &["Staff"])] {
        let house = saml_house_with("", own, "").await;
        assert_eq!(sends(&house, &login, |text| text).await.1, expected, "{own}");
        house.running.stop().await;
    }
    let log = Log::listen();
    let house = saml_house_with("", "friendly_names = false", "").await;
    login.attributes = vec![requested];
    assert!(sends(&house, &login, |text| text).await.1.is_empty());
    assert_eq!(log.lines("WARN", "arrived as a FriendlyName, and `friendly_names` is false").len(), 1);
    house.running.stop().await;
}
