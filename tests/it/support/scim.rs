//! A SCIM server over HTTP: users and groups in memory, and the lies that real ones tell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::app::{App, Received, Reply, respond};

pub const TOKEN: &str = "scim-token-for-tests";

/// What a server does next, in place of what it should.
#[derive(Clone)]
pub enum Mood {
    Says(&'static str, &'static str, &'static str),
    Hangs,
    Closes,
    /// A body that ends before its length.
    Half,
    Slow(Duration),
    /// Does it, and does not answer.
    DoesAndCloses,
}

/// What it does otherwise than the specification says.
#[derive(Clone, Default)]
pub struct Ways {
    /// Returns everyone, whatever is asked.
    pub ignores_filter: bool,
    pub needs_name: bool,
    pub needs_members: bool,
    /// Says 200, and does nothing.
    pub patch_lies: bool,
    pub hides_members: bool,
    pub no_externals: bool,
    pub no_active: bool,
}

#[derive(Default)]
struct State {
    users: BTreeMap<String, Value>,
    groups: BTreeMap<String, Value>,
    last: usize,
    ways: Ways,
    moods: VecDeque<Mood>,
    always: Option<Mood>,
    tokens: BTreeSet<String>,
}

#[derive(Clone)]
pub struct ScimServer {
    app: Arc<App>,
    state: Arc<Mutex<State>>,
}

impl ScimServer {
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State { tokens: [TOKEN.to_owned()].into(), ..State::default() }));
        let shared = Arc::clone(&state);
        let app = Arc::new(App::with(move |request| shared.lock().unwrap().answer(request)).await);
        Self { app, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}/scim/v2", self.app.address)
    }

    pub fn with(&self, ways: Ways) {
        self.state.lock().unwrap().ways = ways;
    }

    pub fn next(&self, moods: &[Mood]) {
        self.state.lock().unwrap().moods.extend(moods.iter().cloned());
    }

    pub fn always(&self, mood: Option<Mood>) {
        self.state.lock().unwrap().always = mood;
    }

    /// Takes these tokens alone.
    pub fn takes(&self, tokens: &[&str]) {
        self.state.lock().unwrap().tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
    }

    pub fn add_group(&self, name: &str, members: &[&str]) -> String {
        self.state.lock().unwrap().add_group(name, members)
    }

    pub fn add_user(&self, name: &str, external: Option<&str>) -> String {
        let mut user = json!({ "userName": name, "active": true });
        if let Some(external) = external {
            user["externalId"] = json!(external);
        }
        self.state.lock().unwrap().add(true, user)
    }

    pub fn rename_group(&self, name: &str, to: &str) {
        let mut state = self.state.lock().unwrap();
        let group = state.groups.values_mut().find(|group| group["displayName"] == name).unwrap();
        group["displayName"] = json!(to);
    }

    pub fn delete_group(&self, name: &str) {
        self.state.lock().unwrap().groups.retain(|_, group| group["displayName"] != name);
    }

    /// Forgets everything; ids begin anew where `again`.
    pub fn lose_all(&self, again: bool) {
        let mut state = self.state.lock().unwrap();
        state.users.clear();
        state.groups.clear();
        if again {
            state.last = 0;
        }
    }

    /// The names of a group's members; `None`: there is no such group.
    pub fn members(&self, name: &str) -> Option<Vec<String>> {
        let state = self.state.lock().unwrap();
        let group = state.groups.values().find(|group| group["displayName"] == name)?;
        let name = |id: &str| state.users.get(id).map_or("?", |user| user["userName"].as_str().unwrap()).to_owned();
        let mut names: Vec<String> = ids(group).iter().map(|id| name(id)).collect();
        names.sort();
        Some(names)
    }

    pub fn user(&self, name: &str) -> Option<Value> {
        self.state.lock().unwrap().users.values().find(|user| user["userName"] == name).cloned()
    }

    pub fn count(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.users.len(), state.groups.len())
    }

    /// Method and path of every request, and how many there were.
    pub fn asked(&self) -> Vec<String> {
        let received = self.app.received();
        received.iter().map(|it| it.line().trim_end_matches(" HTTP/1.1").replace("/scim/v2", "")).collect()
    }

    pub fn bodies(&self) -> String {
        self.app.received().iter().map(|it| String::from_utf8_lossy(&it.body).into_owned() + "\n").collect()
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < Duration::from_secs(30), "{what}: {:#?}", self.asked());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a group has these members.
    pub async fn has(&self, group: &str, members: &[&str]) {
        self.until(&format!("{group} has {members:?}"), |it| {
            it.members(group).is_some_and(|found| found.iter().map(String::as_str).eq(members.iter().copied()))
        })
        .await;
    }
}

