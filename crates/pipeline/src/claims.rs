//! From a verified assertion to the claims that mappings read, each in its typed state.
//!
//! What a claim brought is decided once, here, and never collapsed later: values, empty, missing, malformed, unresolved.
//! Incomplete is not empty: only values, empty, and missing under `clear` ever take something away.
//!
//! ```text
//! "groups": ["a", "b"]        values a, b
//! "groups": "a;b" with ";"    values "a;b", split into a, b where a mapping looks
//! "groups": [] or ""          empty: revokes
//! (no groups) or null         missing: what `when_missing` says
//! "groups": [{...}, {...}]    malformed: keeps
//! "_claim_names": {"groups"}  unresolved: keeps
//! ```
//!
//! A claim may be read from several payloads of one login; [`sources`] says how they make one. [`arrived`] says what came, by name.

pub mod arrived;
pub mod dn;
pub mod format;
pub mod names;
pub mod overage;
pub mod selector;
pub mod sources;
pub mod split;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use self::format::{Elements, Texts};
use self::selector::{Element, Found, Selector};
use self::sources::{Brought, Reading, Source, Sources, Take};
use self::split::Delimiter;
use super::ids::{ClaimName, InvalidText, UserId};
use super::number;
pub use super::provider::claim::{ClaimRule, WhenMissing};
use super::provider::{ClaimLimits, Provider, UserClaim, UserTake};
use super::verify::saml::{SamlStatement, SamlValue};
use super::verify::{Assertion, Statement, Verified};

impl ClaimRule {
    /// Why a login is refused that brings this state; `strict` where the provider is, and something reads the claim.
    pub fn refuses(&self, state: &ClaimState, strict: bool) -> Option<ClaimsRefusal> {
        match state {
            ClaimState::Missing if self.when_missing == WhenMissing::Refuse => {
                Some(ClaimsRefusal::MissingRefused(self.name.clone()))
            }
            ClaimState::Unresolved(_) | ClaimState::Malformed if strict => {
                Some(ClaimsRefusal::Strict { claim: self.name.clone(), state: state.clone() })
            }
            _ => None,
        }
    }

    fn texts(&self) -> Texts<'_> {
        Texts { format: self.format, between: self.delimiter.as_ref().filter(|_| !self.first_rdn) }
    }
}

/// What a claim brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimState {
    /// At least one value, as the token wrote it: not yet split. Distinguished names that are reduced are split already.
    Values(Vec<String>),
    /// Present, and nothing in it: `[]`, `""`, an attribute without values.
    Empty,
    /// Absent, or null.
    Missing,
    /// Present, and every element of a type that has no text.
    Malformed,
    Unresolved(Unresolved),
}

/// Why a login does not say what the claim holds. Of several reasons the last in this order is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unresolved {
    /// A source that the rule names does not come with this login.
    NotInToken,
    /// A source that the rule names was asked for and did not come.
    FetchFailed,
    /// More values or bytes than the limits allow.
    OverLimit,
    /// No login's claims are at hand but recorded ones, and this one was not recorded, or was read otherwise.
    NotRecorded,
    /// The provider left the values out, and the directory that has them could not be asked.
    LookUpFailed,
    /// The provider left the values out and points elsewhere for them.
    Overage,
}

impl ClaimState {
    /// Its name in plans, audit rows and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            ClaimState::Values(_) => "values",
            ClaimState::Empty => "empty",
            ClaimState::Missing => "missing",
            ClaimState::Malformed => "malformed",
            ClaimState::Unresolved(Unresolved::Overage) => "unresolved (overage)",
            ClaimState::Unresolved(Unresolved::OverLimit) => "unresolved (over a limit)",
            ClaimState::Unresolved(Unresolved::NotInToken) => "unresolved (not in this token)",
            ClaimState::Unresolved(Unresolved::FetchFailed) => "unresolved (fetch failed)",
            ClaimState::Unresolved(Unresolved::NotRecorded) => "unresolved (not recorded)",
            ClaimState::Unresolved(Unresolved::LookUpFailed) => "unresolved (overage, look-up failed)",
        }
    }
}

