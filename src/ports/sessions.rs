//! Sessions: who a browser is between its logins.
//!
//! The browser holds a random id; what it means is a row of the store, so that a session can be ended from outside. A row
//! is found by the SHA-256 of the id, which is all that a reader of the database sees of it. What the person holds is not
//! part of it: that is read again from the grants, so that a revocation shows.

use std::sync::Arc;

use aws_lc_rs::digest;

use super::BoxFuture;
use super::kept::StoreError;
use crate::pipeline::ids::{ProviderName, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;

/// The SHA-256 of something that only a browser holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, bytes);
        let mut own = [0; 32];
        own.copy_from_slice(digest.as_ref());
        Self(own)
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest")
    }
}

/// A session that begins with a login which is committed.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub key: Digest,
    /// What this browser had before. It ends, so that an attacker cannot plant a session that a login then fills.
    pub replaces: Option<Digest>,
    pub user: UserId,
    pub provider: ProviderName,
    pub login: String,
    pub token: String,
    pub at_provider: AtProvider,
    pub app_cookie: Option<Digest>,
    pub refresh: Option<Vec<u8>>,
    /// The ID token that it began with, sealed.
    pub hint: Option<Vec<u8>>,
    pub now: Timestamp,
    pub idle_until: Timestamp,
    pub expires_at: Timestamp,
    /// Sessions of one user at most: the oldest end.
    pub most: usize,
}

/// How a provider speaks of a session of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AtProvider {
    /// OIDC `sub`, or the value of the NameID.
    pub subject: String,
    /// OIDC `sid`, or SessionIndex.
    pub session: Option<String>,
    /// The Format of the NameID.
    pub name_format: Option<String>,
    /// Its NameQualifier and SPNameQualifier (SAML Core section 2.2.2).
    pub name_qualifier: Option<String>,
    pub sp_name_qualifier: Option<String>,
}

/// A live session, and what its user holds now.
#[derive(Debug, Clone)]
pub struct Session {
    pub key: Digest,
    pub user: UserId,
    pub email: Option<String>,
    pub display_name: Option<String>,
    /// Effective ones, in order.
    pub groups: Vec<String>,
    pub roles: Vec<String>,
    pub provider: ProviderName,
    pub login: String,
    pub token: String,
    pub at_provider: AtProvider,
    pub app_cookie: Option<Digest>,
    pub refresh: Option<Vec<u8>>,
    /// The ID token that it began with, sealed.
    pub hint: Option<Vec<u8>>,
    pub seen_at: Timestamp,
    /// When its memberships were last synced by a login or a renewal.
    pub synced_at: Timestamp,
    pub idle_until: Timestamp,
    pub expires_at: Timestamp,
}

/// A session as the person it is of may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    pub provider: String,
    pub created_at: Timestamp,
    pub seen_at: Timestamp,
    pub expires_at: Timestamp,
}

/// What a provider says has ended.
#[derive(Debug, Clone)]
pub struct Logout {
    /// Several where one issuer is captured in several ways: it does not say which of them it means.
    pub providers: Vec<ProviderName>,
    pub issuer: String,
    /// The message's own identity: a second arrival is a replay.
    pub token: String,
    pub remember_until: Timestamp,
    /// Every session of this person, or those of them that `sessions` names.
    pub subject: Option<String>,
    pub sessions: Vec<String>,
}

/// What became of a provider's logout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoggedOut {
    Ended(u64),
    /// This very message was here before; nothing was ended.
    Replay,
}

/// The contract of sessions; the suite of the stores runs on it.
pub trait Sessions: Send + Sync {
    /// Begins a session; clears away a few that have ended, and the oldest of a user that has too many. Answers `false`
    /// where the user is unknown or disabled.
    fn begin(&self, session: NewSession) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// The live session of a key, with what its user holds under the rules.
    fn find(
        &self,
        key: Digest,
        rules: Arc<RuleSet>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Option<Session>, StoreError>>;

    /// Notes that a session is in use.
    fn extend(&self, key: Digest, seen_at: Timestamp, idle_until: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes that the provider was asked again, and what to ask it with next; `None`: what it was asked with stays.
    fn renewed(
        &self,
        key: Digest,
        refresh: Option<Vec<u8>>,
        synced_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes the provider's new name for its session (OIDC `sid`), so that a logout that names it finds this one.
    fn renamed(&self, key: Digest, at_provider: String) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Ends one session. Answers whether it was there.
    fn end(&self, key: Digest) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Ends what a provider says has ended, once for each message.
    fn log_out(&self, logout: Logout) -> BoxFuture<'_, Result<LoggedOut, StoreError>>;

    /// All that is kept of a user's sessions.
    fn list(&self, user: UserId) -> BoxFuture<'_, Result<Vec<SessionView>, StoreError>>;

    /// The live sessions of a user, newest first.
    fn of_user(&self, user: UserId, now: Timestamp) -> BoxFuture<'_, Result<Vec<Digest>, StoreError>>;
}
