//! What receivers have still to hear, and what operators do about it.

use super::{Call, Refused, Service};
use crate::config::Scope;
use crate::pipeline::ids::UserId;
use crate::ports::publish::receivers::{PendingView, ReceiverView};
use crate::ports::store::StoreError;

impl Service {
    /// How every receiver is doing, by name.
    ///
    /// # Errors
    /// When the store cannot be read; so below.
    pub async fn receivers(&self) -> Result<Vec<ReceiverView>, Refused> {
        let (store, mut views) = (self.inspect.store(), Vec::new());
        for name in self.inspect.config().receiver_names() {
            views.push(store.receiver(&name).await?);
        }
        Ok(views)
    }

    /// How one receiver is doing.
    pub async fn receiver(&self, name: &str) -> Result<ReceiverView, Refused> {
        self.check_receiver(name)?;
        Ok(self.inspect.store().receiver(name).await?)
    }

    /// What it has still to hear, the longest due first.
    pub async fn pending(&self, name: &str, limit: usize) -> Result<Vec<PendingView>, Refused> {
        self.check_receiver(name)?;
        Ok(self.inspect.store().pending(name, limit).await?)
    }

    /// Lets nothing be delivered to a receiver, or lets it go on.
    pub async fn pause(&self, call: &Call, name: &str, paused: bool) -> Result<ReceiverView, Refused> {
        let store = self.acting(call, name)?;
        store.pause(name, paused, &call.caller.by(), self.inspect.now()).await?;
        Ok(store.receiver(name).await?)
    }

    /// Lets failed deliveries be tried now: of one user, or all. Answers how many.
    pub async fn retry(&self, call: &Call, name: &str, user: Option<UserId>) -> Result<u64, Refused> {
        let store = self.acting(call, name)?;
        store.retry(name, user, &call.caller.by(), self.inspect.now()).await.map_err(of_no_user)
    }

    /// Tells a receiver everything anew: of one user, or of all. Answers of how many.
    pub async fn tell_anew(&self, call: &Call, name: &str, user: Option<UserId>) -> Result<u64, Refused> {
        let store = self.acting(call, name)?;
        store.resync(name, user, &call.caller.by(), self.inspect.now()).await.map_err(of_no_user)
    }

    fn acting(&self, call: &Call, name: &str) -> Result<std::sync::Arc<crate::ports::store::Store>, Refused> {
        call.caller.may(Scope::Admin)?;
        self.check_receiver(name)?;
        Ok(self.inspect.store())
    }

    fn check_receiver(&self, name: &str) -> Result<(), Refused> {
        match self.inspect.config().receiver_names().contains(name) {
            true => Ok(()),
            false => Err(Refused::NotFound("there is no receiver of this name".into())),
        }
    }
}

fn of_no_user(error: StoreError) -> Refused {
    match error {
        StoreError::Invalid(why) => Refused::NotFound(why),
        other => other.into(),
    }
}
