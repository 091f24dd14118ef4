//! Keys that are fetched: from an issuer's discovery document, a JWK Set, SAML metadata, or files.
//!
//! Each provider has a task that refreshes its copy in the background, so that a login neither waits for the provider nor
//! fails because it cannot be reached: the last good copy serves for `max_stale`. A copy is swapped, never emptied. A key
//! that a token names and the copy lacks makes the task look again, at most once in [`COOL_DOWN`], after failures too. A few
//! looks are free of that pause ([`MOST_FREE_LOOKS`]), so that a key which is rotated just after a fetch is found at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value};
use tokio::time::Instant;
use url::Url;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::{KeySource, KeysError, Offered, Published};
use crate::clock::Clock;
use crate::config::{Endpoint, KeyOrigin, ProviderSettings};
use crate::pipeline::ids::{ProviderName, Timestamp};
use crate::pipeline::verify::ProviderKeys;
use crate::pipeline::verify::oidc::discovery::{self, Discovered};
use crate::pipeline::verify::oidc::keys::KeySet;
use crate::pipeline::verify::saml::metadata;
use crate::ports::BoxFuture;
use crate::ports::http::{FetchError, HttpClient};

/// The shortest time between two fetches for one provider, regardless of the caller.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// How many looks may come within [`COOL_DOWN`] of another fetch. Strangers can use them up, so they come back slowly.
const MOST_FREE_LOOKS: u32 = 2;
/// After how long a free look that was used is there again.
const FREE_LOOK_AFTER: Duration = Duration::from_secs(60);
/// The first pause after a fetch that failed; each further one doubles, up to the refresh interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The same for keys that are had one by one: a load balancer has several, and each comes with the first token of its own.
const ONE_BY_ONE_PAUSE: Duration = Duration::from_secs(1);
/// How many of those are kept.
const MOST_ONE_BY_ONE: usize = 16;
const MAX_PEM: usize = 16 * 1024;
const MAX_JSON: usize = 1024 * 1024;
const MAX_METADATA: usize = 16 * 1024 * 1024;

/// The key source of a running proxy. Its tasks end when it is dropped.
pub struct FetchedKeys {
    slots: HashMap<ProviderName, Arc<Slot>>,
    cool_down: Duration,
}

/// One provider's copy.
struct Slot {
    settings: ProviderSettings,
    /// `None` where keys come from files: the certificate authorities that a client trusts take memory and time to read.
    client: Option<HttpClient>,
    clock: Clock,
    published: ArcSwapOption<Published>,
    /// One fetch at a time, and what became of the last one.
    fetching: tokio::sync::Mutex<Fetching>,
    /// What the last fetched documents were complained about, so that each complaint is logged once.
    complaints: Mutex<Vec<String>>,
    /// The same for a key that is had by itself.
    fetching_one: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Fetching {
    last: Option<LastFetch>,
    free: FreeLooks,
}

/// When a fetch began and ended, and whether it brought a copy.
#[derive(Clone, Copy)]
struct LastFetch {
    began: Instant,
    /// `None` for one whose caller went away.
    ended: Option<Instant>,
    succeeded: bool,
}

/// Looks that need not wait for the cool-down.
#[derive(Default)]
struct FreeLooks {
    /// When each was used, the oldest first.
    used: Vec<Instant>,
}

impl FreeLooks {
    /// Uses one, if one is left.
    fn take(&mut self) -> bool {
        self.used.retain(|at| at.elapsed() < FREE_LOOK_AFTER);
        let left = self.used.len() < MOST_FREE_LOOKS as usize;
        if left {
            self.used.push(Instant::now());
        }
        left
    }
}

/// Whether a fetch may come within the cool-down of another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hurry {
    /// A token names a key that the copy lacks.
    NewKey,
    None,
}

impl FetchedKeys {
    /// Starts fetching for every provider. `previous` lends its copies where a provider's settings are the same, so that a
    /// reload does not start from nothing.
    ///
    /// # Errors
    /// When a CA file cannot be used.
    pub fn start(
        providers: &[ProviderSettings],
        clock: &Clock,
        previous: Option<&FetchedKeys>,
    ) -> Result<Self, FetchError> {
        let mut slots = HashMap::new();
        for settings in providers {
            let slot = Arc::new(Slot {
                client: client_for(settings)?,
                settings: settings.clone(),
                clock: clock.clone(),
                published: ArcSwapOption::new(previous.and_then(|previous| previous.lend(settings))),
                fetching: tokio::sync::Mutex::default(),
                complaints: Mutex::default(),
                fetching_one: tokio::sync::Mutex::default(),
            });
            tokio::spawn(refresh(Arc::downgrade(&slot)));
            slots.insert(settings.provider.name.clone(), slot);
        }
        Ok(Self { slots, cool_down: COOL_DOWN })
    }

