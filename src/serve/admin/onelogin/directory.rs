//! Roles and users to look at: a client that writes mappings needs their numbers, and one that tries a mapping those of people.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{Errors, Problem};
use crate::config::Scope;
use crate::ports::catalogue::{Person, Search, Sort};
use crate::serve::admin::http::{Admin, Head};
use crate::serve::admin::service::{Refused, RoleView};

/// Entries of a page, which are as many at most.
const PAGE: usize = 100;
/// Users that one call names by number.
const MOST_NUMBERS: usize = 100;

/// A role, as far as mappings concern it.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoleObject {
    id: i64,
    name: String,
}

/// A user, as far as mappings concern them.
#[derive(Debug, Serialize, ToSchema)]
pub struct DirectoryUser {
    id: i64,
    /// The value of the user claim: what the provider calls the person.
    username: String,
    email: Option<String>,
    firstname: Option<String>,
    lastname: Option<String>,
    /// 1: active; 2: suspended.
    status: u8,
    /// RFC 3339.
    last_login: Option<String>,
}

impl From<RoleView> for RoleObject {
    fn from(role: RoleView) -> Self {
        Self { id: role.number, name: role.name }
    }
}

impl From<Person> for DirectoryUser {
    fn from(person: Person) -> Self {
        let (firstname, lastname) = names(&person);
        Self {
            id: person.number,
            username: person.user.subject.to_string(),
            email: person.email,
            firstname,
            lastname,
            status: if person.enabled { 1 } else { 2 },
            last_login: person.last_login_at.map(|at| at.to_string()),
        }
    }
}

/// The first and the last name of a person: here a name is one text, and its last word is taken for the last name.
pub fn names(person: &Person) -> (Option<String>, Option<String>) {
    let name = person.display_name.as_deref().map(|name| name.rsplit_once(' ').unwrap_or((name, "")));
    name.map(|(first, last)| (first.to_owned(), last.to_owned())).unzip()
}

/// What both lists take; `fields` is ignored, since clients read what they asked for from whole objects, too.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "for the document alone")]
pub struct Pages {
    #[param(minimum = 1, maximum = 100, default = 100)]
    limit: Option<u32>,
    #[param(minimum = 1, default = 1)]
    page: Option<u32>,
    /// The `After-Cursor` or `Before-Cursor` of another page.
    cursor: Option<String>,
}

/// What stands behind the `?` of a list.
struct Asked {
    limit: usize,
    page: usize,
    filters: Vec<(String, String)>,
}

impl Asked {
    /// What would narrow the list in a way that is not known here is refused: an answer without it would be another one.
    fn parse(query: Option<String>, known: &[&str]) -> Result<Self, Problem> {
        let mut asked = Self { limit: PAGE, page: 1, filters: Vec::new() };
        let query = query.unwrap_or_default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).filter(|(_, value)| !value.is_empty()) {
            let number = |most: usize| {
                let parsed = value.parse().ok().filter(|number| (1..=most).contains(number));
                parsed.ok_or_else(|| bad_request(&format!("{name} must be between 1 and {most}")))
            };
            match &*name {
                "limit" => asked.limit = number(PAGE)?,
                "page" | "cursor" => asked.page = number(1_000_000)?,
                "fields" => {}
                filter if known.contains(&filter) => asked.filters.push((name.into_owned(), value.into_owned())),
                other => return Err(bad_request(&format!("{other} is not supported here"))),
            }
        }
        Ok(asked)
    }

    fn filter(&self, name: &str) -> Option<&str> {
        self.filters.iter().find(|(filter, _)| filter == name).map(|(_, value)| value.as_str())
    }

    fn offset(&self) -> usize {
        (self.page - 1) * self.limit
    }

    /// A page, with the cursors of the neighbouring pages in the headers, where clients look for them.
    fn answer<T: Serialize>(&self, items: &[T], total: usize) -> Response {
        let pages = total.div_ceil(self.limit);
        let mut fields = vec![
            ("current-page", self.page),
            ("page-items", items.len()),
            ("total-count", total),
            ("total-pages", pages),
        ];
        if self.page > 1 {
            fields.push(("before-cursor", self.page - 1));
        }
        if self.page < pages {
            fields.push(("after-cursor", self.page + 1));
        }
        let mut response = Json(items).into_response();
        for (name, value) in fields {
            response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
        response
    }
}

