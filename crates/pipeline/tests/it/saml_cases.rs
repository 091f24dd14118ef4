//! Every published way to forge, wrap, replay or choke a SAML login. Each row must be refused, for the reason it says.

use loginsync_mint::saml::{self, ContentEncryption, KeyTransport, Recipient, SamlLogin, Signer};
use loginsync_pipeline::ids::Timestamp;

use crate::kit::{
    ACS, AUDIENCE, ISSUER, NOW, REQUEST, key, login, signed_assertion, signed_response, signed_twice, signer,
};

pub const SAML: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

/// What, the document, and a part of the refusal.
pub type Row = (&'static str, String, &'static str);

/// An assertion that speaks of another person, unsigned.
pub fn evil_assertion() -> String {
    let login = SamlLogin { assertion_id: "_evil".into(), name_id: Some(("root".into(), None)), ..login() };
    saml::assertion(&login)
}

/// The first element of a name, from its start tag to its end tag.
pub fn cut<'a>(document: &'a str, name: &str) -> &'a str {
    let start = document.find(&format!("<{name}")).unwrap();
    let end = format!("</{name}>");
    let end = document[start..].find(&end).unwrap() + start + end.len();
    &document[start..end]
}

/// A login whose assertion was changed before it was signed: what a provider could really say.
fn provider_says(change: impl FnOnce(&str) -> String) -> String {
    let login = login();
    let assertion = change(&saml::assertion(&login));
    let signed = saml::sign(&assertion, &login.assertion_id, signer(&key("idp-rsa"))).unwrap();
    saml::response(&login, &signed)
}

/// A signed response that was changed before it was signed.
pub fn response_says(change: impl FnOnce(&str) -> String) -> String {
    let login = login();
    let response = change(&saml::response(&login, &saml::assertion(&login)));
    saml::sign(&response, &login.response_id, signer(&key("idp-rsa"))).unwrap()
}

fn without(text: &str, part: &str) -> String {
    assert!(text.contains(part), "{part} is not in {text}");
    text.replace(part, "")
}

pub fn instead(text: &str, part: &str, other: &str) -> String {
    assert!(text.contains(part), "{part} is not in {text}");
    text.replace(part, other)
}

