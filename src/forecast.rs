//! What a change of the rules would change, asked of the store page by page: nothing is held but counts and the details
//! that an operator will read.

use std::sync::Arc;

use crate::pipeline::forecast::{Excess, Forecast, Forecaster, TargetName};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::RuleSet;
use crate::ports::store::{self, Store, StoreError};

/// Users that are read at once.
const PAGE: usize = 2_000;

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
    let (mut after, mut done, mut total) = (None, 0, 0);
    loop {
        let page = store.people(Arc::clone(new), after, PAGE, now).await?;
        total = page.total.unwrap_or(total);
        page.people.iter().for_each(|person| forecaster.add(person));
        done += page.people.len() as u64;
        progress(done, total.max(done));
        after = page.next;
        if after.is_none() {
            break;
        }
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
        let page = store.people(Arc::clone(new), Some(number - 1), 1, now).await?;
        if page.next == Some(*number) {
            page.people.iter().for_each(|person| forecaster.add(person));
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
