//! Who asserts logins: `[[provider]]`.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::presets::{Defaults, PRESETS, PresetClaim};
use super::problem::{alternatives, nearest};
use super::reader::{Context, Found, Section, Value, shown};
use super::settings::{authority, seconds, tls_files};
use super::values::{self, Wrong};
use super::{
    Endpoint, KeyOrigin, KeySettings, Limits, OWN, ProviderSettings, PublicUrl, RelyingParty, TlsFiles, files, overage,
    relying_party,
};
use crate::pipeline::capture::bearer::{Form, Signer};
use crate::pipeline::capture::path::normal_form;
use crate::pipeline::claims::selector::Selector;
use crate::pipeline::claims::sources::{Source, Take};
use crate::pipeline::claims::split::Delimiter;
use crate::pipeline::claims::{ClaimRule, WhenMissing};
use crate::pipeline::ids::{ClaimName, Issuer, Namespace, ProviderName, Stage};
use crate::pipeline::provider::{
    BearerPolicy, Binding, ClaimLimits, Fold, LONGEST_LEEWAY, LONGEST_MAX_AGE, Mode, OidcPolicy, Protocol, Provider,
    SamlPolicy, UserClaim, UserRule,
};
use crate::pipeline::verify::oidc::SigningAlgorithm;

/// What mappings may refer to.
pub struct Declared {
    pub settings: Vec<ProviderSettings>,
    /// Every provider whose name could be read, whatever else is wrong with it.
    pub providers: Vec<DeclaredProvider>,
    /// A provider has no name that can be read: a mapping may mean it.
    pub unnamed: bool,
    /// Every mode that could be read.
    pub modes: Vec<Mode>,
}

pub struct DeclaredProvider {
    pub name: ProviderName,
    pub stages: Vec<Stage>,
    pub claims: Vec<ClaimRule>,
    /// After how long without a login a mapped grant through it ends.
    pub lease: Option<Duration>,
    span: Range<usize>,
}

/// Answers a gateway and captures nothing, so it is no provider's mode, though it is spoken of as one.
const FORWARD_AUTH: &str = "forward-auth";

impl Mode {
    /// The payloads that a login of this mode can have, as `from` names them. The first is the default.
    fn brings(self) -> &'static [(&'static str, Source)] {
        match self {
            Mode::SamlPost | Mode::SamlRelyingParty => &[("assertion", Source::Assertion)],
            Mode::OidcFormPost => &[("id_token", Source::Assertion)],
            Mode::Bearer => &[("access_token", Source::Assertion)],
            Mode::TokenRelay | Mode::RelyingParty => &[
                ("id_token", Source::Assertion),
                ("userinfo", Source::Userinfo),
                ("access_token", Source::AccessToken),
            ],
        }
    }
}

/// All payloads that any mode brings.
const SOURCES: [&str; 4] = ["id_token", "userinfo", "access_token", "assertion"];

const WATCHED: &[Mode] = &[Mode::SamlPost, Mode::OidcFormPost];
const SAML: &[Mode] = &[Mode::SamlPost, Mode::SamlRelyingParty];
const OIDC: &[Mode] = &[Mode::OidcFormPost, Mode::TokenRelay, Mode::Bearer, Mode::RelyingParty];
const CLIENT: &[Mode] = &[Mode::OidcFormPost, Mode::TokenRelay, Mode::RelyingParty];
const BEARER: &[Mode] = &[Mode::Bearer];
const RELAY: &[Mode] = &[Mode::TokenRelay];
const OURS: &[Mode] = &[Mode::RelyingParty, Mode::SamlRelyingParty];
const OIDC_OURS: &[Mode] = &[Mode::RelyingParty];
const SAML_OURS: &[Mode] = &[Mode::SamlRelyingParty];

/// The keys that not every mode has, and the modes that have them.
const KEYS_OF_MODES: &[(&str, &[Mode])] = &[
    ("callback", &[Mode::SamlPost, Mode::OidcFormPost, Mode::TokenRelay]),
    ("binding", WATCHED),
    ("max_age", &[Mode::SamlPost, Mode::OidcFormPost, Mode::RelyingParty, Mode::SamlRelyingParty]),
    ("login_paths", WATCHED),
    ("audience", &[Mode::SamlPost, Mode::SamlRelyingParty, Mode::Bearer]),
    ("header", BEARER),
    ("signer", BEARER),
    ("key_url", BEARER),
    ("metadata_url", SAML),
    ("metadata_file", SAML),
    ("certificate_files", SAML),
    ("sso_url", SAML),
    ("decryption_key_files", SAML),
    ("allow_cbc", SAML),
    ("allow_idp_initiated", SAML),
    ("client_id", CLIENT),
    ("algorithms", OIDC),
    ("jwks_url", OIDC),
    ("jwks_file", OIDC),
    ("authorization_endpoint", &[Mode::OidcFormPost]),
    ("token_endpoint", RELAY),
    ("userinfo_endpoint", RELAY),
    ("revocation_endpoint", RELAY),
    ("client_certificate", RELAY),
    ("client_key", RELAY),
    ("title", OURS),
    ("scopes", OIDC_OURS),
    ("client_auth", OIDC_OURS),
    ("client_secret_file", OIDC_OURS),
    ("client_secret_env", OIDC_OURS),
    ("client_key_file", OIDC_OURS),
    ("client_key_id", OIDC_OURS),
    ("sp_key_file", SAML_OURS),
    ("sp_certificate_file", SAML_OURS),
];

