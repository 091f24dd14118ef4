//! Events of a decision for receivers, which are not state.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::config::Event;
use crate::pipeline::decision::{About, Changes, Entry, Shared, Written};
use crate::pipeline::ids::{ProviderName, Target};
use crate::pipeline::mapping::definition::Definition;
use crate::pipeline::plan::{Grant, Source};
use crate::pipeline::record::Record;
use crate::ports::outbox::events::{Listeners, Listening, NewEvent};

/// Bytes of what is kept of one event; past that it names no targets and no mappings.
const MOST_DATA: usize = 16_000;
/// Mappings that one event names.
const MOST_MAPPINGS: usize = 50;

/// What happened to one user. `before` and `after`: their records, where there are any.
pub(super) fn to_person(
    before: Option<&Record>,
    after: Option<&Record>,
    changes: &Changes,
    number: Option<i64>,
    listeners: &Listeners,
) -> Vec<NewEvent> {
    if !listeners.values().any(|listening| !listening.events.is_empty()) {
        return Vec::new();
    }
    let mut found = refusals(&changes.audit, number);
    if let Some(after) = after {
        found.extend(holds(before, after, changes, number));
    }
    for_each(&found, listeners)
}

/// What happened to all together.
pub(super) fn to_all(shared: &Shared, listeners: &Listeners) -> Vec<NewEvent> {
    if !listeners.values().any(|listening| !listening.events.is_empty()) {
        return Vec::new();
    }
    let mut found = refusals(&shared.audit, None);
    found.extend(shared.catalogue.as_ref().and_then(|written| mappings(written, &shared.audit)));
    for_each(&found, listeners)
}

/// Something that happened.
struct Happened<'a> {
    event: Event,
    user: Option<i64>,
    what: What<'a>,
}

enum What<'a> {
    Refused {
        login: Option<&'a str>,
        provider: String,
        outcome: String,
    },
    Hold {
        provider: Option<&'a ProviderName>,
        targets: Vec<&'a Target>,
        disabling: bool,
        cause: &'a str,
        login: Option<&'a str>,
    },
    Mappings {
        changed: Vec<Mapped<'a>>,
        reordered: bool,
        by: Value,
    },
}

/// A mapping that was made, changed or removed.
struct Mapped<'a> {
    change: &'static str,
    key: &'a str,
    version: i64,
    definition: &'a Definition,
}

fn for_each(found: &[Happened<'_>], listeners: &Listeners) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for (receiver, listening) in listeners {
        for happened in found.iter().filter(|happened| listening.hears(happened.event)) {
            if let Some(mut data) = happened.what.told(listening) {
                if data.to_string().len() > MOST_DATA
                    && let Some(object) = data.as_object_mut()
                {
                    object.retain(|name, _| !matches!(name.as_str(), "targets" | "mappings"));
                    object.insert("truncated".into(), json!(true));
                }
                let (event, user) = (happened.event, happened.user);
                events.push(NewEvent { receiver: receiver.clone(), event, user, data: data.to_string() });
            }
        }
    }
    events
}

impl What<'_> {
    /// As a receiver gets it, if it does.
    fn told(&self, listening: &Listening) -> Option<Value> {
        match self {
            Self::Refused { login, provider, outcome } => listening
                .takes_provider(Some(provider))
                .then(|| json!({ "provider": provider, "login": login, "outcome": outcome })),
            Self::Hold { provider, targets, disabling, cause, login } => {
                let provider = provider.map(ProviderName::as_str);
                let targets: Vec<&&Target> = targets.iter().filter(|target| listening.takes(target)).collect();
                let is_meant = listening.takes_provider(provider) && (*disabling || !targets.is_empty());
                let targets: Vec<Value> = targets.into_iter().map(|target| named(target)).collect();
                is_meant.then(|| {
                    json!({
                        "cause": cause, "login": login, "provider": provider, "targets": targets, "disabling": disabling,
                    })
                })
            }
            Self::Mappings { changed, reordered, by } => {
                let meant: Vec<&Mapped<'_>> =
                    changed.iter().filter(|mapped| takes(listening, mapped.definition)).collect();
                let named: Vec<Value> = meant.iter().take(MOST_MAPPINGS).map(|mapped| mapped.told()).collect();
                let left_out = meant.len() - named.len();
                (*reordered || !named.is_empty())
                    .then(|| json!({ "by": by, "mappings": named, "left_out": left_out, "reordered": reordered }))
            }
        }
    }
}

impl Mapped<'_> {
    fn told(&self) -> Value {
        let Self { change, key, version, definition } = self;
        let Definition { name, provider, .. } = definition;
        let targets = given(definition).map(|(kind, name)| json!({ "kind": kind, "name": name }));
        let targets: Vec<Value> = targets.take(MOST_MAPPINGS).collect();
        json!({
            "change": change, "key": key, "name": name, "version": version, "provider": provider, "targets": targets,
        })
    }
}

fn named(target: &Target) -> Value {
    json!({ "kind": target.kind(), "name": target.name() })
}

/// What a mapping gives, as it is written.
fn given(definition: &Definition) -> impl Iterator<Item = (&'static str, &str)> {
    definition.then.iter().filter_map(|action| match (&action.add_group, &action.add_role) {
        (Some(group), _) => Some(("group", group.as_str())),
        (None, Some(role)) => Some(("role", role.as_str())),
        (None, None) => None,
    })
}

