//! What the APIs do, in one place: all faces call this, and differ in how they ask and answer.
//!
//! A change is planned on everything that there is ([`World`]), under a lock that the reload of the configuration takes too,
//! so that of several at once none is lost; then it is written as one transaction. What the configuration file declares is
//! read-only here.

mod aside;
mod bulk;
mod clients;
mod deliveries;
mod exposures;
mod groups;
mod history;
mod looks;
mod lookup;
mod mappings;
mod members;
mod roles;
mod setup;
mod signed_in;
mod trials;
mod verification;

use std::collections::HashSet;
use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use self::aside::Turns;
pub use self::aside::{BUDGET, Unlooked};
pub use self::bulk::{Bulk, BulkChange, BulkResult, ReadChanges};
pub use self::clients::{ClientView, NewClient};
pub use self::exposures::{ExposureChange, ExposureView};
pub use self::groups::{GroupChange, GroupInput, GroupView};
pub use self::history::{Backwards, SCANNED};
pub use self::looks::{Candidate, MOST_FAULTS, Past, Planned, Question, Whom};
use self::lookup::{Index, Lookup};
pub use self::mappings::{MappingView, NewMapping, Place, Reference};
pub use self::members::{MembersChange, provider_key, stage_key};
pub use self::roles::{RoleChange, RoleInput, RoleView};
pub use self::setup::Setup;
pub use self::signed_in::OperatorSession;
pub use self::trials::Trial;
pub use self::verification::VerificationView;
use self::verification::Verifier;
use super::{Change, Inspect};
use crate::config::{Face, Headers, Scope};
use crate::pipeline::ids::{Target, Timestamp};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::condition::alike;
use crate::pipeline::mapping::definition::{Declared, Fault, TextLimits};
use crate::pipeline::mapping::stored::{Entry, Stored};
use crate::ports::catalogue::Event;
use crate::ports::sessions::Digest;
use crate::ports::store::{By, Excess, StoreError};

/// Who calls, once that is known.
#[derive(Debug, Clone)]
pub struct Caller {
    pub name: String,
    pub face: Face,
    pub scopes: Vec<Scope>,
    /// By which its tokens are known.
    pub secret: Digest,
    pub through: Through,
}

/// Which way a caller came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    Api,
    Console,
}

impl Caller {
    /// # Errors
    /// When it has neither this scope nor `admin`.
    pub fn may(&self, scope: Scope) -> Result<(), Refused> {
        match self.scopes.contains(&scope) || self.is_admin() {
            true => Ok(()),
            false => Err(Refused::Forbidden(match self.through {
                Through::Api => format!("this takes scope `{}`, which the client lacks", scope.word()),
                Through::Console => format!("this takes scope `{}`, which your session does not have", scope.word()),
            })),
        }
    }

    pub fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }

    /// As the audit names it.
    pub fn by(&self) -> String {
        match self.through {
            Through::Api => format!("api client `{}` ({})", self.name, self.face.word()),
            Through::Console => format!("`{}` in the console", self.name),
        }
    }

    /// Who acts, by what these rules let them.
    pub fn acts(&self, rules: &RuleSet) -> By {
        By { name: self.by(), admin: self.is_admin(), epoch: Some(rules.epoch) }
    }
}

/// One call that changes something.
#[derive(Debug, Clone)]
pub struct Call {
    pub caller: Caller,
    /// The versions of which the caller has seen one (`If-Match`); none: any.
    pub expected: Option<Vec<i64>>,
    /// The caller means it, though it revokes over the brake's limit.
    pub confirmed: bool,
}

/// Why a call failed. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Everything that is wrong with the request.
    Invalid(Vec<Fault>),
    NotFound(String),
    Conflict(String),
    /// The configuration file declares it.
    ReadOnly(String),
    /// Not with these scopes.
    Forbidden(String),
    /// Another client has changed it since the caller saw it.
    Stale,
    /// Would revoke over the brake's limit.
    Braked(Vec<Excess>),
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Braked(excesses) => Self::Braked(excesses),
            other => Self::Store(other),
        }
    }
}

impl Refused {
    /// In one line, for faces whose errors are a text.
    pub fn text(&self) -> String {
        match self {
            Self::Invalid(faults) => crate::pipeline::mapping::stored::reason(faults),
            Self::NotFound(text) | Self::Conflict(text) | Self::ReadOnly(text) | Self::Forbidden(text) => text.clone(),
            Self::Stale => "another client changed it meanwhile; read it again".into(),
            Self::Braked(excesses) => {
                let each: Vec<String> = excesses.iter().map(ToString::to_string).collect();
                let losing: u64 = excesses.iter().map(|excess| excess.losing).sum();
                format!(
                    "{}; if it is meant, repeat the call with `confirm=true`, or let an operator run \
                     `loginsync client confirm NAME --for 10m --most {losing}`",
                    each.join("; ")
                )
            }
            Self::Store(error) => error.to_string(),
        }
    }

