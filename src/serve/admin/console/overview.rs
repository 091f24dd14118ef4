//! Is all well?

use askama::Template;
use axum::extract::State;
use http::StatusCode;

use super::Console;
use super::door::Visitor;
use super::page::{Answer, Shell, render};
use crate::config::Scope;
use crate::login::outcome::Count;
use crate::pipeline::provider::Mode;
use crate::ports::store::HoldFilter;

/// Mappings that never matched which are named.
const MOST_IDLE: usize = 20;

#[derive(Template)]
#[template(path = "console/overview.html")]
struct Overview {
    shell: Shell,
    /// Why no login could be committed now.
    store: Option<String>,
    outcomes: Vec<Count>,
    providers: Vec<ProviderRow>,
    holds: usize,
    warnings: Vec<String>,
    /// Active mappings without a hit since the start, and how many there are beside those.
    idle: Vec<String>,
    idle_left_out: usize,
    mappings: usize,
}

struct ProviderRow {
    name: String,
    mode: &'static str,
    issuer: String,
    ready: bool,
}

pub async fn show(State(console): State<Console>, visitor: Visitor, shell: Shell) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let inspect = console.admin.inspect();
    let (config, rules, keys) = (inspect.config(), inspect.rules(), inspect.keys());
    let providers = config.providers.iter().map(|settings| ProviderRow {
        name: settings.provider.name.to_string(),
        mode: Mode::word(settings.provider.mode),
        issuer: settings.provider.issuer.to_string(),
        ready: keys.ready(&settings.provider.name),
    });
    let store = inspect.store().ready().await.err().map(|error| error.to_string());
    let holds = match &store {
        None => inspect.store().holds(HoldFilter::default(), inspect.rules()).await?.len(),
        Some(_) => 0,
    };
    let hits = inspect.meters().hits(&rules);
    let never = |hit: &&crate::telemetry::meters::MappingHits| hit.hits == 0 && hit.activity == "active";
    let mut idle: Vec<String> = hits
        .iter()
        .filter(never)
        .map(|hit| match &hit.provider {
            Some(provider) => format!("{} ({provider})", hit.mapping),
            None => hit.mapping.clone(),
        })
        .collect();
    let idle_left_out = idle.len().saturating_sub(MOST_IDLE);
    idle.truncate(MOST_IDLE);
    let page = Overview {
        shell,
        store,
        outcomes: inspect.outcomes().counts(),
        providers: providers.collect(),
        holds,
        warnings: config.warnings.clone(),
        idle,
        idle_left_out,
        mappings: rules.mappings().len(),
    };
    Ok(render(StatusCode::OK, &page))
}
