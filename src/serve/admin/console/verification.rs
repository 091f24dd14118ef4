//! How the verification of the audit stands, in words.

use super::words::{Moment, Sentence};
use crate::serve::admin::service::VerificationView;

/// How the verification of the audit stands, as pages show it.
pub struct Verification {
    pub state: &'static str,
    pub rows: u64,
    pub of: u64,
    pub at: Option<Moment>,
    pub says: Sentence,
}

impl Verification {
    /// The state in a word or two.
    pub fn word(&self) -> &'static str {
        match self.state {
            "never" => "not verified yet",
            "running" => "being verified",
            "failed" => "could not be read",
            other => other,
        }
    }

    pub fn class(&self) -> &'static str {
        match self.state {
            "whole" => "good",
            "broken" => "bad",
            "failed" => "warn",
            _ => "plain",
        }
    }
}

impl From<VerificationView> for Verification {
    fn from(view: VerificationView) -> Self {
        let rows = |count: u64, what: &str| format!("{count} row{} {what}", if count == 1 { "" } else { "s" });
        let mut says = match view.state {
            "never" => "Not since this sidecar started.".to_owned(),
            "running" => "It runs in the background; reload this page to see its progress.".to_owned(),
            "whole" => {
                let kind = if view.keyed {
                    "sealed with the audit key"
                } else {
                    "linked by hashes alone, since there is no audit key"
                };
                format!("{}: nothing was altered, removed, moved or put in.", rows(view.rows, kind))
            }
            _ => view.fault.clone().unwrap_or_default(),
        };
        if view.state == "whole" && view.erased > 0 {
            says.push_str(&format!(" Of {} the personal fields were erased.", rows(view.erased, "").trim()));
        }
        if view.state == "whole" && view.unkeyed > 0 {
            let older = rows(view.unkeyed, "are older than the key, of which it proves nothing");
            says.push_str(&format!(" The first {older}."));
        }
        if let Some(head) = view.head.filter(|_| matches!(view.state, "whole" | "broken")) {
            says.push_str(&format!(" Its head is `{head}`."));
        }
        Self {
            state: view.state,
            rows: view.rows,
            of: view.of.unwrap_or_default(),
            at: view.at.as_deref().map(Moment::read),
            says: Sentence::read(&says),
        }
    }
}
