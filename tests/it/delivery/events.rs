//! Events that are not state, through the front door: told once, signed, and never in the way of what users hold.

use std::sync::Arc;

use loginsync::config::Config;
use loginsync::ports::store::HoldFilter;

use super::*;

/// Whoever is the third to lose a group is held.
const TIGHT: (&str, &str) = ("minimum = 100", "minimum = 1\nshare = \"1%\"");

impl Scene {
    async fn tight(&self, more: &str) -> House {
        let place = Place::File(self.folder.path().join("store.db"));
        self.house_at(place, &self.text(more).replace(TIGHT.0, TIGHT.1)).await
    }

    /// The file as a command sees it.
    fn rules(&self, more: &str) -> Arc<loginsync::pipeline::mapping::RuleSet> {
        let file = self.file();
        std::fs::write(&file, self.text(more).replace(TIGHT.0, TIGHT.1)).unwrap();
        Config::load(&file, &|_| None, self.clock.now()).unwrap().rules
    }

    /// Logs in with a token that was used before.
    async fn log_in_twice(&self, at: &House, person: &str) -> u16 {
        let form = self.form(person, &["staff"]);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(at.send("POST", "/callback", &headers, form.as_bytes()).await.status, 200);
        at.send("POST", "/callback", &headers, form.as_bytes()).await.status
    }
}

fn is_event(got: &Got) -> bool {
    got.json().get("version").is_none()
}

