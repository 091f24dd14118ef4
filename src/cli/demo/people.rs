//! Who can log in at the demo's provider, and which groups they are in there.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Stands between groups in the SAML attribute, so no group's name may hold it.
pub const DELIMITER: char = ';';
/// Of one group's name, in characters.
const LONGEST_NAME: usize = 100;
/// Groups of one person.
const MOST_GROUPS: usize = 50;

/// What the provider knows of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// By this both protocols, and so the app, know them.
    pub account: String,
    pub name: String,
    pub email: String,
    pub groups: Vec<String>,
}

impl Person {
    pub fn new(account: &str, name: &str, groups: &[&str]) -> Self {
        Self {
            account: account.into(),
            name: name.into(),
            email: format!("{account}@example.com"),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        }
    }

    /// For the circle next to the name.
    pub fn initial(&self) -> String {
        self.name.chars().take(1).collect()
    }
}

/// Why a user's groups were left as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unchanged {
    #[error("The provider has no user of this name.")]
    Unknown,
    #[error(
        "A group needs a name of at most {LONGEST_NAME} characters, without “{DELIMITER}”: SAML delimits groups by it here."
    )]
    Name,
    #[error("A user can be in no more than {MOST_GROUPS} groups here.")]
    TooMany,
}

/// Everybody, in memory.
pub struct People(Mutex<Vec<Person>>);

impl People {
    pub fn new(people: Vec<Person>) -> Self {
        Self(Mutex::new(people))
    }

    /// The three of the story. Nothing in the app is mapped to `everyone`: such groups are none of its business.
    pub fn of_the_story() -> Self {
        Self::new(vec![
            Person::new("alice", "Alice Archer", &["engineering", "on-call", "everyone"]),
            Person::new("bob", "Bob Baker", &["marketing", "editors"]),
            Person::new("carol", "Carol Clark", &["administrators"]),
        ])
    }

    pub fn all(&self) -> Vec<Person> {
        self.lock().clone()
    }

    pub fn find(&self, account: &str) -> Option<Person> {
        self.lock().iter().find(|person| person.account == account).cloned()
    }

    /// # Errors
    /// When there is no such person, or the name cannot be a group's.
    pub fn add(&self, account: &str, group: &str) -> Result<(), Unchanged> {
        let group = group.trim();
        let fits = !group.is_empty() && group.chars().count() <= LONGEST_NAME;
        if !fits || group.contains(DELIMITER) || group.chars().any(char::is_control) {
            return Err(Unchanged::Name);
        }
        self.change(account, |groups| match groups.len() {
            _ if groups.iter().any(|held| held == group) => Ok(()),
            MOST_GROUPS.. => Err(Unchanged::TooMany),
            _ => {
                groups.push(group.to_owned());
                Ok(())
            }
        })
    }

    /// # Errors
    /// When there is no such person.
    pub fn remove(&self, account: &str, group: &str) -> Result<(), Unchanged> {
        self.change(account, |groups| {
            groups.retain(|held| held != group);
            Ok(())
        })
    }

    fn change(
        &self,
        account: &str,
        change: impl FnOnce(&mut Vec<String>) -> Result<(), Unchanged>,
    ) -> Result<(), Unchanged> {
        let mut people = self.lock();
        let person = people.iter_mut().find(|person| person.account == account).ok_or(Unchanged::Unknown)?;
        change(&mut person.groups)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Person>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_and_go() {
        let people = People::of_the_story();
        people.add("alice", " editors ").unwrap();
        people.add("alice", "editors").unwrap();
        people.remove("alice", "on-call").unwrap();
        assert_eq!(people.find("alice").unwrap().groups, ["engineering", "everyone", "editors"]);
    }

    #[test]
    fn what_could_not_be_sent_as_one_group_is_refused() {
        let people = People::of_the_story();
        for name in ["", " ", "a;b", "a\nb", &"a".repeat(101)] {
            assert_eq!(people.add("alice", name), Err(Unchanged::Name), "{name:?}");
        }
        assert_eq!(people.add("mallory", "editors"), Err(Unchanged::Unknown));
        let added = (0..60).filter(|number| people.add("bob", &format!("group {number}")).is_ok());
        assert_eq!(added.count(), MOST_GROUPS - 2);
        assert_eq!(people.find("bob").unwrap().groups.len(), MOST_GROUPS);
    }
}
