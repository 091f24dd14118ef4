//! What the mapping APIs have made, and who may call them.
//!
//! A change is planned in memory on a copy of everything ([`Stored`]), compiled into the rule set that it would come to,
//! and then written as one transaction, which also ends the grants that end by it. A change that was planned on an older
//! state than the store's is refused, so that of two at once none is lost.

use std::sync::Arc;

use serde::Serialize;

use super::BoxFuture;
use super::kept::StoreError;
use super::sessions::Digest;
use crate::config::{Face, Scope};
use crate::pipeline::claims::Claims;
pub use crate::pipeline::decision::Confirmation;
use crate::pipeline::ids::{ProviderName, Target, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::stored::Stored;

/// One change of what the store holds.
pub struct Revision {
    pub before: Arc<Stored>,
    pub after: Arc<Stored>,
    /// Groups and roles whose grants and denies go with their new name.
    pub renamed: Vec<(Target, Target)>,
    /// The merged rules of file and store. `None` if a change does not affect decisions.
    pub rules: Option<Arc<RuleSet>>,
    /// May revoke over the brake's limit.
    pub confirmed: bool,
    /// The client that asks, for which an operator may have confirmed something.
    pub client: Option<String>,
    pub events: Vec<Event>,
    pub now: Timestamp,
}

/// A row for the audit.
#[derive(Debug, Clone)]
pub struct Event {
    pub event: &'static str,
    pub detail: serde_json::Value,
}

/// Who may call, as the store or the configuration knows it. The secret itself is with the caller alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiClient {
    pub name: String,
    /// SHA-256 of 256 random bits: those cannot be guessed, so that a slow hash, which is for what people choose, would only make
    /// every call slow.
    pub secret: Digest,
    pub scopes: Vec<Scope>,
    pub faces: Vec<Face>,
}

/// A client as an operator sees it.
#[derive(Debug, Clone, Serialize)]
pub struct ClientView {
    pub name: String,
    pub scopes: Vec<Scope>,
    pub faces: Vec<Face>,
    pub created_at: String,
    pub created_by: String,
    pub revoked_at: Option<String>,
}

/// An access token that a client has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    pub token: Digest,
    /// With which a new one may be had, where the face has such.
    pub refresh: Option<Digest>,
    /// The secret that it was taken with: it ends with that.
    pub client: Digest,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// The claims of the last login through a provider.
pub type RecordedClaims = (ProviderName, Arc<Claims>);

/// The store's part in the mapping APIs.
pub trait Catalogue: Send + Sync {
    fn stored(&self) -> BoxFuture<'_, Result<Stored, StoreError>>;

    /// The client with this secret, unless it was revoked.
    fn client(&self, secret: Digest) -> BoxFuture<'_, Result<Option<ApiClient>, StoreError>>;

    fn clients(&self) -> BoxFuture<'_, Result<Vec<ClientView>, StoreError>>;

    fn add_client(&self, client: ApiClient, by: String, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Ends a client and its tokens.
    fn revoke_client(&self, name: String, by: String, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Adds a token, in place of the one with this refresh token. `false` when that is not there any more. Of one client the
    /// newest few stay.
    fn add_token(&self, token: AccessToken, replaces: Option<Digest>) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// A token that has not expired.
    fn token(&self, token: Digest, now: Timestamp) -> BoxFuture<'_, Result<Option<AccessToken>, StoreError>>;

    /// A token by its refresh token, expired or not.
    fn refreshed(&self, refresh: Digest) -> BoxFuture<'_, Result<Option<AccessToken>, StoreError>>;

    /// Ends a token of a client. `false` when there is no such.
    fn end_token(&self, token: Digest, client: Digest) -> BoxFuture<'_, Result<bool, StoreError>>;
}

/// A user and the number that faces know them by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub number: i64,
    pub user: UserId,
    pub email: Option<String>,
    pub display_name: Option<String>,
    pub enabled: bool,
    pub last_login_at: Option<Timestamp>,
}

/// Which people are meant, in which order, and which page of them.
#[derive(Debug, Clone, Default)]
pub struct Search {
    pub user: Option<UserId>,
    /// One of these numbers.
    pub numbers: Option<Vec<i64>>,
    /// Somewhere in the name, the e-mail address or the subject; letters of ASCII whatever their case.
    pub text: Option<String>,
    /// The e-mail address; letters of ASCII whatever their case.
    pub email: Option<String>,
    /// The subject, in whatever namespace.
    pub subject: Option<String>,
    pub enabled: Option<bool>,
    /// The last login, at any provider, in this span.
    pub since: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Domains of the e-mail address, in lower case; none: any.
    pub domains: Vec<String>,
    /// In this group or role, by a grant of its own and without a deny.
    pub within: Option<Within>,
    pub sort: Sort,
    pub descending: bool,
    pub offset: usize,
    pub limit: usize,
}

/// Membership of a target, by whichever reason or by one.
#[derive(Debug, Clone)]
pub struct Within {
    pub target: Target,
    /// `Some(true)`: mapped, `Some(false)`: assigned, `None`: either.
    pub mapped: Option<bool>,
}

/// Those without what is sorted by come last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    Number,
    #[default]
    Name,
    Email,
    Enabled,
    LastLogin,
}

/// A page of people.
#[derive(Debug, Clone, Default)]
pub struct Found {
    pub members: Vec<Member>,
    pub total: usize,
}

/// A user, and by what they are in the group or role that was searched, if one was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub person: Person,
    pub mapped: bool,
    pub assigned: bool,
}
