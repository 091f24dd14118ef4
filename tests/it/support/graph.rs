//! A fake of Microsoft Graph and of the authority that lets applications in, over HTTP: the shapes of
//! learn.microsoft.com/graph, and the moods that a directory can be in.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::app::{App, Received, Reply, respond};

pub const TENANT: &str = "4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10";
/// Alice's object ID.
pub const ALICE: &str = "b4a0f5a6-1f9a-4c1e-9d60-0d4d50f6ab01";
pub const SERVICE_PRINCIPAL: &str = "8e881353-1735-45af-af21-ee1344582a4d";
/// Begins every token that the fake gives out.
pub const TOKEN: &str = "graph-access-token";
pub const CREDENTIAL: &str = "directory-credential-test-only";

/// One group of alice's.
#[derive(Clone)]
pub struct Group {
    pub id: &'static str,
    pub name: &'static str,
    /// `None`: a group of the cloud.
    pub account: Option<&'static str>,
    pub security: bool,
    pub assigned: bool,
}

pub const fn group(id: &'static str, name: &'static str, account: Option<&'static str>, security: bool) -> Group {
    Group { id, name, account, security, assigned: false }
}

/// Four groups, of every kind.
pub fn usual() -> Vec<Group> {
    vec![
        Group { assigned: true, ..group("id-staff", "Staff", Some("staff"), true) },
        group("id-on-call", "On-call", None, true),
        Group { assigned: true, ..group("id-news", "Newsletter", Some("news"), false) },
        group("id-engineering", "Engineering", Some("eng"), true),
    ]
}

/// How the directory answers.
#[derive(Clone)]
pub enum Mood {
    Well,
    /// This status so many times, then well. `retry-after` as written.
    Busy {
        times: usize,
        status: u16,
        retry_after: Option<&'static str>,
    },
    /// Always this.
    Broken(u16),
    /// Page after page, for ever.
    Endless,
    /// The second page is said to be at this address.
    Elsewhere(String),
    /// More bytes than anybody should read.
    Huge,
    Slow(Duration),
    Hang,
    Says(Value),
    NotJson,
    /// Nobody is let in: the authority refuses.
    NoToken(u16),
    /// A token is good for one request.
    Forgetful,
}

struct State {
    groups: Vec<Group>,
    mood: Mood,
    /// Objects on a page.
    page: usize,
    tokens: usize,
    failed: usize,
    used: usize,
}

#[derive(Clone)]
pub struct FakeGraph {
    app: Arc<App>,
    state: Arc<Mutex<State>>,
}

impl FakeGraph {
    pub async fn start() -> Self {
        Self::with(usual(), Mood::Well).await
    }

    pub async fn with(groups: Vec<Group>, mood: Mood) -> Self {
        let state = Arc::new(Mutex::new(State { groups, mood, page: 2, tokens: 0, failed: 0, used: 0 }));
        let shared = Arc::clone(&state);
        let app = Arc::new(App::with(move |request| shared.lock().unwrap().answer(request)).await);
        Self { app, state }
    }

    pub fn set(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// How many objects come on one page.
    pub fn set_page(&self, objects: usize) {
        self.state.lock().unwrap().page = objects;
    }

    pub fn set_groups(&self, groups: Vec<Group>) {
        self.state.lock().unwrap().groups = groups;
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.app.address)
    }

    /// The table that points a provider here, with more of its keys.
    pub fn table(&self, own: &str) -> String {
        let origin = self.origin();
        let credential = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/keys/directory-credential.test-only.txt");
        format!(
            "[provider.overage]\nendpoint = '{origin}'\ntoken_endpoint = '{origin}/token'\ntenant = '{TENANT}'\n\
             client_id = 'reader'\ncredential_file = '{credential}'\n{own}\n"
        )
    }

    /// What was asked of the directory itself, without the tokens' requests.
    pub fn asked(&self) -> Vec<Received> {
        self.app.received().into_iter().filter(|request| request.target() != "/token").collect()
    }

    /// How many tokens were asked for.
    pub fn tokens(&self) -> usize {
        self.app.received().len() - self.asked().len()
    }

    pub fn received(&self) -> Vec<Received> {
        self.app.received()
    }
}

fn json_reply(body: &Value) -> Reply {
    respond("200 OK", "content-type: application/json\r\n", &body.to_string())
}

fn error(status: u16, code: &str, headers: &str) -> Reply {
    // The message quotes what was sent, as the real one may: it must show up nowhere.
    let body = json!({"error": {"code": code, "message": format!("{TOKEN} {CREDENTIAL} was refused")}});
    respond(&format!("{status} Error"), headers, &body.to_string())
}

impl State {
    fn answer(&mut self, request: &Received) -> Reply {
        if request.target() == "/token" {
            return self.give_token(request);
        }
        let expected = format!("Bearer {TOKEN}-{}", self.tokens);
        let spent = matches!(self.mood, Mood::Forgetful) && self.used >= 1;
        if request.one("authorization") != Some(&expected) || spent {
            return error(401, "InvalidAuthenticationToken", "");
        }
        self.used += 1;
        match self.mood.clone() {
            Mood::Busy { times, status, retry_after } if self.failed < times => {
                self.failed += 1;
                let header = retry_after.map(|value| format!("retry-after: {value}\r\n")).unwrap_or_default();
                error(status, "TooManyRequests", &header)
            }
            Mood::Broken(status) => error(status, "UnknownError", ""),
            Mood::Huge => json_reply(&json!({"value": ["x".repeat(5 * 1024 * 1024)]})),
            Mood::Slow(time) => match self.directory(request) {
                Reply::Bytes(bytes) => Reply::Wait(time, bytes),
                other => other,
            },
            Mood::Hang => Reply::Hang,
            Mood::Says(answer) => json_reply(&answer),
            Mood::NotJson => respond("200 OK", "", "<html>maintenance</html>"),
            _ => self.directory(request),
        }
    }

