//! Where a provider's keys and endpoints come from.

use url::Url;

use super::super::problem::alternatives;
use super::super::reader::Section;
use super::super::settings::{authority, seconds, tls_files};
use super::super::values::Wrong;
use super::super::{Endpoint, KeyOrigin, KeySettings, TlsFiles, files, values};
use super::KEYS_OF_MODES;
use super::protocols::region;
use crate::pipeline::ids::Issuer;
use crate::pipeline::provider::Form;
use crate::pipeline::provider::{Binding, Mode, Protocol, Way};

pub(super) fn keys(
    section: &Section<'_>,
    mode: Option<Mode>,
    (issuer, allow_http): (Option<&Issuer>, bool),
    warnings: &mut Vec<String>,
) -> Option<KeySettings> {
    let refresh = section.duration("refresh", seconds(3600), seconds(10)..=seconds(7 * 86_400));
    let max_stale = section.duration("max_stale", seconds(86_400), seconds(60)..=seconds(30 * 86_400));
    if max_stale < refresh {
        let span = section.written("max_stale").or_else(|| section.written("refresh")).unwrap_or(section.span.clone());
        section.raise(&span, "max_stale", "is shorter than `refresh`, so that keys would run out between two fetches");
    }
    let ca_file = authority(section);
    let known = mode?;
    let (source, endpoint) = match known.way() {
        _ if known.is_saml() => (saml_source(section, issuer, warnings), section.parsed("sso_url", address)),
        Way::Watched | Way::Ours => {
            (oidc_source(section, allow_http), section.parsed("authorization_endpoint", address))
        }
        Way::Relayed => (oidc_source(section, allow_http), None),
        Way::Presented => (bearer_source(section, issuer, allow_http), None),
    };
    let fetched =
        !matches!(source, Some(KeyOrigin::JwksFile(_) | KeyOrigin::MetadataFile(_) | KeyOrigin::Certificates(_)));
    if let (Some(file), false) = (&ca_file, fetched || known.way() == Way::Relayed) {
        section.raise(&file.span, "ca_file", "nothing is fetched from this provider; expected keys from a URL");
    }
    let (endpoint, ca_file) = (endpoint.map(|found| found.value), ca_file.map(|found| found.value));
    let named = named_endpoints(section, mode, allow_http);
    if allow_http && !fetched && !known.is_saml() && !known.exchanges() {
        let span = section.written("allow_http").unwrap_or_else(|| section.span.clone());
        section.raise(
            &span,
            "allow_http",
            "nothing is asked of this provider; with `jwks_file` an http issuer needs no switch",
        );
    } else if allow_http {
        let name = issuer.map(Issuer::as_str).unwrap_or_default();
        warnings.push(format!(
            "`{name}` may be asked over plain http: an attacker who can change traffic in that network can log in as anyone; \
             use https where you can"
        ));
    }
    let identity = identity(section, warnings);
    let source = source?;
    if source != KeyOrigin::Discovery {
        for (key, purpose) in needed_by_hand(known) {
            require_by_hand(section, key, purpose);
        }
    }
    Some(KeySettings { source, endpoint, named, identity, refresh, max_stale, ca_file, egress: None, allow_http })
}

/// The addresses that a mode cannot do without, and that only the operator can tell where there is no discovery document.
fn needed_by_hand(mode: Mode) -> &'static [(&'static str, &'static str)] {
    const TOKEN: (&str, &str) = ("token_endpoint", "where tokens come from");
    const AUTHORIZATION: (&str, &str) = ("authorization_endpoint", "where people log in");
    match mode.way() {
        Way::Relayed => &[TOKEN],
        Way::Ours if mode.exchanges() => &[AUTHORIZATION, TOKEN],
        _ => &[],
    }
}

fn require_by_hand(section: &Section<'_>, key: &'static str, purpose: &str) {
    if section.written(key).is_some() {
        return;
    }
    let message = format!(
        "missing in `{}`; without discovery nothing says {purpose}; \
         expected for instance {key} = \"https://idp.example.com/…\"",
        section.name
    );
    section.context.raise_absent(&section.span, section.key(key), message);
}

