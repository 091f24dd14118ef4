//! The session of a browser: begun by a login, read at each request, ended by time, sign-out or the provider.
//!
//! The cookie holds 256 random bits and nothing else; what they mean is asked of the store, so that what an operator or the
//! provider ends is over. What was read serves the next requests for `session.cache` (one second unless configured).
//! Every login begins a session under a new id and ends the one that the browser brought: an attacker cannot plant an id that
//! a login then fills.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderMap, HeaderValue};
use prometheus_client::metrics::counter::Counter;

use super::cookies::{Jar, SameSite, Sealer, random_text};
use crate::clock::Clock;
use crate::config::SessionSettings;
use crate::login::Entered;
use crate::pipeline::ids::{ProviderName, Timestamp, UserId};
use crate::pipeline::reading::name;
use crate::pipeline::verify::Statement;
use crate::ports::rules::Rules;
use crate::ports::sessions::{AtProvider, Digest, LoggedOut, Logout, NewSession, Session, Sessions};
use crate::ports::store::StoreError;

/// The cookie's name, behind what all of ours begin with.
const COOKIE: &str = "s";
/// The cookie that says under which value of the app's cookie a session goes on.
const FOLLOWED: &str = "f";
/// Characters of an id: 32 bytes in base64url.
const ID_LENGTH: usize = 43;
/// Sessions that are remembered for the stated moment; past it, the oldest knowledge goes.
const MOST_CACHED: usize = 8192;
/// Bytes of an ID token that goes with a sign-out. Many servers take a request line of 8 KiB, and the rest of the address needs room.
const MOST_HINT: usize = 6 * 1024;
/// A session in use is noted at most so often: reading must not become writing.
const NOTED: Duration = Duration::from_secs(60);

/// Begins, finds and ends sessions.
pub struct Desk {
    store: Arc<dyn Sessions>,
    rules: Arc<Rules>,
    clock: Clock,
    sealer: Sealer,
    settings: SessionSettings,
    providers: Vec<ProviderName>,
    cache: Mutex<HashMap<Digest, (Timestamp, Arc<Session>)>>,
    unbound: Counter,
}

/// What a session needs to know besides the login that it begins with.
#[derive(Default)]
pub struct Beginning<'a> {
    /// The value of the app's own session cookie, as the app has just set it.
    pub app_cookie: Option<&'a [u8]>,
    pub refresh_token: Option<&'a str>,
    /// The ID token of the login, which tells the provider at a sign-out whose session ends.
    pub id_token: Option<&'a str>,
}

impl Desk {
    pub fn new(
        store: Arc<dyn Sessions>,
        rules: Arc<Rules>,
        clock: Clock,
        sealer: Sealer,
        settings: &SessionSettings,
        providers: Vec<ProviderName>,
        unbound: Counter,
    ) -> Self {
        let settings = settings.clone();
        let sealer = sealer.of_domain(settings.cookie_domain.as_deref());
        Self { store, rules, clock, sealer, settings, providers, cache: Mutex::default(), unbound }
    }

    pub fn settings(&self) -> &SessionSettings {
        &self.settings
    }

