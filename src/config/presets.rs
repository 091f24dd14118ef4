//! What identity providers call things: `preset = "entra"`.
//!
//! A preset is a line of defaults, from the vendor's own documentation. Whatever the file says stands above it; nothing here
//! is more than could be written there. Values are never split by a preset: a delimiter is a choice of the operator's.

use crate::pipeline::claims::sources::Source;

/// One vendor.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    pub name: &'static str,
    pub oidc: Option<Defaults>,
    /// `None`: the vendor is no SAML identity provider.
    pub saml: Option<Defaults>,
}

/// What a provider of one protocol is read by, unless it says otherwise itself.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    pub claims: &'static [PresetClaim],
    /// `None`: the subject.
    pub user_claim: Option<&'static str>,
    pub email_claim: Option<&'static str>,
    pub name_claim: Option<&'static str>,
    /// The vendor encrypts assertions with AES-CBC, and signs them inside.
    pub allow_cbc: bool,
}

/// A claim that a provider has without being told of it.
#[derive(Debug, Clone, Copy)]
pub struct PresetClaim {
    /// The name by which mappings speak of it.
    pub key: &'static str,
    /// Where it is found; `{client_id}` stands for the app's client id, as a segment of a JSON Pointer.
    pub name: &'static str,
    /// Where the vendor puts it, as far as the mode brings that; empty: where any claim of the mode is.
    pub from: &'static [Source],
}

const fn claim(key: &'static str, name: &'static str) -> PresetClaim {
    PresetClaim { key, name, from: &[] }
}

const fn claim_from(key: &'static str, name: &'static str, from: &'static [Source]) -> PresetClaim {
    PresetClaim { key, name, from }
}

const OIDC: Defaults = Defaults {
    claims: &[],
    user_claim: None,
    email_claim: Some("email"),
    name_claim: Some("preferred_username"),
    allow_cbc: false,
};

const SAML: Defaults =
    Defaults { claims: &[], user_claim: None, email_claim: None, name_claim: None, allow_cbc: false };

const MS_GROUPS: &str = "http://schemas.microsoft.com/ws/2008/06/identity/claims/groups";
const MS_ROLE: &str = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";
const MS_OBJECT: &str = "http://schemas.microsoft.com/identity/claims/objectidentifier";
const WS_EMAIL: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress";
const WS_NAME: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name";
const WS_GROUP: &str = "http://schemas.xmlsoap.org/claims/Group";

/// Realm and client roles are in the access token unless a mapper is told to put them elsewhere too.
const KEYCLOAK_ROLES: &[Source] = &[Source::Assertion, Source::AccessToken];

pub const PRESETS: [Preset; 10] = [
    // developer.okta.com, groups claim of an org or custom authorization server; help.okta.com, group attribute statements.
    Preset {
        name: "okta",
        oidc: Some(Defaults { claims: &[claim("groups", "groups")], ..OIDC }),
        saml: Some(Defaults { claims: &[claim("groups", "groups")], ..SAML }),
    },
    // learn.microsoft.com, ID token and SAML token claims references. A person is `oid` throughout a tenant; `sub` differs
    // from app to app, and the NameID is by default a name that can be given to another person.
    Preset {
        name: "entra",
        oidc: Some(Defaults {
            claims: &[claim("groups", "groups"), claim("roles", "roles")],
            user_claim: Some("oid"),
            ..OIDC
        }),
        saml: Some(Defaults {
            claims: &[claim("groups", MS_GROUPS), claim("roles", MS_ROLE)],
            user_claim: Some(MS_OBJECT),
            email_claim: Some(WS_EMAIL),
            name_claim: Some(WS_NAME),
            allow_cbc: true,
        }),
    },
    // www.keycloak.org, server administration guide: group membership, realm role and client role mappers; for SAML the
    // group list and role list mappers.
    Preset {
        name: "keycloak",
        oidc: Some(Defaults {
            claims: &[
                claim("groups", "groups"),
                claim_from("roles", "/realm_access/roles", KEYCLOAK_ROLES),
                claim_from("client_roles", "/resource_access/{client_id}/roles", KEYCLOAK_ROLES),
            ],
            ..OIDC
        }),
        saml: Some(Defaults {
            claims: &[claim("groups", "member"), claim("roles", "Role")],
            email_claim: Some("email"),
            ..SAML
        }),
    },
    // learn.microsoft.com, AD FS claim types and their short names in JWTs.
    Preset {
        name: "adfs",
        oidc: Some(Defaults {
            claims: &[claim("groups", "group"), claim("roles", "role")],
            name_claim: Some("unique_name"),
            ..OIDC
        }),
        saml: Some(Defaults {
            claims: &[claim("groups", WS_GROUP), claim("roles", MS_ROLE)],
            email_claim: Some(WS_EMAIL),
            name_claim: Some(WS_NAME),
            allow_cbc: true,
            ..SAML
        }),
    },
    // developers.google.com, ID token payload: no groups, `hd` is the domain; support.google.com, group membership of
    // custom SAML apps.
    Preset {
        name: "google",
        oidc: Some(Defaults { claims: &[claim("domain", "hd")], name_claim: Some("name"), ..OIDC }),
        saml: Some(Defaults { claims: &[claim("groups", "groups")], ..SAML }),
    },
    // developers.onelogin.com, groups scope; parameters of the SAML connectors.
    Preset {
        name: "onelogin",
        oidc: Some(Defaults { claims: &[claim("groups", "groups")], ..OIDC }),
        saml: Some(Defaults { claims: &[claim("groups", "memberOf")], email_claim: Some("User.email"), ..SAML }),
    },
    // docs.pingidentity.com, attribute contracts of PingFederate over Active Directory.
    Preset {
        name: "ping",
        oidc: Some(Defaults { claims: &[claim("groups", "memberOf")], ..OIDC }),
        saml: Some(Defaults { claims: &[claim("groups", "memberOf")], ..SAML }),
    },
    // auth0.com/docs: custom claims have addresses of the operator's own for names, so that none can be known; permissions
    // are in the access token; the default mappings of the SAML add-on.
    Preset {
        name: "auth0",
        oidc: Some(Defaults {
            claims: &[
                claim("organization", "org_id"),
                claim_from("permissions", "permissions", &[Source::AccessToken]),
            ],
            name_claim: Some("nickname"),
            ..OIDC
        }),
        saml: Some(Defaults {
            claims: &[claim("groups", WS_GROUP)],
            email_claim: Some(WS_EMAIL),
            name_claim: Some(WS_NAME),
            ..SAML
        }),
    },
    // docs.aws.amazon.com, ID token payload of user pools.
    Preset {
        name: "cognito",
        oidc: Some(Defaults {
            claims: &[claim("groups", "cognito:groups"), claim("roles", "cognito:roles")],
            name_claim: Some("cognito:username"),
            ..OIDC
        }),
        saml: None,
    },
    // docs.gitlab.com, GitLab as OpenID Connect provider: the ID token has direct memberships alone, userinfo all of them.
    Preset {
        name: "gitlab",
        oidc: Some(Defaults {
            claims: &[
                claim_from("groups", "groups_direct", &[Source::Assertion]),
                claim_from("all_groups", "groups", &[Source::Userinfo]),
            ],
            name_claim: Some("nickname"),
            ..OIDC
        }),
        saml: None,
    },
];

impl PresetClaim {
    /// Its name for one app.
    pub fn name_for(&self, client_id: Option<&str>) -> String {
        // RFC 6901 section 3.
        let segment = client_id.unwrap_or_default().replace('~', "~0").replace('/', "~1");
        self.name.replace("{client_id}", &segment)
    }
}
