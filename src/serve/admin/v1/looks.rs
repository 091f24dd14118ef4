//! `explain` and `plan` as calls: they write nothing, and no answer repeats a token.

use std::sync::Arc;

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::http::{Admin, Head, json};
use super::super::service::{Candidate, Past, Planned, Question, Reference, Refused, Whom};
use super::people::{Key, moment, user_id};
use super::problem::{Problem, Problems};
use super::{MOST, PAGE, Reading};
use crate::config::{ProviderSettings, Scope};
use crate::login::outcome::Remembered;
use crate::pipeline::explain::Report;
use crate::pipeline::forecast::Forecast;
use crate::pipeline::ids::{Timestamp, UserId};
use crate::pipeline::mapping::definition::{Definition, Fault};
use crate::pipeline::number;
use crate::ports::store::AuditRow;

/// Users whom a plan is made for by name.
const MOST_USERS: usize = 100;
/// Bytes of a plan's body: some 25,000 mappings. Who has more plans with the command.
pub(super) const MOST_PLAN: usize = 4 << 20;

pub fn routes() -> OpenApiRouter<Admin> {
    let plan = OpenApiRouter::new().routes(routes!(plan)).layer(DefaultBodyLimit::max(MOST_PLAN));
    OpenApiRouter::new().routes(routes!(explain)).merge(plan)
}

/// The login to explain: exactly one of `token`, `claims` and `id`.
///
/// Every member is taken as it comes and checked by hand: what a parser says of a wrong one quotes it, and it may be a token.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoginInHand {
    /// The provider of the login; optional if the configuration has one provider.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    provider: Option<Value>,
    /// An ID token; a SAML response as XML or base64; or the form body, or the token endpoint's answer, that carries one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    token: Option<Value>,
    /// Claims as a token would have them, as in a golden case. They are not verified.
    #[serde(default)]
    #[schema(value_type = Option<std::collections::BTreeMap<String, Value>>)]
    claims: Option<Value>,
    /// Decide as of this time (RFC 3339); absent: now.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Value>,
    /// ID of a past login, from the log or the audit; the answer shows how it was decided then.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    id: Option<Value>,
    /// Maximum number of mappings in the answer; those that took part come first.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<Value>,
}

/// How a login would be decided, or how a past one was.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "made once and sent at once")]
enum Explained {
    Report(Report),
    /// Present with `id`.
    Recorded(AuditRow),
    /// Present with `id`, if no signature of the login was valid.
    Remembered(RememberedRefusal),
}

/// A refused login without a valid signature, from the memory of this process: it keeps the last 10,000 while the console is on.
#[derive(Debug, Serialize, ToSchema)]
struct RememberedRefusal {
    login: String,
    /// Absent if the token's provider was not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    outcome: &'static str,
    stage: &'static str,
    reason: String,
    /// Seconds since then.
    seconds_ago: u64,
}

impl From<Remembered> for RememberedRefusal {
    fn from(login: Remembered) -> Self {
        let Remembered { id, provider, outcome, stage, reason, at } = login;
        let provider = provider.map(|provider| provider.to_string());
        Self { login: id, provider, outcome, stage, reason, seconds_ago: at.elapsed().as_secs() }
    }
}

/// Explains how a login is decided, from its token to its plan
/// Nothing is written, and a used token is treated as if it came for the first time. Requires scope `read`: the answer contains
/// what the caller sent, and of rules and people only what `read` may see anyway.
#[utoipa::path(post, path = "/api/v1/explain",
    operation_id = "explain_login", tag = "looks", request_body = LoginInHand, responses(
    (status = 200, description = "The decision and the reasons for it; for a past login, its audit row",
    body = Explained), Problems
))]
async fn explain(_: Reading, State(admin): State<Admin>, body: Bytes) -> Result<Json<Explained>, Problem> {
    let wanted = wanted(&admin, &body)?;
    let explained = match wanted {
        Wanted::Recorded(id) => admin.service.past_login(id).await.map(|past| match past {
            Past::Recorded(row) => Explained::Recorded(row),
            Past::Remembered(login) => Explained::Remembered(login.into()),
        }),
        Wanted::Decided(question, limit) => admin.service.explain(question, limit).await.map(Explained::Report),
    };
    explained.map(Json).map_err(|why| Problem::unlooked(&why))
}