impl fmt::Display for ClaimState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One claim as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub name: ClaimName,
    pub state: ClaimState,
    pub split: Split,
    /// Elements of a wrong type that were skipped among valid ones.
    pub skipped: usize,
    /// Whether mappings can be decided on it: not when unresolved, malformed, or missing under `keep`.
    pub decided: bool,
}

/// How a claim's values come apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// `None`: not at all, unless a mapping says so.
    pub delimiter: Option<Delimiter>,
    pub strip_prefix: Option<Arc<str>>,
    /// The values are pieces already: no delimiter tears a name out of a distinguished name.
    pub done: bool,
}

impl Claim {
    /// The values that a mapping compares: split by its own delimiter, else by the claim's, without the claim's prefix.
    pub fn pieces<'a>(&'a self, own: Option<&Delimiter>) -> Vec<&'a str> {
        let Split { delimiter, strip_prefix, done } = &self.split;
        let delimiter = if *done { None } else { own.or(delimiter.as_ref()) };
        match &self.state {
            ClaimState::Values(values) => split::split(values, delimiter, strip_prefix.as_deref()),
            _ => Vec::new(),
        }
    }
}

/// All claims of a login, in the order of the provider's rules, and who logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub user: UserId,
    pub email: Option<String>,
    pub display_name: Option<String>,
    pub claims: Vec<Claim>,
}

impl Claims {
    /// The names of those that did not come, where some did not.
    pub fn missing(&self) -> Option<String> {
        let names =
            self.claims.iter().filter(|claim| claim.state == ClaimState::Missing).map(|claim| claim.name.as_str());
        let names: Vec<&str> = names.collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

/// Why a verified login is refused by its claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsRefusal {
    #[error("the user claim `{claim}` is {found}; expected exactly one text value")]
    NoUser { claim: String, found: String },
    #[error("the user claim `{claim}` {why}")]
    InvalidUser { claim: String, why: InvalidText },
    #[error("the NameID is transient, so it does not identify a user across logins; set another `user_claim`")]
    TransientNameId,
    #[error("claim `{0}` is missing, and `when_missing` is `refuse`")]
    MissingRefused(ClaimName),
    #[error("claim `{claim}` is {state}, and the provider is `strict`")]
    Strict { claim: ClaimName, state: ClaimState },
}

/// Whether some mapping or gate reads a claim: one that nothing reads refuses no login.
pub type Reads<'a> = &'a (dyn Fn(&ClaimName) -> bool + Sync);

/// Reads the claims that the provider declares.
///
/// # Errors
/// When no user can be identified, or a claim's state refuses the login by the operator's rule.
pub fn read(
    assertion: &Verified<Assertion>,
    sources: &Sources,
    provider: &Provider,
    reads: Reads<'_>,
) -> Result<Claims, ClaimsRefusal> {
    read_statement(&assertion.get().statement, sources, provider, reads)
}

/// Reads what is not verified, to explain or test rules: nothing that was read so may be applied.
///
/// # Errors
/// As for [`read`].
pub fn read_dry(statement: &Statement, provider: &Provider, reads: Reads<'_>) -> Result<Claims, ClaimsRefusal> {
    read_statement(statement, &Sources::default(), provider, reads)
}

/// What one selector finds in what is not verified.
pub fn state_dry(statement: &Statement, selector: &Selector) -> ClaimState {
    of_statement(statement, selector).state
}

fn read_statement(
    statement: &Statement,
    sources: &Sources,
    provider: &Provider,
    reads: Reads<'_>,
) -> Result<Claims, ClaimsRefusal> {
    let user = user(statement, provider)?;
    let mut claims = Vec::with_capacity(provider.claims.len());
    for rule in &provider.claims {
        claims.push(read_claim(look(statement, sources, rule), rule, provider, reads)?);
    }
    let first = |name: &Option<String>| name.as_deref().and_then(|name| about_the_person(statement, sources, name));
    Ok(Claims {
        user,
        email: first(&provider.user.email_claim),
        display_name: first(&provider.user.name_claim),
        claims,
    })
}

/// Whether a source that did not come with the login may tell what the others do not.
pub fn lacks(assertion: &Verified<Assertion>, sources: &Sources, provider: &Provider, source: Source) -> bool {
    let lacking = |rule: &ClaimRule| {
        let found = look(&assertion.get().statement, sources, rule);
        matches!(found.state, ClaimState::Missing | ClaimState::Unresolved(_))
    };
    provider.claims.iter().any(|rule| rule.from.contains(&source) && lacking(rule))
}

/// The claims that the provider left out of its token and that only a directory can tell.
pub fn left_out<'p>(
    assertion: &Verified<Assertion>,
    sources: &Sources,
    provider: &'p Provider,
) -> impl Iterator<Item = &'p ClaimRule> {
    let is_left_out = move |rule: &&ClaimRule| {
        overage::is_groups(&rule.selector)
            && look(&assertion.get().statement, sources, rule).state == ClaimState::Unresolved(Unresolved::Overage)
    };
    provider.claims.iter().filter(is_left_out)
}

