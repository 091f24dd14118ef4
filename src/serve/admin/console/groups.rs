//! Groups and roles: who has them, and what gives them.

use askama::Template;
use axum::extract::{Path, State};
use http::StatusCode;

use super::Console;
use super::door::Asked;
use super::failure::Failure;
use super::mappings::address_of;
use super::page::{Answer, Shell, render};
use super::visitor::Visitor;
use crate::config::Scope;
use crate::pipeline::ids::{GroupName, RoleName, Target};
use crate::ports::catalogue::{Search, Sort, Within};

/// Members on one page.
const PAGE: usize = 50;
/// How far a page may begin.
const MOST_OFFSET: usize = 100_000_000;

#[derive(Template)]
#[template(path = "console/groups.html")]
struct List {
    shell: Shell,
    kinds: [Kind; 2],
}

/// All groups, or all roles.
struct Kind {
    id: &'static str,
    title: &'static str,
    /// The heading of the column next to the name.
    beside: &'static str,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    address: String,
    privileged: bool,
    protected: bool,
    /// The roles that a group carries; the groups that carry a role.
    beside: Vec<String>,
    in_file: bool,
}

fn address(kind: &str, name: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("name", name).finish();
    format!("/console/groups/{kind}?{query}")
}

pub async fn list(State(console): State<Console>, visitor: Visitor, shell: Shell) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let inspect = console.admin.inspect();
    let (rules, file) = (inspect.rules(), inspect.file_rules());
    let mut groups: Vec<Row> = rules
        .groups
        .iter()
        .map(|(name, group)| Row {
            name: name.to_string(),
            address: address("group", name.as_str()),
            privileged: rules.is_privileged(&Target::Group(name.clone())),
            protected: group.protected,
            beside: group.roles.iter().map(ToString::to_string).collect(),
            in_file: file.groups.contains_key(name),
        })
        .collect();
    let mut roles: Vec<Row> = rules
        .roles
        .iter()
        .map(|(name, role)| Row {
            name: name.to_string(),
            address: address("role", name.as_str()),
            privileged: role.privileged,
            protected: role.protected,
            beside: rules
                .groups
                .iter()
                .filter(|(_, group)| group.roles.contains(name))
                .map(|(name, _)| name.to_string())
                .collect(),
            in_file: file.roles.contains_key(name),
        })
        .collect();
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    roles.sort_by(|one, other| one.name.cmp(&other.name));
    let kinds = [
        Kind { id: "groups", title: "Groups", beside: "Carries", rows: groups },
        Kind { id: "roles", title: "Roles", beside: "Carried by", rows: roles },
    ];
    Ok(render(StatusCode::OK, &List { shell, kinds }))
}

#[derive(Template)]
#[template(path = "console/group.html")]
struct Page {
    shell: Shell,
    kind: &'static str,
    name: String,
    address: String,
    privileged: bool,
    query: String,
    members: Vec<Member>,
    total: usize,
    next: Option<usize>,
    from: usize,
    /// Where they are, and what they are called.
    mappings: Vec<(String, String)>,
    /// Of a role: the groups that carry it.
    carried_by: Vec<String>,
}

struct Member {
    number: i64,
    name: String,
    key: String,
    how: &'static str,
}

/// One group or role, with its members by a grant of its own.
pub async fn show(
    State(console): State<Console>,
    visitor: Visitor,
    shell: Shell,
    Path(kind): Path<String>,
    Asked(asked): Asked,
) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let inspect = console.admin.inspect();
    let rules = inspect.rules();
    let name = asked.raw("name");
    let found = match kind.as_str() {
        "group" => GroupName::parse(name).ok().map(Target::Group),
        "role" => RoleName::parse(name).ok().map(Target::Role),
        _ => None,
    };
    let found = found.filter(|target| rules.declares(target));
    let target = found.ok_or_else(|| Failure::not_found("There is no group and no role of this name."))?;
    let (query, from) =
        (asked.get("q").to_owned(), asked.get("from").parse::<usize>().unwrap_or_default().min(MOST_OFFSET));
    let search = Search {
        text: Some(query.clone()).filter(|query| !query.is_empty()),
        within: Some(Within { target: target.clone(), mapped: None }),
        sort: Sort::Name,
        offset: from,
        limit: PAGE,
        ..Search::default()
    };
    let members = inspect.store().find(search).await?;
    let (kind, name) = (target.kind(), target.name().to_owned());
    let carried_by = match &target {
        Target::Role(role) => {
            let carries = rules.groups.iter().filter(|(_, group)| group.roles.contains(role));
            carries.map(|(name, _)| name.to_string()).collect()
        }
        Target::Group(_) => Vec::new(),
    };
    let gives = |mapping: &&crate::pipeline::mapping::Mapping| {
        let then = crate::pipeline::mapping::definition::Definition::of(mapping).then;
        then.iter().any(|action| {
            let found = if kind == "group" { &action.add_group } else { &action.add_role };
            found.as_deref() == Some(&name)
        })
    };
    let page = Page {
        shell,
        kind,
        address: address(kind, &name),
        privileged: rules.is_privileged(&target),
        query,
        next: (from + members.members.len() < members.total).then_some(from + PAGE),
        from,
        total: members.total,
        members: members
            .members
            .into_iter()
            .map(|member| {
                let how = match (member.mapped, member.assigned) {
                    (true, true) => "by a mapping and by hand",
                    (false, true) => "by hand",
                    _ => "by a mapping",
                };
                let key = member.person.user.to_string();
                let row = super::people::Row::from(member.person);
                Member { number: row.number, name: row.name, key, how }
            })
            .collect(),
        mappings: rules
            .mappings()
            .iter()
            .filter(gives)
            .map(|mapping| (address_of(mapping, &rules), mapping.label()))
            .collect(),
        carried_by,
        name,
    };
    Ok(render(StatusCode::OK, &page))
}
