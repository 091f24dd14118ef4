//! `[[webhook]]`: who hears of what changes.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;
use zeroize::Zeroizing;

use super::clients::valid_name;
use super::problem::{alternatives, nearest};
use super::reader::{Section, shown};
use super::values::{self, Wrong};
use super::{Limits, Secret, files};
use crate::pipeline::ids::{GroupName, ProviderName, RoleName};

/// A receiver of signed messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub name: String,
    pub url: Url,
    /// Each of them signs every message. Empty: one of the store's.
    pub secrets: Vec<Secret>,
    pub events: BTreeSet<Event>,
    pub filter: Filter,
    pub ca_file: Option<PathBuf>,
    /// For one request with its answer.
    pub timeout: Duration,
    /// Logins wait for it. `None`: they go on at once.
    pub before_entry: Option<BeforeEntry>,
}

/// How logins wait for a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeforeEntry {
    pub timeout: Duration,
    pub when_unconfirmed: Unconfirmed,
}

/// What becomes of a login of which a receiver has not confirmed everything in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unconfirmed {
    Enter,
    Refuse,
    /// Refused where the receiver knows of something that the user has lost.
    RefuseIfRevoking,
}

/// What a receiver hears of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Users who have logged in through one of these; none: all users.
    pub providers: BTreeSet<ProviderName>,
    /// `None`: every group.
    pub groups: Option<BTreeSet<GroupName>>,
    /// `None`: every role.
    pub roles: Option<BTreeSet<RoleName>>,
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The first that a receiver hears of a user.
    Created,
    MembershipsChanged,
    /// E-mail address or name.
    Changed,
    Disabled,
    Enabled,
    Erased,
}

impl Event {
    pub const ALL: [Self; 6] =
        [Self::Created, Self::MembershipsChanged, Self::Changed, Self::Disabled, Self::Enabled, Self::Erased];

    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "user.created",
            Self::MembershipsChanged => "user.memberships.changed",
            Self::Changed => "user.changed",
            Self::Disabled => "user.disabled",
            Self::Enabled => "user.enabled",
            Self::Erased => "user.erased",
        }
    }

    fn named(word: &str) -> Result<Self, Wrong> {
        let words = Self::ALL.map(Self::word);
        let found = Self::ALL.into_iter().find(|event| event.word() == word);
        found.ok_or_else(|| Wrong { expected: alternatives(words), nearest: nearest(word, words) })
    }
}

/// Bytes of a secret (Standard Webhooks 1.0.0, "Signature scheme").
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Secrets of one receiver at most: a rotation needs two.
const MOST_SECRETS: usize = 4;
/// What a secret begins with, so that people see what it is.
pub const SECRET_PREFIX: &str = "whsec_";
/// A request takes no longer in any case (`ports/http.rs`).
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads every `[[webhook]]`. `providers`: those that the file declares.
pub fn read(root: &Section<'_>, providers: &[&ProviderName], limits: &Limits) -> Vec<Webhook> {
    let mut webhooks: Vec<Webhook> = Vec::new();
    for section in root.sections("webhook") {
        let name = section.required("name", "audit");
        let url = section.required("url", "https://hooks.example.com/loginsync");
        let url = url.and_then(|text| section.parse("url", text, values::endpoint)).map(|found| found.value);
        let secrets = secrets(&section);
        let events = section.list("events", false, Event::named);
        if section.is_empty_list("events")
            && let Some(span) = section.written("events")
        {
            section.raise(&span, "events", "is empty; expected at least one event, or no such key for all of them");
        }
        let filter = filter(&section, providers);
        let ca_file = files::checked_file(&section, "ca_file", |bytes| files::certificates(bytes).map(drop));
        if let (Some(url), Some(file)) = (&url, &ca_file)
            && url.scheme() != "https"
        {
            section.raise(&file.span, "ca_file", "expected an https `url` beside it");
        }
        let timeout = section.duration("timeout", LONGEST_TIMEOUT, Duration::from_millis(100)..=LONGEST_TIMEOUT);
        let before_entry = before_entry(&section, limits);
        section.finish();
        let Some(name) = name else { continue };
        if let Err(why) = valid_name(name.value) {
            section.raise(&name.span, "name", format!("found `{}`; {why}", shown(name.value)));
            continue;
        }
        if webhooks.iter().any(|webhook| webhook.name.eq_ignore_ascii_case(name.value)) {
            section.raise(&name.span, "name", format!("a receiver `{}` was declared before", shown(name.value)));
            continue;
        }
        let (Some(url), Some(secrets)) = (url, secrets) else { continue };
        webhooks.push(Webhook {
            name: name.value.to_owned(),
            url,
            secrets,
            events: events.map_or_else(|| Event::ALL.into(), |events| events.into_iter().collect()),
            filter,
            ca_file: ca_file.map(|file| file.value),
            timeout,
            before_entry,
        });
    }
    webhooks
}

