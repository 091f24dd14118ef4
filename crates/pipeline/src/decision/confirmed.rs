//! What operators have confirmed for clients that cannot confirm by themselves: for a while, a client may revoke a number of
//! memberships over the brake's limit.

use serde::{Deserialize, Serialize};

use super::{About, Entry, Facts, Needs, Question, Shared};
use crate::ids::Timestamp;

/// What an operator lets a client revoke over the brake's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    pub until: Timestamp,
    /// Memberships, of all changes together.
    pub most: u64,
}

/// As it is noted.
#[derive(Serialize, Deserialize)]
struct Noted {
    until: i64,
    /// Memberships that are left of it.
    left: u64,
    by: String,
}

/// Under which it is noted.
pub(super) fn name(client: &str) -> String {
    format!("confirmed client {client}")
}

#[derive(Serialize)]
struct Detail<'a> {
    client: &'a str,
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// Memberships: that may go, or that went.
    #[serde(skip_serializing_if = "Option::is_none")]
    most: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    losing: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
}

/// Notes a confirmation, in place of the one before.
pub fn confirm(client: &str, Confirmation { until, most }: Confirmation, by: &str) -> Shared {
    let mut shared = Shared::default();
    note(&mut shared, client, Some(&Noted { until: until.0, left: most, by: by.to_owned() }));
    let until = Some(until.to_string());
    let detail = Detail { client, by, until, most: Some(most), losing: None, left: None };
    shared.audit.push(Entry { about: About::NoUser, ..Entry::new("client_confirmed", &detail) });
    shared
}

/// Takes memberships that a change revokes from what was confirmed for its client. `false`: not so many, or none, or too late.
pub(super) fn spend(
    shared: &mut Shared,
    client: &str,
    losing: u64,
    facts: &Facts,
    now: Timestamp,
) -> Result<bool, Needs> {
    let known = facts.confirmations.get(client);
    let Some(text) = known.ok_or_else(|| Needs::one(Question::Confirmation(client.to_owned())))? else {
        return Ok(false);
    };
    // What cannot be read confirms nothing.
    let Ok(noted) = serde_json::from_slice::<Noted>(text) else { return Ok(false) };
    let Some(left) = noted.left.checked_sub(losing).filter(|_| now.0 < noted.until) else { return Ok(false) };
    note(
        shared,
        client,
        Some(&Noted { left, until: noted.until, by: noted.by.clone() }).filter(|noted| noted.left > 0),
    );
    let detail = Detail { client, by: &noted.by, until: None, most: None, losing: Some(losing), left: Some(left) };
    shared.audit.push(Entry { about: About::NoUser, ..Entry::new("confirmation_used", &detail) });
    Ok(true)
}

fn note(shared: &mut Shared, client: &str, noted: Option<&Noted>) {
    let text = noted.map(|noted| serde_json::to_vec(noted).unwrap_or_default());
    shared.notes.insert(name(client), text);
}

impl Question {
    /// The name of the note that [`Question::Confirmation`] asks for.
    pub fn confirmation(client: &str) -> String {
        name(client)
    }
}
