//! Decisions inside a transaction: users are read, the pure step is asked until it has decided, and the changes are written.

use rusqlite::params;

use super::super::happened;
use super::super::rows::{Live, news};
use super::super::{Ask, Known, ROUNDS, Step, StoreError, Token};
use super::audit::About as Row;
use super::facts::Look;
use super::records::{self, former_numbers};
use super::{Session, audit, catalogue, erased, kind_of, unavailable};
use crate::pipeline::decision::{About, Changes, Entry, Facts, Kept, Needs, Save, Seen, Shared, restored};
use crate::pipeline::ids::{Timestamp, UserId};
use crate::pipeline::record::Record;

/// What is kept of a user.
struct Loaded {
    /// Their record as it stands in the rows, where work is open and it may count otherwise.
    stored: Option<Record>,
    kept: Kept,
}

impl Loaded {
    /// Number and record as they stand in the rows.
    fn before(&self) -> Option<(i64, &Record)> {
        Some((self.kept.number?, self.stored.as_ref().or(self.kept.record.as_ref())?))
    }
}

/// Reads users, asks the step until it has decided, and writes what it decided, unless this is only to look.
pub(super) fn transact(session: &mut Session<'_>, ask: &Ask, step: &mut Step, writes: bool) -> Result<(), StoreError> {
    let mut loaded = Vec::with_capacity(ask.users.len());
    let mut facts = Facts::default();
    for user in &ask.users {
        loaded.push(load(session, user, ask.token, &mut facts)?);
    }
    if let (Some(token), true) = (ask.token, ask.users.is_empty()) {
        facts.token = seen(session, token)?;
    }
    let (kept, stored): (Vec<Kept>, Vec<_>) = loaded.into_iter().map(|it| (it.kept, it.stored)).unzip();
    let save = decide(session, &kept, facts, step)?;
    if !writes {
        return Ok(());
    }
    let loaded = kept.into_iter().zip(stored).map(|(kept, stored)| Loaded { stored, kept }).collect();
    commit(session, loaded, ask, save)
}

fn decide(session: &Session<'_>, kept: &[Kept], mut facts: Facts, step: &mut Step) -> Result<Save, StoreError> {
    let asked: Vec<i64> = kept.iter().filter_map(|kept| kept.number).collect();
    let look = Look { connection: session.connection, live: &session.state.live };
    for _ in 0..ROUNDS {
        match step(kept, &facts) {
            Err(Needs::Facts(questions)) => {
                questions.into_iter().try_for_each(|question| look.answer(question, &asked, &mut facts))?;
            }
            decided => return Ok(decided?),
        }
    }
    Err(StoreError::Invalid("a decision asked too many questions".into()))
}

/// The last hour in which a token could pass.
pub(super) fn hour(until: Timestamp) -> i64 {
    until.0.div_euclid(3_600_000)
}

/// Hours that one statement looks at. Tokens that are valid for an hour are in two or three.
const HOURS: usize = 4;

/// Hours of which there are tokens, by so many, the last one filled up by itself. What a token says of itself decides until when
/// it is remembered; where it also depends on the configuration, the second one may come with another hour.
fn hours(session: &Session<'_>) -> Vec<[i64; HOURS]> {
    let hours: Vec<i64> = session.state.hours.iter().copied().collect();
    let filled = |some: &[i64]| {
        let last = some.last().copied().unwrap_or_default();
        std::array::from_fn(|at| some.get(at).copied().unwrap_or(last))
    };
    hours.chunks(HOURS).map(filled).collect()
}

const SEEN: &str = "EXISTS (SELECT 1 FROM tokens WHERE hour IN (?1, ?2, ?3, ?4) AND digest = ?5),
     EXISTS (SELECT 1 FROM refusals WHERE hour IN (?1, ?2, ?3, ?4) AND digest = ?5)";

fn seen(session: &Session<'_>, token: Token) -> Result<Seen, StoreError> {
    hours(session).into_iter().try_fold(Seen::default(), |all, hours| Ok(all.or(seen_in(session, token, hours)?)))
}

