//! Who asserts logins: `[[provider]]`.

mod claims;
mod keys;
mod protocols;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use self::claims::{check_userinfo, claims, default_sources, has_userinfo, preset, selector};
pub use self::claims::{delimiter, within_limit};
use self::keys::{SAML_SOURCES, check_endpoint, keys};
use self::protocols::{misplaced, protocol};
use super::presets::Defaults;
use super::problem::{alternatives, nearest};
use super::reader::{Context, Found, Section, shown};
use super::settings::seconds;
use super::values::{self, IssuerHttp, Wrong};
use super::{KeyOrigin, KeySettings, Limits, ProviderSettings, PublicUrl, RelyingParty, overage, relying_party};
use crate::pipeline::claims::ClaimRule;
use crate::pipeline::claims::names::Part;
use crate::pipeline::ids::{Issuer, Namespace, ProviderName, Stage};
use crate::pipeline::provider::{
    Binding, ClaimLimits, Fold, LONGEST_LEEWAY, LONGEST_MAX_AGE, Mode, Protocol, Provider, UserClaim, UserRule,
    UserTake, Way,
};
use crate::pipeline::reading::query::may_be_same_address;

/// What mappings may refer to.
pub struct Declared {
    pub settings: Vec<ProviderSettings>,
    /// Every provider whose name could be read, whatever else is wrong with it.
    pub providers: Vec<DeclaredProvider>,
    /// A provider has no name that can be read: a mapping may mean it.
    pub unnamed: bool,
    /// Every mode that could be read.
    pub modes: Vec<Mode>,
    /// A provider has a fault, so that what it would use is not known.
    pub is_partial: bool,
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

/// All payloads that any mode brings.
const SOURCES: [&str; 4] = ["id_token", "userinfo", "access_token", "assertion"];

/// Whether a mode has a key.
type Has = fn(Mode) -> bool;

const WATCHED: Has = Mode::is_watched;
const SAML: Has = Mode::is_saml;
const OIDC: Has = |mode| !mode.is_saml();
const BEARER: Has = |mode| mode.way() == Way::Presented;
/// Where the app, or we for it, are a client of the provider.
const CLIENT: Has = |mode| OIDC(mode) && !BEARER(mode);
const EXCHANGES: Has = Mode::exchanges;
const OURS: Has = Mode::is_relying_party;
const OIDC_OURS: Has = |mode| OIDC(mode) && OURS(mode);
const SAML_OURS: Has = |mode| SAML(mode) && OURS(mode);

/// The keys that not every mode has, and the modes that have them.
const KEYS_OF_MODES: &[(&str, Has)] = &[
    ("callback", |mode| matches!(mode.way(), Way::Watched | Way::Relayed)),
    ("binding", WATCHED),
    ("max_age", |mode| matches!(mode.way(), Way::Watched | Way::Ours)),
    ("login_paths", WATCHED),
    ("audience", |mode| SAML(mode) || BEARER(mode)),
    ("header", BEARER),
    ("signer", BEARER),
    ("key_url", BEARER),
    ("metadata_url", SAML),
    ("metadata_file", SAML),
    ("certificate_files", SAML),
    ("sso_url", SAML),
    ("decryption_key_files", SAML),
    ("allow_cbc", SAML),
    ("friendly_names", SAML),
    ("allow_idp_initiated", SAML),
    ("client_id", CLIENT),
    ("issuer_aliases", OIDC),
    ("trusted_audiences", CLIENT),
    ("authorized_parties", CLIENT),
    ("algorithms", OIDC),
    ("allow_http", OIDC),
    ("jwks_url", OIDC),
    ("jwks_file", OIDC),
    ("authorization_endpoint", |mode| CLIENT(mode) && mode.way() != Way::Relayed),
    ("token_endpoint", EXCHANGES),
    ("userinfo_endpoint", EXCHANGES),
    ("revocation_endpoint", EXCHANGES),
    ("end_session_endpoint", OIDC_OURS),
    ("end_session_return", OIDC_OURS),
    ("frontchannel_logout", OIDC_OURS),
    ("client_certificate", EXCHANGES),
    ("client_key", EXCHANGES),
    ("title", OURS),
    ("scopes", OIDC_OURS),
    ("authorization_parameters", OIDC_OURS),
    ("forward_login_hint", OIDC_OURS),
    ("response_mode", OIDC_OURS),
    ("client_auth", OIDC_OURS),
    ("client_secret_file", OIDC_OURS),
    ("client_secret_env", OIDC_OURS),
    ("client_key_file", OIDC_OURS),
    ("client_key_id", OIDC_OURS),
    ("client_assertion_audience", OIDC_OURS),
    ("sp_key_file", SAML_OURS),
    ("sp_certificate_file", SAML_OURS),
];

/// What all providers of a file share.
struct Common<'a> {
    public_url: Option<&'a PublicUrl>,
    /// Where our own pages are.
    own: &'a str,
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
    (public_url, own): (Option<&PublicUrl>, &str),
    limits: &Limits,
    claim_limits: ClaimLimits,
    warnings: &mut Vec<String>,
) -> Declared {
    let sections = root.sections("provider");
    if sections.is_empty() && root.written("provider").is_none() {
        root.context.raise_absent(&root.span, "provider", "missing; expected at least one `[[provider]]`");
    }
    let common = Common { public_url, own, limits, claim_limits };
    let mut declared =
        Declared { settings: Vec::new(), providers: Vec::new(), unnamed: false, modes: Vec::new(), is_partial: false };
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
    declared.is_partial = all.len() < sections.len();
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
    let allow_http = section.flag("allow_http", false);
    let issuer = issuer(section, mode, allow_http);
    let issuer_aliases = section.list("issuer_aliases", false, issuer_alias).unwrap_or_default();
    let (callbacks, callback_spans) = match mode {
        Some(mode) if BEARER(mode) => Default::default(),
        Some(mode) if mode.is_relying_party() => own_callback(section, mode, common.own),
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
    let keys = keys(section, mode, (issuer.as_ref(), allow_http), warnings);
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
        issuer_aliases,
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
    let expected = alternatives(Mode::words());
    let (message, nearest) = match text.value == FORWARD_AUTH {
        true => (
            format!(
                "`{FORWARD_AUTH}` is not a mode of a provider; use the section `[forward_auth]`; expected {expected}"
            ),
            None,
        ),
        false => (format!("found `{}`; expected {expected}", shown(text.value)), nearest(text.value, Mode::words())),
    };
    section.context.raise_near(&text.span, section.key("mode"), message, nearest);
    None
}

fn issuer(section: &Section<'_>, mode: Option<Mode>, allow_http: bool) -> Option<Issuer> {
    // Where the issuer is asked for nothing, its address is a name among others.
    let asked = mode.is_none_or(EXCHANGES) || section.written("jwks_file").is_none();
    let http = match (allow_http, asked) {
        (true, _) => IssuerHttp::Inside,
        (false, true) => IssuerHttp::Never,
        (false, false) => IssuerHttp::AsText,
    };
    let text = section.required("issuer", "https://idp.example.com")?;
    let issuer = section.checked("issuer", &text, Issuer::parse)?;
    section.parse("issuer", text, |text| match mode {
        Some(mode) if !mode.is_saml() => values::oidc_issuer(text, http),
        // An entity ID is any URI (SAML Core 8.3.6), compared byte for byte.
        _ => values::single_tenant(text),
    });
    Some(issuer)
}

/// Another issuer whose tokens the provider's keys sign.
fn issuer_alias(text: &str) -> Result<Issuer, Wrong> {
    // It is compared, and never asked.
    values::oidc_issuer(text, IssuerHttp::AsText)?;
    Issuer::parse(text).map_err(|error| Wrong::expected(error.to_string()))
}

/// The app's addresses, each once as the laxest app reads them, and where they are written.
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
        let Some(Found { value: path, span }) = section.parse("callback", text, values::app_address) else { continue };
        match paths.iter().find(|first| may_be_same_address(first, &path)) {
            Some(first) => {
                let message = format!("`{path}` may be the same address as `{first}` to the app; expected one of them");
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
fn own_callback(section: &Section<'_>, mode: Mode, own: &str) -> (Vec<String>, Vec<Range<usize>>) {
    let page = if mode.is_saml() { "acs" } else { "callback" };
    (vec![format!("{own}{page}")], vec![section.written("issuer").unwrap_or_else(|| section.span.clone())])
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
    if keys.is_some_and(|keys| matches!(keys.source, KeyOrigin::Certificates(_)) && keys.endpoint.is_none()) {
        missing("sso_url", "`certificate_files` does not say where people log in");
    }
    relying_party::read(section, mode, name.map(|name| name.value.as_str()).unwrap_or_default())
}

fn acs_urls(public_url: Option<&PublicUrl>, callbacks: &[String]) -> Vec<String> {
    let root = public_url.map(PublicUrl::root).unwrap_or_default();
    callbacks.iter().map(|path| format!("{root}{path}")).collect()
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
        if let (true, true, Some(part)) =
            (key == "user_claim", mode.is_some_and(Mode::is_saml), Part::named(text.value))
            && !part.names_a_person()
        {
            let message = format!("`{}` identifies no person; expected `NameID` or an attribute", text.value);
            section.raise(&text.span, key, message);
        }
        Some(text.value.to_owned())
    };
    let own = if mode.is_some_and(Mode::is_saml) { "NameID" } else { "sub" };
    let of_oidc = |default: &str| mode.is_some_and(OIDC).then(|| default.to_owned());
    let known = |claim: fn(&Defaults) -> Option<&'static str>| preset.as_ref().and_then(claim).map(str::to_owned);
    let user_claim = match claim("user_claim").or_else(|| known(|preset| preset.user_claim)) {
        Some(named) if named != own => UserClaim::Named(named),
        _ => UserClaim::Subject,
    };
    let fold = section.word("user_fold", &[("exact", Fold::Exact), ("case", Fold::Case)], Fold::Exact);
    let email_claim = claim("email_claim").or_else(|| known(|preset| preset.email_claim)).or_else(|| of_oidc("email"));
    let name_claim =
        claim("name_claim").or_else(|| known(|preset| preset.name_claim)).or_else(|| of_oidc("preferred_username"));
    let take = section.word("user_take", &[("only", UserTake::Only), ("first", UserTake::First)], UserTake::Only);
    if let (Some(span), UserTake::First, UserClaim::Subject) = (section.written("user_take"), take, &user_claim) {
        let message = format!("applies only with a `user_claim` that may have several values; `{own}` has one");
        section.raise(&span, "user_take", message);
    }
    let rule =
        namespace.map(|namespace| UserRule { namespace, claim: user_claim, take, fold, email_claim, name_claim });
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
        if (&ours.user.claim, ours.user.fold, ours.user.take)
            != (&theirs.user.claim, theirs.user.fold, theirs.user.take)
        {
            raise(String::from(
                "which names its users otherwise; expected the same `user_claim`, `user_fold` and `user_take`",
            ));
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
                let Some(other) = theirs.callbacks.iter().find(|other| may_be_same_address(other, path)) else {
                    continue;
                };
                let name = &theirs.name;
                let message = match alike {
                    true => format!(
                        "provider `{name}` has the same issuer at `{other}`, so that a login at `{path}` could be either's; \
                         expected one provider for each path and issuer"
                    ),
                    false => format!(
                        "provider `{name}` has this address too, `{other}`, and only one of the two has its logins read there; \
                         expected an address of its own for mode `token-relay`"
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