/// `deliver` and what goes with it.
fn before_entry(section: &Section<'_>, limits: &Limits) -> Option<BeforeEntry> {
    let is_before = section.word("deliver", &[("after-entry", false), ("before-entry", true)], false);
    let longest = limits.login_timeout / 2;
    let usual = Duration::from_secs(2).min(longest);
    let timeout = section.duration("entry_timeout", usual, Duration::from_millis(50)..=longest);
    let words = [
        ("refuse-if-revoking", Unconfirmed::RefuseIfRevoking),
        ("refuse", Unconfirmed::Refuse),
        ("enter", Unconfirmed::Enter),
    ];
    let when_unconfirmed = section.word("when_unconfirmed", &words, Unconfirmed::RefuseIfRevoking);
    for key in ["entry_timeout", "when_unconfirmed"] {
        if let (Some(span), false) = (section.written(key), is_before) {
            section.raise(&span, key, "is of use with `deliver = \"before-entry\"` alone");
        }
    }
    is_before.then_some(BeforeEntry { timeout, when_unconfirmed })
}

fn filter(section: &Section<'_>, providers: &[&ProviderName]) -> Filter {
    let mut of_providers = BTreeSet::new();
    for name in section.texts("providers", false).unwrap_or_default() {
        match providers.iter().find(|provider| provider.as_str() == name.value) {
            Some(provider) => drop(of_providers.insert((*provider).clone())),
            None => {
                let declared = providers.iter().map(|provider| provider.as_str());
                section.context.raise_undeclared(&name, &section.key("providers"), "provider", "", declared);
            }
        }
    }
    let group = |text: &str| GroupName::parse(text).map_err(|why| Wrong::expected(format!("a group; it {why}")));
    let role = |text: &str| RoleName::parse(text).map_err(|why| Wrong::expected(format!("a role; it {why}")));
    Filter {
        providers: of_providers,
        groups: section.list("groups", false, group).map(|groups| groups.into_iter().collect()),
        roles: section.list("roles", false, role).map(|roles| roles.into_iter().collect()),
    }
}

/// The secrets of a file or a variable, one a line; none where neither is named.
fn secrets(section: &Section<'_>) -> Option<Vec<Secret>> {
    let named = ["secret_file", "secret_env"].iter().any(|key| section.written(key).is_some());
    let Some(found) = files::secret(section, "secret_file", "secret_env") else {
        return (!named).then(Vec::new);
    };
    let complain = |span: &Range<usize>, what: String| {
        let expected = "expected lines of `whsec_` and 24 to 64 bytes in base64";
        section.context.raise(span, section.name.clone(), format!("{what}; {expected}"));
    };
    let Ok(text) = std::str::from_utf8(&found.value) else {
        complain(&found.span, String::from("the secrets are not text"));
        return None;
    };
    let (mut secrets, mut is_whole) = (Vec::new(), true);
    for (line, text) in (1..).zip(text.lines().map(str::trim)).filter(|(_, text)| !text.is_empty()) {
        let bytes = text.strip_prefix(SECRET_PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
        match bytes.map(Zeroizing::new).filter(|bytes| SECRET_BYTES.contains(&bytes.len())) {
            Some(bytes) => secrets.push(Secret::new(bytes.to_vec())),
            None => {
                complain(&found.span, format!("line {line} is not a webhook secret"));
                is_whole = false;
            }
        }
    }
    if is_whole && !(1..=MOST_SECRETS).contains(&secrets.len()) {
        complain(&found.span, format!("there are {} secrets; expected 1 to {MOST_SECRETS}", secrets.len()));
        is_whole = false;
    }
    is_whole.then_some(secrets)
}
