//! What a forecast counts, so that users can be looked at side by side.

use std::collections::{BTreeMap, HashMap};

use super::{Moves, UserForecast};
use crate::ids::{ClaimName, MappingId, ProviderName, Target};

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) gains: u64,
    pub(super) losses: u64,
    pub(super) at_once: u64,
    pub(super) may_lose: u64,
    pub(super) may_gain: u64,
}

/// Enabled users who effectively hold something, now and afterwards.
#[derive(Debug, Default)]
pub(super) struct Holders {
    pub(super) before: u64,
    pub(super) after: u64,
}

/// Members through one provider, and those that logins would remove.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) members: u64,
    pub(super) losing: u64,
}

/// What is counted, one user after the other.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) users: u64,
    pub(super) without_claims: u64,
    pub(super) changed_users: u64,
    pub(super) interrupted_users: u64,
    pub(super) lapsed_grants: u64,
    pub(super) privileged_grants: u64,
    pub(super) targets: BTreeMap<Target, Counts>,
    pub(super) holders: BTreeMap<Target, Holders>,
    pub(super) flows: BTreeMap<(ProviderName, Target), Flow>,
    pub(super) refusals: BTreeMap<String, u64>,
    pub(super) may_refuse: BTreeMap<String, u64>,
    /// How many users lack these claims of a provider.
    pub(super) unread: HashMap<(ProviderName, Vec<ClaimName>), u64>,
    /// Mappings with grants, and how many.
    pub(super) granting: HashMap<MappingId, u64>,
    /// Of mappings of the new rules, what logins would change.
    pub(super) moving: HashMap<MappingId, Moves>,
    pub(super) details: Vec<UserForecast>,
    pub(super) left_out: u64,
}

impl Tally {
    /// Adds what was counted of the users who come next. `limit` is for the users in the details.
    pub(super) fn absorb(&mut self, next: Self, limit: usize) {
        let Self {
            users,
            without_claims,
            changed_users,
            interrupted_users,
            lapsed_grants,
            privileged_grants,
            targets,
            holders,
            flows,
            refusals,
            may_refuse,
            unread,
            granting,
            moving,
            details,
            left_out,
        } = next;
        self.users += users;
        self.without_claims += without_claims;
        self.changed_users += changed_users;
        self.interrupted_users += interrupted_users;
        self.lapsed_grants += lapsed_grants;
        self.privileged_grants += privileged_grants;
        for (target, Counts { gains, losses, at_once, may_lose, may_gain }) in targets {
            let counts = self.targets.entry(target).or_default();
            counts.gains += gains;
            counts.losses += losses;
            counts.at_once += at_once;
            counts.may_lose += may_lose;
            counts.may_gain += may_gain;
        }
        for (target, Holders { before, after }) in holders {
            let holders = self.holders.entry(target).or_default();
            holders.before += before;
            holders.after += after;
        }
        for (way, Flow { members, losing }) in flows {
            let flow = self.flows.entry(way).or_default();
            flow.members += members;
            flow.losing += losing;
        }
        for (mapping, Moves { coming, going }) in moving {
            let moves = self.moving.entry(mapping).or_default();
            moves.coming += coming;
            moves.going += going;
        }
        refusals.into_iter().for_each(|(reason, users)| *self.refusals.entry(reason).or_default() += users);
        may_refuse.into_iter().for_each(|(reason, users)| *self.may_refuse.entry(reason).or_default() += users);
        unread.into_iter().for_each(|(claims, users)| *self.unread.entry(claims).or_default() += users);
        granting.into_iter().for_each(|(mapping, grants)| *self.granting.entry(mapping).or_default() += grants);
        let room = limit.saturating_sub(self.details.len());
        self.left_out += left_out + details.len().saturating_sub(room) as u64;
        self.details.extend(details.into_iter().take(room));
    }
}