    /// The live session of a browser. One that is bound to the app's own cookie counts only with it.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn current(&self, jar: &Jar, headers: &HeaderMap) -> Result<Option<Arc<Session>>, StoreError> {
        let Some(key) = self.key(jar) else { return Ok(None) };
        let Some(session) = self.find(key).await? else { return Ok(None) };
        Ok(self.is_bound_here(&session, jar, headers).then_some(session))
    }

    /// The live session of a browser's cookie, whatever it is bound to: for what only ever ends it.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn peek(&self, jar: &Jar) -> Result<Option<Arc<Session>>, StoreError> {
        match self.key(jar) {
            Some(key) => self.find(key).await,
            None => Ok(None),
        }
    }

    /// Takes the browser's cookie away, whatever it means.
    pub fn clear(&self, headers: &mut HeaderMap) {
        self.sealer.clear(&self.sealer.name(COOKIE), headers);
    }

    /// Whether the browser holds a live session that began with this very token: it has come again.
    pub async fn began_with(&self, jar: &Jar, provider: &ProviderName, token: &str) -> bool {
        match self.peek(jar).await {
            Ok(Some(session)) => session.provider == *provider && session.token == token,
            Ok(None) | Err(_) => false,
        }
    }

    fn key(&self, jar: &Jar) -> Option<Digest> {
        let id = self.sealer.cookie(jar, COOKIE)?;
        (id.len() == ID_LENGTH).then(|| Digest::of(id.as_bytes()))
    }

    /// A session by its key, from the store or as it was a moment ago.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn find(&self, key: Digest) -> Result<Option<Arc<Session>>, StoreError> {
        let now = self.clock.now();
        if let Some(session) = self.cached(&key, now) {
            return Ok(Some(session));
        }
        let found = self.store.find(key, self.rules.current(), now).await?;
        let known = |session: &Session| self.providers.contains(&session.provider);
        let Some(mut session) = found.filter(known) else {
            self.forget(&key);
            return Ok(None);
        };
        if now >= session.seen_at.plus(NOTED.min(self.settings.idle / 8)) {
            (session.seen_at, session.idle_until) = (now, now.plus(self.settings.idle));
            // A store that can be read and not written lets people go on for as long as they were allowed to.
            if let Err(error) = self.store.extend(key, session.seen_at, session.idle_until).await {
                tracing::warn!(%error, "the use of a session could not be noted");
            }
        }
        let session = Arc::new(session);
        self.remember(key, now, &session);
        Ok(Some(session))
    }

    fn cached(&self, key: &Digest, now: Timestamp) -> Option<Arc<Session>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, session) = cache.get(key)?;
        let fresh = now < read_at.plus(self.settings.cache) && now < session.idle_until && now < session.expires_at;
        fresh.then(|| Arc::clone(session))
    }

    fn remember(&self, key: Digest, now: Timestamp, session: &Arc<Session>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= MOST_CACHED {
            cache.retain(|_, (read_at, _)| now < read_at.plus(self.settings.cache));
        }
        if cache.len() < MOST_CACHED {
            cache.insert(key, (now, Arc::clone(session)));
        }
    }

    /// Forgets what was read of a session, so that the next request asks the store.
    pub fn forget(&self, key: &Digest) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn is_bound_here(&self, session: &Session, jar: &Jar, headers: &HeaderMap) -> bool {
        match (&session.app_cookie, &self.settings.app_cookie) {
            (None, _) => true,
            (Some(bound), Some(name)) => only_cookie(headers, name)
                .map(Digest::of)
                .is_some_and(|value| value == *bound || self.followed(session, jar) == Some(value)),
            // The configuration no longer says which cookie that was.
            (Some(_), None) => false,
        }
    }

    /// The value of the app's cookie that this session was last seen to go on under, as the browser brings it, sealed for this session
    /// alone.
    fn followed(&self, session: &Session, jar: &Jar) -> Option<Digest> {
        let sealed = self.sealer.cookie(jar, FOLLOWED).filter(|_| self.settings.follows_app)?;
        let plain = self.sealer.unseal(&followed_name(&session.key), &URL_SAFE_NO_PAD.decode(sealed).ok()?)?;
        plain.try_into().ok().map(Digest)
    }

    /// Looks at an answer of the app to a request of a session that is bound to the app's own cookie. Where the app renews that
    /// cookie, the session goes on under the new value if the operator says so, and else tells the app nothing any more.
    ///
    /// `may_follow` is false at addresses by which another person may come in: one person's headers must not go on under another's
    /// session.
    pub fn app_answered(&self, session: &Session, jar: &Jar, headers: &mut HeaderMap, may_follow: bool) {
        let (Some(bound), Some(name)) = (&session.app_cookie, &self.settings.app_cookie) else { return };
        let Some(value) = set_by_app(headers, name).map(Digest::of) else { return };
        if value == *bound || self.followed(session, jar) == Some(value) {
            return;
        }
        if may_follow
            && self.settings.follows_app
            && let Some(sealed) = self.sealer.seal(&followed_name(&session.key), &value.0)
        {
            let sealed = URL_SAFE_NO_PAD.encode(sealed);
            self.sealer.set(&self.sealer.name(FOLLOWED), &sealed, None, SameSite::None, headers);
            return;
        }
        self.unbound.inc();
        tracing::warn!(
            id = session.login, provider = %session.provider, cookie = name,
            "the app renewed its session cookie, so that identity headers stop until the next login; \
             `app_session_renewal = \"follow\"` lets a session go on, except at `logout_paths`, `login_paths` and callbacks"
        );
    }

    /// Begins a session with a login that was just committed, and gives the browser its id. Answers `false` where no session
    /// begins, since the user was disabled meanwhile.
    ///
    /// # Errors
    /// When the store, or the system's randomness, does not answer.
    pub async fn begin(
        &self,
        login: &str,
        entered: &Entered,
        beginning: Beginning<'_>,
        jar: &Jar,
        headers: &mut HeaderMap,
    ) -> Result<bool, StoreError> {
        let id = random_text()
            .ok_or_else(|| StoreError::Unavailable("the operating system returned no random bytes".into()))?;
        let key = Digest::of(id.as_bytes());
        let before = self.key(jar);
        let now = self.clock.now();
        let assertion = entered.assertion.get();
        let expires_at = now.plus(self.settings.absolute);
        let session = NewSession {
            key,
            replaces: before,
            user: entered.plan.user.clone(),
            provider: assertion.provider.clone(),
            login: login.to_owned(),
            token: assertion.token_id.clone(),
            at_provider: at_provider(&assertion.statement),
            app_cookie: beginning.app_cookie.map(Digest::of),
            refresh: beginning.refresh_token.and_then(|token| self.seal_refresh(&key, token)),
            hint: beginning.id_token.and_then(|token| self.seal_hint(&key, token)),
            now,
            idle_until: now.plus(self.settings.idle),
            expires_at,
            most: self.settings.most_per_user,
        };
        // Bound to the app's own cookie, which the app guards as it likes, ours may come with what another site posts: a
        // provider's answer that arrives a second time. By itself it must not, unless the operator says so.
        let same_site = if beginning.app_cookie.is_some() { SameSite::None } else { self.settings.same_site };
        let begun = self.store.begin(session).await?;
        if let Some(before) = before {
            self.forget(&before);
        }
        if begun {
            self.sealer.set(&self.sealer.name(COOKIE), &id, None, same_site, headers);
        }
        Ok(begun)
    }

    /// Ends the browser's session, whatever it is bound to, and takes its cookie away. Answers what ended.
    ///
    /// # Errors
    /// When the store cannot be asked; then the session is still there.
    pub async fn end(&self, jar: &Jar, headers: &mut HeaderMap) -> Result<Option<Arc<Session>>, StoreError> {
        let Some(key) = self.key(jar) else { return Ok(None) };
        let session = self.find(key).await?;
        self.store.end(key).await?;
        self.forget(&key);
        self.sealer.clear(&self.sealer.name(COOKIE), headers);
        if self.sealer.cookie(jar, FOLLOWED).is_some() {
            self.sealer.clear(&self.sealer.name(FOLLOWED), headers);
        }
        Ok(session)
    }

    /// The live sessions of a user, newest first.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn of_user(&self, user: UserId) -> Result<Vec<Digest>, StoreError> {
        self.store.of_user(user, self.clock.now()).await
    }

    /// Ends one session.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn end_one(&self, key: Digest) -> Result<(), StoreError> {
        self.store.end(key).await?;
        self.forget(&key);
        Ok(())
    }

    /// Ends what a provider says has ended.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn log_out(&self, logout: Logout) -> Result<LoggedOut, StoreError> {
        let outcome = self.store.log_out(logout).await;
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).clear();
        outcome
    }

    /// The refresh token of a session, if it has one that opens.
    pub fn refresh_token(&self, session: &Session) -> Option<zeroize::Zeroizing<String>> {
        let sealed = session.refresh.as_deref()?;
        let plain = self.sealer.unseal(&refresh_name(&session.key), sealed)?;
        String::from_utf8(plain).ok().map(zeroize::Zeroizing::new)
    }

    /// The ID token that a session began with, if it was kept and opens.
    pub fn hint(&self, session: &Session) -> Option<zeroize::Zeroizing<String>> {
        let plain = self.sealer.unseal(&hint_name(&session.key), session.hint.as_deref()?)?;
        String::from_utf8(plain).ok().map(zeroize::Zeroizing::new)
    }

    /// A token that no address would take is not kept.
    fn seal_hint(&self, key: &Digest, token: &str) -> Option<Vec<u8>> {
        let fits = token.len() <= MOST_HINT;
        fits.then(|| self.sealer.seal(&hint_name(key), token.as_bytes())).flatten()
    }

    /// Notes that a session was synced, and with what to ask next time.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn renewed(&self, session: &Session, refresh_token: Option<&str>) -> Result<(), StoreError> {
        let refresh = match refresh_token {
            Some(token) => self.seal_refresh(&session.key, token),
            // What is kept stays: the one that this session was read with may be spent.
            None => None,
        };
        self.store.renewed(session.key, refresh, self.clock.now()).await?;
        self.forget(&session.key);
        Ok(())
    }

    /// Takes over the provider's name for its session, where a renewal brought another one.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn follow(&self, session: &Session, entered: &Entered) -> Result<(), StoreError> {
        let named = at_provider(&entered.assertion.get().statement).session;
        let Some(named) = named.filter(|named| session.at_provider.session.as_ref() != Some(named)) else {
            return Ok(());
        };
        self.store.renamed(session.key, named).await?;
        self.forget(&session.key);
        Ok(())
    }

    fn seal_refresh(&self, key: &Digest, token: &str) -> Option<Vec<u8>> {
        // Kept only where it is ever used.
        self.settings.renew?;
        self.sealer.seal(&refresh_name(key), token.as_bytes())
    }
}

