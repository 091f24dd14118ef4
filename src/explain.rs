//! A login that is looked at instead of let in: the walk of [`crate::login`] with a trace that fills a [`Report`], and at its end a
//! preview in place of a commit. Nothing is written.
//!
//! A token that is not believed is looked at all the same, and the report says so: what follows is then what a stranger claims.
//! Only [`crate::login`] ever applies anything.
//!
//! A login may go on to ask the provider what its token left out. This look asks the provider's directory where it is told
//! to, and never userinfo, for which it would have to spend an access token; the report marks a claim that it does not ask for,
//! and an outcome that depends on one is unknown.

mod input;

use std::sync::Arc;

use tokio::sync::Semaphore;

use self::input::What;
pub use self::input::{Input, InputError};
use crate::login::trace::{Asks, Trace};
use crate::login::walk::{Stopped, walk};
use crate::login::{Reason, describe};
use crate::pipeline::capture::oidc::AccessToken;
use crate::pipeline::capture::{Captured, UntrustedToken};
use crate::pipeline::claims::arrived::arrived_dry;
use crate::pipeline::claims::{self, Claims, ClaimsRefusal};
use crate::pipeline::explain::dry::WrittenClaims;
use crate::pipeline::explain::{
    ClaimReport, Outcome, PlanReport, Proof, Report, TokenReport, UserReport, Verdict, elsewhere, reason, verdicts,
};
use crate::pipeline::ids::{ClaimName, ProviderName, Timestamp};
use crate::pipeline::mapping::{Candidates, RuleSet};
use crate::pipeline::plan::{self, Snapshot};
use crate::pipeline::provider::{Binding, Mode, Provider, Way};
use crate::pipeline::settle::settle;
use crate::pipeline::verify::{self, Assertion, Fault, Origin, SignedToken, Spending, Verified};
use crate::ports::directory::{Directory, DirectoryError};
use crate::ports::keys::KeySource;
use crate::ports::rules::Pair;
use crate::ports::store::{Login, Preview, Store, StoreError};

/// What a look is made with.
pub struct Surroundings<'a> {
    pub provider: &'a Arc<Provider>,
    pub keys: &'a dyn KeySource,
    /// Where the keys are from, in words.
    pub keys_from: String,
    pub rules: Arc<RuleSet>,
    /// A store and its name; `None`: as for a first login.
    pub store: Option<(&'a Store, String)>,
    /// Asked for groups that a verified token left out; `None`: nothing is fetched.
    pub directory: Option<&'a dyn Directory>,
    pub now: Timestamp,
}

/// Looks at a login from end to end.
///
/// # Errors
/// When the store does not answer.
pub async fn explain(input: Input, around: Surroundings<'_>) -> Result<Report, StoreError> {
    let Input { kind, what } = input;
    let begun = |proof| Report::new(kind, around.provider.name.as_str(), around.now, proof);
    let never = |because: String| {
        let mut report = begun(Proof::NotVerified { because: because.clone() });
        report.refuse(because);
        report
    };
    match what {
        What::Refused(why) => Ok(never(why)),
        What::NoLogin => Ok(never("no login is in it".into())),
        What::Denied(denial) => Ok(never(format!("the identity provider logs no person in: {denial}"))),
        What::Claims(written) => dry(begun(Proof::Dry), &written, around).await,
        What::Login { captured, access_token } => {
            let proof = Proof::NotVerified { because: String::from("it was not checked") };
            // A large future, and made once.
            Box::pin(judge(begun(proof), captured, access_token, around)).await
        }
    }
}

/// Claims that an operator wrote down.
async fn dry(mut report: Report, written: &WrittenClaims, around: Surroundings<'_>) -> Result<Report, StoreError> {
    report.notes.extend(written.unread(around.provider));
    report.tell_arrived(arrived_dry(&written.statement(&around.provider.protocol), around.provider));
    let settled = settle(around.provider, &around.rules, around.now, |provider, reads| written.read(provider, reads));
    unsigned(report, settled, around).await
}

