//! Pending deliveries to receivers, and what operators do about them.

use super::{Call, Refused, Service};
use crate::config::Scope;
use crate::pipeline::ids::UserId;
use crate::ports::publish::receivers::{PendingView, ReceiverView, Tested};
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

    /// Pending deliveries, the longest due first.
    pub async fn pending(&self, name: &str, limit: usize) -> Result<Vec<PendingView>, Refused> {
        self.check_receiver(name)?;
        Ok(self.inspect.store().pending(name, limit).await?)
    }

    /// The outcome of the last test of it.
    pub async fn last_test(&self, name: &str) -> Result<Option<Tested>, Refused> {
        self.check_receiver(name)?;
        Ok(self.inspect.store().last_test(name).await?)
    }

    /// Tests it: a webhook gets a `ping`, and of a SCIM server it is learned what it can.
    pub async fn test_receiver(&self, call: &Call, name: &str) -> Result<Tested, Refused> {
        let store = self.acting(call, name)?;
        let receiver = self.inspect.receiver(name);
        let receiver = receiver.ok_or_else(|| Refused::NotFound("there is no receiver of this name".into()))?;
        let (by, now) = (call.caller.by(), self.inspect.now());
        // A caller that goes away must not leave there what a test has made.
        let testing = tokio::spawn(async move { store.test_receiver(&*receiver, &by, now).await });
        let tested = testing.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())));
        Ok(tested?)
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

    /// Sends a receiver everything again, for one user or all. Returns the number of users.
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
