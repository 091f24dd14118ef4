//! Decisions inside a transaction: what is kept is read, the pure step is asked until it has decided, and the changes are written.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::StoreError;
use super::audit::About;
use super::record::provider_of;
use super::{NOTE_LAST_USER, Session, act, audit, brake, disabling, erased, kind_of, record, unavailable};
use crate::pipeline::decision::{
    About as Told, Changes, Entry, Facts, Kept, Needs, Question, RunningWindow, Seen, Window,
};
use crate::pipeline::ids::{MappingId, ProviderName, Target, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;

/// What is kept of a user, and under which number.
pub(super) struct Loaded {
    pub number: Option<i64>,
    pub kept: Kept,
}

/// A token, by its digest, and until when it is remembered.
#[derive(Clone, Copy)]
pub(super) struct Token<'a> {
    pub digest: &'a [u8],
    pub until: Timestamp,
}

pub(super) fn load(session: &Session<'_>, user: &UserId, token: Option<Token<'_>>) -> Result<Loaded, StoreError> {
    let token = token.map(|token| seen(session, token.digest)).transpose()?.unwrap_or_default();
    let found = record::read(session.connection, user)?;
    let erased = match found {
        Some(_) => None,
        None => erased::find(session.connection, user)?,
    };
    let (number, record) = found.unzip();
    Ok(Loaded { number, kept: Kept { user: user.clone(), record, erased, token, epoch: *session.epoch } })
}

fn seen(session: &Session<'_>, digest: &[u8]) -> Result<Seen, StoreError> {
    let mut select =
        session.connection.prepare_cached("SELECT spent FROM tokens WHERE digest = ?1").map_err(unavailable)?;
    let mut rows = select.query(params![digest]).map_err(unavailable)?;
    let mut seen = Seen::default();
    while let Some(row) = rows.next().map_err(unavailable)? {
        match row.get(0).map_err(unavailable)? {
            true => seen.spent = true,
            false => seen.refused = true,
        }
    }
    Ok(seen)
}

/// How often a step may come back with questions. Each of its stages asks all that it has at once.
const ROUNDS: usize = 16;

/// Asks a step until it has decided.
pub(super) fn decide<T>(
    connection: &Connection,
    loaded: &Loaded,
    rules: &RuleSet,
    now: Timestamp,
    step: impl Fn(&Kept, &Facts) -> Result<T, Needs>,
) -> Result<T, StoreError> {
    let mut facts = Facts::default();
    for _ in 0..ROUNDS {
        match step(&loaded.kept, &facts) {
            Ok(decided) => return Ok(decided),
            Err(Needs::Facts(questions)) => {
                let witness = Witness { connection, number: loaded.number.unwrap_or(0), rules, now };
                questions.into_iter().try_for_each(|question| witness.answer(question, &mut facts))?;
            }
            Err(Needs::Unreadable(why)) => return Err(StoreError::Invalid(why.to_string())),
        }
    }
    Err(StoreError::Invalid("a decision asked too many questions".into()))
}

/// Answers questions about other users.
struct Witness<'a> {
    connection: &'a Connection,
    /// The user whom the decision is about.
    number: i64,
    rules: &'a RuleSet,
    now: Timestamp,
}

