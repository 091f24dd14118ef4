//! `[console]`: whether it is on, and who signs in.

use super::reader::{Found, Section, shown};
use super::values::Wrong;
use super::{Admin, Console, OperatorSettings, ProviderSettings};
use crate::pipeline::ids::{RoleName, Target};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::provider::Mode;

/// The console's sessions are cookies: over a network they need TLS, here or in something before this listener.
pub fn read(section: &Section<'_>, admin: &Admin, providers: &[ProviderSettings], rules: &RuleSet) -> Console {
    let enabled = section.flag("enabled", false);
    let operators = operators(section, admin, providers, rules);
    section.finish();
    let encrypted = admin.tls.is_some() || admin.public_url.as_ref().is_some_and(|url| url.scheme() == "https");
    if let (true, false, Some(span)) =
        (enabled && !admin.address.ip().is_loopback(), encrypted, section.written("enabled"))
    {
        let message = format!(
            "the admin listener at {} is reached over the network without TLS, where a session could be stolen; expected \
             `admin.tls_certificate` and `admin.tls_key`, or an https `admin.public_url` of what ends TLS before it",
            admin.address
        );
        section.raise(&span, "enabled", message);
    }
    Console { enabled, operators }
}

const ROLES: [&str; 2] = ["read_role", "write_role"];

fn operators(
    section: &Section<'_>,
    admin: &Admin,
    providers: &[ProviderSettings],
    rules: &RuleSet,
) -> Option<OperatorSettings> {
    let provider = section.text("provider");
    let [read_role, write_role] = ROLES.map(|key| role(section, key, rules));
    let Some(provider) = provider else {
        for key in ROLES {
            if let Some(span) = section.written(key) {
                section.raise(&span, key, "needs `provider`: who signs in by it has roles");
            }
        }
        return None;
    };
    if ROLES.iter().all(|key| section.written(key).is_none()) {
        let message = "no one could sign in by it; expected `read_role`, `write_role` or both: the roles of who may look, \
                       and of who may change everything";
        section.raise(&provider.span, "provider", message);
    }
    if admin.public_url.is_none() {
        let message = "needs `admin.public_url`: the provider sends browsers back there";
        section.raise(&provider.span, "provider", message);
    }
    let provider = known(section, &provider, providers)?;
    Some(OperatorSettings { provider: provider.provider.name.clone(), read_role, write_role })
}

/// A provider with which we run logins ourselves.
fn known<'p>(
    section: &Section<'_>,
    name: &Found<&str>,
    providers: &'p [ProviderSettings],
) -> Option<&'p ProviderSettings> {
    let Some(found) = providers.iter().find(|found| found.provider.name.as_str() == name.value) else {
        let declared = providers.iter().map(|found| found.provider.name.as_str());
        section.context.raise_undeclared(name, &section.key("provider"), "provider", "", declared);
        return None;
    };
    if found.provider.mode != Mode::RelyingParty {
        let message = format!(
            "provider `{}` is in mode `{}`; expected one in mode `relying-party`, by whose code flow operators sign in",
            shown(name.value),
            found.provider.mode.word()
        );
        section.raise(&name.span, "provider", message);
        return None;
    }
    Some(found)
}

/// A role of the file that is privileged: else an API client with a lesser scope could make a mapping that gives it, and be an
/// operator.
fn role(section: &Section<'_>, key: &'static str, rules: &RuleSet) -> Option<RoleName> {
    let parse = |text: &str| RoleName::parse(text).map_err(|why| Wrong::expected(format!("a role; it {why}")));
    let Found { value: role, span } = section.parsed(key, parse)?;
    match rules.roles.contains_key(&role) {
        false => {
            let name = Found { value: role.as_str(), span };
            let declared = rules.roles.keys().map(|name| name.as_str());
            section.context.raise_undeclared(&name, &section.key(key), "role", "", declared);
        }
        true if !rules.is_privileged(&Target::Role(role.clone())) => {
            let message = format!(
                "role `{role}` is not privileged, so that an API client without scope `admin` could give it; expected \
                 `privileged = true` at its `[[role]]`"
            );
            section.raise(&span, key, message);
        }
        true => {}
    }
    Some(role)
}
