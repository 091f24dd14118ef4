//! A person with many groups, and a server that fails in the middle: the next try goes on where the last one has come to.

use super::scim::{Apps, USUAL};
use super::*;
use crate::support::scim::Mood;

/// Groups that everyone of `staff` is in, beside Staff.
const GROUPS: usize = 12;

fn name(number: usize) -> String {
    format!("Team {number:02}")
}

async fn house(apps: &Apps) -> House {
    let many: String = (0..GROUPS)
        .map(|number| {
            let name = name(number);
            format!("[[group]]\nname = \"{name}\"\n[[mapping]]\nprovider = \"idp\"\nclaim = \"groups\"\nvalue = \"staff\"\ngroup = \"{name}\"\n")
        })
        .collect();
    let place = Place::File(apps.scene.folder.path().join("store.db"));
    apps.scene.house_at(place, &(apps.text(USUAL) + &many)).await
}

/// How often something was asked for since.
fn since(apps: &Apps, before: usize, prefix: &str) -> Vec<String> {
    apps.server.asked().into_iter().skip(before).filter(|asked| asked.starts_with(prefix)).collect()
}

fn repeated(asked: &[String]) -> Vec<&String> {
    let mut seen = BTreeSet::new();
    asked.iter().filter(|one| !seen.insert(*one)).collect()
}

/// Whichever request fails, none of what was seen done is asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_done_is_not_done_again() {
    for at in [3, 9, 20, 38, 47] {
        let apps = Apps::new(Clock::fixed(NOW)).await;
        for number in 0..GROUPS {
            apps.server.add_group(&name(number), &[]);
        }
        let house = house(&apps).await;
        apps.server.next(&vec![Mood::Slow(Duration::ZERO); at]);
        apps.server.next(&[Mood::Says("503 Service Unavailable", "", "")]);
        apps.log_in(&house, "alice", &["staff"]).await;
        apps.fails(&house, "503").await;
        let (before, written) = (apps.server.asked().len(), since(&apps, 0, "PATCH /Groups"));
        apps.scene.pass(10);
        apps.confirmed(&house, "alice").await;
        for number in 0..GROUPS {
            apps.server.has(&name(number), &["alice"]).await;
        }
        // The one that failed may have been done, and is looked at.
        let again = since(&apps, before, "PATCH /Groups");
        let twice = again.iter().filter(|one| written.contains(one)).count();
        assert!(twice <= 1, "after {at} requests: {again:#?} {written:#?}");
        let looks = since(&apps, before, "GET /Groups");
        let left = GROUPS + 2 - written.len().saturating_sub(1);
        assert!(looks.len() <= 3 * left, "after {at} requests, {left} groups left: {looks:#?}");
        // The same where they lose all.
        let before = apps.server.asked().len();
        apps.server.next(&vec![Mood::Slow(Duration::ZERO); at.min(30)]);
        apps.server.next(&[Mood::Says("503 Service Unavailable", "", "")]);
        apps.log_in(&house, "alice", &[]).await;
        apps.fails(&house, "503").await;
        apps.scene.pass(10);
        apps.confirmed(&house, "alice").await;
        for number in 0..GROUPS {
            apps.server.has(&name(number), &[]).await;
        }
        let twice = since(&apps, before, "PATCH /Groups");
        assert!(repeated(&twice).len() <= 1, "after {at} requests: {twice:#?}");
        house.running.stop().await;
    }
}

/// A server that lets a few requests pass at a time: each try has to come further than the last.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_few_requests_at_a_time_is_told_all_in_the_end() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    for number in 0..GROUPS {
        apps.server.add_group(&name(number), &[]);
    }
    let house = house(&apps).await;
    apps.server.always(Some(Mood::Says("429 Too Many Requests", "", "")));
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.fails(&house, "429").await;
    let mut tries = 0;
    loop {
        let pending = house.store().pending("app", 1).await.unwrap();
        let Some(last) = pending.first().map(|it| it.failures) else { break };
        tries += 1;
        assert!(tries < 12, "{:#?}", apps.server.asked());
        apps.server.next(&[Mood::Slow(Duration::ZERO), Mood::Slow(Duration::ZERO), Mood::Slow(Duration::ZERO)]);
        apps.server.next(&vec![Mood::Slow(Duration::ZERO); 6]);
        apps.scene.pass(3 * 3600);
        let began = Instant::now();
        while house.store().pending("app", 1).await.unwrap().first().is_some_and(|it| it.failures == last) {
            assert!(began.elapsed() < Duration::from_secs(30), "{:#?}", apps.server.asked());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    apps.server.always(None);
    for number in 0..GROUPS {
        apps.server.has(&name(number), &["alice"]).await;
    }
    house.running.stop().await;
}