/// Endpoints that the operator names, since the provider has no discovery document or a wrong one.
fn named_endpoints(section: &Section<'_>, mode: Option<Mode>, allow_http: bool) -> Vec<(Endpoint, Url)> {
    let has = |endpoint: &Endpoint| {
        let has = KEYS_OF_MODES.iter().find(|(key, _)| *key == endpoint.member()).map(|(_, has)| *has);
        mode.is_some_and(|mode| has.is_some_and(|has| has(mode)))
    };
    let named = Endpoint::ALL.into_iter().filter(has).filter_map(|endpoint| {
        // Browsers are sent there, from wherever they are.
        let inner = allow_http && endpoint != Endpoint::EndSession;
        let address = section.parsed(endpoint.member(), asked(inner))?;
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

/// Where the keys behind a header are, which vendors have fixed.
fn bearer_source(section: &Section<'_>, issuer: Option<&Issuer>, allow_http: bool) -> Option<KeyOrigin> {
    // An invalid header was reported where the policy was read.
    let form = section.text("header").and_then(|text| Form::named(text.value)).unwrap_or(Form::Authorization);
    let key_url = section.parsed("key_url", values::endpoint);
    let written = section.written("jwks_url").is_some() || section.written("jwks_file").is_some();
    if let (Some(span), true) = (section.written("key_url"), form != Form::AlbData) {
        section.raise(&span, "key_url", "belongs to header `x-amzn-oidc-data`");
    }
    let fixed = |address: String| Url::parse(&address).ok();
    match form {
        _ if written && form != Form::AlbData => oidc_source(section, allow_http),
        Form::Authorization | Form::ForwardedAccessToken => oidc_source(section, allow_http),
        Form::CloudflareAccess => {
            let issuer = issuer?.as_str().trim_end_matches('/');
            fixed(format!("{issuer}/cdn-cgi/access/certs")).map(KeyOrigin::JwksUrl)
        }
        Form::GoogleIap => fixed("https://www.gstatic.com/iap/verify/public_key-jwk".into()).map(KeyOrigin::JwksUrl),
        Form::AlbData => {
            for key in ["jwks_url", "jwks_file"] {
                if let Some(span) = section.written(key) {
                    section.raise(
                        &span,
                        key,
                        "a load balancer's keys are not a JWK Set; expected `key_url`, or nothing",
                    );
                }
            }
            let region = section.text("signer").and_then(|arn| region(arn.value).map(str::to_owned));
            let usual =
                || region.and_then(|region| fixed(format!("https://public-keys.auth.elb.{region}.amazonaws.com")));
            key_url.map(|found| found.value).or_else(usual).map(KeyOrigin::OneByOne)
        }
    }
}

/// How the address of something that we ask is read.
fn asked(allow_http: bool) -> fn(&str) -> Result<Url, Wrong> {
    if allow_http { values::inner_endpoint } else { values::endpoint }
}

fn oidc_source(section: &Section<'_>, allow_http: bool) -> Option<KeyOrigin> {
    let url = section.parsed("jwks_url", asked(allow_http));
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

pub(super) const SAML_SOURCES: [&str; 3] = ["metadata_url", "metadata_file", "certificate_files"];

fn saml_source(section: &Section<'_>, issuer: Option<&Issuer>, warnings: &mut Vec<String>) -> Option<KeyOrigin> {
    let url = section.parsed("metadata_url", values::endpoint);
    let now = section.context.around.now;
    let entity_id = issuer.map(Issuer::as_str).unwrap_or_default();
    let file = files::checked_file(section, "metadata_file", |bytes| {
        let (ends, skipped) = files::check_metadata(bytes, entity_id, now)?;
        let name = section.text("metadata_file").map(|text| text.value).unwrap_or_default();
        warnings.extend(skipped.into_iter().map(|why| format!("`{name}`: {why}")));
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
pub(super) fn check_endpoint(
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
