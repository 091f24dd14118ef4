//! What one user holds when a login arrives: the snapshot that the plan is made from.

use std::collections::BTreeSet;

use rusqlite::params;

use super::super::StoreError;
use super::{Session, recorded, target_of, unavailable};
use crate::pipeline::ids::{MappingId, ProviderName, Target, Timestamp, UserId};
use crate::pipeline::mapping::{RuleSet, holds_by_claim};
use crate::pipeline::plan::{Grant, Snapshot, Source, by_role_or_claim};

/// The snapshot, and what only the store needs to write well.
#[derive(Default)]
pub(super) struct Standing {
    pub snapshot: Snapshot,
    /// Grants through this provider whose lease does not count from the last login.
    pub frozen: BTreeSet<(Target, MappingId)>,
    /// From when the leases of the others count.
    pub renewed_at: Option<i64>,
    pub claims_digest: Option<Vec<u8>>,
}

pub(super) fn read(
    session: &Session<'_>,
    (user_row, user): (i64, &UserId),
    provider: &ProviderName,
    rules: &RuleSet,
    now: Timestamp,
) -> Result<Standing, StoreError> {
    let mut standing = Standing::default();
    read_grants(session, user_row, provider, &mut standing)?;
    read_denies(session, user_row, now, &mut standing)?;
    read_logins(session, user_row, provider, &mut standing)?;
    let mut by_claim = BTreeSet::new();
    for (owner, mapping) in by_role_or_claim(&standing.snapshot, provider, rules) {
        let Some(text) = recorded::text(session, user_row, owner)? else { continue };
        let claims = recorded::claims(&text, user, owner, rules)?;
        if holds_by_claim(&mapping.when, &claims) {
            by_claim.insert((owner.clone(), mapping.id));
        }
    }
    standing.snapshot.by_claim = by_claim;
    Ok(standing)
}

fn read_grants(
    session: &Session<'_>,
    user_row: i64,
    provider: &ProviderName,
    standing: &mut Standing,
) -> Result<(), StoreError> {
    let mut select = session
        .connection
        .prepare_cached(
            "SELECT kind, name, provider, mapping, lease_from IS NOT NULL, held_at IS NOT NULL FROM grants
             WHERE user_id = ?1",
        )
        .map_err(unavailable)?;
    let mut rows = select.query(params![user_row]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        let grant = read_grant(row, 0)?;
        if let Source::Mapped { provider: owner, mapping } = &grant.source
            && owner == provider
        {
            let key = || (grant.target.clone(), *mapping);
            if row.get(4).map_err(unavailable)? {
                standing.frozen.insert(key());
            }
            if row.get(5).map_err(unavailable)? {
                standing.snapshot.held.insert(key());
            }
        }
        standing.snapshot.grants.push(grant);
    }
    Ok(())
}

/// Reads kind, name, provider and mapping, from the given column on.
pub(super) fn read_grant(row: &rusqlite::Row<'_>, first: usize) -> Result<Grant, StoreError> {
    let text = |at: usize| row.get_ref(first + at).ok().and_then(|value| value.as_str().ok()).unwrap_or_default();
    let target = target_of(row.get(first).map_err(unavailable)?, text(1))?;
    let source = match text(2) {
        "" => Source::Assigned,
        provider => Source::Mapped {
            provider: ProviderName::parse(provider).map_err(|error| StoreError::Invalid(error.to_string()))?,
            mapping: MappingId(row.get(first + 3).map_err(unavailable)?),
        },
    };
    Ok(Grant { target, source })
}

fn read_denies(
    session: &Session<'_>,
    user_row: i64,
    now: Timestamp,
    standing: &mut Standing,
) -> Result<(), StoreError> {
    let mut select = session
        .connection
        .prepare_cached("SELECT kind, name FROM denies WHERE user_id = ?1 AND (until IS NULL OR until > ?2)")
        .map_err(unavailable)?;
    let mut rows = select.query(params![user_row, now.0]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        let name: String = row.get(1).map_err(unavailable)?;
        standing.snapshot.denies.insert(target_of(row.get(0).map_err(unavailable)?, &name)?);
    }
    Ok(())
}

fn read_logins(
    session: &Session<'_>,
    user_row: i64,
    provider: &ProviderName,
    standing: &mut Standing,
) -> Result<(), StoreError> {
    let mut select = session
        .connection
        .prepare_cached(
            "SELECT provider = ?2, issued_at, last_login_at, renewed_at, claims_digest FROM watermarks WHERE user_id = ?1",
        )
        .map_err(unavailable)?;
    let mut rows = select.query(params![user_row, provider.as_str()]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        let at = Timestamp(row.get(2).map_err(unavailable)?);
        standing.snapshot.last_login = standing.snapshot.last_login.max(Some(at));
        if row.get(0).map_err(unavailable)? {
            standing.snapshot.watermark = Some(Timestamp(row.get(1).map_err(unavailable)?));
            standing.renewed_at = row.get(3).map_err(unavailable)?;
            standing.claims_digest = row.get(4).map_err(unavailable)?;
        }
    }
    Ok(())
}