    /// The status, and why, as most faces have them.
    pub fn told(&self) -> (StatusCode, String) {
        let status = match self {
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Conflict(_)
            | Self::ReadOnly(_)
            | Self::Stale
            | Self::Braked(_)
            | Self::Store(StoreError::Invalid(_)) => StatusCode::CONFLICT,
            Self::Store(error) => {
                let (status, text) = store_failed(error);
                return (status, text.to_owned());
            }
        };
        (status, self.text())
    }

    pub fn fault(field: impl Into<String>, value: Option<&str>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault::new(field, value, message)])
    }
}

/// Everything that a change is planned on.
pub struct World {
    /// The rules of the configuration file alone.
    pub file: Arc<RuleSet>,
    /// What logins are decided by.
    pub rules: Arc<RuleSet>,
    pub stored: Arc<Stored>,
    pub limits: TextLimits,
    /// Of the file and the store together.
    pub most_mappings: usize,
    /// Which names the identity headers can carry.
    pub headers: Headers,
    pub now: Timestamp,
}

/// A planned change.
pub struct Draft {
    pub after: Stored,
    pub renamed: Vec<(Target, Target)>,
    pub events: Vec<Event>,
    /// What it revokes the brake does not cover, since it ends what is exempt.
    pub exempt: bool,
}

impl World {
    fn draft(&self) -> Draft {
        Draft { after: Stored::clone(&self.stored), renamed: Vec::new(), events: Vec::new(), exempt: false }
    }