/// What all providers of a file share.
struct Common<'a> {
    public_url: Option<&'a PublicUrl>,
    limits: &'a Limits,
    claim_limits: ClaimLimits,
}

/// A provider that was read, with the places that checks between providers point at.
struct Checked {
    settings: ProviderSettings,
    callbacks: Vec<Range<usize>>,
    /// The namespace if it is written, else the name.
    namespace: Range<usize>,
}

/// Reads every provider. A value with a fault reads as its default, since a file with a fault is never used.
pub fn read(
    root: &Section<'_>,
    public_url: Option<&PublicUrl>,
    limits: &Limits,
    claim_limits: ClaimLimits,
    warnings: &mut Vec<String>,
) -> Declared {
    let sections = root.sections("provider");
    if sections.is_empty() && root.written("provider").is_none() {
        root.context.raise_absent(&root.span, "provider", "missing; expected at least one `[[provider]]`");
    }
    let common = Common { public_url, limits, claim_limits };
    let mut declared = Declared { settings: Vec::new(), providers: Vec::new(), unnamed: false, modes: Vec::new() };
    let mut all = Vec::new();
    for section in &sections {
        match provider(section, &declared.providers, &common, warnings) {
            (Some(provider), checked) => {
                declared.providers.push(provider);
                all.extend(checked);
            }
            (None, _) => declared.unnamed = true,
        }
        declared.modes.extend(section.text("mode").and_then(|text| Mode::named(text.value)));
        section.finish();
    }
    check_callbacks(root.context, &all);
    check_namespaces(root.context, &all);
    declared.settings = all.into_iter().map(|checked| checked.settings).collect();
    declared
}

fn provider(
    section: &Section<'_>,
    known: &[DeclaredProvider],
    common: &Common<'_>,
    warnings: &mut Vec<String>,
) -> (Option<DeclaredProvider>, Option<Checked>) {
    let name = name(section, known);
    let mode = mode(section);
    misplaced(section, mode);
    let issuer = issuer(section, mode);
    let (callbacks, callback_spans) = match mode {
        Some(Mode::Bearer) => Default::default(),
        Some(mode) if mode.is_relying_party() => own_callback(section, mode),
        _ => callbacks(section),
    };
    let binding =
        section.word("binding", &[("require", Binding::Require), ("observe", Binding::Observe)], Binding::Require);
    let acs_urls = acs_urls(common.public_url, &callbacks);
    let stages = stages(section, mode);
    let preset = preset(section, mode);
    let has_userinfo = has_userinfo(section);
    let claims = claims(section, mode, preset, default_sources(mode, has_userinfo), common.limits);
    check_userinfo(section, mode, has_userinfo, &claims);
    let (user, namespace) = user(section, name.as_ref(), mode, preset);
    let protocol = protocol(section, mode, preset, acs_urls);
    let keys = keys(section, mode, issuer.as_ref(), warnings);
    check_endpoint(section, mode, keys.as_ref(), binding, protocol.as_ref());
    let client_id = match &protocol {
        Some(Protocol::Oidc(policy)) => Some(policy.client_id.as_str()),
        _ => None,
    };
    let overage = overage::read(section, mode, client_id, common.limits);
    let relying_party = relying_party(section, mode, name.as_ref(), keys.as_ref());
    let strict = section.flag("strict", false);
    let leeway = section.duration("leeway", seconds(60), seconds(0)..=LONGEST_LEEWAY);
    let max_age = section.duration("max_age", seconds(600), seconds(1)..=LONGEST_MAX_AGE);
    let lease = section.optional_duration("lease", seconds(60)..=seconds(10 * 366 * 86_400));
    let login_paths = section.list("login_paths", false, values::app_path).unwrap_or_default();
    let email_trusted = section.flag("email_trusted", false);
    let Some(Found { value: name, span }) = name else { return (None, None) };
    let declared = DeclaredProvider {
        name: name.clone(),
        stages: stages.clone(),
        claims: claims.clone(),
        lease,
        span: span.clone(),
    };
    let (Some(issuer), Some(mode), Some(protocol), Some(user), Some(keys)) = (issuer, mode, protocol, user, keys)
    else {
        return (Some(declared), None);
    };
    let limits = common.claim_limits;
    let (overage, overage_settings) = overage.unzip();
    let provider = Provider {
        name,
        issuer,
        mode,
        protocol,
        callbacks,
        binding,
        stages,
        user,
        claims,
        overage,
        strict,
        leeway,
        max_age,
        limits,
    };
    let settings = ProviderSettings {
        provider: Arc::new(provider),
        keys,
        overage: overage_settings,
        login_paths,
        email_trusted,
        relying_party,
    };
    (Some(declared), Some(Checked { settings, callbacks: callback_spans, namespace: namespace.unwrap_or(span) }))
}

