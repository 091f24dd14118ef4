//! The order of the store's mappings: moved line by line, tried, and then saved.

use std::collections::HashMap;

use askama::Template;
use axum::extract::State;
use http::StatusCode;

use super::Console;
use super::door::Posted;
use super::failure::Failure;
use super::mappings::label;
use super::page::{Answer, Shell, go, render};
use super::visitor::Visitor;
use super::words::Sentence;
use crate::config::Scope;
use crate::pipeline::forecast::Forecast;
use crate::ports::store::Excess;
use crate::serve::admin::service::{Call, MappingView, Planned, Reference, Refused, Unlooked, Whom};

/// Mappings that are put in order on one page. Where there are more, each has its place on its own page.
const MOST: usize = 200;
/// People whom a trial names.
const MOST_PEOPLE: usize = 50;

#[derive(Template)]
#[template(path = "console/order.html")]
struct Page {
    shell: Shell,
    /// The numbers of the mappings, and what they are called.
    rows: Vec<(i64, String)>,
    /// Of the rules that were seen.
    generation: i64,
    too_many: bool,
    forecast: Option<Forecast>,
    removes: bool,
    saving: &'static str,
    of_named: bool,
    braked: Vec<Excess>,
    faults: Vec<Sentence>,
}

/// The mappings with a place, in their order.
fn placed(console: &Console) -> Vec<MappingView> {
    let stored = console.admin.service.stored_mappings().into_iter();
    stored.filter(|view| view.position.is_some()).collect()
}

impl Page {
    fn new(console: &Console, shell: Shell) -> Self {
        let views = placed(console);
        let rules = console.admin.inspect().rules();
        let row = |view: &MappingView| Some((view.number?, label(view, &rules)));
        Self {
            shell,
            too_many: views.len() > MOST,
            rows: views.iter().take(MOST).filter_map(row).collect(),
            generation: console.admin.inspect().stored().generation,
            forecast: None,
            removes: false,
            saving: "this order",
            of_named: false,
            braked: Vec::new(),
            faults: Vec::new(),
        }
    }
}

pub async fn show(State(console): State<Console>, visitor: Visitor, shell: Shell) -> Answer {
    visitor.caller.may(Scope::WriteMappings)?;
    Ok(render(StatusCode::OK, &Page::new(&console, shell)))
}

/// Moves one of them, tries the order, or saves it.
pub async fn change(State(console): State<Console>, visitor: Visitor, shell: Shell, Posted(fields): Posted) -> Answer {
    visitor.caller.may(Scope::WriteMappings)?;
    let mut page = Page::new(&console, shell);
    if page.too_many {
        return Err(Failure::wrong("There are too many mappings for this page. Nothing was changed."));
    }
    let seen: i64 = fields.get("generation").parse().unwrap_or_default();
    let typed: Vec<i64> = fields.all("mapping").iter().filter_map(|number| number.parse().ok()).collect();
    let mut names: HashMap<i64, String> = page.rows.iter().cloned().collect();
    let mut rows: Vec<(i64, String)> =
        typed.iter().filter_map(|number| Some((*number, names.remove(number)?))).collect();
    // What came meanwhile keeps its place behind.
    rows.extend(page.rows.iter().filter(|(number, _)| names.contains_key(number)).cloned());
    let act = fields.get("act");
    if let Some((way, number)) = act.split_once(' ')
        && let Ok(number) = number.parse::<i64>()
        && let Some(at) = rows.iter().position(|(found, _)| *found == number)
    {
        let other = if way == "up" { at.checked_sub(1) } else { Some(at + 1) };
        if let Some(other) = other.filter(|other| *other < rows.len()) {
            rows.swap(at, other);
        }
    }
    page.rows = rows;
    let order: Vec<i64> = page.rows.iter().map(|(number, _)| *number).collect();
    let outcome = match act {
        "try" => console.admin.service.plan(planned(&console, &order), Whom::Everyone(MOST_PEOPLE)).await.map(Some),
        "save" | "save-confirmed" => {
            let call = Call { confirmed: act == "save-confirmed", ..visitor.call() };
            let check = move |stored: &crate::pipeline::mapping::stored::Stored, _: &[i64]| {
                if stored.generation == seen { Ok(()) } else { Err(Refused::Stale) }
            };
            let sorted = console.admin.service.sort_mappings(&call, order, check).await;
            sorted.map(|_| None).map_err(Unlooked::from)
        }
        _ => return Ok(render(StatusCode::OK, &page)),
    };
    match outcome {
        Ok(Some(forecast)) => {
            page.forecast = Some(forecast);
            Ok(render(StatusCode::OK, &page))
        }
        Ok(None) => Ok(go("/console/mappings")),
        Err(Unlooked::Refused(Refused::Braked(excesses))) => {
            page.braked = excesses;
            page.generation = seen;
            Ok(render(StatusCode::CONFLICT, &page))
        }
        Err(Unlooked::Refused(Refused::Stale)) => {
            let text = "The mappings were changed meanwhile. This is your order of those that there are now; saving again means it.";
            page.faults = vec![Sentence::read(text)];
            Ok(render(StatusCode::PRECONDITION_FAILED, &page))
        }
        Err(why) => {
            let failure = Failure::from(why);
            page.faults = vec![Sentence::read(&failure.line())];
            Ok(render(failure.status, &page))
        }
    }
}

/// Everything in the order in which it would run.
fn planned(console: &Console, order: &[i64]) -> Planned {
    let service = &console.admin.service;
    let mut all: Vec<_> = service
        .file_mappings()
        .into_iter()
        .filter_map(|view| Some((Some(Reference::parse(&view.id)?), view.definition)))
        .collect();
    let mut stored: Vec<MappingView> = service.stored_mappings();
    stored.sort_by_key(|view| {
        view.number.and_then(|number| order.iter().position(|found| *found == number)).unwrap_or(usize::MAX)
    });
    all.extend(stored.into_iter().filter_map(|view| Some((Some(Reference::parse(&view.id)?), view.definition))));
    Planned::All(all)
}
