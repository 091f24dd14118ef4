//! Runs every case under `fixtures/login` through the front door: configuration, memberships before and request in; answer,
//! plan and memberships after out. `BLESS=1` writes the last three.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use loginsync::pipeline::claims::{Claim, ClaimState, Claims, Split};
use loginsync::pipeline::ids::{GroupName, Namespace, Subject, Target, Timestamp, UserId};
use loginsync::pipeline::mapping::{Mapping, When, candidates};
use loginsync::pipeline::verify::Spending;
use loginsync::ports::store::{Act, Applied, Login};
use serde_json::Value;

use crate::fixtures::{folder, settle};
use crate::front_door::House;

#[tokio::test(flavor = "multi_thread")]
async fn every_login_case_ends_as_recorded() {
    for case in all() {
        run(&case).await;
    }
}

/// The folders of all cases.
pub fn all() -> Vec<PathBuf> {
    let mut cases: Vec<_> = std::fs::read_dir(folder("login"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("case.json").is_file())
        .collect();
    cases.sort();
    assert!(cases.len() >= 40);
    cases
}

async fn run(case: &Path) {
    let read = |name: &str| std::fs::read_to_string(case.join(name)).unwrap();
    let about: Value = serde_json::from_str(&read("case.json")).unwrap();
    let now = Timestamp(about["now"].as_i64().unwrap());
    let house = House::open(&read("config.toml"), &case.join("config.toml"), now).await;
    prepare(&house, &serde_json::from_str(&read("before.json")).unwrap(), now).await;
    let before = house.memberships().await;
    let happened = house.happened();
    let cookies = match about["leave"].as_str() {
        Some(address) => house.leave(address).await,
        None => String::new(),
    };

    let request = read("request.txt");
    let (head, body) = request.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let mut headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    headers.push(("cookie", &cookies));
    headers.push(("accept", "application/json"));
    let rows_before = house.events().await.len();
    let answer = house.send(method, target, &headers, body.as_bytes()).await;
    let after = house.memberships().await;

    let arrivals = house.app.seen();
    let mut outcome = format!("# {}\n\nstatus {}\n", about["title"].as_str().unwrap(), answer.status);
    for plan in house.plans_after(happened) {
        let _ = write!(outcome, "\n{plan}");
    }
    if let Some(seen) = arrivals.first() {
        assert_eq!(seen.body, body.as_bytes(), "{}: the app gets what the browser sent", case.display());
        for name in ["x-loginsync-user", "x-loginsync-email", "x-loginsync-groups", "x-loginsync-roles"] {
            if let Some(value) = seen.headers.get(name) {
                let _ = write!(outcome, "\n{name}: {}", value.to_str().unwrap());
            }
        }
        outcome.push('\n');
    } else {
        assert_eq!(before, after, "{}: a login that is refused changes nothing", case.display());
    }
    for row in house.events().await.into_iter().skip(rows_before) {
        let mut detail = row.detail;
        // Made anew at every run.
        detail.as_object_mut().unwrap().remove("login");
        let _ = write!(outcome, "\naudit {} {}\n", row.event, serde_json::to_string(&detail).unwrap());
    }
    settle(&case.join("plan.txt"), &outcome);
    settle(&case.join("after.txt"), &after);
    house.running.stop().await;
}

/// Claims that make mappings of the short form match.
fn bring(mapped: &[&Mapping]) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    for mapping in mapped {
        let When::Value { claim, value, .. } = &mapping.when else {
            panic!("`{}` is of the long form", mapping.label())
        };
        match claims.iter_mut().find(|known| known.name == *claim) {
            Some(Claim { state: ClaimState::Values(values), .. }) => values.push(value.to_string()),
            _ => claims.push(Claim {
                name: claim.clone(),
                state: ClaimState::Values(vec![value.to_string()]),
                split: Split::default(),
                skipped: 0,
                decided: true,
            }),
        }
    }
    claims
}

/// Brings the store into the state that a case starts from.
pub async fn prepare(house: &House, before: &Value, now: Timestamp) {
    let rules = house.rules();
    let provider = rules.mappings().first().unwrap().provider.clone().unwrap();
    let list = |user: &Value, key: &str| -> Vec<String> {
        user[key].as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    for user in before["users"].as_array().into_iter().flatten() {
        let id = UserId {
            namespace: Namespace::parse(provider.as_str()).unwrap(),
            subject: Subject::parse(user["user"].as_str().unwrap()).unwrap(),
        };
        let labels = list(user, "mapped");
        let mapped: Vec<&Mapping> =
            rules.mappings().iter().filter(|mapping| labels.contains(&mapping.label())).collect();
        assert_eq!(mapped.len(), labels.len(), "unknown mapping among {labels:?}");
        if !mapped.is_empty() {
            let issued_at = Timestamp(user["issued_at"].as_i64().unwrap_or(now.0 - 60_000));
            let login = Login {
                id: "before".into(),
                provider: provider.clone(),
                issuer: "before".into(),
                user: id.clone(),
                email: None,
                display_name: None,
                token_id: format!("before-{}", id.subject),
                issued_at: Some(issued_at),
                spending: Spending::Once,
                remember_until: now,
                now,
                binding: "matched",
                claims: Vec::new(),
                arrived: Vec::new(),
            };
            let claims = Arc::new(Claims { user: id.clone(), email: None, display_name: None, claims: bring(&mapped) });
            let candidates = candidates(&rules, &provider, &claims);
            assert_eq!(candidates.touched(), labels.len());
            let applied = house.store().apply(login, candidates, Arc::clone(&rules)).await.unwrap();
            assert!(matches!(applied, Applied::Committed(_)));
        }
        let group = |name: &String| Target::Group(GroupName::parse(name).unwrap());
        let mut acts: Vec<Act> = list(user, "assigned").iter().map(|name| Act::Assign(group(name))).collect();
        let denied = list(user, "denied");
        acts.extend(denied.iter().map(|name| Act::Deny { target: group(name), reason: "a test".into(), until: None }));
        if user["disabled"].as_bool() == Some(true) {
            acts.push(Act::Disable);
        }
        for act in acts {
            house.store().act(id.clone(), act, "test".into(), now).await.unwrap();
        }
    }
}
