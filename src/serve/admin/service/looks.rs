//! Looks: how a login is decided, and what other mappings would change. Nothing is written.
//!
//! Both may take long, so that they run off the I/O threads, few at once, not for ever, and no longer than a caller waits
//! for them. What they read of all users, the store reads without delaying logins and sessions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::aside::{PATIENCE, Unlooked, aside};
use super::mappings::check;
use super::{Reference, Refused, Service, World};
use crate::config::{Face, ProviderSettings};
use crate::explain::{Input, Surroundings, explain};
use crate::forecast::{forecast, forecast_of};
use crate::login::outcome::Remembered;
use crate::pipeline::explain::Report;
use crate::pipeline::forecast::Forecast;
use crate::pipeline::ids::{MappingId, Timestamp, UserId};
use crate::pipeline::mapping::definition::{Definition, Fault, ShortTarget};
use crate::pipeline::mapping::{Mapping, RuleSet, Rules};
use crate::ports::store::AuditRow;

/// Faults that one answer names at most: an answer shall not grow with what was sent.
pub const MOST_FAULTS: usize = 100;

/// A login that a user has in hand.
pub struct Question {
    pub provider: Arc<ProviderSettings>,
    pub login: Candidate,
    /// The moment to look at it from; `None`: now.
    pub at: Option<Timestamp>,
}

pub enum Candidate {
    /// Whatever [`Input::read`] reads.
    Token(String),
    /// As a token has them.
    Claims(Map<String, Value>),
}

/// A login that has been decided.
pub enum Past {
    /// Its signature held: the audit has it.
    Recorded(AuditRow),
    /// No signature vouched for it, so that it is in the memory of this process alone.
    Remembered(Remembered),
}

/// Mappings as they might be. One with a reference stands in place of that one.
pub enum Planned {
    /// All that there would be, those of the file included, in the order in which they would run.
    All(Vec<(Option<Reference>, Definition)>),
    /// One of them; no definition takes it away.
    One(Option<Reference>, Option<Definition>),
}

/// For whom a plan is made.
pub enum Whom {
    /// Everybody, with the details of at most so many.
    Everyone(usize),
    These(Vec<UserId>),
}

impl Service {
    /// Tells how a login would be decided now, with at most `mappings` of its mappings.
    ///
    /// # Errors
    /// When what was given cannot be read, the store does not answer, or it takes too long.
    pub async fn explain(&self, question: Question, mappings: usize) -> Result<Report, Unlooked> {
        let inspect = Arc::clone(&self.inspect);
        aside(&self.turns.explaining, PATIENCE, async move {
            let Question { provider, login, at } = question;
            let input = match login {
                Candidate::Claims(claims) => Input::claims(claims),
                Candidate::Token(text) => Input::read(&text, &provider.provider, inspect.config().limits.saml_document)
                    .map_err(|why| Refused::fault("token", None, why.to_string()))?,
            };
            let (store, keys) = (inspect.store(), inspect.keys());
            let around = Surroundings {
                provider: &provider.provider,
                keys: &*keys,
                keys_from: provider.keys_from(),
                rules: inspect.rules(),
                store: Some((&store, String::from("the store"))),
                directory: None,
                now: at.unwrap_or_else(|| inspect.now()),
            };
            let mut report = explain(input, around).await?;
            report.keep_mappings(mappings);
            Ok(report)
        })
        .await
    }

    /// What the audit has of a past login, else what this process remembers of a refused one.
    ///
    /// # Errors
    /// When there is none of this id, or the store cannot be read.
    pub async fn past_login(&self, id: String) -> Result<Past, Unlooked> {
        let (store, outcomes) = (self.inspect.store(), self.inspect.outcomes());
        aside(&self.turns.explaining, PATIENCE, async move {
            if let Some(row) = store.audit_of(id.clone()).await? {
                return Ok(Past::Recorded(row));
            }
            let remembered = outcomes.remembered(&id).map(Past::Remembered);
            remembered.ok_or_else(|| {
                Refused::NotFound("neither the audit nor the memory of refusals has such a login".into())
            })
        })
        .await
    }

