//! What a response and its assertion must say, all of it against `now` and the provider's policy.
//!
//! The rules are those of the Web Browser SSO profile (SAML Profiles section 4.1.4) with SAML Core sections 2 and 3. What
//! a signature does not cover may refuse a login here, and never helps one.

use chrono::{DateTime, NaiveDateTime};
use roxmltree::Node;

use super::super::{Fault, Origin, check_issued};
use crate::capture::saml::ResponseHead;
use crate::capture::saml::names::{ASSERTION, BEARER, SUCCESS};
use crate::capture::saml::tree::{attribute, elements, has, named, only, plain, text};
use crate::ids::Timestamp;
use crate::provider::{Provider, SamlPolicy};

/// What every check is made against.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) provider: &'a Provider,
    pub(super) policy: &'a SamlPolicy,
    pub(super) origin: &'a Origin,
    pub(super) now: Timestamp,
}

/// What holds of an assertion whose conditions are met.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    /// Of the subject confirmation that holds.
    pub(super) in_response_to: Option<String>,
}

/// Checks the Response element's own fields. Where it is signed, what the profile asks for must be there.
pub(super) fn check_response(rules: Rules<'_>, head: &ResponseHead, signed: bool) -> Result<(), Fault> {
    check_version("response", head.version.as_deref())?;
    match head.status.as_deref() {
        Some(SUCCESS) => {}
        found => return Err(Fault::Status(short(found.unwrap_or("missing")))),
    }
    match head.issuer.as_deref() {
        Some(issuer) if issuer == rules.provider.issuer.as_str() => {}
        None if !signed => {}
        found => return Err(wrong_issuer(rules, found)),
    }
    // SAML Bindings section 3.5.5.2: mandatory in a signed message.
    match &head.destination {
        Some(destination) if rules.policy.acs_urls.contains(destination) => Ok(()),
        None if !signed => Ok(()),
        found => Err(Fault::Destination {
            found: short(found.as_deref().unwrap_or("missing")),
            expected: one_of(&rules.policy.acs_urls),
        }),
    }
}

/// Checks a signed assertion: issuer, times, audience, subject confirmation, session.
pub(super) fn check_assertion(rules: Rules<'_>, assertion: Node<'_, '_>) -> Result<Met, Fault> {
    check_version("assertion", plain(assertion, "Version"))?;
    let issuer = text(required(assertion, "Issuer")?);
    if issuer.as_deref() != Some(rules.provider.issuer.as_str()) {
        return Err(wrong_issuer(rules, issuer.as_deref()));
    }
    let issued_at = required_time(assertion, "IssueInstant")?;
    check_issued(rules.provider, rules.origin, issued_at, rules.now)?;
    let conditions_end = check_conditions(rules, required(assertion, "Conditions")?)?;
    let confirmation = check_subject(rules, required(assertion, "Subject")?)?;
    check_sessions(rules, assertion)?;
    let ends = [conditions_end, Some(confirmation.not_on_or_after)];
    let expires_at = ends.into_iter().flatten().min().unwrap_or(confirmation.not_on_or_after);
    Ok(Met { issued_at, expires_at, in_response_to: confirmation.in_response_to })
}

fn check_version(what: &str, version: Option<&str>) -> Result<(), Fault> {
    match version {
        Some("2.0") => Ok(()),
        found => {
            let found = short(found.unwrap_or("missing"));
            Err(Fault::Malformed(format!("the version of the {what} is `{found}`; expected `2.0`")))
        }
    }
}

/// SAML Core section 2.5. An unknown condition makes the assertion's validity unknown.
fn check_conditions(rules: Rules<'_>, conditions: Node<'_, '_>) -> Result<Option<Timestamp>, Fault> {
    let not_on_or_after = time(conditions, "NotOnOrAfter")?;
    if let Some(at) = time(conditions, "NotBefore")?
        && at > rules.now.plus(rules.provider.leeway)
    {
        return Err(Fault::NotYetValid { at, now: rules.now });
    }
    if let Some(at) = not_on_or_after {
        check_end(rules, at)?;
    }
    let mut restricted = false;
    for condition in elements(conditions) {
        match (condition.tag_name().namespace(), condition.tag_name().name()) {
            (Some(ASSERTION), "AudienceRestriction") => {
                check_audience(rules, condition)?;
                restricted = true;
            }
            // Every assertion is used once here, and none is passed on.
            (Some(ASSERTION), "OneTimeUse" | "ProxyRestriction") => {}
            (_, other) => {
                return Err(Fault::Malformed(format!("condition `{}` is not understood", short(other))));
            }
        }
    }
    if restricted { Ok(not_on_or_after) } else { Err(wrong_audience(rules, "missing".into())) }
}

/// SAML Core section 2.5.1.4: audiences of one restriction are alternatives; every restriction must hold.
fn check_audience(rules: Rules<'_>, restriction: Node<'_, '_>) -> Result<(), Fault> {
    let audiences: Vec<String> = named(restriction, ASSERTION, "Audience").filter_map(text).collect();
    if audiences.contains(&rules.policy.audience) {
        return Ok(());
    }
    let found = if audiences.is_empty() { "missing".into() } else { one_of(&audiences) };
    Err(wrong_audience(rules, found))
}

struct Confirmation {
    not_on_or_after: Timestamp,
    in_response_to: Option<String>,
}

