//! Receivers that must confirm a user before the user's login goes on to the app.
//!
//! The login is committed first, and waits then, so that a refusal leaves nothing half done. What decides is what a receiver has
//! confirmed, not whether this login has changed something: a second login after a refusal would walk in with the old rights.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Told;
use super::health::{Control, Health};
use crate::config::{BeforeEntry, Unconfirmed};
use crate::pipeline::ids::UserId;
use crate::pipeline::plan::Effective;
use crate::ports::outbox::Outbox;
use crate::ports::store::StoreError;

/// How often it is looked at what was confirmed.
const LOOK: Duration = Duration::from_millis(20);

/// The receivers that must confirm first.
#[derive(Default)]
pub struct Followers {
    waits: Vec<(String, BeforeEntry)>,
    /// Where that is noted; `None` where no one has to.
    outbox: Option<Arc<dyn Outbox>>,
    /// Users have changed.
    raised: Arc<Notify>,
}

impl Followers {
    pub fn new(waits: Vec<(String, BeforeEntry)>, outbox: Arc<dyn Outbox>, raised: Arc<Notify>) -> Self {
        Self { waits, outbox: Some(outbox), raised }
    }

    /// Whether no receiver must confirm first.
    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// Waits until nothing of a user is unconfirmed. Returns the receiver for whose sake the login must not go on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn wait(&self, user: &UserId, holds: &Effective) -> Result<Option<String>, StoreError> {
        let Some(outbox) = self.outbox.as_ref().filter(|_| !self.waits.is_empty()) else { return Ok(None) };
        let began = Instant::now();
        let mut given_up: BTreeSet<&str> = BTreeSet::new();
        loop {
            let standing = outbox.standing(user.clone()).await?;
            let mut is_waiting = false;
            for (name, wait) in &self.waits {
                let row = standing.receivers.iter().find(|row| row.receiver == *name);
                let is_confirmed = row.is_some_and(|row| {
                    // One who is not there yet holds nothing there.
                    let absent = || Told::read(row.tried.as_deref()).and_then(|told| told.absent);
                    row.version >= standing.version || absent() == Some(standing.version)
                });
                if is_confirmed || given_up.contains(name.as_str()) {
                    continue;
                }
                if began.elapsed() < wait.timeout && is_well(&**outbox, name).await? {
                    is_waiting = true;
                    continue;
                }
                // What was sent and not confirmed may have been taken.
                let told = row.and_then(|row| row.tried.as_deref().or(row.state.as_deref()));
                let refuses = match wait.when_unconfirmed {
                    Unconfirmed::Enter => false,
                    Unconfirmed::Refuse => true,
                    Unconfirmed::RefuseIfRevoking => told.is_some_and(|told| loses(told, holds)),
                };
                if refuses {
                    return Ok(Some(name.clone()));
                }
                given_up.insert(name);
            }
            if !is_waiting {
                return Ok(None);
            }
            self.raised.notify_one();
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether a receiver may confirm something soon: nothing waits for one that fails, or that an operator has paused.
async fn is_well(outbox: &dyn Outbox, name: &str) -> Result<bool, StoreError> {
    let mut health = Health::read(outbox.note(Health::note_of(name)).await?.as_deref());
    let control = Control::read(outbox.note(Control::note_of(name)).await?.as_deref());
    health.hear(&control);
    Ok(!control.paused && !health.is_failing())
}

/// Whether a receiver may know of something that the user does not hold any more. What cannot be read may be anything.
fn loses(told: &str, holds: &Effective) -> bool {
    let Some(told) = Told::read(Some(told)) else { return true };
    told.groups.iter().any(|group| !holds.groups.iter().any(|held| held.as_str() == group))
        || told.roles.iter().any(|role| !holds.roles.iter().any(|held| held.as_str() == role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_was_told_and_cannot_be_read_counts_as_lost() {
        let nothing = Effective::default();
        assert!(!loses(&Told::default().text(), &nothing));
        assert!(loses(r#"{"of":"a newer version"}"#, &nothing));
    }
}
