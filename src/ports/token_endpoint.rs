//! The provider's token endpoint, as a client of its own uses it: a code or a refresh token goes in, tokens come out.
//!
//! RFC 6749 sections 4.1.3 and 6, with PKCE (RFC 7636) and the client authentication of OpenID Connect Core 1.0 section 9.
//! What comes out is not believed here: the ID token goes the way of every login.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, StatusCode, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::back_channel::{AskError, BackChannel};
use super::client_credentials::basic;
use crate::config::{AssertionAudience, ClientAuth, ClientKey, ClientKeyKind, Endpoint};
use crate::pipeline::capture::denial::Denial;
use crate::pipeline::capture::oidc::AccessToken;
use crate::pipeline::ids::{ProviderName, Timestamp};

const MAX_ANSWER: usize = 2 * 1024 * 1024;
/// How long a client assertion is good for.
const ASSERTION_SECONDS: i64 = 60;

/// A client of one provider.
pub struct TokenClient {
    pub provider: ProviderName,
    pub client_id: String,
    pub auth: ClientAuth,
    /// The audience of a client assertion, unless that is the endpoint.
    pub issuer: String,
}

/// What is asked with.
pub enum Grant<'a> {
    Code { code: &'a str, verifier: &'a str, redirect_uri: &'a str },
    Refresh(&'a str),
}

/// What came back.
pub struct Tokens {
    pub id_token: Option<String>,
    pub access_token: Option<AccessToken>,
    pub refresh_token: Option<Zeroizing<String>>,
}

/// Why there are no tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The endpoint's own code, and what it adds (RFC 6749 section 5.2).
    #[error("the token endpoint says {0}")]
    Refused(Denial),
    #[error("the token endpoint: {0}")]
    Ask(#[from] AskError),
    #[error("the token endpoint answers with status {0}; expected 200")]
    Status(u16),
    #[error("the token endpoint's answer is not a token response")]
    Content,
    #[error("the client key cannot sign")]
    Key,
    #[error("the token endpoint is not known, for which a client assertion is signed")]
    NoEndpoint,
}

impl ExchangeError {
    /// The provider has ended what the grant stood for, so that asking again is of no use.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused(denial) if denial.label() == "invalid_grant")
    }
}

#[derive(Deserialize)]
struct Answer {
    id_token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

/// RFC 7523 section 3.
#[derive(Serialize)]
struct ClientAssertion<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
}

impl TokenClient {
    /// Asks once. `endpoint` is the address that is asked, where it is known.
    ///
    /// # Errors
    /// When the endpoint cannot be reached, refuses, or answers something else.
    pub async fn ask(
        &self,
        back_channel: &dyn BackChannel,
        endpoint: Option<&str>,
        grant: Grant<'_>,
        now: Timestamp,
    ) -> Result<Tokens, ExchangeError> {
        let request = self.request(endpoint, &grant, now)?;
        let answer = back_channel.ask(&self.provider, Endpoint::Token, request, MAX_ANSWER).await?;
        let body = Zeroizing::new(answer.body().clone());
        // Some servers write a byte order mark.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body);
        if answer.status() != StatusCode::OK {
            let refusal = serde_json::from_slice::<Refusal>(body).ok();
            return Err(match refusal {
                Some(refusal) => ExchangeError::Refused(self.denial(&refusal, &grant)),
                None => ExchangeError::Status(answer.status().as_u16()),
            });
        }
        // The parser's own complaint would quote what it found.
        let answer: Answer = serde_json::from_slice(body).map_err(|_| ExchangeError::Content)?;
        Ok(Tokens {
            id_token: answer.id_token,
            access_token: answer.access_token.map(AccessToken::new),
            // An empty one is none, and would take the place of one that works.
            refresh_token: answer.refresh_token.filter(|token| !token.is_empty()).map(Zeroizing::new),
        })
    }

