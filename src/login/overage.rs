//! Groups that a token left out, from the provider's directory.

use super::Services;
use crate::pipeline::claims;
use crate::pipeline::claims::overage;
use crate::pipeline::claims::sources::{Brought, Sources};
use crate::pipeline::provider::Provider;
use crate::pipeline::verify::{Assertion, Verified};

/// Asks the directory where a claim that some mapping reads was left out. An answer that does not come is a state of the
/// claim, which revokes nothing, and an alarm.
pub(super) async fn complete(
    services: &Services,
    id: &str,
    provider: &Provider,
    assertion: &Verified<Assertion>,
    mut sources: Sources,
) -> Sources {
    let Some(rule) = &provider.overage else { return sources };
    let rules = services.rules.current();
    if !claims::left_out(assertion, &sources, provider).any(|claim| rules.reads(&provider.name, &claim.name)) {
        return sources;
    }
    let person = overage::person(assertion, rule);
    let answer = services.directory.groups(&provider.name, &person).await;
    services.meters.looked_up(&provider.name, answer.is_ok());
    sources.directory = match answer {
        Ok(groups) => {
            tracing::info!(%id, provider = %provider.name, groups = groups.len(), "groups that the token left out were looked up");
            Brought::Present(groups)
        }
        Err(error) => {
            tracing::error!(
                %id, provider = %provider.name, %error,
                "groups that the token left out could not be looked up; what they gave before stays"
            );
            Brought::Failed
        }
    };
    sources
}
