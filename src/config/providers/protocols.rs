//! What a provider's tokens must be: the rules of its protocol, and of the header that they come in.

use std::sync::Arc;

use super::super::files;
use super::super::presets::Defaults;
use super::super::problem::{alternatives, nearest};
use super::super::reader::{Found, Section, shown};
use super::super::values::Wrong;
use super::KEYS_OF_MODES;
use crate::pipeline::capture::bearer::Signer;
use crate::pipeline::ids::Issuer;
use crate::pipeline::provider::Form;
use crate::pipeline::provider::{BearerPolicy, Mode, OidcPolicy, Protocol, SamlPolicy, Way};
use crate::pipeline::verify::oidc::SigningAlgorithm;

pub(super) fn protocol(
    section: &Section<'_>,
    mode: Option<Mode>,
    preset: Option<Defaults>,
    acs_urls: Vec<String>,
) -> Option<Protocol> {
    let mode = mode?;
    match mode.way() {
        _ if mode.is_saml() => saml(section, mode, preset, acs_urls).map(Protocol::Saml),
        Way::Presented => bearer(section).map(Protocol::Oidc),
        Way::Watched | Way::Relayed | Way::Ours => oidc(section).map(Protocol::Oidc),
    }
}

/// A key of another mode is a mistake of another kind than an unknown one.
pub(super) fn misplaced(section: &Section<'_>, mode: Option<Mode>) {
    for (key, has) in KEYS_OF_MODES {
        section.accept(&[key]);
        if let (Some(mode), Some(span)) = (mode, section.written(key))
            && !has(mode)
        {
            let mut words: Vec<&str> = Mode::EVERY.into_iter().filter(|mode| has(*mode)).map(Mode::word).collect();
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
    let (trusted_audiences, authorized_parties) =
        (identifiers(section, "trusted_audiences"), identifiers(section, "authorized_parties"));
    let client_id = identifier(section, "client_id", &client_id?)?;
    Some(OidcPolicy { client_id, trusted_audiences, authorized_parties, algorithms, bearer: None })
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
    let bearer = Some(BearerPolicy { form, signer });
    Some(OidcPolicy { client_id, trusted_audiences: Vec::new(), authorized_parties: Vec::new(), algorithms, bearer })
}

const ARN: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/name/0123456789abcdef";

/// The region of a load balancer's ARN: `arn:PARTITION:elasticloadbalancing:REGION:ACCOUNT:loadbalancer/…`.
pub(super) fn region(arn: &str) -> Option<&str> {
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

pub(super) fn form(section: &Section<'_>) -> Form {
    let headers = || Form::ALL.into_iter().map(|form| form.rules().header);
    let form = section.parsed("header", |text| {
        Form::named(text).ok_or_else(|| Wrong { expected: alternatives(headers()), nearest: nearest(text, headers()) })
    });
    form.map_or(Form::Authorization, |found| found.value)
}

/// Names of clients other than our own.
fn identifiers(section: &Section<'_>, key: &'static str) -> Vec<String> {
    let identifier = |text: &str| {
        Issuer::parse(text)
            .map(|name| name.as_str().to_owned())
            .map_err(|why| Wrong::expected(format!("a client id: {why}")))
    };
    section.list(key, false, identifier).unwrap_or_default()
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
        None if mode.is_relying_party() => {
            section.accept(&["audience"]);
            own
        }
        _ => {
            let text = section.required("audience", "https://app.example.com/saml/metadata");
            text.and_then(|text| identifier(section, "audience", &text))
        }
    };
    let allow_idp_initiated = section.flag("allow_idp_initiated", false);
    let friendly_names = section.flag("friendly_names", true);
    let allow_cbc = section.flag("allow_cbc", preset.is_some_and(|preset| preset.allow_cbc));
    let decryption_keys = files::decryption_keys(section, "decryption_key_files").into_iter().map(Arc::new).collect();
    Some(SamlPolicy { audience: audience?, acs_urls, allow_idp_initiated, allow_cbc, friendly_names, decryption_keys })
}

/// A name that the app has at the provider: compared byte for byte, so that only its being there is checked.
pub(super) fn identifier(section: &Section<'_>, key: &str, text: &Found<&str>) -> Option<String> {
    section.checked(key, text, Issuer::parse).map(|checked| checked.as_str().to_owned())
}