impl Witness<'_> {
    fn answer(&self, question: Question, facts: &mut Facts) -> Result<(), StoreError> {
        match question {
            Question::Window(provider, target) => {
                let running = self.window(&provider, &target)?;
                facts.windows.insert((provider, target), running);
            }
            Question::Members(provider, target) => {
                let members = brake::members(self.connection, &provider, &target)?;
                facts.members.insert((provider, target), members);
            }
            Question::HeldByAnother(target) => {
                let held = self.held_by_another(&target)?;
                facts.held_by_another.insert(target, held);
            }
            Question::Disablings => {
                let window = self.rules.sync.brake.window;
                facts.disablings = Some(disabling::count(self.connection, self.number, self.now.minus(window))?);
            }
            Question::Claims => facts.claims = Some(self.claims()?),
        }
        Ok(())
    }

    fn window(&self, provider: &ProviderName, target: &Target) -> Result<RunningWindow, StoreError> {
        let key = params![provider.as_str(), kind_of(target), target.name()];
        let window = self
            .connection
            .prepare_cached(
                "SELECT began_at, members, losses FROM brakes WHERE provider = ?1 AND kind = ?2 AND name = ?3",
            )
            .and_then(|mut select| {
                select
                    .query_row(key, |row| {
                        let count = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
                        Ok(Window { began_at: Timestamp(row.get(0)?), members: count(1)?, losses: count(2)? })
                    })
                    .optional()
            })
            .map_err(unavailable)?;
        let counted = match window {
            Some(window) => brake::counts(self.connection, provider, target, (self.number, window.began_at))?,
            None => false,
        };
        Ok(RunningWindow { window, holds: brake::holds(self.connection, provider, target)?, counted })
    }

    fn claims(&self) -> Result<BTreeMap<ProviderName, String>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT provider, claims FROM recorded_claims WHERE user_id = ?1")
            .map_err(unavailable)?;
        let mut rows = select.query(params![self.number]).map_err(unavailable)?;
        let mut claims = BTreeMap::new();
        while let Some(row) = rows.next().map_err(unavailable)? {
            let provider: String = row.get(0).map_err(unavailable)?;
            claims.insert(provider_of(&provider)?, row.get(1).map_err(unavailable)?);
        }
        Ok(claims)
    }

    fn held_by_another(&self, target: &Target) -> Result<bool, StoreError> {
        if self.granted_to_another(target, target)? {
            return Ok(true);
        }
        let Target::Role(role) = target else { return Ok(false) };
        for (group, _) in self.rules.groups.iter().filter(|(_, group)| group.roles.contains(role)) {
            if self.granted_to_another(&Target::Group(group.clone()), target)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether another enabled user has a grant of `through` that stands: its mapping lives, its lease has not ended, and no deny
    /// of it, or of `target`, undoes it.
    fn granted_to_another(&self, through: &Target, target: &Target) -> Result<bool, StoreError> {
        let mut select = self
            .connection
            .prepare_cached(
                "SELECT grants.provider, grants.mapping, coalesce(grants.lease_from, watermarks.renewed_at, grants.granted_at)
                 FROM grants JOIN users ON users.id = grants.user_id
                 LEFT JOIN watermarks ON watermarks.user_id = grants.user_id AND watermarks.provider = grants.provider
                 WHERE grants.kind = ?1 AND grants.name = ?2 AND grants.user_id <> ?5 AND users.disabled_at IS NULL
                   AND NOT EXISTS (SELECT 1 FROM denies WHERE denies.user_id = grants.user_id
                                   AND (denies.until IS NULL OR denies.until > ?6)
                                   AND ((denies.kind = ?1 AND denies.name = ?2) OR (denies.kind = ?3 AND denies.name = ?4)))",
            )
            .map_err(unavailable)?;
        let key = params![kind_of(through), through.name(), kind_of(target), target.name(), self.number, self.now.0];
        let mut rows = select.query(key).map_err(unavailable)?;
        while let Some(row) = rows.next().map_err(unavailable)? {
            let provider: String = row.get(0).map_err(unavailable)?;
            if provider.is_empty() || self.stands(&provider, row)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn stands(&self, provider: &str, row: &rusqlite::Row<'_>) -> Result<bool, StoreError> {
        let mapping = MappingId(row.get(1).map_err(unavailable)?);
        if !self.rules.mapping(mapping).is_some_and(|mapping| mapping.is_live(self.now)) {
            return Ok(false);
        }
        let from: i64 = row.get(2).map_err(unavailable)?;
        let lease = self.rules.lease(&provider_of(provider)?);
        Ok(lease.is_none_or(|lease| from > self.now.minus(lease).0))
    }
}

/// Writes what a step has decided. Returns the number of the user, where there is one.
pub(super) fn commit(
    session: &mut Session<'_>,
    loaded: &Loaded,
    changes: &Changes,
    token: Option<Token<'_>>,
    now: Timestamp,
) -> Result<Option<i64>, StoreError> {
    let Kept { user, record: before, erased, token: seen, .. } = &loaded.kept;
    if let Some(token) = token {
        for (spent, noted) in
            [(true, changes.token.spent && !seen.spent), (false, changes.token.refused && !seen.refused)]
        {
            if noted {
                remember(session, token, spent)?;
            }
        }
    }
    let mut number = loaded.number;
    if let Some(bound) = &changes.erased {
        erased::keep(session, user, bound, now)?;
        if let Some(number) = number {
            return erase(session, number, &changes.audit, now).map(|()| None);
        }
    }
    if let Some(after) = &changes.record {
        let before = loaded.number.zip(before.as_ref());
        let written = record::write(session, user, before, after)?;
        // What bound the person who was erased is in the record from now on.
        if erased.is_some() {
            erased::forget(session, user)?;
        }
        number = Some(written);
        if let Some((provider, text)) = &changes.claims {
            record_claims(session, written, provider, text.as_deref())?;
        }
    }
    for ((provider, target), window) in &changes.windows {
        brake::note(session, provider, target, (window, number))?;
    }
    if changes.disablings_judged {
        disabling::forget_window(session, now)?;
    }
    tell(session, &changes.audit, (number, user), now)?;
    Ok(number)
}

fn tell(
    session: &Session<'_>,
    entries: &[Entry],
    (number, user): (Option<i64>, &UserId),
    now: Timestamp,
) -> Result<(), StoreError> {
    for Entry { event, detail, login, about } in entries {
        let (number, person) = match about {
            Told::Nobody => (None, None),
            Told::Number => (number, None),
            Told::Person { email } => (number, Some((user, email.as_deref()))),
        };
        audit::append_text(session, now, event, detail, &About { login: login.as_deref(), user: number, person })?;
    }
    Ok(())
}

/// Removes a user and the personal fields of their rows of the audit, those of users who became one with them included.
fn erase(session: &mut Session<'_>, number: i64, entries: &[Entry], now: Timestamp) -> Result<(), StoreError> {
    let numbers: Vec<i64> = std::iter::once(number).chain(act::former_numbers(session.connection, number)?).collect();
    for number in &numbers {
        audit::erase(session, *number)?;
    }
    for statement in [NOTE_LAST_USER, "DELETE FROM users WHERE id = ?1"] {
        session
            .connection
            .prepare_cached(statement)
            .and_then(|mut prepared| prepared.execute(params![number]))
            .map_err(unavailable)?;
    }
    for Entry { event, detail, .. } in entries {
        for number in &numbers {
            let about = About { login: None, user: Some(*number), person: None };
            audit::append_text(session, now, event, detail, &about)?;
        }
    }
    Ok(())
}

/// Notes a token; `false` when it was noted before.
pub(super) fn remember(session: &Session<'_>, token: Token<'_>, spent: bool) -> Result<bool, StoreError> {
    let inserted = session
        .connection
        .prepare_cached("INSERT INTO tokens (digest, spent, until) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")
        .and_then(|mut insert| insert.execute(params![token.digest, spent, token.until.0]))
        .map_err(unavailable)?;
    Ok(inserted == 1)
}

fn record_claims(
    session: &Session<'_>,
    number: i64,
    provider: &ProviderName,
    text: Option<&str>,
) -> Result<(), StoreError> {
    let statement = match text {
        Some(_) => {
            "INSERT INTO recorded_claims (user_id, provider, claims) VALUES (?1, ?2, ?3)
             ON CONFLICT (user_id, provider) DO UPDATE SET claims = ?3"
        }
        None => "DELETE FROM recorded_claims WHERE user_id = ?1 AND provider = ?2 AND ?3 IS NULL",
    };
    session
        .connection
        .prepare_cached(statement)
        .and_then(|mut prepared| prepared.execute(params![number, provider.as_str(), text]))
        .map_err(unavailable)?;
    Ok(())
}

/// Runs a step about one user, and writes what it has decided.
pub(super) fn change(
    session: &mut Session<'_>,
    user: &UserId,
    rules: &RuleSet,
    now: Timestamp,
    step: impl Fn(&Kept, &Facts) -> Result<Changes, Needs>,
) -> Result<bool, StoreError> {
    let loaded = load(session, user, None)?;
    let changes = decide(session.connection, &loaded, rules, now, step)?;
    commit(session, &loaded, &changes, None, now)?;
    Ok(changes.record.is_some())
}
