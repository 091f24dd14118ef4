//! Mappings: those of the file to look at, those of the store to change.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::aside::{PATIENCE, aside};
use super::{Call, Draft, Refused, Service, Unlooked, World, check_version, fresh_key};
use crate::config::{Face, Scope};
use crate::pipeline::ids::{MappingId, ProviderName, Timestamp};
use crate::pipeline::lookup::Lookup;
use crate::pipeline::mapping::condition::alike;
use crate::pipeline::mapping::definition::{Declared, Definition};
use crate::pipeline::mapping::stored::{Entry, MOST_IMPLIED, MappingBody, Stored, implied};
use crate::pipeline::mapping::{Activity, Mapping, ProviderRules, RuleSet};
use crate::ports::store::Replanned;

/// How long one call goes on planning people again.
const APPLYING: Duration = Duration::from_secs(30);

/// A mapping, as the API shows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MappingView {
    /// A number for one of the store, 32 hexadecimal digits for one of the file.
    pub id: String,
    /// `file`: the configuration declares it, and it is read-only here. `store`: made by an API.
    pub origin: &'static str,
    /// `active`, `disabled` or `inactive`.
    pub activity: &'static str,
    /// Why it is inactive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its position among the enabled mappings of the store, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    pub definition: Definition,
    /// The UUID that the vendor APIs with UUIDs use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip)]
    pub number: Option<i64>,
    pub version: i64,
    /// RFC 3339; mappings of the file have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    #[serde(skip)]
    pub created: Option<Timestamp>,
    #[serde(skip)]
    pub updated: Option<Timestamp>,
}

/// How a caller names a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// Of the store.
    Number(i64),
    /// Of the file.
    File(MappingId),
}

impl Reference {
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let mut bytes = [0; 16];
            for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
                *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
            }
            return Some(Self::File(MappingId(bytes)));
        }
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && *number > 0).map(Self::Number)
    }
}

/// Where an enabled mapping goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Keep,
    Last,
    /// Clamped to what there is.
    At(u32),
}

/// A check of a face's own, made on the state that the change is planned on.
type Guard = Box<dyn FnOnce(&World) -> Result<(), Refused> + Send>;

/// A mapping to be made.
pub struct NewMapping {
    pub definition: Definition,
    pub place: Place,
    pub guard: Option<Guard>,
}

impl MappingView {
    fn of_store(entry: &Entry<MappingBody>, rules: &RuleSet) -> Self {
        let compiled = rules.mapping(Mapping::id_of_number(entry.number));
        let left_out = rules.overlay.left_out.get(&entry.number).cloned();
        let activity = match (entry.body.definition.enabled, compiled.map(|mapping| mapping.activity)) {
            (false, _) => Activity::Disabled,
            (true, Some(Activity::Active)) => Activity::Active,
            (true, _) => Activity::Inactive,
        };
        let reason = (activity == Activity::Inactive).then(|| left_out.unwrap_or_else(|| NO_STAGE.into()));
        Self {
            id: entry.number.to_string(),
            origin: "store",
            activity: word(activity),
            reason,
            position: entry.body.position,
            definition: entry.body.definition.clone(),
            key: Some(entry.key.clone()),
            number: Some(entry.number),
            version: entry.version,
            created_at: Some(entry.created_at.to_string()),
            updated_at: Some(entry.updated_at.to_string()),
            created: Some(entry.created_at),
            updated: Some(entry.updated_at),
        }
    }

    pub fn of_file(mapping: &Mapping) -> Self {
        Self {
            id: mapping.id.to_string(),
            origin: "file",
            activity: word(mapping.activity),
            reason: (mapping.activity == Activity::Inactive).then(|| NO_STAGE.into()),
            position: None,
            definition: Definition::of(mapping),
            key: None,
            number: None,
            version: 1,
            created_at: None,
            updated_at: None,
            created: None,
            updated: None,
        }
    }
}

const NO_STAGE: &str = "its provider and its group have no stage in common";

fn word(activity: Activity) -> &'static str {
    match activity {
        Activity::Active => "active",
        Activity::Disabled => "disabled",
        Activity::Inactive => "inactive",
    }
}

impl Service {
    /// Mappings of the file, in its order.
    pub fn file_mappings(&self) -> Vec<MappingView> {
        self.inspect.file_rules().mappings().iter().map(MappingView::of_file).collect()
    }

    /// Mappings of the store, in the order in which they run.
    pub fn stored_mappings(&self) -> Vec<MappingView> {
        let (stored, rules) = (self.inspect.stored(), self.inspect.rules());
        stored.in_order().into_iter().map(|entry| MappingView::of_store(entry, &rules)).collect()
    }

