//! Plan against reality: what `plan` foretold of other rules is what a reload and the next logins do, and what `explain` says of a
//! login is what it does. Random rules and people, round after round; a round is named by its number, so that it can be run again.
//!
//! `make reality ARGS=2000` runs so many; `REALITY_FROM=17` begins with that one.

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loginsync::cli::demo::mint::oidc;
use loginsync::clock::Clock;
use loginsync::config::{Config, Surroundings};
use loginsync::explain::{Input, explain};
use loginsync::forecast::forecast;
use loginsync::pipeline::forecast::{Forecast, TargetName, UserForecast};
use loginsync::pipeline::ids::{Namespace, Subject, Timestamp, UserId};
use loginsync::ports::keys::fetched::FetchedKeys;
use serde_json::{Map, Value, json};

use self::rules::{Dice, Rules};
use crate::attacks::{FORM, form, here};
use crate::front_door::House;
use crate::kit::{NOW, key};

/// Rounds of `make test`.
const ROUNDS: u64 = 25;

/// A person, and what each provider says of them. A claim that is absent is left out.
#[derive(Debug)]
struct Person {
    name: String,
    claims: BTreeMap<&'static str, Map<String, Value>>,
}

impl Person {
    fn id(&self) -> UserId {
        UserId { namespace: Namespace::parse("people").unwrap(), subject: Subject::parse(&self.name).unwrap() }
    }
}

type Held = BTreeSet<TargetName>;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_foretold_is_what_happens() {
    rounds(0, ROUNDS).await;
}

#[ignore = "long; `make reality` runs it"]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_foretold_is_what_happens_in_many_rounds() {
    let number = |name: &str, standard: u64| std::env::var(name).map_or(standard, |text| text.parse().unwrap());
    rounds(number("REALITY_FROM", 0), number("REALITY_ROUNDS", 1000)).await;
}

async fn rounds(from: u64, count: u64) {
    let (mut seen, mut failed) = (Seen::default(), Vec::new());
    for round in from..from + count {
        let tasks = tokio::task::LocalSet::new();
        let task = tasks.spawn_local(one(round));
        match tasks.run_until(task).await {
            Ok(one) => seen.add(one),
            Err(_) => failed.push(round),
        }
    }
    println!("{count} rounds: {seen:?}");
    assert!(failed.is_empty(), "these rounds came out otherwise than foretold: {failed:?}");
    // A generator that makes nothing happen would agree with anything.
    if count >= ROUNDS {
        let Seen { logins, refused, gained, lost, at_once, braked, .. } = seen;
        assert!([logins, refused, gained, lost, at_once, braked].iter().all(|count| *count > 0), "{seen:?}");
    }
}

/// What the rounds came across.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    logins: u64,
    refused: u64,
    gained: u64,
    lost: u64,
    /// Taken by the reload itself.
    at_once: u64,
    /// Reloads that the brake refused.
    braked: u64,
    /// Memberships of which the plan said that it cannot tell.
    open: u64,
}

impl Seen {
    fn add(&mut self, other: Self) {
        let Self { logins, refused, gained, lost, at_once, braked, open } = other;
        self.logins += logins;
        self.refused += refused;
        self.gained += gained;
        self.lost += lost;
        self.at_once += at_once;
        self.braked += braked;
        self.open += open;
    }
}

async fn one(round: u64) -> Seen {
    let mut counted = Seen::default();
    let seen = &mut counted;
    let mut dice = Dice::new(round);
    let before = Rules::random(&mut dice);
    let people: Vec<Person> = (0..4 + dice.below(10)).map(|number| person(&mut dice, number)).collect();
    let house = House::open(&before.text(), &here(), NOW).await;
    // Of a login that is refused no claims are recorded, so that no plan can tell of the next.
    let mut people = people;
    for (turn, person) in people.iter_mut().enumerate() {
        let mut entered = BTreeMap::new();
        for (provider, claims) in &person.claims {
            let id = format!("first-{turn}");
            if log_in(&house, round, person, provider, &id, NOW, seen).await.is_none() {
                entered.insert(*provider, claims.clone());
            }
        }
        person.claims = entered;
    }

    let after = before.changed(&mut dice);
    let new = config(&after.text());
    let (held, old) = (everybody(&house, &people).await, house.rules());
    let mut quiet = |_, _| {};
    let told = forecast(house.store(), Some(&*old), &new.rules, NOW, 1000, &mut quiet).await.unwrap();

    let place = house.folder.path();
    let text = after.text().replace("\"store.db\"", &format!("\"{}\"", place.join("store.db").display()));
    let text = text.replace("\"fixtures/", &format!("\"{}/fixtures/", env!("CARGO_MANIFEST_DIR")));
    std::fs::write(place.join("unwatched.toml"), text.replace("http://127.0.0.1:1", &house.app_url)).unwrap();
    let file = place.join("unwatched.toml");
    Config::load(&file, &|_| None, NOW).unwrap_or_else(|faults| panic!("round {round}: {faults}"));
    house.running.reload().await;
    let adopted = !Arc::ptr_eq(&house.rules(), &old);
    let context = || format!("round {round}\n{}\n--- to\n{}\n{told:#?}\n{people:?}", before.text(), after.text());
    assert_eq!(adopted, told.brake_refuses.is_empty(), "the brake refuses what `plan` says: {}", context());
    if !adopted {
        seen.braked += 1;
        assert_eq!(everybody(&house, &people).await, held, "{}", context());
        return counted;
    }
    if after.applies_now() {
        // People are planned anew within a second.
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    }
    let reloaded = everybody(&house, &people).await;
    at_once(&told, (&held, &reloaded), &after, &context, seen);

    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    for (turn, person) in people.iter().enumerate() {
        for provider in person.claims.keys() {
            let later = Timestamp(NOW.0 + 1000);
            let why = log_in(&house, round, person, provider, &format!("second-{turn}"), later, seen).await;
            refused.extend(why.map(|why| (format!("people/{}", person.name), why)));
        }
    }
    let finally = everybody(&house, &people).await;
    in_the_end(&told, (&held, &finally), &refused, &after, &context, seen);
    house.running.stop().await;
    counted
}

