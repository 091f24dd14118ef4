//! How a login is decided, or how a past one was: by the number that a refused person was shown, or by what an operator has in hand.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use super::Console;
use super::door::{Asked, Fields, Posted};
use super::failure::Failure;
use super::logins::{Kind, person_of, summary};
use super::page::{Answer, Shell, render};
use super::visitor::Visitor;
use super::words::{Moment, Sentence};
use crate::config::{ProviderSettings, Scope};
use crate::login::outcome::Remembered;
use crate::pipeline::explain::{Outcome, Proof, Report};
use crate::pipeline::number;
use crate::ports::store::AuditRow;
use crate::serve::admin::service::{Candidate, Past, Question, Refused, Unlooked};

/// Mappings that a page tells of.
const MOST_MAPPINGS: usize = 200;

#[derive(Template)]
#[template(path = "console/explain.html")]
struct Page {
    shell: Shell,
    id: String,
    provider: String,
    providers: Vec<String>,
    /// What was typed; given back when it cannot be read.
    typed: String,
    faults: Vec<String>,
    found: Option<Found>,
    report: Option<Report>,
}

/// A past login.
enum Found {
    Recorded(Box<Recorded>),
    Remembered { login: Remembered, at: Moment },
    Nothing,
}

struct Recorded {
    at: Moment,
    kind: Kind,
    event: String,
    summary: String,
    person: String,
    /// By which they are searched.
    subject: String,
    /// Names and values of the rest, in order.
    detail: Vec<(String, Vec<String>)>,
}

impl Page {
    fn new(console: &Console, shell: Shell) -> Self {
        Self {
            shell,
            id: String::new(),
            provider: String::new(),
            providers: console.admin.inspect().providers().iter().map(ToString::to_string).collect(),
            typed: String::new(),
            faults: Vec::new(),
            found: None,
            report: None,
        }
    }

    fn answer(&self, status: StatusCode) -> Response {
        render(status, self)
    }

    fn verdict(report: &Report) -> (&'static str, &'static str) {
        match report.outcome {
            Outcome::Enters => ("good", "This login would enter"),
            Outcome::Refused => ("bad", "This login would be refused"),
            Outcome::Unknown => ("warn", "The outcome is unknown"),
        }
    }

    fn proof(report: &Report) -> String {
        match &report.proof {
            Proof::Verified => "Verified: signature, issuer, audience and times hold.".into(),
            Proof::NotVerified { because } => format!("Not verified: {because}."),
            Proof::Dry => "Claims that were typed in; they are not verified.".into(),
        }
    }
}

/// The page, and with `id` a past login.
pub async fn ask(State(console): State<Console>, visitor: Visitor, shell: Shell, Asked(asked): Asked) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let mut page = Page::new(&console, shell);
    page.id = asked.get("id").to_owned();
    if page.id.is_empty() {
        return Ok(page.answer(StatusCode::OK));
    }
    page.found = Some(match console.admin.service.past_login(page.id.clone()).await {
        Ok(Past::Recorded(row)) => Found::Recorded(Box::new(recorded(&row))),
        Ok(Past::Remembered(login)) => {
            let ago = i64::try_from(login.at.elapsed().as_millis()).unwrap_or(i64::MAX);
            let at = crate::pipeline::ids::Timestamp(console.admin.inspect().now().0.saturating_sub(ago));
            Found::Remembered { login, at: Moment::of(at) }
        }
        Err(Unlooked::Refused(Refused::NotFound(_))) => Found::Nothing,
        Err(why) => return Err(why.into()),
    });
    let status = if matches!(page.found, Some(Found::Nothing)) { StatusCode::NOT_FOUND } else { StatusCode::OK };
    Ok(page.answer(status))
}