fn name(section: &Section<'_>, known: &[DeclaredProvider]) -> Option<Found<ProviderName>> {
    let text = section.required("name", "okta")?;
    let name = section.checked("name", &text, ProviderName::parse)?;
    let folded = text.value.to_lowercase();
    if let Some(first) = known.iter().find(|first| first.name.as_str().to_lowercase() == folded) {
        let line = section.context.line(first.span.start);
        let message = format!("provider `{}` has this name in line {line}, case aside; expected another", first.name);
        section.raise(&text.span, "name", message);
    }
    Some(Found { value: name, span: text.span })
}

fn mode(section: &Section<'_>) -> Option<Mode> {
    let text = section.required("mode", "oidc-form-post")?;
    if let Some(mode) = Mode::named(text.value) {
        let saml = SAML_SOURCES.iter().any(|key| section.written(key).is_some());
        return Some(if mode == Mode::RelyingParty && saml { Mode::SamlRelyingParty } else { mode });
    }
    let words = || Mode::ALL.into_iter().map(Mode::word);
    let expected = alternatives(words());
    let (message, nearest) = match text.value == FORWARD_AUTH {
        true => (
            format!("`{FORWARD_AUTH}` is no mode of a provider but the section `[forward_auth]`; expected {expected}"),
            None,
        ),
        false => (format!("found `{}`; expected {expected}", shown(text.value)), nearest(text.value, words())),
    };
    section.context.raise_near(&text.span, section.key("mode"), message, nearest);
    None
}

fn issuer(section: &Section<'_>, mode: Option<Mode>) -> Option<Issuer> {
    let text = section.required("issuer", "https://idp.example.com")?;
    let issuer = section.checked("issuer", &text, Issuer::parse)?;
    section.parse("issuer", text, |text| match mode {
        Some(mode) if !mode.is_saml() => values::oidc_issuer(text),
        // An entity ID is any URI (SAML Core 8.3.6), compared byte for byte.
        _ => values::single_tenant(text),
    });
    Some(issuer)
}

/// The app's paths, each once as the laxest app reads them, and where they are written.
fn callbacks(section: &Section<'_>) -> (Vec<String>, Vec<Range<usize>>) {
    let Some(texts) = section.texts("callback", true) else {
        if section.written("callback").is_none() {
            let message =
                format!("missing in `{}`; expected for instance callback = \"/login/callback\"", section.name);
            section.context.raise_absent(&section.span, section.key("callback"), message);
        }
        return (Vec::new(), Vec::new());
    };
    let (mut paths, mut spans) = (Vec::<String>::new(), Vec::new());
    for text in texts {
        let Some(Found { value: path, span }) = section.parse("callback", text, values::app_path) else { continue };
        match paths.iter().find(|first| normal_form(first) == normal_form(&path)) {
            Some(first) => {
                let message = format!("`{path}` may be the same path as `{first}` to the app; expected one of them");
                section.raise(&span, "callback", message);
            }
            None => {
                paths.push(path);
                spans.push(span);
            }
        }
    }
    (paths, spans)
}

/// The page of ours that receives this provider's logins.
fn own_callback(section: &Section<'_>, mode: Mode) -> (Vec<String>, Vec<Range<usize>>) {
    let page = if mode.is_saml() { "acs" } else { "callback" };
    (vec![format!("{OWN}{page}")], vec![section.written("issuer").unwrap_or_else(|| section.span.clone())])
}

