//! What the operator said about one provider: how its tokens are verified and how its claims are read.
//!
//! A [`Provider`] is built by the configuration, already checked. The stages of the pipeline take it as an argument.

pub mod algorithm;
pub mod claim;
pub mod decryption_key;
pub mod delimiter;
mod mode;
pub mod selector;

use std::sync::Arc;
use std::time::Duration;

use self::algorithm::SigningAlgorithm;
use self::claim::ClaimRule;
use self::decryption_key::DecryptionKey;
pub use self::mode::{Mode, Way};
use super::ids::{InvalidText, Issuer, Namespace, ProviderName, Stage, Subject, UserId};

/// One connection to an identity provider.
#[derive(Debug, Clone)]
pub struct Provider {
    pub name: ProviderName,
    pub issuer: Issuer,
    /// Other issuers whose tokens the provider's keys sign, as of a custom domain (OIDC). No login is by them; a request that bears
    /// such a token is treated as if it bore the provider's own, since an app may believe it.
    pub issuer_aliases: Vec<Issuer>,
    pub mode: Mode,
    pub protocol: Protocol,
    /// Addresses of the app that receive this provider's logins, as written in the configuration: a path, and a query where that
    /// says which page is meant.
    pub callbacks: Vec<String>,
    pub binding: Binding,
    /// Empty: belongs to every stage.
    pub stages: Vec<Stage>,
    pub user: UserRule,
    /// In the order of the configuration. Mappings refer to them by position.
    pub claims: Vec<ClaimRule>,
    /// `None`: groups that a token leaves out stay unresolved.
    pub overage: Option<OverageRule>,
    /// An unresolved or malformed claim refuses the login.
    pub strict: bool,
    /// How far clocks may differ. Serves expiry and replay records alike, so that no token outlives its record.
    pub leeway: Duration,
    /// A token issued longer ago than this is refused, which bounds how long replay records are kept.
    pub max_age: Duration,
    pub limits: ClaimLimits,
}

/// The longest `max_age` and `leeway` that a configuration may have. A spent token is remembered for as long as it could pass
/// under any configuration, not only under the one at hand: a reload that raises one of them finds the records there.
pub const LONGEST_MAX_AGE: Duration = Duration::from_secs(86_400);
pub const LONGEST_LEEWAY: Duration = Duration::from_secs(600);

impl Provider {
    /// The names under which it issues tokens, its own first.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.issuer).chain(&self.issuer_aliases).map(Issuer::as_str)
    }
}

#[derive(Debug, Clone)]
pub enum Protocol {
    Oidc(OidcPolicy),
    Saml(SamlPolicy),
}

/// What an ID token must say besides issuer and times.
#[derive(Debug, Clone)]
pub struct OidcPolicy {
    /// The relying party's own identifier: must be in `aud`.
    pub client_id: String,
    /// Audiences that may stand in `aud` with ours where no `azp` says that the token was issued to us.
    pub trusted_audiences: Vec<String>,
    /// Clients other than ours that `azp` may name, such as a mobile app of the same project.
    pub authorized_parties: Vec<String>,
    /// An allow-list; never empty.
    pub algorithms: Vec<SigningAlgorithm>,
    /// In mode `bearer`.
    pub bearer: Option<BearerPolicy>,
}

/// How a provider's tokens come in headers. Its `client_id` is then the audience.
#[derive(Debug, Clone)]
pub struct BearerPolicy {
    pub form: Form,
    /// The load balancer's ARN, where one signs.
    pub signer: Option<String>,
}

/// The header that a provider's tokens come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// RFC 6750 section 2.1.
    Authorization,
    /// oauth2-proxy and its like hand on the provider's own access token.
    ForwardedAccessToken,
    /// AWS Application Load Balancer.
    AlbData,
    /// Cloudflare Access.
    CloudflareAccess,
    /// Google Identity-Aware Proxy.
    GoogleIap,
}

/// What a SAML response must say besides issuer and times.
#[derive(Debug, Clone)]
pub struct SamlPolicy {
    /// The app's own entity ID: must be named by every AudienceRestriction.
    pub audience: String,
    /// The ACS addresses that Recipient and Destination may name: `public_url` and a callback.
    pub acs_urls: Vec<String>,
    pub allow_idp_initiated: bool,
    pub allow_cbc: bool,
    /// Whether attributes are found by FriendlyName too, which names nothing for sure (SAML Core 2.7.3.1).
    pub friendly_names: bool,
    pub decryption_keys: Vec<Arc<DecryptionKey>>,
}

/// What happens when the browser that brings an answer did not bring our memory of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    Require,
    /// The audit says what was missing; the login goes on.
    Observe,
}

/// Which person a login speaks of.
#[derive(Debug, Clone)]
pub struct UserRule {
    pub namespace: Namespace,
    pub claim: UserClaim,
    pub take: UserTake,
    pub fold: Fold,
    /// For the identity headers alone. Never required.
    pub email_claim: Option<String>,
    /// For the identity headers alone. Never required.
    pub name_claim: Option<String>,
}

impl UserRule {
    /// The user whom a value of the claim means.
    ///
    /// # Errors
    /// When it is not the name of a user.
    pub fn user(&self, value: String) -> Result<UserId, InvalidText> {
        let value = match self.fold {
            Fold::Exact => value,
            Fold::Case => value.to_lowercase(),
        };
        Ok(UserId { namespace: self.namespace.clone(), subject: Subject::parse(&value)? })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserClaim {
    /// OIDC `sub`, or the SAML NameID (not a transient one).
    Subject,
    /// A claim or attribute that carries exactly one value.
    Named(String),
}

/// Which of a user claim's values names the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserTake {
    /// The only one; several different ones refuse the login.
    Only,
    /// The first, where the provider sends the person's own name before others.
    First,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    Exact,
    /// Full Unicode lower-casing: two spellings are one user, never two.
    Case,
}

/// How a person is found in the directory that has the groups which a token left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverageRule {
    /// The claim that holds the person's object ID.
    pub user_claim: String,
}

/// Past these an arriving claim is unresolved: never cut, since a cut list would revoke.
#[derive(Debug, Clone, Copy)]
pub struct ClaimLimits {
    /// Values of one claim, counted before splitting and again after it.
    pub values: usize,
    /// Bytes of all values of one claim together.
    pub bytes: usize,
}