    /// Another pause between fetches that logins ask for. For tests, which cannot wait.
    #[must_use]
    pub fn with_cool_down(mut self, cool_down: Duration) -> Self {
        self.cool_down = cool_down;
        self
    }

    fn lend(&self, settings: &ProviderSettings) -> Option<Arc<Published>> {
        let slot = self.slots.get(&settings.provider.name)?;
        let same = slot.settings.keys == settings.keys && slot.settings.provider.issuer == settings.provider.issuer;
        same.then(|| slot.published.load_full()).flatten()
    }

    fn slot(&self, provider: &ProviderName) -> Result<Arc<Slot>, KeysError> {
        self.slots.get(provider).cloned().ok_or_else(|| KeysError::NotYet(provider.clone()))
    }
}

impl KeySource for FetchedKeys {
    fn current(&self, provider: &ProviderName) -> BoxFuture<'_, Result<Arc<Published>, KeysError>> {
        let slot = self.slot(provider);
        Box::pin(async move {
            let slot = slot?;
            match slot.usable() {
                Err(_) => {
                    slot.fetch_unless_recent(self.cool_down, Hurry::None).await;
                    slot.usable()
                }
                usable => usable,
            }
        })
    }

    fn look_again(&self, provider: &ProviderName) -> BoxFuture<'_, Result<Arc<Published>, KeysError>> {
        let slot = self.slot(provider);
        Box::pin(async move {
            let slot = slot?;
            slot.fetch_unless_recent(self.cool_down, Hurry::NewKey).await;
            slot.usable()
        })
    }

    fn look_for<'a>(
        &'a self,
        provider: &ProviderName,
        key_id: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Published>, KeysError>> {
        let slot = self.slot(provider);
        Box::pin(async move {
            let slot = slot?;
            match &slot.settings.keys.source {
                KeyOrigin::OneByOne(base) => slot.fetch_one_unless_recent(base, key_id, self.cool_down).await,
                _ => {
                    slot.fetch_unless_recent(self.cool_down, Hurry::NewKey).await;
                }
            }
            slot.usable()
        })
    }

    fn endpoints(&self, provider: &ProviderName) -> Vec<String> {
        let Some(slot) = self.slots.get(provider) else { return Vec::new() };
        let configured = slot.settings.keys.endpoint.clone();
        let published = slot.published.load();
        let published = published.iter().flat_map(|published| published.endpoints.iter().cloned());
        configured.into_iter().chain(published).collect()
    }

    fn endpoint(&self, provider: &ProviderName, endpoint: Endpoint) -> Option<String> {
        let slot = self.slots.get(provider)?;
        let keys = &slot.settings.keys;
        if let Some((_, named)) = keys.named.iter().find(|(known, _)| *known == endpoint) {
            return Some(named.to_string());
        }
        let published = slot.published.load_full()?;
        // RFC 8705 section 5: clients that show a certificate may have addresses of their own.
        let document = published.document.as_deref().filter(|_| keys.identity.is_some());
        let aliases = document.and_then(|document| document.get("mtls_endpoint_aliases"));
        let alias = aliases.and_then(|aliases| aliases.get(endpoint.member())).and_then(Value::as_str);
        let offered = &published.offered;
        let offered = match endpoint {
            Endpoint::Token => &offered.token,
            Endpoint::Userinfo => &offered.userinfo,
            Endpoint::Revocation => &offered.revocation,
            Endpoint::EndSession => &offered.end_session,
        };
        alias.map(str::to_owned).or_else(|| offered.clone())
    }

    fn document(&self, provider: &ProviderName) -> Option<Arc<Map<String, Value>>> {
        self.slots.get(provider)?.published.load_full()?.document.clone()
    }

    fn fetched_at(&self, provider: &ProviderName) -> Option<Timestamp> {
        Some(self.slots.get(provider)?.published.load_full()?.fetched_at)
    }

    fn ready(&self, provider: &ProviderName) -> bool {
        self.slots.get(provider).is_some_and(|slot| slot.usable().is_ok())
    }
}

