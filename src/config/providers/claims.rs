//! What a provider's logins bring: `[provider.claims.NAME]`, and what its preset knows of it.

use std::sync::Arc;

use super::super::presets::{Defaults, PRESETS, PresetClaim};
use super::super::problem::{alternatives, nearest};
use super::super::reader::{Found, Section, Value, shown};
use super::super::values::Wrong;
use super::super::{Endpoint, Limits};
use super::SOURCES;
use crate::pipeline::claims::format::Format;
use crate::pipeline::claims::selector::Selector;
use crate::pipeline::claims::sources::{Source, Take};
use crate::pipeline::claims::split::Delimiter;
use crate::pipeline::claims::{ClaimRule, WhenMissing};
use crate::pipeline::ids::ClaimName;
use crate::pipeline::provider::Mode;

/// What the provider's vendor is known to do.
pub(super) fn preset(section: &Section<'_>, mode: Option<Mode>) -> Option<Defaults> {
    let names = || PRESETS.iter().map(|preset| preset.name);
    let text = section.text("preset")?;
    let Some(preset) = PRESETS.iter().find(|preset| preset.name == text.value) else {
        let message = format!("found `{}`; expected {}", shown(text.value), alternatives(names()));
        section.context.raise_near(&text.span, section.key("preset"), message, nearest(text.value, names()));
        return None;
    };
    let defaults = if mode?.is_saml() { preset.saml } else { preset.oidc };
    if defaults.is_none() {
        section.raise(
            &text.span,
            "preset",
            format!("`{}` is not a SAML identity provider; expected an OIDC mode", text.value),
        );
    }
    defaults
}

pub(super) fn claims(
    section: &Section<'_>,
    mode: Option<Mode>,
    preset: Option<Defaults>,
    default: &[Source],
    limits: &Limits,
) -> Vec<ClaimRule> {
    let known = preset.map(|preset| preset_claims(section, mode, preset, default)).unwrap_or_default();
    let mut claims: Vec<ClaimRule> = Vec::new();
    for (key, section) in section.section("claims").named_sections() {
        let preset = known.iter().find(|rule| rule.name.as_str() == key.value);
        let rule = claim(&key, &section, mode, preset, default, limits);
        section.finish();
        let Some(rule) = rule else { continue };
        let folded = key.value.to_lowercase();
        if let Some(first) = claims.iter().find(|first| first.name.as_str().to_lowercase() == folded) {
            let message =
                format!("claim `{}` of this provider has this name, case aside; expected another", first.name);
            section.context.raise(&key.span, section.name.clone(), message);
        }
        if let Some(known) = known.iter().find(|known| known.name.as_str().to_lowercase() == folded)
            && known.name != rule.name
        {
            let message =
                format!("the preset brings claim `{}`, the same case aside; expected that or another", known.name);
            section.context.raise(&key.span, section.name.clone(), message);
        }
        claims.push(rule);
    }
    let unwritten = |rule: &ClaimRule| !claims.iter().any(|written| written.name == rule.name);
    let unwritten: Vec<ClaimRule> = known.into_iter().filter(unwritten).collect();
    claims.extend(unwritten);
    claims
}

/// The claims that a preset brings: those of which the mode brings a source.
fn preset_claims(section: &Section<'_>, mode: Option<Mode>, preset: Defaults, default: &[Source]) -> Vec<ClaimRule> {
    let Some(mode) = mode else { return Vec::new() };
    let client_id = section.fields().find_map(|(key, value, _)| match value {
        Value::Text(text) if key.value == "client_id" => Some(text),
        _ => None,
    });
    let rule = |claim: &PresetClaim| {
        let brought = |source: &&Source| mode.brings().iter().any(|(_, brought)| *brought == **source);
        let from: Vec<Source> = match claim.from {
            [] => default.to_vec(),
            from => from.iter().filter(brought).copied().collect(),
        };
        if from.is_empty() {
            return None;
        }
        let selector = Selector::parse(&claim.name_for(client_id)).ok()?;
        Some(ClaimRule::plain(ClaimName::parse(claim.key).ok()?, selector, from))
    };
    preset.claims.iter().filter_map(rule).collect()
}

fn claim(
    key: &Found<&str>,
    section: &Section<'_>,
    mode: Option<Mode>,
    preset: Option<&ClaimRule>,
    default: &[Source],
    limits: &Limits,
) -> Option<ClaimRule> {
    let selected = section.text("name");
    let selector = match (&selected, preset) {
        (Some(text), _) => selector(section, "name", text, mode, Some(limits)),
        (None, Some(preset)) => Some(preset.selector.clone()),
        (None, None) => Some(Selector::Name(key.value.to_owned())),
    };
    let words = [("clear", WhenMissing::Clear), ("keep", WhenMissing::Keep), ("refuse", WhenMissing::Refuse)];
    let when_missing = section.word("when_missing", &words, WhenMissing::Clear);
    let delimiter = section.text("delimiter").and_then(|text| {
        delimiter(&text, limits).unwrap_or_else(|why| {
            section.raise(&text.span, "delimiter", why);
            None
        })
    });
    let (format, delimiter) = list_format(section, delimiter);
    let first_rdn = section.word("dn", &[("whole", false), ("first_rdn", true)], false);
    let strip_prefix = strip_prefix(section, limits);
    let observe = section.flag("observe", false);
    let from = sources(section, mode).unwrap_or_else(|| preset.map_or(default, |preset| &preset.from).to_vec());
    let take = section.word("take", &[("first", Take::First), ("union", Take::Union)], Take::First);
    let name = match ClaimName::parse(key.value) {
        Ok(name) => name,
        Err(why) => {
            section.context.raise(&key.span, section.name.clone(), format!("`{}` {why}", shown(key.value)));
            return None;
        }
    };
    if let Err(why) = within_limit(key.value, limits.claim_name, "claim_name") {
        section.context.raise(&key.span, section.name.clone(), why);
    }
    let selector = selector.unwrap_or_else(|| Selector::Name(key.value.to_owned()));
    Some(ClaimRule { name, selector, from, take, format, delimiter, first_rdn, strip_prefix, when_missing, observe })
}

