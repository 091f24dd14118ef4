//! The tokens that a request bears: in headers, by the rules of each vendor ([`Form::rules`]), and where RFC 6750 puts them else.
//!
//! An app reads the token that its library finds. So every token is found here, in whatever spelling a lax library takes
//! ([`token::within`]), and is verified or refused. What a token says is not verified here.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::fields::{self, Field};
use super::oidc::{IdTokenError, UntrustedIdToken};
use super::{Captured, UntrustedToken};
use crate::capture::token::{self, Found, Reading, Unclear};
use crate::ids::ProviderName;
use crate::provider::{Form, Protocol, Provider};
use crate::reading::header::{folded, is_authorization};
use crate::reading::{escape, name};

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

/// What a token of an unknown issuer means.
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
            padded: false,
            signer: Signer::Issuer,
            order: Order::IssuedAt,
            foreign: Foreign::Refused,
            algorithm: "RS256",
        };
        match self {
            Self::Authorization => FormRules { header: "authorization", foreign: Foreign::Passes, ..plain },
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

/// The parts of a request in which a token may come.
#[derive(Debug, Clone, Copy)]
pub struct Borne<'r> {
    pub headers: &'r HeaderMap,
    /// Without the `?`.
    pub query: Option<&'r str>,
    /// The body of a form, where forms are read (RFC 6750 section 2.2).
    pub form: Option<&'r [u8]>,
    /// Cookies that the operator named.
    pub cookies: &'r [String],
}

/// Where in a request a token came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Header(&'static str),
    /// As a gateway hands on what came in `Authorization`.
    Moved,
    Query,
    Form,
    Cookie,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header `{name}`"),
            Self::Moved => f.write_str("a header that apps read as `authorization`"),
            Self::Query => f.write_str("`access_token` in the query"),
            Self::Form => f.write_str("`access_token` in the form"),
            Self::Cookie => f.write_str("a cookie of `bearer.cookies`"),
        }
    }
}

/// Why a request that bears a token does not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BearerFault {
    #[error("{0} appears more than once; expected one token")]
    Repeated(Place),
    #[error("the token in {place} cannot be read: {why}")]
    Unreadable { place: Place, why: IdTokenError },
    #[error("{place} holds what an app may read as a token, but {why}; expected one token that names its issuer")]
    Unclear { place: Place, why: Unclear },
    #[error("the token in {0} names an issuer that no provider of that header has")]
    UnknownIssuer(Place),
    #[error("the token in {place} is one of provider `{provider}`, whose tokens come in header `{expected}`")]
    OtherHeader { place: Place, provider: ProviderName, expected: &'static str },
    #[error(
        "`access_token` in the body may be a token of a provider; expected it in `authorization`, or in a form with \
         `bearer.form = true`"
    )]
    InBody,
    #[error("the tokens of this request name more than one person; expected one")]
    TwoPeople,
}

/// The tokens of a request that are of our providers: all of them, since an app may read any.
///
/// # Errors
/// When a token comes twice, when it is unclear whose it is, or when a header holds what does not belong there.
pub fn read(providers: &[Arc<Provider>], borne: Borne<'_>) -> Result<Vec<Captured>, BearerFault> {
    let mut reader = Reader { providers, captured: Vec::new() };
    let mut looked_at: Vec<Form> = Vec::new();
    for form in providers.iter().filter_map(|provider| form_of(provider)) {
        if !looked_at.contains(&form) {
            looked_at.push(form);
            reader.header(form, borne.headers)?;
        }
    }
    if looked_at.contains(&Form::Authorization) {
        if let Some(query) = borne.query.filter(|query| fields::may_hold(query, &[Field::AccessToken])) {
            reader.field(query.as_bytes(), Place::Query)?;
        }
        if let Some(form) = borne.form {
            reader.field(form, Place::Form)?;
        }
        if !borne.cookies.is_empty() {
            reader.cookies(borne.cookies, borne.headers)?;
        }
    }
    Ok(reader.captured)
}

/// Whether tokens of these providers come where RFC 6750 puts them: in `Authorization`, a form or the query.
pub fn reads_authorization(providers: &[Arc<Provider>]) -> bool {
    providers.iter().any(|provider| form_of(provider) == Some(Form::Authorization))
}

/// The header that a provider's tokens come in, where it is of mode `bearer`.
pub fn form_of(provider: &Provider) -> Option<Form> {
    match &provider.protocol {
        Protocol::Oidc(policy) => policy.bearer.as_ref().map(|bearer| bearer.form),
        Protocol::Saml(_) => None,
    }
}

/// The credentials of a value that begins with `Basic` and a blank, as they stand.
pub fn basic_credentials(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.trim_ascii().split_at_checked(BASIC.len())?;
    let is_basic = scheme.eq_ignore_ascii_case(BASIC) && rest.first().is_some_and(u8::is_ascii_whitespace);
    is_basic.then(|| rest.trim_ascii())
}