/// Fetches one provider's keys, once, for a look alone: an error says what a background task would have logged.
/// `key_id` is the one that the token names.
///
/// # Errors
/// When the provider does not answer, or a file cannot be read.
pub async fn fetch_once(
    settings: &ProviderSettings,
    key_id: Option<&str>,
    clock: &Clock,
) -> Result<Published, FetchError> {
    let slot = Slot {
        client: client_for(settings)?,
        settings: settings.clone(),
        clock: clock.clone(),
        published: ArcSwapOption::empty(),
        fetching: tokio::sync::Mutex::default(),
        complaints: Mutex::default(),
        fetching_one: tokio::sync::Mutex::default(),
    };
    if let (KeyOrigin::OneByOne(base), Some(key_id)) = (&settings.keys.source, key_id) {
        slot.fetch_one_unless_recent(base, key_id, Duration::ZERO).await;
    }
    slot.fetch().await
}

fn client_for(settings: &ProviderSettings) -> Result<Option<HttpClient>, FetchError> {
    match settings.keys.source {
        KeyOrigin::Discovery | KeyOrigin::JwksUrl(_) | KeyOrigin::MetadataUrl(_) | KeyOrigin::OneByOne(_) => {
            let client = HttpClient::new(settings.keys.ca_file.as_deref(), None, settings.keys.egress.as_ref())?;
            Ok(Some(client.allowing_http(settings.keys.allow_http)))
        }
        KeyOrigin::JwksFile(_) | KeyOrigin::MetadataFile(_) | KeyOrigin::Certificates(_) => Ok(None),
    }
}

/// Keeps one copy fresh until it is dropped.
async fn refresh(slot: Weak<Slot>) {
    let mut pause = Duration::ZERO;
    let mut retry = FIRST_RETRY;
    loop {
        tokio::time::sleep(pause).await;
        let Some(slot) = slot.upgrade() else { return };
        let interval = slot.settings.keys.refresh;
        // A login that came first at a start has fetched already.
        if slot.fetch_unless_recent(FIRST_RETRY, Hurry::None).await {
            (pause, retry) = (interval, FIRST_RETRY);
        } else {
            pause = retry.min(interval);
            retry = retry.saturating_mul(2);
        }
    }
}

impl Slot {
    fn usable(&self) -> Result<Arc<Published>, KeysError> {
        let name = &self.settings.provider.name;
        let published = self.published.load_full().ok_or_else(|| KeysError::NotYet(name.clone()))?;
        match self.clock.now() > published.fetched_at.plus(self.settings.keys.max_stale) {
            true => Err(KeysError::TooStale(name.clone())),
            false => Ok(published),
        }
    }

    /// Fetches, unless another fetch began less than `pause` ago. A caller that waited for that one shares its outcome. Returns
    /// whether the copy is of this fetch, or of that one.
    async fn fetch_unless_recent(&self, pause: Duration, hurry: Hurry) -> bool {
        let asked = Instant::now();
        let mut fetching = self.fetching.lock().await;
        if let Some(last) = fetching.last.filter(|last| last.began.elapsed() < pause) {
            let waited_for = last.ended.is_some_and(|ended| ended >= asked);
            if waited_for || hurry == Hurry::None || !fetching.free.take() {
                return last.succeeded;
            }
        }
        let began = Instant::now();
        // A fetch whose caller goes away counts as one that failed.
        fetching.last = Some(LastFetch { began, ended: None, succeeded: false });
        let outcome = self.fetch().await;
        fetching.last = Some(LastFetch { began, ended: Some(Instant::now()), succeeded: outcome.is_ok() });
        let name = &self.settings.provider.name;
        match outcome {
            Ok(published) => {
                tracing::debug!(provider = %name, "keys fetched");
                self.complain(&published.complaints);
                self.published.store(Some(Arc::new(published)));
                true
            }
            Err(error) => {
                match self.published.load().is_some() {
                    true => {
                        tracing::warn!(provider = %name, %error, "failed to fetch the provider's keys; using the last good copy");
                    }
                    false => tracing::warn!(
                        provider = %name, %error,
                        "failed to fetch the provider's keys; no login through it is possible until they are fetched; retrying"
                    ),
                }
                false
            }
        }
    }

