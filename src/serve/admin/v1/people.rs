//! People: what each holds and why, and what is done about it by hand.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::http::{Admin, json};
use super::super::service::{Call, Refused};
use super::problem::{Problem, Problems};
use super::{Adding, Asked, At, Calling, Page, Paging, Reading, cursor};
use crate::config::Scope;
use crate::pipeline::ids::{GroupName, Namespace, RoleName, Subject, Target, Timestamp, UserId};
use crate::pipeline::mapping::definition::Fault;
use crate::ports::catalogue::Person;
use crate::ports::store::{Act, UserView};
use crate::serve::relying_party::renewal::Renewed;

pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(rekey))
        .routes(routes!(show, erase))
        .routes(routes!(assign, unassign))
        .routes(routes!(deny, undeny))
        .routes(routes!(disable))
        .routes(routes!(enable))
        .routes(routes!(resync))
        .routes(routes!(sessions, end_sessions))
}

/// A member by its two names.
#[derive(Debug, Serialize, ToSchema)]
pub struct Member {
    pub namespace: String,
    pub subject: String,
}

/// A user, in short.
#[derive(Debug, Serialize, ToSchema)]
struct PersonView {
    namespace: String,
    subject: String,
    /// The number that the vendor APIs with numbers use.
    number: i64,
    email: Option<String>,
    display_name: Option<String>,
    enabled: bool,
    /// RFC 3339.
    last_login_at: Option<String>,
}

/// What a membership is of.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Group,
    Role,
}

pub async fn members_of(admin: &Admin, target: Option<Target>, paging: &Paging) -> Result<Page<Member>, Problem> {
    let Some(target) = target else { return Ok(Page { items: Vec::new(), next: None }) };
    let limit = paging.limit()?;
    let after = paging.after()?.map(|text| user_of_cursor(&text)).transpose()?;
    let mut found = admin.inspect().store().members(target, after, limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|user| cursor(&cursor_of(user)));
    let items = found
        .into_iter()
        .map(|user| Member { namespace: user.namespace.to_string(), subject: user.subject.to_string() });
    Ok(Page { items: items.collect(), next })
}

fn cursor_of(user: &UserId) -> String {
    serde_json::json!([user.namespace.as_str(), user.subject.as_str()]).to_string()
}

fn user_of_cursor(text: &str) -> Result<UserId, Problem> {
    let wrong = || Problem::query("cursor: expected the `next` of the page before");
    let (namespace, subject): (String, String) = serde_json::from_str(text).map_err(|_| wrong())?;
    user_id(&namespace, &subject).map_err(|_| wrong())
}

pub fn user_id(namespace: &str, subject: &str) -> Result<UserId, Refused> {
    let names =
        Namespace::parse(namespace).and_then(|namespace| Ok(UserId { namespace, subject: Subject::parse(subject)? }));
    names.map_err(|_| Refused::NotFound("there is no such user".into()))
}

fn target(kind: Kind, name: &str) -> Result<Target, Refused> {
    let target = match kind {
        Kind::Group => GroupName::parse(name).map(Target::Group),
        Kind::Role => RoleName::parse(name).map(Target::Role),
    };
    target.map_err(|_| Refused::NotFound("there is nothing of this name".into()))
}

/// Lists all users, in the order of creation
#[utoipa::path(get, path = "/api/v1/users", operation_id = "list_users", tag = "users", params(Paging), responses(
    (status = 200, description = "One page of users", body = Page<PersonView>), Problems
))]
async fn list(
    _: Reading,
    State(admin): State<Admin>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<PersonView>>, Problem> {
    let limit = paging.limit()?;
    let after = match paging.after()? {
        None => 0,
        Some(text) => text.parse().map_err(|_| Problem::query("cursor: expected the `next` of the page before"))?,
    };
    let mut found = admin.inspect().store().persons(after, limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|person| cursor(&person.number.to_string()));
    Ok(Json(Page { items: found.into_iter().map(person_view).collect(), next }))
}

fn person_view(person: Person) -> PersonView {
    let Person { number, user, email, display_name, enabled, last_login_at } = person;
    PersonView {
        namespace: user.namespace.to_string(),
        subject: user.subject.to_string(),
        number,
        email,
        display_name,
        enabled,
        last_login_at: last_login_at.map(|at| at.to_string()),
    }
}

/// One user: every membership and the reasons for it
#[utoipa::path(get, path = "/api/v1/users/{namespace}/{subject}", operation_id = "show_user", tag = "users", params(
    ("namespace" = String, Path), ("subject" = String, Path)
), responses((status = 200, description = "The user", body = UserView), Problems))]
async fn show(
    _: Reading,
    State(admin): State<Admin>,
    At((namespace, subject)): At<(String, String)>,
) -> Result<Json<UserView>, Problem> {
    Ok(Json(admin.service.user(user_id(&namespace, &subject)?).await?))
}

