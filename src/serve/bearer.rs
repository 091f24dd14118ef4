//! Tokens that requests bear: each is verified once, synced when it says something new, and then remembered for a moment.
//!
//! ```text
//! capture::bearer::read    every token that an app could read: headers, query, and what `[bearer]` names
//! one_person               several tokens speak of one person, or nothing of them is synced
//! tokens                   (provider, digest of the token): verified a moment ago?
//! login::recognise         verified, and its claims read
//! people                   (provider, person): do these claims say what was synced last?
//! login::sync              no: one more login
//! ```
//!
//! What is remembered is no older than `bearer.cache_age`, so that a revocation shows after that. It holds for the rules by which it
//! was decided: after a change of rules a token is looked up again, a moment later ([`RULES_LAG`]). Both memories are bounded,
//! belong to
//! one configuration, and are emptied by a reload.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use http::header::{self, HeaderMap};

use super::respond::Trouble;
use crate::config::{self, Config};
use crate::login::{self, Attempt, Entered, Reason, Recognised, Refused, Services, new_id};
use crate::pipeline::capture::bearer::{self, BearerFault, Borne};
use crate::pipeline::capture::{Captured, UntrustedToken};
use crate::pipeline::claims::Claims;
use crate::pipeline::ids::{ProviderName, Timestamp, UserId};
use crate::pipeline::provider::{Mode, Provider};
use crate::pipeline::reading::media;
use crate::pipeline::verify::Origin;

/// After this a person is synced again though nothing new was said, so that what ends by itself is renewed while in use.
const RESYNC: Duration = Duration::from_secs(15 * 60);
/// For how long what was decided by older rules still counts: an import of mappings changes the rules many times a second, and must not
/// make each request of each person a login.
const RULES_LAG: Duration = Duration::from_secs(1);
/// Tokens that are looked at for the first time wait for one another here, so that many requests of one page make one login.
const LANES: usize = 64;

/// A person whose token was believed, and what they hold.
#[derive(Debug)]
pub struct Bearer {
    pub provider: ProviderName,
    pub user: UserId,
    pub email: Option<String>,
    pub display_name: Option<String>,
    pub groups: Vec<String>,
    pub roles: Vec<String>,
}

/// Everything about tokens in headers that one configuration asks for.
pub struct Bearers {
    providers: Vec<Arc<Provider>>,
    form: bool,
    machines: bool,
    cookies: Vec<String>,
    timeout: Duration,
    age: Duration,
    tokens: Memory<(ProviderName, Digest), Remembered>,
    people: Memory<(ProviderName, UserId), Synced>,
    lanes: Vec<tokio::sync::Mutex<()>>,
    hasher: RandomState,
}

type Digest = [u8; 32];

/// The outcome of a token.
#[derive(Clone)]
struct Remembered {
    /// `None`: it speaks of no person.
    bearer: Option<Arc<Bearer>>,
    until: Timestamp,
    at: Timestamp,
    /// The epoch of the rules at that time.
    rules: u64,
}

/// What was synced last of a person.
#[derive(Clone)]
struct Synced {
    claims: Digest,
    issued_at: Timestamp,
    rules: u64,
    at: Timestamp,
}

impl Bearers {
    /// `None` where no provider's tokens come in headers: requests then pass without a look.
    pub fn new(config: &Config) -> Option<Self> {
        let providers = config.providers.iter().map(|settings| &settings.provider);
        let providers: Vec<_> = providers.filter(|provider| provider.mode == Mode::Bearer).cloned().collect();
        let config::Bearer { cache_age, cache_entries, form, machines, ref cookies } = config.bearer;
        (!providers.is_empty()).then(|| Self {
            form: form && bearer::reads_authorization(&providers),
            machines,
            cookies: cookies.clone(),
            providers,
            timeout: config.limits.login_timeout,
            age: cache_age,
            tokens: Memory::new(cache_entries, cache_age),
            people: Memory::new(cache_entries, RESYNC),
            lanes: (0..LANES).map(|_| tokio::sync::Mutex::default()).collect(),
            hasher: RandomState::new(),
        })
    }

    /// The issuers whose tokens an app could read as `access_token` in a body; `None` where none of them may come in one.
    pub fn issuers_of_bodies(&self) -> Option<Arc<[String]>> {
        let issuers = || self.providers.iter().flat_map(|provider| provider.issuers()).map(str::to_owned);
        bearer::reads_authorization(&self.providers).then(|| issuers().collect())
    }

    /// Whether the body of a request is a form in which a token is to be read.
    pub fn reads_form(&self, headers: &HeaderMap) -> bool {
        self.form && headers.get_all(header::CONTENT_TYPE).iter().any(|kind| media::may_be_form(kind.as_bytes()))
    }