    /// Logs what the provider's documents were complained about, each complaint once.
    fn complain(&self, complaints: &[String]) {
        let mut known = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        for complaint in complaints.iter().filter(|complaint| !known.contains(complaint)) {
            tracing::warn!(provider = %self.settings.provider.name, complaint, "the provider publishes something that cannot be used");
        }
        complaints.clone_into(&mut known);
    }

    /// Fetches one key by its name, unless one was fetched less than `pause` ago. A sender of tokens may name keys, so
    /// that names which are none cost no fetch at all.
    async fn fetch_one_unless_recent(&self, base: &Url, key_id: &str, pause: Duration) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if key_id.is_empty() || key_id.len() > 64 || !key_id.bytes().all(plain) {
            return;
        }
        let mut began = self.fetching_one.lock().await;
        if self.published.load().as_ref().is_some_and(|published| holds(published, key_id))
            || began.is_some_and(|at| at.elapsed() < pause.min(ONE_BY_ONE_PAUSE))
        {
            return;
        }
        *began = Some(Instant::now());
        let name = &self.settings.provider.name;
        match self.fetch_one(base, key_id).await {
            Ok(newer) => {
                let before = self.published.load_full();
                let keys = match before.as_deref() {
                    Some(Published { keys: ProviderKeys::Oidc(keys), .. }) => keys.extended(newer, MOST_ONE_BY_ONE),
                    _ => newer,
                };
                self.published.store(Some(Arc::new(by_keys(ProviderKeys::Oidc(keys), self.clock.now()))));
            }
            Err(error) => tracing::warn!(provider = %name, %error, "a key that a token names could not be fetched"),
        }
    }

    async fn fetch_one(&self, base: &Url, key_id: &str) -> Result<KeySet, FetchError> {
        let address = format!("{}/{key_id}", base.as_str().trim_end_matches('/'));
        let pem = self.client()?.get(&address, MAX_PEM).await?;
        let jwk = pem_jwk(&pem, key_id).ok_or_else(|| FetchError::Content("not a P-256 key in PEM".into()))?;
        let jwks = serde_json::json!({"keys": [jwk]}).to_string();
        KeySet::read(jwks.as_bytes()).map_err(|why| FetchError::Content(why.to_string()))
    }

    fn client(&self) -> Result<&HttpClient, FetchError> {
        self.client.as_ref().ok_or_else(|| FetchError::Content("these keys come from files".into()))
    }

    async fn fetch(&self) -> Result<Published, FetchError> {
        let now = self.clock.now();
        match &self.settings.keys.source {
            KeyOrigin::Discovery => self.discover(now).await,
            KeyOrigin::JwksUrl(url) => self.published_jwks(&self.client()?.get(url.as_str(), MAX_JSON).await?, now),
            KeyOrigin::JwksFile(path) => self.published_jwks(&read_file(path).await?, now),
            KeyOrigin::MetadataUrl(url) => {
                self.published_metadata(self.client()?.get(url.as_str(), MAX_METADATA).await?, now)
            }
            KeyOrigin::MetadataFile(path) => self.published_metadata(read_file(path).await?, now),
            // A key never changes under its name, and which there are only tokens say.
            KeyOrigin::OneByOne(_) => match self.published.load_full().as_deref() {
                Some(Published { keys: ProviderKeys::Oidc(keys), .. }) => {
                    Ok(by_keys(ProviderKeys::Oidc(keys.clone()), now))
                }
                _ => Ok(by_keys(ProviderKeys::Oidc(KeySet::default()), now)),
            },
            KeyOrigin::Certificates(certificates) => {
                let keys = ProviderKeys::Saml(certificates.clone());
                let offered = Offered { sso: self.settings.keys.endpoint.clone(), ..Offered::default() };
                Ok(Published { offered, ..by_keys(keys, now) })
            }
        }
    }

    async fn discover(&self, now: Timestamp) -> Result<Published, FetchError> {
        let issuer = self.settings.provider.issuer.as_str();
        let client = self.client()?;
        let document = client.get(&discovery::address(issuer), MAX_JSON).await?;
        let found = discovery::read(&document, issuer).map_err(|why| FetchError::Content(why.to_string()))?;
        let Some(jwks_uri) = &found.jwks_uri else {
            let told = found.complaints.iter().find(|complaint| complaint.starts_with("`jwks_uri`"));
            let why = told.map_or("`jwks_uri` is missing", String::as_str);
            return Err(FetchError::Content(format!("the discovery document: {why}; set `jwks_url` by hand")));
        };
        let published = self.published_jwks(&client.get(jwks_uri, MAX_JSON).await?, now)?;
        Ok(self.with_discovered(published, found))
    }

    /// What the operator has set by hand stands above what the issuer's document says.
    fn with_discovered(&self, mut published: Published, found: Discovered) -> Published {
        let by_hand = published.offered;
        published.offered = Offered {
            authorization: by_hand.authorization.or(found.authorization_endpoint),
            token: by_hand.token.or(found.token_endpoint),
            userinfo: by_hand.userinfo.or(found.userinfo_endpoint),
            revocation: by_hand.revocation.or(found.revocation_endpoint),
            end_session: by_hand.end_session.or(found.end_session_endpoint),
            names_issuer: found.names_issuer,
            ..Offered::default()
        };
        published.endpoints = published.offered.authorization.iter().cloned().collect();
        published.document = Some(Arc::new(found.document));
        published.complaints.extend(found.complaints.into_iter().map(|why| format!("the discovery document: {why}")));
        published
    }

    /// The addresses that the operator has set by hand.
    fn by_hand(&self) -> Offered {
        let keys = &self.settings.keys;
        let named =
            |endpoint| keys.named.iter().find(|(known, _)| *known == endpoint).map(|(_, address)| address.to_string());
        Offered {
            authorization: keys.endpoint.clone(),
            token: named(Endpoint::Token),
            userinfo: named(Endpoint::Userinfo),
            revocation: named(Endpoint::Revocation),
            end_session: named(Endpoint::EndSession),
            ..Offered::default()
        }
    }

    fn published_jwks(&self, document: &[u8], now: Timestamp) -> Result<Published, FetchError> {
        let keys = KeySet::read(document).map_err(|why| FetchError::Content(format!("the JWK Set {why}")))?;
        let complaints = keys.unusable().iter().map(|key| format!("the JWK Set: {key}")).collect();
        let offered = self.by_hand();
        let endpoints = offered.authorization.iter().cloned().collect();
        Ok(Published { endpoints, offered, complaints, ..by_keys(ProviderKeys::Oidc(keys), now) })
    }

    fn published_metadata(&self, document: Vec<u8>, now: Timestamp) -> Result<Published, FetchError> {
        let content = |error: &dyn std::fmt::Display| FetchError::Content(error.to_string());
        let text = String::from_utf8(document).map_err(|error| content(&error))?;
        let metadata =
            metadata::read(&text, self.settings.provider.issuer.as_str(), now).map_err(|error| content(&error))?;
        Ok(Published {
            endpoints: metadata.sso_locations,
            offered: Offered { sso: metadata.sso_redirect, slo: metadata.slo, ..Offered::default() },
            complaints: metadata.skipped.iter().map(|why| format!("the metadata: {why}; it is not used")).collect(),
            ..by_keys(ProviderKeys::Saml(metadata.certificates), now)
        })
    }
}

