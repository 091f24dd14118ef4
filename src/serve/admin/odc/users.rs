//! End-users: who there is, and making, renaming, disabling and deleting them by hand.
//!
//! The key of a user is made of the number that the store gives them. A user is what a provider calls a user: to be made
//! by hand, one takes a provider and a subject.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::names::{Names, UserRoleObject};
use super::{Errors, Made, Page, Parameters, Problem};
use crate::config::Scope;
use crate::pipeline::ids::{InvalidText, UserId};
use crate::pipeline::mapping::definition::Fault;
use crate::ports::catalogue::{Member, Person, Search, Sort, Within};
use crate::ports::store::Act;
use crate::serve::admin::http::{Admin, Head, json};
use crate::serve::admin::service::{Call, Refused, provider_key};

const ACTIVE: &str = "Active";
const INACTIVE: &str = "Inactive";
/// As ODC knows them; the last two are people who have not taken up an invitation, and there are no invitations here.
const STATUSES: [&str; 4] = [ACTIVE, INACTIVE, "Invited", "PendingRegistration"];
const ROLES: &str = "ApplicationRoles";
const PROVIDERS: &str = "UserIdentityProviders";
/// What a list sorts by, the usual first.
const SORTS: [&str; 6] = ["name", "key", "userKey", "email", "status", "lastLoginAt"];
/// Keys that one call names at most.
const MOST_KEYS: usize = 100;
/// Characters of a name or an address at most.
const MOST_TEXT: usize = 256;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserObject {
    key: String,
    name: Option<String>,
    email: Option<String>,
    /// The value of the user claim: what the provider calls the person.
    username: String,
    /// `Active` or `Inactive`.
    status: &'static str,
    is_active: bool,
    last_login_at: Option<String>,
    /// What `embed` asks for.
    #[serde(rename = "_embedded", skip_serializing_if = "Option::is_none")]
    embedded: Option<Embedded>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Embedded {
    #[serde(skip_serializing_if = "Option::is_none")]
    application_roles: Option<Vec<UserRoleObject>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_identity_providers: Option<Vec<IdpProfile>>,
}

/// What a user is at one provider.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct IdpProfile {
    user_key: String,
    identity_provider_key: String,
    subject: String,
    name: Option<String>,
    email: Option<String>,
    last_login_at: Option<String>,
}

/// The filters that all lists of users have.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[allow(dead_code, reason = "for the document alone")]
pub struct Filters {
    user_key: Option<String>,
    /// Separated by commas.
    user_keys: Option<String>,
    /// ASCII letters match in either case.
    name_or_email_contains: Option<String>,
    name_or_email_or_username_contains: Option<String>,
    last_login_at_since: Option<String>,
    last_login_at_to: Option<String>,
    /// `name`, `key`, `email`, `status` or `lastLoginAt`; `-` in front sorts in descending order.
    sort: Option<String>,
    /// `ApplicationRoles`, `UserIdentityProviders`.
    embed: Option<Vec<String>>,
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    #[param(minimum = 0)]
    offset: Option<u32>,
}

/// A new user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewUser {
    name: Option<String>,
    email: Option<String>,
    is_active: Option<bool>,
    /// Not supported here.
    photo_url: Option<String>,
    /// True is refused: loginsync has no built-in identity provider.
    add_to_built_in_identity_provider: Option<bool>,
    /// Required: a user is identified by provider and subject.
    identity_provider_key: Option<String>,
    /// Required.
    subject: Option<String>,
    /// The same as `subject`, where it is there.
    username: Option<String>,
}

impl NewUser {
    /// Address, username and subject, as they were sent.
    pub fn names(&self) -> [Option<String>; 3] {
        [&self.email, &self.username, &self.subject].map(Clone::clone)
    }
}

/// Changes to a user; absent fields stay as they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserPatch {
    /// Kept until a login brings another value.
    name: Option<String>,
    is_active: Option<bool>,
    /// Not supported here.
    photo_url: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserCount {
    user_count: usize,
}

