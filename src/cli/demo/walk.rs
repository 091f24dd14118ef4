//! The demo without a browser: plays every part of the story by HTTP, and looks whether each step did what it should.
//!
//! A step that differs ends the walk, since those after it build on it; everything that differs in it is named.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::agreed::NAMESPACE;
use super::balancer::Balancer;
use super::browser::{Browser, Page};
use super::journal::Event;
use super::people::People;
use super::scene::Scene;
use super::voice::{Tone, Voice};
use crate::cli::Failure;
use crate::clock::Clock;
use crate::pipeline::ids::{GroupName, Namespace, Subject, Target, UserId};
use crate::pipeline::plan::{Change, Plan};
use crate::ports::store::{Act, By, UserView};

/// For the whole story.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sets the demo up, walks through it, and takes it down again.
///
/// # Errors
/// When it cannot start, or anything is not as it should be.
pub async fn walk(port: u16, sidecars: usize, voice: &mut Voice<'_>) -> Result<(), Failure> {
    walk_among(port, sidecars, People::of_the_story, voice).await
}

/// The same among other people. The story only holds among its own, so this is for those who doubt that the walk would see a
/// difference.
///
/// # Errors
/// As for [`walk`].
pub async fn walk_among(
    port: u16,
    sidecars: usize,
    people: impl Fn() -> People,
    voice: &mut Voice<'_>,
) -> Result<(), Failure> {
    let began = Instant::now();
    let title =
        voice.toned(Tone::Title, "loginsync demo: a provider, an app, and the sidecar between them, on loopback");
    voice.say(&title);
    let scene = Scene::set_up(port, sidecars, people).await?;
    let mut walk = Walk {
        scene: &scene,
        voice,
        step: 0,
        title: "",
        differences: Vec::new(),
        before: Counts::default(),
        entered: 0,
        refused: 0,
    };
    let outcome = tokio::time::timeout(PATIENCE, story(&mut walk)).await;
    let outcome =
        outcome.unwrap_or_else(|_| Err(Failure(format!("step {} ({}) did not come to an end", walk.step, walk.title))));
    let counts = format!("{} steps, {} logins entered, {} refused", walk.step, walk.entered, walk.refused);
    let taken = scene.balancer.as_ref().map(Balancer::taken);
    scene.take_down().await;
    let rows = outcome?;
    let words = voice.toned(Tone::Gain, "everything is as it should be");
    let seconds = began.elapsed().as_secs_f64();
    if let Some(taken) = taken {
        if taken.contains(&0) {
            return Err(Failure(format!("a sidecar took no part; connections by sidecar: {taken:?}")));
        }
        let taken = taken.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        voice.say(&format!("\n{sidecars} sidecars over one PostgreSQL took {taken} connections by turns"));
    }
    voice.say(&format!("\n{words}: {counts}, {rows} rows in an audit chain that verifies; {seconds:.1} s"));
    Ok(())
}

