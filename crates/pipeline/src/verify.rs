//! From a captured token to a verified assertion.
//!
//! [`Verified`] is the proof: its field is private to this file, so nothing else can make one, and the stages below ask for
//! it. A signature is checked first; only then does what the token says count for anything, and every other check is
//! ours, against `now`.

pub mod oidc;
pub mod person;
pub mod presented;
pub mod saml;

use super::capture::oidc::{AccessToken, UntrustedIdToken};
use super::capture::saml::logout::UntrustedLogout;
use super::capture::{Captured, UntrustedToken};
use super::ids::{Issuer, ProviderName, Timestamp};
use super::provider::{Binding, OidcPolicy, Protocol, Provider};

/// A value whose signature, issuer, audience, times and binding were checked.
#[derive(Debug, Clone)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// The claims of a payload that comes with the assertion: userinfo, or an access token.
#[derive(Debug, Clone)]
pub struct Payload(pub serde_json::Map<String, serde_json::Value>);

/// A userinfo response that names another person, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "userinfo's `sub` is not that of the ID token, so that it must not be used (OpenID Connect Core 1.0 section 5.3.2)"
)]
pub struct OtherSubject;

/// Believes a userinfo response, which the provider itself sent over TLS (or signed), where it speaks of the person whom the
/// ID token names: a token of another person's could be substituted (OIDC Core 5.3.2).
///
/// # Errors
/// When `sub` is not the same text in both.
pub fn userinfo(
    assertion: &Verified<Assertion>,
    claims: serde_json::Map<String, serde_json::Value>,
) -> Result<Verified<Payload>, OtherSubject> {
    if speaks_of_the_same(assertion, &claims) { Ok(Verified(Payload(claims))) } else { Err(OtherSubject) }
}

fn speaks_of_the_same(assertion: &Verified<Assertion>, claims: &serde_json::Map<String, serde_json::Value>) -> bool {
    let (Statement::Oidc(token) | Statement::Userinfo(token)) = &assertion.get().statement else { return false };
    match (token.get("sub"), claims.get("sub")) {
        (Some(serde_json::Value::String(ours)), Some(serde_json::Value::String(theirs))) => ours == theirs,
        _ => false,
    }
}

/// The claims of a userinfo response that is a signed JWT (OIDC Core 5.3.2): by the provider's key, of its issuer, for us.
/// Whom it speaks of is for [`userinfo`] to say.
///
/// # Errors
/// The first check that does not hold.
pub fn signed_userinfo(
    provider: &Provider,
    keys: &ProviderKeys,
    token: &UntrustedIdToken,
    now: Timestamp,
) -> Result<serde_json::Map<String, serde_json::Value>, Fault> {
    let (Protocol::Oidc(policy), ProviderKeys::Oidc(keys)) = (&provider.protocol, keys) else {
        return Err(Fault::Internal);
    };
    oidc::check_beside(provider, policy, token, keys, oidc::Audience::Ours, now)
}

/// The claims of an access token in the form of a JWT that the token endpoint sent with an ID token. It is meant for
/// another audience, so that nothing is asked of that; it counts by its signature and by speaking of the same person.
///
/// # Errors
/// The first check that does not hold.
pub fn access_token(
    assertion: &Verified<Assertion>,
    provider: &Provider,
    keys: &ProviderKeys,
    token: &UntrustedIdToken,
    now: Timestamp,
) -> Result<Verified<Payload>, Fault> {
    let (Protocol::Oidc(policy), ProviderKeys::Oidc(keys)) = (&provider.protocol, keys) else {
        return Err(Fault::Internal);
    };
    let claims = oidc::check_beside(provider, policy, token, keys, oidc::Audience::Any, now)?;
    match speaks_of_the_same(assertion, &claims) {
        true => Ok(Verified(Payload(claims))),
        false => Err(Fault::Malformed("claim `sub` is not that of the ID token".into())),
    }
}

/// A login by userinfo alone: what the provider said just now, over TLS, to the bearer of an access token that it has just
/// issued. Without a token there is neither an issue instant nor anything to spend.
pub fn by_userinfo(
    provider: &Provider,
    claims: serde_json::Map<String, serde_json::Value>,
    now: Timestamp,
) -> (Verified<Assertion>, Verified<Payload>) {
    let assertion = Assertion {
        provider: provider.name.clone(),
        issuer: provider.issuer.clone(),
        token_id: String::from("userinfo"),
        issued_at: now,
        expires_at: now,
        binding: BindingVerdict::Userinfo,
        statement: Statement::Userinfo(claims.clone()),
    };
    (Verified(assertion), Verified(Payload(claims)))
}

