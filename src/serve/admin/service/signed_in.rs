//! Who is signed in: people at the app, and operators at the console.

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{Call, Refused, Service};
use crate::config::Scope;
use crate::pipeline::ids::UserId;
use crate::ports::console::SignIn;
use crate::ports::sessions::{Digest, SessionView};
use crate::ports::store::StoreError;
use crate::serve::relying_party::renewal::Renewed;
use crate::serve::respond::Trouble;

/// A session of the console, or a link that was not used yet.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OperatorSession {
    /// The ID for ending it.
    pub id: String,
    /// Such as `root by link`.
    pub name: String,
    /// What it may do. For a person who signed in through a provider, their roles decide at each request.
    pub scopes: Vec<&'static str>,
    /// A link that opens a session.
    pub is_link: bool,
    /// RFC 3339; so below.
    pub created_at: String,
    pub idle_until: String,
    pub expires_at: String,
}

/// Its name to others: neither what a browser holds nor what the store has.
fn id_of(key: Digest) -> String {
    let digest = Digest::of(&key.0);
    digest.0.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

impl From<SignIn> for OperatorSession {
    fn from(sign_in: SignIn) -> Self {
        Self {
            id: id_of(sign_in.key),
            name: sign_in.operator.name,
            scopes: sign_in.operator.scopes.iter().map(|scope| scope.word()).collect(),
            is_link: sign_in.is_link,
            created_at: sign_in.created_at.to_string(),
            idle_until: sign_in.idle_until.to_string(),
            expires_at: sign_in.expires_at.to_string(),
        }
    }
}

impl Service {
    /// The sessions of a person that loginsync keeps.
    ///
    /// # Errors
    /// When there is no such person, or the store cannot be read.
    pub async fn sessions_of(&self, user: UserId) -> Result<Vec<SessionView>, Refused> {
        self.user(user.clone()).await?;
        let now = self.inspect.now();
        let mut found = self.inspect.store().sessions().list(user).await?;
        found.retain(|session| session.expires_at > now);
        Ok(found)
    }

    /// Ends the sessions of a person. Answers how many those were.
    ///
    /// # Errors
    /// When the caller may not, there is no such person, or the store cannot be written.
    pub async fn end_sessions_of(&self, call: &Call, user: UserId) -> Result<u64, Refused> {
        call.caller.may(Scope::WriteMembers)?;
        self.user(user.clone()).await?;
        let (store, now) = (self.inspect.store(), self.inspect.now());
        let mut ended = 0;
        for key in store.sessions().of_user(user.clone(), now).await? {
            ended += u64::from(store.sessions().end(key).await?);
        }
        store.note_about(user, "sessions_ended", json!({ "by": call.caller.by(), "sessions": ended }), now).await?;
        Ok(ended)
    }

    /// Asks the provider again for every session of a person that can be renewed, and syncs what it says.
    ///
    /// # Errors
    /// When the caller may not, there is no such person, or the store cannot be asked.
    pub async fn ask_provider(&self, call: &Call, user: UserId) -> Result<Vec<Renewed>, Refused> {
        call.caller.may(Scope::WriteMembers)?;
        self.user(user.clone()).await?;
        self.inspect.resync(user).await.map_err(|trouble| match trouble {
            Trouble::Store(error) => error.into(),
            other => {
                // Its words are those of Rust, for the log.
                let why = format!("failed to resync the sessions of a user: {other:?}");
                Refused::Store(StoreError::Unavailable(why))
            }
        })
    }

    /// Who is signed in to the console, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn operator_sessions(&self) -> Result<Vec<OperatorSession>, Refused> {
        let found = self.inspect.store().console().list(self.inspect.now()).await?;
        Ok(found.into_iter().map(OperatorSession::from).collect())
    }

    /// Ends a session of the console, or a link.
    ///
    /// # Errors
    /// When the caller may not, there is none, or the store cannot be written.
    pub async fn end_operator_session(&self, call: &Call, id: &str) -> Result<(), Refused> {
        call.caller.may(Scope::Admin)?;
        let (store, now) = (self.inspect.store(), self.inspect.now());
        let found = store.console().list(now).await?.into_iter().find(|session| id_of(session.key) == id);
        let found = found.ok_or_else(|| Refused::NotFound("there is no such session".into()))?;
        store.console().end(Some(found.key)).await?;
        let detail = json!({ "by": call.caller.by(), "session": found.operator.name });
        Ok(store.note("console_ended", detail, now).await?)
    }
}