    /// Tells what the mappings would change.
    ///
    /// # Errors
    /// When something is wrong with a mapping, there is no such user, the store does not answer, or it takes too long.
    pub async fn plan(&self, planned: Planned, whom: Whom) -> Result<Forecast, Unlooked> {
        let inspect = Arc::clone(&self.inspect);
        aside(&self.turns.planning, PATIENCE, async move {
            let (world, store) = (inspect.world(), inspect.store());
            let rules = Arc::new(planned_rules(&world, planned)?);
            match whom {
                Whom::Everyone(people) => {
                    let (old, mut unwatched) = (Some(&*world.rules), |_, _| {});
                    Ok(forecast(&store, old, &rules, world.now, people, &mut unwatched).await?)
                }
                Whom::These(users) => {
                    let (mut numbers, mut faults) = (Vec::with_capacity(users.len()), Vec::new());
                    for (at, user) in users.into_iter().enumerate() {
                        match store.number(user.clone()).await? {
                            Some(number) => numbers.push(number),
                            None => {
                                let name = user.to_string();
                                faults.push(Fault::new(format!("users[{at}]"), Some(&name), "there is no such user"));
                            }
                        }
                    }
                    super::no_faults(faults)?;
                    numbers.sort_unstable();
                    numbers.dedup();
                    Ok(forecast_of(&store, &world.rules, &rules, world.now, &numbers).await?)
                }
            }
        })
        .await
    }
}

// ------------------------------------------------------------------------------------------------------ planned rules

/// The rules as they would be.
fn planned_rules(world: &World, planned: Planned) -> Result<RuleSet, Refused> {
    let mappings = match planned {
        Planned::All(list) => all(world, list)?,
        Planned::One(reference, definition) => one(world, reference, definition)?,
    };
    let now = &*world.rules;
    let rules = Rules {
        groups: now.groups.clone(),
        roles: now.roles.clone(),
        mappings,
        gates: now.gates.clone(),
        providers: now.providers.clone(),
        sync: now.sync,
        source: now.source,
        overlay: now.overlay.clone(),
        elsewhere: Arc::clone(&now.elsewhere),
    };
    RuleSet::compile(now.epoch, rules).map_err(|why| Refused::Conflict(why.to_string()))
}

/// Today's with one of them changed.
fn one(world: &World, reference: Option<Reference>, definition: Option<Definition>) -> Result<Vec<Mapping>, Refused> {
    let mut mappings = world.rules.mappings().to_vec();
    let before = match reference {
        Some(reference) => {
            Some(identity(world, reference).ok_or_else(|| Refused::fault("change.id", None, NO_MAPPING))?)
        }
        None => None,
    };
    let fresh = || Mapping::id_of_number(world.stored.last_number + 1);
    let (id, before) = before.map_or_else(|| (fresh(), None), |(id, definition)| (id, Some(definition)));
    let place = mappings.iter().position(|mapping| mapping.id == id);
    let after = definition.map(|definition| check(world, &definition, id, before.as_ref(), Face::V1)).transpose();
    let after = after.map_err(|refused| at_field(refused, "change.definition"))?;
    match (place, after) {
        (Some(at), Some(after)) => mappings.splice(at..=at, [after]).for_each(drop),
        (Some(at), None) => drop(mappings.remove(at)),
        (None, Some(after)) => mappings.push(after),
        (None, None) => {}
    }
    Ok(mappings)
}

const NO_MAPPING: &str = "there is no such mapping";

/// The identity of a mapping that there is, and what it says.
fn identity(world: &World, reference: Reference) -> Option<(MappingId, Definition)> {
    match reference {
        Reference::Number(number) => {
            let entry = world.stored.mappings.get(&number)?;
            Some((Mapping::id_of_number(number), entry.body.definition.clone()))
        }
        Reference::File(id) => world.file.mapping(id).map(|mapping| (id, Definition::of(mapping))),
    }
}

fn at_field(refused: Refused, field: &str) -> Refused {
    match refused {
        Refused::Invalid(faults) => Refused::Invalid(faults.into_iter().map(|fault| below(fault, field)).collect()),
        other => other,
    }
}

