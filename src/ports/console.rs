//! Who is signed in to the console: links that `loginsync console` has made and that were not used yet, and sessions.
//!
//! A browser holds 256 random bits; the store has their SHA-256. What the row says is JSON of our own, so that a session may say
//! more one day without another table.

use serde::{Deserialize, Serialize};

use super::BoxFuture;
use super::kept::StoreError;
use super::sessions::Digest;
use crate::config::Scope;
use crate::pipeline::ids::Timestamp;

/// Rows at most: past it the one that ends first goes.
pub const MOST: i64 = 1_000;

/// Who a session acts as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// As the audit names them, such as `root by link`.
    pub name: String,
    /// What it may do; of a person none, since their roles say so at each request.
    pub scopes: Vec<Scope>,
    /// The number of the person who signed in by a provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<i64>,
}

/// A link or a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    pub key: Digest,
    /// A link is worth one session and nothing else.
    pub is_link: bool,
    pub operator: Operator,
    pub created_at: Timestamp,
    pub idle_until: Timestamp,
    pub expires_at: Timestamp,
}

impl SignIn {
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at > now && self.idle_until > now
    }
}

/// The contract of the console's sessions; the suite of the stores runs on it.
pub trait ConsoleSessions: Send + Sync {
    /// Adds a link or a session, and clears away what has ended.
    fn add(&self, sign_in: SignIn) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Takes away a live link, once. Answers what it was.
    fn spend(&self, link: Digest, now: Timestamp) -> BoxFuture<'_, Result<Option<SignIn>, StoreError>>;

    /// A live session.
    fn session(&self, key: Digest, now: Timestamp) -> BoxFuture<'_, Result<Option<SignIn>, StoreError>>;

    /// Notes that a session is in use.
    fn extend(&self, key: Digest, idle_until: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Ends one, or all of them, links included. Answers how many those were.
    fn end(&self, key: Option<Digest>) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// What is live, the newest first.
    fn list(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>>;
}