    fn declared(&self) -> Declared<'_> {
        Declared { groups: &self.rules.groups, roles: &self.rules.roles, providers: &self.rules.providers }
    }

    /// Names, folded, of all groups of the file and the store.
    fn group_names(&self) -> HashSet<String> {
        let own = self.stored.groups.values().filter(|entry| entry.body.own.is_some()).map(|entry| &*entry.body.name);
        own.chain(self.file.groups.keys().map(|name| name.as_str())).map(|name| alike(name).into_owned()).collect()
    }

    fn role_names(&self) -> HashSet<String> {
        let own = self.stored.roles.values().filter(|entry| entry.body.own.is_some()).map(|entry| &*entry.body.name);
        own.chain(self.file.roles.keys().map(|name| name.as_str())).map(|name| alike(name).into_owned()).collect()
    }

    fn aliases(&self) -> HashSet<String> {
        self.stored.exposures.values().filter_map(|shown| Some(alike(shown.alias.as_deref()?).into_owned())).collect()
    }

    /// What is wrong with a new name of a group or role.
    fn check_name(&self, faults: &mut Vec<Fault>, name: &str, taken: &HashSet<String>) -> Result<(), Refused> {
        if let Err(why) = crate::pipeline::ids::GroupName::parse(name) {
            faults.push(Fault::new("name", Some(name), why.to_string()));
            return Ok(());
        }
        if matches!(name, "." | "..") {
            // Whatever reads addresses takes them for steps of the path (RFC 3986 section 5.2.4), however they are encoded.
            faults.push(Fault::new("name", Some(name), "cannot stand in the address of a call; expected another name"));
        }
        if let Some(why) = self.headers.unfit(name) {
            faults.push(Fault::new("name", Some(name), why.to_string()));
        }
        if taken.contains(&*alike(name)) {
            return Err(Refused::Conflict(format!("there is `{name}` already, case aside")));
        }
        if self.aliases().contains(&*alike(name)) {
            return Err(Refused::Conflict(format!("`{name}` is the alias of a group, case aside")));
        }
        Ok(())
    }

    fn check_stages(faults: &mut Vec<Fault>, stages: &[String]) {
        for (at, stage) in stages.iter().enumerate() {
            if let Err(why) = crate::pipeline::ids::Stage::parse(stage) {
                faults.push(Fault::new(format!("stages[{at}]"), Some(stage), why.to_string()));
            }
        }
    }

    fn check_roles(&self, faults: &mut Vec<Fault>, call: &Call, roles: &[String]) -> Result<(), Refused> {
        let mut seen = HashSet::new();
        for (at, role) in roles.iter().enumerate() {
            let field = || format!("roles[{at}]");
            if !seen.insert(role) {
                faults.push(Fault::new(field(), Some(role), "is in the list twice"));
            }
            match self.rules.roles.get(role.as_str()) {
                None => faults.push(Fault::new(field(), Some(role), "is not declared; expected the name of a role")),
                Some(found) if found.privileged && !call.caller.is_admin() => {
                    return Err(Refused::Forbidden(format!("role `{role}` is privileged: this takes scope `admin`")));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Draft {
    fn note(&mut self, event: &'static str, call: &Call, detail: impl Serialize) {
        let mut detail = serde_json::to_value(detail).unwrap_or_default();
        if let Some(object) = detail.as_object_mut() {
            object.insert("by".into(), json!(call.caller.by()));
        }
        self.events.push(Event { event, detail });
    }
}

/// Characters of a description at most.
const MOST_DESCRIPTION: usize = 1024;

fn check_description(faults: &mut Vec<Fault>, description: &str) {
    if description.chars().count() > MOST_DESCRIPTION {
        let message = format!("is longer than {MOST_DESCRIPTION} characters");
        faults.push(Fault::new("description", Some(description), message));
    }
}

/// What is privileged or protected is for `admin` alone.
fn check_marks(call: &Call, marked: bool) -> Result<(), Refused> {
    match marked && !call.caller.is_admin() {
        true => Err(Refused::Forbidden("what is privileged or protected takes scope `admin`".into())),
        false => Ok(()),
    }
}

/// Why a group or role is not to be changed here: the file has it, or it does not exist.
fn not_own(kind: &str, name: &str, in_file: bool) -> Refused {
    match in_file {
        true => Refused::ReadOnly(format!("{kind} `{name}` is declared in the configuration file, and read-only here")),
        false => Refused::NotFound(format!("there is no {kind} `{name}`")),
    }
}

/// A new group or role. A number that one of the file had once is taken up again: it is the same name.
fn new_entry<B>(
    after: &mut Stored,
    left: Option<&Entry<B>>,
    now: Timestamp,
    body: B,
) -> Result<Arc<Entry<B>>, Refused> {
    Ok(Arc::new(match left {
        Some(left) => left.changed(now, body),
        None => Entry::new(after.next_number(), fresh_key()?, now, body),
    }))
}

/// What differs between what is there and what the caller has seen.
fn check_version(call: &Call, found: i64) -> Result<(), Refused> {
    match call.expected.as_ref().is_none_or(|seen| seen.contains(&found)) {
        true => Ok(()),
        false => Err(Refused::Stale),
    }
}

fn no_faults(faults: Vec<Fault>) -> Result<(), Refused> {
    if faults.is_empty() { Ok(()) } else { Err(Refused::Invalid(faults)) }
}

/// An unused UUID.
fn fresh_key() -> Result<String, Refused> {
    random_key()
        .ok_or_else(|| Refused::Store(StoreError::Unavailable("the operating system returned no random bytes".into())))
}

/// A random UUID (RFC 9562 section 5.4).
pub fn random_key() -> Option<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
}

/// All operations.
#[derive(Clone)]
pub struct Service {
    pub inspect: Arc<dyn Inspect>,
    turns: Arc<Turns>,
    lookup: Arc<Lookup>,
    verifier: Arc<Verifier>,
}

impl Service {
    pub fn new(inspect: Arc<dyn Inspect>) -> Self {
        Self { inspect, turns: Arc::default(), lookup: Arc::default(), verifier: Arc::default() }
    }

    /// What there is, and where in it names and keys are.
    fn indexed(&self) -> (Arc<Stored>, Arc<Index>) {
        let stored = self.inspect.stored();
        let index = self.lookup.of(&stored);
        (stored, index)
    }

    /// Plans and writes a change; answers what `read` makes of the state that it came to.
    async fn change<T>(
        &self,
        call: &Call,
        plan: impl FnOnce(&World) -> Result<(Draft, T), Refused> + Send + 'static,
    ) -> Result<T, Refused>
    where
        T: Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let edit = move |world: &World| {
            let (draft, answer) = plan(world)?;
            let _ = sender.send(answer);
            Ok(draft)
        };
        let client = call.caller.name.clone();
        self.inspect.change(Change { edit: Box::new(edit), confirmed: call.confirmed, client }).await?;
        receiver.await.map_err(|_| Refused::Store(StoreError::Unavailable("the change was not planned".into())))
    }
}

/// What a face says when the store failed: why is for the log alone.
pub fn store_failed(error: &StoreError) -> (StatusCode, &'static str) {
    tracing::error!(%error, "the store failed a call of an API");
    let text = match error {
        StoreError::Unknown => {
            "the store did not confirm the change: it is unknown whether it was made; check before you repeat it"
        }
        _ => "the store is not available; try again in a moment",
    };
    (StatusCode::SERVICE_UNAVAILABLE, text)
}
