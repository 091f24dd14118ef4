//! What is left to do after a change of the rules.
//!
//! A change that ends grants of many people writes down which, and is done. From that moment every record is read less what
//! ends, so that no user holds it any longer; a sweep then writes the records again, one after another.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, MappingId, ProviderName, RoleName, Target};
use crate::plan::{Grant, Source};
use crate::privilege::Hand;
use crate::record::{Bound, Deny, Holding, Record};

/// What a change of the rules has left to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Mappings whose grants end.
    pub mappings: BTreeSet<MappingId>,
    /// Targets of which the grants end that no administrator vouches for.
    pub unvouched: Vec<Ending>,
    /// Who is denied the first is denied the second.
    pub bound: Vec<(Target, Target)>,
    /// Providers with another lease: when something ends has to be noted again.
    pub leases: BTreeSet<ProviderName>,
}

/// Grants of one target that end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub target: Target,
    /// Grants by hand of which it is not known with which right they were made end as well.
    pub unknown: bool,
    /// Mappings of which the grants of this target end.
    pub mappings: BTreeSet<MappingId>,
}

impl Ending {
    fn ends(&self, source: &Source, holding: &Holding) -> bool {
        match source {
            Source::Assigned => match Hand::of(holding.as_admin) {
                Hand::Lesser => true,
                Hand::Unknown => self.unknown,
                Hand::Admin => false,
            },
            Source::Mapped { mapping, .. } => self.mappings.contains(mapping),
        }
    }
}

impl Work {
    pub fn is_empty(&self) -> bool {
        let Self { mappings, unvouched, bound, leases } = self;
        mappings.is_empty() && unvouched.is_empty() && bound.is_empty() && leases.is_empty()
    }

    /// Does it to one record. `true` where that changed anything.
    pub fn carry_out(&self, record: &mut Record) -> bool {
        let before = record.holdings.len();
        if !(self.mappings.is_empty() && self.unvouched.is_empty()) {
            record.holdings.retain(|grant, holding| !self.ends(grant, holding));
        }
        let mut changed = record.holdings.len() < before;
        for (from, to) in &self.bound {
            let Some(deny) = record.denies.get(from).cloned() else { continue };
            changed |= bind(record, to, deny);
        }
        changed
    }

    fn ends(&self, Grant { target, source }: &Grant, holding: &Holding) -> bool {
        let by_mapping = matches!(source, Source::Mapped { mapping, .. } if self.mappings.contains(mapping));
        by_mapping || self.unvouched.iter().any(|ending| ending.target == *target && ending.ends(source, holding))
    }
}

fn bind(record: &mut Record, target: &Target, deny: Deny) -> bool {
    let before = record.denies.get(target).cloned();
    record.bind(&Bound { disabled: None, denies: [(target.clone(), deny)].into() });
    record.denies.get(target) != before.as_ref()
}

// ---------------------------------------------------------------------------------------------------------- written down

#[derive(Serialize, Deserialize)]
struct Text {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mappings: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unvouched: Vec<EndingText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bound: Vec<(Name, Name)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    leases: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct EndingText {
    target: Name,
    unknown: bool,
    mappings: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Group(String),
    Role(String),
}

impl From<&Target> for Name {
    fn from(target: &Target) -> Self {
        match target {
            Target::Group(name) => Self::Group(name.to_string()),
            Target::Role(name) => Self::Role(name.to_string()),
        }
    }
}

impl Name {
    fn target(&self) -> Option<Target> {
        match self {
            Self::Group(name) => GroupName::parse(name).ok().map(Target::Group),
            Self::Role(name) => RoleName::parse(name).ok().map(Target::Role),
        }
    }
}

impl Work {
    /// As JSON.
    pub fn text(&self) -> String {
        let ids = |mappings: &BTreeSet<MappingId>| mappings.iter().map(ToString::to_string).collect();
        let text = Text {
            mappings: ids(&self.mappings),
            unvouched: self
                .unvouched
                .iter()
                .map(|Ending { target, unknown, mappings }| EndingText {
                    target: target.into(),
                    unknown: *unknown,
                    mappings: ids(mappings),
                })
                .collect(),
            bound: self.bound.iter().map(|(from, to)| (from.into(), to.into())).collect(),
            leases: self.leases.iter().map(ToString::to_string).collect(),
        };
        // Lists of texts always have a JSON text.
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// Reads what [`Self::text`] writes; `None` where it is something else.
    pub fn read(text: &str) -> Option<Self> {
        let Text { mappings, unvouched, bound, leases } = serde_json::from_str(text).ok()?;
        let ids =
            |texts: Vec<String>| texts.iter().map(|text| MappingId::from_digits(text)).collect::<Option<BTreeSet<_>>>();
        let ending = |EndingText { target, unknown, mappings }| {
            Some(Ending { target: target.target()?, unknown, mappings: ids(mappings)? })
        };
        Some(Self {
            mappings: ids(mappings)?,
            unvouched: unvouched.into_iter().map(ending).collect::<Option<_>>()?,
            bound: bound
                .iter()
                .map(|(from, to): &(Name, Name)| Some((from.target()?, to.target()?)))
                .collect::<Option<_>>()?,
            leases: leases.iter().map(|name| ProviderName::parse(name).ok()).collect::<Option<_>>()?,
        })
    }
}
