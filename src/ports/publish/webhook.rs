//! Signed messages by Standard Webhooks 1.0.0.
//!
//! Each message is about one user and has all that they hold, with a version that rises: a receiver keeps the highest and leaves
//! lower ones. `webhook-id` is the same for each try of one version, so that a repeat is known as one. A message about an event that is
//! no state has no version.

use std::collections::BTreeSet;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, header};
use serde_json::{Map, Value, json};

use super::super::BoxFuture;
use super::super::http::HttpClient;
use super::{Fault, FaultKind, Finding, Notice, Receiver, Report, Sent, Told, exchange, judge, retry_after};
use crate::config::{Event, Filter, ReceiverSettings, Secret, Webhook};
use crate::pipeline::ids::Timestamp;

/// Bytes of a body at most ("Payload size").
const MOST_BODY: usize = 20_000;
/// Bytes of an answer at most, of which nothing but the status counts.
const MOST_ANSWER: usize = 16 * 1024;

/// A `[[webhook]]` that is ready for deliveries.
pub struct WebhookReceiver {
    settings: ReceiverSettings,
    events: BTreeSet<Event>,
    client: HttpClient,
    /// The secrets that sign.
    keys: Vec<hmac::Key>,
    /// The app's address.
    source: String,
    /// What message ids begin with: two sidecars may tell one receiver.
    prefix: String,
}

impl WebhookReceiver {
    /// `own`: the secret of the store, where the file names none.
    ///
    /// # Errors
    /// When the file of authorities cannot be read.
    pub fn new(settings: ReceiverSettings, webhook: &Webhook, client: HttpClient, own: &Secret, source: &str) -> Self {
        let secrets = if webhook.secrets.is_empty() { std::slice::from_ref(own) } else { &webhook.secrets };
        let keys = secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose())).collect();
        let mark = digest::digest(&digest::SHA256, format!("{source}\0{}", settings.name).as_bytes());
        let prefix = mark.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { settings, events: webhook.events.clone(), client, keys, source: source.to_owned(), prefix }
    }

    /// What a message is about, if the receiver wants it: the most specific first.
    fn event(&self, notice: &Notice) -> Option<Event> {
        let mut found = events(notice.before.as_ref(), notice.after.as_ref());
        if found.is_empty() && notice.is_uncertain {
            // It may have taken something else since.
            found.push(if notice.after.is_some() { Event::MembershipsChanged } else { Event::Erased });
        }
        found.into_iter().find(|event| self.events.contains(event))
    }

    fn body(&self, event: Event, id: &str, notice: &Notice) -> Vec<u8> {
        let whole = self.message(event.word(), id, notice, true);
        let text = serde_json::to_vec(&whole).unwrap_or_default();
        match text.len() <= MOST_BODY {
            true => text,
            false => serde_json::to_vec(&self.message(event.word(), id, notice, false)).unwrap_or_default(),
        }
    }

    /// `whole`: with what the user holds; else a receiver fetches that from the API.
    fn message(&self, event: &str, id: &str, notice: &Notice, whole: bool) -> Value {
        let empty = Told::default();
        let (before, after) = (notice.before.as_ref().unwrap_or(&empty), notice.after.as_ref().unwrap_or(&empty));
        let person = notice.after.as_ref().or(notice.before.as_ref()).or(notice.known.as_ref()).unwrap_or(&empty);
        let mut user = Map::new();
        let mut data = Map::new();
        let put = |object: &mut Map<String, Value>, name: &str, value: Value| drop(object.insert(name.into(), value));
        put(&mut user, "id", json!(notice.number));
        put(&mut user, "namespace", json!(person.namespace));
        put(&mut user, "subject", json!(person.subject));
        put(&mut data, "cause", json!(notice.cause));
        put(&mut data, "login", json!(notice.login));
        if notice.after.is_some() {
            put(&mut user, "email", json!(person.email));
            put(&mut user, "name", json!(person.name));
            put(&mut user, "enabled", json!(person.enabled));
        }
        if whole && notice.after.is_some() {
            put(&mut data, "before", notice.before.as_ref().map_or(Value::Null, held));
            put(&mut data, "after", held(after));
            put(&mut data, "added", difference(after, before, Some(notice)));
            put(&mut data, "removed", difference(before, after, None));
        } else if !whole {
            put(&mut data, "truncated", json!(true));
        }
        json!({
            "type": event, "timestamp": notice.now.to_string(), "id": id, "schema": 1, "source": self.source,
            "user": user, "version": notice.version, "data": data,
        })
    }

    /// A message about an event.
    fn reported(&self, id: &str, report: &Report) -> Value {
        let Report { event, user, now: _ } = report;
        // It was written as an object.
        let mut data: Map<String, Value> = serde_json::from_str(&event.data).unwrap_or_default();
        if let Some(number) = event.user {
            let (namespace, subject) = user.clone().unzip();
            let user = json!({ "id": number, "namespace": namespace, "subject": subject });
            data.insert("user".into(), user);
        }
        json!({
            "type": event.event, "timestamp": event.at.to_string(), "id": id, "schema": 1, "source": self.source,
            "data": data,
        })
    }

    async fn send(&self, id: &str, body: Vec<u8>, now: Timestamp) -> Result<(), Fault> {
        let seconds = now.0.div_euclid(1000).to_string();
        let request = Request::post(self.settings.url.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("loginsync/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", &seconds)
            .header("webhook-signature", signatures(&self.keys, id, &seconds, &body))
            .body(body)
            .map_err(|error| Fault { why: error.to_string(), kind: FaultKind::Refused })?;
        let answer = exchange(&self.client, request, MOST_ANSWER, self.settings.timeout).await?;
        judge(answer.status(), retry_after(&answer)).map_err(|kind| {
            Fault::new(kind, format!("the receiver answers with status {}; expected 2xx", answer.status().as_u16()))
        })
    }
}