/// The signed element is one, and what is read another.
pub fn wrapped_signatures() -> Vec<Row> {
    let evil = evil_assertion();
    let by_assertion = signed_assertion(&login(), &key("idp-rsa"));
    let by_response = signed_response(&login(), &key("idp-rsa"));
    let signed = cut(&by_assertion, "saml:Assertion").to_owned();
    let signature = cut(&signed, "ds:Signature").to_owned();
    let original = without(&signed, &signature);
    let response_signature = cut(&by_response, "ds:Signature").to_owned();
    let original_response = without(&by_response, &response_signature);
    let object = |content: &str| {
        instead(&signature, "</ds:Signature>", &format!("<ds:Object>{content}</ds:Object></ds:Signature>"))
    };
    let response_object = |content: &str| {
        instead(&response_signature, "</ds:Signature>", &format!("<ds:Object>{content}</ds:Object></ds:Signature>"))
    };
    let evil_response = |more: &str| {
        let evil = SamlLogin { response_id: "_evil-response".into(), ..login() };
        saml::response(&evil, &format!("{more}{}", evil_assertion()))
    };
    let around = |content: &str| saml::response(&login(), content);
    let in_evil = |more: &str| instead(&evil, "</saml:Issuer>", &format!("</saml:Issuer>{more}"));
    let extensions = format!("<samlp:Extensions>{evil}</samlp:Extensions>");
    let advice = |inner: &str| format!("<saml:Advice>{inner}</saml:Advice>");
    let twin = instead(&evil, "_evil", "_assertion-1");
    vec![
        ("XSW1, original response in the signature", evil_response(&response_object(&original_response)), "`Object`"),
        (
            "XSW1b, in its KeyInfo",
            {
                let key_info = format!("<ds:KeyInfo>{original_response}</ds:KeyInfo></ds:Signature>");
                evil_response(&instead(&response_signature, "</ds:Signature>", &key_info))
            },
            "`Response`",
        ),
        (
            "XSW2, original response beside a detached signature",
            { evil_response(&format!("{original_response}{response_signature}")) },
            "`Response`",
        ),
        ("XSW3, evil assertion first", around(&format!("{evil}{signed}")), "2 assertions"),
        ("XSW3b, evil assertion last", around(&format!("{signed}{evil}")), "2 assertions"),
        ("XSW4, signed within evil", around(&in_evil(&signed)), "2 assertions"),
        (
            "XSW5, signature in evil, original behind",
            around(&format!("{}{original}", in_evil(&signature))),
            "2 assertions",
        ),
        ("XSW5b, original before", around(&format!("{original}{}", in_evil(&signature))), "2 assertions"),
        (
            "XSW6, original in the signature in evil",
            around(&in_evil(&instead(&signature, "</ds:Signature>", &format!("{original}</ds:Signature>")))),
            "2 assertions",
        ),
        ("XSW7, evil in Extensions", around(&format!("{extensions}{signed}")), "`Extensions`"),
        ("XSW8, original in an Object in evil", around(&in_evil(&object(&original))), "`Object`"),
        (
            "evil in Advice of the signed one",
            around(&instead(&signed, "<saml:AuthnStatement", &format!("{}<saml:AuthnStatement", advice(&evil)))),
            "2 assertions",
        ),
        ("signed in Advice of the evil one", around(&in_evil(&advice(&signed))), "2 assertions"),
        ("evil in an attribute value", instead(&by_assertion, "staff", &evil), "2 assertions"),
        ("three assertions", around(&format!("{signed}{evil}{signed}")), "ID"),
        (
            "an assertion of SAML 1 beside",
            around(&format!("{signed}<a:Assertion xmlns:a=\"urn:oasis:names:tc:SAML:1.0:assertion\"></a:Assertion>")),
            "`Assertion` has no place",
        ),
        (
            "only one of SAML 1",
            around("<a:Assertion xmlns:a=\"urn:oasis:names:tc:SAML:1.0:assertion\"></a:Assertion>"),
            "`Assertion` has no place",
        ),
        (
            "an encrypted one beside",
            around(&format!("{signed}<saml:EncryptedAssertion xmlns:saml=\"{SAML}\"/>")),
            "2 assertions",
        ),
        ("duplicate ID", around(&format!("{twin}{signed}")), "same ID"),
        ("xml:id twin", instead(&by_assertion, "<saml:Subject>", "<saml:Subject xml:id=\"_assertion-1\">"), "same ID"),
        ("Id twin", instead(&by_assertion, "<saml:Subject>", "<saml:Subject Id=\"_assertion-1\">"), "same ID"),
        ("in a foreign element", around(&format!("<x:wrapper xmlns:x=\"urn:x\">{signed}</x:wrapper>")), "`wrapper`"),
        (
            "in StatusDetail",
            instead(
                &around(""),
                "</samlp:Status>",
                &format!("<samlp:StatusDetail>{signed}</samlp:StatusDetail></samlp:Status>"),
            ),
            "not a child",
        ),
        (
            "a logout response with an assertion",
            format!(
                "<samlp:LogoutResponse xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"_l\">{evil}</samlp:LogoutResponse>"
            ),
            "1 assertions",
        ),
        (
            "a signed request with an assertion",
            format!(
                "<samlp:AuthnRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"_l\">{signed}</samlp:AuthnRequest>"
            ),
            "its root is `AuthnRequest`",
        ),
        ("the bare assertion", signed.clone(), "its root is `Assertion`"),
        ("response of another namespace", instead(&by_assertion, "SAML:2.0:protocol", "SAML:1.1:protocol"), "root"),
        ("two signatures in one", instead(&by_assertion, &signature, &format!("{signature}{signature}")), "second one"),
        (
            "signature of the assertion in the response",
            { instead(&around(&original), "<samlp:Status>", &format!("{signature}<samlp:Status>")) },
            "refers to something else",
        ),
        (
            "signature deeper",
            instead(&around(&original), "<saml:Subject>", &format!("<saml:Subject>{signature}")),
            "neither in the response",
        ),
        (
            "signature of the response on the evil assertion",
            evil_response("")
                .replace("_evil-response", "_x")
                .replace("</saml:Issuer><saml:Subject>", &format!("</saml:Issuer>{response_signature}<saml:Subject>")),
            "refers to something else",
        ),
    ]
}