/// What a token asserts, once it is believed.
#[derive(Debug, Clone)]
pub struct Assertion {
    pub provider: ProviderName,
    pub issuer: Issuer,
    /// What makes a replay: the assertion ID; for OIDC `jti`, else the SHA-256 of the decoded payload in hexadecimal.
    pub token_id: String,
    /// `iat` or IssueInstant.
    pub issued_at: Timestamp,
    /// From here on the token itself is refused, leeway not counted.
    pub expires_at: Timestamp,
    pub binding: BindingVerdict,
    pub statement: Statement,
}

/// The claims of an assertion, as its protocol writes them.
#[derive(Debug, Clone)]
pub enum Statement {
    Oidc(serde_json::Map<String, serde_json::Value>),
    Saml(saml::SamlStatement),
    /// No token: userinfo alone says who this is. What only a token carries is not known.
    Userinfo(serde_json::Map<String, serde_json::Value>),
}

/// By which way a login reached us. It says what ties the login to its request, and whether its token may come again.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A browser posted it to the app's callback. One of the requests that this browser remembers must match, by the
    /// provider's `binding`; the token is spent.
    Watched(Vec<Remembered>),
    /// It answers a request of our own, and must match it whatever the configuration says of binding; the token is spent.
    Asked { request: RememberedRequest, access_token: Option<AccessToken> },
    /// The provider's token endpoint sent it, over TLS, in answer to the app; or it came to the app with a code for that
    /// endpoint. State and nonce stay with the app, and the provider sees to it that a grant is spent once.
    Exchanged { access_token: Option<AccessToken> },
    /// A header of any request carries it, as often as its bearer likes.
    Presented,
}

impl Origin {
    /// What came with the token and opens the provider's userinfo.
    pub fn access_token(&self) -> Option<&AccessToken> {
        match self {
            Self::Asked { access_token, .. } | Self::Exchanged { access_token } => access_token.as_ref(),
            Self::Watched(_) | Self::Presented => None,
        }
    }
}

/// How the login is bound to the request that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingVerdict {
    /// Index into the remembered requests that were given; 0 for a request of our own.
    Matched(usize),
    /// IdP-initiated, which the operator allowed.
    Unsolicited,
    /// Nothing matched, which the operator only observes.
    Missing,
    /// The app binds its own exchange.
    Exchanged,
    /// Bound to nothing: its bearer is meant.
    Presented,
    /// No token came: the provider was asked for userinfo.
    Userinfo,
}

impl BindingVerdict {
    /// Its name in audit rows.
    pub fn word(self) -> &'static str {
        match self {
            Self::Matched(_) => "matched",
            Self::Unsolicited => "unsolicited",
            Self::Missing => "missing (observed)",
            Self::Exchanged => "exchanged by the app",
            Self::Presented => "presented",
            Self::Userinfo => "userinfo",
        }
    }

    /// Whether the token is spent by its login.
    pub fn spending(self) -> Spending {
        match self {
            Self::Matched(_) | Self::Unsolicited | Self::Missing => Spending::Once,
            Self::Exchanged | Self::Presented | Self::Userinfo => Spending::Again,
        }
    }
}

/// How often one token may log a user in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spending {
    /// A second arrival is a replay.
    Once,
    Again,
}

/// What the browser remembered of a request it left with, opened from a binding cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    pub provider: ProviderName,
    pub request: RememberedRequest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RememberedRequest {
    /// The `state` and `nonce` of an OIDC authorization request (OIDC Core 3.1.2.1).
    Oidc { state: Option<String>, nonce: Option<String> },
    /// The `ID` of an AuthnRequest (SAML Core 3.2.1).
    Saml { request_id: String },
}

/// The keys by which a provider's signatures are checked.
#[derive(Debug, Clone)]
pub enum ProviderKeys {
    Oidc(oidc::KeySet),
    Saml(saml::CertificateSet),
}

/// Why a captured token is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub fault: Fault,
    /// The token's identity, where its signature held: such a refusal is worth an audit row, one before it is not.
    pub signed: Option<SignedToken>,
}

/// What identifies a token whose signature held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedToken {
    pub token_id: String,
    pub issued_at: Option<Timestamp>,
}

impl Refused {
    pub fn unsigned(fault: Fault) -> Self {
        Self { fault, signed: None }
    }
}

