//! Who would gain and lose what at a receiver if it were told everything again. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::super::Told;

/// What is known here of one user.
#[derive(Debug, Clone)]
pub struct Ours {
    pub number: i64,
    pub user: String,
    /// The groups that they hold, as far as the receiver gets them.
    pub held: BTreeSet<String>,
    /// What was delivered to the receiver, or may have been.
    pub told: Option<Told>,
}

/// A group as the receiver shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum There {
    Missing,
    /// Its members are not shown.
    Hidden,
    Members(Vec<String>),
}

/// What would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Survey {
    pub groups: Vec<GroupSurvey>,
}

/// What would change in one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct GroupSurvey {
    pub group: String,
    pub is_there: bool,
    pub is_shown: bool,
    pub members: u64,
    /// Users who hold it here and are not in it.
    pub gain: Vec<String>,
    /// Users whom we put into it and who do not hold it.
    pub lose: Vec<String>,
    /// Users who hold it and whom others put into it: they stay when they lose it, unless they are adopted.
    pub foreign: Vec<String>,
    /// Members who are no users of ours, or are and do not hold it by what was said: they stay, unless the receiver is authoritative.
    pub others: u64,
    /// The ids of those who would be removed as well, since the receiver is authoritative.
    pub removed: Vec<String>,
}

impl GroupSurvey {
    /// How many would lose it.
    pub fn losing(&self) -> u64 {
        (self.lose.len() + self.removed.len()) as u64
    }
}

/// Compares. `ids`: under which ids the receiver knows users.
pub fn survey(there: Vec<(String, There)>, ours: &[Ours], ids: &BTreeMap<i64, String>, authoritative: bool) -> Survey {
    let mut survey = Survey::default();
    for (group, there) in there {
        let mut found = GroupSurvey { group, ..GroupSurvey::default() };
        let members: BTreeSet<String> = match there {
            There::Missing => BTreeSet::new(),
            There::Hidden => {
                found.is_there = true;
                survey.groups.push(found);
                continue;
            }
            There::Members(members) => {
                found.is_there = true;
                members.into_iter().collect()
            }
        };
        found.is_shown = true;
        found.members = members.len() as u64;
        let mut known: BTreeSet<&String> = BTreeSet::new();
        for one in ours {
            let id = ids.get(&one.number);
            let is_in = id.is_some_and(|id| members.contains(id));
            let said = |of: fn(&Told) -> &BTreeSet<String>| {
                one.told.as_ref().is_some_and(|told| of(told).contains(&found.group))
            };
            let is_foreign = said(|told| &told.foreign);
            let by_us = said(|told| &told.groups) && !is_foreign;
            match (one.held.contains(&found.group), is_in) {
                (true, false) => found.gain.push(one.user.clone()),
                (true, true) => {
                    known.extend(id);
                    if !by_us && !authoritative {
                        found.foreign.push(one.user.clone());
                    }
                }
                (false, true) if by_us => {
                    known.extend(id);
                    found.lose.push(one.user.clone());
                }
                (false, _) => {}
            }
        }
        let others: Vec<String> = members.iter().filter(|id| !known.contains(id)).cloned().collect();
        found.others = others.len() as u64;
        if authoritative {
            found.removed = others;
        }
        survey.groups.push(found);
    }
    survey
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            let GroupSurvey { group, is_there, is_shown, members, gain, lose, foreign, others, removed } = group;
            match (is_there, is_shown) {
                (false, _) => writeln!(f, "{group}: is not there")?,
                (true, false) => {
                    writeln!(f, "{group}: its members are not shown; everyone who holds it is put in")?;
                    continue;
                }
                (true, true) => writeln!(f, "{group}: {members} members")?,
            }
            gain.iter().try_for_each(|user| writeln!(f, "  + {user}"))?;
            lose.iter().try_for_each(|user| writeln!(f, "  - {user}"))?;
            foreign
                .iter()
                .try_for_each(|user| writeln!(f, "  = {user} was put in by others; `--adopt` makes it ours"))?;
            match (others, removed.is_empty()) {
                (0, _) => {}
                (others, true) => writeln!(f, "  {others} others stay")?,
                (others, false) => writeln!(f, "  - {others} others, since the receiver is authoritative")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn one(number: i64, user: &str, held: &[&str], told: Option<(&[&str], &[&str])>) -> Ours {
        let told = told.map(|(groups, foreign)| Told { groups: set(groups), foreign: set(foreign), ..Told::default() });
        Ours { number, user: user.into(), held: set(held), told }
    }

    #[test]
    fn who_gains_and_who_loses_follows_from_what_was_said_before() {
        let ours = [
            one(1, "in and ours", &["A"], Some((&["A"], &[]))),
            one(2, "lost here", &[], Some((&["A"], &[]))),
            one(3, "gone there", &["A"], Some((&["A"], &[]))),
            one(4, "by others", &["A"], Some((&["A"], &["A"]))),
            one(5, "by others, lost here", &[], Some((&["A"], &["A"]))),
            one(6, "unknown there", &["A"], None),
            one(7, "never told", &["A"], None),
        ];
        let ids = (1..=7).filter(|number| *number != 6).map(|number| (number, format!("id-{number}"))).collect();
        let there = || {
            vec![(
                "A".to_owned(),
                There::Members(["id-1", "id-2", "id-4", "id-5", "id-7", "x"].map(str::to_owned).into()),
            )]
        };
        let found = survey(there(), &ours, &ids, false).groups.remove(0);
        assert_eq!(found.gain, ["gone there", "unknown there"]);
        assert_eq!(found.lose, ["lost here"]);
        assert_eq!(found.foreign, ["by others", "never told"]);
        assert_eq!((found.members, found.others, found.removed.len(), found.losing()), (6, 2, 0, 1));
        let found = survey(there(), &ours, &ids, true).groups.remove(0);
        assert_eq!((found.foreign.len(), found.removed, found.others), (0, vec!["id-5".to_owned(), "x".to_owned()], 2));
        let hidden = survey(vec![("A".into(), There::Hidden), ("B".into(), There::Missing)], &ours, &ids, true);
        assert_eq!(
            (hidden.groups[0].gain.len(), hidden.groups[0].is_shown, hidden.groups[1].is_there),
            (0, false, false)
        );
    }
}
