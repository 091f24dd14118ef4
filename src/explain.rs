//! A login that is looked at instead of let in: the stages of [`crate::login`], each asked what it says, and nothing
//! written.
//!
//! A token that is not believed is looked at all the same, and the [`Report`] says so: what follows is then what a stranger
//! claims. Only [`crate::login`] ever applies anything.
//!
//! A login may go on to ask the provider what its token left out. This look asks the provider's directory where it is told
//! to, and never userinfo, for which it would have to spend an access token; what it does not ask is said beside the claim,
//! and an outcome that hangs on it is not told.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::pipeline::capture::oidc::{IdTokenError, UntrustedIdToken};
use crate::pipeline::capture::saml::{self, GuardError};
use crate::pipeline::capture::{Captured, UntrustedToken};
use crate::pipeline::claims::sources::{Brought, Sources};
use crate::pipeline::claims::{self, Claims, ClaimsRefusal, overage};
use crate::pipeline::explain::dry::WrittenClaims;
use crate::pipeline::explain::{
    ClaimReport, Outcome, PlanReport, Proof, Report, TokenReport, UserReport, Verdict, elsewhere, reason, verdicts,
};
use crate::pipeline::ids::{ClaimName, Timestamp};
use crate::pipeline::mapping::{RuleSet, candidates};
use crate::pipeline::number;
use crate::pipeline::plan::{self, Snapshot};
use crate::pipeline::provider::{BearerPolicy, Binding, Mode, OidcPolicy, Protocol, Provider};
use crate::pipeline::verify::{self, Assertion, Fault, Origin, ProviderKeys, Spending, Verified};
use crate::ports::directory::Directory;
use crate::ports::store::{Login, Preview, Store, StoreError};

/// What is to be explained.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made once and taken apart at once")]
pub enum Input {
    Token(UntrustedToken),
    /// The provider's answer that there was no login.
    Denied,
    Claims(WrittenClaims),
}

/// Why a text cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    #[error("the ID token cannot be read: {0}")]
    IdToken(#[from] IdTokenError),
    #[error("the SAML response cannot be read: {0}")]
    Saml(#[from] GuardError),
    #[error("the claims are no JSON object: {0}")]
    Claims(String),
    #[error("a logout answer, which logs nobody in")]
    Logout,
}

impl Input {
    /// Reads what an operator has captured: a JWT; a SAML response as XML or base64; the form body, or the token endpoint's
    /// JSON answer, that carries one of them; or a JSON object of claims.
    ///
    /// # Errors
    /// When the text is none of these for the provider's protocol.
    pub fn read(text: &str, protocol: &Protocol, max_document: usize) -> Result<Self, InputError> {
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.starts_with('{') {
            return Self::of_json(text);
        }
        if let Some(token) = of_form(text) {
            return Self::of_token(&token, protocol, max_document);
        }
        Self::of_token(text, protocol, max_document)
    }

    fn of_json(text: &str) -> Result<Self, InputError> {
        let text = number::kept(text.as_bytes());
        let claims: serde_json::Map<String, Value> =
            serde_json::from_slice(&text).map_err(|error| InputError::Claims(error.to_string()))?;
        // What a token endpoint answers (RFC 6749 section 5.1; OpenID Connect Core 1.0 section 3.1.3.3).
        match claims.get("id_token") {
            Some(Value::String(token)) => Ok(Self::id_token(token)?),
            _ => Ok(Self::Claims(WrittenClaims(claims))),
        }
    }

    fn of_token(text: &str, protocol: &Protocol, max_document: usize) -> Result<Self, InputError> {
        match protocol {
            Protocol::Oidc(OidcPolicy { bearer: Some(bearer), .. }) => Ok(Self::presented(text, bearer)?),
            Protocol::Oidc(_) => Ok(Self::id_token(text)?),
            Protocol::Saml(_) => Self::saml(text, max_document),
        }
    }

    fn presented(text: &str, bearer: &BearerPolicy) -> Result<Self, IdTokenError> {
        let rules = bearer.form.rules();
        // The value of a header may be given with its scheme.
        let text = text.trim().rsplit([' ', '\t']).next().unwrap_or(text);
        let token = match rules.padded {
            true => UntrustedIdToken::parse_padded(text)?,
            false => UntrustedIdToken::parse_access_token(text)?,
        };
        Ok(Self::Token(UntrustedToken::Presented(token)))
    }

    fn id_token(text: &str) -> Result<Self, IdTokenError> {
        let token = UntrustedIdToken::parse(text)?;
        Ok(Self::Token(UntrustedToken::IdToken { token, state: None }))
    }

    fn saml(text: &str, max_document: usize) -> Result<Self, InputError> {
        let field = match (text.starts_with('<'), text.contains('%')) {
            (true, _) => STANDARD.encode(text),
            // A form field as it was sent.
            (false, true) => percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned(),
            (false, false) => text.to_owned(),
        };
        match saml::read(&field, max_document)? {
            saml::Message::Response(response) if response.denies() => Ok(Self::Denied),
            saml::Message::Response(response) => Ok(Self::Token(UntrustedToken::SamlResponse(response))),
            saml::Message::LogoutResponse => Err(InputError::Logout),
        }
    }

    /// The key that a token says it is signed with.
    pub fn key_id(&self) -> Option<&str> {
        match self {
            Self::Token(UntrustedToken::IdToken { token, .. } | UntrustedToken::Presented(token)) => {
                token.header().key_id.as_deref()
            }
            _ => None,
        }
    }

    /// Its name in a report.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Token(UntrustedToken::IdToken { .. }) => "ID token",
            Self::Token(UntrustedToken::Presented(_)) => "bearer token",
            Self::Token(UntrustedToken::SamlResponse(_)) | Self::Denied => "SAML response",
            Self::Claims(_) => "claims",
        }
    }
}

