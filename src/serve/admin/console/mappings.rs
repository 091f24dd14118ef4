//! Mappings: those of the file to look at, those of the store to change; each tried before it is saved.
//!
//! A mapping is edited as the JSON that `/api/v1` takes, with a short form that writes it for the usual case. What was typed comes
//! back whatever becomes of it. Saving says which version was seen: the second of two editors gets both texts. What would revoke
//! over the brake's limit takes another step.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;

use super::Console;
use super::difference::{Line, difference};
use super::door::{Asked, Fields, Posted};
use super::failure::Failure;
use super::page::{Answer, Shell, go, render};
use super::targets::targets;
use super::visitor::Visitor;
use super::words::{Moment, Sentence};
use crate::config::Scope;
use crate::pipeline::forecast::Forecast;
use crate::pipeline::ids::{MappingId, Namespace, Subject, UserId};
use crate::pipeline::mapping::definition::{Definition, Fault};
use crate::pipeline::mapping::{Mapping, RuleSet};
use crate::ports::catalogue::Search;
use crate::ports::store::Excess;
use crate::serve::admin::http::json;
use crate::serve::admin::service::{Call, MappingView, NewMapping, Place, Planned, Reference, Refused, Unlooked, Whom};

/// Mappings on one page.
const PAGE: usize = 50;
/// How far a page may begin.
const MOST_OFFSET: usize = 100_000_000;
/// People whom a trial names.
const MOST_PEOPLE: usize = 50;
/// People whom one line of a form may mean.
const MOST_NAMED: usize = 10;

#[derive(Template)]
#[template(path = "console/mappings.html")]
struct List {
    shell: Shell,
    query: String,
    rows: Vec<Row>,
    /// The page with what comes next.
    next: Option<usize>,
    first: bool,
    writes: bool,
}

struct Row {
    id: String,
    label: String,
    provider: String,
    gives: Vec<String>,
    activity: &'static str,
    reason: Option<Sentence>,
    origin: &'static str,
    position: Option<u32>,
    hits: u64,
    last: Option<Moment>,
}

/// The id of a mapping in addresses.
pub fn address_of(mapping: &Mapping, rules: &RuleSet) -> String {
    rules.number(mapping.id).map_or_else(|| mapping.id.to_string(), |number| number.to_string())
}

/// What people call a mapping.
pub fn label(view: &MappingView, rules: &RuleSet) -> String {
    let known = identity(&view.id).and_then(|id| rules.mapping(id)).map(Mapping::label);
    known.or_else(|| view.definition.name.clone()).unwrap_or_else(|| format!("mapping {}", view.id))
}

/// By which the rules know a mapping.
fn identity(id: &str) -> Option<MappingId> {
    Some(match Reference::parse(id)? {
        Reference::Number(number) => Mapping::id_of_number(number),
        Reference::File(id) => id,
    })
}

/// What a mapping gives, as lines.
fn gives(definition: &Definition) -> Vec<String> {
    let each = definition.then.iter().flat_map(|action| {
        let group = action.add_group.iter().map(|name| format!("group {name}"));
        let role = action.add_role.iter().map(|name| format!("role {name}"));
        let disables = action.disable_user.then(|| String::from("disables the person"));
        group.chain(role).chain(disables)
    });
    each.collect()
}