    /// One page of all mappings, those of the file first, in the order in which they run. A view is made of those alone that are
    /// on the page, or that `takes` has to look at.
    pub fn page_of_mappings(
        &self,
        takes: Option<&dyn Fn(&MappingView) -> bool>,
        from: usize,
        limit: usize,
    ) -> Vec<MappingView> {
        enum Of<'a> {
            File(&'a Mapping),
            Store(&'a Entry<MappingBody>),
        }
        let (file, rules, stored) = (self.inspect.file_rules(), self.inspect.rules(), self.inspect.stored());
        let stored = stored.in_order();
        let all = file.mappings().iter().map(Of::File).chain(stored.iter().map(|entry| Of::Store(entry)));
        let view = |of: Of<'_>| match of {
            Of::File(mapping) => MappingView::of_file(mapping),
            Of::Store(entry) => MappingView::of_store(entry, &rules),
        };
        match takes {
            None => all.skip(from).take(limit).map(view).collect(),
            Some(takes) => all.map(view).filter(takes).skip(from).take(limit).collect(),
        }
    }

    /// # Errors
    /// When there is no such mapping.
    pub fn mapping(&self, reference: Reference) -> Result<MappingView, Refused> {
        let found = match reference {
            Reference::Number(number) => {
                let (stored, rules) = (self.inspect.stored(), self.inspect.rules());
                stored.mappings.get(&number).map(|entry| MappingView::of_store(entry, &rules))
            }
            Reference::File(id) => self.inspect.file_rules().mapping(id).map(MappingView::of_file),
        };
        found.ok_or_else(|| Refused::NotFound("there is no such mapping".into()))
    }

    /// # Errors
    /// When the caller may not, or something is wrong with the mapping.
    pub async fn create_mapping(&self, call: &Call, new: NewMapping) -> Result<MappingView, Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let own = call.clone();
        let number = self.change(call, move |world| create(world, &own, new)).await?;
        self.mapping(Reference::Number(number))
    }

    /// Changes a mapping of the store by what `edit` makes of it.
    ///
    /// # Errors
    /// When the caller may not, something is wrong with the change, or there is no such mapping.
    pub async fn update_mapping(
        &self,
        call: &Call,
        reference: Reference,
        edit: impl FnOnce(&World, &MappingBody) -> Result<(Definition, Place), Refused> + Send + 'static,
    ) -> Result<MappingView, Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let own = call.clone();
        let number = self.change(call, move |world| update(world, &own, reference, edit)).await?;
        self.mapping(Reference::Number(number))
    }

    /// Its grants end at once.
    ///
    /// # Errors
    /// When the caller may not, or there is no such mapping in the store.
    pub async fn delete_mapping(&self, call: &Call, reference: Reference) -> Result<(), Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let own = call.clone();
        self.change(call, move |world| {
            let entry = own_mapping(world, reference)?;
            check_version(&own, entry.version)?;
            check_disabling(&own, &entry.body.definition)?;
            let mut draft = world.draft();
            draft.after.mappings.remove(&entry.number);
            close_gaps(&mut draft.after, world.now);
            draft.note("mapping_deleted", &own, json!({ "id": entry.number, "definition": entry.body.definition }));
            Ok((draft, ()))
        })
        .await
    }

    /// Plans people again by the rules as they are, from recorded claims, for a while. `after` goes on where a call before ended.
    ///
    /// # Errors
    /// When the caller may not, another such call runs, or the store does not answer.
    pub async fn apply_mappings(&self, call: &Call, after: Option<i64>) -> Result<Replanned, Unlooked> {
        call.caller.may(Scope::WriteMembers)?;
        let (inspect, by) = (Arc::clone(&self.inspect), call.caller.by());
        aside(&self.turns.planning, PATIENCE, async move {
            let until = tokio::time::Instant::now() + APPLYING;
            let mut done = Replanned { next: after, people: 0, changed: 0 };
            loop {
                // The newest rules decide, if they change meanwhile.
                let (store, rules) = (inspect.store(), inspect.rules());
                let page = store.replan(rules, done.next, Some(&by), inspect.now()).await?;
                done.people += page.people;
                done.changed += page.changed;
                done.next = page.next;
                if done.next.is_none() || tokio::time::Instant::now() >= until {
                    return Ok(done);
                }
            }
        })
        .await
    }

    /// Puts the enabled mappings of the store into an order. Those that are not named keep their places behind.
    ///
    /// # Errors
    /// When the caller may not, or `check` refuses.
    pub async fn sort_mappings(
        &self,
        call: &Call,
        order: Vec<i64>,
        check: impl FnOnce(&Stored, &[i64]) -> Result<(), Refused> + Send + 'static,
    ) -> Result<Vec<i64>, Refused> {
        call.caller.may(Scope::WriteMappings)?;
        let own = call.clone();
        self.change(call, move |world| {
            check(&world.stored, &order)?;
            let mut draft = world.draft();
            let placed = placed(&draft.after);
            let mut after: Vec<i64> = order.iter().copied().filter(|number| placed.contains(number)).collect();
            after.extend(placed.into_iter().filter(|number| !order.contains(number)));
            set_order(&mut draft.after, &after, world.now);
            draft.note("mappings_sorted", &own, json!({ "order": after }));
            Ok((draft, after))
        })
        .await
    }
}

