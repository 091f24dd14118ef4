//! Who calls the APIs: a client by its secret, or by an access token that it took with it.
//!
//! Secrets and tokens are 256 random bits, and are looked up by their SHA-256: what is compared is a hash, so that the time
//! of a comparison tells nothing. Wrong credentials are counted by address: more than a few are answered with 429, and no
//! longer logged. Right ones always pass: many clients may share an address, and 256 bits are not guessed by trying.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};

use super::Inspect;
use super::limit::{Left, Limit};
use super::service::{self, Caller, Through};
use crate::config::Face;
use crate::pipeline::ids::Timestamp;
use crate::ports::catalogue::{AccessToken, ApiClient};
use crate::ports::sessions::Digest;
use crate::ports::store::StoreError;

/// Wrong credentials of one address within a minute.
pub(super) const WRONG: u32 = 30;

/// What remembers who called how often.
#[derive(Debug, Default)]
pub struct Doorkeeper {
    clients: Limit<String>,
    wrong: Limit<IpAddr>,
}

/// Why a call does not come in, or not as far as its handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// No credentials, or wrong ones.
    Unknown,
    /// The client may not use this face.
    Face(Face),
    TooMany(Left),
    /// The body is longer than any that this call takes.
    TooLarge,
    /// The address is not valid text.
    Nowhere,
    /// There is something at the address, and it does not answer this method.
    Method,
    Store(StoreError),
}

impl Denied {
    /// The status, and why, in words that fit every face.
    pub fn told(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unknown => (
                StatusCode::UNAUTHORIZED,
                "expected `Authorization: Bearer` with the secret or an access token of an API client",
            ),
            Self::Face(_) => (StatusCode::FORBIDDEN, "the client may not call this API"),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "too many calls; wait as long as `Retry-After` says"),
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "the body is too long; expected at most 1 MiB, and 4 MiB for a plan")
            }
            Self::Nowhere => (StatusCode::NOT_FOUND, "there is nothing at this address"),
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "this address does not support this method; `Allow` lists the methods that it does",
            ),
            Self::Store(error) => service::store_failed(error),
        }
    }
}

/// A token as its client gets it, once.
#[derive(Debug)]
pub struct Issued {
    pub token: String,
    pub refresh: Option<String>,
    pub created_at: Timestamp,
}

impl Doorkeeper {
    /// Who calls, by the `Authorization` field: a bearer token, or the secret itself as one (RFC 6750 section 2.1).
    ///
    /// # Errors
    /// When the caller is not known, or may not do this.
    pub async fn admit(
        &self,
        inspect: &dyn Inspect,
        face: Face,
        headers: &HeaderMap,
        address: IpAddr,
    ) -> Result<(Caller, Left), Denied> {
        let now = inspect.now();
        let Some(token) = bearer(headers) else { return Err(Denied::Unknown) };
        let digest = Digest::of(token.as_bytes());
        let found = match client_by_secret(inspect, digest).await.map_err(Denied::Store)? {
            Some(client) => Some(client),
            None => match inspect.catalogue().token(digest, now).await.map_err(Denied::Store)? {
                Some(token) => client_by_secret(inspect, token.client).await.map_err(Denied::Store)?,
                None => None,
            },
        };
        self.enter(inspect, face, found, address, now)
    }

    /// The client with these credentials.
    ///
    /// # Errors
    /// When there is none, or it may not use this face.
    pub async fn admit_client(
        &self,
        inspect: &dyn Inspect,
        face: Face,
        (id, secret): (&str, &str),
        address: IpAddr,
    ) -> Result<Caller, Denied> {
        let now = inspect.now();
        let found = client_by_secret(inspect, Digest::of(secret.as_bytes())).await.map_err(Denied::Store)?;
        let found = found.filter(|client| client.name == id);
        self.enter(inspect, face, found, address, now).map(|(caller, _)| caller)
    }