/// What was wrong. Messages name what was found and what was expected, and never carry the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("signed with key `{0}`, which the provider does not publish")]
    UnknownKey(String),
    #[error("signed with key `{key}`, which the provider publishes in a form that cannot be used: {why}")]
    UnusableKey { key: String, why: String },
    #[error("signed with key `{key}` by algorithm `{found}`; the provider publishes that key for {expected}")]
    KeyAlgorithm { key: String, found: Box<str>, expected: Box<str> },
    #[error("the token does not name its key (`kid`), and {fitting} published keys fit algorithm `{algorithm}`")]
    KeyNotNamed { fitting: usize, algorithm: String },
    #[error("signature algorithm `{found}` is not allowed; expected one of {allowed}")]
    Algorithm { found: String, allowed: String },
    #[error("the signature does not verify with any key of the provider")]
    Signature,
    #[error("{0}")]
    Malformed(String),
    #[error("issuer is `{found}`; expected `{expected}`")]
    Issuer { found: String, expected: String },
    #[error("audience is {found}; expected `{expected}`")]
    Audience { found: String, expected: String },
    #[error(
        "audience `{found}` is listed with ours, and no `azp` says that the token was issued to us; expected a client that \
         `trusted_audiences` names"
    )]
    OtherAudience { found: String },
    #[error("authorized party is `{found}`; expected `{expected}`, or a client that `authorized_parties` names")]
    AuthorizedParty { found: String, expected: String },
    #[error("`at_hash` does not match the access token that came with the ID token")]
    AccessToken,
    #[error(
        "`c_hash` does not match the authorization code that came with the ID token through the browser: an app that exchanges \
         the code would log in another person (OIDC Core 3.3.2.11)"
    )]
    Code,
    #[error("expired at {at}; it is {now}")]
    Expired { at: Timestamp, now: Timestamp },
    #[error("not valid before {at}; it is {now}")]
    NotYetValid { at: Timestamp, now: Timestamp },
    #[error("issued in the future, at {at}; it is {now}")]
    IssuedInFuture { at: Timestamp, now: Timestamp },
    #[error("issued at {at}, longer ago than `max_age` allows; it is {now}")]
    TooOld { at: Timestamp, now: Timestamp },
    #[error("issued at {at}, before the store was restored at {restored}, which has forgotten whether it was used")]
    BeforeRestore { at: Timestamp, restored: Timestamp },
    #[error("recipient is `{found}`; expected {expected}")]
    Recipient { found: String, expected: String },
    #[error("destination is `{found}`; expected {expected}")]
    Destination { found: String, expected: String },
    #[error("the identity provider's status is `{0}`; expected success")]
    Status(String),
    #[error("neither the response nor its assertion is signed")]
    Unsigned,
    #[error("the encrypted assertion cannot be used{0}")]
    Decryption(DecryptionFault),
    #[error(
        "the assertion is encrypted with AES-CBC and the response is not signed; sign the response, use AES-GCM, or set \
         `allow_cbc`"
    )]
    CbcUnsigned,
    #[error("assertions are encrypted, but the provider has no `decryption_key_files`")]
    NoDecryptionKey,
    #[error("this login was not started in this browser: {0}")]
    Binding(&'static str),
    #[error("not asked for by the app, and IdP-initiated logins are off (`allow_idp_initiated`)")]
    Unsolicited,
    #[error("verification stopped unexpectedly")]
    Internal,
}

impl Fault {
    /// Whether the provider may have published a fitting key since its keys were fetched, so that one look at its current
    /// keys is worth it.
    pub fn is_of_key(&self) -> bool {
        matches!(
            self,
            Self::UnknownKey(_) | Self::UnusableKey { .. } | Self::KeyAlgorithm { .. } | Self::KeyNotNamed { .. }
        )
    }
}

/// Why an encrypted assertion stays closed. Each begins where the sentence of [`Fault::Decryption`] ends.
///
/// Algorithms stand in clear in the message. What else is told here is for the log, and never for the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecryptionFault {
    #[error(": its content is encrypted with `{0}`; expected AES-GCM (or AES-CBC) with 128, 192 or 256 bits")]
    ContentAlgorithm(String),
    #[error(": its key is encrypted with `{0}`; expected RSA-OAEP")]
    KeyAlgorithm(String),
    #[error(
        ": its key is encrypted with RSA-OAEP, digest `{digest}` and mask function `{mask}`; expected the same hash in both. \
         Most providers offer RSA-OAEP with SHA-1 (`rsa-oaep-mgf1p`) or with SHA-256 in both"
    )]
    KeyHashes { digest: String, mask: String },
    #[error(": no encrypted key comes with it")]
    NoKey,
    #[error(": none of `decryption_key_files` opens its key. It was encrypted to another certificate, or changed")]
    OtherKey,
    #[error(": its content does not decrypt. It was changed, or cut off")]
    Content,
    #[error(": its content is not an assertion")]
    NoAssertion,
    /// Where an answer that said more would help an attacker who changed a ciphertext.
    #[error("")]
    Untold,
}