/// The token of a form body that was captured whole.
fn of_form(text: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(text.as_bytes());
    let carries = |name: &str| name == "SAMLResponse" || name == "id_token";
    fields.find(|(name, _)| carries(name)).map(|(_, value)| value.into_owned())
}

/// The keys that a token is verified with, and where they are from.
pub struct Keys {
    pub keys: ProviderKeys,
    pub from: String,
}

/// What a look is made with.
pub struct Surroundings<'a> {
    pub provider: &'a Provider,
    /// Or why there are none.
    pub keys: Result<Keys, String>,
    pub rules: Arc<RuleSet>,
    /// A store and its name; `None`: as if nobody had ever logged in.
    pub store: Option<(&'a dyn Store, String)>,
    /// Asked for groups that a verified token left out; `None`: nobody is asked.
    pub directory: Option<&'a dyn Directory>,
    pub now: Timestamp,
}

/// Looks at a login from end to end.
///
/// # Errors
/// When the store does not answer.
pub async fn explain(input: Input, around: Surroundings<'_>) -> Result<Report, StoreError> {
    let Surroundings { provider, keys, rules, store, directory, now } = around;
    let reads = |claim: &ClaimName| rules.reads(&provider.name, claim);
    let name = provider.name.as_str();
    let kind = input.kind();
    let (mut report, claims, assertion) = match input {
        Input::Denied => {
            let because = String::from("the identity provider's answer says that there was no login");
            let mut report = Report::new(kind, name, now, Proof::NotVerified { because: because.clone() });
            report.refuse(because);
            return Ok(report);
        }
        Input::Claims(written) => {
            (Report::new(kind, name, now, Proof::Dry), Some(written.read(provider, &reads)), None)
        }
        Input::Token(token) => judge(kind, token, provider, keys, (directory, &reads), now).await,
    };
    match claims {
        None => return Ok(report),
        Some(Err(refusal)) => {
            refuse(&mut report, refusal, provider);
            return Ok(report);
        }
        Some(Ok(claims)) => {
            report.claims = ClaimReport::all(&claims, provider, &reads);
            decide(&mut report, Arc::new(claims), assertion.as_ref(), provider, rules, store, now).await?
        }
    }
    Ok(report)
}

