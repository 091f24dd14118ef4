//! Claims that the configuration reads and that do not come: which lines the log gets of them, and when.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::pipeline::claims::arrived::NearName;
use crate::pipeline::claims::{ClaimState, Claims};
use crate::pipeline::ids::{ClaimName, ProviderName, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;

/// So many people without a claim, and no login with it, are no coincidence.
const PEOPLE: usize = 5;
/// Within this time; and no line is repeated within it.
const WINDOW: Duration = Duration::from_secs(3600);

/// What is remembered of each claim of each provider: a few moments and [`PEOPLE`] hashes.
#[derive(Debug, Default)]
pub struct MissingClaims {
    hasher: RandomState,
    tracks: Mutex<HashMap<(ProviderName, ClaimName), Track>>,
}

#[derive(Debug, Default)]
struct Track {
    /// When a login last had the claim.
    seen: Option<Timestamp>,
    /// The last people without it, each with the moment of the last login.
    without: Vec<(u64, Timestamp)>,
    warned: Option<Timestamp>,
    told_near: Option<Timestamp>,
}

/// What the log reports of one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// The claim is missing, and one with nearly its name came.
    Near(&'a NearName),
    /// No login had the claim for a while.
    Gone(&'a ClaimName),
}

impl MissingClaims {
    /// Notes what a login brought of the claims that some mapping or gate reads.
    pub fn note<'a>(
        &self,
        rules: &RuleSet,
        provider: &ProviderName,
        claims: &'a Claims,
        near: &'a [NearName],
        now: Timestamp,
    ) -> Vec<Line<'a>> {
        let mut lines = Vec::new();
        for claim in claims.claims.iter().filter(|claim| rules.reads(provider, &claim.name, now)) {
            match claim.state {
                ClaimState::Missing => {
                    let near = near.iter().find(|near| near.claim == claim.name.as_str());
                    let (is_gone, tells_near) = self.missing(provider, &claim.name, &claims.user, near.is_some(), now);
                    lines.extend(near.filter(|_| tells_near).map(Line::Near));
                    lines.extend(is_gone.then_some(Line::Gone(&claim.name)));
                }
                // What does not come with this login says nothing of what the provider sends.
                ClaimState::Unresolved(_) => {}
                ClaimState::Values(_) | ClaimState::Empty | ClaimState::Malformed => {
                    self.with(provider, &claim.name, |track| {
                        track.seen = track.seen.max(Some(now));
                        track.without.clear();
                    });
                }
            }
        }
        lines
    }

    /// Whether the claim is gone, and whether a near name is worth a line.
    fn missing(
        &self,
        provider: &ProviderName,
        claim: &ClaimName,
        user: &UserId,
        is_near: bool,
        now: Timestamp,
    ) -> (bool, bool) {
        let person = self.hasher.hash_one(user);
        self.with(provider, claim, |track| {
            track.without.retain(|(known, at)| *known != person && at.plus(WINDOW) > now);
            track.without.push((person, now));
            let excess = track.without.len().saturating_sub(PEOPLE);
            track.without.drain(..excess);
            let is_recent = |at: Option<Timestamp>| at.is_some_and(|at| at.plus(WINDOW) > now);
            let is_gone = track.without.len() == PEOPLE && !is_recent(track.seen) && !is_recent(track.warned);
            let tells_near = is_near && !is_recent(track.told_near);
            if is_gone {
                track.warned = Some(now);
            }
            if tells_near {
                track.told_near = Some(now);
            }
            (is_gone, tells_near)
        })
    }

    fn with<T>(&self, provider: &ProviderName, claim: &ClaimName, act: impl FnOnce(&mut Track) -> T) -> T {
        let mut tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        act(tracks.entry((provider.clone(), claim.clone())).or_default())
    }

    /// Claims that the rules read, that logins came without within the last hour, and none with.
    pub fn silent(&self, rules: &RuleSet, now: Timestamp) -> Vec<(ProviderName, ClaimName)> {
        let tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |at: Timestamp| at.plus(WINDOW) > now;
        let is_silent =
            |track: &Track| !track.seen.is_some_and(recent) && track.without.iter().any(|(_, at)| recent(*at));
        let silent =
            tracks.iter().filter(|((provider, claim), track)| is_silent(track) && rules.reads(provider, claim, now));
        let mut silent: Vec<_> = silent.map(|(key, _)| key.clone()).collect();
        silent.sort();
        silent
    }

    /// Forgets claims that the rules no longer read.
    pub fn retain(&self, rules: &RuleSet) {
        let mut tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        tracks.retain(|(provider, claim), _| rules.names(provider, claim));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::ids::{Namespace, Subject};

    const MINUTE: i64 = 60_000;

    struct Case {
        missing: MissingClaims,
        provider: ProviderName,
        claim: ClaimName,
    }

    impl Case {
        fn new() -> Self {
            let (provider, claim) = (ProviderName::parse("p").unwrap(), ClaimName::parse("groups").unwrap());
            Self { missing: MissingClaims::default(), provider, claim }
        }

        fn lacks(&self, person: usize, minute: i64) -> bool {
            let subject = Subject::parse(&format!("user-{person}")).unwrap();
            let user = UserId { namespace: Namespace::parse("p").unwrap(), subject };
            self.missing.missing(&self.provider, &self.claim, &user, false, Timestamp(minute * MINUTE)).0
        }

        fn has(&self, minute: i64) {
            self.missing.with(&self.provider, &self.claim, |track| {
                track.seen = track.seen.max(Some(Timestamp(minute * MINUTE)));
                track.without.clear();
            });
        }
    }

    #[test]
    fn five_people_within_an_hour_are_worth_one_warning_an_hour() {
        let case = Case::new();
        assert!((0..4).all(|person| !case.lacks(person, 0)));
        assert!(!case.lacks(3, 10), "the same person again");
        assert!(case.lacks(4, 20));
        assert!((5..50).all(|person| !case.lacks(person, 30)), "warned already");
        assert!(case.lacks(50, 81));
    }

    #[test]
    fn a_slow_trickle_and_a_login_with_the_claim_are_no_alarm() {
        let case = Case::new();
        assert!(
            (0..40).all(|person| !case.lacks(usize::try_from(person).unwrap(), person * 16)),
            "four within an hour"
        );
        let case = Case::new();
        case.has(0);
        assert!((0..50).all(|person| !case.lacks(person, 59)), "one person had it within the hour");
        assert!(case.lacks(50, 61));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let case = Case::new();
        for person in 0..1000 {
            case.lacks(person, 1);
        }
        let tracks = case.missing.tracks.lock().unwrap();
        assert_eq!(tracks.values().map(|track| track.without.len()).sum::<usize>(), PEOPLE);
    }
}