/// A user by the namespace and the value of the user claim.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub namespace: String,
    pub subject: String,
}

/// A new key for a user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewKey {
    old: Key,
    new: Key,
}

/// New keys, given all together or not at all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rekeying {
    #[schema(min_items = 1, max_items = 10_000)]
    users: Vec<NewKey>,
    /// If a user with the new key exists, merge the two; the denies of both and a disabled state are kept.
    #[serde(default)]
    merge: bool,
    /// Apply the change; without it, the answer only shows what would change.
    #[serde(default)]
    apply: bool,
}

/// A user under the new key.
#[derive(Debug, Serialize, ToSchema)]
struct RekeyedUser {
    old: Key,
    new: Key,
    /// A user with the new key exists already.
    merged: bool,
    /// The old key belongs to an erased person: only their denies and disabled state move.
    erased: bool,
    disabled: bool,
    /// Such as group `Staff`.
    denies: Vec<String>,
    /// Given by hand.
    assigned: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RekeyedUsers {
    /// Whether the change was applied.
    applied: bool,
    users: Vec<RekeyedUser>,
}

/// Users that one call may rekey.
const MOST_KEYS: usize = 10_000;

/// Gives users new keys and keeps their grants, denies and disabled state; requires scope `admin`
#[utoipa::path(post, path = "/api/v1/users/rekey",
    operation_id = "rekey_users", tag = "users", request_body = Rekeying, responses(
    (status = 200, description = "The users under their new keys; nothing has changed unless `applied` is true",
    body = RekeyedUsers), Problems
))]
async fn rekey(State(admin): State<Admin>, Adding(call): Adding, body: Bytes) -> Result<Json<RekeyedUsers>, Problem> {
    let Rekeying { users, merge, apply } = json(&body, false)?;
    let mut faults = Vec::new();
    if users.is_empty() || users.len() > MOST_KEYS {
        faults.push(Fault::new("users", None, format!("has {} entries; expected 1 to {MOST_KEYS}", users.len())));
    }
    let mut keys = Vec::with_capacity(users.len());
    for (at, NewKey { old, new }) in users.iter().enumerate() {
        let mut parse = |which: &str, key: &Key| {
            let namespace = Namespace::parse(&key.namespace);
            let parsed =
                namespace.and_then(|namespace| Ok(UserId { namespace, subject: Subject::parse(&key.subject)? }));
            let fault = |why: &dyn std::fmt::Display| {
                Fault::new(format!("users[{at}].{which}"), Some(&key.subject), why.to_string())
            };
            parsed.map_err(|why| faults.push(fault(&why))).ok()
        };
        if let (Some(old), Some(new)) = (parse("old", old), parse("new", new)) {
            keys.push((old, new));
        }
    }
    if !faults.is_empty() {
        return Err(Refused::Invalid(faults).into());
    }
    let done = admin.service.rekey(&call, keys, merge, apply).await?;
    let key = |user: &UserId| Key { namespace: user.namespace.to_string(), subject: user.subject.to_string() };
    let names = |targets: &[Target]| targets.iter().map(ToString::to_string).collect();
    let users = done.iter().map(|one| RekeyedUser {
        old: key(&one.old),
        new: key(&one.new),
        merged: one.merged,
        erased: one.erased,
        disabled: one.disabled,
        denies: names(&one.denies),
        assigned: names(&one.assigned),
    });
    Ok(Json(RekeyedUsers { applied: apply, users: users.collect() }))
}

/// How a user is erased.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Erasing {
    /// Also remove the person's disabled state and denies.
    #[serde(default)]
    forget: bool,
}

/// Denies and disabled state that still apply to an erased person.
#[derive(Debug, Serialize, ToSchema)]
struct Erased {
    /// True if a keyed digest of the key is kept, so that these apply if the person comes back.
    kept: bool,
    disabled: bool,
    /// Such as group `Staff`.
    denies: Vec<String>,
}

/// Erases a user and all memberships; requires scope `admin`
/// If the user is disabled or has denies, a keyed digest of the key is kept so that these still apply; `forget` removes it.
#[utoipa::path(delete, path = "/api/v1/users/{namespace}/{subject}", operation_id = "erase_user", tag = "users", params(
    ("namespace" = String, Path), ("subject" = String, Path), Erasing
), responses((status = 200, description = "The user is gone; the body says what still binds the person",
    body = Erased), Problems))]
