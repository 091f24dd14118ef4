//! Logins: applied, looked at, and refused before a decision.

use aws_lc_rs::digest;
use rusqlite::params;

use super::super::{Applied, Login, Preview, Refusal, StoreError};
use super::audit::About;
use super::decide::{self, Token};
use super::{Session, audit, unavailable};
use crate::pipeline::decision::{self, RefusalDetail};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::{Candidates, RuleSet};

pub(super) fn apply(
    session: &mut Session<'_>,
    login: &Login,
    candidates: &Candidates,
    rules: &RuleSet,
) -> Result<Applied, StoreError> {
    let digest = token_digest(&login.issuer, &login.token_id);
    let token = Token { digest: &digest, until: login.remember_until };
    let loaded = decide::load(session, &login.user, Some(token))?;
    let step = |kept: &_, facts: &_| decision::login(kept, login, candidates, rules, facts);
    let (applied, changes) = decide::decide(session.connection, &loaded, rules, login.now, step)?;
    if !matches!(applied, Applied::Stale) {
        sweep(session, login.now)?;
        decide::commit(session, &loaded, &changes, Some(token), login.now)?;
    }
    Ok(applied)
}

/// What would become of a login. Nothing is written.
pub(super) fn preview(
    session: &mut Session<'_>,
    login: &Login,
    candidates: &Candidates,
    rules: &RuleSet,
) -> Result<Preview, StoreError> {
    let digest = token_digest(&login.issuer, &login.token_id);
    let loaded = decide::load(session, &login.user, Some(Token { digest: &digest, until: login.remember_until }))?;
    let step = |kept: &_, facts: &_| decision::preview(kept, login, candidates, rules, facts);
    decide::decide(session.connection, &loaded, rules, login.now, step)
}

/// Records a login that was refused after its signature held, once for each token.
pub(super) fn record_refusal(session: &mut Session<'_>, refusal: &Refusal) -> Result<(), StoreError> {
    let digest = token_digest(refusal.provider.as_str(), &refusal.token_id);
    if !decide::remember(session, Token { digest: &digest, until: refusal.remember_until }, false)? {
        return Ok(());
    }
    sweep(session, refusal.now)?;
    let detail = RefusalDetail {
        login: &refusal.id,
        provider: refusal.provider.as_str(),
        token: &refusal.token_id,
        outcome: "refused",
        reason: &refusal.reason,
        arrived: &refusal.arrived,
    };
    let about = About { login: Some(&refusal.id), ..About::default() };
    audit::append_about(session, refusal.now, "login_refused", &detail, &about)
}

pub(super) fn token_digest(scope: &str, token_id: &str) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&(scope.len() as u64).to_be_bytes());
    context.update(scope.as_bytes());
    context.update(token_id.as_bytes());
    context.finish().as_ref().to_vec()
}

/// Clears expired token records away, once in a transaction: more of them than its jobs add, so that the table shrinks under
/// load. The limit is written out: SQLite plans by a bound one's value, and compiled the statement anew each time.
fn sweep(session: &mut Session<'_>, now: Timestamp) -> Result<(), StoreError> {
    if std::mem::replace(&mut session.swept, true) {
        return Ok(());
    }
    session
        .connection
        .prepare_cached(
            "DELETE FROM tokens WHERE (digest, spent) IN
             (SELECT digest, spent FROM tokens WHERE until < ?1 ORDER BY until LIMIT 256)",
        )
        .and_then(|mut delete| delete.execute(params![now.0]))
        .map_err(unavailable)?;
    Ok(())
}
