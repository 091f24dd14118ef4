//! Leases: mapped grants whose owner has not logged in for longer than the provider's `lease`.
//!
//! A lease counts from the last login that decided on the grant. That is one moment for each user and provider, so a login
//! that changes nothing renews every lease without touching a grant; a grant that a login could not decide on carries its
//! own.

use rusqlite::{Connection, params};

use super::super::{LeaseView, Reaped, StoreError};
use super::{Session, decide, denies, target_of, unavailable};
use crate::pipeline::decision;
use crate::pipeline::ids::{MappingId, Namespace, ProviderName, Subject, Timestamp, UserId};
use crate::pipeline::mapping::{Mode, RuleSet};

/// Grants that end in one transaction, so that logins do not wait for a long list.
pub(super) const MOST_AT_ONCE: usize = 500;

/// From when a grant's lease counts.
const FROM: &str = "coalesce(grants.lease_from, watermarks.renewed_at, grants.granted_at)";

/// Grants whose lease ends before a moment, those that end first at the front.
pub(super) fn due(
    connection: &Connection,
    rules: &RuleSet,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<LeaseView>, StoreError> {
    let mut due = Vec::new();
    for (provider, lease) in rules.providers.iter().filter_map(|(name, rules)| Some((name, rules.lease?))) {
        let mut select = connection
            .prepare_cached(&format!(
                "SELECT users.namespace, users.subject, grants.kind, grants.name, grants.mapping, {FROM} AS counted
                 FROM grants JOIN users ON users.id = grants.user_id
                 LEFT JOIN watermarks ON watermarks.user_id = grants.user_id AND watermarks.provider = grants.provider
                 WHERE grants.provider = ?1 AND counted <= ?2 ORDER BY counted LIMIT ?3"
            ))
            .map_err(unavailable)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let key = params![provider.as_str(), before.minus(lease).0, limit];
        let mut rows = select.query(key).map_err(unavailable)?;
        while let Some(row) = rows.next().map_err(unavailable)? {
            let name: String = row.get(3).map_err(unavailable)?;
            let mapping = MappingId(row.get(4).map_err(unavailable)?);
            due.push(LeaseView {
                namespace: row.get(0).map_err(unavailable)?,
                subject: row.get(1).map_err(unavailable)?,
                provider: provider.to_string(),
                target: target_of(row.get(2).map_err(unavailable)?, &name)?,
                mapping: rules.mapping(mapping).map_or_else(|| mapping.to_string(), |rule| rule.label()),
                ends_at: Timestamp(row.get(5).map_err(unavailable)?).plus(lease),
            });
        }
    }
    due.sort_by_key(|lease| lease.ends_at);
    due.truncate(limit);
    Ok(due)
}

/// Ends leases that were found due, and denies past their `until`.
pub(super) fn reap(
    session: &mut Session<'_>,
    due: &[LeaseView],
    rules: &RuleSet,
    now: Timestamp,
) -> Result<Reaped, StoreError> {
    let mut reaped = Reaped::default();
    if rules.sync.mode == Mode::Shadow {
        return Ok(reaped);
    }
    let mut ended: Vec<(UserId, ProviderName)> = Vec::new();
    for lease in due {
        let invalid = |error: crate::pipeline::ids::InvalidText| StoreError::Invalid(error.to_string());
        let user = UserId {
            namespace: Namespace::parse(&lease.namespace).map_err(invalid)?,
            subject: Subject::parse(&lease.subject).map_err(invalid)?,
        };
        let key = (user, ProviderName::parse(&lease.provider).map_err(invalid)?);
        reaped.leases += 1;
        if !ended.contains(&key) {
            ended.push(key);
        }
    }
    for (user, provider) in ended {
        // The user may have logged in since the list was made: what is due is asked again.
        let step = |kept: &_, facts: &_| decision::lapse(kept, &provider, rules, facts, now);
        decide::change(session, &user, rules, now, step)?;
    }
    reaped.denies = denies::expire(session, rules, now)?;
    Ok(reaped)
}
