//! The sign-in of operators to the console: the same flow by one provider, on the admin listener.
//!
//! What a login opens there the console decides, by the roles that the person then has. The cookies of logins under way have
//! names of their own, so that an answer for the app is none for the console.

use super::goals::Goal;
use super::oidc::Client;
use super::own_logins::{Answered, OwnLogins};
use super::target::{Places, target};
use super::{Outcome, OwnRequest, Party, Way, pending};
use crate::config::{Authorization, Config, OperatorSettings, PublicUrl, Secret, WayIn};
use crate::login::Services;
use crate::serve::cookies::{CookieKeyError, Sealer};
use crate::serve::respond::Trouble;

/// Below which the console is, and below that where providers send browsers.
const BASE: &str = "/console";
const OWN: &str = "/provider/";

/// The provider by which operators sign in.
pub struct Operators {
    logins: OwnLogins,
    places: Places,
    pub settings: OperatorSettings,
}

impl Operators {
    /// `None` where the configuration names no provider for this.
    ///
    /// # Errors
    /// When a cookie key cannot be used.
    pub fn new(config: &Config, services: &Services, keys: &[Secret]) -> Result<Option<Self>, CookieKeyError> {
        let Some(settings) = config.console.operators.clone() else { return Ok(None) };
        let found = config.providers.iter().find(|found| found.provider.name == settings.provider);
        let (Some(found), Some(origin)) = (found, &config.admin.public_url) else { return Ok(None) };
        let Some(relying_party) = &found.relying_party else { return Ok(None) };
        let WayIn::Oidc { auth, scopes, authorization } = &relying_party.way_in else { return Ok(None) };
        let own = PublicUrl { own: OWN.into(), ..PublicUrl::new(&origin.origin().ascii_serialization(), BASE) };
        // An answer by a form would come from the provider's site, without the cookies that browsers keep for ours.
        let authorization = Authorization { form_post: false, ..authorization.clone() };
        let client = Client::new(found, auth, (scopes.as_slice(), &authorization), own.page("callback"));
        let party = Party {
            provider: std::sync::Arc::clone(&found.provider),
            title: relying_party.title.clone(),
            way: Way::Oidc(Box::new(client)),
        };
        let pending = pending::Cookies::new(Sealer::new(keys, &own)?, "o-");
        let logins = OwnLogins::new(config, services.clone(), pending, vec![party]);
        Ok(Some(Self { logins, places: Places { own, others: Vec::new() }, settings }))
    }

    /// What people call the provider.
    pub fn title(&self) -> &str {
        self.logins.parties.first().map_or("", |party| party.title.as_str())
    }

    /// The address that sends a browser to the provider, and back to a page of the console.
    pub fn address(&self, wanted: &str) -> String {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("rd", wanted).finish();
        format!("{}?{query}", self.places.own.page("sign-in"))
    }

    /// Sends a browser to the provider.
    ///
    /// # Errors
    /// When the provider's keys and addresses are not at hand.
    pub async fn leave(&self, wanted: &str, request: &OwnRequest) -> Outcome {
        let Some(party) = self.logins.parties.first() else { return Err(Trouble::NoSuchPage.into()) };
        let first = || format!("{}/", self.places.own.root());
        let place = target(wanted, &self.places).filter(|place| place.len() <= super::goals::SHORT);
        self.logins.leave(party, &Goal::Place(place.unwrap_or_else(first)), None, request).await
    }

    /// Takes the provider's answer; `None` where no login of this browser waits for it.
    ///
    /// # Errors
    /// When it cannot be read in one way.
    pub async fn answered(&self, request: &OwnRequest) -> Result<Option<Answered>, Trouble> {
        self.logins.answered(request).await
    }
}