fn relying_party(
    section: &Section<'_>,
    mode: Option<Mode>,
    name: Option<&Found<ProviderName>>,
    keys: Option<&KeySettings>,
) -> Option<RelyingParty> {
    let mode = mode.filter(|mode| mode.is_relying_party())?;
    let missing = |key: &str, why: &str| {
        let message = format!("missing in `{}`; {why}", section.name);
        section.context.raise_absent(&section.span, section.key(key), message);
    };
    match keys.map(|keys| (&keys.source, &keys.endpoint)) {
        Some((KeyOrigin::JwksUrl(_) | KeyOrigin::JwksFile(_), _)) => {
            let span = section.written("jwks_url").or_else(|| section.written("jwks_file"));
            let message = "mode `relying-party` needs the issuer's discovery document, which also says where its token \
                           endpoint is; expected neither";
            section.raise(&span.unwrap_or_else(|| section.span.clone()), "jwks_url", message);
        }
        Some((KeyOrigin::Certificates(_), None)) => {
            missing("sso_url", "`certificate_files` does not say where people log in")
        }
        _ => {}
    }
    relying_party::read(section, mode, name.map(|name| name.value.as_str()).unwrap_or_default())
}

fn acs_urls(public_url: Option<&PublicUrl>, callbacks: &[String]) -> Vec<String> {
    let origin = public_url.map(|url| url.origin.as_str()).unwrap_or_default();
    callbacks.iter().map(|path| format!("{origin}{path}")).collect()
}

fn stages(section: &Section<'_>, mode: Option<Mode>) -> Vec<Stage> {
    let stages = section.list("stages", false, stage).unwrap_or_default();
    if mode.is_some_and(Mode::is_saml)
        && stages.len() > 1
        && let Some(span) = section.written("stages")
    {
        section.raise(&span, "stages", format!("found {} stages; expected at most one for SAML", stages.len()));
    }
    stages
}

pub fn stage(text: &str) -> Result<Stage, Wrong> {
    Stage::parse(text).map_err(|why| Wrong::expected(format!("the name of a stage: this one {why}")))
}

// ---------------------------------------------------------------------------------------------------------- claims

/// What the provider's vendor is known to do.
fn preset(section: &Section<'_>, mode: Option<Mode>) -> Option<Defaults> {
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
            format!("`{}` is no SAML identity provider; expected an OIDC mode", text.value),
        );
    }
    defaults
}