fn read_claim(found: Reading, rule: &ClaimRule, provider: &Provider, reads: Reads<'_>) -> Result<Claim, ClaimsRefusal> {
    let Reading { state, skipped } = found;
    let state = within_limits(state, rule.delimiter.as_ref(), provider.limits);
    let state = if rule.first_rdn { reduced(state, rule.delimiter.as_ref()) } else { state };
    let state = if has_pieces(&state, rule) { state } else { ClaimState::Empty };
    if let Some(refusal) = rule.refuses(&state, provider.strict && reads(&rule.name)) {
        return Err(refusal);
    }
    let undecided = matches!(state, ClaimState::Unresolved(_) | ClaimState::Malformed);
    let kept = state == ClaimState::Missing && rule.when_missing == WhenMissing::Keep;
    Ok(Claim {
        name: rule.name.clone(),
        decided: !(undecided || kept),
        state,
        split: Split {
            delimiter: rule.delimiter.clone(),
            strip_prefix: rule.strip_prefix.clone(),
            done: rule.is_split(),
        },
        skipped,
    })
}

/// Whether there is anything to compare: delimiters, blanks and the prefix alone are as empty as an empty text.
fn has_pieces(state: &ClaimState, rule: &ClaimRule) -> bool {
    match state {
        ClaimState::Values(values) => {
            let delimiter = rule.delimiter.as_ref().filter(|_| !rule.is_split());
            split::has_pieces(values, delimiter, rule.strip_prefix.as_deref())
        }
        _ => true,
    }
}

fn reduced(state: ClaimState, delimiter: Option<&Delimiter>) -> ClaimState {
    match state {
        ClaimState::Values(values) => {
            let pieces: Vec<String> = values.iter().flat_map(|value| dn::pieces(value, delimiter)).collect();
            state_of(pieces, 0, 0)
        }
        other => other,
    }
}

/// What the sources of a rule say together.
fn look(statement: &Statement, sources: &Sources, rule: &ClaimRule) -> Reading {
    let of_payload =
        |brought| sources::of_payload(brought, |payload| oidc_state(payload, &rule.selector, rule.texts()));
    let readings = rule.from.iter().map(|source| match source {
        Source::Assertion if matches!(statement, Statement::Userinfo(_)) => Reading::unresolved(Unresolved::NotInToken),
        Source::Assertion => in_format(statement, &rule.selector, rule.texts()),
        Source::Userinfo => of_payload(&sources.userinfo),
        Source::AccessToken => of_payload(&sources.access_token),
    });
    match rule.take {
        Take::First => completed(sources::first(readings), rule, sources),
        Take::Union => sources::union(readings.map(|found| completed(found, rule, sources))),
    }
}

/// Puts what a directory answered in the place of groups that were left out.
fn completed(found: Reading, rule: &ClaimRule, sources: &Sources) -> Reading {
    if found.state != ClaimState::Unresolved(Unresolved::Overage) || !overage::is_groups(&rule.selector) {
        return found;
    }
    match &sources.directory {
        Brought::Absent => found,
        Brought::Failed => Reading::unresolved(Unresolved::LookUpFailed),
        Brought::Present(values) => Reading { state: state_of(values.clone(), 0, 0), skipped: 0 },
    }
}