pub async fn list(State(console): State<Console>, visitor: Visitor, shell: Shell, Asked(asked): Asked) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let (service, inspect) = (&console.admin.service, console.admin.inspect());
    let rules = inspect.rules();
    let query = asked.get("q").to_owned();
    let from = asked.get("from").parse::<usize>().unwrap_or_default().min(MOST_OFFSET);
    let counts = inspect.meters().hits_by_id();
    let row = |view: MappingView| {
        let hits = identity(&view.id).and_then(|id| counts.get(&id));
        Row {
            label: label(&view, &rules),
            provider: view.definition.provider.clone().unwrap_or_default(),
            gives: gives(&view.definition),
            activity: view.activity,
            reason: view.reason.as_deref().map(Sentence::read),
            origin: view.origin,
            position: view.position,
            hits: hits.map_or(0, |(count, _)| *count),
            last: hits.map(|(_, last)| Moment::of(*last)),
            id: view.id,
        }
    };
    let wanted = query.to_lowercase();
    let takes = |view: &MappingView| {
        let (label, provider) = (label(view, &rules), view.definition.provider.clone().unwrap_or_default());
        let mut texts = [label, provider].into_iter().chain(gives(&view.definition));
        texts.any(|text| text.to_lowercase().contains(&wanted))
    };
    let takes: Option<&dyn Fn(&MappingView) -> bool> = if wanted.is_empty() { None } else { Some(&takes) };
    let mut rows: Vec<Row> = service.page_of_mappings(takes, from, PAGE + 1).into_iter().map(row).collect();
    let next = (rows.len() > PAGE).then_some(from + PAGE);
    rows.truncate(PAGE);
    let writes = visitor.may(Scope::WriteMappings);
    Ok(render(StatusCode::OK, &List { shell, query, rows, next, first: from == 0, writes }))
}

#[derive(Template)]
#[template(path = "console/mapping.html")]
struct Page {
    shell: Shell,
    /// `None`: a new one.
    view: Option<MappingView>,
    /// What people call it.
    label: Option<String>,
    /// The definition as JSON: as it is, or as it was typed.
    text: String,
    /// The version that was seen.
    version: i64,
    position: String,
    /// May be changed by this session.
    writes: bool,
    faults: Vec<Sentence>,
    /// What differs from the definition as another editor has left it, meanwhile.
    others: Option<Vec<Line>>,
    forecast: Option<Forecast>,
    /// A trial of its removal.
    removes: bool,
    /// What a trial is of, in words.
    saving: &'static str,
    /// Whom it is tried on by name, as it was typed.
    people: String,
    /// It was tried on those alone.
    of_named: bool,
    /// What the brake stops, unless it is confirmed.
    braked: Vec<Excess>,
    /// Choices of the short form.
    providers: Vec<String>,
    targets: Vec<(String, String)>,
}

/// What was typed, or is there.
struct Draft {
    view: Option<MappingView>,
    text: String,
    version: i64,
    position: String,
}

impl Page {
    fn new(console: &Console, visitor: &Visitor, shell: Shell, draft: Draft) -> Self {
        let Draft { view, text, version, position } = draft;
        let rules = console.admin.inspect().rules();
        Self {
            shell,
            writes: visitor.may(Scope::WriteMappings) && view.as_ref().is_none_or(|view| view.origin == "store"),
            label: view.as_ref().map(|view| label(view, &rules)),
            view,
            text,
            version,
            position,
            faults: Vec::new(),
            others: None,
            forecast: None,
            removes: false,
            saving: "it",
            people: String::new(),
            of_named: false,
            braked: Vec::new(),
            providers: console.admin.inspect().providers().iter().map(ToString::to_string).collect(),
            targets: targets(&rules),
        }
    }

    fn answer(&self, status: StatusCode) -> Response {
        render(status, self)
    }

    fn title(&self) -> String {
        self.label.clone().unwrap_or_else(|| "New mapping".into())
    }
}

fn written(definition: &Definition) -> String {
    serde_json::to_string_pretty(definition).unwrap_or_default()
}

fn found(console: &Console, id: &str) -> Result<(Reference, MappingView), Failure> {
    let reference = Reference::parse(id).ok_or_else(|| Failure::not_found("There is no such mapping."))?;
    Ok((reference, console.admin.service.mapping(reference)?))
}

/// A new mapping: empty, or from the short form.
pub async fn begin(State(console): State<Console>, visitor: Visitor, shell: Shell, Asked(asked): Asked) -> Answer {
    visitor.caller.may(Scope::WriteMappings)?;
    let text = match super::targets::target(asked.get("target")) {
        Ok(target) if !asked.get("claim").is_empty() => {
            written(&Definition::of_value(asked.get("provider"), asked.get("claim"), asked.get("value"), None, &target))
        }
        _ => String::new(),
    };
    let draft = Draft { view: None, text, version: 0, position: String::new() };
    Ok(Page::new(&console, &visitor, shell, draft).answer(StatusCode::OK))
}