fn bad_request(message: &str) -> Problem {
    Problem::Plain(StatusCode::BAD_REQUEST, message.to_owned())
}

/// All roles, by name.
#[utoipa::path(get, path = "/api/2/roles", operation_id = "listRoles",
    params(Pages, ("name" = Option<String>, Query, description = "Roles of this name alone")),
    responses((status = 200, description = "One page of roles", body = [RoleObject]), Errors))]
pub async fn roles(
    State(admin): State<Admin>,
    Head(call): Head,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Asked::parse(query, &["name"])?;
    let mut found = admin.service.roles();
    found.retain(|role| asked.filter("name").is_none_or(|name| role.name == name));
    let total = found.len();
    let page: Vec<RoleObject> =
        found.into_iter().skip(asked.offset()).take(asked.limit).map(RoleObject::from).collect();
    Ok(asked.answer(&page, total))
}

#[utoipa::path(get, path = "/api/2/roles/{id}", operation_id = "getRole", params(("id" = i64, Path)),
    responses((status = 200, description = "The role", body = RoleObject), Errors))]
pub async fn role(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(id): Path<String>,
) -> Result<Json<RoleObject>, Problem> {
    call.caller.may(Scope::Read)?;
    let found = id.parse().ok().and_then(|number| admin.service.role_by_number(number));
    found.map(|role| Json(role.into())).ok_or_else(Problem::not_found)
}

/// All users, by number.
#[utoipa::path(get, path = "/api/2/users", operation_id = "listUsers",
    params(Pages, ("email" = Option<String>, Query, description = "Whatever its case"),
        ("username" = Option<String>, Query, description = "What the provider calls the person"),
        ("user_ids" = Option<String>, Query, description = "Up to 100 numbers, separated by commas")),
    responses((status = 200, description = "One page of users", body = [DirectoryUser]), Errors))]
pub async fn users(
    State(admin): State<Admin>,
    Head(call): Head,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Asked::parse(query, &["email", "username", "user_ids"])?;
    let numbers = match asked.filter("user_ids") {
        None => None,
        Some(list) => {
            let read: Option<Vec<i64>> = list.split(',').map(|number| number.trim().parse().ok()).collect();
            let read = read.filter(|numbers| numbers.len() <= MOST_NUMBERS);
            Some(read.ok_or_else(|| bad_request("user_ids must be at most 100 integers, separated by commas"))?)
        }
    };
    let search = Search {
        numbers,
        email: asked.filter("email").map(str::to_owned),
        subject: asked.filter("username").map(str::to_owned),
        sort: Sort::Number,
        offset: asked.offset(),
        limit: asked.limit,
        ..Search::default()
    };
    let found = admin.inspect().store().find(search).await.map_err(Refused::from)?;
    let page: Vec<DirectoryUser> = found.members.into_iter().map(|member| member.person.into()).collect();
    Ok(asked.answer(&page, found.total))
}

#[utoipa::path(get, path = "/api/2/users/{id}", operation_id = "getUser", params(("id" = i64, Path)),
    responses((status = 200, description = "The user", body = DirectoryUser), Errors))]
pub async fn user(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(id): Path<String>,
) -> Result<Json<DirectoryUser>, Problem> {
    call.caller.may(Scope::Read)?;
    let Ok(number) = id.parse() else { return Err(Problem::not_found()) };
    let found = admin.inspect().store().person(number).await.map_err(Refused::from)?;
    found.map(|person| Json(person.into())).ok_or_else(Problem::not_found)
}