/// Refuses by the claims, unless a login would have gone on to ask for the very one that refuses.
fn refuse(report: &mut Report, refusal: ClaimsRefusal, provider: &Provider) {
    let asked = match &refusal {
        ClaimsRefusal::Strict { claim, state } => elsewhere(claim, state, provider, &|_| true),
        _ => None,
    };
    match asked {
        Some(asked) if report.refused.is_none() => report.refused = Some(format!("{refusal}; {asked}")),
        _ => report.refuse(refusal),
    }
}

type Judged = (Report, Option<Result<Claims, ClaimsRefusal>>, Option<Verified<Assertion>>);

/// Verifies, and reads the claims of what was verified, or of what merely says so.
async fn judge(
    kind: &'static str,
    token: UntrustedToken,
    provider: &Provider,
    keys: Result<Keys, String>,
    (directory, reads): (Option<&dyn Directory>, claims::Reads<'_>),
    now: Timestamp,
) -> Judged {
    // What ties a login to its request is in the browser that left for it, and no browser is here.
    let observed = Arc::new(Provider { binding: Binding::Observe, ..provider.clone() });
    let captured = Arc::new(Captured { provider: observed, token });
    let not_verified = |because: String| Report::new(kind, provider.name.as_str(), now, Proof::NotVerified { because });
    let heard = || verify::hearsay(&captured.token).ok().map(|statement| claims::read_dry(&statement, provider, reads));
    let keys = match keys {
        Ok(keys) => keys,
        Err(why) => {
            let mut report = not_verified(format!("there are no keys: {why}"));
            report.refused = Some(format!("there are no keys to verify it with: {why}"));
            return (report, heard(), None);
        }
    };
    match verified(&captured, keys.keys, now).await {
        Ok(assertion) => {
            let mut report = Report::new(kind, provider.name.as_str(), now, Proof::Verified);
            report.keys = Some(keys.from);
            report.token = Some(TokenReport::of(assertion.get()));
            if !matches!(provider.mode, Mode::TokenRelay | Mode::Bearer) {
                report.notes.push("whether the browser left for this login is not checked here".into());
            }
            let sources = look_up(&mut report, &assertion, provider, directory, reads).await;
            let claims = claims::read(&assertion, &sources, provider, reads);
            (report, Some(claims), Some(assertion))
        }
        Err(refused) => {
            let mut report = not_verified(refused.fault.to_string());
            report.keys = Some(keys.from);
            report.refuse(&refused.fault);
            let stale = matches!(refused.fault, Fault::Expired { .. } | Fault::TooOld { .. });
            if let (true, Some(at)) = (stale, refused.signed.and_then(|signed| signed.issued_at)) {
                report.notes.push(format!("`at` {at} looks at it as of when it was issued"));
            }
            (report, heard(), None)
        }
    }
}

/// Asks the directory as a login would.
async fn look_up(
    report: &mut Report,
    assertion: &Verified<Assertion>,
    provider: &Provider,
    directory: Option<&dyn Directory>,
    reads: claims::Reads<'_>,
) -> Sources {
    let mut sources = Sources::default();
    let (Some(directory), Some(rule)) = (directory, &provider.overage) else { return sources };
    if claims::left_out(assertion, &sources, provider).any(|claim| reads(&claim.name)) {
        sources.directory = match directory.groups(&provider.name, &overage::person(assertion, rule)).await {
            Ok(groups) => {
                report
                    .notes
                    .push(format!("the directory was asked for what the token left out: {} groups", groups.len()));
                Brought::Present(groups)
            }
            Err(error) => {
                report
                    .notes
                    .push(format!("the directory was asked for what the token left out, and did not tell: {error}"));
                Brought::Failed
            }
        };
    }
    sources
}

async fn verified(
    captured: &Arc<Captured>,
    keys: ProviderKeys,
    now: Timestamp,
) -> Result<Verified<Assertion>, verify::Refused> {
    let origin = match captured.provider.mode {
        // The request that an answer is bound to is not here, in whichever way it would have been kept.
        Mode::SamlPost | Mode::OidcFormPost | Mode::RelyingParty | Mode::SamlRelyingParty => {
            Origin::Watched(Vec::new())
        }
        Mode::TokenRelay => Origin::Exchanged { access_token: None },
        Mode::Bearer => Origin::Presented,
    };
    let captured = Arc::clone(captured);
    let job = move || verify::verify(&captured, &keys, &origin, now);
    // The XML library cannot be cancelled, and a panic in there ends the job alone.
    tokio::task::spawn_blocking(job).await.unwrap_or_else(|_| Err(verify::Refused::unsigned(Fault::Internal)))
}

/// The rest of the way: mappings, gates, and the plan against the store.
async fn decide(
    report: &mut Report,
    claims: Arc<Claims>,
    assertion: Option<&Verified<Assertion>>,
    provider: &Provider,
    rules: Arc<RuleSet>,
    store: Option<(&dyn Store, String)>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let candidates = candidates(&rules, &provider.name, &claims);
    let login = login(assertion.map(Verified::get), &claims, provider, now);
    let (preview, against) = match store {
        Some((store, name)) => (store.preview(login, candidates, Arc::clone(&rules)).await?, name),
        None => {
            let (snapshot, at) = (Snapshot::default(), login.issued_at.unwrap_or(now));
            let plan = plan::draft(claims.user.clone(), at, now, &candidates, &snapshot, &rules);
            let preview = Preview { plan, snapshot, known: false, enabled: true, spent: false };
            (preview, String::from("an empty store, as if nobody had ever logged in"))
        }
    };
    let verdicts = verdicts(&rules, &provider.name, &claims, &preview.snapshot, now);
    let left = report.claims.iter().any(|claim| claim.elsewhere.is_some());
    let may_disable = rules
        .mappings()
        .iter()
        .zip(&verdicts.mappings)
        .any(|(mapping, told)| mapping.then.disables() && told.verdict == Verdict::Undecided);
    report.mappings = verdicts.mappings;
    report.gates = verdicts.gates;
    report.store = Some(against);
    report.user = Some(UserReport { name: claims.user.to_string(), known: preview.known, enabled: preview.enabled });
    report.plan = Some(PlanReport::of(&preview.plan));
    if let Some(token) = &mut report.token {
        token.spent = preview.spent;
    }
    if preview.spent {
        report.notes.push("this token was used before: a second arrival is refused as a replay".into());
    }
    if !preview.enabled {
        report.refuse("the user is disabled");
    }
    let untold = "a login would first ask for what is not known here";
    match &preview.plan.refused {
        Some(refused) if left && report.refused.is_none() => {
            report.refused = Some(format!("{}, but {untold}", reason(refused)));
        }
        Some(refused) => report.refuse(reason(refused)),
        None if left && may_disable && report.refused.is_none() => {
            report.refused = Some(format!("a mapping that disables the user is undecided, and {untold}"));
        }
        None if report.refused.is_none() => report.outcome = Outcome::Enters,
        None => {}
    }
    Ok(())
}

/// The login as the store is told of it.
fn login(assertion: Option<&Assertion>, claims: &Claims, provider: &Provider, now: Timestamp) -> Login {
    Login {
        id: String::from("explain"),
        provider: provider.name.clone(),
        issuer: provider.issuer.to_string(),
        user: claims.user.clone(),
        email: claims.email.clone(),
        display_name: claims.display_name.clone(),
        token_id: assertion.map(|assertion| assertion.token_id.clone()).unwrap_or_default(),
        issued_at: assertion.map(|assertion| assertion.issued_at.min(now)),
        spending: Spending::Again,
        remember_until: now,
        now,
        binding: "not checked",
        claims: Vec::new(),
    }
}
