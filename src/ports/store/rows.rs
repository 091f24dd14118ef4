//! How users are kept in rows, whichever database has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use serde::Serialize;

use super::{StoreError, Work};
use crate::config::{Face, Scope};
use crate::pipeline::decision::Changes;
use crate::pipeline::faults;
use crate::pipeline::ids::{MappingId, Namespace, ProviderName, Subject, Target, Timestamp, UserId};
use crate::pipeline::plan::{Grant, Source};
use crate::pipeline::record::names::Names;
use crate::pipeline::record::text::Versions;
use crate::pipeline::record::{Record, Stopped};
use crate::ports::console::Operator;

/// The `kind` of a row about a user whom a mapping disabled, and of one whom the brake spared.
pub(super) const DISABLED: i64 = 4;
pub(super) const STOPPED: i64 = 5;

/// Live tokens of one API client: the oldest end past that.
pub(super) const MOST_TOKENS: i64 = 100;

/// What the audit says of a change of an API client.
#[derive(Serialize)]
pub(super) struct ClientDetail<'a> {
    pub by: &'a str,
    pub client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<&'a [Scope]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faces: Option<&'a [Face]>,
}

/// Reads scopes or faces back.
pub(super) fn words<T: serde::de::DeserializeOwned>(text: &str) -> Result<Vec<T>, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Invalid(faults::json(&error)))
}

/// What every reader of records needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Live {
    pub names: Names,
    pub work: Vec<(i64, Arc<Work>)>,
    /// When the store was restored from a backup.
    pub restored: Option<Timestamp>,
    /// In which versions records are written and read.
    pub versions: Versions,
}

impl Live {
    /// A record as it counts: less what has ended and was not swept yet.
    pub(super) fn as_it_counts(&self, mut record: Record) -> Record {
        for (_, work) in &self.work {
            work.carry_out(&mut record);
        }
        record
    }
}

/// How a target is written in `kind`.
pub(super) fn kind_of(target: &Target) -> i64 {
    match target {
        Target::Group(_) => 0,
        Target::Role(_) => 1,
    }
}

/// Reads a target back. Names in the database were valid when written.
pub(super) fn target_of(kind: i64, name: &str) -> Result<Target, StoreError> {
    use crate::pipeline::ids::{GroupName, RoleName};
    let target = match kind {
        0 => GroupName::parse(name).map(Target::Group),
        _ => RoleName::parse(name).map(Target::Role),
    };
    target.map_err(|error| StoreError::Invalid(format!("the stored name `{name}` {error}")))
}

/// A user's key. Names in the database were valid when written.
pub(super) fn user_of(namespace: &str, subject: &str) -> Result<UserId, StoreError> {
    let invalid = |error: crate::pipeline::ids::InvalidText| StoreError::Invalid(error.to_string());
    Ok(UserId {
        namespace: Namespace::parse(namespace).map_err(invalid)?,
        subject: Subject::parse(subject).map_err(invalid)?,
    })
}

/// A provider by a name that was valid when written.
pub(super) fn provider_of(name: &str) -> Result<ProviderName, StoreError> {
    ProviderName::parse(name).map_err(|error| StoreError::Invalid(error.to_string()))
}

/// The pending deliveries that a write of a user causes.
pub(super) struct News<'c> {
    /// The user's version rises; else it is a login that changed nothing, of which receivers hear that are new.
    pub rises: bool,
    /// The row of the audit that says why.
    pub cause: &'static str,
    pub login: Option<&'c str>,
}

/// `before` and `after`: the record in the row, and the one that takes its place. `None` where receivers need not hear of it.
pub(super) fn news<'c>(before: Option<&Record>, after: Option<&Record>, changes: &'c Changes) -> Option<News<'c>> {
    let (cause, login) = changes.audit.last().map_or(("", None), |entry| (entry.event, entry.login.as_deref()));
    let news = |rises| Some(News { rises, cause, login });
    let moves = changes.erased.is_some() || changes.key.is_some() || changes.into.is_some();
    match (before, after) {
        (Some(_), _) if moves => news(true),
        (Some(before), Some(after)) if before.tells_the_same(after) => {
            if before.logins == after.logins {
                None
            } else {
                news(false)
            }
        }
        (_, Some(_)) => news(true),
        (_, None) => None,
    }
}

/// Under which a setting about delivery is kept.
pub(super) fn note_of(name: &str) -> String {
    format!("delivery:{name}")
}

/// What is kept as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Invalid(error.to_string()))
}

/// Who a session of the console acts as.
pub(super) fn operator_of(text: &str) -> Result<Operator, StoreError> {
    let unknown = |_| StoreError::Invalid("a session of the console says what this version does not write".into());
    serde_json::from_str(text).map_err(unknown)
}

/// A row of `holdings`, without the user and `at`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub kind: i64,
    pub target: i64,
    pub provider: String,
    pub mapping: Vec<u8>,
}

/// The rows of `holdings` that a record has.
pub(super) fn holdings(record: &Record, names: &Names) -> BTreeMap<Key, Option<i64>> {
    let held = record.holdings.iter();
    let held = held.filter_map(|(grant, holding)| Some((key_of(grant, names)?, holding.held_at.map(|at| at.0))));
    held.chain(mark_of(record).map(|key| (key, None))).collect()
}

/// The row of a grant.
pub(super) fn key_of(Grant { target, source }: &Grant, names: &Names) -> Option<Key> {
    let (provider, mapping) = match source {
        Source::Assigned => (String::new(), Vec::new()),
        Source::Mapped { provider, mapping } => (provider.to_string(), mapping.0.to_vec()),
    };
    Some(Key { kind: kind_of(target), target: names.number(target)?, provider, mapping })
}

/// The row of a user whom a mapping disabled, or whom the brake spared that.
pub(super) fn mark_of(record: &Record) -> Option<Key> {
    let about = |kind: i64, at: Timestamp, mapping: MappingId, provider: Option<&ProviderName>| Key {
        kind,
        target: at.0,
        provider: provider.map(ToString::to_string).unwrap_or_default(),
        mapping: mapping.0.to_vec(),
    };
    match (&record.disabled, &record.stopped) {
        (Some(disabled), _) => disabled.by.as_ref().map(|(mapping, _)| about(DISABLED, disabled.at, *mapping, None)),
        (None, Some(Stopped { mapping, provider, at, .. })) => Some(about(STOPPED, *at, *mapping, provider.as_ref())),
        (None, None) => None,
    }
}

/// What stays of the key of a person who was erased.
pub(super) fn erased_digest(key: &[u8], user: &UserId) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in [user.namespace.as_str(), user.subject.as_str()] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.sign().as_ref().to_vec()
}