/// What one selector finds, each text a value.
fn of_statement(statement: &Statement, selector: &Selector) -> Reading {
    in_format(statement, selector, Texts::default())
}

fn in_format(statement: &Statement, selector: &Selector, texts: Texts<'_>) -> Reading {
    match statement {
        Statement::Oidc(payload) | Statement::Userinfo(payload) => oidc_state(payload, selector, texts),
        Statement::Saml(statement) => saml_state(statement, selector, texts),
    }
}

fn oidc_state(payload: &serde_json::Map<String, Value>, selector: &Selector, texts: Texts<'_>) -> Reading {
    // A marker says that the claim was left out, so it counts before anything else.
    if overage::in_token(payload, selector) {
        return Reading::unresolved(Unresolved::Overage);
    }
    let found = match selector.find(payload) {
        Found::Missing => return Reading { state: ClaimState::Missing, skipped: 0 },
        Found::WrongShape => return Reading { state: ClaimState::Malformed, skipped: 1 },
        Found::Elements(elements) => elements,
    };
    let mut elements = Elements::new(texts);
    for element in found {
        match element {
            Element::Value(value) => elements.value(value),
            Element::Key(key) => elements.text(key),
        }
    }
    reading_of(elements)
}

fn saml_state(statement: &SamlStatement, selector: &Selector, texts: Texts<'_>) -> Reading {
    if overage::in_assertion(statement, selector) {
        return Reading::unresolved(Unresolved::Overage);
    }
    let mut elements = Elements::new(texts);
    if let Some(part) = selector.part() {
        let values = part.of(statement);
        // It is there, and cannot be read: that takes nothing away.
        if statement.encrypted_id && part.is_of_name_id() {
            return Reading { state: ClaimState::Malformed, skipped: 1 };
        }
        if values.is_empty() {
            return Reading { state: ClaimState::Missing, skipped: 0 };
        }
        values.into_iter().for_each(|value| elements.text(value));
        return reading_of(elements);
    }
    let mut present = false;
    let names = selector.attribute_names();
    for attribute in statement.attributes.iter().filter(|attribute| names.is(attribute, statement.by_name_alone)) {
        present = true;
        for value in &attribute.values {
            match value {
                SamlValue::Text(text) => elements.text(text),
                SamlValue::Nil => elements.nil += 1,
                SamlValue::Structured => elements.skipped += 1,
            }
        }
    }
    if !present {
        return Reading { state: ClaimState::Missing, skipped: 0 };
    }
    reading_of(elements)
}

fn reading_of(elements: Elements<'_>) -> Reading {
    let Elements { values, blank, nil, skipped, .. } = elements;
    // Nothing but nil is null, which counts as missing in both protocols.
    if nil > 0 && values.is_empty() && blank == 0 && skipped == 0 {
        return Reading { state: ClaimState::Missing, skipped: 0 };
    }
    Reading { state: state_of(values, blank, skipped), skipped }
}

fn state_of(values: Vec<String>, blank: usize, skipped: usize) -> ClaimState {
    match (values.is_empty(), skipped > 0 && blank == 0) {
        (false, _) => ClaimState::Values(values),
        (true, true) => ClaimState::Malformed,
        (true, false) => ClaimState::Empty,
    }
}

fn within_limits(state: ClaimState, delimiter: Option<&Delimiter>, limits: ClaimLimits) -> ClaimState {
    let ClaimState::Values(values) = state else { return state };
    let bytes: usize = values.iter().map(String::len).sum();
    let over = values.len() > limits.values
        || bytes > limits.bytes
        || delimiter.is_some_and(|delimiter| split::count(&values, delimiter) > limits.values);
    if over { ClaimState::Unresolved(Unresolved::OverLimit) } else { ClaimState::Values(values) }
}

