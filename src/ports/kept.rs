//! What every port to the store answers with.

use crate::pipeline::decision::Excess;
use crate::pipeline::ids::UserId;
use crate::pipeline::record::Record;

/// Why the store did not do what was asked. Nothing was written, except where it is [`StoreError::Unknown`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the store did not answer in time")]
    Timeout,
    /// The change was sent to be written, and no answer came.
    #[error("the store did not confirm the change: it is unknown whether it was made; check before you repeat it")]
    Unknown,
    #[error("the store is full or cannot be written: {0}")]
    Unavailable(String),
    #[error("{0}")]
    Invalid(String),
    /// New rules would revoke over the brake's limit.
    #[error("{}", braked(.0))]
    Braked(Vec<Excess>),
}

fn braked(excesses: &[Excess]) -> String {
    let mut text = String::from("the rules revoke too much at once:");
    for excess in excesses {
        text.push_str("\n  ");
        text.push_str(&excess.to_string());
    }
    text.push_str(
        "\n  look with `loginsync plan --config FILE`; if it is meant, `loginsync plan --config FILE --confirm`",
    );
    text
}

/// A user as a store knows them.
#[derive(Debug, Clone)]
pub struct Known {
    /// By which faces and the audit name the user. None is ever used twice.
    pub number: i64,
    pub user: UserId,
    pub record: Record,
}
