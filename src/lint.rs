//! What is legal in a configuration, and suspicious: in the rules, in what the store has of them, and in how providers share people.

mod receivers;

use crate::config::Config;
use crate::pipeline::ids::Timestamp;
use crate::pipeline::lint::{Finding, Lint, Telling, lint};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::provider::Mode;
use crate::ports::store::Unvouched;

/// Everything suspicious in a configuration and the rules that are in force with it. `unvouched`: what the store says of grants of what is
/// privileged.
pub fn findings(config: &Config, rules: &RuleSet, unvouched: &[Unvouched], now: Timestamp) -> Vec<Finding> {
    let mut findings = lint(rules, &telling(config, rules), now);
    findings.extend(unvouched.iter().flat_map(of_privileged));
    findings.extend(of_issuers(config));
    findings.extend(of_endpoints(config));
    findings.extend(of_app_sessions(config));
    findings.extend(receivers::findings(config, rules));
    findings
}

/// A SAML library in the web server before the app.
struct Library {
    name: &'static str,
    /// Where it takes logins by the POST binding.
    ours: &'static str,
    /// The other addresses where it also does so, without being configured to.
    others: &'static [&'static str],
    /// What the cookie of its session is called.
    cookie: &'static str,
}

const LIBRARIES: [Library; 2] = [
    Library {
        name: "mod_auth_mellon",
        ours: "postResponse",
        others: &["artifactResponse", "paosResponse"],
        cookie: "`mellon-cookie`",
    },
    Library {
        name: "the Shibboleth service provider",
        ours: "SAML2/POST",
        others: &["SAML2/POST-SimpleSign", "SAML2/Artifact", "SAML2/ECP"],
        cookie: "the name that begins with `_shibsession_`",
    },
];

/// Callbacks of a library that takes logins at further addresses, which are not declared: the guard refuses only what it recognises there.
fn of_endpoints(config: &Config) -> Vec<Finding> {
    let watched = config.providers.iter().map(|settings| &settings.provider);
    let mut findings = Vec::new();
    for provider in watched.filter(|provider| provider.mode == Mode::SamlPost) {
        let is_declared =
            |address: &str| provider.callbacks.iter().any(|callback| callback.eq_ignore_ascii_case(address));
        for callback in &provider.callbacks {
            for Library { name, ours, others, cookie } in LIBRARIES {
                let Some((base, end)) = callback.split_at_checked(callback.len().saturating_sub(ours.len())) else {
                    continue;
                };
                if !base.ends_with('/') || !end.eq_ignore_ascii_case(ours) {
                    continue;
                }
                let about = format!("provider `{}`, callback `{callback}`", provider.name);
                if config.sessions.app_cookie.is_none() {
                    let message = format!(
                        "{name} answers it with a redirect of its own, so that the app never sees the identity headers that come with it; \
                         expected `identity = \"session\"`, and the cookie of its session in `app_session_cookie` ({cookie}), by which each request \
                         carries them"
                    );
                    findings.push(Finding { lint: Lint::AnsweredByLibrary, about: about.clone(), message });
                }
                let further = others.iter().map(|other| format!("{base}{other}"));
                let further: Vec<String> = further.filter(|address| !is_declared(address)).collect();
                if !further.is_empty() {
                    let message = format!(
                        "{name} also takes logins at `{}`, which the guard alone watches; name every AssertionConsumerService of the \
                         app's metadata in `callback`",
                        further.join("`, `")
                    );
                    findings.push(Finding { lint: Lint::FurtherEndpoints, about, message });
                }
            }
        }
    }
    findings
}

/// An app that goes on with a session of its own, whose cookies reach it.
fn of_app_sessions(config: &Config) -> Option<Finding> {
    let cookies = config.headers.preset.session_cookies();
    let tells = config.providers.iter().any(|settings| settings.provider.mode.tells_at_each_request());
    if cookies.is_empty() || !config.headers.drop_cookies.is_empty() || !tells {
        return None;
    }
    let message = format!(
        "the app of preset `{}` begins a session of its own from the headers, and in that browser keeps the person and their groups \
         until its cookie ends: the next person who signs in there is the old one to it; expected [\"{}\"], which it has by default \
         where every provider is of mode `relying-party` or `bearer`",
        config.headers.preset.word(),
        cookies.join("\", \"")
    );
    Some(Finding { lint: Lint::KeptByApp, about: "`headers.drop_cookies`".into(), message })
}

/// Providers of one issuer whose users are in two namespaces: a user disabled or denied in one is not in the other.
fn of_issuers(config: &Config) -> Vec<Finding> {
    let providers: Vec<_> = config.providers.iter().map(|settings| &settings.provider).collect();
    let mut findings = Vec::new();
    for (at, one) in providers.iter().enumerate() {
        for other in providers.iter().skip(at + 1) {
            if one.user.namespace != other.user.namespace && one.issuers().any(|name| other.is_called(name)) {
                let message = format!(
                    "it has the issuer of provider `{}`, whose users are in namespace `{}`: a user who is disabled or denied \
                     something in one can still log in through the other; set the same `namespace` for both if they are the \
                     same people",
                    other.name, other.user.namespace
                );
                let about = format!("provider `{}`, namespace `{}`", one.name, one.user.namespace);
                findings.push(Finding { lint: Lint::IssuerInTwoNamespaces, about, message });
            }
        }
    }
    findings
}

/// Grants of something privileged that no administrator made: those that end with these rules, and those that stay unsaid.
pub fn of_privileged(found: &Unvouched) -> Vec<Finding> {
    let Unvouched { target, by_hand, mapped, unknown } = found;
    let finding = |message: String| Finding { lint: Lint::Unvouched, about: target.to_string(), message };
    let mut findings = Vec::new();
    if by_hand + mapped > 0 {
        findings.push(finding(format!(
            "it is privileged, and {by_hand} grants by hand and {mapped} by mappings were not made with scope `admin`: they \
             end when these rules take effect; `loginsync user assign` keeps one"
        )));
    }
    if *unknown > 0 {
        findings.push(finding(format!(
            "it is privileged, and of {unknown} grants by hand it is not known whether they were made with scope `admin`; look \
             with `loginsync group members`, and remove (`user unassign`) or repeat (`user assign`) what you find"
        )));
    }
    findings
}

fn telling(config: &Config, rules: &RuleSet) -> Telling {
    let headers = &config.headers;
    let leaves_out = headers.no_groups.is_none() && headers.preset.is_of_another_proxy();
    let providers = config.providers.iter().map(|settings| &settings.provider);
    // Apps behind the relay get no identity headers.
    let told = providers.filter(|provider| leaves_out && provider.mode != Mode::TokenRelay);
    let untold = headers.untold(rules);
    Telling {
        preset: headers.preset.word(),
        leaves_out: told.map(|provider| provider.name.clone()).collect(),
        untold: untold.into_iter().map(|(name, why)| (name, why.to_string())).collect(),
    }
}
