//! How a provider's logins come to us: one row for each mode.
//!
//! What the configuration allows, what is captured, and to what a login is bound follow from the row. A new mode is a variant, its
//! row, and the code that captures it.

use super::claim::Source;

/// How a provider's logins are captured: exactly one way each, and so one form of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A `SAMLResponse` that a browser posts to the app's ACS.
    SamlPost,
    /// An `id_token` that a browser posts to the app's callback.
    OidcFormPost,
    /// The app's own code exchange, which goes through our token endpoint.
    TokenRelay,
    /// A token in a header of any request.
    Bearer,
    /// We run the OIDC code flow for an app that has no login.
    RelyingParty,
    /// We are the SAML service provider of an app that has no login.
    SamlRelyingParty,
}

/// How a login reaches us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A browser brings it to the app's callback, so that it must be bound to that browser.
    Watched,
    /// The app exchanges a code through our token endpoint.
    Relayed,
    /// Any request presents it.
    Presented,
    /// We ask the provider for it.
    Ours,
}

/// What is true of one mode.
struct Row {
    word: &'static str,
    saml: bool,
    way: Way,
    brings: &'static [(&'static str, Source)],
}

const ASSERTION: &[(&str, Source)] = &[("assertion", Source::Assertion)];
const ID_TOKEN: &[(&str, Source)] = &[("id_token", Source::Assertion)];
const ACCESS_TOKEN: &[(&str, Source)] = &[("access_token", Source::Assertion)];
/// What a token endpoint answers, and what can be fetched with it.
const TOKENS: &[(&str, Source)] =
    &[("id_token", Source::Assertion), ("userinfo", Source::Userinfo), ("access_token", Source::AccessToken)];

impl Mode {
    /// Two have one name.
    pub const EVERY: [Self; 6] = [
        Self::SamlPost,
        Self::OidcFormPost,
        Self::TokenRelay,
        Self::Bearer,
        Self::RelyingParty,
        Self::SamlRelyingParty,
    ];

    const fn row(self) -> Row {
        let (word, saml, way, brings) = match self {
            Self::SamlPost => ("saml-post", true, Way::Watched, ASSERTION),
            Self::OidcFormPost => ("oidc-form-post", false, Way::Watched, ID_TOKEN),
            Self::TokenRelay => ("token-relay", false, Way::Relayed, TOKENS),
            Self::Bearer => ("bearer", false, Way::Presented, ACCESS_TOKEN),
            // Which protocol it is, the provider's other keys say.
            Self::RelyingParty => ("relying-party", false, Way::Ours, TOKENS),
            Self::SamlRelyingParty => ("relying-party", true, Way::Ours, ASSERTION),
        };
        Row { word, saml, way, brings }
    }

    /// Its name in the configuration.
    pub const fn word(self) -> &'static str {
        self.row().word
    }

    /// The names of all modes, each once.
    pub fn words() -> impl Iterator<Item = &'static str> + Clone {
        let is_first = |mode: &Self| Self::named(mode.word()) == Some(*mode);
        Self::EVERY.into_iter().filter(is_first).map(Self::word)
    }

    /// The first mode of this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|mode| mode.word() == word)
    }

    pub const fn way(self) -> Way {
        self.row().way
    }

    pub const fn is_saml(self) -> bool {
        self.row().saml
    }

    /// The payloads that a login can have, as `from` names them. The first is the default.
    pub const fn brings(self) -> &'static [(&'static str, Source)] {
        self.row().brings
    }

    /// Whether a login is read as a browser brings it to the app's callback, so that it must be bound to that browser.
    pub fn is_watched(self) -> bool {
        self.way() == Way::Watched
    }

    /// The login is ours.
    pub fn is_relying_party(self) -> bool {
        self.way() == Way::Ours
    }

    /// Whether each request says who sends it, and what they hold now.
    pub fn tells_at_each_request(self) -> bool {
        matches!(self.way(), Way::Ours | Way::Presented)
    }

    /// Whether tokens come from the provider's token endpoint.
    pub fn exchanges(self) -> bool {
        matches!(self.way(), Way::Relayed | Way::Ours) && !self.is_saml()
    }
}