async fn erase(
    State(admin): State<Admin>,
    Calling(call): Calling,
    At((namespace, subject)): At<(String, String)>,
    Asked(Erasing { forget }): Asked<Erasing>,
) -> Result<Json<Erased>, Problem> {
    call.caller.may(Scope::Admin)?;
    let user = user_id(&namespace, &subject)?;
    let view = match admin.service.user(user.clone()).await {
        Ok(view) => Some(view),
        // One who was erased before may be forgotten.
        Err(Refused::NotFound(_)) if forget => None,
        Err(refused) => return Err(refused.into()),
    };
    let act = if forget { Act::Forget } else { Act::Erase };
    admin.service.act(&call, vec![(user, act)]).await?;
    let bound = view.as_ref().map(UserView::binding).unwrap_or_default();
    Ok(Json(Erased { kept: !forget && bound.binds(), disabled: bound.disabled, denies: bound.denies }))
}

async fn act(admin: &Admin, call: &Call, user: UserId, act: Act) -> Result<Response, Problem> {
    admin.service.act(call, vec![(user, act)]).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Assigns a group or role by hand; no login revokes it
///
/// A user who was never seen is created.
#[utoipa::path(put, path = "/api/v1/users/{namespace}/{subject}/assignments/{kind}/{name}",
    operation_id = "assign_to_user", tag = "users", params(
    ("namespace" = String, Path), ("subject" = String, Path), ("kind" = inline(Kind), Path), ("name" = String, Path)
), responses((status = 204, description = "The user has it by hand"), Problems))]
async fn assign(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At((namespace, subject, kind, name)): At<(String, String, Kind, String)>,
) -> Result<Response, Problem> {
    let target = target(kind, &name)?;
    act(&admin, &call, user_id(&namespace, &subject)?, Act::Assign(target)).await
}

/// Removes a manual assignment; grants of mappings stay
#[utoipa::path(delete, path = "/api/v1/users/{namespace}/{subject}/assignments/{kind}/{name}",
    operation_id = "unassign_from_user", tag = "users", params(
    ("namespace" = String, Path), ("subject" = String, Path), ("kind" = inline(Kind), Path), ("name" = String, Path)
), responses((status = 204, description = "The user no longer has it by hand"), Problems))]
async fn unassign(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At((namespace, subject, kind, name)): At<(String, String, Kind, String)>,
) -> Result<Response, Problem> {
    let target = target(kind, &name)?;
    act(&admin, &call, user_id(&namespace, &subject)?, Act::Unassign(target)).await
}

/// A deny: why a user may not have a group or role, and until when.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Denial {
    #[schema(min_length = 1, max_length = 1024)]
    reason: String,
    /// Expiry (RFC 3339); absent: until the deny is lifted.
    #[schema(format = DateTime)]
    until: Option<String>,
}

/// Denies a group or role, whatever mappings or manual assignments give
#[utoipa::path(put, path = "/api/v1/users/{namespace}/{subject}/denies/{kind}/{name}",
    operation_id = "deny_user", tag = "users", params(
    ("namespace" = String, Path), ("subject" = String, Path), ("kind" = inline(Kind), Path), ("name" = String, Path)
), request_body = Denial, responses((status = 204, description = "The user is denied it"), Problems))]
async fn deny(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At((namespace, subject, kind, name)): At<(String, String, Kind, String)>,
    body: Bytes,
) -> Result<Response, Problem> {
    let Denial { reason, until } = json(&body, false)?;
    let mut faults = Vec::new();
    if reason.trim().is_empty() || reason.chars().count() > 1024 {
        faults.push(Fault::new("reason", Some(&reason), "expected 1 to 1024 characters"));
    }
    let until = until.as_deref().map(|text| (text, moment(text)));
    if let Some((text, None)) = until {
        faults.push(Fault::new("until", Some(text), "expected a time such as 2027-01-31T00:00:00Z"));
    }
    if !faults.is_empty() {
        return Err(Refused::Invalid(faults).into());
    }
    let denial = Act::Deny { target: target(kind, &name)?, reason, until: until.and_then(|(_, until)| until) };
    act(&admin, &call, user_id(&namespace, &subject)?, denial).await
}

/// A moment as RFC 3339 writes it.
pub fn moment(text: &str) -> Option<Timestamp> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|date| Timestamp(date.timestamp_millis()))
}

/// Lifts a deny
#[utoipa::path(delete, path = "/api/v1/users/{namespace}/{subject}/denies/{kind}/{name}",
    operation_id = "undeny_user", tag = "users", params(
    ("namespace" = String, Path), ("subject" = String, Path), ("kind" = inline(Kind), Path), ("name" = String, Path)
), responses((status = 204, description = "The deny is lifted"), Problems))]
async fn undeny(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At((namespace, subject, kind, name)): At<(String, String, Kind, String)>,
) -> Result<Response, Problem> {
    let target = target(kind, &name)?;
    act(&admin, &call, user_id(&namespace, &subject)?, Act::Undeny(target)).await
}

