//! What of the mappings a list call asks for.
//!
//! Several conditions separated by commas must all be there. `*` stands for any name or any value, whole.

use std::str::FromStr;

use utoipa::IntoParams;

use super::Problem;
use super::body::MappingObject;

/// Parameters of a list call; others are ignored, since clients send paging that OneLogin does not know either.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "for the document alone")]
pub struct Parameters {
    /// `true` by default; `false` lists the disabled ones alone.
    enabled: Option<bool>,
    /// `source:value`, several separated by commas.
    has_condition: Option<String>,
    /// `builtin`, `custom` or `none`.
    has_condition_type: Option<String>,
    /// `action:value`, several separated by commas.
    has_action: Option<String>,
    /// `builtin`, `custom` or `none`.
    has_action_type: Option<String>,
}

pub struct Filter {
    enabled: bool,
    conditions: Vec<(String, String)>,
    condition_type: Option<Type>,
    actions: Vec<(String, String)>,
    action_type: Option<Type>,
}

#[derive(Clone, Copy)]
enum Type {
    Builtin,
    Custom,
    None,
}

impl FromStr for Type {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.to_ascii_lowercase().as_str() {
            "builtin" => Ok(Self::Builtin),
            "custom" => Ok(Self::Custom),
            "none" => Ok(Self::None),
            _ => Err(()),
        }
    }
}

impl Type {
    fn takes<'n>(self, mut names: impl Iterator<Item = &'n str>) -> bool {
        let custom = |name: &str| name.trim_start_matches("set_").starts_with("custom_attribute_");
        match self {
            Self::Builtin => names.any(|name| !custom(name)),
            Self::Custom => names.any(custom),
            Self::None => names.next().is_none(),
        }
    }
}

impl Filter {
    pub fn parse(query: &str) -> Result<Self, Problem> {
        let mut filter = Self {
            enabled: true,
            conditions: Vec::new(),
            condition_type: None,
            actions: Vec::new(),
            action_type: None,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let wrong = || Problem::field(&name, format!("Invalid value: {value}"));
            // Clients of one language write `True`.
            match &*name {
                _ if value.is_empty() => {}
                "enabled" => filter.enabled = value.to_ascii_lowercase().parse().map_err(|_| wrong())?,
                "has_condition" => filter.conditions = pairs(&value).ok_or_else(wrong)?,
                "has_condition_type" => filter.condition_type = Some(value.parse().map_err(|()| wrong())?),
                "has_action" => filter.actions = pairs(&value).ok_or_else(wrong)?,
                "has_action_type" => filter.action_type = Some(value.parse().map_err(|()| wrong())?),
                _ => {}
            }
        }
        Ok(filter)
    }

    pub fn takes(&self, object: &MappingObject) -> bool {
        let sources = || object.conditions.iter().map(|condition| condition.source.as_str());
        let names = || object.actions.iter().map(|action| action.action.as_str());
        let condition = |(source, value): &(String, String)| {
            object.conditions.iter().any(|one| is(source, &one.source) && is(value, &one.value))
        };
        let action = |(name, value): &(String, String)| {
            object.actions.iter().any(|one| is(name, &one.action) && one.value.iter().any(|own| is(value, own)))
        };
        object.enabled == self.enabled
            && self.conditions.iter().all(condition)
            && self.actions.iter().all(action)
            && self.condition_type.is_none_or(|wanted| wanted.takes(sources()))
            && self.action_type.is_none_or(|wanted| wanted.takes(names()))
    }
}

fn is(wanted: &str, found: &str) -> bool {
    wanted == "*" || wanted == found
}

fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |item: &str| item.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    text.split(',').map(pair).collect()
}
