//! What an operator looks at besides people and rules: providers, holds, leases, the audit.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::http::{Admin, json};
use super::super::service::{Refused, provider_key, stage_key};
use super::people::moment;
use super::problem::{Problem, Problems};
use super::{Adding, Asked, At, Page, Reading, limit};
use crate::config::Scope;
use crate::pipeline::ids::{GroupName, Namespace, ProviderName, RoleName, Subject, Target, Timestamp, UserId};
use crate::pipeline::mapping::definition::Fault;
use crate::pipeline::provider::Protocol;
use crate::ports::store::{AuditRow, HoldFilter};

pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(providers))
        .routes(routes!(provider))
        .routes(routes!(stages))
        .routes(routes!(holds))
        .routes(routes!(release))
        .routes(routes!(discard))
        .routes(routes!(leases))
        .routes(routes!(audit))
}

// ---------------------------------------------------------------------------------------------------------- providers

/// A provider of the configuration. It is read-only here: a caller that could add an issuer could be anyone.
#[derive(Debug, Serialize, ToSchema)]
struct ProviderView {
    name: String,
    /// The UUID that the vendor APIs use for it.
    key: String,
    /// Always `file`.
    origin: &'static str,
    /// `oidc` or `saml`.
    protocol: &'static str,
    issuer: String,
    namespace: String,
    /// Empty: every stage.
    stages: Vec<String>,
    claims: Vec<ClaimView>,
    /// Whether its keys are available.
    ready: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct ClaimView {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    delimiter: Option<String>,
}

fn all_providers(admin: &Admin) -> Vec<ProviderView> {
    let (config, keys) = (admin.inspect().config(), admin.inspect().keys());
    let each = config.providers.iter().map(|settings| {
        let provider = &settings.provider;
        let claims = provider.claims.iter().map(|claim| ClaimView {
            name: claim.name.to_string(),
            delimiter: claim.delimiter.as_ref().map(|delimiter| delimiter.as_str().to_owned()),
        });
        ProviderView {
            name: provider.name.to_string(),
            key: provider_key(&provider.name),
            origin: "file",
            protocol: if matches!(provider.protocol, Protocol::Saml(_)) { "saml" } else { "oidc" },
            issuer: provider.issuer.to_string(),
            namespace: provider.user.namespace.to_string(),
            stages: provider.stages.iter().map(ToString::to_string).collect(),
            claims: claims.collect(),
            ready: keys.ready(&provider.name),
        }
    });
    each.collect()
}

/// The providers of the configuration
#[utoipa::path(get, path = "/api/v1/providers", operation_id = "list_providers", tag = "providers", responses(
    (status = 200, description = "All providers, on one page", body = Page<ProviderView>), Problems
))]
async fn providers(_: Reading, State(admin): State<Admin>) -> Json<Page<ProviderView>> {
    Json(Page { items: all_providers(&admin), next: None })
}

/// One provider
#[utoipa::path(get, path = "/api/v1/providers/{name}", operation_id = "show_provider", tag = "providers",
    params(("name" = String, Path)), responses(
    (status = 200, description = "The provider", body = ProviderView), Problems
))]
async fn provider(_: Reading, State(admin): State<Admin>, At(name): At<String>) -> Result<Json<ProviderView>, Problem> {
    let found = all_providers(&admin).into_iter().find(|provider| provider.name == name);
    Ok(Json(found.ok_or_else(|| Refused::NotFound(format!("there is no provider `{name}`")))?))
}

/// A stage that some provider or group is in.
#[derive(Debug, Serialize, ToSchema)]
struct StageView {
    name: String,
    /// The UUID that the vendor APIs use for it.
    key: String,
}

/// The stages that some provider or group is in, by name
#[utoipa::path(get, path = "/api/v1/stages", operation_id = "list_stages", tag = "providers", responses(
    (status = 200, description = "All stages, on one page", body = Page<StageView>), Problems
))]
async fn stages(_: Reading, State(admin): State<Admin>) -> Json<Page<StageView>> {
    let view = |name: String| StageView { key: stage_key(&name), name };
    Json(Page { items: admin.service.stages().into_iter().map(view).collect(), next: None })
}

// -------------------------------------------------------------------------------------------------------------- holds

/// Selects holds; an absent parameter does not restrict the selection.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WhichHolds {
    provider: Option<String>,
    group: Option<String>,
    role: Option<String>,
    /// Requires `subject`.
    namespace: Option<String>,
    /// Requires `namespace`.
    subject: Option<String>,
}

