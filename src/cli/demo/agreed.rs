//! What the provider, the app and the sidecar of the demo agree on.

/// Where users live: both providers speak of the same people.
pub const NAMESPACE: &str = "staff";
/// The providers' names, by protocol.
pub const OIDC: &str = "oidc";
pub const SAML: &str = "saml";

pub const CLIENT_ID: &str = "demo-app";

/// One of the provider's groups, and what it gives in the app.
#[derive(Debug, Clone, Copy)]
pub struct Mapped {
    pub value: &'static str,
    /// `group` or `role`.
    pub kind: &'static str,
    pub target: &'static str,
}

/// What the demo's configuration maps, for both providers.
pub const MAPPED: [Mapped; 5] = [
    Mapped { value: "engineering", kind: "group", target: "Engineering" },
    Mapped { value: "on-call", kind: "group", target: "On-call" },
    Mapped { value: "marketing", kind: "group", target: "Marketing" },
    Mapped { value: "editors", kind: "role", target: "author" },
    Mapped { value: "administrators", kind: "group", target: "Administrators" },
];

/// Where answers of the provider arrive.
pub const OIDC_CALLBACK: &str = "/callback/oidc";
pub const SAML_CALLBACK: &str = "/callback/saml";