/// What no provider has signed: the same decision, told as such.
async fn unsigned(
    mut report: Report,
    settled: Result<Candidates, ClaimsRefusal>,
    around: Surroundings<'_>,
) -> Result<Report, StoreError> {
    match settled {
        Ok(candidates) => {
            let login = unsigned_login(&candidates.claims, around.provider, around.now);
            decide(&mut report, candidates, login, around).await?;
        }
        Err(refusal) => refuse(&mut report, refusal, around.provider),
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

/// Walks a captured login, and tells how far it comes.
async fn judge(
    report: Report,
    captured: Captured,
    access_token: Option<AccessToken>,
    around: Surroundings<'_>,
) -> Result<Report, StoreError> {
    // What ties a login to its request is in the browser that left for it, and no browser is here.
    let observed = Arc::new(Provider { binding: Binding::Observe, ..(**around.provider).clone() });
    let pair = Arc::new(Pair { rules: Arc::clone(&around.rules), providers: vec![Arc::clone(&observed)] });
    let origin = match observed.mode.way() {
        // The request that an answer is bound to is not here, in whichever way it would have been kept.
        Way::Watched | Way::Ours => Origin::Watched(Vec::new()),
        Way::Relayed => Origin::Exchanged { access_token },
        Way::Presented => Origin::Presented,
    };
    let asks = Asks {
        keys: around.keys,
        back_channel: None,
        directory: around.directory,
        verifiers: &Arc::new(Semaphore::new(1)),
    };
    let token = captured.token.clone();
    let captured = Captured { provider: observed, ..captured };
    let mut telling = Telling { report, keys_from: &around.keys_from, mode: around.provider.mode };
    let known = walk(asks, pair, captured, origin, around.now, &mut telling).await;
    let mut report = telling.report;
    match known {
        Ok(known) => {
            let arrived = known.arrived();
            let login = Login { spending: Spending::Again, ..describe("explain", &known, arrived.clone()) };
            report.tell_arrived(arrived);
            decide(&mut report, known.into_candidates(), login, around).await?;
            Ok(report)
        }
        Err(Stopped { reason, signed, arrived }) => {
            report.tell_arrived(*arrived);
            stopped(report, reason, signed, &token, around).await
        }
    }
}

/// Why the walk ended, and what the token says where it was not verified.
async fn stopped(
    mut report: Report,
    why: Reason,
    signed: Option<Box<SignedToken>>,
    token: &UntrustedToken,
    around: Surroundings<'_>,
) -> Result<Report, StoreError> {
    match why {
        Reason::Keys(error) => {
            report.proof = Proof::NotVerified { because: format!("there are no keys: {error}") };
            report.refused = Some(format!("there are no keys to verify it with: {error}"));
        }
        Reason::Verify(fault) => {
            report.proof = Proof::NotVerified { because: fault.to_string() };
            report.keys = Some(around.keys_from.clone());
            let stale = matches!(fault, Fault::Expired { .. } | Fault::TooOld { .. });
            if let (true, Some(at)) = (stale, signed.and_then(|signed| signed.issued_at)) {
                report.notes.push(format!("`at` {at} looks at it as of when it was issued"));
            }
            report.refuse(fault);
        }
        Reason::Claims(refusal) => {
            refuse(&mut report, refusal, around.provider);
            return Ok(report);
        }
        other => {
            if matches!(other, Reason::NoPerson) {
                report.notes.push(
                    "it is not a login: the request goes to the app without a user, or is refused with \
                        `bearer.machines = false`"
                        .into(),
                );
            }
            report.refuse(other);
            return Ok(report);
        }
    }
    let Ok(statement) = verify::hearsay(around.provider, token) else { return Ok(report) };
    report.tell_arrived(arrived_dry(&statement, around.provider));
    let settled = settle(around.provider, &around.rules, around.now, |provider, reads| {
        claims::read_dry(&statement, provider, reads)
    });
    unsigned(report, settled, around).await
}

/// Fills the report as the walk goes on.
struct Telling<'a> {
    report: Report,
    keys_from: &'a str,
    mode: Mode,
}

impl Trace for Telling<'_> {
    fn verified(&mut self, assertion: &Verified<Assertion>) {
        self.report.proof = Proof::Verified;
        self.report.keys = Some(self.keys_from.to_owned());
        self.report.token = Some(TokenReport::of(assertion.get()));
        if matches!(self.mode.way(), Way::Watched | Way::Ours) {
            self.report.notes.push("whether the browser left for this login is not checked here".into());
        }
    }

    fn directory_asked(&mut self, _provider: &ProviderName, answer: &Result<Vec<String>, DirectoryError>) {
        let asked = "the directory was asked for what the token left out";
        self.report.notes.push(match answer {
            Ok(groups) => format!("{asked}: {} groups", groups.len()),
            Err(error) => format!("{asked}, and failed: {error}"),
        });
    }
}

/// The rest of the way: mappings, gates, and the plan against the store.
async fn decide(
    report: &mut Report,
    candidates: Candidates,
    login: Login,
    around: Surroundings<'_>,
) -> Result<(), StoreError> {
    let Surroundings { provider, rules, store, now, .. } = around;
    let claims = Arc::clone(&candidates.claims);
    report.claims = ClaimReport::all(&claims, provider, &|claim: &ClaimName| rules.reads(&provider.name, claim, now));
    let (preview, against) = match store {
        Some((store, name)) => (store.preview(login, candidates, Arc::clone(&rules)).await?, name),
        None => {
            let (snapshot, at) = (Snapshot::default(), login.issued_at.unwrap_or(now));
            let plan = plan::draft(claims.user.clone(), at, now, &candidates, &snapshot, &rules);
            let preview = Preview { plan, snapshot, known: false, enabled: true, spent: false, restored: None };
            (preview, String::from("an empty store, as for a first login"))
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
    if let Some(restored) = preview.restored {
        report.refuse(format!("it was issued before the store was restored at {restored}"));
    }
    if !preview.enabled {
        report.refuse("the user is disabled");
    }
    let untold = "a login would first fetch what is unknown here";
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

/// A login by claims that no provider has signed, as the store is asked about it.
fn unsigned_login(claims: &Claims, provider: &Provider, now: Timestamp) -> Login {
    Login {
        id: String::from("explain"),
        provider: provider.name.clone(),
        issuer: provider.issuer.to_string(),
        user: claims.user.clone(),
        email: claims.email.clone(),
        display_name: claims.display_name.clone(),
        token_id: String::new(),
        issued_at: None,
        spending: Spending::Again,
        remember_until: now,
        now,
        binding: "not checked",
        claims: Vec::new(),
        arrived: Vec::new(),
    }
}
