//! The messages that we write as a service provider, in the order of elements that the schemas of SAML 2.0 ask for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::xml::Element;
use crate::pipeline::capture::saml::names::{
    ASSERTION, METADATA, PROTOCOL, REQUESTER, SIGNATURE, SUCCESS, UNKNOWN_PRINCIPAL,
};
use crate::pipeline::ids::Timestamp;

pub const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
pub const POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";

/// What every message of the protocol says of itself (SAML Core section 3.2).
pub struct Envelope<'a> {
    pub id: &'a str,
    pub now: Timestamp,
    pub destination: &'a str,
    /// Our entity ID.
    pub issuer: &'a str,
}

impl Envelope<'_> {
    fn open(&self, name: &'static str) -> Element {
        Element::new(name)
            .with("xmlns:samlp", PROTOCOL)
            .with("xmlns:saml", ASSERTION)
            .with("ID", self.id)
            .with("Version", "2.0")
            .with("IssueInstant", &self.now.to_string())
            .with("Destination", self.destination)
    }

    fn issuer(&self) -> Element {
        Element::new("saml:Issuer").text(self.issuer)
    }
}

/// An AuthnRequest that is answered by POST (SAML Core section 3.4.1).
pub fn authn_request(envelope: &Envelope<'_>, acs: &str) -> String {
    envelope
        .open("samlp:AuthnRequest")
        .with("AssertionConsumerServiceURL", acs)
        .with("ProtocolBinding", POST)
        .holding([envelope.issuer(), Element::new("samlp:NameIDPolicy").with("AllowCreate", "true")])
        .finish()
}

/// Whose session ends, as the provider named them.
pub struct Subject<'a> {
    pub name: &'a str,
    pub format: Option<&'a str>,
    pub name_qualifier: Option<&'a str>,
    pub sp_name_qualifier: Option<&'a str>,
    pub session: Option<&'a str>,
}

/// A LogoutRequest (SAML Core section 3.7.1).
pub fn logout_request(envelope: &Envelope<'_>, subject: &Subject<'_>) -> String {
    let name = Element::new("saml:NameID")
        .with_any("NameQualifier", subject.name_qualifier)
        .with_any("SPNameQualifier", subject.sp_name_qualifier)
        .with_any("Format", subject.format)
        .text(subject.name);
    let session = subject.session.map(|session| Element::new("samlp:SessionIndex").text(session));
    envelope.open("samlp:LogoutRequest").holding([envelope.issuer(), name].into_iter().chain(session)).finish()
}

/// A LogoutResponse (SAML Core section 3.7.2): success, or that no session here is the one that is named.
pub fn logout_response(envelope: &Envelope<'_>, answers: &str, ended: bool) -> String {
    let code = Element::new("samlp:StatusCode");
    let code = match ended {
        true => code.with("Value", SUCCESS),
        false => {
            code.with("Value", REQUESTER).holding([Element::new("samlp:StatusCode").with("Value", UNKNOWN_PRINCIPAL)])
        }
    };
    let status = Element::new("samlp:Status").holding([code]);
    envelope.open("samlp:LogoutResponse").with("InResponseTo", answers).holding([envelope.issuer(), status]).finish()
}

/// What our metadata says (SAML Metadata section 2.4.4).
pub struct Metadata<'a> {
    pub entity_id: &'a str,
    pub acs: &'a str,
    /// Where logouts go and by which certificate, in DER, our messages are signed, where they are.
    pub signs: Option<(&'a str, &'a [u8])>,
}

pub fn metadata(content: &Metadata<'_>) -> String {
    let mut parts = Vec::new();
    if let Some((slo, certificate)) = content.signs {
        parts.push(signing_key(certificate));
        parts.extend(
            [REDIRECT, POST]
                .map(|binding| Element::new("md:SingleLogoutService").with("Binding", binding).with("Location", slo)),
        );
    }
    parts.push(
        Element::new("md:AssertionConsumerService")
            .with("Binding", POST)
            .with("Location", content.acs)
            .with("index", "0")
            .with("isDefault", "true"),
    );
    let descriptor = Element::new("md:SPSSODescriptor")
        .with("AuthnRequestsSigned", if content.signs.is_some() { "true" } else { "false" })
        .with("WantAssertionsSigned", "true")
        .with("protocolSupportEnumeration", PROTOCOL)
        .holding(parts);
    let entity = Element::new("md:EntityDescriptor")
        .with("xmlns:md", METADATA)
        .with("entityID", content.entity_id)
        .holding([descriptor]);
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", entity.finish())
}

fn signing_key(certificate: &[u8]) -> Element {
    let certificate = Element::new("ds:X509Certificate").text(&STANDARD.encode(certificate));
    let data = Element::new("ds:X509Data").holding([certificate]);
    let info = Element::new("ds:KeyInfo").with("xmlns:ds", SIGNATURE).holding([data]);
    Element::new("md:KeyDescriptor").with("use", "signing").holding([info])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::ids::Timestamp;

    /// A name that is markup if it is written unescaped.
    const ODD: &str = "R&D <alice> \"x\"='y'";

    /// Each message, with every optional part and without.
    fn every_message() -> Vec<(&'static str, String)> {
        let envelope = Envelope {
            id: "_1",
            now: Timestamp(1_769_860_800_000),
            destination: "https://idp.example/?a=1&b=2",
            issuer: ODD,
        };
        let acs = "https://app.example/.loginsync/acs?x=<&>";
        let full = Subject {
            name: ODD,
            format: Some("urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"),
            name_qualifier: Some("https://idp.example/?a=1&b=2"),
            sp_name_qualifier: Some(ODD),
            session: Some(ODD),
        };
        let bare = Subject { name: ODD, format: None, name_qualifier: None, sp_name_qualifier: None, session: None };
        let certificate: &[u8] = &[48, 130, 1, 2];
        vec![
            ("authn-request", authn_request(&envelope, acs)),
            ("logout-request", logout_request(&envelope, &full)),
            ("logout-request-bare", logout_request(&envelope, &bare)),
            ("logout-response-none", logout_response(&envelope, "_of-theirs", false)),
            ("logout-response", logout_response(&envelope, "_of-theirs", true)),
            (
                "metadata",
                metadata(&Metadata { entity_id: "https://app.example/?a&b", acs, signs: Some((acs, certificate)) }),
            ),
            ("metadata-unsigned", metadata(&Metadata { entity_id: "https://app.example/", acs, signs: None })),
        ]
    }

    #[test]
    fn every_message_holds_its_values_as_they_are() {
        for (what, text) in every_message() {
            let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{what}: {error}"));
            let text_of = |name: &str| {
                let found = document.descendants().find(|node| node.is_element() && node.tag_name().name() == name);
                found.map(|node| node.text().unwrap_or_default().to_owned())
            };
            for name in ["Issuer", "NameID", "SessionIndex"] {
                assert!(text_of(name).is_none_or(|text| text == ODD), "{what}: {name} is {:?}", text_of(name));
            }
            let names = document.descendants().filter(|node| node.is_element()).map(|node| node.tag_name().name());
            assert!(names.clone().all(|name| name != "alice"), "{what}: {:?}", names.collect::<Vec<_>>());
        }
    }

    /// Writes them for `tests/interop/saml_schemas.py` to validate against the schemas of OASIS.
    #[test]
    #[ignore = "writes into the folder that MESSAGES_OUT names"]
    fn messages_for_the_schemas() {
        let folder = std::path::PathBuf::from(std::env::var("MESSAGES_OUT").unwrap());
        for (what, text) in every_message() {
            std::fs::write(folder.join(format!("{what}.xml")), text).unwrap();
        }
    }
}