/// What the reload took by itself, target by target.
fn at_once(
    told: &Forecast,
    (before, after): (&BTreeMap<String, Held>, &BTreeMap<String, Held>),
    rules: &Rules,
    context: &impl Fn() -> String,
    seen: &mut Seen,
) {
    let stays = stays(told, rules);
    let mut lost: BTreeMap<&TargetName, u64> = BTreeMap::new();
    for (user, held) in before {
        for target in held.difference(&after[user]) {
            *lost.entry(target).or_default() += 1;
        }
        // A group that a person has already may carry other roles now.
        let carried = |target: &TargetName| {
            held.iter().any(|held| held.kind == "group" && rules.carries(&held.name, &target.name))
        };
        let gained: Vec<_> = after[user].difference(held).filter(|target| !carried(target)).collect();
        let may =
            |target: &&&TargetName| told.targets.iter().any(|it| it.target == ***target && it.gains + it.may_gain > 0);
        assert_eq!(gained.iter().filter(|target| !may(target)).count(), 0, "{user} gained {gained:?}: {}", context());
    }
    for target in &told.targets {
        let found = lost.remove(&target.target).unwrap_or(0);
        let kept = stays(&target.target) || target.may_gain > 0;
        assert!(found >= target.at_once || kept, "{} lost at once {found}: {}", target.target, context());
        seen.at_once += found;
    }
    assert!(lost.is_empty(), "lost at once, and not foretold: {lost:?}: {}", context());
}

/// Losses that the brake holds and last holders stay, with the roles that those groups carry.
fn stays(told: &Forecast, rules: &Rules) -> impl Fn(&TargetName) -> bool {
    let kept = told.brake_holds.iter().map(|it| &it.target).chain(&told.last_holders);
    let kept: Vec<TargetName> = kept.cloned().collect();
    let rules = rules.clone();
    move |target| {
        kept.iter().any(|kept| kept == target || (kept.kind == "group" && rules.carries(&kept.name, &target.name)))
    }
}

/// What everybody holds after their next logins.
fn in_the_end(
    told: &Forecast,
    (before, after): (&BTreeMap<String, Held>, &BTreeMap<String, Held>),
    refused: &BTreeMap<String, String>,
    rules: &Rules,
    context: &impl Fn() -> String,
    seen: &mut Seen,
) {
    let stays = stays(told, rules);
    // What the brake or a last holder keeps decides conditions on roles, and with them anything.
    if rules.asks_for_roles() && !(told.brake_holds.is_empty() && told.last_holders.is_empty()) {
        seen.open += 1;
        return;
    }
    let may_gain = |target: &TargetName| told.targets.iter().any(|it| it.target == *target && it.may_gain > 0);
    for (user, held) in before {
        let nothing = UserForecast {
            user: user.clone(),
            gains: vec![],
            losses: vec![],
            may_lose: vec![],
            refused: None,
            may_be_refused: None,
        };
        let foretold = told.details.iter().find(|it| it.user == *user).unwrap_or(&nothing);
        let why = refused.get(user);
        match (&foretold.refused, &foretold.may_be_refused) {
            (None, Some(_)) => seen.open += 1,
            (expected, _) => assert_eq!(expected.as_ref(), why, "{user}: {}", context()),
        }
        let (gained, lost): (Held, Held) =
            (after[user].difference(held).cloned().collect(), held.difference(&after[user]).cloned().collect());
        for target in foretold.gains.iter().filter(|target| !gained.contains(target)) {
            assert!(may_gain(target), "{user} did not gain {target}: {}", context());
        }
        for target in gained.iter().filter(|target| !foretold.gains.contains(target)) {
            assert!(may_gain(target) || stays(target), "{user} gained {target}: {}", context());
            seen.open += 1;
        }
        for target in foretold.losses.iter().filter(|target| !lost.contains(target)) {
            assert!(stays(target) || may_gain(target), "{user} did not lose {target}: {}", context());
        }
        for target in lost.iter().filter(|target| !foretold.losses.contains(target)) {
            assert!(foretold.may_lose.contains(target), "{user} lost {target}: {}", context());
            seen.open += 1;
        }
        seen.gained += gained.len() as u64;
        seen.lost += lost.len() as u64;
    }
}

