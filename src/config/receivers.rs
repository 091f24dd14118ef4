//! `[[webhook]]` and `[[scim]]`: the receivers of changes.

mod scim;
mod webhook;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

pub use self::scim::{Scim, ScimLogin, ScimUsers, UserNameSource};
pub use self::webhook::{Event, SECRET_PREFIX, Webhook};
use super::clients::valid_name;
use super::reader::{Section, Value, shown};
use super::values::{self, Wrong};
use super::{Limits, files};
use crate::pipeline::ids::{GroupName, ProviderName, RoleName};

/// A receiver of changes, of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverSettings {
    pub name: String,
    pub url: Url,
    pub filter: Filter,
    pub ca_file: Option<PathBuf>,
    /// For one request with its answer.
    pub timeout: Duration,
    /// Logins wait for it. `None`: they go on at once.
    pub before_entry: Option<BeforeEntry>,
    pub kind: ReceiverKind,
}

/// The ways to tell a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverKind {
    Webhook(Webhook),
    Scim(Scim),
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

/// What a receiver gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Users who have logged in through one of these; none: all users.
    pub providers: BTreeSet<ProviderName>,
    /// `None`: every group.
    pub groups: Option<BTreeSet<GroupName>>,
    /// `None`: every role.
    pub roles: Option<BTreeSet<RoleName>>,
}

/// A request takes no longer in any case (`ports/http.rs`).
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads every receiver. `providers`: those that the file declares.
pub fn read(root: &Section<'_>, providers: &[&ProviderName], limits: &Limits) -> Vec<ReceiverSettings> {
    let mut receivers: Vec<ReceiverSettings> = Vec::new();
    for (table, example) in
        [("webhook", "https://hooks.example.com/loginsync"), ("scim", "https://app.example.com/scim/v2")]
    {
        let is_webhook = table == "webhook";
        for section in root.sections(table) {
            let name = section.required("name", if is_webhook { "audit" } else { "app" });
            let url = section.required("url", example);
            let url = url.and_then(|text| section.parse("url", text, values::endpoint)).map(|found| found.value);
            let kind = match is_webhook {
                true => webhook::read(&section).map(ReceiverKind::Webhook),
                false => scim::read(&section, url.as_ref()).map(ReceiverKind::Scim),
            };
            let filter = filter(&section, providers, is_webhook);
            let ca_file = files::checked_file(&section, "ca_file", |bytes| files::certificates(bytes).map(drop));
            if let (Some(url), Some(file)) = (&url, &ca_file)
                && url.scheme() != "https"
            {
                section.raise(&file.span, "ca_file", "expected an https `url` in this section");
            }
            let timeout = section.duration("timeout", LONGEST_TIMEOUT, Duration::from_millis(100)..=LONGEST_TIMEOUT);
            let before_entry = before_entry(&section, limits);
            section.finish();
            let Some(name) = name else { continue };
            if let Err(why) = valid_name(name.value) {
                section.raise(&name.span, "name", format!("found `{}`; {why}", shown(name.value)));
                continue;
            }
            if receivers.iter().any(|receiver| receiver.name.eq_ignore_ascii_case(name.value)) {
                let message = format!("a receiver `{}` was declared before", shown(name.value));
                section.raise(&name.span, "name", message);
                continue;
            }
            let (Some(url), Some(filter), Some(kind)) = (url, filter, kind) else { continue };
            receivers.push(ReceiverSettings {
                name: name.value.to_owned(),
                url,
                filter,
                ca_file: ca_file.map(|file| file.value),
                timeout,
                before_entry,
                kind,
            });
        }
    }
    receivers
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
            section.raise(&span, key, "applies only with `deliver = \"before-entry\"`");
        }
    }
    is_before.then_some(BeforeEntry { timeout, when_unconfirmed })
}

/// `hears_of_roles`: whether it has a `roles` at all, and hears of every group unless it names some.
fn filter(section: &Section<'_>, providers: &[&ProviderName], hears_of_roles: bool) -> Option<Filter> {
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
    let groups = match hears_of_roles {
        true => section.list("groups", false, group).map(|groups| groups.into_iter().collect()),
        false => named_groups(section, group)?,
    };
    let roles = match hears_of_roles {
        true => section.list("roles", false, role).map(|roles| roles.into_iter().collect()),
        false => Some(BTreeSet::new()),
    };
    Some(Filter { providers: of_providers, groups, roles })
}

/// `groups`, which must be there: a list, or `"all"`, which is `Some(None)`.
fn named_groups(
    section: &Section<'_>,
    group: impl Fn(&str) -> Result<GroupName, Wrong>,
) -> Option<Option<BTreeSet<GroupName>>> {
    let expected = "expected `\"all\"`, or the groups whose members it gets, such as [\"Marketing\"]";
    match section.value("groups") {
        None => {
            let message = format!("missing in `{}`; {expected}", section.name);
            section.context.raise_absent(&section.span, section.key("groups"), message);
            None
        }
        Some((Value::Text("all"), _)) => Some(None),
        Some((Value::Text(other), span)) => {
            section.raise(&span, "groups", format!("found `{}`; {expected}", shown(other)));
            None
        }
        Some((_, span)) => {
            if section.is_empty_list("groups") {
                section.raise(&span, "groups", format!("is empty; {expected}"));
            }
            section.list("groups", false, group).map(|groups| Some(groups.into_iter().collect()))
        }
    }
}