    /// Who bears a request; `None` without a token of ours.
    ///
    /// # Errors
    /// When a token of ours is not believed, its person may not enter, or there are tokens of several people.
    pub async fn identify(
        &self,
        services: &Services,
        headers: &HeaderMap,
        query: Option<&str>,
        form: Option<&[u8]>,
    ) -> Result<Option<Arc<Bearer>>, Trouble> {
        let borne = Borne { headers, query, form, cookies: &self.cookies };
        let captured = bearer::read(&self.providers, borne).map_err(|fault| refuse(services, fault))?;
        if captured.len() > 1 {
            self.one_person(services, &captured).await?;
        }
        let mut first = None;
        for captured in captured {
            let bearer = self.of_token(services, captured).await?;
            first = first.or(bearer);
        }
        Ok(first)
    }

    /// Whom an app takes a request for depends on which of its tokens it reads. So all of them are of one user, which two
    /// providers have in common only where a namespace says so.
    async fn one_person(&self, services: &Services, several: &[Captured]) -> Result<(), Trouble> {
        let mut known: Option<UserId> = None;
        for captured in several {
            let key = (captured.provider.name.clone(), token_digest(captured));
            let user = match self.remembered(services, &key) {
                Some(bearer) => bearer.map(|bearer| bearer.user.clone()),
                None => {
                    let attempt = self.attempt(new_id(), captured.clone());
                    let recognised = login::recognise(services, attempt).await.map_err(Trouble::Token)?;
                    recognised.map(|recognised| recognised.claims().user.clone())
                }
            };
            if let (Some(user), Some(known)) = (&user, &known)
                && user != known
            {
                return Err(refuse(services, BearerFault::TwoPeople));
            }
            known = known.or(user);
        }
        Ok(())
    }

    fn attempt(&self, id: String, captured: Captured) -> Attempt {
        Attempt { id, captured, origin: Origin::Presented, timeout: self.timeout }
    }

    /// Whom one token speaks of; `None`: of no person.
    async fn of_token(&self, services: &Services, captured: Captured) -> Result<Option<Arc<Bearer>>, Trouble> {
        let key = (captured.provider.name.clone(), token_digest(&captured));
        if let Some(known) = self.remembered(services, &key) {
            return Ok(known);
        }
        let lane = usize::try_from(self.hasher.hash_one(&key)).unwrap_or_default() % LANES;
        let _alone = match self.lanes.get(lane) {
            Some(lane) => Some(lane.lock().await),
            None => None,
        };
        if let Some(known) = self.remembered(services, &key) {
            return Ok(known);
        }
        let id = new_id();
        // Read first: rules that change meanwhile are newer than what is remembered.
        let rules = services.rules.current().epoch;
        let (bearer, expires_at) = self.look_up(services, &id, captured).await.map_err(Trouble::Token)?;
        let now = services.clock.now();
        let until = now.plus(self.age).min(expires_at.unwrap_or_else(|| now.plus(self.age)));
        self.tokens.insert(key, Remembered { bearer: bearer.clone(), until, at: now, rules }, now);
        Ok(bearer)
    }

    fn remembered(&self, services: &Services, key: &(ProviderName, Digest)) -> Option<Option<Arc<Bearer>>> {
        let now = services.clock.now();
        let Remembered { bearer, until, at, rules } = self.tokens.get(key, now)?;
        let holds = rules == services.rules.current().epoch || now < at.plus(RULES_LAG);
        (now < until && holds).then_some(bearer)
    }

    /// Verifies a token, and syncs where it says something new. Also answers until when the token may be believed.
    async fn look_up(
        &self,
        services: &Services,
        id: &str,
        captured: Captured,
    ) -> Result<(Option<Arc<Bearer>>, Option<Timestamp>), Refused> {
        let provider = Arc::clone(&captured.provider);
        let attempt = self.attempt(id.to_owned(), captured);
        let Some(known) = login::recognise(services, attempt).await? else {
            let refused = || services.refuse_early(id, provider.mode, Some(&provider.name), Reason::NoPerson);
            return if self.machines { Ok((None, None)) } else { Err(refused()) };
        };
        let expires_at = known.assertion().expires_at;
        let claims = Arc::clone(known.claims());
        let (synced, is_new) = self.is_new(services, &provider.name, &known);
        if !is_new && let Some(bearer) = self.of_store(services, id, &provider, &claims).await? {
            return Ok((Some(Arc::new(bearer)), Some(expires_at)));
        }
        let entered = login::sync(services, known, self.timeout).await?;
        entered.delivered();
        self.people.insert((provider.name.clone(), claims.user.clone()), synced, services.clock.now());
        Ok((Some(Arc::new(of_login(&provider.name, &entered))), Some(expires_at)))
    }