enum Wanted {
    Decided(Question, usize),
    Recorded(String),
}

fn wanted(admin: &Admin, body: &Bytes) -> Result<Wanted, Refused> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refused::fault("body", None, "expected a JSON object"));
    }
    // Claims are read digit by digit, as those of a token are; nothing else of this body is a number that needs it.
    let body = &Bytes::from(number::kept(body).into_owned());
    let LoginInHand { provider, token, claims, at, id, limit } = json(body, false)?;
    let mut check = Check { faults: Vec::new() };
    let login = match (token, claims, id) {
        (Some(Value::String(token)), None, None) => Some(Login::InHand(Candidate::Token(token))),
        (None, Some(Value::Object(claims)), None) => Some(Login::InHand(Candidate::Claims(claims))),
        (None, None, Some(Value::String(id))) => Some(Login::Past(id)),
        (Some(_), None, None) => check.fault("token", "expected a text"),
        (None, Some(_), None) => check.fault("claims", "expected an object"),
        (None, None, Some(_)) => check.fault("id", "expected a text"),
        _ => check.fault("body", "expected exactly one of `token`, `claims` and `id`"),
    };
    let limit = check.limit(limit.as_ref());
    let at = check.at(at.as_ref());
    let provider = match &login {
        Some(Login::Past(_)) => None,
        _ => check.provider(admin, provider.as_ref()),
    };
    match (login, provider, check.faults.is_empty()) {
        (Some(Login::Past(id)), _, true) => Ok(Wanted::Recorded(id)),
        (Some(Login::InHand(login)), Some(provider), true) => {
            Ok(Wanted::Decided(Question { provider, login, at }, limit))
        }
        _ => Err(Refused::Invalid(check.faults)),
    }
}

enum Login {
    InHand(Candidate),
    Past(String),
}

/// Collects what is wrong; values are never repeated.
struct Check {
    faults: Vec<Fault>,
}

impl Check {
    fn fault<T>(&mut self, field: &str, message: &str) -> Option<T> {
        self.faults.push(Fault::new(field, None, message));
        None
    }

    fn limit(&mut self, limit: Option<&Value>) -> usize {
        let Some(limit) = limit else { return PAGE };
        let number = limit.as_u64().and_then(|limit| usize::try_from(limit).ok());
        number.filter(|limit| (1..=MOST).contains(limit)).unwrap_or_else(|| {
            self.fault::<()>("limit", &format!("expected a number from 1 to {MOST}"));
            PAGE
        })
    }

    fn users(&mut self, keys: &[Key]) -> Vec<UserId> {
        if keys.is_empty() || keys.len() > MOST_USERS {
            self.fault::<()>("users", &format!("expected 1 to {MOST_USERS} users"));
        }
        let parsed = keys.iter().take(MOST_USERS).enumerate().map(|(at, key)| {
            user_id(&key.namespace, &key.subject)
                .ok()
                .or_else(|| self.fault(&format!("users[{at}]"), "there is no such user"))
        });
        parsed.flatten().collect()
    }

    fn at(&mut self, at: Option<&Value>) -> Option<Timestamp> {
        match at?.as_str().and_then(moment) {
            Some(at) => Some(at),
            None => self.fault("at", "expected a time such as 2027-01-31T00:00:00Z"),
        }
    }

