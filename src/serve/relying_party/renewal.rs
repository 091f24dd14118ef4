//! Between logins: a session asks its provider again, by refresh token, through the same path as every login.

use std::sync::Arc;

use super::{Front, Lasting, Party, Way};
use crate::login::{self, Entered, Reason, Resync, new_id};
use crate::pipeline::capture::oidc::{AccessToken, UntrustedIdToken};
use crate::pipeline::ids::UserId;
use crate::pipeline::verify::Origin;
use crate::ports::sessions::{Digest, Session};
use crate::ports::token_endpoint::ExchangeError;
use crate::serve::respond::Trouble;

/// What became of one renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// Synced, with what is new.
    Synced { granted: usize, revoked: usize },
    /// The provider says that the session is over, or the login is refused: it has ended here too.
    Ended(String),
    /// The provider could not be asked; what was granted stays.
    Unanswered(String),
    /// There is nothing to ask with.
    NoToken,
}

/// Which renewals are meant.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    WhereDue,
    Now,
}

impl Front {
    /// The session as it stands after a renewal, where one is due; `None` where it has ended by that.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn kept_current(self: &Arc<Self>, session: Arc<Session>) -> Result<Option<Arc<Session>>, Trouble> {
        if !self.is_due(&session) {
            return Ok(Some(session));
        }
        match self.renew_aside(session.key, Wanted::WhereDue).await? {
            Some(Renewed::Ended(_)) => Ok(None),
            Some(Renewed::Synced { .. } | Renewed::Unanswered(_)) => {
                self.desk.find(session.key).await.map_err(Trouble::Store)
            }
            Some(Renewed::NoToken) | None => Ok(Some(session)),
        }
    }

    fn is_due(&self, session: &Session) -> bool {
        let interval = self.desk.settings().renew;
        let due = interval.is_some_and(|interval| self.logins.services.clock.now() >= session.synced_at.plus(interval));
        due && session.refresh.is_some()
    }

    /// Asks the provider again for every session of a user that can.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn resync(self: &Arc<Self>, user: UserId) -> Result<Vec<Renewed>, Trouble> {
        let mut outcomes = Vec::new();
        for key in self.desk.of_user(user).await.map_err(Trouble::Store)? {
            outcomes.extend(self.renew_aside(key, Wanted::Now).await?);
        }
        Ok(outcomes)
    }

    /// Renews in a task of its own: a browser that goes away takes its request along, and by then the provider may have put another
    /// refresh token in the place of ours. `None` where the session is being renewed already, has ended, or is not due any more.
    async fn renew_aside(self: &Arc<Self>, key: Digest, wanted: Wanted) -> Result<Option<Renewed>, Trouble> {
        let front = Arc::clone(self);
        // Providers rotate refresh tokens: of two that are used at once, one is taken for stolen. Begun before the task, so
        // that a process that stops sees the renewal as long as it sees the request.
        let Some(alone) = Renewing::begin(&self.lasting, key) else { return Ok(None) };
        let renewal = tokio::spawn(async move {
            let _alone = alone;
            // As it stands in the store now: another request may have renewed it while this one came here, perhaps by the
            // configuration before a reload.
            front.desk.forget(&key);
            let Some(session) = front.desk.find(key).await.map_err(Trouble::Store)? else { return Ok(None) };
            match wanted {
                Wanted::WhereDue if !front.is_due(&session) => Ok(None),
                _ => front.renew(&session).await.map(Some),
            }
        });
        // A panic in there ends the renewal alone.
        renewal.await.unwrap_or(Ok(None))
    }

    async fn renew(&self, session: &Session) -> Result<Renewed, Trouble> {
        let Some(token) = self.desk.refresh_token(session) else { return Ok(Renewed::NoToken) };
        let Some(party) = self.logins.party(&session.provider) else { return Ok(Renewed::NoToken) };
        let Way::Oidc(client) = &party.way else { return Ok(Renewed::NoToken) };
        let tokens = match client.refresh(&self.logins.services, &token).await {
            Ok(tokens) => tokens,
            Err(error @ ExchangeError::Refused(_)) if error.is_final() => {
                return self.ended(session, &error.to_string()).await;
            }
            Err(error) => return self.unanswered(session, &error.to_string()).await,
        };
        let refresh_token = tokens.refresh_token.as_ref().map(|token| token.as_str());
        // Kept before anything else: the old one may be spent.
        self.desk.renewed(session, refresh_token).await.map_err(Trouble::Store)?;
        let synced = match (&tokens.id_token, tokens.access_token) {
            (Some(id_token), access_token) => {
                // The provider gave it just now, over TLS. What is merely not believed of it, the provider is asked about.
                match (self.sync(party, session, id_token, access_token.clone()).await, access_token) {
                    (Err(Trouble::Login(refused)), Some(access_token)) if refused.reason.is_disbelief() => {
                        self.sync_by_userinfo(party, session, access_token).await
                    }
                    (synced, _) => synced,
                }
            }
            (None, Some(access_token)) => self.sync_by_userinfo(party, session, access_token).await,
            (None, None) => return self.unanswered(session, "the answer to a refresh brings no token").await,
        };
        match synced {
            Ok(entered) if entered.plan.user != session.user => {
                self.ended(session, "the provider speaks of another person").await
            }
            Ok(entered) => {
                entered.delivered();
                self.desk.follow(session, &entered).await.map_err(Trouble::Store)?;
                let (granted, revoked) = (entered.plan.grants.len(), entered.plan.revokes.len());
                tracing::info!(provider = %session.provider, granted, revoked, "session renewed");
                Ok(Renewed::Synced { granted, revoked })
            }
            // A rotation of keys, say, ends no session.
            Err(Trouble::Login(refused)) if refused.reason.is_verdict() => {
                self.ended(session, &refused.reason.to_string()).await
            }
            Err(trouble) => self.unanswered(session, &trouble.to_string()).await,
        }
    }

    /// OpenID Connect Core 1.0 section 12.2: the new ID token is of the same person.
    async fn sync(
        &self,
        party: &Party,
        session: &Session,
        id_token: &str,
        access_token: Option<AccessToken>,
    ) -> Result<Entered, Trouble> {
        // The signature over these very bytes is checked next, so what they say here is what is then believed.
        if UntrustedIdToken::parse(id_token).is_ok_and(|token| !token.is_of(&session.at_provider.subject)) {
            return Err(self.logins.refused(&new_id(), Some(&session.provider), Reason::AnotherPerson));
        }
        self.logins.log_in(new_id(), party, id_token, None, Origin::Exchanged { access_token }).await
    }

    /// What a thin answer leaves to ask: the provider's userinfo, with the access token that it gave.
    async fn sync_by_userinfo(
        &self,
        party: &Party,
        session: &Session,
        access_token: AccessToken,
    ) -> Result<Entered, Trouble> {
        let (id, provider) = (new_id(), Arc::clone(&party.provider));
        let subject = Some(session.at_provider.subject.clone());
        let resync = Resync { id, provider, access_token, subject, timeout: self.logins.timeout() };
        Box::pin(login::resync(&self.logins.services, resync)).await.map_err(Trouble::Login)
    }

    async fn ended(&self, session: &Session, why: &str) -> Result<Renewed, Trouble> {
        tracing::info!(provider = %session.provider, reason = why, "a session ended, since it could not be renewed");
        self.desk.end_one(session.key).await.map_err(Trouble::Store)?;
        Ok(Renewed::Ended(why.to_owned()))
    }

    /// Tried again after the next interval: requests do not wait for a provider each time.
    async fn unanswered(&self, session: &Session, why: &str) -> Result<Renewed, Trouble> {
        tracing::warn!(provider = %session.provider, reason = why, "a session could not be renewed; what was granted stays");
        self.desk.renewed(session, None).await.map_err(Trouble::Store)?;
        Ok(Renewed::Unanswered(why.to_owned()))
    }
}

/// The sessions that are being renewed: each once at a time.
#[derive(Debug, Default)]
pub struct Renewing(std::sync::Mutex<std::collections::HashSet<Digest>>);

impl Renewing {
    pub fn is_under_way(&self) -> bool {
        !self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty()
    }

    /// `None` where this session is being renewed already. The guard is made only where there is none: dropped here, it
    /// would wait for the very lock that is held (SEC19).
    fn begin(lasting: &Arc<Lasting>, key: Digest) -> Option<Alone> {
        let is_first = lasting.renewing.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key);
        is_first.then(|| Alone { lasting: Arc::clone(lasting), key })
    }
}

/// Held while one session is renewed.
struct Alone {
    lasting: Arc<Lasting>,
    key: Digest,
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Locks: `begin` makes a guard after it has let go of the lock, and nothing else holds it.
        let mut under_way = self.lasting.renewing.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        under_way.remove(&self.key);
    }
}