    /// What to remember of these claims once they are synced, and whether they or the rules say something that was not synced. An
    /// older token than the last one says nothing new.
    fn is_new(&self, services: &Services, provider: &ProviderName, known: &Recognised) -> (Synced, bool) {
        let (now, rules) = (services.clock.now(), services.rules.current().epoch);
        let issued_at = known.assertion().issued_at;
        let claims = claims_digest(known.claims());
        let key = (provider.clone(), known.claims().user.clone());
        let stale = |last: &Synced| {
            let renews = now >= last.at.plus(RESYNC);
            let differs = last.claims != claims || last.rules != rules;
            renews || (differs && issued_at >= last.issued_at)
        };
        let last = self.people.get(&key, now);
        let is_new = last.is_none_or(|last| stale(&last));
        (Synced { claims, issued_at, rules, at: now }, is_new)
    }

    /// What the store has of a user who was synced before; `None` where they were erased since.
    async fn of_store(
        &self,
        services: &Services,
        id: &str,
        provider: &Provider,
        claims: &Claims,
    ) -> Result<Option<Bearer>, Refused> {
        let refused = |reason| services.refuse_early(id, provider.mode, Some(&provider.name), reason);
        let looking = services.store.user(claims.user.clone(), services.rules.current(), services.clock.now());
        let found = tokio::time::timeout(self.timeout, looking).await.map_err(|_| refused(Reason::Timeout))?;
        match found.map_err(|error| refused(error.into()))? {
            Some(view) if view.enabled => Ok(Some(Bearer {
                provider: provider.name.clone(),
                user: claims.user.clone(),
                email: claims.email.clone(),
                display_name: claims.display_name.clone(),
                groups: view.groups,
                roles: view.roles,
            })),
            Some(_) => Err(refused(Reason::Disabled)),
            None => Ok(None),
        }
    }
}

/// Refuses a request for its tokens, before it is known whose they are.
fn refuse(services: &Services, fault: BearerFault) -> Trouble {
    Trouble::Token(services.refuse_early(&new_id(), Mode::Bearer, None, fault.into()))
}

fn of_login(provider: &ProviderName, entered: &Entered) -> Bearer {
    let after = &entered.plan.after;
    Bearer {
        provider: provider.clone(),
        user: entered.plan.user.clone(),
        email: entered.claims.email.clone(),
        display_name: entered.claims.display_name.clone(),
        groups: after.groups.iter().map(ToString::to_string).collect(),
        roles: after.roles.iter().map(ToString::to_string).collect(),
    }
}

/// Of the whole token, signature included: one that was changed anywhere is another.
fn token_digest(captured: &Captured) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    if let UntrustedToken::Presented(token) = &captured.token {
        let (signed, signature) = token.as_received();
        context.update(signed.as_bytes());
        context.update(b".");
        context.update(signature.as_bytes());
    }
    of(context)
}

/// Of all that was read: who it is, and every claim with its state and values.
fn claims_digest(claims: &Claims) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(format!("{claims:?}").as_bytes());
    of(context)
}

fn of(context: digest::Context) -> Digest {
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// A bounded memory in two halves: what was not asked for while the newer one filled up, or for a whole span of time, is
/// forgotten with the older one.
struct Memory<K, V> {
    halves: Mutex<Halves<K, V>>,
    most: usize,
    span: Duration,
}

struct Halves<K, V> {
    newer: HashMap<K, V>,
    older: HashMap<K, V>,
    turned_at: Timestamp,
}

impl<K: Hash + Eq + Clone, V: Clone> Memory<K, V> {
    fn new(most: usize, span: Duration) -> Self {
        let halves = Halves { newer: HashMap::new(), older: HashMap::new(), turned_at: Timestamp(i64::MIN) };
        Self { halves: Mutex::new(halves), most: most.div_ceil(2).max(1), span }
    }

    fn get(&self, key: &K, now: Timestamp) -> Option<V> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.turn(now, self.span, usize::MAX);
        if let Some(value) = halves.newer.get(key) {
            return Some(value.clone());
        }
        halves.older.get(key).cloned()
    }

    fn insert(&self, key: K, value: V, now: Timestamp) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.turn(now, self.span, self.most);
        halves.older.remove(&key);
        halves.newer.insert(key, value);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let halves = self.halves.lock().unwrap();
        halves.newer.len() + halves.older.len()
    }
}

impl<K, V> Halves<K, V> {
    fn turn(&mut self, now: Timestamp, span: Duration, most: usize) {
        if self.newer.len() >= most || now >= self.turned_at.plus(span) {
            self.older = std::mem::take(&mut self.newer);
            self.turned_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_is_bounded_and_forgets() {
        let at = |seconds: i64| Timestamp::from_seconds(seconds);
        let memory = Memory::new(100, Duration::from_secs(30));
        for number in 0..10_000 {
            memory.insert(number, number, at(0));
            assert!(memory.len() <= 100);
        }
        assert_eq!(memory.get(&9_999, at(1)), Some(9_999));
        assert_eq!(memory.get(&1, at(1)), None);
        assert_eq!(memory.get(&9_999, at(31)), Some(9_999), "in the older half");
        assert_eq!(memory.get(&9_999, at(62)), None);
        assert_eq!(memory.len(), 0, "what has expired is gone, not merely unseen");
    }
}
