//! Many changes of the store's mappings as one: all of them or none, with what they would give and take.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::aside::{PATIENCE, aside};
use super::looks::{MOST_FAULTS, below, content};
use super::mappings::{check_disabling, has_place, own_mapping, placed, set_order};
use super::{Call, Draft, Place, Reference, Refused, Service, Unlooked, World, check_version, fresh_key};
use crate::config::Scope;
use crate::forecast::forecast;
use crate::pipeline::forecast::Forecast;
use crate::pipeline::mapping::Mapping;
use crate::pipeline::mapping::condition::alike;
use crate::pipeline::mapping::definition::{Definition, Fault};
use crate::pipeline::mapping::stored::{Entry, MappingBody, Stored, merge};

/// One of many changes.
#[derive(Debug, Clone)]
pub struct BulkChange {
    /// Its place in the request.
    pub at: usize,
    /// The mapping that changes; `None` makes one.
    pub reference: Option<Reference>,
    /// The version that the caller has seen.
    pub version: Option<i64>,
    /// `None` takes the mapping away.
    pub written: Option<(Definition, Place)>,
}

/// Many changes, and what was wrong with others.
#[derive(Debug, Clone)]
pub struct ReadChanges {
    pub changes: Vec<BulkChange>,
    /// With a fault nothing is written: the changes are looked at for theirs.
    pub faults: Vec<Fault>,
}

/// The outcome of one change.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BulkResult {
    /// `created`, `changed` or `deleted`.
    pub result: &'static str,
    /// Absent for a new mapping that is only planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Absent for a deleted mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
}

/// The outcome of all changes, made or planned.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Bulk {
    /// Whether the changes were written.
    pub applied: bool,
    /// In the order of the request.
    pub changes: Vec<BulkResult>,
    /// Who gains and loses what by them.
    pub plan: Forecast,
}

impl Service {
    /// Plans changes of mappings, with the details of at most `people`, and writes them where `apply` says so: all or none.
    ///
    /// # Errors
    /// When the caller may not, something is wrong with a change, or what they were planned on changed meanwhile.
    pub async fn change_mappings(
        &self,
        call: &Call,
        changes: ReadChanges,
        apply: bool,
        people: usize,
    ) -> Result<Bulk, Unlooked> {
        // The plan names people, and tells what was recorded of them.
        call.caller.may(Scope::Read)?;
        call.caller.may(Scope::WriteMappings)?;
        let (inspect, own) = (Arc::clone(&self.inspect), call.clone());
        let planned = changes.clone();
        let (plan, mut results, on) = aside(&self.turns.planning, PATIENCE, async move {
            let world = inspect.world();
            let (draft, results) = drafted(&world, &own, planned)?;
            let rules = merge(&world.file, &draft.after, Arc::clone(&world.rules.elsewhere), world.rules.epoch);
            let rules = Arc::new(rules.map_err(|why| Refused::Conflict(why.to_string()))?);
            let (store, mut unwatched) = (inspect.store(), |_, _| {});
            let plan = forecast(&store, Some(&world.rules), &rules, world.now, people, &mut unwatched).await?;
            Ok((plan, results, (world.stored.generation, world.rules.epoch)))
        })
        .await?;
        if apply {
            let own = call.clone();
            let edit = move |world: &World| match (world.stored.generation, world.rules.epoch) == on {
                true => drafted(world, &own, changes),
                false => Err(Refused::Conflict("the rules changed while this was planned; repeat the call".into())),
            };
            results = self.change(call, edit).await?;
        } else {
            results.iter_mut().filter(|result| result.result == CREATED).for_each(|result| result.id = None);
        }
        Ok(Bulk { applied: apply, changes: results, plan })
    }
}

const CREATED: &str = "created";

