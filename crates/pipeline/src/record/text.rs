//! A record as text: JSON with names of its own, and a version.
//!
//! It is in two parts, since every login writes the first and few write the second.
//!
//! ```text
//! logins   {"version":1,"logins":{"google":{"issued_at":…,"last_login_at":…,"renewed_at":…}}}
//! rest     {"version":1,"holdings":[{"target":7,"provider":"google","mapping":"…","granted_at":…}],"denies":[…],…}
//! ```
//!
//! Groups and roles are named by number, so that renaming one touches no record ([`Names`]). A member that this version does
//! not know stays where it is; a record of a later version is not read, so that nothing of it is lost.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::names::Names;
use super::{Deny, Disabled, Holding, ProviderLogin, Read, Record, RecordedClaim, RecordedState, Rest, Stopped};
use crate::faults;
use crate::ids::{GroupName, MappingId, ProviderName, RoleName, Target, Timestamp};
use crate::plan::{Grant, Source};

/// The newest version, which is written where nothing says otherwise.
const VERSION: u32 = 1;

/// Which versions are written and read. Where several processes share the texts, none writes what another cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub written: u32,
    /// The newest that is read.
    pub read: u32,
}

impl Default for Versions {
    fn default() -> Self {
        Self { written: VERSION, read: VERSION }
    }
}

/// Why a text cannot be read as a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it is of version {0}, which a newer loginsync has written; this one knows {VERSION}")]
    Newer(u32),
    #[error("{0}")]
    Fault(String),
}

impl Record {
    /// Groups and roles that the record names by number.
    pub fn numbered(&self) -> impl Iterator<Item = &Target> {
        let held = self.holdings.keys().map(|grant| &grant.target);
        held.chain(self.counted.keys().map(|(_, target)| target))
    }
}

/// Declares a JSON object whose unknown members are kept.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $($member:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Default)]
        struct $name {
            $($member: Option<$type>,)*
            rest: Rest,
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Members;
                impl<'de> Visitor<'de> for Members {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut object = $name::default();
                        while let Some(Key(key)) = map.next_key()? {
                            match &*key {
                                $(stringify!($member) => object.$member = map.next_value()?,)*
                                _ => {
                                    object.rest.insert(key.into_owned(), map.next_value()?);
                                }
                            }
                        }
                        Ok(object)
                    }
                }
                deserializer.deserialize_map(Members)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                $(if let Some(value) = &self.$member {
                    map.serialize_entry(stringify!($member), value)?;
                })*
                for (name, value) in &self.rest {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    };
}

/// The name of a member, without a copy where there is no escape in it.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

object!(
    /// The part that every login writes.
    Logins { version: u32, logins: BTreeMap<String, LoginText> }
);
object!(LoginText { issued_at: i64, last_login_at: i64, renewed_at: i64 });
object!(
    /// The part that a login seldom changes.
    Rarely {
        version: u32,
        holdings: Vec<HoldingText>,
        denies: Vec<DenyText>,
        claims: BTreeMap<String, Vec<ClaimText>>,
        counted: Vec<CountedText>,
        disabled: DisabledText,
        stopped: StoppedText,
    }
);
object!(HoldingText {
    target: i64,
    provider: Text,
    mapping: Identity,
    granted_at: i64,
    granted_by: String,
    as_admin: bool,
    lease_from: i64,
    held_at: i64,
});
object!(DenyText { target: i64, name: String, kind: String, at: i64, by: String, reason: String, until: i64 });
object!(ClaimText { name: String, read: String, read_before: String, state: StateText, values: Vec<String> });
object!(CountedText { provider: String, target: i64, began_at: i64 });
object!(DisabledText { at: i64, mapping: Identity, label: String });
object!(StoppedText { at: i64, mapping: Identity, label: String, provider: String });

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum StateText {
    Values,
    Empty,
    Missing,
    Undecided,
}

/// The name of a provider.
struct Text(ProviderName);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Key(text) = Key::deserialize(deserializer)?;
        ProviderName::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

/// Which mapping, in hexadecimal digits.
#[derive(Clone, Copy)]
struct Identity(MappingId);

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Key(text) = Key::deserialize(deserializer)?;
        MappingId::from_digits(&text).map(Self).ok_or_else(|| D::Error::custom("expected 32 hexadecimal digits"))
    }
}

impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.digits(&mut [0; 32]))
    }
}

// ------------------------------------------------------------------------------------------------------------- written

