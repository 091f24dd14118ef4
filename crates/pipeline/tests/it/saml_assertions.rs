//! What a signed assertion says, and how far it may go.

use loginsync_mint::saml::{self, SamlLogin};

use crate::kit::{self, NOW, certificates, key, login, remembered, saml_provider, signed_assertion, signer, submit};
use crate::saml_cases::cut;
use crate::saml_logins::statement;

/// Clocks differ by the leeway, and of alternatives one is enough.
#[test]
fn an_assertion_passes_at_the_edge_of_its_conditions() {
    let plain = saml::assertion(&login());
    let (restriction, confirmation) =
        (cut(&plain, "saml:AudienceRestriction"), cut(&plain, "saml:SubjectConfirmation"));
    let conditions = cut(&plain, "saml:Conditions");
    let end = format!("NotOnOrAfter=\"{}\"", NOW.plus(std::time::Duration::from_secs(300)));
    let sooner = format!("NotOnOrAfter=\"{}\"", NOW.plus(std::time::Duration::from_secs(100)));
    let after = |milliseconds: i64| NOW.0 + milliseconds;
    let timed = |change: fn(&mut SamlLogin, &dyn Fn(i64) -> i64)| {
        let mut login = login();
        change(&mut login, &after);
        saml::assertion(&login)
    };
    let once = "<saml:OneTimeUse></saml:OneTimeUse><saml:ProxyRestriction></saml:ProxyRestriction>";
    let other = "<saml:Audience>https://other.example</saml:Audience><saml:Audience>";
    let rows = [
        ("valid from", timed(|login, after| login.not_before = after(60_000)), 300),
        ("just issued", timed(|login, after| login.issued_at = after(60_000)), 300),
        ("issued as long ago as may be", timed(|login, after| login.issued_at = after(-660_000)), 300),
        ("its session ends", timed(|login, after| login.session_not_on_or_after = Some(after(-59_999))), 300),
        ("its conditions end first", plain.replace(conditions, &conditions.replace(&end, &sooner)), 100),
        ("its confirmation ends first", plain.replace(confirmation, &confirmation.replace(&end, &sooner)), 100),
        ("its conditions do not end", plain.replace(conditions, &conditions.replace(&format!(" {end}"), "")), 300),
        ("for another or for us", plain.replace("<saml:Audience>", other), 300),
        ("to be used once, and not to be passed on", plain.replace(restriction, &format!("{restriction}{once}")), 300),
        (
            "of two confirmations one holds",
            plain.replace(confirmation, &format!("{}{confirmation}", confirmation.replace(kit::ACS, "https://x"))),
            300,
        ),
        (
            "of two confirmations one is of another kind",
            plain.replace(confirmation, &format!("{}{confirmation}", confirmation.replace("bearer", "sender-vouches"))),
            300,
        ),
    ];
    for (what, assertion, seconds) in rows {
        let signed = saml::sign(&assertion, "_assertion-1", signer(&key("idp-rsa"))).unwrap();
        let document = saml::response(&login(), &signed);
        let outcome = submit(&saml_provider(), &certificates(&["idp-rsa"]), &document, &remembered());
        let found = outcome.unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
        assert_eq!(found.expires_at, NOW.plus(std::time::Duration::from_secs(seconds)), "{what}");
    }
    let late = timed(|login, after| login.not_on_or_after = after(-59_999));
    let signed = saml::sign(&late, "_assertion-1", signer(&key("idp-rsa"))).unwrap();
    let document = saml::response(&login(), &signed);
    assert!(submit(&saml_provider(), &certificates(&["idp-rsa"]), &document, &remembered()).is_ok());
}

/// The replay record keeps it, so that it has a bound.
#[test]
fn an_assertion_may_have_a_long_name() {
    for (length, expected) in [(512, true), (513, false)] {
        let login = SamlLogin { assertion_id: "_".repeat(length), ..login() };
        let document = signed_assertion(&login, &key("idp-rsa"));
        let outcome = submit(&saml_provider(), &certificates(&["idp-rsa"]), &document, &remembered());
        assert_eq!(outcome.is_ok(), expected, "{length}: {outcome:?}");
    }
}

/// What its signed bytes say of the person and of the login.
#[test]
fn an_assertion_says_who_logged_in_and_how() {
    let read = |change: &dyn Fn(String) -> String| {
        let login = login();
        let assertion = change(saml::assertion(&login));
        let signed = saml::sign(&assertion, &login.assertion_id, signer(&key("idp-rsa"))).unwrap();
        let document = saml::response(&login, &signed);
        let assertion = submit(&saml_provider(), &certificates(&["idp-rsa"]), &document, &remembered()).unwrap();
        statement(&assertion).clone()
    };
    let plain = read(&|assertion| assertion);
    assert_eq!(plain.context_classes, ["urn:oasis:names:tc:SAML:2.0:ac:classes:Password"]);
    assert!(!plain.encrypted_id && !plain.by_name_alone);
    let class = "urn:oasis:names:tc:SAML:2.0:ac:classes:Password";
    assert_eq!(read(&|assertion| assertion.replace(class, "\n  urn:x:mfa ")).context_classes, ["urn:x:mfa"]);
    assert_eq!(read(&|assertion| assertion.replace(class, " ")).context_classes, Vec::<String>::new());
    let named = " Format=\"urn:f\" NameQualifier=\"urn:q\" SPNameQualifier=\"urn:sp\"";
    let found = read(&|assertion| assertion.replace("<saml:NameID", &format!("<saml:NameID{named}"))).name_id.unwrap();
    assert_eq!(found.format.as_deref(), Some("urn:f"));
    assert_eq!((found.name_qualifier.as_deref(), found.sp_name_qualifier.as_deref()), (Some("urn:q"), Some("urn:sp")));
    let closed = "<saml:EncryptedID></saml:EncryptedID>";
    let name = "<saml:NameID>alice</saml:NameID>";
    let found = read(&|assertion| assertion.replace(name, closed));
    assert!(found.encrypted_id && found.name_id.is_none());
    let found = read(&|assertion| assertion.replace(name, &format!("{name}{closed}")));
    assert!(!found.encrypted_id && found.name_id.is_some());
}