/// Signatures that are absent, broken, or by another signer.
pub fn forged_signatures() -> Vec<Row> {
    let good = signed_assertion(&login(), &key("idp-rsa"));
    let signature = cut(&good, "ds:Signature").to_owned();
    let value = cut(&good, "ds:SignatureValue").to_owned();
    let digest = cut(&good, "ds:DigestValue").to_owned();
    let stranger = key("stranger-rsa");
    let certificate = stranger.certificate("idp").unwrap();
    let with_certificate = {
        let login = login();
        let signer = Signer { certificate: Some(&certificate), ..signer(&stranger) };
        saml::response(&login, &saml::sign(&saml::assertion(&login), &login.assertion_id, signer).unwrap())
    };
    let of_empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let sha256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
    let twice = signed_twice(&login(), &key("idp-rsa"));
    let inner_by_stranger = {
        let inner = signed_assertion(&login(), &stranger);
        saml::sign(&inner, "_response-1", signer(&key("idp-rsa"))).unwrap()
    };
    let does_not = "signature does not verify";
    vec![
        (
            "unsigned",
            saml::response(&login(), &saml::assertion(&login())),
            "neither the response nor its assertion is signed",
        ),
        ("signature removed", without(&good, &signature), "is signed"),
        (
            "empty signature",
            instead(&good, &signature, &format!("<ds:Signature xmlns:ds=\"{DSIG}\"></ds:Signature>")),
            "is not SignedInfo",
        ),
        ("no value", instead(&good, &value, "<ds:SignatureValue></ds:SignatureValue>"), does_not),
        ("no reference", without(&good, cut(&good, "ds:Reference")), "exactly one Reference"),
        ("another key", signed_assertion(&login(), &stranger), does_not),
        ("another key, with its certificate", with_certificate, does_not),
        ("tampered name", instead(&good, ">alice<", ">root<"), does_not),
        ("tampered group", instead(&good, ">staff<", ">admins<"), does_not),
        (
            "added group",
            instead(&good, "</saml:Attribute>", "<saml:AttributeValue>x</saml:AttributeValue></saml:Attribute>"),
            does_not,
        ),
        (
            "digest of nothing",
            instead(&good, &digest, &format!("<ds:DigestValue>{of_empty}</ds:DigestValue>")),
            does_not,
        ),
        (
            "relative namespace, which fails to canonicalize",
            instead(&good, "<saml:Subject>", "<saml:Subject xmlns:r=\"r\" r:a=\"b\">"),
            "something else than an absolute URI",
        ),
        (
            "HMAC with the public key",
            instead(&good, sha256, "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"),
            "hmac-sha256`; expected RSA, RSA-PSS or ECDSA",
        ),
        (
            "HMAC cut to one bit",
            instead(
                &good,
                &format!("{sha256}\">"),
                &format!("{sha256}\"><ds:HMACOutputLength>1</ds:HMACOutputLength>"),
            ),
            "expected RSA, RSA-PSS or ECDSA",
        ),
        ("RSA-SHA1", instead(&good, sha256, &format!("{DSIG}rsa-sha1")), "rsa-sha1`; expected"),
        ("RSA-MD5", instead(&good, sha256, "http://www.w3.org/2001/04/xmldsig-more#rsa-md5"), "rsa-md5`; expected"),
        ("RSA-PSS", instead(&good, sha256, "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1"), does_not),
        ("DSA", instead(&good, sha256, "http://www.w3.org/2009/xmldsig11#dsa-sha256"), "dsa-sha256`; expected"),
        (
            "SHA-1 digest",
            instead(&good, "http://www.w3.org/2001/04/xmlenc#sha256", &format!("{DSIG}sha1")),
            "sha1`; expected",
        ),
        (
            "SHA-224 digest",
            instead(&good, "http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2001/04/xmldsig-more#sha224"),
            "sha224`; expected",
        ),
        (
            "RSA key, ECDSA named",
            instead(&good, sha256, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"),
            does_not,
        ),
        (
            "both signed, response tampered",
            instead(&twice, "Destination=\"https://app", "Destination=\"https://App"),
            does_not,
        ),
        ("both signed, inner value broken", twice.replacen(">staff<", ">admins<", 1), does_not),
        ("both signed, inner by a stranger", inner_by_stranger, does_not),
        ("a key type without a certificate", signed_assertion(&login(), &key("idp-p256")), does_not),
    ]
}

/// Signatures that ask a verifier for more than to check them.
pub fn more_than_a_signature() -> Vec<Row> {
    let good = signed_assertion(&login(), &key("idp-rsa"));
    let exclusive = "http://www.w3.org/2001/10/xml-exc-c14n#";
    let enveloped = format!("{DSIG}enveloped-signature");
    let transforms = cut(&good, "ds:Transforms").to_owned();
    let reference = cut(&good, "ds:Reference").to_owned();
    let stylesheet = "<xsl:stylesheet version=\"1.0\" xmlns:xsl=\"http://www.w3.org/1999/XSL/Transform\">\
        <xsl:template name=\"t\"><xsl:call-template name=\"t\"/><xsl:call-template name=\"t\"/></xsl:template>\
        <xsl:template match=\"/\"><xsl:call-template name=\"t\"/></xsl:template></xsl:stylesheet>";
    let transform = |algorithm: &str, content: &str| {
        let added = format!("<ds:Transform Algorithm=\"{algorithm}\">{content}</ds:Transform></ds:Transforms>");
        instead(&good, "</ds:Transforms>", &added)
    };
    let uri = |uri: &str| instead(&good, "URI=\"#_assertion-1\"", &format!("URI=\"{uri}\""));
    let elsewhere = "refers to something else";
    let exactly = "exactly the transforms";
    let canonical = "canonicalized exclusively";
    let key_info = |content: &str| {
        instead(&good, "</ds:Signature>", &format!("<ds:KeyInfo>{content}</ds:KeyInfo></ds:Signature>"))
    };
    let first = |part: &str, other: &str| good.replacen(part, other, 1);
    vec![
        ("http reference", uri("http://127.0.0.1:9/"), elsewhere),
        ("ftp reference", uri("ftp://127.0.0.1/"), elsewhere),
        ("file reference", uri("file:///dev/zero"), elsewhere),
        ("path reference", uri("/dev/zero"), elsewhere),
        ("whole document", uri(""), elsewhere),
        ("XPointer", uri("#xpointer(id('_assertion-1'))"), elsewhere),
        ("another ID", uri("#_response-1"), elsewhere),
        ("no URI", without(&good, " URI=\"#_assertion-1\""), elsewhere),
        ("stylesheet", transform("http://www.w3.org/TR/1999/REC-xslt-19991116", stylesheet), exactly),
        (
            "stylesheet instead",
            instead(
                &good,
                &transforms,
                &format!(
                    "<ds:Transforms><ds:Transform Algorithm=\
            \"http://www.w3.org/TR/1999/REC-xslt-19991116\">{stylesheet}</ds:Transform></ds:Transforms>"
                ),
            ),
            exactly,
        ),
        (
            "stylesheet within the allowed",
            instead(&good, &format!("{enveloped}\">"), &format!("{enveloped}\">{stylesheet}")),
            exactly,
        ),
        ("XPath", transform("http://www.w3.org/TR/1999/REC-xpath-19991116", "<ds:XPath>1</ds:XPath>"), exactly),
        ("XPath filter", transform("http://www.w3.org/2002/06/xmldsig-filter2", ""), exactly),
        ("base64", transform(&format!("{DSIG}base64"), ""), exactly),
        ("no transforms", instead(&good, &transforms, "<ds:Transforms></ds:Transforms>"), exactly),
        ("not enveloped", instead(&good, &enveloped, exclusive), exactly),
        (
            "order swapped",
            {
                let swapped = instead(&transforms, &enveloped, "X");
                let swapped = instead(&swapped, exclusive, &enveloped);
                instead(&good, &transforms, &instead(&swapped, "\"X\"", &format!("\"{exclusive}\"")))
            },
            exactly,
        ),
        (
            "inclusive transform",
            instead(
                &good,
                &transforms,
                &instead(&transforms, exclusive, "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
            ),
            exactly,
        ),
        (
            "transform with comments",
            instead(
                &good,
                &transforms,
                &instead(&transforms, exclusive, "http://www.w3.org/2001/10/xml-exc-c14n#WithComments"),
            ),
            exactly,
        ),
        (
            "inclusive",
            first(
                &format!("CanonicalizationMethod Algorithm=\"{exclusive}"),
                "CanonicalizationMethod Algorithm=\"http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
            ),
            canonical,
        ),
        (
            "with comments",
            first(
                &format!("CanonicalizationMethod Algorithm=\"{exclusive}"),
                &format!("CanonicalizationMethod Algorithm=\"{exclusive}WithComments"),
            ),
            canonical,
        ),
        ("two references", instead(&good, &reference, &format!("{reference}{reference}")), "exactly one Reference"),
        (
            "two references, evil first",
            instead(&good, &reference, &format!("{}{reference}", instead(&reference, "#_assertion-1", "#_response-1"))),
            "exactly one Reference",
        ),
        ("a thousand references", instead(&good, &reference, &reference.repeat(300)), "exactly one Reference"),
        ("manifest", key_info("<ds:Manifest></ds:Manifest>"), "`Manifest`"),
        (
            "retrieval method",
            key_info("<ds:RetrievalMethod URI=\"http://127.0.0.1:9/\"></ds:RetrievalMethod>"),
            "`RetrievalMethod`",
        ),
        (
            "retrieval method within",
            key_info("<ds:RetrievalMethod URI=\"#k\"></ds:RetrievalMethod>"),
            "`RetrievalMethod`",
        ),
        ("second KeyInfo", key_info("</ds:KeyInfo><ds:KeyInfo>"), "perhaps KeyInfo"),
        (
            "a person in KeyInfo",
            key_info("<ds:KeyName><saml:NameID>mallory</saml:NameID></ds:KeyName>"),
            "names no key",
        ),
        ("a person of a key", key_info("<ds:NameID>mallory</ds:NameID>"), "names no key"),
    ]
}

/// Documents that two parsers read differently.
pub fn two_readings() -> Vec<Row> {
    let good = signed_assertion(&login(), &key("idp-rsa"));
    let laughs = "<!DOCTYPE r [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">]>";
    let external = "<!DOCTYPE r [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>";
    let name = |inner: &str| instead(&good, ">alice<", &format!(">{inner}<"));
    vec![
        ("comment in NameID", name("ali<!-- -->ce"), "holds a comment"),
        ("comment in a group", instead(&good, "staff", "sta<!---->ff"), "holds a comment"),
        ("comment before the root", format!("<!-- -->{good}"), "holds a comment"),
        ("processing instruction in NameID", name("ali<?x ?>ce"), "processing instruction"),
        ("processing instruction behind", format!("{good}<?x ?>"), "processing instruction"),
        ("document type", format!("<!DOCTYPE Response>{good}"), "document type"),
        ("billion laughs", format!("{laughs}{}", name("&b;")), "document type"),
        ("billion laughs in an attribute", format!("{laughs}{}", instead(&good, ACS, "&b;")), "document type"),
        ("external entity", format!("{external}{}", name("&x;")), "document type"),
        ("external parameter entity", format!("<!DOCTYPE r SYSTEM \"http://127.0.0.1:9/\">{good}"), "document type"),
        ("unknown entity", name("&x;"), "not well-formed"),
        ("UTF-16 declared", format!("<?xml version=\"1.0\" encoding=\"UTF-16\"?>{good}"), "`utf-16`; expected UTF-8"),
        ("UTF-7 declared", format!("<?xml version=\"1.0\" encoding='UTF-7'?>{good}"), "`utf-7`; expected UTF-8"),
        ("EBCDIC declared", format!("<?xml version=\"1.0\" encoding=\"IBM037\"?>{good}"), "expected UTF-8"),
        ("NUL", name("alice\0"), "control character"),
        ("truncated", good[..good.len() - 20].to_owned(), "not well-formed"),
        ("truncated in a tag", good[..good.len() - 3].to_owned(), "not well-formed"),
        ("text behind the root", format!("{good}x"), "not well-formed"),
        ("second root", format!("{good}{good}"), "not well-formed"),
        ("attribute twice", instead(&good, " Version=\"2.0\"", " Version=\"2.0\" Version=\"2.0\""), "not well-formed"),
        ("prefix unbound", instead(&good, "<saml:Subject>", "<saml:Subject y:a=\"b\">"), "not well-formed"),
        (
            "prefix rebound to nothing",
            instead(&good, "<saml:Subject>", "<saml:Subject xmlns:saml=\"\">"),
            "unbinds a prefix",
        ),
        (
            "a signature hidden by it",
            instead(&good, "<saml:Subject>", "<saml:Subject><ds:Signature xmlns:ds = ''></ds:Signature>"),
            "unbinds a prefix",
        ),
        (
            "a signature of another namespace",
            instead(&good, "<saml:Subject>", "<saml:Subject><x:Signature xmlns:x=\"urn:x\"></x:Signature>"),
            "neither in the response",
        ),
        ("two colons", instead(&good, "<saml:Subject>", "<saml:Subject><saml:a:b></saml:a:b>"), "not well-formed"),
        (
            "another meaning of xml",
            instead(&good, "<saml:Subject>", "<saml:Subject xmlns:xml=\"urn:x\">"),
            "not well-formed",
        ),
        ("a reference to no character", name("&#x0;"), "not well-formed"),
        ("a reference to half a character", name("&#xD800;"), "not well-formed"),
        ("a reference past the last character", name("&#x110000;"), "not well-formed"),
        ("a name that begins with a colon", instead(&good, "<saml:Subject>", "<saml:Subject><:a/>"), "not well-formed"),
        (
            "a default namespace in another namespace",
            instead(&good, "<saml:Subject>", "<saml:Subject xmlns:e=\"urn:e\" e:xmlns=\"urn:x\">"),
            "called `xmlns` in another namespace",
        ),
        (
            "a default namespace declared twice",
            instead(&good, "<saml:Subject>", "<saml:Subject xmlns=\"urn:1\" xmlns=\"urn:2\">"),
            "stands twice in one tag",
        ),
        (
            "a prefix declared twice",
            instead(&good, "<saml:Subject>", "<saml:Subject xmlns:p=\"urn:1\" xmlns:p=\"urn:2\">"),
            "stands twice in one tag",
        ),
        (
            "the prefix of declarations declared",
            instead(&good, "<saml:Subject>", "<saml:Subject xmlns:xmlns=\"urn:x\">"),
            "declares the prefix `xmlns`",
        ),
        (
            "a reference in the name of a namespace",
            instead(&good, "<saml:Subject>", "<saml:Subject xmlns:p=\"urn:&quot;x\">"),
            "something else than an absolute URI",
        ),
        ("another version of XML", format!("<?xml version=\"1.1\"?>{good}"), "declares XML version `1.1`"),
        ("a declaration of nothing", format!("<?xml?>{good}"), "processing instruction"),
        ("SAML namespace with a slash", good.replace(SAML, &format!("{SAML}/")), "cannot be read"),
        ("empty", String::new(), "not well-formed"),
        ("HTML", "<html><body>".into(), "not well-formed"),
    ]
}

/// Documents that a parser could choke on.
pub fn choking() -> Vec<Row> {
    let good = signed_assertion(&login(), &key("idp-rsa"));
    let within = |content: &str| instead(&good, ">staff<", &format!(">{content}<"));
    let attributes: String = (0..20_000).map(|number| format!(" a{number}=\"\"")).collect();
    let namespaces: String = (0..10_000).map(|number| format!(" xmlns:a{number}=\"urn:u\"")).collect();
    let nested_namespaces: String = (0..40).map(|number| format!("<a xmlns:a{number}=\"urn:u{number}\">")).collect();
    vec![
        ("20,000 attributes", within(&format!("<a{attributes}></a>")), "too many attributes"),
        ("10,000 namespaces", within(&format!("<a{namespaces}></a>")), "too many namespaces"),
        ("nested namespaces", within(&format!("{nested_namespaces}{}", "</a>".repeat(40))), "too many namespaces"),
        ("35,000 nested elements", within(&format!("{}{}", "<a>".repeat(35_000), "</a>".repeat(35_000))), "too deeply"),
        ("80,000 open elements", "<a>".repeat(80_000), "too deeply"),
        ("300 nested elements", within(&format!("{}{}", "<a>".repeat(300), "</a>".repeat(300))), "too deeply"),
        ("80,000 open brackets", "<".repeat(80_000), "well-formed"),
        ("80,000 CDATA", "<![CDATA[".repeat(20_000), "well-formed"),
        ("60,000 elements", within(&"<a/>".repeat(60_000)), "too many elements"),
        ("24,000 elements that are not signed", within(&"<a/>".repeat(24_000)), "does not verify"),
        (
            "20,000 IDs that are not signed",
            within(&(0..15_000).map(|n| format!("<a id=\"{n}\"/>")).collect::<String>()),
            "does not verify",
        ),
        ("20,000 namespaces that are not signed", within(&"<a xmlns=\"u:\"/>".repeat(15_000)), "does not verify"),
        ("a long name", within(&format!("<{}/>", "a".repeat(200_000))), "does not verify"),
    ]
}

/// Signed assertions that are for another app, or for another time.
pub fn not_meant_for_us_now() -> Vec<Row> {
    use self::provider_says as says;
    let minutes = |minutes: i64| Timestamp(NOW.0 + minutes * 60_000);
    let conditions = {
        let login = login();
        cut(&saml::assertion(&login), "saml:Conditions").to_owned()
    };
    let restriction = cut(&conditions, "saml:AudienceRestriction").to_owned();
    let changed = |change: fn(&mut SamlLogin)| {
        let mut login = login();
        change(&mut login);
        signed_assertion(&login, &key("idp-rsa"))
    };
    let (end, start) = (minutes(5).to_string(), minutes(-1).to_string());
    let end_of_subject = format!(" NotOnOrAfter=\"{end}\" Recipient");
    let at = |offset: i64| minutes(offset).to_string();
    vec![
        ("another issuer", says(|a| instead(a, ISSUER, "https://evil.example")), "expected one issuer"),
        (
            "another issuer throughout",
            says(str::to_owned).replace(ISSUER, "https://evil.example"),
            "no provider at this callback",
        ),
        ("no issuer in the assertion", says(|a| without(a, cut(a, "saml:Issuer"))), "signed: `Issuer` is missing"),
        (
            "another audience",
            says(|a| instead(a, AUDIENCE, "https://other.example")),
            "signed: audience is `https://other.example`; expected `https://app.example/saml`",
        ),
        (
            "audience with a slash",
            says(|a| instead(a, &format!("{AUDIENCE}<"), &format!("{AUDIENCE}/<"))),
            "audience is",
        ),
        ("no conditions", says(|a| without(a, &conditions)), "`Conditions` is missing"),
        ("two conditions", says(|a| instead(a, &conditions, &format!("{conditions}{conditions}"))), "more than once"),
        ("no restriction", says(|a| without(a, &restriction)), "audience is missing"),
        (
            "empty restriction",
            says(|a| instead(a, &restriction, "<saml:AudienceRestriction></saml:AudienceRestriction>")),
            "audience is missing",
        ),
        (
            "every restriction must hold",
            changed(|login| login.audiences.push("https://other.example".into())),
            "audience is `https://other.example`",
        ),
        (
            "unknown condition",
            says(|a| instead(a, &restriction, &format!("{restriction}<saml:Condition></saml:Condition>"))),
            "condition `Condition` is not understood",
        ),
        ("expired", changed(|login| login.not_on_or_after = NOW.0 - 60_000), "expired at"),
        (
            "subject expired alone",
            says(|a| instead(a, &end_of_subject, &format!(" NotOnOrAfter=\"{}\" Recipient", at(-2)))),
            "expired at",
        ),
        ("not yet valid", changed(|login| login.not_before = NOW.0 + 61_000), "not valid before"),
        ("issued in the future", changed(|login| login.issued_at = NOW.0 + 61_000), "issued in the future"),
        ("issued long ago", changed(|login| login.issued_at = NOW.0 - 700_000), "longer ago"),
        (
            "no issue instant",
            says(|a| without(a, &format!(" IssueInstant=\"{}\"", at(0)))),
            "`IssueInstant` is missing",
        ),
        (
            "no time",
            says(|a| instead(a, &format!("NotBefore=\"{start}\""), "NotBefore=\"soon\"")),
            "`NotBefore` is `soon`",
        ),
        ("session over", changed(|login| login.session_not_on_or_after = Some(NOW.0 - 60_000)), "expired at"),
        (
            "version 1.1",
            says(|a| instead(a, "Version=\"2.0\"", "Version=\"1.1\"")),
            "version of the assertion is `1.1`",
        ),
        ("no version", says(|a| without(a, " Version=\"2.0\"")), "version of the assertion is `missing`"),
        ("no subject", says(|a| without(a, cut(a, "saml:Subject"))), "`Subject` is missing"),
        ("no confirmation", says(|a| without(a, cut(a, "saml:SubjectConfirmation"))), "no bearer confirmation"),
        ("holder of key", says(|a| instead(a, "cm:bearer", "cm:holder-of-key")), "no bearer confirmation"),
        ("no confirmation data", says(|a| without(a, cut(a, "saml:SubjectConfirmationData"))), "is missing"),
        (
            "another recipient",
            changed(|login| login.recipient = "https://other.example/acs".into()),
            "recipient is `https://other.example/acs`; expected `https://app.example/saml/acs`",
        ),
        ("recipient by prefix", changed(|login| login.recipient.push_str("/..")), "recipient is"),
        ("no recipient", says(|a| without(a, &format!(" Recipient=\"{ACS}\""))), "recipient is `missing`"),
        ("no end of confirmation", says(|a| instead(a, &end_of_subject, " Recipient")), "`NotOnOrAfter` is missing"),
        (
            "a start of confirmation",
            says(|a| instead(a, &end_of_subject, &format!(" NotBefore=\"{start}\"{end_of_subject}"))),
            "has `NotBefore`",
        ),
        ("no authentication", says(|a| without(a, cut(a, "saml:AuthnStatement"))), "`AuthnStatement` is missing"),
        (
            "answer to another request",
            says(|a| instead(a, REQUEST, "_request-2"))
                .replace(&format!("InResponseTo=\"{REQUEST}\""), "InResponseTo=\"_request-2\""),
            "not started in this browser",
        ),
        ("two requests", says(|a| instead(a, REQUEST, "_request-2")), "answer different requests"),
        (
            "another destination",
            says(str::to_owned).replacen(&format!("Destination=\"{ACS}"), "Destination=\"https://x.example", 1),
            "destination is `https://x.example`",
        ),
        (
            "failure beside an assertion",
            instead(&says(str::to_owned), "status:Success", "status:Responder"),
            "status is `urn:oasis:names:tc:SAML:2.0:status:Responder`",
        ),
        ("no status", without(&says(str::to_owned), cut(&says(str::to_owned), "samlp:Status")), "status is `missing`"),
        ("success without an assertion", saml::response(&login(), ""), "0 assertions"),
        (
            "another issuer of the response",
            says(str::to_owned).replacen(ISSUER, "https://evil.example", 1),
            "expected one issuer",
        ),
        (
            "response of version 1.1",
            instead(&says(str::to_owned), "Version=\"2.0\"><saml:Issuer xmlns", "Version=\"1.1\"><saml:Issuer xmlns"),
            "version of the response is `1.1`",
        ),
        (
            "an encrypted attribute",
            says(|a| {
                instead(
                    a,
                    "</saml:AttributeStatement>",
                    "<saml:EncryptedAttribute></saml:EncryptedAttribute></saml:AttributeStatement>",
                )
            }),
            "is encrypted by itself (`EncryptedAttribute`)",
        ),
        ("an attribute without a name", says(|a| without(a, " Name=\"groups\"")), "has no `Name`"),
        ("markup in NameID", says(|a| instead(a, ">alice<", "><x></x>alice<")), "`NameID` has child elements"),
        (
            "an ID that is no name",
            {
                let login = SamlLogin { assertion_id: "1 or 1".into(), ..login() };
                signed_assertion(&login, &key("idp-rsa"))
            },
            "ID is not a valid XML name",
        ),
        (
            "an ID as long as a book",
            {
                let login = SamlLogin { assertion_id: "_".repeat(600), ..login() };
                signed_assertion(&login, &key("idp-rsa"))
            },
            "empty or too long",
        ),
    ]
}

/// Signed responses that lack what the profile asks.
pub fn lacking_responses() -> Vec<Row> {
    use self::response_says as signed;
    let issuer = {
        let response = saml::response(&login(), "");
        cut(&response, "saml:Issuer").to_owned()
    };
    vec![
        ("no destination", signed(|r| without(r, &format!(" Destination=\"{ACS}\""))), "destination is `missing`"),
        (
            "empty destination",
            signed(|r| instead(r, &format!("Destination=\"{ACS}\""), "Destination=\"\"")),
            "destination is `missing`",
        ),
        (
            "another destination",
            signed(|r| instead(r, &format!("Destination=\"{ACS}\""), "Destination=\"https://x\"")),
            "destination is `https://x`",
        ),
        ("no issuer", signed(|r| without(r, &issuer)), "issuer is `missing`"),
        ("no status", signed(|r| without(r, cut(r, "samlp:Status"))), "status is `missing`"),
        (
            "failure",
            signed(|r| instead(r, "status:Success", "status:Requester")),
            "status:Requester`; expected success",
        ),
        ("no ID", signed(|r| instead(r, " ID=\"_response-1\"", "")), "has no `ID`"),
        ("answer to another request", signed(|r| r.replace(REQUEST, "_request-2")), "not started in this browser"),
        (
            "two assertions, both covered",
            signed(|r| {
                let other = SamlLogin { assertion_id: "_assertion-2".into(), ..login() };
                instead(r, "</samlp:Response>", &format!("{}</samlp:Response>", saml::assertion(&other)))
            }),
            "2 assertions",
        ),
    ]
}

pub fn encrypted(plaintext: &str, content: ContentEncryption) -> String {
    let public_key = key("app-decryption").public_key().unwrap();
    let recipient = Recipient { public_key: &public_key, content, transport: KeyTransport::OaepSha1, beside: false };
    saml::response(&login(), &saml::encrypt(plaintext, recipient).unwrap())
}

/// Encrypted assertions that nobody signed, or that cannot be opened.
pub fn encrypted_forgeries() -> Vec<Row> {
    use ContentEncryption::{Aes256Cbc as Cbc, Aes256Gcm as Gcm};
    let idp = key("idp-rsa");
    let plain = saml::assertion(&login());
    let sign = |key: &_| saml::sign(&plain, "_assertion-1", signer(key)).unwrap();
    let signed = sign(&idp);
    let outer = |document: &str| saml::sign(document, "_response-1", signer(&idp)).unwrap();
    let gcm = encrypted(&signed, Gcm);
    let data = cut(&gcm, "xenc:EncryptedData").to_owned();
    let oaep = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p";
    let cannot = "the encrypted assertion cannot be used";
    let two_keys = cut(&gcm, "xenc:EncryptedKey").repeat(2);
    vec![
        ("unsigned in GCM", encrypted(&plain, Gcm), "neither the response nor its assertion is signed"),
        ("unsigned in CBC", encrypted(&plain, Cbc), "`allow_cbc`"),
        ("signed in CBC, not allowed", encrypted(&signed, Cbc), "`allow_cbc`"),
        ("by a stranger", encrypted(&sign(&key("stranger-rsa")), Gcm), "signature does not verify"),
        ("by a stranger, under the provider's", outer(&encrypted(&sign(&key("stranger-rsa")), Gcm)), "does not verify"),
        (
            "broken inside, under the provider's",
            outer(&encrypted(&instead(&signed, "staff", "admins"), Gcm)),
            "does not verify",
        ),
        ("broken inside", encrypted(&instead(&signed, "staff", "admins"), Gcm), "does not verify"),
        ("changed around", instead(&outer(&gcm), "Destination=\"https", "Destination=\"Https"), "does not verify"),
        ("two in one", encrypted(&format!("{signed}{}", evil_assertion()), Gcm), "2 assertions"),
        (
            "one that closes what is around",
            encrypted(&format!("{signed}</samlp:Response><samlp:Response>"), Gcm),
            "not well-formed",
        ),
        ("one within one", encrypted(cut(&gcm, "saml:EncryptedAssertion"), Gcm), cannot),
        ("not an assertion", encrypted("<a></a>", Gcm), "`a`"),
        ("not XML", encrypted("hello", Gcm), cannot),
        ("nothing", encrypted("", Gcm), cannot),
        ("a comment inside", encrypted(&instead(&signed, "alice", "ali<!-- -->ce"), Gcm), "holds a comment"),
        (
            "RSA 1.5",
            instead(&gcm, oaep, "http://www.w3.org/2001/04/xmlenc#rsa-1_5"),
            "its key is encrypted with `http://www.w3.org/2001/04/xmlenc#rsa-1_5`; expected RSA-OAEP",
        ),
        ("no key", without(&gcm, cut(&gcm, "ds:KeyInfo")), cannot),
        (
            "two keys by an unknown method",
            instead(&gcm, cut(&gcm, "xenc:EncryptedKey"), &two_keys).replace(
                cut(&gcm, "xenc:EncryptionMethod"),
                "<xenc:EncryptionMethod Algorithm=\"x\"></xenc:EncryptionMethod>",
            ),
            cannot,
        ),
        ("another cipher", instead(&gcm, "aes256-gcm", "aes128-gcm"), cannot),
        (
            "unknown cipher",
            instead(&gcm, "xmlenc11#aes256-gcm", "xmlenc#tripledes-cbc"),
            "its content is encrypted with `http://www.w3.org/2009/xmlenc#tripledes-cbc`",
        ),
        (
            "a reference to elsewhere",
            instead(
                &gcm,
                cut(&gcm, "xenc:CipherData"),
                "<xenc:CipherData><xenc:CipherReference URI=\"http://127.0.0.1:9/\"></xenc:CipherReference></xenc:CipherData>",
            ),
            "`CipherReference`",
        ),
        ("two ciphertexts", instead(&gcm, &data, &format!("{data}{data}")), "is not one EncryptedData"),
        (
            "too short",
            {
                let value = data.rfind("<xenc:CipherValue>").unwrap();
                let short = format!(
                    "{}<xenc:CipherValue>AAAA</xenc:CipherValue></xenc:CipherData></xenc:EncryptedData>",
                    &data[..value]
                );
                instead(&gcm, &data, &short)
            },
            cannot,
        ),
        ("a bit flipped", flipped(&gcm), cannot),
    ]
}

/// Changes the last character but some of the ciphertext, which stays base64.
pub fn flipped(document: &str) -> String {
    let end = document.rfind("</xenc:CipherValue>").unwrap() - 8;
    let other = if &document[end..=end] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &document[..end], &document[end + 1..])
}