pub(super) fn below(fault: Fault, field: &str) -> Fault {
    Fault { field: format!("{field}.{}", fault.field), ..fault }
}

/// Those of the list. One without a reference is the one of its name, or that says the same; else it is new.
fn all(world: &World, list: Vec<(Option<Reference>, Definition)>) -> Result<Vec<Mapping>, Refused> {
    let mut faults = Vec::new();
    if list.len() > world.most_mappings {
        let message =
            format!("has {} mappings; expected at most {} (`limits.mappings`)", list.len(), world.most_mappings);
        return Err(Refused::fault("mappings", None, message));
    }
    let known = Known::of(world);
    let (mut taken, mut names) = (HashSet::new(), HashSet::new());
    let mut fresh = world.stored.last_number;
    let mut mappings = Vec::with_capacity(list.len());
    for (at, (reference, definition)) in list.into_iter().enumerate() {
        if faults.len() >= MOST_FAULTS {
            break;
        }
        let mut fault = |field: &str, value: Option<&str>, message: &str| {
            faults.push(Fault::new(format!("mappings[{at}].{field}"), value, message));
        };
        let before = match reference.or_else(|| known.like(&definition)) {
            Some(reference) => {
                let Some(found) = identity(world, reference) else {
                    fault("id", None, NO_MAPPING);
                    continue;
                };
                Some(found)
            }
            None => None,
        };
        if let Some(name) = definition.name.as_deref()
            && before.as_ref().is_none_or(|(_, before)| before.name.as_deref() != Some(name))
            && !names.insert(crate::pipeline::mapping::condition::alike(name).into_owned())
        {
            fault("definition.name", Some(name), "is the name of another mapping too, case aside");
        }
        let id = before.as_ref().map_or_else(
            || {
                fresh += 1;
                Mapping::id_of_number(fresh)
            },
            |(id, _)| *id,
        );
        if !taken.insert(id) {
            fault("id", None, "is in the list twice");
        }
        // What is there already may be what is not to be had from here.
        if before.is_some_and(|(_, before)| before == definition) {
            mappings.extend(world.rules.mapping(id).cloned());
            continue;
        }
        match definition.compile(id, world.declared(), world.limits) {
            Ok(mapping) => mappings.push(mapping),
            Err(wrong) => {
                let field = format!("mappings[{at}].definition");
                faults.extend(wrong.into_iter().map(|fault| below(fault, &field)));
            }
        }
    }
    faults.truncate(MOST_FAULTS);
    super::no_faults(faults).map(|()| mappings)
}

/// How mappings that there are may be found again by what they say.
struct Known {
    names: HashMap<String, Reference>,
    contents: HashMap<[String; 5], Reference>,
}

impl Known {
    fn of(world: &World) -> Self {
        let mut known = Self { names: HashMap::new(), contents: HashMap::new() };
        for entry in world.stored.mappings.values() {
            known.add(&entry.body.definition, Reference::Number(entry.number));
        }
        for mapping in world.file.mappings() {
            known.add(&Definition::of(mapping), Reference::File(mapping.id));
        }
        known
    }

    fn add(&mut self, definition: &Definition, reference: Reference) {
        if let Some(name) = &definition.name {
            self.names.insert(name.clone(), reference);
        } else if let Some(content) = content(definition) {
            self.contents.insert(content, reference);
        }
    }

    fn like(&self, definition: &Definition) -> Option<Reference> {
        match &definition.name {
            Some(name) => self.names.get(name).copied(),
            None => self.contents.get(&content(definition)?).copied(),
        }
    }
}

/// What makes an unnamed mapping what it is.
pub(super) fn content(definition: &Definition) -> Option<[String; 5]> {
    let short = definition.short()?;
    let (kind, target) = match short.target {
        ShortTarget::Group(name) => ("group", name),
        ShortTarget::Role(name) => ("role", name),
    };
    // A delimiter that is not there is another than an empty one.
    let delimiter = short.delimiter.map_or_else(String::new, |delimiter| format!("={delimiter}"));
    let texts = [short.provider, short.claim, short.value].map(str::to_owned);
    let [provider, claim, value] = texts;
    Some([provider, claim, value, delimiter, format!("{kind} {target}")])
}