    fn request(
        &self,
        endpoint: Option<&str>,
        grant: &Grant<'_>,
        now: Timestamp,
    ) -> Result<Request<Vec<u8>>, ExchangeError> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        match grant {
            Grant::Code { code, verifier, redirect_uri } => {
                form.append_pair("grant_type", "authorization_code");
                form.append_pair("code", code);
                form.append_pair("code_verifier", verifier);
                form.append_pair("redirect_uri", redirect_uri);
            }
            Grant::Refresh(token) => {
                form.append_pair("grant_type", "refresh_token");
                form.append_pair("refresh_token", token);
            }
        }
        let mut request = Request::post("/")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        match &self.auth {
            ClientAuth::None | ClientAuth::Tls => {
                form.append_pair("client_id", &self.client_id);
            }
            ClientAuth::Basic(secret) => {
                request = request.header(header::AUTHORIZATION, basic(&self.client_id, secret.expose()))
            }
            ClientAuth::Post(secret) => {
                form.append_pair("client_id", &self.client_id);
                form.append_pair("client_secret", &String::from_utf8_lossy(secret.expose()));
            }
            ClientAuth::PrivateKey(key) => {
                form.append_pair("client_id", &self.client_id);
                form.append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
                form.append_pair("client_assertion", &self.assertion(key, endpoint, now)?);
            }
        }
        let body = form.finish().into_bytes();
        request.body(body).map_err(|_| ExchangeError::Key)
    }

    /// A description that repeats something secret that was sent is left out.
    fn denial(&self, refusal: &Refusal, grant: &Grant<'_>) -> Denial {
        let (first, second) = match grant {
            Grant::Code { code, verifier, .. } => (*code, *verifier),
            Grant::Refresh(token) => (*token, *token),
        };
        let secret = match &self.auth {
            ClientAuth::Basic(secret) | ClientAuth::Post(secret) => String::from_utf8_lossy(secret.expose()),
            ClientAuth::None | ClientAuth::PrivateKey(_) | ClientAuth::Tls => first.into(),
        };
        let clean = |text: &&str| [first, second, &secret].iter().all(|sent| !text.contains(*sent));
        Denial::new(word(&refusal.error), refusal.error_description.as_deref().filter(clean))
    }

    fn assertion(&self, key: &ClientKey, endpoint: Option<&str>, now: Timestamp) -> Result<String, ExchangeError> {
        let audience = match key.audience {
            AssertionAudience::Issuer => self.issuer.as_str(),
            AssertionAudience::TokenEndpoint => endpoint.ok_or(ExchangeError::NoEndpoint)?,
        };
        let mut jti = [0; 16];
        aws_lc_rs::rand::fill(&mut jti).map_err(|_| ExchangeError::Key)?;
        let claims = ClientAssertion {
            iss: &self.client_id,
            sub: &self.client_id,
            aud: audience,
            iat: now.seconds(),
            exp: now.seconds() + ASSERTION_SECONDS,
            jti: STANDARD.encode(jti),
        };
        let (algorithm, signing) = match key.kind {
            ClientKeyKind::Rsa => (Algorithm::RS256, EncodingKey::from_rsa_pem(key.pem.expose())),
            ClientKeyKind::P256 => (Algorithm::ES256, EncodingKey::from_ec_pem(key.pem.expose())),
        };
        let mut head = Header::new(algorithm);
        head.kid.clone_from(&key.key_id);
        let signing = signing.map_err(|_| ExchangeError::Key)?;
        jsonwebtoken::encode(&head, &claims, &signing).map_err(|_| ExchangeError::Key)
    }
}

/// An error code as RFC 6749 section 5.2, its extensions and the vendors write theirs: lower-case words. Anything else is not
/// repeated, since it goes to the log and to callers of the API, and may be what was sent.
fn word(error: &str) -> &str {
    let is_code = error.len() <= 64 && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_code { error } else { "an error that is not an error code" }
}
