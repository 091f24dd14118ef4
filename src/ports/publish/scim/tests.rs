//! What is asked next, by what a server has answered: no server, and no network.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::connection::Server;
use super::groups::{self, Look};
use super::message::{Answer, Member, Person, Request};
use super::quirks::{Quirks, Way};
use super::users::{self, Behind};
use crate::ports::BoxFuture;
use crate::ports::publish::Fault;

/// Answers in turn, and notes what it was asked.
struct Script {
    answers: Mutex<Vec<Answer>>,
    asked: Mutex<Vec<String>>,
}

impl Script {
    fn new(answers: Vec<(u16, Value)>) -> Self {
        let answers = answers.into_iter().rev().map(|(status, body)| Answer { status, body, is_too_long: false });
        Self { answers: Mutex::new(answers.collect()), asked: Mutex::default() }
    }

    /// Everything that it was asked, once all answers are used.
    fn asked(self) -> Vec<String> {
        assert!(self.answers.into_inner().unwrap().is_empty(), "answers that were not asked for");
        self.asked.into_inner().unwrap()
    }
}

impl Server for Script {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Answer, Fault>> {
        let operation = request.body.as_ref().map(|body| match body["Operations"][0]["op"].as_str() {
            Some(op) => format!(" {op} {}", body["Operations"][0]["path"].as_str().unwrap_or_default()),
            None => {
                let keys = body.as_object().unwrap().keys().filter(|key| *key != "schemas");
                format!(" {}", keys.cloned().collect::<Vec<_>>().join(","))
            }
        });
        let asked = format!("{} {}{}", request.method, request.path.join("/"), operation.unwrap_or_default());
        self.asked.lock().unwrap().push(asked);
        let answer = self.answers.lock().unwrap().pop().expect("one more answer");
        Box::pin(async move { Ok(answer) })
    }
}

fn alice() -> Person {
    Person {
        external_id: "idp/alice".into(),
        user_name: "alice".into(),
        former_id: None,
        former_name: None,
        display_name: Some("Alice Anders".into()),
        email: None,
    }
}

fn list(resources: Vec<Value>) -> (u16, Value) {
    (200, json!({ "totalResults": resources.len(), "Resources": resources }))
}

fn user(id: &str, name: &str, external: Option<&str>) -> Value {
    json!({ "id": id, "userName": name, "externalId": external })
}

#[tokio::test]
async fn a_user_is_found_by_comparison_and_not_by_what_is_returned() {
    let found = async |answers: Vec<(u16, Value)>, takes_over: bool, in_any_case: bool| {
        let script = Script::new(answers);
        let found = users::find(&script, &alice(), takes_over, in_any_case).await;
        script.asked();
        found.map(|there| there.map(|there| there.id)).map_err(|fault| fault.why)
    };
    let (one, two) = (user("1", "alice", None), user("2", "alice", None));
    let (ours, theirs) = (user("3", "a.anders", Some("idp/alice")), user("4", "alice", Some("x/alice")));
    for (resources, takes_over, in_any_case, expected) in [
        (vec![], false, false, Ok(None)),
        (vec![one.clone()], false, false, Ok(Some("1"))),
        // A server that ignores the filter.
        (vec![user("9", "bob", None), one.clone(), user("8", "Alice", None)], false, false, Ok(Some("1"))),
        (vec![user("8", "Alice", None)], false, false, Ok(None)),
        (vec![user("8", "Alice", None)], false, true, Ok(Some("8"))),
        (vec![one.clone(), two], false, false, Err("two users")),
        // Our own mark goes before a name.
        (vec![one.clone(), ours.clone()], false, false, Ok(Some("3"))),
        (vec![theirs.clone()], false, false, Err("another `externalId`")),
        (vec![theirs], true, false, Ok(Some("4"))),
        (vec![json!({ "id": "../x/..", "userName": "alice" })], false, false, Ok(Some("../x/.."))),
        (vec![json!({ "id": "..", "userName": "alice" })], false, false, Err("no `id`")),
        (vec![json!({ "id": 7, "userName": "alice" })], false, false, Ok(Some("7"))),
    ] {
        let shown = format!("{resources:?}");
        let found = found(vec![list(resources)], takes_over, in_any_case).await;
        match (&found, expected) {
            (Ok(id), Ok(expected)) => assert_eq!(id.as_deref(), expected, "{shown}"),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
            (found, expected) => panic!("{found:?} {expected:?} {shown}"),
        }
    }
    // Page by page, where a server pages.
    let page = |resources: Vec<Value>| (200, json!({ "totalResults": 3, "Resources": resources }));
    let answers = vec![page(vec![user("9", "bob", None), user("8", "carol", None)]), page(vec![one])];
    assert_eq!(found(answers, false, false).await, Ok(Some("1".into())));
    assert_eq!(found(vec![(404, Value::Null)], false, false).await, Ok(None));
    let why = found(vec![(400, json!({ "scimType": "invalidFilter" }))], false, false).await.unwrap_err();
    assert!(why.contains("status 400 (`invalidFilter`)"), "{why}");
    // A server that has more for ever is not asked for ever.
    let endless =
        (0..50).map(|_| (200, json!({ "totalResults": 999, "Resources": [user("9", "bob", None)] }))).collect();
    assert!(found(endless, false, false).await.unwrap_err().contains("too many"));
}