pub(super) fn own_mapping(world: &World, reference: Reference) -> Result<&Arc<Entry<MappingBody>>, Refused> {
    match reference {
        Reference::Number(number) => world.stored.mappings.get(&number),
        Reference::File(id) if world.file.mapping(id).is_some() => {
            let message = "this mapping is declared in the configuration file, and read-only here";
            return Err(Refused::ReadOnly(message.into()));
        }
        Reference::File(_) => None,
    }
    .ok_or_else(|| Refused::NotFound("there is no such mapping".into()))
}

/// Everything that holds of a mapping whichever face it comes through. `id` is its identity, or the one that it would get;
/// `before` is what it was. A name that is new to it must be its own, but where `face` has names that need not be.
pub(super) fn check(
    world: &World,
    definition: &Definition,
    id: MappingId,
    before: Option<&Definition>,
    face: Face,
) -> Result<Mapping, Refused> {
    let providers = with_implied(world, definition, face)?;
    let declared = world.declared();
    let declared = Declared { providers: providers.as_ref().unwrap_or(declared.providers), ..declared };
    let mapping = definition.compile(id, declared, world.limits).map_err(Refused::Invalid)?;
    let others = || world.stored.mappings.values().filter(|entry| Mapping::id_of_number(entry.number) != id);
    let in_file = || world.file.mappings().iter().filter(|mapping| mapping.id != id);
    if let Some(name) = definition.name.as_deref() {
        if face == Face::Onelogin || before.is_some_and(|before| before.name.as_deref() == Some(name)) {
            return Ok(mapping);
        }
        let same = |other: &str| alike(other) == alike(name);
        let in_file = in_file().any(|mapping| mapping.name.as_deref().is_some_and(same));
        if in_file || others().any(|entry| entry.body.definition.name.as_deref().is_some_and(same)) {
            return Err(Refused::Conflict(format!("there is a mapping `{name}` already, case aside")));
        }
    } else if let Some(short) = definition.short() {
        let in_file = in_file().any(|mapping| Definition::of(mapping).short() == Some(short));
        if in_file || others().any(|entry| entry.body.definition.short() == Some(short)) {
            return Err(Refused::Conflict("there is a mapping that says the same".into()));
        }
    }
    Ok(mapping)
}

/// The providers, with the claim that a mapping names and its provider does not declare: in a face whose mappings may name any.
fn with_implied(
    world: &World,
    definition: &Definition,
    face: Face,
) -> Result<Option<Lookup<ProviderName, ProviderRules>>, Refused> {
    let Some((provider, claim)) = implied(definition).filter(|_| face == Face::Odc) else { return Ok(None) };
    let known = world.rules.providers.get(&provider);
    if known.is_none_or(|known| known.claims.iter().any(|rule| rule.name == claim.name)) {
        return Ok(None);
    }
    if world.rules.overlay.implied.get(&provider).is_some_and(|implied| implied.len() >= MOST_IMPLIED) {
        let message = format!(
            "mappings read {MOST_IMPLIED} claims that provider `{provider}` does not declare; declare `{}` in the configuration",
            claim.name
        );
        return Err(Refused::Conflict(message));
    }
    let mut providers = world.rules.providers.clone();
    if let Some(known) = providers.get_mut(&provider) {
        known.claims.push(claim);
    }
    Ok(Some(providers))
}

/// A mapping that disables people does what takes `members:write` elsewhere, and so do writing it and taking it away.
pub(super) fn check_disabling(call: &Call, definition: &Definition) -> Result<(), Refused> {
    let disables = definition.then.iter().any(|action| action.disable_user);
    if disables && call.caller.may(Scope::WriteMembers).is_err() {
        let message = "a mapping that disables users takes scope `members:write` too, which the client lacks";
        return Err(Refused::Forbidden(message.into()));
    }
    Ok(())
}