/// The story, step by step. Returns how long the audit chain has become.
async fn story(walk: &mut Walk<'_, '_>) -> Result<u64, Failure> {
    let mut alice = Browser::default();

    walk.begin("alice logs in by OIDC: two of her groups mean something in the app");
    let page = walk.log_in(&mut alice, "oidc", "alice").await?;
    let expected = Expected {
        granted: &["group `Engineering`", "group `On-call`"],
        groups: &["Engineering", "On-call"],
        roles: &["deployer"],
        ..Expected::default()
    };
    walk.entered("alice", &page, &expected).await?;

    walk.begin("bob logs in by SAML: one attribute, \"marketing;editors\", is split");
    let page = walk.log_in(&mut Browser::default(), "saml", "bob").await?;
    let expected = Expected {
        granted: &["group `Marketing`", "role `author`"],
        groups: &["Marketing"],
        roles: &["author"],
        ..Expected::default()
    };
    walk.entered("bob", &page, &expected).await?;

    walk.begin("an operator gives alice a group by hand");
    walk.assign("alice", "Marketing").await?;

    walk.begin(
        "alice leaves on-call at the provider and logs in again: one goes, one stays, the one by hand is untouched",
    );
    walk.leave_group("alice", "on-call").await?;
    let page = walk.log_in(&mut alice, "oidc", "alice").await?;
    let expected = Expected {
        kept: &["group `Engineering`"],
        revoked: &["group `On-call`"],
        groups: &["Engineering", "Marketing"],
        roles: &["deployer"],
        ..Expected::default()
    };
    walk.entered("alice", &page, &expected).await?;

    walk.begin("carol logs in: the only administrator");
    let page = walk.log_in(&mut Browser::default(), "oidc", "carol").await?;
    let expected = Expected {
        granted: &["group `Administrators`"],
        groups: &["Administrators"],
        roles: &["admin"],
        ..Expected::default()
    };
    walk.entered("carol", &page, &expected).await?;

    walk.begin("carol leaves administrators at the provider and logs in again: the last one is never locked out");
    walk.leave_group("carol", "administrators").await?;
    let page = walk.log_in(&mut Browser::default(), "oidc", "carol").await?;
    let expected = Expected {
        guarded: &["group `Administrators`"],
        groups: &["Administrators"],
        roles: &["admin"],
        ..Expected::default()
    };
    walk.entered("carol", &page, &expected).await?;

    walk.begin("an attacker forges alice's token: signed by a stranger's key, it says she is an administrator");
    let answer = walk.ask(&mut Browser::default(), "oidc", "alice", "forged").await?;
    walk.refused("alice", answer, StatusCode::FORBIDDEN).await?;

    walk.begin("an attacker forges bob's SAML response in the same way");
    let answer = walk.ask(&mut Browser::default(), "saml", "bob", "forged").await?;
    walk.refused("bob", answer, StatusCode::FORBIDDEN).await?;

    walk.begin("an attacker replays alice's last response with all her cookies");
    let answer = Answer { browser: alice, page: None };
    walk.refused("alice", answer, StatusCode::CONFLICT).await?;

    walk.begin("an attacker sends a genuine response of alice's from another browser");
    let mut answer = walk.ask(&mut Browser::default(), "oidc", "alice", "genuine").await?;
    answer.browser.forget_cookies();
    walk.refused("alice", answer, StatusCode::FORBIDDEN).await?;

    walk.audited().await
}

/// The outcome of a login. The changes are the plan's, the groups and roles what the user then holds.
#[derive(Debug, Default)]
struct Expected<'a> {
    granted: &'a [&'a str],
    kept: &'a [&'a str],
    revoked: &'a [&'a str],
    guarded: &'a [&'a str],
    groups: &'a [&'a str],
    roles: &'a [&'a str],
}

/// The provider's answer, still in the browser.
struct Answer {
    browser: Browser,
    /// `None`: what the browser sent last.
    page: Option<Page>,
}

struct Walk<'s, 'v> {
    scene: &'s Scene,
    voice: &'s mut Voice<'v>,
    step: usize,
    title: &'static str,
    differences: Vec<String>,
    /// When the step began.
    before: Counts,
    entered: usize,
    refused: usize,
}

/// How much has happened.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    events: usize,
    arrived: usize,
}

impl Walk<'_, '_> {
    // ------------------------------------------------------------------------------------------------ what people do

    fn begin(&mut self, title: &'static str) {
        self.step += 1;
        self.title = title;
        self.before = self.counts();
        let line = self.voice.toned(Tone::Title, &format!("{:>2}  {title}", self.step));
        self.voice.say(&format!("\n{line}"));
    }