/// Who logged in.
fn user(statement: &Statement, provider: &Provider) -> Result<UserId, ClaimsRefusal> {
    let rule = &provider.user;
    let claim = match (&rule.claim, statement) {
        (UserClaim::Named(name), _) => name.as_str(),
        (UserClaim::Subject, Statement::Oidc(_) | Statement::Userinfo(_)) => "sub",
        (UserClaim::Subject, Statement::Saml(_)) => "NameID",
    };
    let no_user = |found: &str| ClaimsRefusal::NoUser { claim: claim.to_owned(), found: found.to_owned() };
    let value = match (&rule.claim, statement) {
        (UserClaim::Subject, Statement::Saml(statement)) => {
            let missing = match statement.encrypted_id {
                true => "encrypted by itself (`EncryptedID`), which is not opened",
                false => "missing",
            };
            let name_id = statement.name_id.as_ref().ok_or_else(|| no_user(missing))?;
            if name_id.format.as_deref() == Some(TRANSIENT) {
                return Err(ClaimsRefusal::TransientNameId);
            }
            name_id.value.clone()
        }
        // OIDC Core section 2: a string. A list of one names a user here and none in an app that reads by the book.
        (UserClaim::Subject, Statement::Oidc(payload) | Statement::Userinfo(payload)) => match payload.get("sub") {
            Some(Value::String(subject)) => subject.clone(),
            Some(_) => return Err(no_user("not a string")),
            None => return Err(no_user("missing")),
        },
        _ => {
            if holds_inexact_number(statement, claim) {
                return Err(no_user("a number with a fraction or an exponent"));
            }
            let found = Selector::parse(claim).map(|selector| of_statement(statement, &selector));
            let found = found.map_err(|_| no_user("not a selector"))?;
            match (rule.take, &found.state) {
                (UserTake::First, ClaimState::Values(values)) if found.skipped == 0 => {
                    values.first().cloned().ok_or_else(|| no_user("empty"))?
                }
                _ => the_one_text(found).map_err(no_user)?,
            }
        }
    };
    rule.user(value).map_err(|why| ClaimsRefusal::InvalidUser { claim: claim.to_owned(), why })
}

/// One number has many texts with a fraction or an exponent, and one user has one name.
fn holds_inexact_number(statement: &Statement, claim: &str) -> bool {
    let (Statement::Oidc(payload) | Statement::Userinfo(payload)) = statement else { return false };
    let Ok(selector) = Selector::parse(claim) else { return false };
    let Found::Elements(elements) = selector.find(payload) else { return false };
    let inexact = |value: &Value| number::text(value).is_some_and(|text| !number::is_whole(&text));
    elements.into_iter().any(|element| matches!(element, Element::Value(value) if inexact(value)))
}

/// SAML Core 8.3.8: an identifier with transient semantics.
const TRANSIENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient";

/// The one text value of a claim, if it has exactly one.
fn single(statement: &Statement, claim: &str) -> Option<String> {
    only_text(of_statement(statement, &Selector::parse(claim).ok()?))
}

/// What the headers say of a person, wherever the login says it.
fn about_the_person(statement: &Statement, sources: &Sources, claim: &str) -> Option<String> {
    let selector = Selector::parse(claim).ok()?;
    only_text(of_statement(statement, &selector)).or_else(|| {
        only_text(sources::of_payload(&sources.userinfo, |payload| oidc_state(payload, &selector, Texts::default())))
    })
}

fn only_text(found: Reading) -> Option<String> {
    the_one_text(found).ok()
}

/// The one text of a claim. One that comes twice (Shibboleth sends an attribute under its name and under its OID) is one.
fn the_one_text(found: Reading) -> Result<String, &'static str> {
    let Reading { state, skipped } = found;
    match state {
        ClaimState::Values(_) if skipped > 0 => Err("partly no text"),
        ClaimState::Values(values) => {
            let mut values = values.into_iter();
            let first = values.next().ok_or("empty")?;
            if values.all(|value| value == first) { Ok(first) } else { Err("several different values") }
        }
        ClaimState::Empty => Err("empty"),
        ClaimState::Missing => Err("missing"),
        ClaimState::Malformed => Err("no text"),
        ClaimState::Unresolved(_) => Err("not in the token"),
    }
}