pub async fn show(State(console): State<Console>, visitor: Visitor, shell: Shell, Path(id): Path<String>) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let (_, view) = found(&console, &id)?;
    let text = written(&view.definition);
    let position = view.position.map(|position| position.to_string()).unwrap_or_default();
    let draft = Draft { version: view.version, view: Some(view), text, position };
    Ok(Page::new(&console, &visitor, shell, draft).answer(StatusCode::OK))
}

/// Tries, saves or removes a mapping.
pub async fn change(
    State(console): State<Console>,
    visitor: Visitor,
    shell: Shell,
    Path(id): Path<String>,
    Posted(fields): Posted,
) -> Answer {
    let (reference, view) = found(&console, &id)?;
    edit(&console, &visitor, shell, Some((reference, view)), &fields).await
}

/// The same for a new one.
pub async fn make(State(console): State<Console>, visitor: Visitor, shell: Shell, Posted(fields): Posted) -> Answer {
    edit(&console, &visitor, shell, None, &fields).await
}

async fn edit(
    console: &Console,
    visitor: &Visitor,
    shell: Shell,
    there: Option<(Reference, MappingView)>,
    fields: &Fields,
) -> Answer {
    visitor.caller.may(Scope::WriteMappings)?;
    let reference = there.as_ref().map(|(reference, _)| *reference);
    let version: i64 = fields.get("version").parse().unwrap_or_default();
    let draft = Draft {
        view: there.map(|(_, view)| view),
        text: fields.raw("definition").to_owned(),
        version,
        position: fields.get("position").to_owned(),
    };
    let mut page = Page::new(console, visitor, shell, draft);
    page.people = fields.raw("people").to_owned();
    let act = fields.get("act");
    let call =
        Call { expected: reference.map(|_| vec![version]), confirmed: act.ends_with("confirmed"), ..visitor.call() };
    let outcome = match (act, reference) {
        ("try-removal", Some(_)) => {
            page.removes = true;
            plan(console, reference, None, Whom::Everyone(MOST_PEOPLE)).await.map(Some)
        }
        ("remove" | "remove-confirmed", Some(reference)) => {
            page.removes = true;
            let removed = console.admin.service.delete_mapping(&call, reference).await;
            removed.map(|()| None).map_err(Unlooked::from)
        }
        (act, _) => match json::<Definition>(&Bytes::copy_from_slice(page.text.as_bytes()), false) {
            Err(refused) => Err(refused.into()),
            Ok(definition) if act == "try" => {
                plan(console, reference, Some(definition), Whom::Everyone(MOST_PEOPLE)).await.map(Some)
            }
            Ok(definition) if act == "try-disabling" => {
                page.saving = "it as disabled";
                let off = Definition { enabled: false, ..definition };
                plan(console, reference, Some(off), Whom::Everyone(MOST_PEOPLE)).await.map(Some)
            }
            Ok(definition) if act == "try-people" => match named(console, &page.people).await {
                Err(refused) => Err(refused.into()),
                Ok(users) => {
                    page.of_named = true;
                    plan(console, reference, Some(definition), Whom::These(users)).await.map(Some)
                }
            },
            Ok(definition) => {
                let enabled = match act {
                    "disable" => Some(false),
                    "enable" => Some(true),
                    _ => None,
                };
                let definition = match enabled {
                    // The text then says what is saved, also where the brake stops it and it is sent again.
                    Some(enabled) => {
                        let switched = Definition { enabled, ..definition };
                        page.text = written(&switched);
                        switched
                    }
                    None => definition,
                };
                save(console, &call, reference, definition, &page.position).await.map(|()| None).map_err(Unlooked::from)
            }
        },
    };
    match outcome {
        Ok(Some(forecast)) => {
            page.forecast = Some(forecast);
            Ok(page.answer(StatusCode::OK))
        }
        Ok(None) => Ok(go("/console/mappings")),
        Err(Unlooked::Refused(Refused::Invalid(faults))) => {
            let told = faults.iter().map(|fault| Sentence::read(&format!("{}: {}", fault.field, fault.message)));
            page.faults = told.collect();
            Ok(page.answer(StatusCode::UNPROCESSABLE_ENTITY))
        }
        Err(Unlooked::Refused(Refused::Braked(excesses))) => {
            page.braked = excesses;
            Ok(page.answer(StatusCode::CONFLICT))
        }
        Err(Unlooked::Refused(Refused::Stale)) => {
            let Some(view) = &page.view else { return Err(Refused::Stale.into()) };
            // Saving again stands in place of what the page now shows.
            // As it would be written here, so that what differs is what it says.
            let typed = json::<Definition>(&Bytes::copy_from_slice(page.text.as_bytes()), false);
            let yours = typed.map_or_else(|_| page.text.clone(), |definition| written(&definition));
            page.others = Some(difference(&written(&view.definition), &yours));
            page.version = view.version;
            Ok(page.answer(StatusCode::PRECONDITION_FAILED))
        }
        Err(Unlooked::Refused(refused @ (Refused::Conflict(_) | Refused::ReadOnly(_) | Refused::Forbidden(_)))) => {
            page.faults = vec![Sentence::read(&refused.text())];
            Ok(page.answer(refused.told().0))
        }
        Err(why) => {
            // Too long, too busy, or the store is away: what was typed stays.
            page.faults = vec![Sentence::read(&Failure::from(why).line())];
            Ok(page.answer(StatusCode::SERVICE_UNAVAILABLE))
        }
    }
}

