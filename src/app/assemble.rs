//! What a configuration is served by, put together once for a start and for every reload; and the rules that it begins with.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::delivery::{self, Deliveries};
use super::place::Place;
use super::rules::{log_adopted, merged, numbered, warn_of_untold};
use super::{StartError, Told};
use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::login::Services;
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::elsewhere::Elsewhere;
use crate::pipeline::mapping::stored::Stored;
use crate::pipeline::provider::Provider;
#[cfg(feature = "samael")]
use crate::pipeline::{provider::Protocol, verify::saml};
use crate::ports::back_channel::http::HttpBackChannel;
use crate::ports::catalogue::Catalogue;
use crate::ports::directory::graph::Graph;
use crate::ports::http::FetchError;
use crate::ports::keys::KeySource;
use crate::ports::keys::fetched::FetchedKeys;
use crate::ports::outbox::events::listening;
use crate::ports::publish::Receiver;
use crate::ports::rules::Rules;
use crate::ports::sessions::Sessions;
use crate::ports::store::postgres::replicas::Following;
use crate::ports::store::{Store, StoreError};
use crate::serve::assertion::{self, Asserter};
use crate::serve::counters::Counters;
use crate::serve::proxy::Site;
use crate::serve::relay::Relay;

/// What outlives a reload, and what the site of each configuration is made of.
pub(super) struct Parts {
    pub(super) store: Arc<Store>,
    pub(super) sessions: Arc<dyn Sessions>,
    pub(super) catalogue: Arc<dyn Catalogue>,
    pub(super) rules: Arc<Rules>,
    pub(super) clock: Clock,
    pub(super) told: Told,
    pub(super) counters: Arc<Counters>,
    pub(super) verifiers: Arc<Semaphore>,
    /// Among other sidecars.
    pub(super) place: Place,
    /// Receivers of changes.
    pub(super) deliveries: Deliveries,
}

/// Made of a configuration, and not in use yet.
pub(super) struct Assembled {
    pub(super) keys: Arc<FetchedKeys>,
    pub(super) site: Site,
    pub(super) relay: Option<Relay>,
    pub(super) receivers: Vec<Arc<dyn Receiver>>,
}

impl Parts {
    /// Makes what a configuration needs to be served. `before` gives its keys on, so that a reload fetches none that are there.
    ///
    /// # Errors
    /// When something that the configuration names cannot be used, or the store cannot keep the keys that it lacks.
    pub(super) async fn assemble(
        &self,
        config: &Config,
        before: Option<&FetchedKeys>,
    ) -> Result<Assembled, StartError> {
        prepare_saml(config)?;
        let keys = Arc::new(FetchedKeys::start(&config.providers, &self.clock, before)?);
        let services = self.services(config, &keys)?;
        let relay = Relay::new(config, services.clone(), Arc::clone(&self.counters));
        let receivers = delivery::receivers(config, &self.store, &self.clock).await?;
        let cookie_keys = cookie_keys(config, &self.store).await?;
        let asserter = asserter(config, &self.store).await?;
        let (sessions, counters) = (Arc::clone(&self.sessions), Arc::clone(&self.counters));
        let site = Site::new(config, services, sessions, &cookie_keys, asserter, counters)?;
        Ok(Assembled { keys, site, relay, receivers })
    }

    fn services(&self, config: &Config, keys: &Arc<FetchedKeys>) -> Result<Services, FetchError> {
        let keys: Arc<dyn KeySource> = Arc::<FetchedKeys>::clone(keys);
        Ok(Services {
            back_channel: Arc::new(HttpBackChannel::new(&config.providers, Arc::clone(&keys))?),
            directory: Arc::new(Graph::new(&config.providers, &self.clock)?),
            keys,
            store: Arc::clone(&self.store),
            rules: Arc::clone(&self.rules),
            clock: self.clock.clone(),
            meters: Arc::clone(&self.told.meters),
            outcomes: Arc::clone(&self.told.outcomes),
            verifiers: Arc::clone(&self.verifiers),
            followers: Arc::new(self.deliveries.followers(config, &self.store)),
        })
    }

    /// Takes the place among other sidecars, and makes the rules of a configuration the first ones.
    ///
    /// # Errors
    /// When the store or other sidecars do not take them. The place is given up then.
    pub(super) async fn start(&self, config: &Config) -> Result<Arc<Stored>, StartError> {
        // Before rules are adopted, which may end what receivers were told.
        self.store.follow(&listening(&config.receivers)).await?;
        self.place.announce(&config.rules, self.clock.now()).await?;
        let beginning = self.begin(config, self.clock.now());
        match self.place.while_here(&self.clock, beginning).await {
            Ok((stored, rules)) => {
                self.rules.replace(rules, providers(config));
                Ok(stored)
            }
            Err(error) => {
                self.place.leave().await;
                Err(error)
            }
        }
    }

    /// Makes the rules of a configuration and of the store the current ones.
    pub(super) async fn begin(
        &self,
        config: &Config,
        now: Timestamp,
    ) -> Result<(Arc<Stored>, Arc<RuleSet>), StartError> {
        let (file, epoch) = (&config.rules, config.rules.epoch);
        let numbered = numbered(&*self.catalogue, &self.store, file, now).await?;
        let (stored, elsewhere, followed) = match self.place.following().await? {
            Some(Following { revision, stored, elsewhere, files }) => {
                (Arc::new(stored), elsewhere, Some((revision, files)))
            }
            None => (numbered, Elsewhere::default(), None),
        };
        let merged = merged(file, &stored, Arc::new(elsewhere), epoch)?;
        warn_of_untold(config, &merged);
        let adopted = self.store.make_current(Arc::clone(&merged), now).await?;
        if let Some((revision, files)) = followed {
            self.place.follow(epoch, revision, files);
        }
        log_adopted(adopted);
        Ok((stored, merged))
    }
}

/// Shows at once, not at the first login, that the second verifier can be used. Without SAML it is never loaded.
#[cfg(feature = "samael")]
fn prepare_saml(config: &Config) -> Result<(), StartError> {
    let needed = config.providers.iter().any(|settings| matches!(settings.provider.protocol, Protocol::Saml(_)));
    if needed {
        saml::lock_down()?;
        tracing::info!(
            not_judged = "RSA-PSS, and responses signed by two keys",
            "a second verifier (libxmlsec1) checks SAML signatures too"
        );
    }
    Ok(())
}

/// This build has one verifier, and nothing to prepare for it.
#[cfg(not(feature = "samael"))]
fn prepare_saml(_: &Config) -> Result<(), StartError> {
    Ok(())
}

pub(super) fn providers(config: &Config) -> Vec<Arc<Provider>> {
    config.providers.iter().map(|settings| Arc::clone(&settings.provider)).collect()
}

/// The keys of the configuration, else those that the store keeps.
async fn cookie_keys(config: &Config, store: &Store) -> Result<Vec<Secret>, StoreError> {
    match &config.cookie_keys {
        Some(keys) => Ok(keys.clone()),
        None => Ok(vec![Secret::new(store.cookie_keys().await?)]),
    }
}

/// What signs assertions, by the key of the configuration, else by the one that the store keeps.
async fn asserter(config: &Config, store: &Store) -> Result<Option<Asserter>, StartError> {
    let Some(settings) = &config.assertion else { return Ok(None) };
    let key = match &settings.key {
        Some(key) => key.clone(),
        None => {
            let make = || assertion::fresh_key().map(|key| key.expose().to_vec());
            Secret::new(store.assertion_key(make).await?)
        }
    };
    Ok(Some(Asserter::new(settings, &key, &config.public_url, config.headers.max_bytes)?))
}
