//! What a change of the rules does to users, and what ends by itself.

use std::sync::Arc;

use super::acts::AT_ONCE;
use super::{Adopted, Ask, Excess, LeaseView, People, Reaped, Replanned, Store, StoreError, Through, Unvouched, only};
use crate::pipeline::decision::{self, Changes, Ended, Kept, Remarks, RulesChange, Save, Work};
use crate::pipeline::ids::{Timestamp, UserId};
use crate::pipeline::mapping::stored::removed_targets;
use crate::pipeline::mapping::{Mode, RuleSet};
use crate::pipeline::plan::Source;
use crate::ports::catalogue::Revision;

impl Store {
    /// Makes a rule set the current one, and writes down what ends by it.
    ///
    /// # Errors
    /// As for [`Store::make_current`].
    pub async fn adopt(&self, rules: Arc<RuleSet>, now: Timestamp) -> Result<Adopted, StoreError> {
        let adopted = self.make_current(rules, now).await?;
        self.finish_work().await?;
        Ok(adopted)
    }

    /// Makes a rule set the current one: from then on the grants of mappings that it no longer has, or that are no longer active,
    /// are gone. [`Store::finish_work`] writes that down, which may take a while: logins that know the new rules do not wait.
    ///
    /// # Errors
    /// When more would end than the brake lets pass, or the store is not available.
    pub async fn make_current(&self, rules: Arc<RuleSet>, now: Timestamp) -> Result<Adopted, StoreError> {
        self.finish_work().await?;
        let ask = Ask { now: Some(now), ..Ask::default() };
        self.decide(ask, move |_, facts| {
            let change = RulesChange { rules: &rules, gone: &[], remarks: Remarks::File, now };
            let (adopted, shared) = decision::adopt(change, facts)?;
            Ok((adopted, Save { people: Vec::new(), shared }))
        })
        .await
    }

    /// Writes a change of what the mapping APIs have made in one transaction, and makes its rule set the current one.
    ///
    /// # Errors
    /// As for [`Store::adopt`], and when it was planned on an older state than the store's.
    pub async fn revise(&self, revision: Revision) -> Result<Adopted, StoreError> {
        self.finish_work().await?;
        let ask = Ask { now: Some(revision.now), ..Ask::default() };
        self.decide(ask, move |_, facts| {
            let Revision { before, after, renamed, rules, confirmed, client, events, now } = &revision;
            let mut gone = removed_targets(before, after);
            gone.retain(|target| !renamed.iter().any(|(from, _)| from == target));
            let (adopted, mut shared) = match rules {
                Some(rules) => {
                    let remarks = Remarks::Call { confirmed: *confirmed, client: client.as_deref() };
                    decision::adopt(RulesChange { rules, gone: &gone, remarks, now: *now }, facts)?
                }
                None => Default::default(),
            };
            shared.audit.extend(events.iter().map(|event| decision::Entry::told(event.event, &event.detail)));
            shared.catalogue = Some(decision::Written {
                before: Arc::clone(before),
                after: Arc::clone(after),
                renamed: renamed.clone(),
                gone,
            });
            Ok((adopted, Save { people: Vec::new(), shared }))
        })
        .await
    }

    /// Writes down what changes of the rules have ended, one user after another. It may stop at any time and go on later.
    ///
    /// # Errors
    /// When the store is not available.
    pub async fn finish_work(&self) -> Result<(), StoreError> {
        for (number, work) in self.users.work().await? {
            for mapping in &work.mappings {
                self.sweep(Through::Mapping(*mapping)).await?;
            }
            for ending in &work.unvouched {
                self.sweep(Through::Target(ending.target.clone())).await?;
            }
            for (from, _) in &work.bound {
                self.sweep(Through::Denied(from.clone())).await?;
            }
            // Other leases are noted by the sweep of those who know the rules.
            if work.leases.is_empty() {
                self.done(number).await?;
            }
        }
        Ok(())
    }

    async fn done(&self, number: i64) -> Result<(), StoreError> {
        self.decide(Ask::default(), move |_, _| {
            let mut save = Save::default();
            save.shared.done.push(number);
            Ok(((), save))
        })
        .await
    }