/// The part of a record that every login writes.
pub fn logins(record: &Record, versions: Versions) -> String {
    let login = |(provider, login): (&ProviderName, &ProviderLogin)| {
        let ProviderLogin { issued_at, last_login_at, renewed_at } = login;
        let text = LoginText {
            issued_at: Some(issued_at.0),
            last_login_at: Some(last_login_at.0),
            renewed_at: renewed_at.map(|at| at.0),
            rest: Rest::new(),
        };
        (provider.to_string(), text)
    };
    let logins = record.logins.iter().map(login).collect();
    written(&Logins { version: Some(versions.written), logins: Some(logins), rest: Rest::new() })
}

/// Whether the part that a login seldom changes is the same in two records.
pub fn is_same(one: &Record, other: &Record) -> bool {
    one.holdings == other.holdings
        && one.denies == other.denies
        && one.claims == other.claims
        && one.counted == other.counted
        && one.disabled == other.disabled
        && one.stopped == other.stopped
        && one.rest == other.rest
}

/// The part of a record that a login seldom changes. Whatever [`Record::numbered`] names must have a number.
pub fn rarely(record: &Record, names: &Names, versions: Versions) -> String {
    let Record { disabled, stopped, holdings, denies, claims, counted, rest, .. } = record;
    let text = Rarely {
        version: Some(versions.written),
        holdings: some(holdings.iter().filter_map(|(grant, holding)| holding_text(grant, holding, names)).collect()),
        denies: some(denies.iter().map(|(target, deny)| deny_text(target, deny, names)).collect()),
        claims: Some(claims.iter().map(|(provider, claims)| (provider.to_string(), claims_text(claims))).collect())
            .filter(|claims: &BTreeMap<_, _>| !claims.is_empty()),
        counted: some(
            counted
                .iter()
                .filter_map(|((provider, target), began_at)| {
                    Some(CountedText {
                        provider: Some(provider.to_string()),
                        target: Some(names.number(target)?),
                        began_at: Some(began_at.0),
                        rest: Rest::new(),
                    })
                })
                .collect(),
        ),
        disabled: disabled.as_ref().map(|Disabled { at, by }| DisabledText {
            at: Some(at.0),
            mapping: by.as_ref().map(|(mapping, _)| Identity(*mapping)),
            label: by.as_ref().map(|(_, label)| label.clone()),
            rest: Rest::new(),
        }),
        stopped: stopped.as_ref().map(|Stopped { mapping, label, provider, at }| StoppedText {
            at: Some(at.0),
            mapping: Some(Identity(*mapping)),
            label: Some(label.clone()),
            provider: provider.as_ref().map(ToString::to_string),
            rest: Rest::new(),
        }),
        rest: rest.clone(),
    };
    written(&text)
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn written(value: &impl Serialize) -> String {
    // Objects of texts and numbers always have a JSON text.
    serde_json::to_string(value).unwrap_or_default()
}

fn holding_text(Grant { target, source }: &Grant, holding: &Holding, names: &Names) -> Option<HoldingText> {
    let Holding { granted_at, granted_by, as_admin, lease_from, held_at, rest } = holding;
    let (provider, mapping) = match source {
        Source::Assigned => (None, None),
        Source::Mapped { provider, mapping } => (Some(Text(provider.clone())), Some(Identity(*mapping))),
    };
    Some(HoldingText {
        target: Some(names.number(target)?),
        provider,
        mapping,
        granted_at: Some(granted_at.0),
        granted_by: Some(granted_by.clone()).filter(|by| !by.is_empty()),
        as_admin: *as_admin,
        lease_from: lease_from.map(|at| at.0),
        held_at: held_at.map(|at| at.0),
        rest: rest.clone(),
    })
}

fn deny_text(target: &Target, deny: &Deny, names: &Names) -> DenyText {
    let Deny { at, by, reason, until, rest } = deny;
    DenyText {
        target: names.number(target),
        kind: Some(target.kind().to_owned()),
        name: Some(target.name().to_owned()),
        at: Some(at.0),
        by: Some(by.clone()),
        reason: Some(reason.clone()),
        until: until.map(|until| until.0),
        rest: rest.clone(),
    }
}

fn claims_text(claims: &[RecordedClaim]) -> Vec<ClaimText> {
    let text = |RecordedClaim { name, read, state, values }: &RecordedClaim| {
        let (read, read_before) = match read {
            Read::By(text) => (Some(text.clone()), None),
            Read::Before(text) => (None, Some(text.clone())),
        };
        let state = match state {
            RecordedState::Values => StateText::Values,
            RecordedState::Empty => StateText::Empty,
            RecordedState::Missing => StateText::Missing,
            RecordedState::Undecided => StateText::Undecided,
        };
        ClaimText {
            name: Some(name.clone()),
            read,
            read_before,
            state: Some(state),
            values: some(values.clone()),
            rest: Rest::new(),
        }
    };
    claims.iter().map(text).collect()
}

// ---------------------------------------------------------------------------------------------------------------- read

fn parsed<T: DeserializeOwned>(
    text: &str,
    Versions { read, .. }: Versions,
    version: impl Fn(&T) -> Option<u32>,
) -> Result<T, Unreadable> {
    let fault = |error: serde_json::Error| {
        // What a later version wrote may be of any shape.
        let newer = serde_json::from_str::<Versioned>(text).ok().map(|it| it.version).filter(|it| *it > read);
        newer.map_or_else(|| Unreadable::Fault(faults::json(&error)), Unreadable::Newer)
    };
    let object: T = serde_json::from_str(text).map_err(fault)?;
    match version(&object) {
        Some(known) if (1..=read).contains(&known) => Ok(object),
        Some(newer) if newer > read => Err(Unreadable::Newer(newer)),
        _ => Err(Unreadable::Fault("it has no version that is known".into())),
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn missing(what: &str) -> Unreadable {
    Unreadable::Fault(format!("`{what}` is missing"))
}

fn need<T>(value: Option<T>, what: &str) -> Result<T, Unreadable> {
    value.ok_or_else(|| missing(what))
}

fn provider_of(text: &str) -> Result<ProviderName, Unreadable> {
    ProviderName::parse(text).map_err(|error| Unreadable::Fault(format!("the provider `{text}` {error}")))
}

/// Reads the part that every login writes into a record.
///
/// # Errors
/// When the text is none, or of a later version.
pub fn read_logins(record: &mut Record, text: &str, versions: Versions) -> Result<(), Unreadable> {
    let Logins { logins, .. } = parsed(text, versions, |logins: &Logins| logins.version)?;
    for (provider, LoginText { issued_at, last_login_at, renewed_at, .. }) in logins.unwrap_or_default() {
        let login = ProviderLogin {
            issued_at: Timestamp(need(issued_at, "issued_at")?),
            last_login_at: Timestamp(need(last_login_at, "last_login_at")?),
            renewed_at: renewed_at.map(Timestamp),
        };
        record.logins.insert(provider_of(&provider)?, login);
    }
    Ok(())
}

/// Reads the other part into a record. Grants of what is gone are left out.
///
/// # Errors
/// When the text is none, is of a later version, or names a number that was never given.
pub fn read_rarely(record: &mut Record, text: &str, names: &Names, versions: Versions) -> Result<(), Unreadable> {
    let object = parsed(text, versions, |object: &Rarely| object.version)?;
    let Rarely { version: _, holdings, denies, claims, counted, disabled, stopped, rest } = object;
    for text in holdings.unwrap_or_default() {
        read_holding(record, text, names)?;
    }
    for text in denies.unwrap_or_default() {
        read_deny(record, text, names)?;
    }
    for (provider, claims) in claims.unwrap_or_default() {
        let claims = claims.into_iter().map(read_claim).collect::<Result<_, _>>()?;
        record.claims.insert(provider_of(&provider)?, claims);
    }
    for CountedText { provider, target, began_at, .. } in counted.unwrap_or_default() {
        if let Some(target) = names.target(need(target, "counted.target")?) {
            let key = (provider_of(&need(provider, "counted.provider")?)?, target.clone());
            record.counted.insert(key, Timestamp(need(began_at, "counted.began_at")?));
        }
    }
    if let Some(DisabledText { at, mapping, label, .. }) = disabled {
        let by = mapping.map(|Identity(mapping)| (mapping, label.unwrap_or_default()));
        record.disabled = Some(Disabled { at: Timestamp(need(at, "disabled.at")?), by });
    }
    if let Some(StoppedText { at, mapping, label, provider, .. }) = stopped {
        record.stopped = Some(Stopped {
            mapping: need(mapping, "stopped.mapping")?.0,
            label: label.unwrap_or_default(),
            provider: provider.map(|provider| provider_of(&provider)).transpose()?,
            at: Timestamp(need(at, "stopped.at")?),
        });
    }
    record.rest = rest;
    Ok(())
}

fn read_holding(record: &mut Record, text: HoldingText, names: &Names) -> Result<(), Unreadable> {
    let HoldingText { target, provider, mapping, granted_at, granted_by, as_admin, lease_from, held_at, rest } = text;
    let number = need(target, "holdings.target")?;
    let Some(target) = names.target(number) else {
        return match names.is_gone(number) {
            true => Ok(()),
            false => Err(Unreadable::Fault(format!("nothing has the number {number}"))),
        };
    };
    let source = match (provider, mapping) {
        (None, None) => Source::Assigned,
        (Some(Text(provider)), Some(Identity(mapping))) => Source::Mapped { provider, mapping },
        _ => return Err(Unreadable::Fault("a grant has a provider or a mapping; expected both or none".into())),
    };
    let holding = Holding {
        granted_at: Timestamp(need(granted_at, "holdings.granted_at")?),
        granted_by: granted_by.unwrap_or_default(),
        as_admin,
        lease_from: lease_from.map(Timestamp),
        held_at: held_at.map(Timestamp),
        rest,
    };
    record.holdings.insert(Grant { target: target.clone(), source }, holding);
    Ok(())
}

/// A deny binds the name that it was written under, and what it was of under whatever name that has now.
fn read_deny(record: &mut Record, text: DenyText, names: &Names) -> Result<(), Unreadable> {
    let DenyText { target, kind, name, at, by, reason, until, rest } = text;
    let deny = Deny {
        at: Timestamp(need(at, "denies.at")?),
        by: by.unwrap_or_default(),
        reason: reason.unwrap_or_default(),
        until: until.map(Timestamp),
        rest,
    };
    let name = need(name, "denies.name")?;
    let written = match need(kind, "denies.kind")?.as_str() {
        "group" => GroupName::parse(&name).map(Target::Group),
        "role" => RoleName::parse(&name).map(Target::Role),
        other => return Err(Unreadable::Fault(format!("`{other}` is no kind; expected `group` or `role`"))),
    };
    let written = written.map_err(|error| Unreadable::Fault(format!("the name `{name}` {error}")))?;
    if let Some(now) = target.and_then(|number| names.target(number)).filter(|now| **now != written) {
        record.denies.entry(now.clone()).or_insert_with(|| deny.clone());
    }
    record.denies.insert(written, deny);
    Ok(())
}

fn read_claim(text: ClaimText) -> Result<RecordedClaim, Unreadable> {
    let ClaimText { name, read, read_before, state, values, .. } = text;
    Ok(RecordedClaim {
        name: need(name, "claims.name")?,
        read: match read {
            Some(read) => Read::By(read),
            None => Read::Before(read_before.unwrap_or_default()),
        },
        state: match need(state, "claims.state")? {
            StateText::Values => RecordedState::Values,
            StateText::Empty => RecordedState::Empty,
            StateText::Missing => RecordedState::Missing,
            StateText::Undecided => RecordedState::Undecided,
        },
        values: values.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        names.insert(7, Target::Group(GroupName::parse("Staff").unwrap()), false);
        names.insert(8, Target::Group(GroupName::parse("Old").unwrap()), true);
        names
    }

    fn read(text: &str, names: &Names) -> Result<Record, Unreadable> {
        let mut record = Record::new(Timestamp(0));
        read_rarely(&mut record, text, names, Versions::default())?;
        Ok(record)
    }

    const GRANT: &str = r#"{"target":7,"provider":"p","mapping":"00112233445566778899aabbccddeeff","granted_at":5"#;

    #[test]
    fn what_is_not_known_survives_a_rewrite() {
        let text = format!(r#"{{"version":1,"holdings":[{GRANT},"later":[1]}}],"mood":{{"of":"the day"}}}}"#);
        let record = read(&text, &names()).unwrap();
        assert_eq!(rarely(&record, &names(), Versions::default()), text);
    }

    #[test]
    fn a_later_version_is_not_read() {
        for text in [r#"{"version":2}"#, r#"{"version":2,"holdings":{"of":"another shape"}}"#] {
            assert_eq!(read(text, &names()), Err(Unreadable::Newer(2)));
        }
        assert!(matches!(read("{}", &names()), Err(Unreadable::Fault(_))));
    }

    #[test]
    fn a_rename_touches_no_record_and_what_is_gone_grants_nothing() {
        let text = format!(
            r#"{{"version":1,"holdings":[{GRANT}}},{}}}],"denies":[{{"target":7,"name":"Staff","kind":"group","at":1,"by":"x","reason":"y"}}]}}"#,
            GRANT.replace(":7,", ":8,")
        );
        let mut names = names();
        names.insert(7, Target::Group(GroupName::parse("Crew").unwrap()), false);
        let record = read(&text, &names).unwrap();
        let held: Vec<&str> = record.holdings.keys().map(|grant| grant.target.name()).collect();
        let denied: Vec<&str> = record.denies.keys().map(Target::name).collect();
        assert_eq!((held, denied), (vec!["Crew"], vec!["Crew", "Staff"]));
        assert!(read(&text.replace("\"target\":7", "\"target\":99"), &names).is_err());
    }
}