/// Selects the holds to act on: those that match every member, or `all`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChosenHolds {
    /// All holds. No other member may be set.
    #[serde(default)]
    all: bool,
    provider: Option<String>,
    group: Option<String>,
    role: Option<String>,
    /// Requires `subject`.
    namespace: Option<String>,
    /// Requires `namespace`.
    subject: Option<String>,
}

/// A revocation that the brake holds.
#[derive(Debug, Serialize, ToSchema)]
struct HoldRow {
    namespace: String,
    subject: String,
    provider: String,
    /// `group` or `role`; `user`, with the name `disabled`, where the mapping would disable the user.
    kind: &'static str,
    name: String,
    /// The mapping's name, or its definition if it has no name.
    mapping: String,
    /// RFC 3339.
    since: String,
}

/// Number of holds.
#[derive(Debug, Serialize, ToSchema)]
struct Count {
    holds: u64,
}

impl WhichHolds {
    fn filter(self) -> Result<HoldFilter, Refused> {
        let Self { provider, group, role, namespace, subject } = self;
        let mut faults = Vec::new();
        let mut wrong = |field: &str, value: &str, why: String| faults.push(Fault::new(field, Some(value), why));
        let provider = provider
            .and_then(|name| ProviderName::parse(&name).map_err(|why| wrong("provider", &name, why.to_string())).ok());
        let target = match (group, role) {
            (None, None) => None,
            (Some(name), None) => {
                GroupName::parse(&name).map(Target::Group).map_err(|why| wrong("group", &name, why.to_string())).ok()
            }
            (None, Some(name)) => {
                RoleName::parse(&name).map(Target::Role).map_err(|why| wrong("role", &name, why.to_string())).ok()
            }
            (Some(_), Some(name)) => {
                wrong("role", &name, "`group` is set too; expected one of them".into());
                None
            }
        };
        let user = match (namespace, subject) {
            (None, None) => None,
            (Some(namespace), Some(subject)) => {
                let parsed = Namespace::parse(&namespace)
                    .and_then(|namespace| Ok(UserId { namespace, subject: Subject::parse(&subject)? }));
                parsed.map_err(|why| wrong("subject", &subject, why.to_string())).ok()
            }
            (Some(text), None) | (None, Some(text)) => {
                wrong("subject", &text, "expected `namespace` and `subject`, or neither".into());
                None
            }
        };
        if faults.is_empty() { Ok(HoldFilter { user, provider, target }) } else { Err(Refused::Invalid(faults)) }
    }
}

/// The holds that a body chooses. All of them are chosen by `all` alone, and not by a body that names none.
fn chosen(body: &Bytes) -> Result<HoldFilter, Problem> {
    const EXPECTED: &str =
        "expected `namespace` and `subject`, `provider`, `group` or `role`, or `\"all\": true` alone";
    if body.is_empty() {
        return Err(Problem::no_body(&format!("the body is required; {EXPECTED}")));
    }
    let ChosenHolds { all, provider, group, role, namespace, subject } = json(body, false)?;
    let filter = WhichHolds { provider, group, role, namespace, subject }.filter()?;
    match filter.takes_all() == all {
        true => Ok(filter),
        false => Err(Refused::fault("all", None, EXPECTED).into()),
    }
}

/// Lists held revocations, oldest first
#[utoipa::path(get, path = "/api/v1/holds", operation_id = "list_holds", tag = "operations", params(WhichHolds), responses(
    (status = 200, description = "The held revocations", body = Page<HoldRow>), Problems
))]
async fn holds(
    _: Reading,
    State(admin): State<Admin>,
    Asked(which): Asked<WhichHolds>,
) -> Result<Json<Page<HoldRow>>, Problem> {
    let inspect = admin.inspect();
    let found = inspect.store().holds(which.filter()?, inspect.rules()).await?;
    let items = found.into_iter().map(|hold| HoldRow {
        namespace: hold.user.namespace.to_string(),
        subject: hold.user.subject.to_string(),
        provider: hold.provider.to_string(),
        kind: hold.target.as_ref().map_or("user", Target::kind),
        name: hold.target.as_ref().map_or("disabled", Target::name).to_owned(),
        mapping: hold.mapping,
        since: hold.since.to_string(),
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// Releases holds: plans each again, without the brake
#[utoipa::path(post, path = "/api/v1/holds/release",
    operation_id = "release_holds", tag = "operations", request_body = ChosenHolds, responses(
    (status = 200, description = "Number of released holds", body = Count), Problems
))]
async fn release(State(admin): State<Admin>, Adding(call): Adding, body: Bytes) -> Result<Json<Count>, Problem> {
    call.caller.may(Scope::Admin)?;
    let holds = admin.service.release_holds(&call, chosen(&body)?).await?;
    Ok(Json(Count { holds }))
}

/// Discards holds: the grants stay until a later login decides otherwise
#[utoipa::path(post, path = "/api/v1/holds/discard",
    operation_id = "discard_holds", tag = "operations", request_body = ChosenHolds, responses(
    (status = 200, description = "Number of discarded holds", body = Count), Problems
))]
async fn discard(State(admin): State<Admin>, Adding(call): Adding, body: Bytes) -> Result<Json<Count>, Problem> {
    call.caller.may(Scope::Admin)?;
    let holds = admin.service.discard_holds(&call, chosen(&body)?).await?;
    Ok(Json(Count { holds }))
}

