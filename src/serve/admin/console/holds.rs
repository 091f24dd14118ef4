//! What the brake holds, and its release: each by its list of names, and with the name of the target typed.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use http::StatusCode;

use super::Console;
use super::door::Posted;
use super::failure::Failure;
use super::page::{Answer, Shell, go, render};
use super::targets::target;
use super::visitor::Visitor;
use super::words::Moment;
use crate::config::Scope;
use crate::pipeline::ids::{ProviderName, Target};
use crate::ports::store::{HoldFilter, HoldView};

/// People of one hold who are named.
const MOST_NAMES: usize = 100;

#[derive(Template)]
#[template(path = "console/holds.html")]
struct Page {
    shell: Shell,
    holds: Vec<Group>,
    /// The session may release and discard.
    acts: bool,
}

/// What is held of one target through one provider.
struct Group {
    provider: String,
    /// As forms name it; empty where mappings would disable people.
    target: String,
    kind: &'static str,
    name: String,
    people: Vec<String>,
    left_out: usize,
    since: Moment,
    mappings: Vec<String>,
}

pub async fn list(State(console): State<Console>, visitor: Visitor, shell: Shell) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let inspect = console.admin.inspect();
    let found = inspect.store().holds(HoldFilter::default(), inspect.rules()).await?;
    let page = Page { shell, holds: grouped(found), acts: visitor.may(Scope::Admin) };
    Ok(render(StatusCode::OK, &page))
}

fn grouped(found: Vec<HoldView>) -> Vec<Group> {
    let mut groups: BTreeMap<(ProviderName, Option<Target>), Vec<HoldView>> = BTreeMap::new();
    for hold in found {
        groups.entry((hold.provider.clone(), hold.target.clone())).or_default().push(hold);
    }
    let group = |((provider, target), holds): ((ProviderName, Option<Target>), Vec<HoldView>)| {
        let mut mappings: Vec<String> = holds.iter().map(|hold| hold.mapping.clone()).collect();
        mappings.sort();
        mappings.dedup();
        Group {
            provider: provider.to_string(),
            target: target.as_ref().map(|target| format!("{}:{}", target.kind(), target.name())).unwrap_or_default(),
            kind: target.as_ref().map_or("disabling", Target::kind),
            name: target.as_ref().map(|target| target.name().to_owned()).unwrap_or_default(),
            people: holds.iter().take(MOST_NAMES).map(|hold| hold.user.to_string()).collect(),
            left_out: holds.len().saturating_sub(MOST_NAMES),
            since: Moment::of(holds.iter().map(|hold| hold.since).min().unwrap_or(crate::pipeline::ids::Timestamp(0))),
            mappings,
        }
    };
    groups.into_iter().map(group).collect()
}

/// Releases or discards what is held of one target.
pub async fn settle(State(console): State<Console>, visitor: Visitor, Posted(fields): Posted) -> Answer {
    let target = target(fields.get("target"))?;
    if fields.get("typed") != target.name() {
        return Err(Failure::wrong(&format!(
            "What you typed is not the name of {target}. Nothing was changed. Go back, and type `{}` to go on.",
            target.name()
        )));
    }
    let provider = ProviderName::parse(fields.get("provider"));
    let provider =
        provider.map_err(|_| Failure::wrong("The provider of this hold is not said. Load the page again."))?;
    let filter = HoldFilter { user: None, provider: Some(provider), target: Some(target) };
    match fields.get("act") {
        "release" => console.admin.service.release_holds(&visitor.call(), filter).await?,
        "discard" => console.admin.service.discard_holds(&visitor.call(), filter).await?,
        _ => return Err(Failure::wrong("Choose to release or to discard. Nothing was changed.")),
    };
    Ok(go("/console/holds"))
}
