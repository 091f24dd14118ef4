//! Trying a mapping on people without a login, from the claims of their last ones.

use super::{Refused, Service};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::condition::{Facts, Person as Conditioned, Truth};
use crate::pipeline::mapping::{Mapping, RuleSet, truth_of};
use crate::ports::catalogue::Person;

/// A person, and whether a mapping would hold for them.
#[derive(Debug)]
pub struct Trial {
    pub person: Person,
    /// Undecided where a claim that it reads was not recorded.
    pub holds: Truth,
}

impl Service {
    /// Tries a mapping of the store, enabled or not, on people by their numbers.
    ///
    /// # Errors
    /// When there is no such mapping or person, or the store cannot be read.
    pub async fn try_mapping(&self, number: i64, people: &[i64]) -> Result<Vec<Trial>, Refused> {
        self.mapping(super::Reference::Number(number))?;
        let rules = self.inspect.rules();
        let mut trials = Vec::with_capacity(people.len());
        for number_of in people {
            let person = self.inspect.store().person(*number_of).await?;
            let Some(person) = person else {
                return Err(Refused::fault("default", None, format!("Invalid user ID: {number_of}")));
            };
            let holds = match rules.mapping(Mapping::id_of_number(number)) {
                Some(mapping) => self.holds(mapping, &person, &rules).await?,
                // One that cannot be used holds for no user.
                None => Truth::False,
            };
            trials.push(Trial { person, holds });
        }
        Ok(trials)
    }

    async fn holds(
        &self,
        mapping: &Mapping,
        person: &Person,
        rules: &std::sync::Arc<RuleSet>,
    ) -> Result<Truth, Refused> {
        let view = self.user(person.user.clone()).await?;
        let held = |name: &String| rules.roles.get_key_value(name.as_str()).map(|(name, _)| name.clone());
        let conditioned = Conditioned {
            roles: view.roles.iter().filter_map(held).collect(),
            maybe: std::collections::BTreeSet::new(),
            idle_days: person.last_login_at.map(|at| days_between(at, self.inspect.now())),
        };
        let recorded = self.inspect.store().recorded(person.user.clone(), std::sync::Arc::clone(rules)).await?;
        let mut logins = recorded.iter().filter(|(provider, _)| mapping.applies_to(provider)).peekable();
        if logins.peek().is_none() {
            // A user who has not logged in since claims are recorded may bring any.
            return Ok(Truth::Undecided);
        }
        Ok(Truth::any(logins.map(|(_, claims)| truth_of(&mapping.when, &Facts::new(claims), Some(&conditioned)))))
    }
}

fn days_between(earlier: Timestamp, later: Timestamp) -> i64 {
    later.0.saturating_sub(earlier.0).max(0) / 86_400_000
}
