//! What operators and clients of the APIs do about users.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::look::effective;
use super::{Act, Ask, By, DisabledView, Foreseen, HoldFilter, HoldView, Rekeyed, Store, StoreError, Through, only};
use crate::pipeline::decision::{self, About, Entry, Held, Kept, Save, Selector, Settled, Shared};
use crate::pipeline::ids::{ProviderName, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::plan::Source;
use crate::pipeline::record::Record;

/// Users in one transaction of something that goes over many, so that logins do not wait for all of them.
pub(super) const AT_ONCE: usize = 100;

impl Store {
    /// Carries out an operator's act. `by` names who. Assigning creates the user when absent.
    ///
    /// # Errors
    /// When it would change nothing, or the store is not available.
    pub async fn act(&self, user: UserId, act: Act, by: By, now: Timestamp) -> Result<(), StoreError> {
        self.act_all(vec![(user, act)], by, now).await
    }

    /// Carries out acts on people in one transaction: all of them, or none.
    ///
    /// # Errors
    /// As for [`Store::act`].
    pub async fn act_all(&self, acts: Vec<(UserId, Act)>, by: By, now: Timestamp) -> Result<(), StoreError> {
        self.finish_work().await?;
        let erases = acts.iter().any(|(_, act)| matches!(act, Act::Erase | Act::Forget));
        let ask = Ask { users: once(acts.iter().map(|(user, _)| user)), token: None, now: Some(now) };
        let step = move |kept: &[Kept], _: &_| Ok(((), decision::acts(kept, &acts, &by, now)?));
        self.decide(ask, step).await?;
        if erases { self.upkeep.settle().await } else { Ok(()) }
    }

    /// Writes a row of the audit that is about a user, and changes nothing of them.
    ///
    /// # Errors
    /// When there is no such user, or the store is not available.
    pub async fn note_about(
        &self,
        user: UserId,
        event: &'static str,
        detail: serde_json::Value,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let number = self.number(user.clone()).await?;
        let number = number.ok_or_else(|| StoreError::Invalid(format!("there is no user `{user}`")))?;
        let entry = Entry { about: About::Other { number, user }, ..Entry::told(event, &detail) };
        let ask = Ask { now: Some(now), ..Ask::default() };
        let step = move |_: &[Kept], _: &_| {
            let shared = Shared { audit: vec![entry.clone()], ..Shared::default() };
            Ok(((), Save { people: Vec::new(), shared }))
        };
        self.decide(ask, step).await
    }

    /// What an act would change of what a user effectively holds; nothing is written.
    ///
    /// # Errors
    /// As for [`Store::act`].
    pub async fn foresee_act(
        &self,
        user: UserId,
        act: Act,
        by: By,
        rules: Arc<RuleSet>,
        now: Timestamp,
    ) -> Result<Foreseen, StoreError> {
        let ask = Ask { users: vec![user.clone()], token: None, now: Some(now) };
        let acts = vec![(user, act)];
        self.foresee(ask, move |kept, _| {
            let save = decision::acts(kept, &acts, &by, now)?;
            let before = kept.first().and_then(|kept| kept.record.as_ref());
            let after = match save.people.first() {
                Some(changes) if changes.erased.is_some() => None,
                Some(changes) => changes.record.as_ref().or(before),
                None => before,
            };
            let holds = |record: Option<&Record>| -> BTreeSet<String> {
                let Some(record) = record else { return BTreeSet::new() };
                let effective = effective(record, &rules, now);
                let groups = effective.groups.iter().map(|name| format!("group `{name}`"));
                groups.chain(effective.roles.iter().map(|name| format!("role `{name}`"))).collect()
            };
            let (before, after) = (holds(before), holds(after));
            Ok(Foreseen {
                gains: after.difference(&before).cloned().collect(),
                loses: before.difference(&after).cloned().collect(),
            })
        })
        .await
    }

    /// Gives users new keys, all of them or none. What they are denied, that they are disabled, and what they hold goes with
    /// them. `by`: `None` looks and changes nothing.
    ///
    /// If a user has the new key already, the two become one if `merge` is set: denies and the disabling of either
    /// stay, grants by hand are joined, and mapped grants of the old key stay where the new one has not logged in yet.
    ///
    /// # Errors
    /// When there is no such user, or one has the new key already and `merge` is not set.
    pub async fn rekey(
        &self,
        keys: Vec<(UserId, UserId)>,
        merge: bool,
        by: Option<By>,
        now: Timestamp,
    ) -> Result<Vec<Rekeyed>, StoreError> {
        self.finish_work().await?;
        let users = once(keys.iter().flat_map(|(old, new)| [old, new]));
        let ask = Ask { users, token: None, now: Some(now) };
        match by {
            None => {
                let step = move |kept: &[Kept], _: &_| Ok(decision::rekey(kept, &keys, merge, None, now)?.0);
                self.foresee(ask, step).await
            }
            Some(by) => self.decide(ask, move |kept, _| decision::rekey(kept, &keys, merge, Some(&by), now)).await,
        }
    }

    /// Whom a mapping disabled, by its name, number or identity: those who still are, and those who were erased since.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn disabled_by(&self, mapping: String) -> Result<Vec<DisabledView>, StoreError> {
        let selector = Selector::new(&mapping);
        let mut views = Vec::new();
        self.each(Through::Disabled, |known| {
            if let Some(disabled) = known.record.disabled.filter(|disabled| selector.takes(disabled)) {
                let mapping = disabled.by.map(|(_, label)| label).unwrap_or_default();
                views.push(DisabledView { user: Some(known.user), mapping, since: disabled.at });
            }
        })
        .await?;
        let erased = self.foresee(Ask::default(), move |_, facts| decision::erased_by(&selector, facts)).await?;
        views.extend(erased.into_iter().filter_map(|disabled| {
            let mapping = disabled.by.map(|(_, label)| label)?;
            Some(DisabledView { user: None, mapping, since: disabled.at })
        }));
        Ok(views)
    }

    /// Enables whom a mapping disabled. Returns how many those were.
    ///
    /// # Errors
    /// When the store is not available.
    pub async fn enable_disabled_by(&self, mapping: String, by: By, now: Timestamp) -> Result<u64, StoreError> {
        self.finish_work().await?;
        let selector = Selector::new(&mapping);
        let mut users = Vec::new();
        self.each(Through::Disabled, |known| {
            if known.record.disabled.as_ref().is_some_and(|disabled| selector.takes(disabled)) {
                users.push(known.user);
            }
        })
        .await?;
        let mut done = 0;
        for users in users.chunks(AT_ONCE) {
            let ask = Ask { users: users.to_vec(), token: None, now: Some(now) };
            let (selector, by) = (selector.clone(), by.name.clone());
            done += self.decide(ask, move |kept, _| Ok(decision::enable(kept, &selector, &by))).await?;
        }
        let ask = Ask { now: Some(now), ..Ask::default() };
        done += self.decide(ask, move |_, facts| decision::enable_erased(&selector, &mapping, &by.name, facts)).await?;
        Ok(done)
    }

    // ----------------------------------------------------------------------------------------------------------- holds

    /// Lists held revocations, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn holds(&self, filter: HoldFilter, rules: Arc<RuleSet>) -> Result<Vec<HoldView>, StoreError> {
        let mut holds = Vec::new();
        self.each(Through::Held, |known| {
            for (grant, holding) in known.record.holdings {
                let (Source::Mapped { provider, mapping }, Some(since)) = (grant.source, holding.held_at) else {
                    continue;
                };
                let mapping =
                    rules.mapping(mapping).map_or_else(|| format!("removed mapping {mapping}"), |rule| rule.label());
                let (user, target) = (known.user.clone(), Some(grant.target));
                holds.push(HoldView { user, provider, target, mapping, since });
            }
            // Who is disabled already waits for nothing.
            let stopped = known.record.stopped.filter(|_| known.record.disabled.is_none());
            if let Some((stopped, provider)) = stopped.and_then(|stopped| Some((stopped.clone(), stopped.provider?))) {
                let (mapping, since) = (stopped.label, stopped.at);
                holds.push(HoldView { user: known.user, provider, target: None, mapping, since });
            }
        })
        .await?;
        holds.retain(|hold| filter.takes(hold));
        let key = |hold: &HoldView| {
            (hold.since, hold.target.is_none(), hold.provider.clone(), hold.target.clone(), hold.user.clone())
        };
        holds.sort_by_cached_key(key);
        Ok(holds)
    }

    /// Releases holds: plans each again, without the brake. Returns how many holds that were.
    ///
    /// # Errors
    /// When the store is not available; what was released before that stays so.
    pub async fn release(
        &self,
        filter: HoldFilter,
        rules: Arc<RuleSet>,
        by: String,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.settle_holds(filter, rules, by, true, now).await
    }

    /// Discards holds: the grants stay until a later login decides otherwise. Returns how many holds that were.
    ///
    /// # Errors
    /// As for [`Store::release`].
    pub async fn discard(
        &self,
        filter: HoldFilter,
        rules: Arc<RuleSet>,
        by: String,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.settle_holds(filter, rules, by, false, now).await
    }

    async fn settle_holds(
        &self,
        filter: HoldFilter,
        rules: Arc<RuleSet>,
        by: String,
        release: bool,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let holds = self.holds(filter, Arc::clone(&rules)).await?;
        let mut settled = Settled::default();
        let mut people: BTreeMap<(UserId, ProviderName), Held> = BTreeMap::new();
        for hold in &holds {
            let theirs = people.entry((hold.user.clone(), hold.provider.clone())).or_insert_with(|| Held {
                provider: hold.provider.clone(),
                targets: Vec::new(),
                disabling: false,
            });
            match &hold.target {
                Some(target) => {
                    theirs.targets.push(target.clone());
                    settled.targets.insert((hold.provider.clone(), target.clone()));
                }
                None => (theirs.disabling, settled.disablings) = (true, true),
            }
        }
        for ((user, _), held) in people {
            let ask = Ask { users: vec![user], token: None, now: Some(now) };
            let (rules, by) = (Arc::clone(&rules), by.clone());
            self.decide(ask, move |kept, facts| {
                let changes = match release {
                    true => decision::release(only(kept)?, &held, &rules, facts, &by, now)?,
                    false => decision::discard(only(kept)?, &held, &by),
                };
                Ok(((), Save::from(changes)))
            })
            .await?;
        }
        let ask = Ask { now: Some(now), ..Ask::default() };
        self.decide(ask, move |_, facts| Ok(((), decision::judge(&settled, facts, now)?))).await?;
        Ok(holds.len() as u64)
    }

    /// Calls `take` with all who are found by something.
    pub(super) async fn each(
        &self,
        through: Through,
        mut take: impl FnMut(super::Known) + Send,
    ) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let page = self.users.through(through.clone(), after, AT_ONCE).await?;
            let Some(last) = page.last().map(|known| known.number) else { return Ok(()) };
            after = last;
            page.into_iter().for_each(&mut take);
        }
    }
}

fn once<'a>(users: impl Iterator<Item = &'a UserId>) -> Vec<UserId> {
    let mut once: Vec<UserId> = users.cloned().collect();
    once.sort();
    once.dedup();
    once
}