/// Whether a text is a list, and what then stands between its elements.
fn list_format(section: &Section<'_>, delimiter: Option<Delimiter>) -> (Format, Option<Delimiter>) {
    let words = [("plain", Format::Plain), ("json", Format::Json), ("brackets", Format::Brackets)];
    let format = section.word("format", &words, Format::Plain);
    match (format, delimiter, section.written("delimiter")) {
        (Format::Json, Some(_), Some(span)) => {
            let message = "`format` is \"json\", whose elements are values already; expected none";
            section.raise(&span, "delimiter", message.to_owned());
            (format, None)
        }
        (Format::Brackets, None, _) => (format, Delimiter::parse(",").ok()),
        (_, delimiter, _) => (format, delimiter),
    }
}

/// Literal text in front of values.
fn strip_prefix(section: &Section<'_>, limits: &Limits) -> Option<Arc<str>> {
    let text = section.text("strip_prefix")?;
    match within_limit(text.value, limits.claim_value, "claim_value") {
        Ok(()) => (!text.value.is_empty()).then(|| Arc::from(text.value)),
        Err(why) => {
            section.raise(&text.span, "strip_prefix", why);
            None
        }
    }
}

/// Where a token holds a claim.
pub(super) fn selector(
    section: &Section<'_>,
    key: &'static str,
    text: &Found<&str>,
    mode: Option<Mode>,
    limits: Option<&Limits>,
) -> Option<Selector> {
    if let Some(limits) = limits
        && let Err(why) = within_limit(text.value, limits.claim_name, "claim_name")
    {
        section.raise(&text.span, key, why);
    }
    let selector = section.checked(key, text, Selector::parse)?;
    match (&selector, mode) {
        (Selector::Path(_), Some(mode)) if mode.is_saml() => {
            section.raise(&text.span, key, "found a path; expected the name of a SAML attribute, which has no members");
            None
        }
        _ => Some(selector),
    }
}

/// `from` may name only what the mode brings, so that no login waits for a source that never comes.
fn sources(section: &Section<'_>, mode: Option<Mode>) -> Option<Vec<Source>> {
    section.accept(&["from"]);
    let mode = mode?;
    let brought = mode.brings();
    let words = || brought.iter().map(|(word, _)| *word);
    let sources = section.list("from", false, |text| match brought.iter().find(|(word, _)| *word == text) {
        Some((_, source)) => Ok(*source),
        None if SOURCES.contains(&text) => {
            let alone = if brought.len() == 1 { " alone" } else { "" };
            Err(Wrong::expected(format!("{}{alone}: this provider's mode brings nothing else", alternatives(words()))))
        }
        None => Err(Wrong { expected: alternatives(words()), nearest: nearest(text, SOURCES) }),
    });
    if let (Some(_), Some(span), true) = (&sources, section.written("from"), section.is_empty_list("from")) {
        let first = words().next().unwrap_or_default();
        section.raise(&span, "from", format!("names no source; expected [\"{first}\"]"));
    }
    sources.filter(|sources| !sources.is_empty())
}

/// Where a claim is looked for unless the operator says so. A relayed ID token may be thin, and then userinfo has the rest.
pub(super) fn default_sources(mode: Option<Mode>, has_userinfo: bool) -> &'static [Source] {
    match mode {
        Some(mode) if mode.exchanges() && has_userinfo => &[Source::Assertion, Source::Userinfo],
        _ => &[Source::Assertion],
    }
}

/// Whether anything says where the provider's userinfo is.
pub(super) fn has_userinfo(section: &Section<'_>) -> bool {
    let discovers = section.written("jwks_url").is_none() && section.written("jwks_file").is_none();
    discovers || section.written(Endpoint::Userinfo.member()).is_some()
}

pub(super) fn check_userinfo(section: &Section<'_>, mode: Option<Mode>, has_userinfo: bool, claims: &[ClaimRule]) {
    let asks = |rule: &&ClaimRule| rule.from.contains(&Source::Userinfo);
    if let (Some(Mode::TokenRelay), false, Some(rule)) = (mode, has_userinfo, claims.iter().find(asks)) {
        let key = Endpoint::Userinfo.member();
        let message = format!(
            "missing in `{}`; claim `{}` is read from userinfo, and without discovery nothing says where that is",
            section.name, rule.name
        );
        section.context.raise_absent(&section.span, section.key(key), message);
    }
}

/// `""` is no delimiter at all.
pub fn delimiter(text: &Found<&str>, limits: &Limits) -> Result<Option<Delimiter>, String> {
    if text.value.is_empty() {
        return Ok(None);
    }
    within_limit(text.value, limits.delimiter, "delimiter")?;
    Delimiter::parse(text.value).map(Some).map_err(|why| why.to_string())
}

/// Whether a text of a mapping is within its limit; the message names the key that sets it.
pub fn within_limit(text: &str, most: usize, key: &str) -> Result<(), String> {
    // Bytes bound scalar values from above, so the common case needs no counting.
    let found = if text.len() > most { text.chars().count() } else { 0 };
    if found > most {
        return Err(format!("has {found} characters; expected at most {most} (`limits.{key}` sets this)"));
    }
    Ok(())
}
