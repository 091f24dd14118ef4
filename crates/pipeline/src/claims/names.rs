//! Short words for the long names that SAML attributes have.
//!
//! A word stands for itself and for its long names: `name = "groups"` finds an attribute of that Name or FriendlyName, and the
//! one that Entra and ADFS send. `docs/claims.md` has the table for operators; a test holds the two together.

use crate::verify::saml::SamlStatement;

/// A word, and the names that it stands for.
pub const ALIASES: [(&str, &str); 31] = [
    // learn.microsoft.com, SAML token claims reference, and AD FS claim types.
    ("groups", "http://schemas.microsoft.com/ws/2008/06/identity/claims/groups"),
    ("role", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"),
    ("groupsid", "http://schemas.microsoft.com/ws/2008/06/identity/claims/groupsid"),
    ("primarysid", "http://schemas.microsoft.com/ws/2008/06/identity/claims/primarysid"),
    ("windowsaccountname", "http://schemas.microsoft.com/ws/2008/06/identity/claims/windowsaccountname"),
    ("objectidentifier", "http://schemas.microsoft.com/identity/claims/objectidentifier"),
    ("tenantid", "http://schemas.microsoft.com/identity/claims/tenantid"),
    ("displayname", "http://schemas.microsoft.com/identity/claims/displayname"),
    ("group", "http://schemas.xmlsoap.org/claims/Group"),
    ("commonname", "http://schemas.xmlsoap.org/claims/CommonName"),
    ("emailaddress", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress"),
    ("name", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name"),
    ("nameidentifier", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"),
    ("upn", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn"),
    ("givenname", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname"),
    ("surname", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname"),
    // The X.500/LDAP attribute profile (SAML Profiles section 8.2) of RFC 4519, RFC 2798, eduPerson and eduMember.
    ("uid", "urn:oid:0.9.2342.19200300.100.1.1"),
    ("mail", "urn:oid:0.9.2342.19200300.100.1.3"),
    ("cn", "urn:oid:2.5.4.3"),
    ("sn", "urn:oid:2.5.4.4"),
    ("ou", "urn:oid:2.5.4.11"),
    ("title", "urn:oid:2.5.4.12"),
    ("givenName", "urn:oid:2.5.4.42"),
    ("displayName", "urn:oid:2.16.840.1.113730.3.1.241"),
    ("employeeNumber", "urn:oid:2.16.840.1.113730.3.1.3"),
    ("memberOf", "urn:oid:1.2.840.113556.1.2.102"),
    ("isMemberOf", "urn:oid:1.3.6.1.4.1.5923.1.5.1.1"),
    ("eduPersonAffiliation", "urn:oid:1.3.6.1.4.1.5923.1.1.1.1"),
    ("eduPersonPrincipalName", "urn:oid:1.3.6.1.4.1.5923.1.1.1.6"),
    ("eduPersonEntitlement", "urn:oid:1.3.6.1.4.1.5923.1.1.1.7"),
    ("eduPersonScopedAffiliation", "urn:oid:1.3.6.1.4.1.5923.1.1.1.9"),
];

/// What an assertion says outside its attributes, which a claim reads by one of these names. An attribute of the same name is
/// not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    NameId,
    NameIdFormat,
    NameQualifier,
    SpNameQualifier,
    ContextClass,
    SessionIndex,
}

pub const PARTS: [(&str, Part); 6] = [
    ("NameID", Part::NameId),
    ("NameID.Format", Part::NameIdFormat),
    ("NameID.NameQualifier", Part::NameQualifier),
    ("NameID.SPNameQualifier", Part::SpNameQualifier),
    ("AuthnContextClassRef", Part::ContextClass),
    ("SessionIndex", Part::SessionIndex),
];

impl Part {
    pub fn named(name: &str) -> Option<Self> {
        PARTS.iter().find(|(known, _)| *known == name).map(|(_, part)| *part)
    }

    /// Whether it names a person.
    pub fn names_a_person(self) -> bool {
        self == Self::NameId
    }

    pub fn is_of_name_id(self) -> bool {
        !matches!(self, Self::ContextClass | Self::SessionIndex)
    }

    /// What an assertion says of it.
    pub fn of(self, statement: &SamlStatement) -> Vec<&str> {
        let name_id = statement.name_id.as_ref();
        let one = match self {
            Self::NameId => name_id.map(|name| name.value.as_str()),
            Self::NameIdFormat => name_id.and_then(|name| name.format.as_deref()),
            Self::NameQualifier => name_id.and_then(|name| name.name_qualifier.as_deref()),
            Self::SpNameQualifier => name_id.and_then(|name| name.sp_name_qualifier.as_deref()),
            Self::ContextClass => return statement.context_classes.iter().map(String::as_str).collect(),
            Self::SessionIndex => statement.session_index.as_deref(),
        };
        one.into_iter().collect()
    }
}

/// The long name that a word stands for.
pub fn long_name(word: &str) -> Option<&'static str> {
    ALIASES.iter().find(|(alias, _)| *alias == word).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_word_and_every_name_is_there_once() {
        let words: HashSet<&str> = ALIASES.iter().map(|(word, _)| *word).collect();
        let names: HashSet<&str> = ALIASES.iter().map(|(_, name)| *name).collect();
        assert_eq!((words.len(), names.len()), (ALIASES.len(), ALIASES.len()));
        assert!(words.is_disjoint(&names));
        assert!(PARTS.iter().all(|(name, _)| long_name(name).is_none()));
    }
}