fn recorded(row: &AuditRow) -> Recorded {
    let told = ["login", "provider", "outcome", "reason", "token", "issuer", "binding", "issued_at"];
    let object = row.detail.as_object();
    let first = told.iter().filter_map(|key| Some((*key, object?.get(*key)?)));
    let rest = object.into_iter().flatten().filter(|(key, _)| !told.contains(&key.as_str()));
    let rest = rest.map(|(key, value)| (key.as_str(), value));
    let detail = first.chain(rest).map(|(key, value)| (key.replace('_', " "), lines(key, value)));
    Recorded {
        at: Moment::read(&row.at),
        kind: if row.event == "login_refused" { Kind::Refused } else { Kind::Entered },
        event: row.event.clone(),
        summary: summary(row),
        subject: person_of(row).split_once('/').map(|(_, subject)| subject.to_owned()).unwrap_or_default(),
        person: person_of(row),
        detail: detail.filter(|(_, lines)| !lines.is_empty()).collect(),
    }
}

/// A value of the audit's detail as lines.
fn lines(key: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![text.clone()],
        Value::Number(number) if key == "issued_at" => {
            vec![
                number
                    .as_i64()
                    .map_or_else(|| number.to_string(), |at| crate::pipeline::ids::Timestamp(at).to_string()),
            ]
        }
        Value::Array(list) => list.iter().map(line).collect(),
        other => vec![line(other)],
    }
}

/// One entry of a list: an object as its members.
fn line(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(members) => {
            let each = members.iter().map(|(key, value)| match value {
                Value::Array(list) => format!("{key}: {}", list.iter().map(line).collect::<Vec<_>>().join(", ")),
                value => format!("{key}: {}", line(value)),
            });
            each.collect::<Vec<_>>().join(" · ")
        }
        other => other.to_string(),
    }
}

/// Decides what was pasted. Nothing of it is kept.
pub async fn answer(State(console): State<Console>, visitor: Visitor, shell: Shell, Posted(fields): Posted) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let mut page = Page::new(&console, shell);
    page.provider = fields.get("provider").to_owned();
    let question = match question(&console, &fields) {
        Ok(question) => question,
        Err(fault) => return Ok(faulty(page, &fields, vec![fault])),
    };
    match console.admin.service.explain(question, MOST_MAPPINGS).await {
        Ok(report) => {
            page.report = Some(report);
            Ok(page.answer(StatusCode::OK))
        }
        Err(Unlooked::Refused(Refused::Invalid(faults))) => {
            let faults = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
            Ok(faulty(page, &fields, faults))
        }
        Err(why) => Err(Failure::from(why)),
    }
}

/// What was typed comes back, with what is wrong.
fn faulty(mut page: Page, fields: &Fields, faults: Vec<String>) -> Response {
    page.typed = fields.raw("login").to_owned();
    page.faults = faults;
    page.answer(StatusCode::UNPROCESSABLE_ENTITY)
}

fn question(console: &Console, fields: &Fields) -> Result<Question, String> {
    let config = console.admin.inspect().config();
    let found = config.providers.iter().find(|one| one.provider.name.as_str() == fields.get("provider"));
    let provider: Arc<ProviderSettings> = match (found, config.providers.as_slice()) {
        (Some(found), _) | (None, [found]) => Arc::new(found.clone()),
        _ => return Err("choose the provider whose login it is".into()),
    };
    let typed = fields.get("login");
    if typed.is_empty() {
        return Err("paste an ID token, a SAML response, or claims as a JSON object".into());
    }
    // A token endpoint's answer is JSON too, and says so by the token that it carries.
    let claims = typed.starts_with('{').then(|| {
        let kept = number::kept(typed.as_bytes());
        serde_json::from_slice::<serde_json::Map<String, Value>>(&kept)
    });
    let login = match claims {
        Some(Ok(claims)) if !claims.contains_key("id_token") => Candidate::Claims(claims),
        // What a parser says quotes what was pasted, which may be a token.
        Some(Err(_)) => return Err("it begins as JSON, and is not a JSON object to its end".into()),
        _ => Candidate::Token(typed.to_owned()),
    };
    Ok(Question { provider, login, at: None })
}
