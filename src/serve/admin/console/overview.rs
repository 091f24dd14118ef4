//! Is all well?

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use http::StatusCode;

use super::Console;
use super::deliveries::Row as ReceiverRow;
use super::page::{Answer, Shell, render};
use super::visitor::Visitor;
use super::words::{Moment, Sentence};
use crate::config::Scope;
use crate::login::outcome::Count;
use crate::pipeline::mapping::Activity;
use crate::pipeline::provider::Mode;
use crate::ports::store::HoldFilter;

/// Mappings that never matched which are named.
const MOST_IDLE: usize = 20;
/// Reasons of refusals which are named.
const MOST_REASONS: usize = 5;
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Template)]
#[template(path = "console/overview.html")]
struct Overview {
    shell: Shell,
    /// Why no login could be committed now.
    store: Option<String>,
    /// Of the last hour: how many entered, and how many did not.
    entered: u64,
    refused: u64,
    of_hour: Vec<Count>,
    reasons: Vec<(Sentence, u64)>,
    outcomes: Vec<Count>,
    providers: Vec<ProviderRow>,
    holds: usize,
    receivers: Vec<ReceiverRow>,
    warnings: Vec<Sentence>,
    /// Active mappings without a hit since the start, and how many more there are.
    idle: Vec<Idle>,
    idle_left_out: usize,
    mappings: usize,
}

struct ProviderRow {
    name: String,
    mode: &'static str,
    issuer: String,
    ready: bool,
    fetched: Option<Moment>,
}

struct Idle {
    id: String,
    label: String,
    /// Of which provider; `None`: of each.
    provider: Option<String>,
}

/// How an outcome looks.
fn class(count: &Count) -> &'static str {
    match count.outcome.as_str() {
        "entered" => "good",
        "unavailable" | "not_delivered" => "warn",
        _ => "bad",
    }
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
        fetched: keys.fetched_at(&settings.provider.name).map(Moment::of),
    });
    let store = inspect.store().ready().await.err().map(|error| error.to_string());
    let (holds, receivers) = match &store {
        None => {
            let holds = inspect.store().holds(HoldFilter::default(), inspect.rules()).await?.len();
            (holds, console.admin.service.receivers().await?.into_iter().map(ReceiverRow::from).collect())
        }
        Some(_) => (0, Vec::new()),
    };
    let silent = inspect.meters().silent_claims(&rules, inspect.now()).into_iter().map(|(provider, claim)| {
        Sentence::read(&format!("claim `{claim}` of provider `{provider}` came with no login within the last hour"))
    });
    let hits = inspect.meters().hits_by_id();
    let mut never = rules
        .mappings()
        .iter()
        .filter(|mapping| mapping.activity == Activity::Active && !hits.contains_key(&mapping.id));
    let idle: Vec<Idle> = never
        .by_ref()
        .take(MOST_IDLE)
        .map(|mapping| Idle {
            id: super::mappings::address_of(mapping, &rules),
            label: mapping.label(),
            provider: mapping.provider.as_ref().map(ToString::to_string),
        })
        .collect();
    let of_hour = inspect.outcomes().of_last_hour();
    let entered = of_hour.iter().filter(|count| count.outcome == "entered").map(|count| count.logins).sum();
    let page = Overview {
        shell,
        store,
        entered,
        refused: of_hour.iter().map(|count| count.logins).sum::<u64>() - entered,
        of_hour,
        reasons: inspect
            .outcomes()
            .reasons(HOUR, MOST_REASONS)
            .into_iter()
            .map(|(why, count)| (Sentence::read(&why), count))
            .collect(),
        outcomes: inspect.outcomes().counts(),
        providers: providers.collect(),
        holds,
        receivers,
        warnings: silent.chain(config.warnings.iter().map(|warning| Sentence::read(warning))).collect(),
        idle,
        idle_left_out: never.count(),
        mappings: rules.mappings().len(),
    };
    Ok(render(StatusCode::OK, &page))
}
