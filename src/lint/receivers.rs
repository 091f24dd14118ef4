//! What is suspicious in `[[scim]]` and `[[webhook]]`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{BeforeEntry, Config, Event, ReceiverKind, ReceiverSettings, ScimUsers, UserNameSource};
use crate::pipeline::lint::{Finding, Lint};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::provider::Mode;

/// For how long a person looks at an empty page without going away.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long a usual HTTP client of an app waits for its token.
const PATIENCE_OF_APP: Duration = Duration::from_secs(5);

/// Everything suspicious in the receivers of a configuration.
pub fn findings(config: &Config, rules: &RuleSet) -> Vec<Finding> {
    let has_relay = config.providers.iter().any(|settings| settings.provider.mode == Mode::TokenRelay);
    let mut findings = twice(&config.receivers);
    for settings in &config.receivers {
        findings.extend(undeclared(settings, rules));
        findings.extend(settings.before_entry.and_then(|before| waits(settings, before, has_relay)));
        findings.extend(hears_nothing(settings));
        findings.extend(of_scim(settings));
    }
    findings
}

fn finding(lint: Lint, settings: &ReceiverSettings, message: String) -> Finding {
    Finding { lint, about: format!("receiver `{}`", settings.name), message }
}

/// Two receivers of one kind and address. A webhook may be there twice for different groups, and then says so by its filters.
fn twice(receivers: &[ReceiverSettings]) -> Vec<Finding> {
    let mut seen: BTreeMap<(bool, &str), &ReceiverSettings> = BTreeMap::new();
    let mut findings = Vec::new();
    for settings in receivers {
        let is_scim = matches!(settings.kind, ReceiverKind::Scim(_));
        let address = settings.url.as_str().trim_end_matches('/');
        match seen.get(&(is_scim, address)) {
            Some(first) if is_scim || first.filter == settings.filter => {
                let why = match is_scim {
                    true => "each takes the other's memberships for memberships that others gave",
                    false => "each change is delivered there twice, with different versions",
                };
                let message = format!("it has the `url` of receiver `{}`: {why}; keep one of them", first.name);
                findings.push(finding(Lint::ToldTwice, settings, message));
            }
            Some(_) => {}
            None => drop(seen.insert((is_scim, address), settings)),
        }
    }
    findings
}

/// Names of filters that neither the file nor the store declares: nothing of these is ever delivered.
fn undeclared(settings: &ReceiverSettings, rules: &RuleSet) -> Vec<Finding> {
    let groups = settings.filter.groups.iter().flatten().filter(|name| !rules.groups.contains_key(*name));
    let roles = settings.filter.roles.iter().flatten().filter(|name| !rules.roles.contains_key(*name));
    let named = groups.map(|name| ("group", name.as_str())).chain(roles.map(|name| ("role", name.as_str())));
    let message = |(kind, name): (&str, &str)| {
        let message = format!("its `{kind}s` name `{name}`, and there is no such {kind}: it never gets such a change");
        finding(Lint::NoSuchTarget, settings, message)
    };
    named.map(message).collect()
}

/// Logins that wait longer than those who wait for them.
fn waits(settings: &ReceiverSettings, before: BeforeEntry, has_relay: bool) -> Option<Finding> {
    let (patience, who) = match has_relay {
        true => (PATIENCE_OF_APP, "an app that waits for its token"),
        false => (PATIENCE, "a person, or a proxy in front,"),
    };
    (before.timeout > patience).then(|| {
        let message = format!(
            "`entry_timeout` is {} s: {who} often gives up after {} s, while the login goes on; set it below that",
            before.timeout.as_secs(),
            patience.as_secs()
        );
        finding(Lint::LongWait, settings, message)
    })
}

/// Logins wait for a receiver that gets no memberships: it counts as having confirmed them.
fn hears_nothing(settings: &ReceiverSettings) -> Option<Finding> {
    let ReceiverKind::Webhook(webhook) = &settings.kind else { return None };
    settings.before_entry?;
    let is_empty = |names: Option<usize>| names == Some(0);
    let filter = &settings.filter;
    let none = is_empty(filter.groups.as_ref().map(|names| names.len()))
        && is_empty(filter.roles.as_ref().map(|names| names.len()));
    let why = match (webhook.events.contains(&Event::MembershipsChanged), none) {
        (false, _) => "its `events` lack `user.memberships.changed`",
        (true, true) => "its `groups` and `roles` are empty",
        (true, false) => return None,
    };
    let message = format!(
        "logins wait for it, and {why}: losses count as confirmed without a message; correct that, or remove `deliver = \
         \"before-entry\"`"
    );
    Some(finding(Lint::WaitsForNothing, settings, message))
}

fn of_scim(settings: &ReceiverSettings) -> Vec<Finding> {
    let ReceiverKind::Scim(scim) = &settings.kind else { return Vec::new() };
    let mut findings = Vec::new();
    if scim.authoritative && settings.filter.groups.is_none() {
        let message = "with `authoritative = true` and `groups = \"all\"` it removes everyone whom others added to a group of \
                       the same name there, administrators included; list only groups that loginsync alone manages";
        findings.push(finding(Lint::OwnsEveryGroup, settings, message.into()));
    }
    if scim.user_name == UserNameSource::Name {
        let more = match scim.users {
            ScimUsers::Match => ", and `users = \"match\"` takes over the user of that name there",
            ScimUsers::Create | ScimUsers::CreateAndDeactivate => "",
        };
        let message = format!(
            "`user_name = \"name\"` finds users by a name that people can often choose at the provider{more}; use `subject`, or \
             an `email` that the provider verifies"
        );
        findings.push(finding(Lint::ChosenUserName, settings, message));
    }
    findings
}