    fn provider(&mut self, admin: &Admin, name: Option<&Value>) -> Option<Arc<ProviderSettings>> {
        let config = admin.inspect().config();
        let found = match (name, config.providers.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), all) => all.iter().find(|one| Some(one.provider.name.as_str()) == name.as_str()),
        };
        match found {
            Some(settings) => Some(Arc::new(settings.clone())),
            None => {
                let names: Vec<String> =
                    config.providers.iter().map(|one| format!("`{}`", one.provider.name)).collect();
                self.fault("provider", &format!("expected one of {}", names.join(", ")))
            }
        }
    }
}

/// Mappings as they might be: either all, or one change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlannedRules {
    /// The full list of mappings, in the order in which they run: what `GET /api/v1/mappings` lists, with your changes. It may
    /// contain mappings of the file; a mapping that is left out counts as deleted.
    mappings: Option<Vec<PlannedMapping>>,
    /// One change: an existing mapping changed or deleted, or a new one.
    #[schema(nullable = false)]
    change: Option<PlannedChange>,
    /// Only these users, at most a hundred; absent: all users. With it, `brake_refuses`, `brake_holds` and `last_holders` are
    /// empty, since they depend on all users.
    users: Option<Vec<Key>>,
    /// Maximum number of people, and of changed mappings, in the answer.
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlannedMapping {
    /// The mapping that it replaces. Absent: the one of the same name or content; if there is none, it is new.
    id: Option<String>,
    definition: Definition,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlannedChange {
    /// The mapping to change; absent: a new one, which runs last.
    id: Option<String>,
    /// Its new definition; absent: the mapping is deleted.
    #[schema(nullable = false)]
    definition: Option<Definition>,
}

/// Shows who would gain and lose what under other mappings
/// Uses the claims of every user's last login. Nothing is written. `brake_refuses` lists why the brake would refuse the change
/// without `confirm`, `brake_holds` what the brake would hold at the next logins, `last_holders` the targets that would lose
/// their last holder. Requires the scopes `read`, since the answer names people, and `mappings:write`, since a client that may
/// test any condition on recorded claims learns their values from the answers.
#[utoipa::path(post, path = "/api/v1/plan",
    operation_id = "plan_mappings", tag = "looks", request_body = PlannedRules, responses(
    (status = 200, description = "What the change would grant and revoke", body = Forecast), Problems
))]
async fn plan(
    _: Reading,
    State(admin): State<Admin>,
    Head(call): Head,
    body: Bytes,
) -> Result<Json<Forecast>, Problem> {
    call.caller.may(Scope::WriteMappings)?;
    let PlannedRules { mappings, change, users, limit } = json(&body, false)?;
    let mut check = Check { faults: Vec::new() };
    let mut reference = |field: String, id: Option<String>| -> Option<Reference> {
        let id = id?;
        let parsed = Reference::parse(&id);
        if parsed.is_none() {
            check.faults.push(Fault::new(field, Some(&id), "expected the id of a mapping"));
        }
        parsed
    };
    let planned = match (mappings, change) {
        (Some(list), None) => {
            let each = list.into_iter().enumerate();
            let each = each.map(|(at, one)| (reference(format!("mappings[{at}].id"), one.id), one.definition));
            Some(Planned::All(each.collect()))
        }
        (None, Some(PlannedChange { id: None, definition: None })) => {
            check.fault("change", "expected `id`, `definition` or both")
        }
        (None, Some(change)) => Some(Planned::One(reference("change.id".into(), change.id), change.definition)),
        _ => check.fault("body", "expected either `mappings` or `change`"),
    };
    let limit = limit.unwrap_or(PAGE);
    if !(1..=MOST).contains(&limit) {
        check.fault::<()>("limit", &format!("expected a number from 1 to {MOST}"));
    }
    let whom = match users {
        None => Whom::Everyone(limit),
        Some(users) => Whom::These(check.users(&users)),
    };
    match planned {
        Some(planned) if check.faults.is_empty() => {
            admin.service.plan(planned, whom).await.map(Json).map_err(|why| Problem::unlooked(&why))
        }
        _ => Err(Refused::Invalid(check.faults).into()),
    }
}