/// The changes on what there is, with everything that is wrong with them.
fn drafted(
    world: &World,
    call: &Call,
    ReadChanges { changes, faults }: ReadChanges,
) -> Result<(Draft, Vec<BulkResult>), Refused> {
    check_version(call, world.stored.generation)?;
    let all_read = faults.is_empty();
    let mut bulk = Changing {
        world,
        call,
        draft: world.draft(),
        faults,
        seen: HashSet::new(),
        written: Vec::new(),
        places: Vec::new(),
    };
    let mut results = Vec::with_capacity(changes.len());
    for change in changes {
        if bulk.faults.len() >= MOST_FAULTS {
            break;
        }
        results.extend(bulk.take(change)?);
    }
    // What could not be read may be what makes room for a name.
    if all_read {
        bulk.check_doubles();
    }
    bulk.faults.truncate(MOST_FAULTS);
    super::no_faults(std::mem::take(&mut bulk.faults))?;
    let found = world.file.mappings().len() + bulk.draft.after.mappings.len();
    if found > world.most_mappings && found > world.file.mappings().len() + world.stored.mappings.len() {
        let message =
            format!("there would be {found} mappings; expected at most {} (`limits.mappings`)", world.most_mappings);
        return Err(Refused::Conflict(message));
    }
    bulk.put_in_order();
    Ok((bulk.draft, results))
}

/// The changes so far.
struct Changing<'a> {
    world: &'a World,
    call: &'a Call,
    draft: Draft,
    faults: Vec<Fault>,
    /// Mappings that were changed or taken away.
    seen: HashSet<i64>,
    /// Where in the request a mapping is written, and its number.
    written: Vec<(usize, i64)>,
    places: Vec<(i64, Place)>,
}

