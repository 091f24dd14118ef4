//! How this sidecar is set up, and what is suspicious in it.

use serde::Serialize;
use utoipa::ToSchema;

use super::aside::{PATIENCE, aside};
use super::{Service, Unlooked};
use crate::config::Shown;
use crate::lint::findings;

/// Maximum number of findings in the answer.
const MOST_FINDINGS: usize = 500;

/// The active configuration, without secrets.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Setup {
    pub tables: Vec<SetupTable>,
    /// Warnings of the start or the last reload.
    pub warnings: Vec<String>,
    /// What `lint` finds in the rules of the file and of the store.
    pub findings: Vec<SetupFinding>,
    /// Findings that are not in the list.
    pub left_out: usize,
}

/// One table of the configuration; of the top level the name is empty.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SetupTable {
    pub name: String,
    pub values: Vec<SetupValue>,
}

/// One key and its active value; for a secret, only whether it is set.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SetupValue {
    pub key: &'static str,
    pub value: String,
}

/// One valid but suspicious setting.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SetupFinding {
    /// Such as `never matches`.
    pub lint: &'static str,
    /// The mapping, gate, group or role that it is about.
    pub about: String,
    pub message: String,
}

impl Service {
    /// The configuration in force, and what is suspicious in it.
    ///
    /// # Errors
    /// When the store does not answer, or it takes too long.
    pub async fn setup(&self) -> Result<Setup, Unlooked> {
        let inspect = std::sync::Arc::clone(&self.inspect);
        aside(&self.turns.explaining, PATIENCE, async move {
            let (config, rules) = (inspect.config(), inspect.rules());
            let unvouched = inspect.store().unvouched(std::sync::Arc::clone(&rules)).await?;
            let found = findings(&config, &rules, &unvouched, inspect.now());
            let left_out = found.len().saturating_sub(MOST_FINDINGS);
            let findings = found.into_iter().take(MOST_FINDINGS).map(|found| SetupFinding {
                lint: found.lint.word(),
                about: found.about,
                message: found.message,
            });
            let tables = config.shown().into_iter().map(|Shown { name, values }| SetupTable {
                name,
                values: values.into_iter().map(|(key, value)| SetupValue { key, value }).collect(),
            });
            Ok(Setup {
                tables: tables.collect(),
                warnings: config.warnings.clone(),
                findings: findings.collect(),
                left_out,
            })
        })
        .await
    }
}
