//! What would become of a login: its own transaction, taken back.

use rusqlite::params;

use super::super::{Login, Preview, StoreError};
use super::apply::Who;
use super::{Session, apply, execute, unavailable};
use crate::pipeline::mapping::{Candidates, RuleSet};

/// Plans a login as [`apply::apply`] does, and leaves no trace of it.
pub(super) fn preview(
    session: &mut Session<'_>,
    login: &Login,
    candidates: &Candidates,
    rules: &RuleSet,
) -> Result<Preview, StoreError> {
    execute(session.connection, "SAVEPOINT preview")?;
    let outcome = look(session, login, candidates, rules);
    execute(session.connection, "ROLLBACK TO preview")?;
    execute(session.connection, "RELEASE preview")?;
    outcome
}

fn look(
    session: &mut Session<'_>,
    login: &Login,
    candidates: &Candidates,
    rules: &RuleSet,
) -> Result<Preview, StoreError> {
    let who = Who::find(session, login)?;
    let (plan, standing) = apply::plan_for(session, login, &who, candidates, rules)?;
    Ok(Preview {
        plan,
        snapshot: standing.snapshot,
        known: who.known.is_some(),
        enabled: !who.is_disabled(),
        spent: is_spent(session, login)?,
    })
}

fn is_spent(session: &Session<'_>, login: &Login) -> Result<bool, StoreError> {
    let token = apply::token_digest(&login.issuer, &login.token_id);
    session
        .connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM tokens WHERE digest = ?1 AND spent)")
        .and_then(|mut select| select.query_row(params![token], |row| row.get(0)))
        .map_err(unavailable)
}