fn user_key(number: i64) -> String {
    let mut bytes = [0; 16];
    if let Some(tail) = bytes.get_mut(8..) {
        tail.copy_from_slice(&number.to_be_bytes());
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// Version and variant take bits that no number of the store reaches.
fn number_of(key: &str) -> Option<i64> {
    let number = key.rsplit_once('-').and_then(|(_, tail)| i64::from_str_radix(tail, 16).ok());
    number.filter(|number| user_key(*number).eq_ignore_ascii_case(key))
}

/// The person with a key.
pub async fn by_key(admin: &Admin, key: &str) -> Result<Person, Problem> {
    let Some(number) = number_of(key) else { return Err(Problem::not_found("user")) };
    let person = admin.inspect().store().person(number).await.map_err(Refused::from)?;
    person.ok_or_else(|| Problem::not_found("user"))
}

// --------------------------------------------------------------------------------------------------------------- lists

/// What is searched for by the parameters of a list.
fn search(asked: &Parameters, within: Option<Within>) -> Result<Search, Problem> {
    asked.refuse(&[
        "assetKey",
        "environmentKey",
        "environmentKeys",
        "loggedInEnvironmentKeys",
        "loggedInPortfolioKeys",
    ])?;
    if asked.flag("hasApplicationRoles")? {
        return Err(Problem::input("Not supported here: hasApplicationRoles."));
    }
    let keys = asked.either("userKey", "userKeys")?;
    if keys.len() > MOST_KEYS {
        return Err(Problem::input(&format!("The userKeys field must name at most {MOST_KEYS} users.")));
    }
    let mut numbers = (!keys.is_empty()).then(|| keys.iter().filter_map(|key| number_of(key)).collect());
    // No user here has an organization role, is invited, or belongs to a portfolio.
    let statuses = asked.words("status", &STATUSES)?;
    let known: Vec<bool> = [(ACTIVE, true), (INACTIVE, false)]
        .into_iter()
        .filter(|(word, _)| statuses.contains(word))
        .map(|(_, enabled)| enabled)
        .collect();
    let no_user = asked.flag("hasOrganizationRoles")?
        || asked.one("portfolioKeys").is_some()
        || (!statuses.is_empty() && known.is_empty());
    if no_user {
        numbers = Some(Vec::new());
    }
    let text = asked.one("nameOrEmailOrUsernameContains").or_else(|| asked.one("nameOrEmailContains"));
    let (sort, descending) = asked.sort(&SORTS)?;
    let (limit, offset) = asked.window()?;
    Ok(Search {
        numbers,
        text: text.map(str::to_owned),
        enabled: if let [enabled] = known[..] { Some(enabled) } else { None },
        since: asked.moment("lastLoginAtSince")?,
        to: asked.moment("lastLoginAtTo")?,
        domains: asked.all(["domains", "domains"]).into_iter().map(str::to_ascii_lowercase).take(MOST_KEYS).collect(),
        within,
        sort: match sort {
            "name" => Sort::Name,
            "email" => Sort::Email,
            "status" => Sort::Enabled,
            "lastLoginAt" => Sort::LastLogin,
            _ => Sort::Number,
        },
        descending,
        offset,
        limit,
        ..Search::default()
    })
}

/// A page of users, each as `object` puts them.
pub async fn page<T>(
    admin: &Admin,
    asked: &Parameters,
    within: Option<Within>,
    object: impl Fn(&Member, UserObject) -> T,
) -> Result<Json<Page<T>>, Problem> {
    let (search, embed) = (search(asked, within)?, Embed::of(admin, asked)?);
    let window = (search.limit, search.offset);
    let found = admin.inspect().store().find(search).await.map_err(Refused::from)?;
    let mut results = Vec::with_capacity(found.members.len());
    for member in found.members {
        let embedded = embed.of_person(admin, &member.person).await?;
        let user = user(member.person.clone(), embedded);
        results.push(object(&member, user));
    }
    Ok(Json(Page::of(results, found.total, window)))
}

fn user(person: Person, embedded: Option<Embedded>) -> UserObject {
    UserObject {
        key: user_key(person.number),
        name: person.display_name,
        email: person.email,
        username: person.user.subject.to_string(),
        status: if person.enabled { ACTIVE } else { INACTIVE },
        is_active: person.enabled,
        last_login_at: person.last_login_at.map(|at| at.to_string()),
        embedded,
    }
}

/// What `embed` asks for.
struct Embed {
    roles: Option<Names>,
    providers: bool,
}

impl Embed {
    fn of(admin: &Admin, asked: &Parameters) -> Result<Self, Problem> {
        let words = asked.words("embed", &[ROLES, PROVIDERS])?;
        let roles = words.contains(&ROLES).then(|| Names::of(admin));
        Ok(Self { roles, providers: words.contains(&PROVIDERS) })
    }

    async fn of_person(&self, admin: &Admin, person: &Person) -> Result<Option<Embedded>, Problem> {
        if self.roles.is_none() && !self.providers {
            return Ok(None);
        }
        let application_roles = match &self.roles {
            Some(names) => Some(names.roles_of(&admin.service.user(person.user.clone()).await?)),
            None => None,
        };
        let user_identity_providers = if self.providers { Some(profiles(admin, person).await?) } else { None };
        Ok(Some(Embedded { application_roles, user_identity_providers }))
    }
}

/// At every provider that speaks of this person, by which some may never have logged in.
async fn profiles(admin: &Admin, person: &Person) -> Result<Vec<IdpProfile>, Problem> {
    let logins = admin.inspect().store().logins(person.number).await.map_err(Refused::from)?;
    let logins: BTreeMap<String, String> = logins.into_iter().map(|(name, at)| (name, at.to_string())).collect();
    let config = admin.inspect().config();
    let theirs =
        config.providers.iter().filter(|one| one.provider.user.namespace == person.user.namespace).map(|settings| {
            let name = &settings.provider.name;
            IdpProfile {
                user_key: user_key(person.number),
                identity_provider_key: provider_key(name),
                subject: person.user.subject.to_string(),
                name: person.display_name.clone(),
                email: person.email.clone(),
                last_login_at: logins.get(name.as_str()).cloned(),
            }
        });
    Ok(theirs.collect())
}

#[utoipa::path(get, path = "/api/identity/v1/users", operation_id = "list_users",
    params(Filters, ("status" = Option<String>, Query),
        ("domains" = Option<Vec<String>>, Query), ("hasOrganizationRoles" = Option<bool>, Query),
        ("portfolioKeys" = Option<String>, Query)),
    responses((status = 200, description = "One page of users", body = Page<UserObject>), Errors))]
