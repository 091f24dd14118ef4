//! What a change of the rules would change, asked of the store page by page: nothing is held but counts and the details
//! that an operator will read.

use std::future::{Future as _, poll_fn};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use crate::pipeline::decision::recorded;
use crate::pipeline::forecast::{Excess, Forecast, Forecaster, LastLogin, Person, TargetName};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::plan::Source;
use crate::pipeline::privilege::Hand;
use crate::ports::store::{self, Known, Store, StoreError};

/// Users that are read at once.
const PAGE: usize = 2_000;
/// Users for whom a thread is worth its while.
const PART: usize = 4;

/// What the new rules would change for everybody whom the store knows. `old` are the rules that hold now, where a user has
/// them at hand; else what the store knows of those has to do. `limit` is for the users in the details; `progress` hears of users done, and of all.
///
/// # Errors
/// When the store does not answer.
pub async fn forecast(
    store: &Store,
    old: Option<&RuleSet>,
    new: &Arc<RuleSet>,
    now: Timestamp,
    limit: usize,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Forecast, StoreError> {
    let kept = store.adopted_targets().await?;
    let mut forecaster = Forecaster::new(old.or(kept.as_ref()), old, new, now, limit).after(kept.as_ref());
    let mut page = store.people(None, PAGE).await?;
    let total = page.total.unwrap_or_default();
    let mut done = 0;
    loop {
        let next = page.next;
        let mut reading = pin!(async { Some(store.people(Some(next?), PAGE).await) });
        // Asked once, so that the store reads the next page while this one is looked at.
        let early = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await;
        add(&mut forecaster, &page.people, new, now);
        done += page.people.len() as u64;
        progress(done, total.max(done));
        let read = match early {
            Poll::Ready(read) => read,
            Poll::Pending => reading.await,
        };
        let Some(read) = read else { break };
        page = read?;
    }
    let excesses = store.excesses(Arc::clone(new)).await?;
    Ok(forecaster.finish(excesses.iter().map(told).collect()))
}

/// The same for some people alone, by their numbers, each of whom is in the details if anything changes. What depends on everybody (the
/// brake, last holders) it does not say.
///
/// # Errors
/// When the store does not answer.
pub async fn forecast_of(
    store: &Store,
    old: &RuleSet,
    new: &Arc<RuleSet>,
    now: Timestamp,
    numbers: &[i64],
) -> Result<Forecast, StoreError> {
    let kept = store.adopted_targets().await?;
    let mut forecaster = Forecaster::new(Some(old), Some(old), new, now, numbers.len()).after(kept.as_ref());
    for number in numbers {
        let page = store.people(Some(number - 1), 1).await?;
        if page.next == Some(*number) {
            page.people.iter().for_each(|known| forecaster.add(&person(known, new, now)));
        }
    }
    let mut found = forecaster.finish(Vec::new());
    (found.last_holders, found.brake_refuses, found.brake_holds) = (Vec::new(), Vec::new(), Vec::new());
    Ok(found)
}

fn told(excess: &store::Excess) -> Excess {
    let store::Excess { provider, target, losing, members, allowed } = excess;
    let (provider, target) = (provider.as_ref().map(ToString::to_string), TargetName::from(target));
    Excess { provider, target, losing: *losing, members: *members, allowed: *allowed }
}

/// Looks at users, in as many parts at a time as there are cores; what is counted does not depend on the parts.
fn add(forecaster: &mut Forecaster<'_>, people: &[Known], rules: &RuleSet, now: Timestamp) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let share = people.len().div_ceil(cores).max(PART);
    let parts: Vec<Forecaster<'_>> = thread::scope(|scope| {
        let begun: Vec<_> = people
            .chunks(share)
            .map(|part| {
                let mut beside = forecaster.beside();
                scope.spawn(move || {
                    part.iter().for_each(|known| beside.add(&person(known, rules, now)));
                    beside
                })
            })
            .collect();
        begun.into_iter().map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    parts.into_iter().for_each(|part| forecaster.absorb(part));
}

/// What a plan under other rules is made from, of one user: recorded claims are read by these rules.
fn person(Known { user, record, .. }: &Known, rules: &RuleSet, now: Timestamp) -> Person {
    let mut person = Person::new(user.clone(), record.disabled.is_none());
    person.logins = record
        .logins
        .iter()
        .map(|(provider, login)| LastLogin {
            provider: provider.clone(),
            watermark: login.issued_at,
            renewed_at: login.renewed_at,
            claims: record.claims.get(provider).map(|claims| recorded::read(claims, user, provider, rules)),
        })
        .collect();
    person.snapshot.last_login = record.last_login();
    person.snapshot.denies = record.denied(now);
    for (grant, holding) in &record.holdings {
        match &grant.source {
            Source::Mapped { provider, mapping } => {
                if holding.held_at.is_some() {
                    person.snapshot.held.insert((grant.target.clone(), *mapping));
                }
                let from = record.leased_from(provider, holding);
                if rules.lease(provider).is_some_and(|lease| from <= now.minus(lease)) {
                    person.lapsed.insert((grant.target.clone(), provider.clone(), *mapping));
                }
            }
            Source::Assigned => {
                let hand = match holding.as_admin {
                    Some(false) => Hand::Lesser,
                    Some(true) => Hand::Admin,
                    None => Hand::Unknown,
                };
                person.hands.insert(grant.target.clone(), hand);
            }
        }
        person.snapshot.grants.push(grant.clone());
    }
    person
}