    fn give_token(&mut self, request: &Received) -> Reply {
        if let Mood::NoToken(status) = self.mood {
            let body = json!({"error": "invalid_client", "error_description": format!("{CREDENTIAL} is wrong")});
            return respond(&format!("{status} Error"), "", &body.to_string());
        }
        let form: Vec<(String, String)> = form_urlencoded::parse(&request.body).into_owned().collect();
        let has = |name: &str, value: &str| form.iter().any(|(key, found)| key == name && found == value);
        let origin = format!("http://{}", request.one("host").unwrap());
        let right = has("grant_type", "client_credentials")
            && has("client_id", "reader")
            && has("client_secret", CREDENTIAL)
            && has("scope", &format!("{origin}/.default"));
        if !right {
            return respond("400 Bad Request", "", r#"{"error":"invalid_request"}"#);
        }
        self.tokens += 1;
        self.used = 0;
        let token = format!("{TOKEN}-{}", self.tokens);
        json_reply(&json!({"token_type": "Bearer", "expires_in": 3599, "access_token": token}))
    }

    fn directory(&self, request: &Received) -> Reply {
        let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
        let query: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let parameter = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let Some(action) = path.strip_prefix(&format!("/v1.0/users/{ALICE}/")) else {
            return error(404, "Request_ResourceNotFound", "");
        };
        let eventual = request.one("consistencylevel") == Some("eventual") && parameter("$count") == Some("true");
        let method = request.line().split(' ').next().unwrap();
        let security_only = || {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            body["securityEnabledOnly"].as_bool().unwrap()
        };
        let ids = |keep: &dyn Fn(&Group) -> bool| -> Vec<Value> {
            self.groups.iter().filter(|group| keep(group)).map(|group| json!(group.id)).collect()
        };
        let objects = match (method, action) {
            ("POST", "getMemberGroups") => {
                let only = security_only();
                return json_reply(&json!({"value": ids(&|group| group.security || !only)}));
            }
            // Beside groups these are directory roles and administrative units.
            ("POST", "getMemberObjects") if !security_only() => {
                let mut all = ids(&|_| true);
                all.push(json!("id-role"));
                return json_reply(&json!({"value": all}));
            }
            ("GET", "transitiveMemberOf/microsoft.graph.group") if eventual => {
                let select = parameter("$select").unwrap().to_owned();
                self.groups.iter().map(|group| selected(group, &select)).collect()
            }
            ("GET", "appRoleAssignments") if eventual => {
                assert_eq!(parameter("$filter"), Some(&*format!("resourceId eq {SERVICE_PRINCIPAL}")));
                self.assignments()
            }
            _ => return error(400, "Request_UnsupportedQuery", ""),
        };
        self.page_of(&objects, request, path, &query)
    }

    fn page_of(&self, objects: &[Value], request: &Received, path: &str, query: &[(String, String)]) -> Reply {
        let skip = query.iter().find(|(key, _)| key == "$skiptoken").map_or(0, |(_, at)| at.parse().unwrap());
        let endless = matches!(self.mood, Mood::Endless);
        let start = if endless { 0 } else { skip };
        let values: Vec<Value> = objects.iter().skip(start).take(self.page).cloned().collect();
        let mut answer = json!({"@odata.context": "https://graph.microsoft.com/v1.0/$metadata", "value": values});
        if endless || start + self.page < objects.len() {
            let kept = query.iter().filter(|(key, _)| key != "$skiptoken");
            let mut next = form_urlencoded::Serializer::new(String::new());
            next.extend_pairs(kept);
            next.append_pair("$skiptoken", &(skip + self.page).to_string());
            let link = match &self.mood {
                Mood::Elsewhere(origin) => format!("{origin}{path}"),
                _ => format!("http://{}{path}?{}", request.one("host").unwrap(), next.finish()),
            };
            answer["@odata.nextLink"] = json!(link);
        }
        json_reply(&answer)
    }

    fn assignments(&self) -> Vec<Value> {
        let of = |kind: &str, id: &str, name: &str, resource: &str| {
            json!({"id": "a", "appRoleId": "00000000-0000-0000-0000-000000000000", "principalId": id,
                "principalDisplayName": name, "principalType": kind, "resourceId": resource, "resourceDisplayName": "app"})
        };
        let groups = self.groups.iter().filter(|group| group.assigned);
        let mut all: Vec<Value> = groups.map(|group| of("Group", group.id, group.name, SERVICE_PRINCIPAL)).collect();
        // A group with two roles is assigned twice; the person may be assigned too, and to other applications.
        all.extend(all.first().cloned());
        all.push(of("User", ALICE, "Alice", SERVICE_PRINCIPAL));
        all.push(of("Group", "id-other", "Other", "00000000-1735-45af-af21-ee1344582a4d"));
        all
    }
}

fn selected(group: &Group, select: &str) -> Value {
    let mut object = json!({"@odata.type": "#microsoft.graph.group"});
    for property in select.split(',') {
        object[property] = match property {
            "id" => json!(group.id),
            "displayName" => json!(group.name),
            "onPremisesSamAccountName" => json!(group.account),
            "securityEnabled" => json!(group.security),
            other => panic!("the fake has no `{other}`"),
        };
    }
    object
}