    /// Goes from the app to the provider, says who it is, and stops at the answer.
    async fn ask(&self, browser: &mut Browser, protocol: &str, who: &str, how: &str) -> Result<Answer, Failure> {
        let question = browser.open(&format!("{}/login/{protocol}", self.scene.addresses.proxy)).await?;
        let page = browser.submit(&question, &[("person", who), ("how", how)], &[]).await?;
        Ok(Answer { browser: browser.clone(), page: Some(page) })
    }

    async fn log_in(&self, browser: &mut Browser, protocol: &str, who: &str) -> Result<Page, Failure> {
        let answer = self.ask(browser, protocol, who, "genuine").await?;
        *browser = answer.browser;
        match answer.page {
            Some(page) => browser.submit(&page, &[], &[]).await,
            None => Err(Failure("the provider gave no answer".into())),
        }
    }

    /// By the form on the provider's page.
    async fn leave_group(&mut self, who: &str, group: &str) -> Result<(), Failure> {
        let mut browser = Browser::default();
        let people = browser.open(&self.scene.addresses.provider).await?;
        let people = browser.submit(&people, &[("account", who), ("group", group), ("change", "remove")], &[]).await?;
        self.compare("the provider's answer", &people.status, &StatusCode::OK);
        self.settle()
    }

    /// As `loginsync user assign` would.
    async fn assign(&mut self, who: &str, group: &str) -> Result<(), Failure> {
        let target = Target::Group(GroupName::parse(group).map_err(Failure::new)?);
        let store = &self.scene.sidecar.store;
        let now = Clock::system().now();
        store.act(user(who)?, Act::Assign(target), By::operator("demo:operator"), now).await.map_err(Failure::new)?;
        let view = self.view(who).await?;
        let held = view.memberships.iter().find(|membership| membership.name == group);
        self.compare("how she holds it", &held.map_or("not at all", |held| held.membership), &"assigned");
        for reason in held.into_iter().flat_map(|held| &held.reasons) {
            self.voice.say(&format!("    group `{group}`  {reason}"));
        }
        self.settle()
    }

    // ------------------------------------------------------------------------------------------ what came of it

    /// Looks whether a login came in, and changed what it should.
    async fn entered(&mut self, who: &str, page: &Page, expected: &Expected<'_>) -> Result<(), Failure> {
        self.entered += 1;
        let before = self.before;
        self.compare("the app's answer", &page.status, &StatusCode::OK);
        self.compare("the app's heading", &page.heading(), &format!("{who} is in").as_str());
        let arrived = self.counts().arrived;
        self.compare("logins that reached the app", &arrived, &(before.arrived + 1));
        match self.scene.journal.after(before.events).as_slice() {
            [Event::Committed(plan)] => self.planned(plan, expected),
            events => self.differences.push(format!("one plan was expected; found {}", words_of(events))),
        }
        let view = self.view(who).await?;
        self.compare("groups", &list(&view.groups), &list(expected.groups));
        self.compare("roles", &list(&view.roles), &list(expected.roles));
        if let Some(told) = self.scene.app.last_told() {
            self.compare("the user that the app was told", &told.user.as_str(), &who);
            self.compare("the groups that the app was told", &list(&told.groups), &list(expected.groups));
            self.compare("the roles that the app was told", &list(&told.roles), &list(expected.roles));
            let line = format!("    the app gets: groups {}; roles {}", list(&told.groups), list(&told.roles));
            let line = self.voice.toned(Tone::Quiet, &line);
            self.voice.say(&line);
        }
        self.settle()
    }

    fn planned(&mut self, plan: &Plan, expected: &Expected<'_>) {
        self.voice.plan(plan, "    ");
        let lists = [
            ("grants", &plan.grants, expected.granted),
            ("keeps", &plan.keeps, expected.kept),
            ("revocations", &plan.revokes, expected.revoked),
            ("guarded memberships", &plan.guarded, expected.guarded),
            ("undecided memberships", &plan.undecided, &[]),
        ];
        for (what, found, expected) in lists {
            self.compare(what, &targets(found), &list(expected));
        }
    }