    /// The client that took a token, by its refresh token, and that token.
    ///
    /// # Errors
    /// When there is none, or it may not use this face.
    pub async fn admit_refresh(
        &self,
        inspect: &dyn Inspect,
        face: Face,
        (token, refresh): (&str, &str),
        address: IpAddr,
    ) -> Result<Caller, Denied> {
        let now = inspect.now();
        let before = inspect.catalogue().refreshed(Digest::of(refresh.as_bytes())).await.map_err(Denied::Store)?;
        let found = match before.filter(|before| before.token == Digest::of(token.as_bytes())) {
            Some(before) => client_by_secret(inspect, before.client).await.map_err(Denied::Store)?,
            None => None,
        };
        self.enter(inspect, face, found, address, now).map(|(caller, _)| caller)
    }

    fn enter(
        &self,
        inspect: &dyn Inspect,
        face: Face,
        client: Option<ApiClient>,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<(Caller, Left), Denied> {
        let Some(ApiClient { name, secret, scopes, faces }) = client else {
            self.wrong.take(&network(address), WRONG, now).map_err(Denied::TooMany)?;
            tracing::warn!(%address, face = face.word(), "wrong credentials at an API");
            return Err(Denied::Unknown);
        };
        if !faces.contains(&face) {
            return Err(Denied::Face(face));
        }
        let left = self.clients.take(&name, inspect.config().admin.rate_limit, now).map_err(Denied::TooMany)?;
        Ok((Caller { name, face, scopes, secret, through: Through::Api }, left))
    }

    /// What is left of a client's limit.
    pub fn left(&self, inspect: &dyn Inspect, caller: &Caller) -> Left {
        let outcome = self.clients.look(&caller.name, inspect.config().admin.rate_limit, inspect.now());
        outcome.unwrap_or_else(|left| left)
    }
}

/// Gives a client an access token.
///
/// # Errors
/// When the store cannot write it. `Ok(None)` when the refresh token was used meanwhile.
pub async fn issue(
    inspect: &dyn Inspect,
    caller: &Caller,
    lifetime: Duration,
    with_refresh: bool,
    replaces: Option<&str>,
) -> Result<Option<Issued>, StoreError> {
    let now = inspect.now();
    let token = random_text()?;
    let refresh = if with_refresh { Some(random_text()?) } else { None };
    let row = AccessToken {
        token: Digest::of(token.as_bytes()),
        refresh: refresh.as_ref().map(|refresh| Digest::of(refresh.as_bytes())),
        client: caller.secret,
        created_at: now,
        expires_at: now.plus(lifetime),
    };
    let replaces = replaces.map(|refresh| Digest::of(refresh.as_bytes()));
    let added = inspect.catalogue().add_token(row, replaces).await?;
    Ok(added.then_some(Issued { token, refresh, created_at: now }))
}

/// 256 random bits as text.
///
/// # Errors
/// When the system gives none.
pub fn random_text() -> Result<String, StoreError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes)
        .map_err(|_| StoreError::Unavailable("the operating system returned no random bytes".into()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Those of the configuration, then those of the store.
async fn client_by_secret(inspect: &dyn Inspect, secret: Digest) -> Result<Option<ApiClient>, StoreError> {
    let config = inspect.config();
    match config.api_clients.iter().find(|client| client.secret == secret.0) {
        Some(client) => Ok(Some(ApiClient {
            name: client.name.clone(),
            secret,
            scopes: client.scopes.clone(),
            faces: client.faces.clone(),
        })),
        None => inspect.catalogue().client(secret).await,
    }
}

/// The scheme is compared without case, since clients write both.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (scheme, token) = field.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Id and secret of HTTP Basic (RFC 7617, and RFC 6749 section 2.3.1, which form-encodes both).
pub fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let plain =
        |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned);
    Some((plain(id)?, plain(secret)?))
}

/// A client with one IPv6 address has a /64.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}