pub async fn list(
    State(admin): State<Admin>,
    Head(call): Head,
    request: Request,
) -> Result<Json<Page<UserObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    page(&admin, &Parameters::of(&request), None, |_, user| user).await
}

#[utoipa::path(get, path = "/api/identity/v1/users/count", operation_id = "count_users",
    params(("status" = Option<String>, Query),
        ("domains" = Option<Vec<String>>, Query), ("hasOrganizationRoles" = Option<bool>, Query),
        ("portfolioKeys" = Option<String>, Query), ("lastLoginAtSince" = Option<String>, Query),
        ("lastLoginAtTo" = Option<String>, Query)),
    responses((status = 200, description = "The number of users", body = UserCount), Errors))]
pub async fn count(State(admin): State<Admin>, Head(call): Head, request: Request) -> Result<Json<UserCount>, Problem> {
    call.caller.may(Scope::Read)?;
    let search = Search { limit: 0, offset: 0, ..search(&Parameters::of(&request), None)? };
    let found = admin.inspect().store().find(search).await.map_err(Refused::from)?;
    Ok(Json(UserCount { user_count: found.total }))
}

#[utoipa::path(get, path = "/api/identity/v1/users/{key}", operation_id = "show_user",
    params(("key" = String, Path), ("embed" = Option<Vec<String>>, Query)),
    responses((status = 200, description = "The user", body = UserObject), Errors))]
pub async fn show(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    request: Request,
) -> Result<Json<UserObject>, Problem> {
    call.caller.may(Scope::Read)?;
    let person = by_key(&admin, &key).await?;
    let embedded = Embed::of(&admin, &Parameters::of(&request))?.of_person(&admin, &person).await?;
    Ok(Json(user(person, embedded)))
}

// ------------------------------------------------------------------------------------------------------------- changes

/// Creates a user who has not logged in yet; what they are given by hand applies from their first login.
#[utoipa::path(post, path = "/api/identity/v1/users", operation_id = "create_user", request_body = NewUser,
    responses((status = 201, description = "The key of the new user", body = Made), Errors))]
pub async fn create(
    State(admin): State<Admin>,
    Head(call): Head,
    body: Bytes,
) -> Result<(StatusCode, Json<Made>), Problem> {
    call.caller.may(Scope::WriteMembers)?;
    let key = make(&admin, &call, json(&body, false)?).await?;
    Ok((StatusCode::CREATED, Json(Made { key })))
}