fn seen_in(session: &Session<'_>, token: Token, [a, b, c, d]: [i64; HOURS]) -> Result<Seen, StoreError> {
    session
        .statement(&format!("SELECT {SEEN}"))
        .and_then(|mut select| {
            select.query_row(params![a, b, c, d, token.digest], |row| {
                Ok(Seen { spent: row.get(0)?, refused: row.get(1)? })
            })
        })
        .map_err(unavailable)
}

/// Reads a user and the token in one statement.
fn load(
    session: &mut Session<'_>,
    user: &UserId,
    token: Option<Token>,
    facts: &mut Facts,
) -> Result<Loaded, StoreError> {
    let statement = format!(
        "SELECT users.id, ?6, ?7, email, display_name, created_at, logins, due, record, {SEEN}
         FROM (SELECT 1) LEFT JOIN users ON namespace = ?6 AND subject = ?7
         LEFT JOIN records ON records.user_id = users.id"
    );
    let mut hours = token.map(|_| hours(session)).unwrap_or_default().into_iter();
    let [a, b, c, d] = hours.next().unwrap_or_default();
    let digest = token.map(|token| token.digest);
    let found = {
        let mut select = session.statement(&statement).map_err(unavailable)?;
        let key = params![a, b, c, d, digest, user.namespace.as_str(), user.subject.as_str()];
        let mut rows = select.query(key).map_err(unavailable)?;
        let row = rows.next().map_err(unavailable)?;
        let row = row.ok_or_else(|| StoreError::Unavailable("a look-up had no answer".into()))?;
        facts.token = Seen { spent: row.get(9).map_err(unavailable)?, refused: row.get(10).map_err(unavailable)? };
        match row.get::<_, Option<i64>>(0).map_err(unavailable)? {
            Some(_) => Some(records::read(row, &session.state.live.names)?),
            None => None,
        }
    };
    if let Some(token) = token {
        for hours in hours {
            facts.token = facts.token.or(seen_in(session, token, hours)?);
        }
    }
    let erased = match found {
        Some(_) => None,
        None => erased::find(session.connection, user)?,
    };
    let live = &session.state.live;
    let (number, record) = found.map(|Known { number, record, .. }| (number, record)).unzip();
    let (record, stored) = match record {
        Some(record) if !live.work.is_empty() => (Some(live.as_it_counts(record.clone())), Some(record)),
        record => (record, None),
    };
    let kept = Kept {
        user: user.clone(),
        number,
        record,
        erased,
        token: facts.token,
        epoch: *session.epoch,
        restored: live.restored,
    };
    Ok(Loaded { stored, kept })
}

// ------------------------------------------------------------------------------------------------------------- writing

fn commit(session: &mut Session<'_>, loaded: Vec<Loaded>, ask: &Ask, save: Save) -> Result<(), StoreError> {
    let Save { people, shared } = save;
    let now = ask.now.unwrap_or(Timestamp(0));
    note_token(session, ask, &people, &shared)?;
    // All users leave their old keys before any takes a new one.
    for (it, _) in loaded.iter().zip(&people).filter(|(_, changes)| changes.key.is_some()) {
        if let Some(number) = it.kept.number {
            // No namespace is empty, so that no user has this key.
            session.run("UPDATE users SET namespace = '', subject = ?1 WHERE id = ?1", &[&number])?;
        }
    }
    for (it, changes) in loaded.iter().zip(&people) {
        if let Some(into) = changes.into.and_then(|into| loaded.get(into)).and_then(|into| into.kept.number) {
            merge(session, it, into)?;
            tell_receivers(session, it, changes, now)?;
        }
    }
    for (it, changes) in loaded.iter().zip(&people).filter(|(_, changes)| changes.into.is_none()) {
        write_person(session, it, changes, now)?;
    }
    write_shared(session, &shared, now)?;
    session.note_events(&happened::to_all(&shared, &session.following.listeners), now)?;
    tell(session, &shared.audit, None, None, now)
}

fn note_token(session: &mut Session<'_>, ask: &Ask, people: &[Changes], shared: &Shared) -> Result<(), StoreError> {
    let Some(token) = ask.token else { return Ok(()) };
    let noted = people.iter().map(|changes| changes.token).chain([shared.token]);
    let noted = noted.fold(Seen::default(), Seen::or);
    if noted == Seen::default() {
        return Ok(());
    }
    if noted.spent {
        remember(session, "tokens", token)?;
    }
    if noted.refused {
        remember(session, "refusals", token)?;
    }
    let now = ask.now.unwrap_or(Timestamp(0));
    sweep(session, now)
}

