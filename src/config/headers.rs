//! `[headers]`: under which names, and in which form, the app learns who sent a request.
//!
//! Apps that read groups from a header differ in two ways that matter: by what they split the list, and what they take a
//! missing header for. Most take it for "no change", so that the last group is never taken away. `no_groups` gives such an
//! app a list that is not empty.

mod preset;

use std::collections::HashMap;
use std::fmt;

use http::HeaderName;

pub use self::preset::{HeaderPreset, Names, Roles};
use super::reader::Section;
use super::values::{self, Wrong};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::provider::Mode;
use crate::pipeline::reading::name::CookieNames;

#[derive(Debug, Clone)]
pub struct Headers {
    pub preset: HeaderPreset,
    /// Between the names of a list.
    pub delimiter: char,
    /// Sent in place of an empty list of groups or roles. `None`: the header is left out.
    pub no_groups: Option<String>,
    /// Of all identity headers together.
    pub max_bytes: usize,
    /// Names with `_` that reach the app though others may be read as theirs.
    pub allow_underscores: Vec<HeaderName>,
    /// What else reaches the app from a trusted proxy.
    pub trust: Vec<HeaderName>,
    /// Cookies of the app that it does not get back: those of a session of its own, which it would believe instead of the headers.
    pub drop_cookies: Vec<CookieNames>,
}

/// Why the headers cannot carry the name of a group or role: it would arrive as another, or as several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    MeansNone,
    Delimiter(char),
    Blank,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MeansNone => f.write_str(
                "is what the headers say if a user has no groups; expected another name, or another `headers.no_groups`",
            ),
            Self::Delimiter(delimiter) => write!(
                f,
                "holds `{delimiter}`, which separates names in the headers; expected another name, another \
                 `headers.delimiter`, or `headers.preset = \"loginsync\"`, which escapes it"
            ),
            Self::Blank => f.write_str("holds a blank, at which Grafana splits lists; expected another name"),
        }
    }
}

impl Headers {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let preset = section.word("preset", &HeaderPreset::ALL, HeaderPreset::Loginsync);
        let headers = Self {
            preset,
            delimiter: section.word("delimiter", &[(",", ','), ("|", '|')], preset.delimiter()),
            no_groups: section
                .parsed("no_groups", word_for_none)
                .map(|found| found.value)
                .or_else(|| preset.no_groups().map(str::to_owned)),
            max_bytes: section.size("max_bytes", 8 << 10, 256..=256 << 10),
            allow_underscores: section.list("allow_underscores", false, values::underscored_header).unwrap_or_default(),
            trust: section.list("trust", false, |text| trusted(text, preset)).unwrap_or_default(),
            drop_cookies: section.list("drop_cookies", false, cookie_names).unwrap_or_default(),
        };
        section.finish();
        headers
    }

    /// Why the name of a group or role, or an alias, cannot be sent to the app.
    pub fn unfit(&self, name: &str) -> Option<Unfit> {
        if self.preset == HeaderPreset::None {
            return None;
        }
        // Apps may compare names without case.
        if self.no_groups.as_ref().is_some_and(|word| word.eq_ignore_ascii_case(name)) {
            return Some(Unfit::MeansNone);
        }
        if self.preset == HeaderPreset::Loginsync {
            return None;
        }
        if name.contains(self.delimiter) {
            return Some(Unfit::Delimiter(self.delimiter));
        }
        (self.preset == HeaderPreset::Grafana && name.contains(char::is_whitespace)).then_some(Unfit::Blank)
    }
}

/// What `headers.drop_cookies` depends on elsewhere in the file.
pub(super) struct Sessions<'a> {
    /// Of every provider whose mode could be read.
    pub modes: &'a [Mode],
    /// The cookie that a session is bound to, and those whose tokens are read.
    pub read: &'a [(&'static str, &'a str)],
}

impl Headers {
    /// Checks which cookies are dropped, or takes the preset's: without them every request has to say who sends it.
    pub(super) fn settle_cookies(&mut self, section: &Section<'_>, beside: &Sessions<'_>) {
        let Some(span) = section.written("drop_cookies") else {
            // The app's own login may be what another mode relies on.
            if beside.modes.iter().all(|mode| mode.tells_at_each_request()) {
                let names = self.preset.session_cookies().iter();
                self.drop_cookies = names.filter_map(|name| CookieNames::parse(name)).collect();
            }
            return;
        };
        let is_bound = beside.read.iter().any(|(key, _)| *key == "app_session_cookie");
        if !self.drop_cookies.is_empty()
            && !beside.modes.iter().any(|mode| mode.tells_at_each_request())
            && !is_bound
            && !section.context.torn
        {
            let message = "applies only where each request tells the app who sends it; expected a provider of mode `relying-party` or \
                           `bearer`, or `identity = \"session\"`";
            section.raise(&span, "drop_cookies", message);
        }
        for (key, name) in beside.read {
            if let Some(names) = self.drop_cookies.iter().find(|names| names.has(name.as_bytes())) {
                let message = format!("`{names}` takes away `{name}`, which `{key}` needs; expected other cookies");
                section.raise(&span, "drop_cookies", message);
            }
        }
    }
}

/// A header that passes from a trusted proxy: none by which the app hears from us who a user is.
fn trusted(text: &str, preset: HeaderPreset) -> Result<HeaderName, Wrong> {
    let name = values::trusted_header(text)?;
    if Names::of(preset).is_some_and(|names| names.all().any(|own| name == own)) {
        return Err(Wrong::expected(format!(
            "another header: with `headers.preset = \"{}\"` only loginsync may set this one",
            preset.word()
        )));
    }
    Ok(name)
}

impl Headers {
    /// The names and aliases that the app is never told of, sorted, and why. Those of the file are faults of it, so they are of
    /// the store, made before the headers were set up as they are.
    pub fn untold(&self, rules: &RuleSet) -> Vec<(String, Unfit)> {
        let groups = rules.groups.keys().map(|name| ("group", name.as_str()));
        let roles = rules.roles.keys().map(|name| ("role", name.as_str()));
        let shown = rules.overlay.exposures.values().flat_map(HashMap::values);
        let aliases = shown.filter_map(|shown| Some(("alias", shown.alias.as_deref()?)));
        let all = groups.chain(roles).chain(aliases);
        let mut untold: Vec<_> =
            all.filter_map(|(kind, name)| Some((format!("{kind} `{name}`"), self.unfit(name)?))).collect();
        untold.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        untold.dedup();
        untold
    }
}

/// One cookie, or all whose names begin so.
fn cookie_names(text: &str) -> Result<CookieNames, Wrong> {
    let wrong =
        || Wrong::expected("the name of a cookie of the app, or how such names begin and `*`, such as `session_P*`");
    let name = values::cookie_name(text).map_err(|_| wrong())?;
    let is_beginning = |name: &str| !name.trim_end_matches('*').contains('*') && !name.ends_with("**");
    CookieNames::parse(&name).filter(|_| is_beginning(&name)).ok_or_else(wrong)
}

/// A word that no delimiter splits and no escaping changes.
fn word_for_none(text: &str) -> Result<String, Wrong> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(Wrong::expected("1 to 64 ASCII letters, digits, `-`, `_` or `.`, for instance `-`")),
    }
}