/// Logs a person in, after `explain` has said what will come of it. Why it was refused, if so.
async fn log_in(
    house: &House,
    round: u64,
    person: &Person,
    provider: &str,
    id: &str,
    now: Timestamp,
    seen: &mut Seen,
) -> Option<String> {
    let mut claims = person.claims[provider].clone();
    let issuer = format!("https://{provider}.example/");
    claims.extend([
        ("iss".into(), json!(issuer)),
        ("aud".into(), json!("the-app")),
        ("sub".into(), json!(person.name)),
        ("uid".into(), json!(person.name)),
        ("jti".into(), json!(format!("{id}-{provider}"))),
        ("iat".into(), json!(now.seconds())),
        ("exp".into(), json!(now.seconds() + 300)),
    ]);
    let header = json!({"alg": "RS256", "kid": "idp-rsa", "typ": "JWT"});
    let token = oidc::id_token(&key("idp-rsa"), "RS256", &header, &Value::Object(claims)).unwrap();
    let body = form(&[("id_token", &token)]);

    let pair = house.running.rules.pair();
    let ours = pair.providers.iter().find(|it| it.name.as_str() == provider).unwrap();
    let config = config(rules::PROVIDERS);
    let keys = FetchedKeys::start(&config.providers, &Clock::fixed(now), None).unwrap();
    let surroundings = loginsync::explain::Surroundings {
        provider: ours,
        keys: &keys,
        keys_from: String::from("a file"),
        rules: Arc::clone(&pair.rules),
        store: Some((house.store(), String::from("the store"))),
        directory: None,
        now: NOW,
    };
    let report = explain(Input::read(&body, ours, 1 << 20).unwrap(), surroundings).await.unwrap();

    let happened = house.happened();
    let answer = house.send("POST", &format!("/{provider}"), &[FORM], body.as_bytes()).await;
    let plans = house.plans_after(happened);
    let context = || format!("round {round}, {} by {provider}: {answer:?}\n{report:#?}", person.name);
    assert_eq!(report.outcome == loginsync::pipeline::explain::Outcome::Enters, !plans.is_empty(), "{}", context());
    seen.logins += 1;
    let Some(plan) = plans.first() else {
        seen.refused += 1;
        return Some(report.refused.unwrap_or_default());
    };
    let told = report.plan.as_ref().unwrap_or_else(|| panic!("{}", context()));
    let groups: Vec<&str> = plan.after.groups.iter().map(|group| group.as_str()).collect();
    let roles: Vec<&str> = plan.after.roles.iter().map(|role| role.as_str()).collect();
    assert_eq!((&told.groups, &told.roles), (&owned(&groups), &owned(&roles)), "{}", context());
    None
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

async fn everybody(house: &House, people: &[Person]) -> BTreeMap<String, Held> {
    let mut found = BTreeMap::new();
    for person in people {
        let mut held = Held::new();
        if let Some(view) = house.view(person.id()).await {
            held.extend(view.groups.into_iter().map(|name| TargetName { kind: "group", name }));
            held.extend(view.roles.into_iter().map(|name| TargetName { kind: "role", name }));
        }
        found.insert(format!("people/{}", person.name), held);
    }
    found
}

fn config(text: &str) -> Config {
    let file = here();
    let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    Config::from_text(text, &around).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
}

/// Someone whom one provider knows, or both.
fn person(dice: &mut Dice, number: u64) -> Person {
    let known: &[&str] = match dice.below(4) {
        0 => &["okta", "entra"],
        1 => &["entra"],
        _ => &["okta"],
    };
    let claims = known.iter().map(|provider| {
        let mut claims = Map::new();
        if !dice.chance(10) {
            let values: BTreeSet<&str> = (0..dice.below(5)).map(|_| dice.of(&rules::VALUES)).collect();
            claims.insert("groups".into(), json!(values));
        }
        if dice.chance(60) {
            claims.insert("team".into(), json!(dice.of(&rules::VALUES)));
        }
        (*provider, claims)
    });
    Person { name: format!("person-{number}"), claims: claims.collect() }
}