/// Notes a token in a table; `false` when it was noted before.
pub(super) fn remember(session: &mut Session<'_>, table: &str, token: Token) -> Result<bool, StoreError> {
    let hour = hour(token.until);
    let added = session
        .run(&format!("INSERT OR IGNORE INTO {table} (hour, digest) VALUES (?1, ?2)"), &[&hour, &token.digest])?;
    if session.state.hours.insert(hour) {
        session.state.is_dirty = true;
    }
    Ok(added == 1)
}

/// Whether a token was spent.
pub(super) fn is_spent(session: &Session<'_>, token: Token) -> Result<bool, StoreError> {
    Ok(seen(session, token)?.spent)
}

/// Clears expired tokens away, once in a transaction: more of them than its jobs add, so that the tables shrink under load.
fn sweep(session: &mut Session<'_>, now: Timestamp) -> Result<(), StoreError> {
    let first = session.state.hours.first().copied().filter(|first| *first < hour(now));
    let Some(first) = first.filter(|_| !session.swept) else { return Ok(()) };
    session.swept = true;
    let mut gone = 0;
    for table in ["tokens", "refusals"] {
        gone += session.run(
            &format!(
                "DELETE FROM {table} WHERE (hour, digest) IN
                 (SELECT hour, digest FROM {table} WHERE hour = ?1 ORDER BY digest LIMIT 256)"
            ),
            &[&first],
        )?;
    }
    if gone == 0 {
        session.state.hours.remove(&first);
        session.state.is_dirty = true;
    }
    Ok(())
}

fn write_person(session: &mut Session<'_>, it: &Loaded, changes: &Changes, now: Timestamp) -> Result<(), StoreError> {
    let Kept { user, number, erased, .. } = &it.kept;
    let mut number = *number;
    if let Some(bound) = &changes.erased {
        erased::keep(session, user, bound, now)?;
        if let Some((gone, record)) = it.before() {
            tell_receivers(session, it, changes, now)?;
            return erase(session, gone, record, &changes.audit, now);
        }
    }
    if let Some(after) = &changes.record {
        number = Some(session.write(user, it.before(), after)?);
        // What bound the person who was erased is in the record from now on.
        if erased.is_some() {
            erased::forget(session, user)?;
        }
    }
    if let (Some(number), Some(key)) = (number, &changes.key) {
        session.run(
            "UPDATE users SET namespace = ?2, subject = ?3 WHERE id = ?1",
            &[&number, &key.namespace.as_str(), &key.subject.as_str()],
        )?;
    }
    if let (Some(number), Some(news)) =
        (number, news(it.before().map(|(_, record)| record), changes.record.as_ref(), changes))
    {
        session.tell_receivers(number, &news, now)?;
    }
    let before = it.before().map(|(_, record)| record);
    let listeners = &session.following.listeners;
    let happened = happened::to_person(before, changes.record.as_ref(), changes, number, listeners);
    session.note_events(&happened, now)?;
    for ((provider, target), window) in &changes.windows {
        let number = session.state.live.names.number(target).unwrap_or(-1);
        session.run(
            "INSERT OR REPLACE INTO guards (provider, kind, target, began_at, members, losses)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            &[
                &provider.as_str(),
                &kind_of(target),
                &number,
                &window.began_at.0,
                &window.members.cast_signed(),
                &window.losses.cast_signed(),
            ],
        )?;
    }
    tell(session, &changes.audit, number, Some(user), now)
}

/// A user was erased, and receivers must get that.
fn tell_receivers(session: &Session<'_>, it: &Loaded, changes: &Changes, now: Timestamp) -> Result<(), StoreError> {
    let Some((number, record)) = it.before() else { return Ok(()) };
    news(Some(record), None, changes).map_or(Ok(()), |news| session.tell_receivers(number, &news, now))
}