/// Waits until so many events were told.
async fn events(hook: &Hook, count: usize) -> Vec<Got> {
    let began = Instant::now();
    loop {
        let events: Vec<Got> = hook.got().into_iter().filter(is_event).collect();
        if events.len() >= count {
            return events;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{} of {count} events: {events:?}", events.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_told_when_it_begins_and_when_it_ends() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.tight("").await;
    for who in ["alice", "bob", "carol", "dave"] {
        scene.log_in(&house, who, &["staff"]).await;
    }
    scene.log_in(&house, "alice", &[]).await;
    scene.log_in(&house, "bob", &[]).await;
    let created = events(&scene.hook, 1).await.remove(0);
    assert!(created.is_signed_by(SECRETS[0]));
    let message = created.json();
    assert_eq!((&message["type"], &message["schema"]), (&json!("hold.created"), &json!(1)));
    assert_eq!(message["id"], created.header("webhook-id"));
    assert!(message.get("user").is_none(), "a receiver of state leaves it alone: {message}");
    let data = &message["data"];
    assert_eq!((&data["user"]["namespace"], &data["user"]["subject"]), (&json!("idp"), &json!("bob")));
    assert_eq!(data["targets"], json!([{ "kind": "group", "name": "Staff" }]));
    assert_eq!((&data["provider"], &data["cause"]), (&json!("idp"), &json!("login")));
    assert!(data["login"].is_string(), "{message}");
    let rules = scene.rules("");
    assert_eq!(house.store().release(HoldFilter::default(), rules, "root".into(), NOW).await.unwrap(), 1);
    let released = events(&scene.hook, 2).await.remove(1).json();
    assert_eq!((&released["type"], &released["data"]["user"]["subject"]), (&json!("hold.released"), &json!("bob")));
    // Who is erased meanwhile is a number.
    scene.hook.always(Some(Move::Answers(503, "")));
    scene.log_in(&house, "carol", &[]).await;
    scene.log_in(&house, "dave", &[]).await;
    let before = events(&scene.hook, 3).await.len();
    house.store().act(person("dave"), Act::Erase, "root".into(), NOW).await.unwrap();
    scene.hook.always(None);
    // When the failure is noted, and from when on the next try is counted, the hook does not see.
    let began = Instant::now();
    while scene.hook.got().into_iter().filter(is_event).count() <= before {
        assert!(began.elapsed() < Duration::from_secs(30), "it is not tried again");
        scene.pass(7);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let last = events(&scene.hook, before + 1).await.pop().unwrap().json();
    assert_eq!((&last["type"], &last["data"]["user"]["subject"]), (&json!("hold.created"), &Value::Null), "{last}");
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_told_where_the_file_asks_for_it_and_a_try_has_the_same_id() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("").await;
    assert_eq!(scene.log_in_twice(&house, "alice").await, 409);
    let text = scene.text("events = [\"login.refused\"]");
    let house = house.restart(&text, &scene.file()).await;
    let before = scene.hook.got().len();
    scene.hook.next(&[Move::Answers(500, "")]);
    assert_eq!(scene.log_in_twice(&house, "bob").await, 409);
    let first = events(&scene.hook, 1).await.remove(0);
    let message = first.json();
    assert_eq!((&message["type"], &message["timestamp"]), (&json!("login.refused"), &json!(NOW.to_string())));
    let data = &message["data"];
    assert_eq!((&data["provider"], &data["outcome"]), (&json!("idp"), &json!("replay")));
    assert!(data["login"].is_string() && !message.to_string().contains("bob@"), "{message}");
    measured(&house, &["loginsync_delivery_events_pending{receiver=\"app\"} 1"]).await;
    assert_eq!(house.store().receiver("app").await.unwrap().events_waiting, 1);
    scene.pass(7);
    let again = events(&scene.hook, 2).await.remove(1);
    assert_eq!(again.header("webhook-id"), first.header("webhook-id"));
    measured(
        &house,
        &[
            "loginsync_delivery_events_total{receiver=\"app\"} 1",
            "loginsync_delivery_failures_total{receiver=\"app\"} 1",
            "loginsync_delivery_events_pending{receiver=\"app\"} 0",
        ],
    )
    .await;
    assert_eq!(scene.hook.got().len(), before + 2, "the one of before the file asked for it was never told");
    house.running.stop().await;
}

/// An event that hangs holds nothing up: neither what users hold, nor logins that wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn events_never_delay_what_users_hold() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    *scene.hook.ignores.lock().unwrap() = Some("login.refused");
    let events_named = "events = [\"user.created\", \"user.memberships.changed\", \"login.refused\"]";
    let more =
        format!("{events_named}\ndeliver = \"before-entry\"\nentry_timeout = \"20s\"\nwhen_unconfirmed = \"refuse\"");
    let house = scene.house(&more).await;
    for number in 0..20 {
        scene.log_in_twice(&house, &format!("refused-{number}")).await;
    }
    events(&scene.hook, 1).await;
    // A request ends after ten seconds: all of this is over before.
    let began = Instant::now();
    for (version, groups) in [["staff"].as_slice(), &["admins"], &[], &["staff", "admins"]].into_iter().enumerate() {
        assert_eq!(scene.log_in(&house, "alice", groups).await, 200);
        let alice = scene.hook.got().into_iter().filter(|got| got.json()["user"]["subject"] == "alice");
        assert_eq!(alice.count(), version + 1, "told before it entered, in order");
    }
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    let waiting = scene.hook.got().into_iter().filter(is_event).count();
    assert!(waiting <= 2, "{waiting} events under way at once, or one after another without an answer");
    assert!(house.store().receiver("app").await.unwrap().events_waiting > 15);
    house.running.stop().await;
}

/// Where no state is due, an event asks whether a receiver is back; and too many of them are dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_with_nothing_but_events_is_asked_again_and_the_oldest_are_dropped() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("events = [\"login.refused\"]").await;
    scene.hook.always(Some(Move::Answers(500, "")));
    for number in 0..1020 {
        let refusal = loginsync::ports::store::Refusal {
            id: format!("login-{number}"),
            provider: loginsync::pipeline::ids::ProviderName::parse("idp").unwrap(),
            token_id: number.to_string(),
            now: NOW.plus(Duration::from_millis(number)),
            reason: "expired".into(),
            arrived: Vec::new(),
            remember_until: NOW.plus(Duration::from_secs(600)),
        };
        house.store().record_refusal(refusal).await.unwrap();
    }
    measured(&house, &["loginsync_delivery_events_dropped_total{receiver=\"app\"} 20"]).await;
    let view = house.store().receiver("app").await.unwrap();
    assert_eq!((view.events_waiting, view.events_dropped, view.pending), (1000, 20, 0));
    scene.pass(5);
    events(&scene.hook, 5).await;
    measured(&house, &["loginsync_receiver_failing{receiver=\"app\"} 1"]).await;
    let before = scene.hook.got().len();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(scene.hook.got().len(), before, "it is left alone");
    scene.hook.always(None);
    scene.pass(61);
    events(&scene.hook, before + 20).await;
    measured(&house, &["loginsync_receiver_failing{receiver=\"app\"} 0"]).await;
    house.running.stop().await;
}