#[tokio::test]
async fn an_id_that_was_learned_is_looked_at() {
    for (answer, expected) in [
        ((404, Value::Null), "Nothing"),
        ((405, Value::Null), "TheUser"),
        ((200, user("1", "alice", None)), "TheUser"),
        ((200, user("1", "ALICE", None)), "TheUser"),
        ((200, user("1", "other", Some("idp/alice"))), "TheUser"),
        ((200, user("1", "alice", Some("x/alice"))), "Another"),
        ((200, user("1", "mallory", None)), "Another"),
        ((200, json!({ "hello": "world" })), "fault"),
        ((500, Value::Null), "fault"),
    ] {
        let shown = format!("{answer:?}");
        let script = Script::new(vec![answer]);
        let found = match users::remembered(&script, &alice(), false, "1").await {
            Ok(Behind::TheUser(there)) => {
                assert_eq!((there.id.as_str(), there.is_new), ("1", false));
                "TheUser"
            }
            Ok(Behind::Nothing) => "Nothing",
            Ok(Behind::Another) => "Another",
            Err(_) => "fault",
        };
        assert_eq!(found, expected, "{shown}");
    }
}

#[tokio::test]
async fn a_user_is_made_with_much_and_then_with_less() {
    let made = (201, user("1", "alice", None));
    let bad = || (400, Value::Null);
    let much = "POST Users active,displayName,externalId,name,userName";
    for (answers, asked) in [
        (vec![made.clone()], vec![much]),
        (vec![bad(), made.clone()], vec![much; 2]),
        (vec![bad(), bad(), made], vec![much, much, "POST Users active,externalId,userName"]),
        (vec![(409, Value::Null)], vec![much]),
        (vec![(403, Value::Null)], vec![much]),
    ] {
        let script = Script::new(answers);
        let _ = users::create(&script, &alice()).await;
        assert_eq!(script.asked(), asked);
    }
}

#[tokio::test]
async fn a_member_is_changed_by_one_request_and_looked_for_before_and_after() {
    let group = |members: &[&str]| {
        let members: Vec<Value> = members.iter().map(|id| json!({ "value": id })).collect();
        (200, json!({ "id": "g", "displayName": "Staff", "members": members }))
    };
    let (get, add, remove) =
        ("GET Groups/g", "PATCH Groups/g add members", "PATCH Groups/g remove members[value eq \"1\"]");
    let put = "PUT Groups/g displayName,id,members";
    let (usual, by_put) = (Quirks::default(), Quirks { add: Way::Put, remove: Way::Put, ..Quirks::default() });
    let hidden = Quirks { hides_members: true, ..Quirks::default() };
    let never = Quirks { remove: Way::No, ..Quirks::default() };
    let (ok, fails, gone) = ((204, Value::Null), (500, Value::Null), (404, Value::Null));
    for (quirks, is_in, answers, asked, expected) in [
        (&usual, true, vec![group(&["2"]), ok.clone(), group(&["2", "1"])], vec![get, add, get], "Done"),
        (&usual, true, vec![group(&["1"])], vec![get], "Already"),
        (&usual, false, vec![group(&["1"]), ok.clone(), group(&[])], vec![get, remove, get], "Done"),
        (&usual, false, vec![group(&["2"])], vec![get], "Already"),
        // What it says counts for nothing.
        (&usual, false, vec![group(&["1"]), ok.clone(), group(&["1"])], vec![get, remove, get], "has not"),
        (&usual, true, vec![group(&[]), fails.clone(), group(&["1"])], vec![get, add, get], "Done"),
        (&usual, true, vec![group(&[]), fails, group(&[])], vec![get, add, get], "status 500"),
        (&by_put, true, vec![group(&["2"]), ok.clone(), group(&["2", "1"])], vec![get, put, get], "Done"),
        (&hidden, true, vec![group(&[]), ok.clone(), group(&[])], vec![get, add, get], "Done"),
        (&never, false, vec![group(&["1"])], vec![get], "does not"),
        (&usual, true, vec![gone.clone()], vec![get], "gone"),
        (&usual, true, vec![group(&[]), gone.clone()], vec![get, add], "gone"),
        (&usual, true, vec![group(&[]), ok, gone], vec![get, add, get], "gone"),
        (&usual, true, vec![(200, json!({ "id": "g", "displayName": "Crew" }))], vec![get], "called otherwise"),
        (&usual, true, vec![(200, json!({ "members": [] }))], vec![get], "not what SCIM has"),
    ] {
        let shown = format!("{answers:?}");
        let script = Script::new(answers);
        let member = Member { id: "1".into(), display: "alice".into(), address: "https://x/Users/1".into() };
        let place = ("g", "Staff");
        let looked = groups::look(&script, quirks, place, &member, (is_in, false)).await;
        let found = match looked {
            Ok(Look::Gone) => "gone".into(),
            Ok(Look::Already) => "Already".into(),
            Ok(Look::Other(shown)) => match groups::change(&script, quirks, place, &member, is_in, &shown).await {
                Ok(true) => "Done".into(),
                Ok(false) => "gone".into(),
                Err(fault) => fault.why,
            },
            Err(fault) => fault.why,
        };
        assert!(found.contains(expected), "{found}: {shown}");
        assert_eq!(script.asked(), asked, "{shown}");
    }
}