/// Removes a user and the personal fields of their rows of the audit, those of users who became one with them included.
fn erase(
    session: &mut Session<'_>,
    number: i64,
    record: &Record,
    entries: &[Entry],
    now: Timestamp,
) -> Result<(), StoreError> {
    let numbers: Vec<i64> = std::iter::once(number).chain(former_numbers(session.connection, number)?).collect();
    for number in &numbers {
        audit::erase(session, *number)?;
    }
    session.remove(number, record)?;
    for Entry { event, detail, .. } in entries {
        for number in &numbers {
            let about = Row { login: None, user: Some(*number), person: None };
            audit::append(session, now, event, detail, &about)?;
        }
    }
    Ok(())
}

/// A user's row goes, since they are another from now on.
fn merge(session: &mut Session<'_>, it: &Loaded, into: i64) -> Result<(), StoreError> {
    let Some((number, record)) = it.before() else { return Ok(()) };
    session.run("INSERT INTO former_users (id, user_id) VALUES (?1, ?2)", &[&number, &into])?;
    session.run("UPDATE former_users SET user_id = ?2 WHERE user_id = ?1", &[&number, &into])?;
    session.remove(number, record)
}

fn write_shared(session: &mut Session<'_>, shared: &Shared, now: Timestamp) -> Result<(), StoreError> {
    let Shared { epoch, notes, ended_windows, work, done, token: _, catalogue, restored: since, bound, audit: _ } =
        shared;
    if let Some(catalogue) = catalogue {
        catalogue::write(session, catalogue, now)?;
    }
    if let Some(at) = since {
        session.set(restored::NAME, &at.0.to_be_bytes())?;
        session.run("DELETE FROM sessions", &[])?;
        session.run("DELETE FROM api_tokens", &[])?;
        session.run("DELETE FROM console", &[])?;
        session.state.live.restored = Some(*at);
        session.state.changed();
    }
    if epoch.is_some() {
        *session.epoch = *epoch;
    }
    for (name, value) in notes {
        match value {
            Some(value) => session.set(name, value)?,
            None => session.run("DELETE FROM settings WHERE name = ?1", &[name]).map(drop)?,
        }
    }
    for (provider, target) in ended_windows {
        let number = session.state.live.names.number(target).unwrap_or(-1);
        session.run(
            "DELETE FROM guards WHERE provider = ?1 AND kind = ?2 AND target = ?3",
            &[&provider.as_str(), &kind_of(target), &number],
        )?;
    }
    if let Some(work) = work {
        session.run("INSERT INTO work (item) VALUES (?1)", &[&work.text()])?;
        let number = session.connection.last_insert_rowid();
        session.state.live.work.push((number, std::sync::Arc::new(work.clone())));
        session.state.changed();
    }
    for number in done {
        finish(session, *number)?;
    }
    for (bearer, bound) in bound {
        erased::bind(session, bearer, bound, now)?;
    }
    Ok(())
}

/// Work is done: no user has what its mappings gave.
fn finish(session: &mut Session<'_>, number: i64) -> Result<(), StoreError> {
    session.run("DELETE FROM work WHERE number = ?1", &[&number])?;
    session.run(
        "DELETE FROM given WHERE NOT EXISTS
         (SELECT 1 FROM holdings WHERE holdings.kind = given.kind AND holdings.target = given.target
          AND holdings.provider = given.provider AND holdings.mapping = given.mapping)",
        &[],
    )?;
    session.state.given = super::state::given(session.connection)?;
    session.state.live.work.retain(|(open, _)| *open != number);
    session.state.changed();
    Ok(())
}

fn tell(
    session: &mut Session<'_>,
    entries: &[Entry],
    number: Option<i64>,
    user: Option<&UserId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    for Entry { event, detail, login, about } in entries {
        let (number, person) = match about {
            About::NoUser => (None, None),
            About::Number => (number, None),
            About::Person { email } => (number, user.map(|user| (user, email.as_deref()))),
            About::Other { number, user } => (Some(*number), Some((user, None))),
            About::Former(number) => (Some(*number), None),
        };
        audit::append(session, now, event, detail, &Row { login: login.as_deref(), user: number, person })?;
    }
    Ok(())
}

/// A user as they count, for readers.
pub(super) fn user(connection: &rusqlite::Connection, live: &Live, user: &UserId) -> Result<Option<Known>, StoreError> {
    records::by_key(connection, live, user)
}