/// SAML Core section 2.4: one confirmation that holds is enough. The first one's fault is told where none does.
fn check_subject(rules: Rules<'_>, subject: Node<'_, '_>) -> Result<Confirmation, Fault> {
    let mut first_fault = None;
    let bearers = named(subject, ASSERTION, "SubjectConfirmation")
        .filter(|confirmation| plain(*confirmation, "Method") == Some(BEARER));
    for bearer in bearers {
        match check_bearer(rules, bearer) {
            Ok(confirmation) => return Ok(confirmation),
            Err(fault) => first_fault = first_fault.or(Some(fault)),
        }
    }
    Err(first_fault.unwrap_or_else(|| Fault::Malformed("the subject has no bearer confirmation".into())))
}

/// SAML Profiles section 4.1.4.2.
fn check_bearer(rules: Rules<'_>, bearer: Node<'_, '_>) -> Result<Confirmation, Fault> {
    let data = required(bearer, "SubjectConfirmationData")?;
    match attribute(data, "Recipient") {
        Some(recipient) if rules.policy.acs_urls.contains(&recipient) => {}
        found => {
            return Err(Fault::Recipient {
                found: short(found.as_deref().unwrap_or("missing")),
                expected: one_of(&rules.policy.acs_urls),
            });
        }
    }
    if has(data, "NotBefore") {
        return Err(Fault::Malformed("a bearer confirmation has `NotBefore`; expected none".into()));
    }
    let not_on_or_after = required_time(data, "NotOnOrAfter")?;
    check_end(rules, not_on_or_after)?;
    Ok(Confirmation { not_on_or_after, in_response_to: attribute(data, "InResponseTo") })
}

/// SAML Core section 2.7.2. An assertion that states no authentication is none of a login.
fn check_sessions(rules: Rules<'_>, assertion: Node<'_, '_>) -> Result<(), Fault> {
    let mut authenticated = false;
    for statement in named(assertion, ASSERTION, "AuthnStatement") {
        authenticated = true;
        if let Some(at) = time(statement, "SessionNotOnOrAfter")? {
            check_end(rules, at)?;
        }
    }
    if authenticated { Ok(()) } else { Err(Fault::Malformed("`AuthnStatement` is missing".into())) }
}

fn check_end(rules: Rules<'_>, at: Timestamp) -> Result<(), Fault> {
    if rules.now >= at.plus(rules.provider.leeway) {
        return Err(Fault::Expired { at, now: rules.now });
    }
    Ok(())
}

fn required<'a, 'input: 'a>(parent: Node<'a, 'input>, name: &'static str) -> Result<Node<'a, 'input>, Fault> {
    only(parent, ASSERTION, name)
        .map_err(|error| Fault::Malformed(error.to_string()))?
        .ok_or_else(|| Fault::Malformed(format!("`{name}` is missing")))
}

fn required_time(node: Node<'_, '_>, name: &str) -> Result<Timestamp, Fault> {
    time(node, name)?.ok_or_else(|| Fault::Malformed(format!("`{name}` is missing")))
}

/// SAML Core section 1.3.3: xs:dateTime in UTC. One without a time zone is read as UTC, which is what its writer means.
pub(super) fn time(node: Node<'_, '_>, name: &str) -> Result<Option<Timestamp>, Fault> {
    plain(node, name).map(|value| moment(name, value)).transpose()
}

/// The moment that a text of that form means.
pub(super) fn moment(name: &str, value: &str) -> Result<Timestamp, Fault> {
    let moment = DateTime::parse_from_rfc3339(value)
        .map(|zoned| zoned.timestamp_millis())
        .or_else(|_| {
            NaiveDateTime::parse_from_str(value, "%Y-%m-%dT%H:%M:%S%.f").map(|plain| plain.and_utc().timestamp_millis())
        })
        .map_err(|_| {
            Fault::Malformed(format!("`{name}` is `{}`; expected a time like 2026-01-31T12:00:00Z", short(value)))
        })?;
    Ok(Timestamp(moment))
}

fn wrong_issuer(rules: Rules<'_>, found: Option<&str>) -> Fault {
    Fault::Issuer { found: short(found.unwrap_or("missing")), expected: rules.provider.issuer.to_string() }
}

fn wrong_audience(rules: Rules<'_>, found: String) -> Fault {
    Fault::Audience { found: short(&found), expected: rules.policy.audience.clone() }
}

fn one_of(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" or ")
}

/// A stranger's text, short enough for a log line.
fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_or_say_their_zone() {
        for (value, expected) in [
            ("2023-11-14T22:13:20Z", Some(1_700_000_000_000)),
            ("2023-11-14T22:13:20.5Z", Some(1_700_000_000_500)),
            ("2023-11-14T22:13:20.1234567Z", Some(1_700_000_000_123)),
            ("2023-11-14T23:13:20+01:00", Some(1_700_000_000_000)),
            ("2023-11-14T22:13:20", Some(1_700_000_000_000)),
            ("1700000000", None),
            ("", None),
            ("2023-02-30T00:00:00Z", None),
            ("999999999-01-01T00:00:00Z", None),
        ] {
            let text = format!("<a T='{value}'/>");
            let document = roxmltree::Document::parse(&text).unwrap();
            let found = time(document.root_element(), "T");
            assert_eq!(found.ok().flatten(), expected.map(Timestamp), "{value}");
        }
    }
}