fn ids(group: &Value) -> Vec<String> {
    let members = group["members"].as_array().cloned().unwrap_or_default();
    members.iter().map(|member| member["value"].as_str().unwrap().to_owned()).collect()
}

fn say(status: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    respond(status, "content-type: application/scim+json\r\n", &body)
}

fn refuse(status: &str, kind: &str) -> Reply {
    say(status, &json!({ "status": status, "scimType": kind, "detail": "hunter2" }))
}

impl State {
    fn add(&mut self, is_user: bool, mut body: Value) -> String {
        self.last += 1;
        let id = self.last.to_string();
        body["id"] = json!(id);
        let table = if is_user { &mut self.users } else { &mut self.groups };
        table.insert(id.clone(), body);
        id
    }

    fn add_group(&mut self, name: &str, members: &[&str]) -> String {
        let members: Vec<Value> = members.iter().map(|id| json!({ "value": id })).collect();
        self.add(false, json!({ "displayName": name, "members": members }))
    }

    fn answer(&mut self, request: &Received) -> Reply {
        let mood = self.moods.pop_front().or_else(|| self.always.clone());
        match mood {
            None => self.act(request),
            Some(Mood::Says(status, headers, body)) => respond(status, headers, body),
            Some(Mood::Hangs) => Reply::Hang,
            Some(Mood::Closes) => Reply::Close,
            Some(Mood::Half) => {
                Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"totalResults\": 1".to_vec())
            }
            Some(Mood::Slow(time)) => match self.act(request) {
                Reply::Bytes(bytes) => Reply::Wait(time, bytes),
                other => other,
            },
            Some(Mood::DoesAndCloses) => {
                self.act(request);
                Reply::Close
            }
        }
    }

    fn act(&mut self, request: &Received) -> Reply {
        if request.target() == "/token" {
            return self.issue(request);
        }
        let token = request.one("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if !token.is_some_and(|token| self.tokens.contains(token)) {
            return refuse("401 Unauthorized", "");
        }
        let method = request.line().split(' ').next().unwrap().to_owned();
        let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
        let query: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let mut path = path.trim_start_matches("/scim/v2/").split('/');
        let is_user = path.next() == Some("Users");
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match (method.as_str(), path.next()) {
            ("GET", None) => self.find(is_user, &query),
            ("POST", None) => self.create(is_user, body),
            (_, Some(id)) => {
                let id = id.to_owned();
                let table = if is_user { &mut self.users } else { &mut self.groups };
                if !table.contains_key(&id) {
                    return refuse("404 Not Found", "");
                }
                match method.as_str() {
                    "GET" => {
                        let shown = self.shown(is_user, &id);
                        say("200 OK", &shown)
                    }
                    "DELETE" => {
                        table.remove(&id);
                        say("204 No Content", &Value::Null)
                    }
                    "PUT" => {
                        table.insert(id.clone(), body);
                        let table = if is_user { &mut self.users } else { &mut self.groups };
                        table.get_mut(&id).unwrap()["id"] = json!(id);
                        say("200 OK", &json!({}))
                    }
                    "PATCH" => self.patch(is_user, &id, &body),
                    _ => refuse("405 Method Not Allowed", ""),
                }
            }
            _ => refuse("405 Method Not Allowed", ""),
        }
    }

    /// A token for the client `loginsync`, and for it alone, good for two minutes by what it says.
    fn issue(&mut self, request: &Received) -> Reply {
        // base64 of loginsync:client+secret, with the plus form-encoded before.
        let known = request.one("authorization") == Some("Basic bG9naW5zeW5jOmNsaWVudCUyQnNlY3JldA==");
        let form = String::from_utf8_lossy(&request.body).into_owned();
        if !known || form != "grant_type=client_credentials&scope=scim" {
            return respond(
                "401 Unauthorized",
                "",
                "{\"error\": \"invalid_client\", \"error_description\": \"hunter2\"}",
            );
        }
        self.last += 1;
        let token = format!("issued-{}", self.last);
        self.tokens = [token.clone()].into();
        say("200 OK", &json!({ "access_token": token, "expires_in": 120 }))
    }

    fn shown(&self, is_user: bool, id: &str) -> Value {
        let mut shown = if is_user { self.users[id].clone() } else { self.groups[id].clone() };
        if self.ways.hides_members {
            shown.as_object_mut().unwrap().remove("members");
        }
        shown
    }

    fn find(&self, is_user: bool, query: &BTreeMap<String, String>) -> Reply {
        let table = if is_user { &self.users } else { &self.groups };
        let (attribute, value) = query["filter"].split_once(" eq ").unwrap();
        let value: Value = serde_json::from_str(value).unwrap();
        let start = query.get("startIndex").map_or(1, |start| start.parse::<usize>().unwrap());
        let all: Vec<Value> = table
            .values()
            .filter(|resource| self.ways.ignores_filter || resource[attribute] == value)
            .cloned()
            .collect();
        // Five a page.
        let shown: Vec<&Value> = all.iter().skip(start - 1).take(5).collect();
        say("200 OK", &json!({ "totalResults": all.len(), "startIndex": start, "Resources": shown }))
    }

    fn create(&mut self, is_user: bool, mut body: Value) -> Reply {
        let name = if is_user { "userName" } else { "displayName" };
        let table = if is_user { &self.users } else { &self.groups };
        if table.values().any(|other| other[name] == body[name]) {
            return refuse("409 Conflict", "uniqueness");
        }
        if is_user && self.ways.needs_name && body["name"]["formatted"].is_null() {
            return refuse("400 Bad Request", "invalidValue");
        }
        if !is_user && self.ways.needs_members && body["members"].is_null() {
            return refuse("400 Bad Request", "invalidValue");
        }
        if self.ways.no_externals {
            body.as_object_mut().unwrap().remove("externalId");
        }
        let id = self.add(is_user, body);
        let shown = self.shown(is_user, &id);
        say("201 Created", &shown)
    }

    fn patch(&mut self, is_user: bool, id: &str, body: &Value) -> Reply {
        let operations = body["Operations"].as_array().unwrap();
        assert_eq!(operations.len(), 1, "one operation a request");
        let operation = &operations[0];
        let (op, path) = (operation["op"].as_str().unwrap(), operation["path"].as_str().unwrap());
        if self.ways.patch_lies {
            return say("200 OK", &json!({}));
        }
        if is_user {
            if path == "active" && self.ways.no_active {
                return say("200 OK", &json!({}));
            }
            self.users.get_mut(id).unwrap()[path] = operation["value"].clone();
            return say("200 OK", &json!({}));
        }
        let group = self.groups.get_mut(id).unwrap();
        let mut members = group["members"].as_array().cloned().unwrap_or_default();
        match op {
            // As scimmy does it: whoever is added twice is in twice.
            "add" => members.extend(operation["value"].as_array().unwrap().iter().cloned()),
            "remove" => {
                let gone = path.strip_prefix("members[value eq \"").unwrap().trim_end_matches("\"]");
                members.retain(|member| member["value"] != gone);
            }
            _ => return refuse("400 Bad Request", "invalidSyntax"),
        }
        group["members"] = json!(members);
        say("204 No Content", &Value::Null)
    }
}