    /// Writes the records of some users as they are read.
    async fn sweep(&self, through: Through) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let page = self.users.through(through.clone(), after, AT_ONCE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.number;
            let ask = Ask { users: page.into_iter().map(|known| known.user).collect(), ..Ask::default() };
            let as_it_is = |kept: &Kept| Changes { record: kept.record.clone(), ..Changes::default() };
            let step = move |kept: &[Kept], _: &_| {
                Ok(((), Save { people: kept.iter().map(as_it_is).collect(), ..Save::default() }))
            };
            self.decide(ask, step).await?;
        }
    }

    /// The same for leases that are others than they were: when something of a user ends is noted again.
    async fn note_leases(&self, rules: &Arc<RuleSet>) -> Result<(), StoreError> {
        let open: Vec<(i64, Work)> = self.users.work().await?;
        let numbers: Vec<i64> =
            open.iter().filter(|(_, work)| !work.leases.is_empty()).map(|(number, _)| *number).collect();
        // A command may have read a file that was not adopted yet.
        let theirs = Arc::clone(rules);
        let others = move |_: &[Kept], facts: &_| decision::has_other_leases(&theirs, facts);
        if numbers.is_empty() && !self.foresee(Ask::default(), others).await? {
            return Ok(());
        }
        let mut after = 0;
        loop {
            let page = self.users.page(after, AT_ONCE).await?;
            let Some(last) = page.last() else { break };
            after = last.number;
            // The store is left alone where nothing is to be written.
            let due = page.into_iter().filter(|known| {
                let mut record = known.record.clone();
                record.ends_by(record.ends_at(rules));
                record.due != known.record.due
            });
            let users: Vec<UserId> = due.map(|known| known.user).collect();
            if users.is_empty() {
                continue;
            }
            let rules = Arc::clone(rules);
            let step = move |kept: &[Kept], _: &_| {
                let people = kept.iter().map(|kept| decision::renew(kept, &rules)).collect();
                Ok(((), Save { people, ..Save::default() }))
            };
            self.decide(Ask { users, ..Ask::default() }, step).await?;
        }
        for number in numbers {
            self.done(number).await?;
        }
        Ok(())
    }

    /// What [`Store::adopt`] would refuse these rules for, unless they are confirmed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn excesses(&self, rules: Arc<RuleSet>) -> Result<Vec<Excess>, StoreError> {
        self.foresee(Ask::default(), move |_, facts| decision::excesses(&rules, facts)).await
    }

    /// Grants of what is privileged under these rules, for which no administrator vouches.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn unvouched(&self, rules: Arc<RuleSet>) -> Result<Vec<Unvouched>, StoreError> {
        self.foresee(Ask::default(), move |_, facts| decision::unvouched(&rules, facts)).await
    }

    /// Groups and roles as the rules that were adopted last declare them, without mappings. `None` where that is not known.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn adopted_targets(&self) -> Result<Option<RuleSet>, StoreError> {
        self.foresee(Ask::default(), |_, facts| decision::adopted_targets(facts)).await
    }

    /// Notes that the rules of a file, by its digest, may revoke over the brake's limit.
    ///
    /// # Errors
    /// When the store is not available.
    pub async fn confirm(&self, source: [u8; 32], by: String, now: Timestamp) -> Result<(), StoreError> {
        let ask = Ask { now: Some(now), ..Ask::default() };
        let step =
            move |_: &[Kept], _: &_| Ok(((), Save { people: Vec::new(), shared: decision::confirm(source, &by) }));
        self.decide(ask, step).await
    }

    /// Lets a client revoke memberships over the brake's limit, in place of what was confirmed for it before.
    ///
    /// # Errors
    /// When the store is not available.
    pub async fn confirm_client(
        &self,
        name: String,
        confirmation: decision::Confirmation,
        by: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let ask = Ask { now: Some(now), ..Ask::default() };
        let step = move |_: &[Kept], _: &_| {
            Ok(((), Save { people: Vec::new(), shared: decision::confirm_client(&name, confirmation, &by) }))
        };
        self.decide(ask, step).await
    }

    /// Plans the next users with recorded claims again, by the current rules. `None` as the place to go on from begins; it
    /// answers at once when all were planned by these rules before, unless an operator asks (`by`).
    ///
    /// # Errors
    /// When the store is not available.
    pub async fn replan(
        &self,
        rules: Arc<RuleSet>,
        after: Option<i64>,
        by: Option<&str>,
        now: Timestamp,
    ) -> Result<Replanned, StoreError> {
        let nothing = Replanned { next: None, people: 0, changed: 0 };
        let Some(source) = rules.fingerprint() else { return Ok(nothing) };
        let begins = after.is_none() && by.is_none();
        if begins && self.foresee(Ask::default(), move |_, facts| decision::is_planned(source, facts)).await? {
            return Ok(nothing);
        }
        let page = self.users.page(after.unwrap_or_default(), AT_ONCE).await?;
        let next = page.last().map(|known| known.number);
        let recorded = page.into_iter().filter(|known| !known.record.claims.is_empty());
        let users: Vec<UserId> = recorded.map(|known| known.user).collect();
        let (people, mut changed) = (users.len() as u64, 0);
        // One after another: what one loses counts for the next.
        for user in users {
            let (rules, by) = (Arc::clone(&rules), by.map(str::to_owned));
            let ask = Ask { users: vec![user], token: None, now: Some(now) };
            changed += self
                .decide(ask, move |kept, facts| {
                    let (changes, changed) = decision::replan(only(kept)?, &rules, facts, by.as_deref(), now)?;
                    Ok((u64::from(changed), Save::from(changes)))
                })
                .await?;
        }
        if next.is_none() {
            let step =
                move |_: &[Kept], _: &_| Ok(((), Save { people: Vec::new(), shared: decision::planned(source) }));
            self.decide(Ask::default(), step).await?;
        }
        Ok(Replanned { next, people, changed })
    }

    // ---------------------------------------------------------------------------------------------- what ends by itself

    /// Mapped grants whose lease ends before a moment, the first to end at the front.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn leases(
        &self,
        rules: Arc<RuleSet>,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<LeaseView>, StoreError> {
        let mut due = Vec::new();
        let mut after = 0;
        loop {
            let page = self.users.page(after, AT_ONCE).await?;
            let Some(last) = page.last() else { break };
            after = last.number;
            for known in &page {
                for (grant, holding) in &known.record.holdings {
                    let Source::Mapped { provider, mapping } = &grant.source else { continue };
                    let Some(lease) = rules.lease(provider) else { continue };
                    let ends_at = known.record.leased_from(provider, holding).plus(lease);
                    if ends_at <= before {
                        due.push(LeaseView {
                            namespace: known.user.namespace.to_string(),
                            subject: known.user.subject.to_string(),
                            provider: provider.to_string(),
                            target: grant.target.clone(),
                            mapping: rules.mapping(*mapping).map_or_else(|| mapping.to_string(), |rule| rule.label()),
                            ends_at,
                        });
                    }
                }
            }
            // What is not asked for is not held.
            due.sort_by_key(|lease| lease.ends_at);
            due.truncate(limit);
        }
        Ok(due)
    }

    /// Ends expired leases, and mappings and denies past their `until`; a part of them where there are many.
    ///
    /// # Errors
    /// When the store is not available.
    pub async fn reap(&self, rules: Arc<RuleSet>, now: Timestamp) -> Result<Reaped, StoreError> {
        let mut reaped = Reaped::default();
        self.finish_work().await?;
        if rules.sync.mode == Mode::Shadow {
            return Ok(reaped);
        }
        self.note_leases(&rules).await?;
        let (expiring, ask) = (Arc::clone(&rules), Ask { now: Some(now), ..Ask::default() });
        let expired = self
            .decide(ask, move |_, facts| {
                let (ended, shared) = decision::expire(&expiring, facts, now)?;
                Ok((ended, Save { people: Vec::new(), shared }))
            })
            .await?;
        reaped.expired = expired.ended_grants;
        self.finish_work().await?;
        let mut after = 0;
        loop {
            let due = self.users.through(Through::Due(now), after, AT_ONCE).await?;
            let Some(last) = due.last() else { return Ok(reaped) };
            after = last.number;
            for user in due.into_iter().map(|known| known.user) {
                let ended = self.reap_one(user, &rules, now).await?;
                reaped.leases += ended.leases;
                reaped.denies += ended.denies;
            }
            // Of others nothing had ended yet: when the first of theirs ends is noted now.
            if reaped.leases > 0 {
                return Ok(reaped);
            }
        }
    }

    async fn reap_one(&self, user: UserId, rules: &Arc<RuleSet>, now: Timestamp) -> Result<Ended, StoreError> {
        let (rules, ask) = (Arc::clone(rules), Ask { users: vec![user], token: None, now: Some(now) });
        self.decide(ask, move |kept, facts| {
            let (ended, changes) = decision::reap(only(kept)?, &rules, facts, now)?;
            Ok((ended, Save::from(changes)))
        })
        .await
    }

    // -------------------------------------------------------------------------------------------------------- forecasts

    /// Users in the order in which they came, after a number.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn people(&self, after: Option<i64>, limit: usize) -> Result<People, StoreError> {
        let total = match after {
            None => Some(self.users.count().await?),
            Some(_) => None,
        };
        let people = self.users.page(after.unwrap_or_default(), limit).await?;
        let next = people.last().filter(|_| people.len() == limit).map(|known| known.number);
        Ok(People { people, next, total })
    }
}