fn followed_name(key: &Digest) -> Vec<u8> {
    [b"followed:", key.0.as_slice()].concat()
}

fn hint_name(key: &Digest) -> Vec<u8> {
    [b"hint:", key.0.as_slice()].concat()
}

fn refresh_name(key: &Digest) -> Vec<u8> {
    [b"refresh:", key.0.as_slice()].concat()
}

/// What the provider calls this person and this session of theirs.
fn at_provider(statement: &Statement) -> AtProvider {
    match statement {
        Statement::Oidc(claims) | Statement::Userinfo(claims) => {
            let text = |claim: &str| claims.get(claim).and_then(serde_json::Value::as_str).map(str::to_owned);
            AtProvider { subject: text("sub").unwrap_or_default(), session: text("sid"), ..AtProvider::default() }
        }
        Statement::Saml(statement) => {
            let session = statement.session_index.clone();
            match statement.name_id.clone() {
                Some(name) => AtProvider {
                    subject: name.value,
                    session,
                    name_format: name.format,
                    name_qualifier: name.name_qualifier,
                    sp_name_qualifier: name.sp_name_qualifier,
                },
                None => AtProvider { session, ..AtProvider::default() },
            }
        }
    }
}

/// The value of the one cookie of a name that a request brings. `None` where readers may take another one for it: the app might.
fn only_cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let lines = || headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let alike = lines().flat_map(name::cookies).filter(|(named, _)| name::is_like(named, name));
    if alike.count() != 1 {
        return None;
    }
    lines().flat_map(|line| line.split(|byte| *byte == b';')).find_map(|pair| {
        let (known, value) = pair.trim_ascii().split_at_checked(name.len())?;
        (known == name.as_bytes()).then(|| value.strip_prefix(b"=")).flatten()
    })
}