// ------------------------------------------------------------------------------------------------------------- leases

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WhichLeases {
    /// Only leases that end before this time (RFC 3339); absent: all.
    before: Option<String>,
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A mapped grant that ends unless its holder logs in again.
#[derive(Debug, Serialize, ToSchema)]
struct LeaseRow {
    namespace: String,
    subject: String,
    provider: String,
    /// `group` or `role`.
    kind: &'static str,
    name: String,
    /// The mapping's name, or its definition if it has no name.
    mapping: String,
    /// RFC 3339.
    ends_at: String,
}

/// Lists mapped grants with a lease, earliest end first
#[utoipa::path(get, path = "/api/v1/leases", operation_id = "list_leases", tag = "operations", params(WhichLeases), responses(
    (status = 200, description = "The leases", body = Page<LeaseRow>), Problems
))]
async fn leases(
    _: Reading,
    State(admin): State<Admin>,
    Asked(which): Asked<WhichLeases>,
) -> Result<Json<Page<LeaseRow>>, Problem> {
    let before = match which.before.as_deref().map(moment) {
        None => Timestamp(i64::MAX),
        Some(Some(before)) => before,
        Some(None) => return Err(Problem::query("before: expected a time such as 2027-01-31T00:00:00Z")),
    };
    let inspect = admin.inspect();
    let found = inspect.store().leases(inspect.rules(), before, limit(which.limit)?).await?;
    let items = found.into_iter().map(|lease| LeaseRow {
        namespace: lease.namespace,
        subject: lease.subject,
        provider: lease.provider,
        kind: lease.target.kind(),
        name: lease.target.name().to_owned(),
        mapping: lease.mapping,
        ends_at: lease.ends_at.to_string(),
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

// -------------------------------------------------------------------------------------------------------------- audit

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WhichRows {
    /// Only rows after this sequence number: the `next` of the previous page.
    #[param(minimum = 0)]
    after: Option<i64>,
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Only rows of this event, such as `login`.
    event: Option<String>,
    /// Only rows about this person; requires `subject`.
    namespace: Option<String>,
    subject: Option<String>,
}

/// A page of the audit.
#[derive(Debug, Serialize, ToSchema)]
struct AuditPage {
    items: Vec<AuditRow>,
    /// Pass it as `after`. A page with a filter may be short or empty without being the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// Rows that one call looks at, where a filter drops most of them.
const SCANNED: usize = 10_000;

impl WhichRows {
    fn takes(&self, row: &AuditRow) -> bool {
        let about = |key: &str, wanted: &Option<String>| {
            let found = row.person.as_ref().and_then(|person| person.get(key)).and_then(serde_json::Value::as_str);
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        self.event.as_ref().is_none_or(|event| *event == row.event)
            && about("namespace", &self.namespace)
            && about("subject", &self.subject)
    }
}

/// The audit, oldest first
#[utoipa::path(get, path = "/api/v1/audit", operation_id = "list_audit", tag = "operations", params(WhichRows), responses(
    (status = 200, description = "One page of audit rows", body = AuditPage), Problems
))]
async fn audit(
    _: Reading,
    State(admin): State<Admin>,
    Asked(which): Asked<WhichRows>,
) -> Result<Json<AuditPage>, Problem> {
    let most = limit(which.limit)?;
    let store = admin.inspect().store();
    let (mut items, mut after, mut scanned) = (Vec::new(), which.after.unwrap_or_default().max(0), 0);
    while scanned < SCANNED {
        let rows = store.audit(after, 1000).await?;
        let last = rows.len() < 1000;
        scanned += rows.len();
        for row in rows {
            if items.len() == most {
                return Ok(Json(AuditPage { items, next: Some(after) }));
            }
            after = row.sequence;
            if which.takes(&row) {
                items.push(row);
            }
        }
        if last {
            return Ok(Json(AuditPage { items, next: None }));
        }
    }
    Ok(Json(AuditPage { items, next: Some(after) }))
}
