//! Identity providers: those of the configuration, to look at.

use axum::Json;
use axum::extract::{Path, Request, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Errors, Page, Parameters, Problem};
use crate::config::Scope;
use crate::pipeline::ids::ProviderName;
use crate::pipeline::provider::{Protocol, UserClaim};
use crate::serve::admin::Inspect;
use crate::serve::admin::http::{Admin, Head};
use crate::serve::admin::service::{provider_key, stage_key};

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderObject {
    pub key: String,
    pub name: String,
    /// `OIDC` or `SAML`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The keys of its stages; none: every stage. A SAML provider without one has Organization scope.
    pub environment_keys: Vec<String>,
    /// A first login creates the user.
    pub auto_create_profiles: bool,
    /// `All` where the operator vouches for the addresses of this provider (`email_trusted`), else `None`.
    pub email_trust_type: &'static str,
    /// What identifies people: `Email` where the provider's user claim is an address, else `None`.
    pub profile_linking_field: &'static str,
}

fn all(inspect: &dyn Inspect) -> Vec<ProviderObject> {
    let config = inspect.config();
    let object = |settings: &crate::config::ProviderSettings| {
        let provider = &settings.provider;
        ProviderObject {
            key: provider_key(&provider.name),
            name: provider.name.to_string(),
            kind: if is_saml(&provider.protocol) { "SAML" } else { "OIDC" },
            environment_keys: provider.stages.iter().map(|stage| stage_key(stage.as_str())).collect(),
            auto_create_profiles: true,
            email_trust_type: if settings.email_trusted { "All" } else { "None" },
            profile_linking_field: match &provider.user.claim {
                UserClaim::Named(name) if provider.user.email_claim.as_ref() == Some(name) => "Email",
                _ => "None",
            },
        }
    };
    config.providers.iter().map(object).collect()
}

fn is_saml(protocol: &Protocol) -> bool {
    matches!(protocol, Protocol::Saml(_))
}

/// The name of a provider by its key, and whether it speaks SAML.
pub fn by_key(inspect: &dyn Inspect, key: &str) -> Option<(ProviderName, bool)> {
    let config = inspect.config();
    let mut providers = config.providers.iter().map(|settings| &settings.provider);
    let found = providers.find(|provider| provider_key(&provider.name).eq_ignore_ascii_case(key))?;
    Some((found.name.clone(), is_saml(&found.protocol)))
}

#[utoipa::path(get, path = "/api/identity/v1/identity-providers", operation_id = "list_identity_providers",
    params(("key" = Option<String>, Query), ("nameContains" = Option<String>, Query), ("limit" = Option<u32>, Query),
        ("offset" = Option<u32>, Query)),
    responses((status = 200, description = "One page of identity providers", body = Page<ProviderObject>), Errors))]
pub async fn list(
    State(admin): State<Admin>,
    Head(call): Head,
    request: Request,
) -> Result<Json<Page<ProviderObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Parameters::of(&request);
    let mut found = all(admin.inspect());
    found.retain(|one| asked.one("key").is_none_or(|key| one.key.eq_ignore_ascii_case(key)));
    found.retain(|one| asked.one("nameContains").is_none_or(|part| super::contains(&one.name, part)));
    asked.page(found)
}

#[utoipa::path(get, path = "/api/identity/v1/identity-providers/{key}", operation_id = "show_identity_provider",
    params(("key" = String, Path)),
    responses((status = 200, description = "The identity provider", body = ProviderObject), Errors))]
pub async fn show(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
) -> Result<Json<ProviderObject>, Problem> {
    call.caller.may(Scope::Read)?;
    let found = all(admin.inspect()).into_iter().find(|one| one.key.eq_ignore_ascii_case(&key));
    found.map(Json).ok_or_else(|| Problem::not_found("identity provider"))
}