/// What may be the credentials of a `Basic` and a blank anywhere in a value: some apps look for the scheme wherever it stands. The first are
/// all that follows, and the others end at the next `Basic`, so that together they are at most twice as long as the value.
pub fn basic_within(value: &[u8]) -> Vec<&[u8]> {
    let is_scheme = |at: &usize| {
        let (scheme, rest) = value.get(*at..).and_then(|text| text.split_at_checked(BASIC.len())).unwrap_or_default();
        scheme.eq_ignore_ascii_case(BASIC) && rest.first().is_some_and(u8::is_ascii_whitespace)
    };
    let starts: Vec<usize> = memchr::memchr2_iter(b'b', b'B', value).filter(is_scheme).collect();
    let ends = starts.iter().skip(1).copied().chain([value.len()]);
    let spans = starts.iter().zip(ends).enumerate();
    let credentials = |(nth, (start, end)): (usize, (&usize, usize))| {
        let end = if nth == 0 { value.len() } else { end };
        value.get(start + BASIC.len()..end).map(<[u8]>::trim_ascii)
    };
    spans.filter_map(credentials).collect()
}

/// Whether a value is `Basic` with credentials that are not to the letter (RFC 7617 section 2): readers skip letters that are none of
/// base64, or take both alphabets, and find there what we do not.
fn is_odd_basic(value: &[u8]) -> bool {
    let Some(credentials) = basic_credentials(value) else { return false };
    let bare = credentials.strip_suffix(b"==").or(credentials.strip_suffix(b"=")).unwrap_or(credentials);
    !bare.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Whether a cookie is written in escapes: those of quoted texts (Werkzeug), or JSON (`j:`, cookie-parser).
fn is_escaped(value: &[u8]) -> bool {
    let decoded: Vec<u8> = percent_encoding::percent_decode(value).collect();
    let bare = decoded.trim_ascii();
    let bare = bare.strip_prefix(b"\"").unwrap_or(bare);
    value.contains(&b'\\') || bare.starts_with(b"j:")
}

/// Whether a JSON object stands in a value, as it is, percent-encoded or in the credentials of `Basic`: some libraries take a JWS in its
/// JSON form (RFC 7515 section 7.2) wherever they take a token.
fn holds_json(value: &[u8]) -> bool {
    let opens = |text: &[u8]| {
        let after = |at: usize| text.get(at + 1..).unwrap_or_default().trim_ascii_start();
        memchr::memchr_iter(b'{', text).any(|at| after(at).starts_with(b"\""))
    };
    // Borrowed where nothing is escaped, as in every token.
    let decoded: Cow<'_, [u8]> = percent_encoding::percent_decode(value).into();
    opens(value)
        || (matches!(decoded, Cow::Owned(_)) && opens(&decoded))
        || basic_within(value).into_iter().flat_map(token::decodings).any(|text| opens(&text))
}

const BASIC: &[u8] = b"basic";

struct Reader<'p> {
    providers: &'p [Arc<Provider>],
    captured: Vec<Captured>,
}