/// Whether a receiver gets the event of a mapping: of one that takes a name from a claim in any case, since it may give every one.
fn takes(listening: &Listening, definition: &Definition) -> bool {
    let meant = |(kind, name): (&str, &str)| {
        let only = if kind == "group" { &listening.groups } else { &listening.roles };
        only.as_ref().is_none_or(|only| name.contains("${") || only.contains(name))
    };
    let has_filter = listening.groups.is_some() || listening.roles.is_some();
    listening.takes_provider(definition.provider.as_deref()) && (!has_filter || given(definition).any(meant))
}

/// Logins that were refused after their signature held.
fn refusals(audit: &[Entry], number: Option<i64>) -> Vec<Happened<'_>> {
    let refused = audit.iter().filter(|entry| entry.event == "login_refused");
    let happened = refused.map(|entry| {
        let detail: Value = serde_json::from_str(&entry.detail).unwrap_or_default();
        let text = |name: &str| detail.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (provider, outcome) = (text("provider"), text("outcome"));
        let user = if entry.about == About::NoUser { None } else { number };
        Happened {
            event: Event::LoginRefused,
            user,
            what: What::Refused { login: entry.login.as_deref(), provider, outcome },
        }
    });
    happened.collect()
}

/// Revocations that the brake holds from now on, and those that it does not hold any more, by provider.
fn holds<'a>(
    before: Option<&'a Record>,
    after: &'a Record,
    changes: &'a Changes,
    number: Option<i64>,
) -> Vec<Happened<'a>> {
    let held = |record: &'a Record| -> BTreeSet<(&'a ProviderName, &'a Grant)> {
        let held = record.holdings.iter().filter(|(_, holding)| holding.held_at.is_some());
        held.filter_map(|(grant, _)| match &grant.source {
            Source::Mapped { provider, .. } => Some((provider, grant)),
            Source::Assigned => None,
        })
        .collect()
    };
    let (was, is) = (before.map(held).unwrap_or_default(), held(after));
    let stopped = |record: Option<&'a Record>| record.and_then(|record| record.stopped.as_ref());
    let (was_stopped, is_stopped) = (stopped(before), stopped(Some(after)));
    if was == is && was_stopped.is_some() == is_stopped.is_some() {
        return Vec::new();
    }
    let last = changes.audit.last();
    let cause = last.map_or("rules", |entry| entry.event);
    let login = last.and_then(|entry| entry.login.as_deref());
    let stays = |grant: &Grant| after.holdings.contains_key(grant);
    let mut found: Vec<Happened<'a>> = Vec::new();
    let mut note = |event: Event, provider: Option<&'a ProviderName>, target: Option<&'a Target>| {
        let of_same = |happened: &&mut Happened<'a>| {
            happened.event == event && matches!(&happened.what, What::Hold { provider: of, .. } if *of == provider)
        };
        if let Some(Happened { what: What::Hold { targets, disabling, .. }, .. }) = found.iter_mut().find(of_same) {
            *disabling |= target.is_none();
            // One target may be held by several mappings.
            targets.extend(target.filter(|target| !targets.contains(target)));
            return;
        }
        let (targets, disabling) = (target.into_iter().collect(), target.is_none());
        let what = What::Hold { provider, targets, disabling, cause, login };
        found.push(Happened { event, user: number, what });
    };
    for (provider, grant) in is.difference(&was) {
        note(Event::HoldCreated, Some(provider), Some(&grant.target));
    }
    for (provider, grant) in was.difference(&is) {
        let event = if stays(grant) { Event::HoldDiscarded } else { Event::HoldReleased };
        note(event, Some(provider), Some(&grant.target));
    }
    match (was_stopped, is_stopped) {
        (None, Some(stopped)) => note(Event::HoldCreated, stopped.provider.as_ref(), None),
        (Some(stopped), None) => {
            let event = if after.disabled.is_some() { Event::HoldReleased } else { Event::HoldDiscarded };
            note(event, stopped.provider.as_ref(), None);
        }
        _ => {}
    }
    found
}

/// What an API has changed of mappings.
fn mappings<'a>(written: &'a Written, audit: &[Entry]) -> Option<Happened<'a>> {
    let (before, after) = (&written.before.mappings, &written.after.mappings);
    let mut changed = Vec::new();
    for (number, entry) in after {
        let change = match before.get(number) {
            None => "created",
            Some(same) if std::sync::Arc::ptr_eq(same, entry) || same.body.definition == entry.body.definition => {
                continue;
            }
            Some(_) => "changed",
        };
        changed.push(Mapped { change, key: &entry.key, version: entry.version, definition: &entry.body.definition });
    }
    for entry in before.iter().filter(|(number, _)| !after.contains_key(number)).map(|(_, entry)| entry) {
        let definition = &entry.body.definition;
        changed.push(Mapped { change: "removed", key: &entry.key, version: entry.version, definition });
    }
    let reordered = is_reordered(written);
    if changed.is_empty() && !reordered {
        return None;
    }
    let by = audit.iter().find_map(|entry| {
        let detail: Value = serde_json::from_str(&entry.detail).ok()?;
        detail.get("by").cloned()
    });
    let what = What::Mappings { changed, reordered, by: by.unwrap_or_default() };
    Some(Happened { event: Event::MappingChanged, user: None, what })
}

/// Whether mappings that were there before run in another order now.
fn is_reordered(written: &Written) -> bool {
    let (before, after) = (&written.before.mappings, &written.after.mappings);
    let mut placed: Vec<(u32, u32)> = after
        .iter()
        .filter_map(|(number, entry)| Some((before.get(number)?.body.position?, entry.body.position?)))
        .collect();
    placed.sort_unstable();
    !placed.is_sorted_by_key(|(_, now)| *now)
}