/// The value that an answer of the app sets a cookie to; `None` also where the answer clears it.
pub fn set_by_app<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let mut set = headers.get_all(header::SET_COOKIE).iter().filter_map(|line| {
        let pair = line.as_bytes().split(|byte| *byte == b';').next()?.trim_ascii();
        let (known, value) = pair.split_at_checked(name.len())?;
        (known == name.as_bytes()).then(|| value.strip_prefix(b"=")).flatten()
    });
    // The last one wins in a browser (RFC 6265 section 5.3).
    set.next_back().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_static(line));
        }
        headers
    }

    #[test]
    fn the_apps_cookie_is_the_only_one_of_its_name() {
        let cases: [(&[&'static str], Option<&str>); 24] = [
            (&["sid=1"], Some("1")),
            (&["a=b; sid=1; c=d"], Some("1")),
            (&["a=b;sid=x=y "], Some("x=y")),
            (&["xsid=1; sidx=2; sid"], None),
            (&["sid=1; sid=2"], None),
            (&["sid=1", "sid=2"], None),
            (&["sid =2; sid=1"], None),
            (&["sid=1; sid\t=2"], None),
            (&["sid; sid=1"], None),
            (&["\"sid\"=2; sid=1"], None),
            (&["a=1,sid=2; sid=1"], None),
            (&["%73id=2; sid=1"], None),
            (&["SID=2; sid=1"], None),
            (&["sid[]=2; sid=1"], None),
            (&["sid =2"], None),
            (&["sid=1; x=y sid=2"], None),
            (&["sid=1; x=y\tsid=2"], None),
            (&["s[id=2; s_id=1"], None),
            (&["sid=1; .sid=2"], None),
            (&["sid=1; __Secure-sid=2"], None),
            (&["__Host-sid=2"], None),
            (&["sid=1,2"], Some("1,2")),
            (&["a=1,2; sid=1"], Some("1")),
            (&[], None),
        ];
        for (lines, expected) in cases {
            let headers = headers(header::COOKIE, lines);
            assert_eq!(only_cookie(&headers, "sid"), expected.map(str::as_bytes), "{lines:?}");
        }
        for padded in [b"sid=1; \xa0sid=2".as_slice(), b"sid=1; sid\x85=2"] {
            let mut headers = HeaderMap::new();
            headers.append(header::COOKIE, HeaderValue::from_bytes(padded).unwrap());
            assert_eq!(only_cookie(&headers, "sid"), None, "{padded:?}");
        }
        let set = headers(header::SET_COOKIE, &["other=1", "sid=1; Path=/", "sid=2; HttpOnly"]);
        assert_eq!(set_by_app(&set, "sid"), Some(&b"2"[..]));
        assert_eq!(set_by_app(&headers(header::SET_COOKIE, &["sid=; Max-Age=0"]), "sid"), None);
    }
}