impl Reader<'_> {
    fn header(&mut self, form: Form, headers: &HeaderMap) -> Result<(), BearerFault> {
        let FormRules { header, foreign, .. } = form.rules();
        let place = Place::Header(header);
        // CGI and its heirs (WSGI, Rack, PHP) read other spellings of a name as the same.
        let folds = |name: &str| name.len() == header.len() && folded(name) == header;
        let mut values = headers.iter().filter(|(name, _)| folds(name.as_str())).map(|(_, value)| value);
        let first = values.next();
        if values.next().is_some() {
            return Err(BearerFault::Repeated(place));
        }
        match (first, foreign) {
            (Some(value), Foreign::Refused) => self.whole(form, place, value)?,
            (Some(value), Foreign::Passes) => self.credentials(form, place, value)?,
            (None, _) => {}
        }
        if form == Form::Authorization {
            let moved = |name: &str| is_authorization(name) && !folds(name);
            for (_, value) in headers.iter().filter(|(name, _)| moved(name.as_str())) {
                self.credentials(form, Place::Moved, value)?;
            }
        }
        Ok(())
    }

    /// The value of a header that is for other credentials as well.
    fn credentials(&mut self, form: Form, place: Place, value: &HeaderValue) -> Result<(), BearerFault> {
        self.anywhere(form, place, value.as_bytes())?;
        // No client writes a token so, and some apps undo it (Werkzeug's `authorization.parameters`).
        let hides_one = |plain: Vec<u8>| !matches!(token::within(&plain).as_deref(), Ok([]));
        match is_odd_basic(value.as_bytes()) || token::unquoted(value.as_bytes()).is_some_and(hides_one) {
            true => Err(BearerFault::Unclear { place, why: Unclear::Unreadable }),
            false => Ok(()),
        }
    }

    /// A field that RFC 6750 names.
    fn field(&mut self, form: &[u8], place: Place) -> Result<(), BearerFault> {
        let unread = |settled: &[u8]| fields::values(settled, Field::AccessToken).next().is_some();
        if let Cow::Owned(settled) = escape::settled(form)
            && unread(&settled)
        {
            return Err(BearerFault::Unclear { place, why: Unclear::Unreadable });
        }
        let mut values = fields::values(form, Field::AccessToken);
        let Some(value) = values.next() else { return Ok(()) };
        if values.next().is_some() {
            return Err(BearerFault::Repeated(place));
        }
        self.anywhere(Form::Authorization, place, &value)
    }

    fn cookies(&mut self, named: &[String], headers: &HeaderMap) -> Result<(), BearerFault> {
        for line in headers.get_all(http::header::COOKIE) {
            for (name, value) in name::cookies(line.as_bytes()) {
                if named.iter().any(|named| name::is_like(name, named)) {
                    if is_escaped(value) {
                        return Err(BearerFault::Unclear { place: Place::Cookie, why: Unclear::Unreadable });
                    }
                    self.anywhere(Form::Authorization, Place::Cookie, value)?;
                }
            }
        }
        Ok(())
    }

    /// Whatever stands in a value that others may use as well.
    fn anywhere(&mut self, form: Form, place: Place, value: &[u8]) -> Result<(), BearerFault> {
        if holds_json(value) {
            return Err(BearerFault::Unclear { place, why: Unclear::Unreadable });
        }
        let found = token::within(value).map_err(|why| BearerFault::Unclear { place, why })?;
        for Found { reading, token } in found {
            match (reading, token) {
                // The app's own, by a secret of its own.
                (Reading::NotAToken | Reading::Unclear(Unclear::NoIssuerSharedSecret), _) => {}
                (Reading::Token { issuer }, Some(token)) => self.named(form, place, &issuer, token)?,
                (Reading::Token { .. }, None) => {
                    return Err(BearerFault::Unclear { place, why: Unclear::Unreadable });
                }
                (Reading::Unclear(why), _) => return Err(BearerFault::Unclear { place, why }),
            }
        }
        Ok(())
    }

    /// A token that names its issuer: one of ours, or another person's, which is the app's own business.
    fn named(&mut self, form: Form, place: Place, issuer: &str, token: UntrustedIdToken) -> Result<(), BearerFault> {
        let Some(other) = self.providers.iter().find(|provider| provider.is_called(issuer)) else { return Ok(()) };
        let token = token.into_access_token().map_err(|why| BearerFault::Unreadable { place, why })?;
        match self.choose(form, issuer, &token) {
            Some(provider) => {
                self.keep(provider, token);
                Ok(())
            }
            None => {
                let expected = form_of(other).map_or("", |form| form.rules().header);
                Err(BearerFault::OtherHeader { place, provider: other.name.clone(), expected })
            }
        }
    }

    /// A header that holds a token and nothing else.
    fn whole(&mut self, form: Form, place: Place, value: &HeaderValue) -> Result<(), BearerFault> {
        let unreadable = |why| BearerFault::Unreadable { place, why };
        let text = value.to_str().map_err(|_| unreadable(IdTokenError::Parts { parts: 1 }))?;
        let token = match form.rules().padded {
            false => UntrustedIdToken::parse_access_token(text),
            true => UntrustedIdToken::parse_padded(text),
        };
        let token = token.map_err(unreadable)?;
        let provider = self.choose(form, token.issuer(), &token).ok_or(BearerFault::UnknownIssuer(place))?;
        self.keep(provider, token);
        Ok(())
    }

    /// The provider of that form whom a token names: for whom it is meant, or else of the issuer alone.
    fn choose(&self, form: Form, issuer: &str, token: &UntrustedIdToken) -> Option<Arc<Provider>> {
        let of_form = || {
            let providers = self.providers.iter().filter(|provider| form_of(provider) == Some(form));
            providers.filter(|provider| provider.is_called(issuer))
        };
        let is_meant = |provider: &&Arc<Provider>| match &provider.protocol {
            Protocol::Oidc(policy) if form.rules().signer == Signer::Issuer => token.names_audience(&policy.client_id),
            _ => true,
        };
        // One issuer may be configured under each of its names.
        let is_exact = |provider: &&Arc<Provider>| provider.issuer.as_str() == issuer;
        let exact = || of_form().filter(is_exact);
        let chosen = exact().find(is_meant).or_else(|| exact().next()).or_else(|| of_form().find(is_meant));
        chosen.or_else(|| of_form().next()).cloned()
    }

    fn keep(&mut self, provider: Arc<Provider>, token: UntrustedIdToken) {
        self.captured.push(Captured { provider, token: UntrustedToken::Presented(token) });
    }
}