/// A copy of keys alone, without addresses.
fn by_keys(keys: ProviderKeys, now: Timestamp) -> Published {
    Published {
        keys,
        endpoints: Vec::new(),
        offered: Offered::default(),
        document: None,
        complaints: Vec::new(),
        fetched_at: now,
    }
}

fn holds(published: &Published, key_id: &str) -> bool {
    matches!(&published.keys, ProviderKeys::Oidc(keys) if keys.holds(key_id))
}

/// An elliptic curve key in PEM (RFC 5480) as a JWK (RFC 7518 section 6.2).
fn pem_jwk(pem: &[u8], key_id: &str) -> Option<Value> {
    const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    let info = SubjectPublicKeyInfoRef::from_der(&der).ok()?;
    if info.algorithm.oids().ok()? != (EC_PUBLIC_KEY, Some(P256)) {
        return None;
    }
    // An uncompressed point: 4, x, y (SEC 1 section 2.3.3).
    let (form, point) = info.subject_public_key.as_bytes()?.split_first()?;
    let (x, y) = point.split_at_checked(32).filter(|(_, y)| *form == 4 && y.len() == 32)?;
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    Some(serde_json::json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": key_id, "x": text(x), "y": text(y),
    }))
}

async fn read_file(path: &std::path::Path) -> Result<Vec<u8>, FetchError> {
    tokio::fs::read(path).await.map_err(|error| FetchError::Content(format!("`{}`: {error}", path.display())))
}