async fn plan(
    console: &Console,
    reference: Option<Reference>,
    definition: Option<Definition>,
    whom: Whom,
) -> Result<Forecast, Unlooked> {
    console.admin.service.plan(Planned::One(reference, definition), whom).await
}

/// People by their keys, or by a part of name, e-mail address or subject, one a line.
async fn named(console: &Console, typed: &str) -> Result<Vec<UserId>, Refused> {
    let store = console.admin.inspect().store();
    let (mut users, mut faults) = (Vec::new(), Vec::new());
    for line in typed.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let key = line.split_once('/').and_then(|(space, subject)| {
            Some(UserId { namespace: Namespace::parse(space).ok()?, subject: Subject::parse(subject).ok()? })
        });
        if let Some(key) = key
            && store.has(key.clone()).await?
        {
            users.push(key);
            continue;
        }
        let search = Search { text: Some(line.to_owned()), limit: MOST_NAMED, ..Search::default() };
        let found = store.find(search).await?;
        match found.total {
            0 => faults.push(Fault::new(
                "people",
                Some(line),
                format!("no one has `{line}` in their name, e-mail address or key"),
            )),
            total if total > MOST_NAMED => {
                let message = format!("`{line}` fits {total} people; write more of it, or a key such as `okta/alice`");
                faults.push(Fault::new("people", Some(line), message));
            }
            _ => users.extend(found.members.into_iter().map(|member| member.person.user)),
        }
        if users.len() > MOST_PEOPLE || faults.len() > MOST_NAMED {
            return Err(Refused::fault("people", None, format!("expected {MOST_PEOPLE} people at most")));
        }
    }
    match (users.is_empty(), faults.is_empty()) {
        (_, false) => Err(Refused::Invalid(faults)),
        (true, true) => Err(Refused::fault("people", None, "name at least one person, one a line")),
        (false, true) => Ok(users),
    }
}

async fn save(
    console: &Console,
    call: &Call,
    reference: Option<Reference>,
    definition: Definition,
    position: &str,
) -> Result<(), Refused> {
    let asked: Option<u32> = match position {
        "" => None,
        text => {
            let parsed = text.parse().ok().filter(|position| *position > 0);
            Some(parsed.ok_or_else(|| Refused::fault("position", None, "expected a place from 1"))?)
        }
    };
    // A disabled mapping has no place, and a default neither.
    let asked = asked.filter(|_| definition.enabled && definition.unmatched.is_none());
    let service = &console.admin.service;
    match reference {
        None => {
            let place = asked.map_or(Place::Last, Place::At);
            service.create_mapping(call, NewMapping { definition, place, guard: None }).await.map(drop)
        }
        Some(reference) => {
            let place = asked.map_or(Place::Keep, Place::At);
            service.update_mapping(call, reference, move |_, _| Ok((definition, place))).await.map(drop)
        }
    }
}