fn check_count(world: &World) -> Result<(), Refused> {
    let found = world.file.mappings().len() + world.stored.mappings.len();
    if found >= world.most_mappings {
        let message =
            format!("there are {found} mappings; expected at most {} (`limits.mappings`)", world.most_mappings);
        return Err(Refused::Conflict(message));
    }
    Ok(())
}

fn create(world: &World, call: &Call, new: NewMapping) -> Result<(Draft, i64), Refused> {
    let NewMapping { definition, place, guard } = new;
    check_count(world)?;
    if let Some(guard) = guard {
        guard(world)?;
    }
    check_disabling(call, &definition)?;
    let mut draft = world.draft();
    let number = draft.after.next_number();
    check(world, &definition, Mapping::id_of_number(number), None, call.caller.face)?;
    if number > i64::from(i32::MAX) {
        return Err(Refused::Conflict("the numbers of this store are used up".into()));
    }
    draft.note("mapping_created", call, json!({ "id": number, "definition": definition }));
    let runs = has_place(&definition);
    let any_claim = call.caller.face == Face::Odc;
    let body = MappingBody { definition, position: None, admin: call.caller.is_admin(), any_claim };
    draft.after.mappings.insert(number, Arc::new(Entry::new(number, fresh_key()?, world.now, body)));
    if runs {
        put(&mut draft.after, number, place, world.now);
    }
    Ok((draft, number))
}

fn update(
    world: &World,
    call: &Call,
    reference: Reference,
    edit: impl FnOnce(&World, &MappingBody) -> Result<(Definition, Place), Refused>,
) -> Result<(Draft, i64), Refused> {
    let entry = own_mapping(world, reference)?;
    check_version(call, entry.version)?;
    let (definition, place) = edit(world, &entry.body)?;
    check_disabling(call, &entry.body.definition)?;
    check_disabling(call, &definition)?;
    let id = Mapping::id_of_number(entry.number);
    check(world, &definition, id, Some(&entry.body.definition), call.caller.face)?;
    let mut draft = world.draft();
    let (number, before) = (entry.number, &entry.body.definition);
    draft.note("mapping_changed", call, json!({ "id": number, "before": before, "after": definition }));
    let runs = has_place(&definition);
    let position = entry.body.position.filter(|_| runs);
    let any_claim = entry.body.any_claim || call.caller.face == Face::Odc;
    let body = MappingBody { definition, position, admin: call.caller.is_admin(), any_claim };
    draft.after.mappings.insert(number, Arc::new(entry.changed(world.now, body)));
    let stays = place == Place::Keep && position.is_some();
    match runs && !stays {
        true => put(&mut draft.after, number, place, world.now),
        false => close_gaps(&mut draft.after, world.now),
    }
    Ok((draft, number))
}

/// Whether a mapping has a place in the order.
pub(super) fn has_place(definition: &Definition) -> bool {
    definition.enabled && definition.unmatched.is_none()
}

/// The mappings with a place, in their order.
pub(super) fn placed(stored: &Stored) -> Vec<i64> {
    let ordered = stored.in_order();
    ordered.into_iter().filter(|entry| entry.body.position.is_some()).map(|entry| entry.number).collect()
}

fn put(stored: &mut Stored, number: i64, place: Place, now: Timestamp) {
    let mut order = placed(stored);
    order.retain(|other| *other != number);
    let at = match place {
        Place::At(position) => (position.max(1) as usize - 1).min(order.len()),
        Place::Keep | Place::Last => order.len(),
    };
    order.insert(at, number);
    set_order(stored, &order, now);
}

/// Positions are 1 to n without gaps.
pub(super) fn close_gaps(stored: &mut Stored, now: Timestamp) {
    let order = placed(stored);
    set_order(stored, &order, now);
}

pub(super) fn set_order(stored: &mut Stored, order: &[i64], now: Timestamp) {
    for (number, position) in order.iter().zip(1_u32..) {
        let Some(entry) = stored.mappings.get(number) else { continue };
        if entry.body.position != Some(position) {
            let body = MappingBody { position: Some(position), ..entry.body.clone() };
            // Its place is moved by its neighbours too; that is not a change that a caller would have to see first.
            let moved = Entry { version: entry.version, ..entry.changed(now, body) };
            stored.mappings.insert(*number, Arc::new(moved));
        }
    }
}