fn claims(
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
    Some(ClaimRule { name, selector, from, take, delimiter, first_rdn, strip_prefix, when_missing, observe })
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
fn selector(
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

/// `from` may name only what the mode brings, so that nobody waits for a source that never comes.
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
fn default_sources(mode: Option<Mode>, has_userinfo: bool) -> &'static [Source] {
    match mode {
        Some(Mode::TokenRelay | Mode::RelyingParty) if has_userinfo => &[Source::Assertion, Source::Userinfo],
        _ => &[Source::Assertion],
    }
}

/// Whether anything says where the provider's userinfo is.
fn has_userinfo(section: &Section<'_>) -> bool {
    let discovers = section.written("jwks_url").is_none() && section.written("jwks_file").is_none();
    discovers || section.written(Endpoint::Userinfo.member()).is_some()
}

fn check_userinfo(section: &Section<'_>, mode: Option<Mode>, has_userinfo: bool, claims: &[ClaimRule]) {
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

// ------------------------------------------------------------------------------------------------------------ people

/// Who a login speaks of, and where its namespace is written.
fn user(
    section: &Section<'_>,
    name: Option<&Found<ProviderName>>,
    mode: Option<Mode>,
    preset: Option<Defaults>,
) -> (Option<UserRule>, Option<Range<usize>>) {
    let namespace = section.text("namespace");
    let written = namespace.as_ref().map(|text| text.span.clone());
    let namespace = match (&namespace, name) {
        (Some(text), _) => section.checked("namespace", text, Namespace::parse),
        (None, Some(name)) => Namespace::parse(name.value.as_str()).ok(),
        (None, None) => None,
    };
    let claim = |key: &'static str| {
        let text = section.text(key)?;
        selector(section, key, &text, mode, None)?;
        Some(text.value.to_owned())
    };
    let own = if mode.is_some_and(Mode::is_saml) { "NameID" } else { "sub" };
    let of_oidc = |default: &str| mode.is_some_and(|mode| OIDC.contains(&mode)).then(|| default.to_owned());
    let known = |claim: fn(&Defaults) -> Option<&'static str>| preset.as_ref().and_then(claim).map(str::to_owned);
    let user_claim = match claim("user_claim").or_else(|| known(|preset| preset.user_claim)) {
        Some(named) if named != own => UserClaim::Named(named),
        _ => UserClaim::Subject,
    };
    let fold = section.word("user_fold", &[("exact", Fold::Exact), ("case", Fold::Case)], Fold::Exact);
    let email_claim = claim("email_claim").or_else(|| known(|preset| preset.email_claim)).or_else(|| of_oidc("email"));
    let name_claim =
        claim("name_claim").or_else(|| known(|preset| preset.name_claim)).or_else(|| of_oidc("preferred_username"));
    let rule = namespace.map(|namespace| UserRule { namespace, claim: user_claim, fold, email_claim, name_claim });
    (rule, written)
}

/// Providers that share a namespace must mean the same people by the same value, or one could log in as another's user.
fn check_namespaces(context: &Context<'_>, all: &[Checked]) {
    for (position, later) in all.iter().enumerate() {
        let shares =
            |first: &&Checked| first.settings.provider.user.namespace == later.settings.provider.user.namespace;
        let Some(first) = all.get(..position).unwrap_or_default().iter().find(shares) else { continue };
        let (ours, theirs) = (&later.settings.provider, &first.settings.provider);
        let begin = format!("namespace `{}` is shared with provider `{}`", ours.user.namespace, theirs.name);
        let raise =
            |message: String| context.raise(&later.namespace, "provider.namespace", format!("{begin}, {message}"));
        if ours.user.claim != theirs.user.claim || ours.user.fold != theirs.user.fold {
            raise(String::from("which names its users otherwise; expected the same `user_claim` and `user_fold`"));
        } else if ours.issuer == theirs.issuer {
            // One issuer names its people the same, whichever client asks.
        } else if ours.user.claim == UserClaim::Subject {
            raise(String::from(
                "but subjects are unique within their issuer alone; expected a `user_claim` that both issuers fill alike",
            ));
        } else if let Some(doubtful) = [first, later].into_iter().find(|provider| is_doubtful(provider)) {
            raise(format!(
                "but this version does not read `email_verified`; expected `email_trusted = true` in provider `{}`, \
                 where it verifies every address",
                doubtful.settings.provider.name
            ));
        }
    }
}

/// Whether people are told apart by an e-mail address that the provider may not have verified.
fn is_doubtful(checked: &Checked) -> bool {
    let user = &checked.settings.provider.user;
    let UserClaim::Named(claim) = &user.claim else { return false };
    let is_email = claim.to_lowercase().contains("mail") || user.email_claim.as_ref() == Some(claim);
    is_email && !checked.settings.email_trusted
}

// -------------------------------------------------------------------------------------------------------- protocols

fn protocol(
    section: &Section<'_>,
    mode: Option<Mode>,
    preset: Option<Defaults>,
    acs_urls: Vec<String>,
) -> Option<Protocol> {
    match mode? {
        Mode::OidcFormPost | Mode::TokenRelay | Mode::RelyingParty => oidc(section).map(Protocol::Oidc),
        Mode::Bearer => bearer(section).map(Protocol::Oidc),
        mode @ (Mode::SamlPost | Mode::SamlRelyingParty) => saml(section, mode, preset, acs_urls).map(Protocol::Saml),
    }
}

/// A key of another mode is a mistake of another kind than one that nobody knows.
fn misplaced(section: &Section<'_>, mode: Option<Mode>) {
    for (key, modes) in KEYS_OF_MODES {
        section.accept(&[key]);
        if let (Some(mode), Some(span)) = (mode, section.written(key))
            && !modes.contains(&mode)
        {
            let mut words: Vec<&str> = modes.iter().map(|mode| mode.word()).collect();
            words.dedup();
            let message = match words.contains(&mode.word()) {
                // One word, and the other protocol.
                true => format!("belongs to a provider that speaks {}", if mode.is_saml() { "OIDC" } else { "SAML" }),
                false => format!("belongs to mode {}; this provider's mode is `{}`", alternatives(words), mode.word()),
            };
            section.raise(&span, key, message);
        }
    }
}

fn oidc(section: &Section<'_>) -> Option<OidcPolicy> {
    let client_id = section.required("client_id", "the app's client id at the provider");
    let algorithms = algorithms(section, "RS256");
    Some(OidcPolicy { client_id: identifier(section, "client_id", &client_id?)?, algorithms, bearer: None })
}

/// A provider whose tokens come in a header.
fn bearer(section: &Section<'_>) -> Option<OidcPolicy> {
    let form = form(section);
    let audience = section.required("audience", "https://api.example.com");
    let algorithms = algorithms(section, form.rules().algorithm);
    let signer = section.text("signer");
    match (form.rules().signer, &signer) {
        (Signer::LoadBalancer, None) => {
            let message = format!(
                "missing in `{}`; any load balancer of the region signs with the same keys, so that yours must be named; \
                 expected for instance signer = \"{ARN}\"",
                section.name
            );
            section.context.raise_absent(&section.span, section.key("signer"), message);
        }
        (Signer::LoadBalancer, Some(arn)) if region(arn.value).is_none() => {
            let message = format!("found `{}`; expected the load balancer's ARN such as `{ARN}`", shown(arn.value));
            section.raise(&arn.span, "signer", message);
        }
        (Signer::Issuer, Some(arn)) => {
            section.raise(&arn.span, "signer", "belongs to header `x-amzn-oidc-data`");
        }
        _ => {}
    }
    let signer = signer.map(|arn| arn.value.to_owned());
    let client_id = identifier(section, "audience", &audience?)?;
    Some(OidcPolicy { client_id, algorithms, bearer: Some(BearerPolicy { form, signer }) })
}

const ARN: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/name/0123456789abcdef";

/// The region of a load balancer's ARN: `arn:PARTITION:elasticloadbalancing:REGION:ACCOUNT:loadbalancer/…`.
fn region(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", _, "elasticloadbalancing", region, account, name]
            if !region.is_empty()
                && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !account.is_empty()
                && name.starts_with("loadbalancer/") =>
        {
            Some(region)
        }
        _ => None,
    }
}