/// Disables a user: their logins are refused, and their sessions end
#[utoipa::path(post, path = "/api/v1/users/{namespace}/{subject}/disable", operation_id = "disable_user", tag = "users", params(
    ("namespace" = String, Path), ("subject" = String, Path)
), responses((status = 204, description = "The user is disabled"), Problems))]
async fn disable(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At((namespace, subject)): At<(String, String)>,
) -> Result<Response, Problem> {
    act(&admin, &call, user_id(&namespace, &subject)?, Act::Disable).await
}

/// Enables a user again
#[utoipa::path(post, path = "/api/v1/users/{namespace}/{subject}/enable", operation_id = "enable_user", tag = "users", params(
    ("namespace" = String, Path), ("subject" = String, Path)
), responses((status = 204, description = "The user is enabled"), Problems))]
async fn enable(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At((namespace, subject)): At<(String, String)>,
) -> Result<Response, Problem> {
    act(&admin, &call, user_id(&namespace, &subject)?, Act::Enable).await
}

/// A session of a user at the app.
#[derive(Debug, Serialize, ToSchema)]
struct SessionRow {
    provider: String,
    /// RFC 3339; so below.
    created_at: String,
    seen_at: String,
    expires_at: String,
}

/// The sessions of a user that loginsync keeps
#[utoipa::path(get, path = "/api/v1/users/{namespace}/{subject}/sessions",
    operation_id = "list_sessions_of_user", tag = "users", params(
    ("namespace" = String, Path), ("subject" = String, Path)
), responses((status = 200, description = "The sessions", body = Page<SessionRow>), Problems))]
async fn sessions(
    _: Reading,
    State(admin): State<Admin>,
    At((namespace, subject)): At<(String, String)>,
) -> Result<Json<Page<SessionRow>>, Problem> {
    let found = admin.service.sessions_of(user_id(&namespace, &subject)?).await?;
    let items = found.into_iter().map(|session| SessionRow {
        provider: session.provider,
        created_at: session.created_at.to_string(),
        seen_at: session.seen_at.to_string(),
        expires_at: session.expires_at.to_string(),
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// Number of ended sessions.
#[derive(Debug, Serialize, ToSchema)]
struct EndedSessions {
    sessions: u64,
}

/// Ends the sessions of a user; their next request has to log in
#[utoipa::path(delete, path = "/api/v1/users/{namespace}/{subject}/sessions",
    operation_id = "end_sessions_of_user", tag = "users", params(
    ("namespace" = String, Path), ("subject" = String, Path)
), responses((status = 200, description = "Number of sessions that ended", body = EndedSessions), Problems))]
async fn end_sessions(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At((namespace, subject)): At<(String, String)>,
) -> Result<Json<EndedSessions>, Problem> {
    let sessions = admin.service.end_sessions_of(&call, user_id(&namespace, &subject)?).await?;
    Ok(Json(EndedSessions { sessions }))
}

/// The outcome for one session.
#[derive(Debug, Serialize, ToSchema)]
struct Resynced {
    /// `synced`, `ended`, `unanswered` or `no_token`.
    outcome: &'static str,
    granted: usize,
    revoked: usize,
    /// Why the session ended, or what did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The outcome for each session that could be renewed.
#[derive(Debug, Serialize, ToSchema)]
struct ResyncedSessions {
    sessions: Vec<Resynced>,
}

/// Asks the provider again for each renewable session of a user, and syncs the answers
#[utoipa::path(post, path = "/api/v1/users/{namespace}/{subject}/resync", operation_id = "resync_user", tag = "users", params(
    ("namespace" = String, Path), ("subject" = String, Path)
), responses((status = 200, description = "The outcome for each session", body = ResyncedSessions), Problems))]
async fn resync(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At((namespace, subject)): At<(String, String)>,
) -> Result<Json<ResyncedSessions>, Problem> {
    let outcomes = admin.service.ask_provider(&call, user_id(&namespace, &subject)?).await?;
    let sessions = outcomes.into_iter().map(|renewed| {
        let (outcome, granted, revoked, reason) = match renewed {
            Renewed::Synced { granted, revoked } => ("synced", granted, revoked, None),
            Renewed::Ended(why) => ("ended", 0, 0, Some(why)),
            Renewed::Unanswered(why) => ("unanswered", 0, 0, Some(why)),
            Renewed::NoToken => ("no_token", 0, 0, None),
        };
        Resynced { outcome, granted, revoked, reason }
    });
    Ok(Json(ResyncedSessions { sessions: sessions.collect() }))
}
