//! A token in a header of any request, by the rules of whoever puts it there.
//!
//! The differences between vendors are one table, [`Form::rules`]. What a token says is not verified here.

use std::sync::Arc;

use http::HeaderMap;

use super::oidc::{IdTokenError, UntrustedIdToken};
use super::{Captured, UntrustedToken};
use crate::pipeline::provider::{Protocol, Provider};

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

/// Where a token has its issuer and whom it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The issuer itself: `iss` and `aud` of the payload.
    Issuer,
    /// A load balancer: `iss`, `client` and `signer` of the header, where `signer` is the one that is configured.
    LoadBalancer,
}

/// By what tokens of one person are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    IssuedAt,
    /// There is no `iat`: the expiry, less the two minutes that such a token lives.
    Expiry,
}

/// What a token that is nobody's means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// The app has other clients, with tokens and keys of its own: passes, and says nothing to us.
    Passes,
    /// Nothing else belongs in this header.
    Refused,
}

/// What is particular about one header.
#[derive(Debug, Clone, Copy)]
pub struct FormRules {
    pub header: &'static str,
    /// What the value begins with.
    pub scheme: Option<&'static str>,
    /// Its parts are base64url with padding, against RFC 7515 section 2.
    pub padded: bool,
    pub signer: Signer,
    pub order: Order,
    pub foreign: Foreign,
    /// Unless the configuration says otherwise.
    pub algorithm: &'static str,
}

impl Form {
    pub const ALL: [Self; 5] =
        [Self::Authorization, Self::ForwardedAccessToken, Self::AlbData, Self::CloudflareAccess, Self::GoogleIap];

    pub fn rules(self) -> FormRules {
        let plain = FormRules {
            header: "",
            scheme: None,
            padded: false,
            signer: Signer::Issuer,
            order: Order::IssuedAt,
            foreign: Foreign::Refused,
            algorithm: "RS256",
        };
        match self {
            Self::Authorization => {
                FormRules { header: "authorization", scheme: Some("Bearer "), foreign: Foreign::Passes, ..plain }
            }
            Self::ForwardedAccessToken => {
                FormRules { header: "x-forwarded-access-token", foreign: Foreign::Passes, ..plain }
            }
            Self::AlbData => FormRules {
                header: "x-amzn-oidc-data",
                padded: true,
                signer: Signer::LoadBalancer,
                order: Order::Expiry,
                algorithm: "ES256",
                ..plain
            },
            Self::CloudflareAccess => FormRules { header: "cf-access-jwt-assertion", ..plain },
            Self::GoogleIap => FormRules { header: "x-goog-iap-jwt-assertion", algorithm: "ES256", ..plain },
        }
    }

    /// By the header's name, as the configuration writes it.
    pub fn named(header: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.rules().header.eq_ignore_ascii_case(header))
    }
}

/// Why a request that bears a token does not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BearerFault {
    #[error("header `{0}` appears more than once; expected one token")]
    Repeated(&'static str),
    #[error("the token in `{header}` cannot be read: {why}")]
    Unreadable { header: &'static str, why: IdTokenError },
    #[error("the token in `{0}` names an issuer that no provider of that header has")]
    UnknownIssuer(&'static str),
}

/// The token of a request that is one of a provider's: of the first provider, in the order of the configuration, for whom
/// there is one.
///
/// # Errors
/// When a header is there twice, or holds what does not belong there.
pub fn read(providers: &[Arc<Provider>], headers: &HeaderMap) -> Result<Option<Captured>, BearerFault> {
    let mut looked_at: Vec<Form> = Vec::new();
    for form in providers.iter().filter_map(|provider| form_of(provider)) {
        if looked_at.contains(&form) {
            continue;
        }
        looked_at.push(form);
        if let Some(captured) = of_form(form, providers, headers)? {
            return Ok(Some(captured));
        }
    }
    Ok(None)
}

fn form_of(provider: &Provider) -> Option<Form> {
    match &provider.protocol {
        Protocol::Oidc(policy) => policy.bearer.as_ref().map(|bearer| bearer.form),
        Protocol::Saml(_) => None,
    }
}

fn of_form(form: Form, providers: &[Arc<Provider>], headers: &HeaderMap) -> Result<Option<Captured>, BearerFault> {
    let FormRules { header, scheme, padded, signer, foreign, .. } = form.rules();
    let mut values = headers.get_all(header).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(BearerFault::Repeated(header));
    }
    let token = value.to_str().ok().and_then(|text| match scheme {
        None => Some(text),
        Some(scheme) => {
            let (word, token) = text.split_at_checked(scheme.len())?;
            word.eq_ignore_ascii_case(scheme).then_some(token)
        }
    });
    let token = token.ok_or(IdTokenError::Parts { parts: 1 }).and_then(|token| match padded {
        false => UntrustedIdToken::parse_access_token(token),
        true => UntrustedIdToken::parse_padded(token),
    });
    let token = match (token, foreign) {
        (Ok(token), _) => token,
        (Err(_), Foreign::Passes) => return Ok(None),
        (Err(why), Foreign::Refused) => return Err(BearerFault::Unreadable { header, why }),
    };
    let mut ours = providers
        .iter()
        .filter(|provider| form_of(provider) == Some(form) && provider.issuer.as_str() == token.issuer())
        .peekable();
    let first = ours.peek().copied();
    let meant = ours.find(|provider| match &provider.protocol {
        Protocol::Oidc(policy) if signer == Signer::Issuer => token.names_audience(&policy.client_id),
        _ => true,
    });
    match (meant.or(first), foreign) {
        (Some(provider), _) => {
            Ok(Some(Captured { provider: Arc::clone(provider), token: UntrustedToken::Presented(token) }))
        }
        (None, Foreign::Passes) => Ok(None),
        (None, Foreign::Refused) => Err(BearerFault::UnknownIssuer(header)),
    }
}
