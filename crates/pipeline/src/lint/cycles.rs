//! Mappings whose conditions on roles lead back to themselves. They are legal, and give nothing by themselves: a role counts
//! only while something outside the circle gives it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Lint, Linter, about};
use crate::ids::RoleName;
use crate::mapping::Mapping;
use crate::mapping::condition::Condition;

pub(super) fn find(linter: &mut Linter<'_>) {
    let rules = linter.rules;
    let asking: Vec<&Mapping> = rules
        .mappings()
        .iter()
        .filter(|mapping| mapping.is_live(linter.now) && needs(mapping).next().is_some())
        .collect();
    let mut by_role: BTreeMap<&RoleName, Vec<usize>> = BTreeMap::new();
    for (at, mapping) in asking.iter().enumerate() {
        for role in needs(mapping) {
            by_role.entry(role).or_default().push(at);
        }
    }
    // Each circle is told once, by the first of its mappings.
    let mut told: BTreeSet<usize> = BTreeSet::new();
    for (at, first) in asking.iter().enumerate() {
        if told.contains(&at) {
            continue;
        }
        let follow = |at: usize| {
            let roles = asking.get(at).map(|mapping| rules.roles_by(mapping)).unwrap_or_default();
            roles.into_iter().flat_map(|role| by_role.get(role).into_iter().flatten().map(move |next| (role, *next)))
        };
        let Some(circle) = shortest(at, follow) else { continue };
        let label = |at: &usize| asking.get(*at).map(|mapping| mapping.label()).unwrap_or_default();
        let steps: Vec<String> = circle
            .iter()
            .map(|(from, role, to)| format!("`{}` gives role `{role}`, which `{}` asks for", label(from), label(to)))
            .collect();
        told.extend(circle.iter().map(|(from, ..)| *from));
        let message = format!(
            "its condition leads back to itself: {}; it gives nothing while no other source gives one of these roles",
            steps.join("; ")
        );
        linter.find(Lint::SupportsItself, about(first), message);
    }
}

fn needs(mapping: &Mapping) -> impl Iterator<Item = &RoleName> {
    mapping.when.conditions().iter().filter_map(|condition| match condition {
        Condition::HasRole(role) => Some(role),
        _ => None,
    })
}

type Step<'r> = (usize, &'r RoleName, usize);

/// The shortest way from a mapping back to itself.
fn shortest<'r, I: Iterator<Item = (&'r RoleName, usize)>>(
    start: usize,
    follow: impl Fn(usize) -> I,
) -> Option<Vec<Step<'r>>> {
    let mut reached: BTreeMap<usize, Step<'r>> = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(at) = waiting.pop_front() {
        for (role, next) in follow(at) {
            if next == start {
                let mut circle = vec![(at, role, next)];
                while let Some(step) = circle.last().and_then(|(from, ..)| reached.get(from)) {
                    circle.push(*step);
                }
                circle.reverse();
                return Some(circle);
            }
            if let Entry::Vacant(place) = reached.entry(next) {
                place.insert((at, role, next));
                waiting.push_back(next);
            }
        }
    }
    None
}