fn form(section: &Section<'_>) -> Form {
    let headers = || Form::ALL.into_iter().map(|form| form.rules().header);
    let form = section.parsed("header", |text| {
        Form::named(text).ok_or_else(|| Wrong { expected: alternatives(headers()), nearest: nearest(text, headers()) })
    });
    form.map_or(Form::Authorization, |found| found.value)
}

/// Where the keys behind a header are, which vendors have fixed.
fn bearer_source(section: &Section<'_>, issuer: Option<&Issuer>) -> Option<KeyOrigin> {
    // A header that is none was told of where the policy was read.
    let form = section.text("header").and_then(|text| Form::named(text.value)).unwrap_or(Form::Authorization);
    let key_url = section.parsed("key_url", values::endpoint);
    let written = section.written("jwks_url").is_some() || section.written("jwks_file").is_some();
    if let (Some(span), true) = (section.written("key_url"), form != Form::AlbData) {
        section.raise(&span, "key_url", "belongs to header `x-amzn-oidc-data`");
    }
    let fixed = |address: String| Url::parse(&address).ok();
    match form {
        _ if written && form != Form::AlbData => oidc_source(section),
        Form::Authorization | Form::ForwardedAccessToken => oidc_source(section),
        Form::CloudflareAccess => {
            let issuer = issuer?.as_str().trim_end_matches('/');
            fixed(format!("{issuer}/cdn-cgi/access/certs")).map(KeyOrigin::JwksUrl)
        }
        Form::GoogleIap => fixed("https://www.gstatic.com/iap/verify/public_key-jwk".into()).map(KeyOrigin::JwksUrl),
        Form::AlbData => {
            for key in ["jwks_url", "jwks_file"] {
                if let Some(span) = section.written(key) {
                    section.raise(&span, key, "a load balancer's keys are no JWK Set; expected `key_url`, or nothing");
                }
            }
            let region = section.text("signer").and_then(|arn| region(arn.value).map(str::to_owned));
            let usual =
                || region.and_then(|region| fixed(format!("https://public-keys.auth.elb.{region}.amazonaws.com")));
            key_url.map(|found| found.value).or_else(usual).map(KeyOrigin::OneByOne)
        }
    }
}

fn algorithms(section: &Section<'_>, default: &str) -> Vec<SigningAlgorithm> {
    let algorithms = section.list("algorithms", false, |text| {
        SigningAlgorithm::named(text).ok_or_else(|| Wrong {
            expected: alternatives(SigningAlgorithm::names()),
            nearest: nearest(text, SigningAlgorithm::names()),
        })
    });
    if let (Some(span), true) = (section.written("algorithms"), section.is_empty_list("algorithms")) {
        section.raise(&span, "algorithms", "allows no algorithm, so no token would verify; expected at least one");
    }
    algorithms.unwrap_or_else(|| SigningAlgorithm::named(default).into_iter().collect())
}

fn saml(section: &Section<'_>, mode: Mode, preset: Option<Defaults>, acs_urls: Vec<String>) -> Option<SamlPolicy> {
    let own = acs_urls.first().and_then(|acs| acs.strip_suffix("acs")).map(|pages| format!("{pages}metadata"));
    let audience = match section.written("audience") {
        // The address of our metadata is as good a name as any, and tells where they are.
        None if mode == Mode::SamlRelyingParty => {
            section.accept(&["audience"]);
            own
        }
        _ => {
            let text = section.required("audience", "https://app.example.com/saml/metadata");
            text.and_then(|text| identifier(section, "audience", &text))
        }
    };
    let allow_idp_initiated = section.flag("allow_idp_initiated", false);
    let allow_cbc = section.flag("allow_cbc", preset.is_some_and(|preset| preset.allow_cbc));
    let decryption_keys = files::decryption_keys(section, "decryption_key_files").into_iter().map(Arc::new).collect();
    Some(SamlPolicy { audience: audience?, acs_urls, allow_idp_initiated, allow_cbc, decryption_keys })
}