/// One signature for each secret, with a space between them.
fn signatures(keys: &[hmac::Key], id: &str, seconds: &str, body: &[u8]) -> String {
    let signed = keys.iter().map(|key| {
        let mut context = hmac::Context::with_key(key);
        [id.as_bytes(), b".", seconds.as_bytes(), b".", body].iter().for_each(|part| context.update(part));
        format!("v1,{}", STANDARD.encode(context.sign().as_ref()))
    });
    signed.collect::<Vec<_>>().join(" ")
}

/// What has happened between two states.
fn events(before: Option<&Told>, after: Option<&Told>) -> Vec<Event> {
    let (before, after) = match (before, after) {
        (None, None) => return Vec::new(),
        (Some(_), None) => return vec![Event::Erased],
        (None, Some(after)) => {
            let holds = !(after.groups.is_empty() && after.roles.is_empty());
            let changed = holds.then_some(Event::MembershipsChanged);
            return std::iter::once(Event::Created).chain(changed).collect();
        }
        (Some(before), Some(after)) => (before, after),
    };
    let mut events = Vec::new();
    match (before.enabled, after.enabled) {
        (true, false) => events.push(Event::Disabled),
        (false, true) => events.push(Event::Enabled),
        _ => {}
    }
    if (&before.groups, &before.roles) != (&after.groups, &after.roles) {
        events.push(Event::MembershipsChanged);
    }
    let person = |told: &Told| (told.email.clone(), told.name.clone(), told.namespace.clone(), told.subject.clone());
    if person(before) != person(after) {
        events.push(Event::Changed);
    }
    events
}

fn held(told: &Told) -> Value {
    json!({ "groups": told.groups, "roles": told.roles, "enabled": told.enabled })
}

/// What the first has and the second lacks. `why`: with the reasons.
fn difference(one: &Told, other: &Told, why: Option<&Notice>) -> Value {
    let only = |kind: &'static str, one: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<Value> {
        let only = one.difference(other);
        let entry = |name: &String| {
            let Some(notice) = why else { return json!({ "kind": kind, "name": name }) };
            let reasons = notice.reasons.iter().find(|(of, named, _)| *of == kind && named == name);
            let reasons = reasons.map(|(.., reasons)| reasons.as_slice()).unwrap_or_default();
            json!({ "kind": kind, "name": name, "reasons": reasons })
        };
        only.map(entry).collect()
    };
    let mut all = only("group", &one.groups, &other.groups);
    all.extend(only("role", &one.roles, &other.roles));
    Value::Array(all)
}

impl Receiver for WebhookReceiver {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn filter(&self) -> &Filter {
        &self.settings.filter
    }

    fn tell<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<Sent, Fault>> {
        Box::pin(async move {
            let Some(event) = self.event(notice) else { return Ok(Sent::Nothing) };
            let id = format!("{}-{}-{}", self.prefix, notice.number, notice.version);
            self.send(&id, self.body(event, &id, notice), notice.now).await.map(|()| Sent::taken())
        })
    }

    fn listens(&self) -> bool {
        self.events.iter().any(|event| event.is_no_state())
    }

    fn report<'a>(&'a self, report: &'a Report) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            if !self.events.iter().any(|event| event.word() == report.event.event) {
                return Ok(());
            }
            let id = format!("{}-{}", self.prefix, report.event.id);
            let body = self.reported(&id, report).to_string().into_bytes();
            self.send(&id, body, report.now).await
        })
    }

    fn test(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Finding>, Fault>> {
        Box::pin(async move {
            let id = format!("{}-ping-{}", self.prefix, now.0);
            let body = json!({
                "type": "ping", "timestamp": now.to_string(), "id": id, "schema": 1, "source": self.source, "data": {},
            });
            self.send(&id, body.to_string().into_bytes(), now).await?;
            Ok(vec![("ping", "taken".into())])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(groups: &[&str], enabled: bool) -> Told {
        let groups = groups.iter().map(|name| (*name).to_owned()).collect();
        Told { namespace: "p".into(), subject: "alice".into(), enabled, groups, ..Told::default() }
    }

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signed = signatures(&[key], "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_happened_is_told_most_particular_first() {
        use Event::{Changed, Created, Disabled, Enabled, Erased, MembershipsChanged};
        let renamed = Told { email: Some("a@x".into()), ..told(&["A"], true) };
        for (before, after, expected) in [
            (None, None, vec![]),
            (None, Some(told(&[], true)), vec![Created]),
            (None, Some(told(&["A"], true)), vec![Created, MembershipsChanged]),
            (Some(told(&["A"], true)), Some(told(&["A"], true)), vec![]),
            (Some(told(&["A"], true)), Some(told(&["B"], true)), vec![MembershipsChanged]),
            (Some(told(&["A"], true)), Some(told(&[], false)), vec![Disabled, MembershipsChanged]),
            (Some(told(&[], false)), Some(told(&[], true)), vec![Enabled]),
            (Some(told(&["A"], true)), Some(renamed), vec![Changed]),
            (Some(told(&["A"], true)), None, vec![Erased]),
        ] {
            assert_eq!(events(before.as_ref(), after.as_ref()), expected, "{before:?} {after:?}");
        }
    }
}
