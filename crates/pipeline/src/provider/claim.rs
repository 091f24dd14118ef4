//! How one claim of a provider is read.

use std::sync::Arc;

use serde_json::Value;

use super::delimiter::Delimiter;
use super::selector::Selector;
use crate::ids::ClaimName;

/// How one claim of a provider is read.
#[derive(Debug, Clone)]
pub struct ClaimRule {
    /// The name by which mappings speak of it.
    pub name: ClaimName,
    pub selector: Selector,
    /// Where it is looked for, in this order; never empty.
    pub from: Vec<Source>,
    pub take: Take,
    /// Whether a text is a list.
    pub format: Format,
    /// `None`: values are not split and not trimmed.
    pub delimiter: Option<Delimiter>,
    /// Values that are distinguished names are reduced to the value of their first RDN.
    pub first_rdn: bool,
    /// Literal text that values lose at their front, such as the `/` of Keycloak's paths.
    pub strip_prefix: Option<Arc<str>>,
    pub when_missing: WhenMissing,
    /// What no mapping reads of it is worth counting, so that an operator learns what the provider sends.
    pub observe: bool,
}

impl ClaimRule {
    /// A claim of which nothing more is said than where it is.
    pub fn plain(name: ClaimName, selector: Selector, from: Vec<Source>) -> Self {
        Self {
            name,
            selector,
            from,
            take: Take::First,
            format: Format::Plain,
            delimiter: None,
            first_rdn: false,
            strip_prefix: None,
            when_missing: WhenMissing::Clear,
            observe: false,
        }
    }

    /// What of the rule shapes the values before mappings split them, as a text to compare: values that were read by
    /// another rule say nothing about this one. The words are kept in databases, so that none of them may change.
    pub fn reading(&self) -> String {
        let Self { selector, from, take, format, first_rdn, .. } = self;
        let from: Vec<&str> = from.iter().map(Source::recorded).collect();
        let take = match take {
            Take::First => "first",
            Take::Union => "union",
        };
        let mut text = format!("{}; from {}; take {take}", selector.recorded(), from.join(","));
        match format {
            Format::Plain => {}
            Format::Brackets => text.push_str("; format brackets"),
            Format::Json => text.push_str("; format json"),
        }
        if *first_rdn {
            text.push_str("; first rdn");
        }
        if let Some(delimiter) = self.torn_before() {
            text.push_str(&format!("; between {}", Value::from(delimiter.as_str())));
        }
        text
    }

    /// The same in the words of schema version 8 and earlier, for claims that were recorded then.
    pub fn reading_before(&self) -> String {
        let Self { selector, from, take, format, first_rdn, .. } = self;
        let from: Vec<&str> = from.iter().map(Source::recorded_before).collect();
        let take = match take {
            Take::First => "First",
            Take::Union => "Union",
        };
        let between = self
            .torn_before()
            .map_or_else(|| String::from("None"), |delimiter| format!("Some(Delimiter({:?}))", delimiter.as_str()));
        let told = format!("{} [{}] {take} {first_rdn} {between}", selector.recorded_before(), from.join(", "));
        match format {
            Format::Plain => told,
            Format::Brackets => told + " Brackets",
            Format::Json => told + " Json",
        }
    }

    /// What tears values apart before a mapping looks.
    fn torn_before(&self) -> Option<&Delimiter> {
        self.delimiter.as_ref().filter(|_| self.is_split())
    }

    /// Whether values are pieces already before a mapping looks: no delimiter of a mapping's own tears them.
    pub fn is_split(&self) -> bool {
        self.first_rdn || self.format != Format::Plain
    }
}

/// What a missing claim means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenMissing {
    /// The person has none of it. The default: several providers drop the claim with the last group.
    Clear,
    /// What was granted stays.
    Keep,
    /// The login is refused.
    Refuse,
}

/// A payload that a claim can be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// What the login itself is: the ID token, the SAML assertion.
    Assertion,
    /// The userinfo response (OIDC Core 5.3).
    Userinfo,
    /// The access token, where it is a JWT.
    AccessToken,
}

impl Source {
    /// The word for it in recorded claims.
    pub(super) fn recorded(&self) -> &'static str {
        match self {
            Self::Assertion => "assertion",
            Self::Userinfo => "userinfo",
            Self::AccessToken => "access token",
        }
    }

    /// The word in those of schema version 8 and earlier.
    pub(super) fn recorded_before(&self) -> &'static str {
        match self {
            Self::Assertion => "Assertion",
            Self::Userinfo => "Userinfo",
            Self::AccessToken => "AccessToken",
        }
    }
}

/// How several sources make one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    First,
    Union,
}

/// How a text says that it is a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Not at all: a text is a value.
    #[default]
    Plain,
    /// `[a, b]`, as Amazon Cognito writes a list that another provider sent. A text without brackets is one value.
    Brackets,
    /// A JSON text: a list, or one value.
    Json,
}