/// A name that the app has at the provider: compared byte for byte, so that only its being there is checked.
fn identifier(section: &Section<'_>, key: &str, text: &Found<&str>) -> Option<String> {
    section.checked(key, text, Issuer::parse).map(|checked| checked.as_str().to_owned())
}

// ------------------------------------------------------------------------------------------------------------- keys

fn keys(
    section: &Section<'_>,
    mode: Option<Mode>,
    issuer: Option<&Issuer>,
    warnings: &mut Vec<String>,
) -> Option<KeySettings> {
    let refresh = section.duration("refresh", seconds(3600), seconds(10)..=seconds(7 * 86_400));
    let max_stale = section.duration("max_stale", seconds(86_400), seconds(60)..=seconds(30 * 86_400));
    if max_stale < refresh {
        let span = section.written("max_stale").or_else(|| section.written("refresh")).unwrap_or(section.span.clone());
        section.raise(&span, "max_stale", "is shorter than `refresh`, so that keys would run out between two fetches");
    }
    let ca_file = authority(section);
    let (source, endpoint) = match mode? {
        Mode::OidcFormPost => (oidc_source(section), section.parsed("authorization_endpoint", address)),
        Mode::TokenRelay | Mode::RelyingParty => (oidc_source(section), None),
        Mode::Bearer => (bearer_source(section, issuer), None),
        Mode::SamlPost | Mode::SamlRelyingParty => {
            (saml_source(section, issuer, warnings), section.parsed("sso_url", address))
        }
    };
    let fetched =
        !matches!(source, Some(KeyOrigin::JwksFile(_) | KeyOrigin::MetadataFile(_) | KeyOrigin::Certificates(_)));
    if let (Some(file), false) = (&ca_file, fetched || mode == Some(Mode::TokenRelay)) {
        section.raise(
            &file.span,
            "ca_file",
            "nothing is fetched from this provider; expected keys from a URL beside it",
        );
    }
    let (endpoint, ca_file) = (endpoint.map(|found| found.value), ca_file.map(|found| found.value));
    let named = named_endpoints(section, mode);
    let identity = identity(section, warnings);
    let source = source?;
    if mode == Some(Mode::TokenRelay) && source != KeyOrigin::Discovery && section.written("token_endpoint").is_none() {
        let message = format!(
            "missing in `{}`; without discovery nothing says where tokens come from; \
             expected for instance token_endpoint = \"https://idp.example.com/token\"",
            section.name
        );
        section.context.raise_absent(&section.span, section.key("token_endpoint"), message);
    }
    Some(KeySettings { source, endpoint, named, identity, refresh, max_stale, ca_file })
}

/// Endpoints that the operator names, since the provider has no discovery document or a wrong one.
fn named_endpoints(section: &Section<'_>, mode: Option<Mode>) -> Vec<(Endpoint, Url)> {
    let has = |endpoint: &Endpoint| {
        let modes = KEYS_OF_MODES.iter().find(|(key, _)| *key == endpoint.member()).map(|(_, modes)| *modes);
        mode.is_some_and(|mode| modes.is_some_and(|modes| modes.contains(&mode)))
    };
    let named = Endpoint::ALL.into_iter().filter(has).filter_map(|endpoint| {
        let address = section.parsed(endpoint.member(), values::endpoint)?;
        Some((endpoint, address.value))
    });
    named.collect()
}

/// The certificate by which a provider knows us.
fn identity(section: &Section<'_>, warnings: &mut Vec<String>) -> Option<TlsFiles> {
    tls_files(section, "client_certificate", "client_key", warnings)
}

/// An address that people are sent to, as it is written: it is compared with what the app sends.
fn address(text: &str) -> Result<String, Wrong> {
    values::endpoint(text).map(|_| text.to_owned())
}

fn oidc_source(section: &Section<'_>) -> Option<KeyOrigin> {
    let url = section.parsed("jwks_url", values::endpoint);
    let file = files::checked_file(section, "jwks_file", files::check_jwks);
    match (section.written("jwks_url"), section.written("jwks_file")) {
        (Some(_), Some(second)) => {
            section.raise(
                &second,
                "jwks_file",
                "`jwks_url` is set too; expected one of them, or neither for discovery",
            );
            None
        }
        (Some(_), None) => url.map(|found| KeyOrigin::JwksUrl(found.value)),
        (None, Some(_)) => file.map(|found| KeyOrigin::JwksFile(found.value)),
        (None, None) => Some(KeyOrigin::Discovery),
    }
}