impl Changing<'_> {
    fn fault<T>(&mut self, at: usize, field: &str, value: Option<&str>, message: impl Into<String>) -> Option<T> {
        self.faults.push(Fault::new(format!("changes[{at}].{field}"), value, message));
        None
    }

    /// `None`: something is wrong with it, which is noted.
    fn take(&mut self, change: BulkChange) -> Result<Option<BulkResult>, Refused> {
        let BulkChange { at, reference, version, written } = change;
        let before = match reference {
            None => None,
            Some(reference) => match self.known(at, reference, version) {
                Some(entry) => Some(entry),
                None => return Ok(None),
            },
        };
        if let Some(before) = &before {
            check_disabling(self.call, &before.body.definition)?;
        }
        match (before, written) {
            (Some(before), None) => {
                self.draft.after.mappings.remove(&before.number);
                let detail = json!({ "id": before.number, "definition": before.body.definition });
                self.draft.note("mapping_deleted", self.call, detail);
                Ok(Some(BulkResult { result: "deleted", id: Some(before.number.to_string()), version: None }))
            }
            (before, Some((definition, place))) => {
                check_disabling(self.call, &definition)?;
                self.write(at, before, definition, place)
            }
            (None, None) => Ok(self.fault(at, "definition", None, "expected `id`, `definition` or both")),
        }
    }

    fn known(&mut self, at: usize, reference: Reference, version: Option<i64>) -> Option<Arc<Entry<MappingBody>>> {
        let entry = match own_mapping(self.world, reference) {
            Ok(entry) => Arc::clone(entry),
            Err(why) => return self.fault(at, "id", None, why.text()),
        };
        if !self.seen.insert(entry.number) {
            return self.fault(at, "id", Some(&entry.number.to_string()), "is in the list twice");
        }
        match version.filter(|version| *version != entry.version) {
            Some(version) => {
                let message = format!("is not the version that there is, {}; read it again", entry.version);
                self.fault(at, "version", Some(&version.to_string()), message)
            }
            None => Some(entry),
        }
    }

    fn write(
        &mut self,
        at: usize,
        before: Option<Arc<Entry<MappingBody>>>,
        definition: Definition,
        place: Place,
    ) -> Result<Option<BulkResult>, Refused> {
        let number = before.as_ref().map_or_else(|| self.draft.after.next_number(), |before| before.number);
        if number > i64::from(i32::MAX) {
            return Err(Refused::Conflict("the numbers of this store are used up".into()));
        }
        let (id, world) = (Mapping::id_of_number(number), self.world);
        if let Err(faults) = definition.compile(id, world.declared(), world.limits) {
            let field = format!("changes[{at}].definition");
            self.faults.extend(faults.into_iter().map(|fault| below(fault, &field)));
            return Ok(None);
        }
        let runs = has_place(&definition);
        let position = before.as_ref().and_then(|before| before.body.position).filter(|_| runs);
        if runs && !(place == Place::Keep && position.is_some()) {
            self.places.push((number, place));
        }
        let any_claim = before.as_ref().is_some_and(|before| before.body.any_claim);
        let (result, entry) = match before {
            None => {
                self.draft.note("mapping_created", self.call, json!({ "id": number, "definition": definition }));
                let body = MappingBody { definition, position, admin: self.call.caller.is_admin(), any_claim };
                (CREATED, Entry::new(number, fresh_key()?, world.now, body))
            }
            Some(before) => {
                let detail = json!({ "id": number, "before": before.body.definition, "after": definition });
                self.draft.note("mapping_changed", self.call, detail);
                let body = MappingBody { definition, position, admin: self.call.caller.is_admin(), any_claim };
                ("changed", before.changed(world.now, body))
            }
        };
        let version = Some(entry.version);
        self.draft.after.mappings.insert(number, Arc::new(entry));
        self.written.push((at, number));
        Ok(Some(BulkResult { result, id: Some(number.to_string()), version }))
    }

    /// Names and contents that two mappings would share once all is written: a name may go from one to another in one call.
    fn check_doubles(&mut self) {
        let world = self.world;
        let of_file: Vec<Definition> = world.file.mappings().iter().map(Definition::of).collect();
        let of_store = self.draft.after.mappings.values().map(|entry| &entry.body.definition);
        let (mut names, mut contents) = (HashMap::<_, u32>::new(), HashMap::<_, u32>::new());
        for definition in of_file.iter().chain(of_store) {
            match definition.name.as_deref() {
                Some(name) => *names.entry(alike(name).into_owned()).or_default() += 1,
                None => *contents.entry(content(definition)).or_default() += 1,
            }
        }
        let mut doubles = Vec::new();
        for (at, number) in &self.written {
            let Some(after) = self.draft.after.mappings.get(number) else { continue };
            let definition = &after.body.definition;
            let before = world.stored.mappings.get(number).map(|before| &before.body.definition);
            match definition.name.as_deref() {
                Some(name) => {
                    let kept = before.is_some_and(|before| before.name.as_deref() == Some(name));
                    if !kept && names.get(&*alike(name)).is_some_and(|times| *times > 1) {
                        doubles.push((
                            *at,
                            "definition.name",
                            Some(name.to_owned()),
                            "is another mapping's, case aside",
                        ));
                    }
                }
                None => {
                    let said = content(definition);
                    if said.is_some() && contents.get(&said).is_some_and(|times| *times > 1) {
                        doubles.push((*at, "definition", None, "is what another mapping says"));
                    }
                }
            }
        }
        for (at, field, value, message) in doubles {
            self.fault::<()>(at, field, value.as_deref(), message);
        }
    }

    /// Those that move go to their places one after the other; the others keep theirs among them.
    fn put_in_order(&mut self) {
        let moving: HashSet<i64> = self.places.iter().map(|(number, _)| *number).collect();
        let mut order = placed(&self.draft.after);
        order.retain(|number| !moving.contains(number));
        for (number, place) in &self.places {
            let at = match place {
                Place::At(position) => (position.max(&1).saturating_sub(1) as usize).min(order.len()),
                Place::Keep | Place::Last => order.len(),
            };
            order.insert(at, *number);
        }
        let after: &mut Stored = &mut self.draft.after;
        set_order(after, &order, self.world.now);
    }
}