/// Verifies a captured token against the provider's keys, its policy, the way it came by, and the moment.
///
/// # Errors
/// The first check that does not hold. One of a key ([`Fault::is_of_key`]) is worth one look at the provider's current keys.
pub fn verify(
    captured: &Captured,
    keys: &ProviderKeys,
    origin: &Origin,
    now: Timestamp,
) -> Result<Verified<Assertion>, Refused> {
    let provider = &*captured.provider;
    match (&provider.protocol, &captured.token, keys) {
        (Protocol::Oidc(policy), UntrustedToken::IdToken { token, state, beside }, ProviderKeys::Oidc(keys)) => {
            let came = oidc::Came { state: state.as_deref(), beside };
            oidc::check(provider, policy, token, came, keys, origin, now).map(Verified)
        }
        (
            Protocol::Oidc(policy @ OidcPolicy { bearer: Some(bearer), .. }),
            UntrustedToken::Presented(token),
            ProviderKeys::Oidc(keys),
        ) => presented::check(provider, policy, bearer, token, keys, now).map(Verified),
        (Protocol::Saml(policy), UntrustedToken::SamlResponse(response), ProviderKeys::Saml(keys)) => {
            saml::check(provider, policy, response, keys, origin, now).map(Verified)
        }
        _ => Err(Refused::unsigned(Fault::Internal)),
    }
}

/// What a token says, not verified: to explain why it is refused.
///
/// # Errors
/// When it cannot be read, as an assertion that is encrypted.
pub fn hearsay(provider: &Provider, token: &UntrustedToken) -> Result<Statement, Fault> {
    match token {
        UntrustedToken::IdToken { token, .. } | UntrustedToken::Presented(token) => {
            Ok(Statement::Oidc(token.payload().0.clone()))
        }
        UntrustedToken::SamlResponse(response) => match &provider.protocol {
            Protocol::Saml(policy) => saml::hearsay(policy, response).map(Statement::Saml),
            Protocol::Oidc(_) => Err(Fault::Internal),
        },
    }
}

/// What a provider says has ended, once it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogoutStatement {
    pub provider: ProviderName,
    pub issuer: Issuer,
    /// What makes a replay.
    pub token_id: String,
    /// OIDC `sub`, or the NameID's value.
    pub subject: Option<String>,
    /// OIDC `sid`, or every SessionIndex; where none is named, all sessions of the subject are meant.
    pub sessions: Vec<String>,
}

/// Verifies a logout token (OpenID Connect Back-Channel Logout 1.0 section 2.6).
///
/// # Errors
/// The first check that does not hold.
pub fn logout_token(
    provider: &Provider,
    token: &UntrustedIdToken,
    keys: &ProviderKeys,
    now: Timestamp,
) -> Result<Verified<LogoutStatement>, Fault> {
    match (&provider.protocol, keys) {
        (Protocol::Oidc(policy), ProviderKeys::Oidc(keys)) => {
            oidc::logout::check(provider, policy, token, keys, now).map(Verified)
        }
        _ => Err(Fault::Internal),
    }
}

/// Verifies a SAML LogoutRequest that is meant for one of `places`.
///
/// # Errors
/// The first check that does not hold.
pub fn logout_request(
    provider: &Provider,
    request: &UntrustedLogout,
    keys: &ProviderKeys,
    places: &[String],
    now: Timestamp,
) -> Result<Verified<LogoutStatement>, Fault> {
    match (&provider.protocol, keys) {
        (Protocol::Saml(_), ProviderKeys::Saml(keys)) => {
            saml::logout::check(provider, request, keys, places, now).map(Verified)
        }
        _ => Err(Fault::Internal),
    }
}

/// The verdict on a login that should answer a request.
fn bind(
    provider: &Provider,
    origin: &Origin,
    matches: impl Fn(&RememberedRequest) -> bool,
    otherwise: &'static str,
) -> Result<BindingVerdict, Fault> {
    let remembered = match origin {
        Origin::Watched(remembered) => remembered,
        Origin::Asked { request, .. } if matches(request) => return Ok(BindingVerdict::Matched(0)),
        Origin::Asked { .. } => return Err(Fault::Binding("it does not answer the request that was sent")),
        Origin::Exchanged { .. } => return Ok(BindingVerdict::Exchanged),
        Origin::Presented => return Ok(BindingVerdict::Presented),
    };
    let found = remembered.iter().position(|request| request.provider == provider.name && matches(&request.request));
    match (found, provider.binding) {
        (Some(index), _) => Ok(BindingVerdict::Matched(index)),
        (None, Binding::Observe) => Ok(BindingVerdict::Missing),
        (None, Binding::Require) => Err(Fault::Binding(otherwise)),
    }
}

/// The checks of an issue instant that both protocols share: not in the future, and a token that is spent not longer ago
/// than `max_age`, since its record is kept for as long.
fn check_issued(provider: &Provider, origin: &Origin, at: Timestamp, now: Timestamp) -> Result<(), Fault> {
    if at > now.plus(provider.leeway) {
        return Err(Fault::IssuedInFuture { at, now });
    }
    let spent = matches!(origin, Origin::Watched(_) | Origin::Asked { .. });
    if spent && at < now.minus(provider.max_age).minus(provider.leeway) {
        return Err(Fault::TooOld { at, now });
    }
    Ok(())
}