    /// Takes an answer to the app's callback, where it must be refused and change nothing.
    async fn refused(&mut self, who: &str, answer: Answer, status: StatusCode) -> Result<(), Failure> {
        self.refused += 1;
        let (before, view) = (self.counts(), self.view(who).await?);
        let Answer { mut browser, page } = answer;
        let page = match page {
            Some(page) => browser.submit(&page, &[], &[]).await?,
            None => browser.send_again().await?,
        };
        self.compare("the answer", &page.status, &status);
        let arrived = self.counts().arrived;
        self.compare("logins that reached the app", &arrived, &before.arrived);
        let after = self.view(who).await?;
        self.compare(&format!("what the store has of {who}"), &json(&after)?, &json(&view)?);
        let committed = self.scene.journal.after(before.events);
        let committed = committed.iter().filter(|event| matches!(event, Event::Committed(_))).count();
        self.compare("committed plans", &committed, &0);
        let line = format!("    refused with {}: {}", page.status.as_u16(), page.heading());
        let line = self.voice.toned(Tone::Attention, &line);
        self.voice.say(&line);
        self.voice.say(&format!("    nothing changes for {who}, and the app never saw it"));
        self.settle()
    }

    async fn audited(&mut self) -> Result<u64, Failure> {
        let report = self.scene.sidecar.store.verify_audit().await.map_err(Failure::new)?;
        self.compare("the audit chain's first fault", &format!("{:?}", report.broken), &"None".to_owned());
        self.compare("whether the audit chain is sealed by a key", &report.keyed, &true);
        self.settle()?;
        Ok(report.rows)
    }

    fn counts(&self) -> Counts {
        Counts { events: self.scene.journal.count(), arrived: self.scene.app.arrived() }
    }

    async fn view(&self, who: &str) -> Result<UserView, Failure> {
        let sidecar = &self.scene.sidecar;
        let looking = sidecar.store.user(user(who)?, Arc::clone(&sidecar.rules.current()), Clock::system().now());
        let view = looking.await.map_err(Failure::new)?;
        view.ok_or_else(|| Failure(format!("step {} ({}): the store has no user {who}", self.step, self.title)))
    }

    fn compare<T: PartialEq + Display>(&mut self, what: &str, found: &T, expected: &T) {
        if found != expected {
            self.differences.push(format!("{what}: found {found}; expected {expected}"));
        }
    }

    /// Ends the walk if anything of this step differed.
    fn settle(&mut self) -> Result<(), Failure> {
        match self.differences.as_slice() {
            [] => Ok(()),
            differences => Err(Failure(format!(
                "step {} ({}) went otherwise:\n  {}",
                self.step,
                self.title,
                differences.join("\n  ")
            ))),
        }
    }
}

fn user(account: &str) -> Result<UserId, Failure> {
    Ok(UserId {
        namespace: Namespace::parse(NAMESPACE).map_err(Failure::new)?,
        subject: Subject::parse(account).map_err(Failure::new)?,
    })
}

fn json(view: &UserView) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(view).map_err(Failure::new)
}

/// In order, so that lists of the same things read the same.
fn list(names: &[impl AsRef<str>]) -> String {
    let names: BTreeSet<&str> = names.iter().map(AsRef::as_ref).collect();
    if names.is_empty() { "none".to_owned() } else { Vec::from_iter(names).join(", ") }
}

fn targets(changes: &[Change]) -> String {
    list(&changes.iter().map(|change| change.target.to_string()).collect::<Vec<_>>())
}

fn words_of(events: &[Event]) -> String {
    let word = |event: &Event| match event {
        Event::Committed(plan) => format!("a plan of {}", plan.user),
        Event::Refused { who, why } => format!("{who} refused, since {why}"),
    };
    if events.is_empty() { "none".to_owned() } else { events.iter().map(word).collect::<Vec<_>>().join(", ") }
}
