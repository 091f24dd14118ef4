//! Numbers of groups and roles, by which records name them.

use std::sync::Arc;

use crate::ids::Target;
use crate::lookup::Lookup;

/// The numbers of groups and roles. None is ever used twice: a new group of an old name is another one.
///
/// A store hands a copy to its readers whenever one was added, so that a copy costs no more than the last few additions.
#[derive(Debug, Clone, Default)]
pub struct Names {
    settled: Arc<Settled>,
    /// What was added since; of names, `None` where one is gone.
    numbers: Lookup<Target, Option<i64>>,
    targets: Lookup<i64, Named>,
    last: i64,
}

#[derive(Debug, Clone, Default)]
struct Settled {
    numbers: Lookup<Target, i64>,
    targets: Lookup<i64, Named>,
}

/// What a number is of. `true`: it is gone, and the name is only left for denies.
type Named = (Target, bool);

/// Additions that a copy may cost.
const RECENT: usize = 256;

impl Names {
    pub fn insert(&mut self, number: i64, target: Target, gone: bool) {
        if let Some((before, false)) = self.named(number).cloned()
            && self.number(&before) == Some(number)
        {
            self.numbers.insert(before, None);
        }
        if !gone {
            self.numbers.insert(target.clone(), Some(number));
        }
        self.targets.insert(number, (target, gone));
        self.last = self.last.max(number);
        if self.targets.len() >= RECENT {
            self.settle();
        }
    }

    fn settle(&mut self) {
        let settled = Arc::make_mut(&mut self.settled);
        settled.targets.extend(self.targets.drain());
        for (target, number) in self.numbers.drain() {
            match number {
                Some(number) => settled.numbers.insert(target, number),
                None => settled.numbers.remove(&target),
            };
        }
    }

    fn named(&self, number: i64) -> Option<&Named> {
        self.targets.get(&number).or_else(|| self.settled.targets.get(&number))
    }

    /// The number of what bears a name now.
    pub fn number(&self, target: &Target) -> Option<i64> {
        match self.numbers.get(target) {
            Some(number) => *number,
            None => self.settled.numbers.get(target).copied(),
        }
    }

    /// What a number is of; `None` when that is gone, or was never there.
    pub fn target(&self, number: i64) -> Option<&Target> {
        self.named(number).filter(|(_, gone)| !gone).map(|(target, _)| target)
    }

    pub fn is_gone(&self, number: i64) -> bool {
        self.named(number).is_some_and(|(_, gone)| *gone)
    }

    /// A number that nothing has had.
    pub fn fresh(&self) -> i64 {
        self.last + 1
    }

    /// All numbers with their names, and whether they are gone.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Target, bool)> {
        let settled = self.settled.targets.iter().filter(|(number, _)| !self.targets.contains_key(number));
        settled.chain(&self.targets).map(|(number, (target, gone))| (*number, target, *gone))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::GroupName;

    fn target(name: u8) -> Target {
        Target::Group(GroupName::parse(&format!("g{name}")).unwrap())
    }

    /// What every number is of, in the order of the numbers.
    fn all(names: &Names) -> Vec<(i64, Target, bool)> {
        let mut all: Vec<_> = names.iter().map(|(number, target, gone)| (number, target.clone(), gone)).collect();
        all.sort_by_key(|(number, ..)| *number);
        all
    }

    proptest! {
        /// With more additions than a copy may cost, renames and ends among them, and copies that stay as they were.
        #[test]
        fn names_are_found_whenever_they_were_added(
            steps in prop::collection::vec((0..40_i64, 0..30_u8, any::<bool>()), 0..900)
        ) {
            let (mut names, mut copies) = (Names::default(), Vec::new());
            let (mut numbers, mut targets) = (Lookup::default(), Lookup::default());
            for (at, (number, name, gone)) in steps.into_iter().enumerate() {
                // The first steps add numbers, so that there are enough of them.
                let number = if at < 600 { i64::try_from(at).unwrap() } else { number };
                names.insert(number, target(name), gone);
                if let Some((before, false)) = targets.insert(number, (target(name), gone))
                    && numbers.get(&before) == Some(&number)
                {
                    numbers.remove(&before);
                }
                if !gone {
                    numbers.insert(target(name), number);
                }
                if at % 97 == 0 {
                    copies.push((names.clone(), all(&names)));
                }
            }
            for name in 0..30 {
                prop_assert_eq!(names.number(&target(name)), numbers.get(&target(name)).copied());
            }
            for (number, (target, gone)) in &targets {
                prop_assert_eq!(names.target(*number), Some(target).filter(|_| !gone));
                prop_assert_eq!(names.is_gone(*number), *gone);
            }
            prop_assert_eq!(all(&names).len(), targets.len());
            for (copy, before) in copies {
                prop_assert_eq!(all(&copy), before);
            }
        }
    }
}