/// Makes one user, and answers their key.
pub async fn make(admin: &Admin, call: &Call, new: NewUser) -> Result<String, Refused> {
    let (user, act) = checked(admin, new)?;
    admin.service.act(call, vec![(user.clone(), act)]).await?;
    let search = Search { user: Some(user), limit: 1, ..Search::default() };
    let found = admin.inspect().store().find(search).await?;
    let made = found.members.first();
    made.map(|member| user_key(member.person.number))
        .ok_or_else(|| Refused::NotFound("The user was deleted meanwhile.".into()))
}

/// All that is wrong with a new user, or who it is.
fn checked(admin: &Admin, new: NewUser) -> Result<(UserId, Act), Refused> {
    let NewUser {
        name,
        email,
        is_active,
        photo_url,
        add_to_built_in_identity_provider,
        identity_provider_key,
        subject,
        username,
    } = new;
    let mut issues = Vec::new();
    let texts = [("name", &name), ("email", &email), ("subject", &subject)];
    issues.extend(texts.into_iter().filter_map(|(field, text)| too_long(field, text.as_deref()?)));
    if photo_url.is_some() {
        issues.push("The photoUrl field is not supported here.".into());
    }
    if add_to_built_in_identity_provider == Some(true) {
        issues.push("The addToBuiltInIdentityProvider field is not supported here.".into());
    }
    let config = admin.inspect().config();
    let provider = identity_provider_key.as_deref().map(|key| {
        let found = config.providers.iter().find(|one| provider_key(&one.provider.name).eq_ignore_ascii_case(key));
        found.ok_or_else(|| issues.push("The identityProviderKey field names no identity provider.".into()))
    });
    if provider.is_none() {
        issues.push("The identityProviderKey field is required.".into());
    }
    if username.is_some() && username != subject {
        issues.push("The username field must be the same as the subject.".into());
    }
    let user = match (provider, subject) {
        (_, None) => {
            issues.push("The subject field is required.".into());
            None
        }
        (Some(Ok(settings)), Some(subject)) => {
            let wrong = |why: InvalidText| issues.push(format!("The subject field {why}."));
            settings.provider.user.user(subject).map_err(wrong).ok()
        }
        _ => None,
    };
    match user {
        Some(user) if issues.is_empty() => {
            let enabled = is_active.unwrap_or(true);
            Ok((user, Act::Create { email, display_name: name, enabled }))
        }
        _ => Err(Refused::Invalid(issues.into_iter().map(|issue| Fault::new("", None, issue)).collect())),
    }
}

fn too_long(field: &str, text: &str) -> Option<String> {
    let found = text.chars().count();
    (found > MOST_TEXT).then(|| format!("The {field} field must not be longer than {MOST_TEXT} characters."))
}

/// An inactive user cannot log in, and their sessions end.
#[utoipa::path(patch, path = "/api/identity/v1/users/{key}", operation_id = "update_user",
    params(("key" = String, Path)), request_body = UserPatch,
    responses((status = 204, description = "The user is changed"), Errors))]
pub async fn update(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMembers)?;
    let person = by_key(&admin, &key).await?;
    let UserPatch { name, is_active, photo_url } = json(&body, false)?;
    if photo_url.is_some() {
        return Err(Problem::input("The photoUrl field is not supported here."));
    }
    let mut acts = Vec::new();
    if let Some(name) = name.filter(|name| person.display_name.as_ref() != Some(name)) {
        if let Some(issue) = too_long("name", &name) {
            return Err(Problem::input(&issue));
        }
        acts.push((person.user.clone(), Act::Rename(name)));
    }
    match is_active.filter(|active| *active != person.enabled) {
        Some(true) => acts.push((person.user, Act::Enable)),
        Some(false) => acts.push((person.user, Act::Disable)),
        None => {}
    }
    if !acts.is_empty() {
        admin.service.act(&call, acts).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Erases the person and all memberships; a later login creates the person again. Requires scope `admin`.
#[utoipa::path(delete, path = "/api/identity/v1/users/{key}", operation_id = "delete_user", params(("key" = String, Path)),
    responses((status = 204, description = "The user is gone"), Errors))]
pub async fn delete(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMembers)?;
    let person = by_key(&admin, &key).await?;
    admin.service.act(&call, vec![(person.user, Act::Erase)]).await?;
    Ok(StatusCode::NO_CONTENT)
}