const SAML_SOURCES: [&str; 3] = ["metadata_url", "metadata_file", "certificate_files"];

fn saml_source(section: &Section<'_>, issuer: Option<&Issuer>, warnings: &mut Vec<String>) -> Option<KeyOrigin> {
    let url = section.parsed("metadata_url", values::endpoint);
    let now = section.context.around.now;
    let entity_id = issuer.map(Issuer::as_str).unwrap_or_default();
    let file = files::checked_file(section, "metadata_file", |bytes| {
        let ends = files::check_metadata(bytes, entity_id, now)?;
        let name = section.text("metadata_file").map(|text| text.value).unwrap_or_default();
        warnings.extend(files::expiry_warnings(ends, name, now));
        Ok(())
    });
    let certificates = files::certificate_set(section, "certificate_files", warnings);
    let written: Vec<_> = SAML_SOURCES.iter().filter_map(|key| Some((*key, section.written(key)?))).collect();
    match written.as_slice() {
        [] => {
            let message = format!("no keys to verify by; expected one of {}", alternatives(SAML_SOURCES));
            section.context.raise_absent(&section.span, section.name.clone(), message);
            None
        }
        [_] => url
            .map(|found| KeyOrigin::MetadataUrl(found.value))
            .or(file.map(|found| KeyOrigin::MetadataFile(found.value)))
            .or(certificates.map(KeyOrigin::Certificates)),
        [(first, _), others @ ..] => {
            for (key, span) in others {
                section.raise(
                    span,
                    key,
                    format!("`{first}` is set too; expected exactly one of {}", alternatives(SAML_SOURCES)),
                );
            }
            None
        }
    }
}

/// Binding needs to know where the app sends people; not every source of keys says so.
fn check_endpoint(
    section: &Section<'_>,
    mode: Option<Mode>,
    keys: Option<&KeySettings>,
    binding: Binding,
    protocol: Option<&Protocol>,
) {
    let (Some(keys), Some(protocol), Binding::Require) = (keys, protocol, binding) else { return };
    if mode.is_none_or(|mode| !mode.is_watched()) {
        return;
    }
    let (source, key) = match (&keys.source, protocol) {
        (KeyOrigin::JwksUrl(_), _) => ("jwks_url", "authorization_endpoint"),
        (KeyOrigin::JwksFile(_), _) => ("jwks_file", "authorization_endpoint"),
        (KeyOrigin::Certificates(_), Protocol::Saml(policy)) if !policy.allow_idp_initiated => {
            ("certificate_files", "sso_url")
        }
        _ => return,
    };
    if keys.endpoint.is_none() && section.written(key).is_none() {
        let message = format!(
            "missing in `{}`; `{source}` does not say where the app sends people to log in, \
             which `binding = \"require\"` must know",
            section.name
        );
        section.context.raise_absent(&section.span, section.key(key), message);
    }
}

/// At one path the issuer (for OIDC also the client) that a token names must mean one provider.
fn check_callbacks(context: &Context<'_>, all: &[Checked]) {
    for (position, later) in all.iter().enumerate() {
        for first in all.get(..position).unwrap_or_default() {
            let (ours, theirs) = (&later.settings.provider, &first.settings.provider);
            let alike = ours.mode.is_watched() == theirs.mode.is_watched();
            if alike && !same_tokens(ours, theirs) {
                continue;
            }
            for (path, span) in ours.callbacks.iter().zip(&later.callbacks) {
                let Some(other) = theirs.callbacks.iter().find(|other| normal_form(other) == normal_form(path)) else {
                    continue;
                };
                let name = &theirs.name;
                let message = match alike {
                    true => format!(
                        "provider `{name}` has the same issuer at `{other}`, so that a login at `{path}` could be either's; \
                         expected one provider for each path and issuer"
                    ),
                    false => format!(
                        "provider `{name}` has this path too, `{other}`, and only one of the two has its logins read there; \
                         expected a path of its own for mode `token-relay`"
                    ),
                };
                context.raise(span, "provider.callback", message);
            }
        }
    }
}

fn same_tokens(ours: &Provider, theirs: &Provider) -> bool {
    let same_client = match (&ours.protocol, &theirs.protocol) {
        (Protocol::Oidc(ours), Protocol::Oidc(theirs)) => ours.client_id == theirs.client_id,
        (Protocol::Saml(_), Protocol::Saml(_)) => true,
        _ => false,
    };
    same_client && ours.issuer == theirs.issuer
}
