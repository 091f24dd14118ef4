//! Decisions in a transaction: users are read, the pure step is asked until it has decided, and the changes are written if what
//! was read is as it was.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::happened;
use super::super::rows::{kind_of, news};
use super::super::{Ask, ROUNDS, Step, StoreError};
use super::facts::Look;
use super::pipe::{Failed, Pipe, Statement, Value, get, values};
use super::records::{self, COLUMNS};
use super::replicas::Revision;
use super::{
    NOW, PgStore, TRIES, TRIES_BEFORE_RULES, audit, catalogue, erased, events, locks, outbox, replicas, schema,
    settings,
};
use crate::pipeline::decision::{About, Changes, Entry, Facts, Kept, Needs, Question, Save, Seen, Shared, restored};
use crate::pipeline::ids::{Target, Timestamp, UserId};
use crate::pipeline::record::Record;
use crate::pipeline::record::names::Names;

/// Between two tries after a connection broke.
const PAUSE: Duration = Duration::from_millis(50);
/// For how long a commit is recognised, in milliseconds: much longer than any caller waits.
const RECOGNISED: i64 = 600_000;

/// What is kept of a user.
struct Loaded {
    /// Version and record as they stand in the row.
    stored: Option<(i64, Record)>,
    /// Theirs, or the one that a new user would get.
    number: i64,
}

/// How a try goes.
enum Tried {
    Done,
    /// The step asks what is not locked, about these users.
    Asks(BTreeSet<Question>, Vec<i64>),
}

/// What a try locks before it looks.
#[derive(Debug, Default)]
struct Locked {
    /// The users.
    users: bool,
    /// What is asked about other users: it is answered in the trip that locks.
    questions: BTreeSet<Question>,
    /// The users whom it was asked for, by number.
    asked: Vec<i64>,
    /// The rules, so that no change of them comes before the commit. Exclusively: a step may change them itself, and two that share the
    /// lock would wait for each other.
    rules: bool,
}

impl Locked {
    /// The target that an answer hangs on; `None`: it hangs on more than one.
    fn target(question: &Question) -> Option<&Target> {
        match question {
            Question::Window(_, target) | Question::Members(_, target) | Question::Others { of: target, .. } => {
                Some(target)
            }
            _ => None,
        }
    }

    /// Whether what is asked is locked.
    fn covers(&self, asked: &BTreeSet<Question>) -> bool {
        let alone = self.questions.iter().any(|question| Self::target(question).is_none());
        let held: BTreeSet<&Target> = self.questions.iter().filter_map(Self::target).collect();
        self.users && (alone || asked.iter().all(|it| Self::target(it).is_some_and(|target| held.contains(target))))
    }

    /// Those who ask about one target wait for each other, and for those who ask about everything; in one order.
    fn statements(&self, names: &Names) -> Vec<Statement> {
        let rules = self.rules.then(|| lock(locks::RULES, "pg_advisory_xact_lock"));
        self.facts(names).into_iter().chain(rules).collect()
    }

    fn facts(&self, names: &Names) -> Vec<Statement> {
        if self.questions.is_empty() {
            return Vec::new();
        }
        if self.questions.iter().any(|question| Self::target(question).is_none()) {
            return vec![lock(locks::FACTS, "pg_advisory_xact_lock")];
        }
        let targets = self.questions.iter().filter_map(Self::target);
        let keys: BTreeSet<(i64, i64)> =
            targets.map(|target| (kind_of(target), names.number(target).unwrap_or(-1))).collect();
        let each = keys.into_iter().map(|(kind, number)| Statement {
            text: "SELECT pg_advisory_xact_lock($1::int, ($2 % 2147483647)::int)".into(),
            values: values![locks::TARGETS + kind, number],
        });
        std::iter::once(lock(locks::FACTS, "pg_advisory_xact_lock_shared")).chain(each).collect()
    }
}

/// By what a commit is recognised whose answer was lost. All tries of one decision have the same, so that two of them cannot both be
/// committed.
enum Mark {
    /// The row of the audit that names the login.
    Login(String),
    /// A row of its own among the spent tokens, where no token has this digest.
    Own([u8; 32]),
}

impl Mark {
    fn of(save: &Save) -> Result<Self, StoreError> {
        if let Some(login) = login_of(save) {
            return Ok(Self::Login(login));
        }
        let mut mark = [0; 32];
        let without = |_| StoreError::Unavailable("the operating system returned no random bytes".into());
        aws_lc_rs::rand::fill(&mut mark).map_err(without)?;
        Ok(Self::Own(mark))
    }

    fn note(&self) -> Option<Statement> {
        let Self::Own(mark) = self else { return None };
        let text = format!("INSERT INTO loginsync.tokens (digest, until) VALUES ($1, {NOW} + $2)");
        Some(Statement { text: text.into(), values: values![*mark, RECOGNISED] })
    }

    async fn is_committed(&self, pipe: &Pipe) -> Result<bool, Failed> {
        let (text, values) = match self {
            Self::Login(login) => ("SELECT 1 FROM loginsync.audit WHERE login = $1", values![login.as_str()]),
            Self::Own(mark) => ("SELECT 1 FROM loginsync.tokens WHERE digest = $1", values![*mark]),
        };
        Ok(pipe.row(text, &values).await?.is_some())
    }
}

/// `in_doubt`: a commit was sent whose answer is not known. A caller that gives up then does not know what became of it.
pub(super) async fn transact(store: &PgStore, ask: Ask, mut step: Step, in_doubt: &AtomicBool) -> Result<(), Failed> {
    let _turn = store.queue(&ask.users).await;
    // Several users are locked in one order from the start.
    let mut locked = Locked { users: ask.users.len() > 1, ..Locked::default() };
    let (mut mark, mut tries) = (None, 0);
    while tries < TRIES {
        let tried = attempt(store, &ask, &mut step, &locked, (&mut mark, in_doubt)).await;
        tries += 1;
        match tried {
            Ok(Tried::Done) => return Ok(()),
            Ok(Tried::Asks(questions, asked)) => {
                (locked.users, locked.asked) = (true, asked);
                locked.questions.extend(questions);
            }
            Err(Failed::Lost) => {
                locked.users = true;
                locked.rules = tries >= TRIES_BEFORE_RULES;
            }
            Err(Failed::Unnumbered(targets)) => store.write(records::number_all(&targets)).await?,
            // What was not sent to be committed was not; what was is looked for, until the caller's time is over.
            Err(Failed::Unknown | Failed::Store(StoreError::Unavailable(_))) if in_doubt.load(Ordering::Relaxed) => {
                tries -= 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(Failed::Unknown) => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
    Err(Failed::Lost)
}

async fn attempt(
    store: &PgStore,
    ask: &Ask,
    step: &mut Step,
    locked: &Locked,
    (mark, in_doubt): (&mut Option<Mark>, &AtomicBool),
) -> Result<Tried, Failed> {
    let pipe = store.pipe().await?;
    let was_in_doubt = in_doubt.load(Ordering::Relaxed);
    if let Some(mark) = mark
        && was_in_doubt
        && mark.is_committed(&pipe).await?
    {
        pipe.finish();
        return Ok(Tried::Done);
    }
    let mut statements = Vec::new();
    let look = Look { pipe, live: store.live() };
    if locked.users {
        statements = store.begin("BEGIN");
        let (namespaces, subjects) = keys(&ask.users);
        statements.push(Statement {
            text: "SELECT id FROM loginsync.users WHERE (namespace, subject) IN (SELECT * FROM unnest($1, $2))
                   ORDER BY id FOR UPDATE"
                .into(),
            values: vec![namespaces, subjects],
        });
        statements.extend(locked.statements(&look.live.1.names));
    }
    statements.push(load(store, ask, true));
    let asked_at = Instant::now();
    let (rows, answered) = look.all_and_answers(&statements, &locked.questions, &locked.asked).await?;
    let Look { pipe, live } = look;
    let rows = rows.into_iter().last().unwrap_or_default();
    let Read { kept, loaded, mut facts, look, revision, lives } = read(store, pipe, ask, &rows, asked_at).await?;
    if look.live.0 != live.0 && !locked.questions.is_empty() {
        // A name may have another number than the one that was locked.
        look.pipe.run("ROLLBACK", &[]).await?;
        look.pipe.finish();
        return Err(Failed::Lost);
    }
    let asked: Vec<i64> = kept.iter().filter_map(|kept| kept.number).collect();
    // What was answered is about these users, or is asked again.
    if asked == locked.asked {
        facts.absorb(answered);
    }
    let (save, look) = match decide(look, &kept, &asked, facts, step, Some(locked)).await? {
        Decided::Save(decided) => *decided,
        Decided::Asks(questions) => return Ok(Tried::Asks(questions, asked)),
    };
    if save.is_nothing() {
        if locked.users {
            look.pipe.run("ROLLBACK", &[]).await?;
        }
        look.pipe.finish();
        return Ok(Tried::Done);
    }
    if !lives {
        return Err(Failed::Store(StoreError::Unavailable(
            "this sidecar did not reach the database for too long; announcing it again".into(),
        )));
    }
    // What does not go by the version of a row is decided on rows that are locked.
    let moves = |changes: &Changes| changes.erased.is_some() || changes.key.is_some() || changes.into.is_some();
    if !locked.users && save.people.iter().any(moves) {
        look.pipe.finish();
        return Ok(Tried::Asks(BTreeSet::new(), asked));
    }
    let before = if locked.users { Vec::new() } else { store.begin("BEGIN") };
    let Look { pipe, live } = look;
    let mark = match mark {
        Some(mark) => mark,
        None => mark.insert(Mark::of(&save)?),
    };
    let (epoch, rises) = (save.shared.epoch, save.shared.catalogue.is_some());
    let mut all = before;
    all.extend(written(store, &pipe, ask, &kept, &loaded, &live.1, live.0, save).await?);
    all.extend(mark.note());
    all.push(Statement { text: "COMMIT".into(), values: Vec::new() });
    in_doubt.store(true, Ordering::Relaxed);
    let committed = pipe.all(&all).await;
    // That this try failed says nothing of one before it.
    in_doubt.store(was_in_doubt || matches!(committed, Err(Failed::Unknown)), Ordering::Relaxed);
    committed?;
    pipe.finish();
    if let Some(epoch) = epoch {
        store.standing().adopted(epoch, revision, rises);
    }
    Ok(Tried::Done)
}

/// The same at one moment, and nothing is written.
pub(super) async fn preview(store: &PgStore, ask: Ask, mut step: Step) -> Result<(), Failed> {
    let Look { pipe, live: _ } = store.view().await?;
    let asked_at = Instant::now();
    let rows = pipe.all(&[load(store, &ask, false)]).await?.pop().unwrap_or_default();
    let Read { kept, facts, look, .. } = read(store, pipe, &ask, &rows, asked_at).await?;
    let asked: Vec<i64> = kept.iter().filter_map(|kept| kept.number).collect();
    if let Decided::Save(decided) = decide(look, &kept, &asked, facts, &mut step, None).await? {
        let (_, look) = *decided;
        look.pipe.run("COMMIT", &[]).await?;
        look.pipe.finish();
    }
    Ok(())
}

/// The outcome of a step.
enum Decided {
    Save(Box<(Save, Look)>),
    /// It asks what is not locked; the transaction is over.
    Asks(BTreeSet<Question>),
}

/// `locked`: what may be asked; `None`: everything, since nothing is written.
async fn decide(
    look: Look,
    kept: &[Kept],
    asked: &[i64],
    mut facts: Facts,
    step: &mut Step,
    locked: Option<&Locked>,
) -> Result<Decided, Failed> {
    let is_open = locked.is_none_or(|locked| locked.users);
    for _ in 0..ROUNDS {
        match step(kept, &facts) {
            Err(Needs::Facts(questions)) if locked.is_some_and(|locked| !locked.covers(&questions)) => {
                if is_open {
                    look.pipe.run("ROLLBACK", &[]).await?;
                }
                look.pipe.finish();
                return Ok(Decided::Asks(questions));
            }
            Err(Needs::Facts(questions)) => {
                let (_, answered) = look.all_and_answers(&[], &questions, asked).await?;
                facts.absorb(answered);
            }
            Err(refused) => {
                let refused = StoreError::from(refused);
                // What it was decided on must be of one moment with the names.
                if is_open {
                    look.pipe.run("ROLLBACK", &[]).await?;
                }
                look.pipe.finish();
                return Err(Failed::Store(refused));
            }
            Ok(save) => return Ok(Decided::Save(Box::new((save, look)))),
        }
    }
    Err(Failed::Store(StoreError::Invalid("a decision asked too many questions".into())))
}

// ------------------------------------------------------------------------------------------------------------- reading

fn keys(users: &[UserId]) -> (Value, Value) {
    let (namespaces, subjects) =
        users.iter().map(|user| (user.namespace.to_string(), user.subject.to_string())).unzip();
    (Value::Texts(namespaces), Value::Texts(subjects))
}

fn lock(key: i64, how: &'static str) -> Statement {
    Statement { text: format!("SELECT {how}($1)").into(), values: values![key] }
}

/// Users and the token in one statement. `writes`: a user who is not there gets a number; no number is given twice, used or not.
fn load(store: &PgStore, ask: &Ask, writes: bool) -> Statement {
    let (namespaces, subjects) = keys(&ask.users);
    let lives = replicas::lives("$4");
    let fresh = if writes { "nextval('loginsync.user_numbers')" } else { "0::bigint" };
    Statement {
        text: format!(
            "SELECT (SELECT generation FROM loginsync.rules),
                    EXISTS (SELECT 1 FROM loginsync.tokens WHERE digest = $3),
                    EXISTS (SELECT 1 FROM loginsync.refusals WHERE digest = $3),
                    EXISTS (SELECT 1 FROM loginsync.erased), asked.place,
                    CASE WHEN asked.place IS NOT NULL AND users.id IS NULL THEN {fresh} END, {COLUMNS},
                    (SELECT revision FROM loginsync.rules), {lives}
             FROM (SELECT 1) AS one
             LEFT JOIN unnest($1, $2) WITH ORDINALITY AS asked (namespace, subject, place) ON true
             LEFT JOIN loginsync.users ON users.namespace = asked.namespace AND users.subject = asked.subject
             ORDER BY asked.place"
        )
        .into(),
        values: vec![
            namespaces,
            subjects,
            Value::Bytes(ask.token.map(|token| token.digest.to_vec())),
            Value::Bytes(store.standing().id.map(|id| id.to_vec())),
        ],
    }
}

/// The outcome of a look-up.
struct Read {
    kept: Vec<Kept>,
    loaded: Vec<Loaded>,
    facts: Facts,
    look: Look,
    revision: Revision,
    /// This process counts among the replicas, or does not serve.
    lives: bool,
}

async fn read(
    store: &PgStore,
    pipe: Pipe,
    ask: &Ask,
    rows: &[tokio_postgres::Row],
    asked_at: Instant,
) -> Result<Read, Failed> {
    let first = rows.first().ok_or_else(|| StoreError::Unavailable("a look-up had no answer".into()))?;
    let generation: i64 = get(first, 0)?;
    let token = Seen { spent: get(first, 1)?, refused: get(first, 2)? };
    let any_erased: bool = get(first, 3)?;
    let live = store.live_of(&pipe, generation).await?;
    if live.0 != generation {
        return Err(Failed::Lost);
    }
    let (revision, lives) = (Revision { number: get(first, 16)?, asked_at }, get(first, 17)?);
    let epoch = store.standing().epoch(revision, lives);
    let (mut kept, mut loaded) = (Vec::new(), Vec::new());
    for (user, row) in ask.users.iter().zip(rows) {
        let number: Option<i64> = get(row, 6)?;
        let mut it =
            Kept { user: user.clone(), number, record: None, erased: None, token, epoch, restored: live.1.restored };
        match number {
            Some(number) => {
                let record = records::read(row, 6, &live.1)?.record;
                it.record = Some(live.1.as_it_counts(record.clone()));
                loaded.push(Loaded { stored: Some((get(row, 15)?, record)), number });
            }
            None => {
                if any_erased {
                    it.erased = erased::find(store, &pipe, user).await?;
                }
                loaded.push(Loaded { stored: None, number: get(row, 5)? });
            }
        }
        kept.push(it);
    }
    let facts = Facts { token, ..Facts::default() };
    Ok(Read { kept, loaded, facts, look: Look { pipe, live }, revision, lives })
}

// ------------------------------------------------------------------------------------------------------------- writing

fn login_of(save: &Save) -> Option<String> {
    let entries = save.people.iter().flat_map(|changes| &changes.audit).chain(&save.shared.audit);
    entries.filter_map(|entry| entry.login.clone()).next()
}

/// All that a decision writes, in an order in which no two transactions wait for each other.
#[expect(clippy::too_many_arguments, reason = "what was read, and what was decided on it")]
async fn written(
    store: &PgStore,
    pipe: &Pipe,
    ask: &Ask,
    kept: &[Kept],
    loaded: &[Loaded],
    live: &super::Live,
    generation: i64,
    save: Save,
) -> Result<Vec<Statement>, Failed> {
    let Save { people, shared } = save;
    let now = ask.now.unwrap_or(Timestamp(0));
    let (mut first, mut then, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    // All users leave their old keys before any takes a new one.
    for (it, _) in loaded.iter().zip(&people).filter(|(it, changes)| changes.key.is_some() && it.stored.is_some()) {
        first.push(Statement {
            text: "UPDATE loginsync.users SET namespace = '', subject = $1::bigint::text WHERE id = $1".into(),
            values: values![it.number],
        });
    }
    for (it, changes) in loaded.iter().zip(&people).filter(|(it, _)| it.stored.is_some()) {
        if let Some(into) = changes.into.and_then(|into| loaded.get(into)) {
            for text in [
                "INSERT INTO loginsync.former_users (id, user_id) VALUES ($1, $2)",
                "UPDATE loginsync.former_users SET user_id = $2 WHERE user_id = $1",
            ] {
                first.push(Statement { text: text.into(), values: values![it.number, into.number] });
            }
            first.push(remove(it.number));
            then.extend(told(store, it, None, changes, now));
        }
    }
    for ((it, kept), changes) in loaded.iter().zip(kept).zip(&people).filter(|(_, changes)| changes.into.is_none()) {
        person(store, pipe, it, kept, changes, live, now, (&mut first, &mut then, &mut rows)).await?;
    }
    note_token(ask, kept, &people, &shared, &mut first);
    let changes_rules =
        shared.work.is_some() || !shared.done.is_empty() || shared.catalogue.is_some() || shared.restored.is_some();
    first
        .push(lock(locks::RULES, if changes_rules { "pg_advisory_xact_lock" } else { "pg_advisory_xact_lock_shared" }));
    first.push(Statement {
        text: "SELECT 1 / count(*) FROM loginsync.rules WHERE generation = $1".into(),
        values: values![generation],
    });
    let own = store.standing().id;
    if let Some(id) = own {
        first.push(replicas::still_lives(id));
    }
    common(store, pipe, &shared, live, now, &mut then).await?;
    then.extend(events::note(happened::to_all(&shared, &store.following.load().listeners), now));
    if shared.catalogue.is_some() {
        then.push(Statement { text: replicas::RISE.into(), values: Vec::new() });
    } else if changes_rules {
        then.push(records::rise());
    }
    tell(&shared.audit, None, None, now, &mut rows);
    first.extend(then);
    first.extend(audit::append(&store.sealer, &rows)?);
    Ok(first)
}

fn remove(number: i64) -> Statement {
    Statement { text: "DELETE FROM loginsync.users WHERE id = $1".into(), values: values![number] }
}

/// A token that was noted by another transaction meanwhile makes this one fail: it is decided again.
fn note_token(ask: &Ask, kept: &[Kept], people: &[Changes], shared: &Shared, statements: &mut Vec<Statement>) {
    let Some(token) = ask.token else { return };
    let known = kept.first().map(|kept| kept.token);
    let noted = people.iter().map(|changes| changes.token).chain([shared.token]);
    let noted = noted.fold(Seen::default(), Seen::or);
    let known = known.unwrap_or_default();
    for (table, is_new) in [("tokens", noted.spent && !known.spent), ("refusals", noted.refused && !known.refused)] {
        if is_new {
            statements.push(Statement {
                text: format!("INSERT INTO loginsync.{table} (digest, until) VALUES ($1, $2)").into(),
                values: values![token.digest, token.until.0],
            });
        }
    }
}

type Out<'a> = (&'a mut Vec<Statement>, &'a mut Vec<Statement>, &'a mut Vec<audit::NewRow>);

#[expect(clippy::too_many_arguments, reason = "what was read, and what was decided on it")]
async fn person(
    store: &PgStore,
    pipe: &Pipe,
    it: &Loaded,
    kept: &Kept,
    changes: &Changes,
    live: &super::Live,
    now: Timestamp,
    (first, then, rows): Out<'_>,
) -> Result<(), Failed> {
    let Kept { user, number, erased, .. } = kept;
    let mut number = *number;
    if let Some(bound) = &changes.erased {
        let digest = erased::digest_of(store, pipe, user).await?;
        then.extend(erased::bind(&digest, bound, now));
        if let Some(gone) = number {
            then.extend(told(store, it, None, changes, now));
            return erase(pipe, gone, &changes.audit, now, first, rows).await;
        }
    }
    if let Some(after) = &changes.record {
        let before = it.stored.as_ref().map(|(version, record)| (*version, record));
        // Rules that are a moment older may have given what has ended since.
        let counts = (!live.work.is_empty()).then(|| live.as_it_counts(after.clone()));
        let after = counts.as_ref().unwrap_or(after);
        let written = records::write(it.number, user, before, after, live)?;
        first.extend(written.row);
        then.extend(written.found_by);
        then.extend(told(store, it, Some(after), changes, now));
        number = Some(it.number);
        // What bound the person who was erased is in the record from now on.
        if erased.is_some() {
            let digest = erased::digest_of(store, pipe, user).await?;
            then.push(Statement {
                text: "DELETE FROM loginsync.erased WHERE digest = $1".into(),
                values: values![digest],
            });
        }
    }
    if changes.record.is_none() {
        then.extend(told(store, it, None, changes, now));
    }
    let before = it.stored.as_ref().map(|(_, record)| record);
    let listeners = &store.following.load().listeners;
    let happened = happened::to_person(before, changes.record.as_ref(), changes, number, listeners);
    then.extend(events::note(happened, now));
    if let (Some(number), Some(key)) = (number, &changes.key) {
        first.push(Statement {
            text: "UPDATE loginsync.users SET namespace = $2, subject = $3, version = version + 1 WHERE id = $1".into(),
            values: values![number, key.namespace.as_str(), key.subject.as_str()],
        });
    }
    for ((provider, target), window) in &changes.windows {
        then.push(Statement {
            text: "INSERT INTO loginsync.guards (provider, kind, target, began_at, members, losses)
                   VALUES ($1, $2, $3, $4, $5, $6)
                   ON CONFLICT (provider, kind, target) DO UPDATE SET began_at = $4, members = $5, losses = $6"
                .into(),
            values: values![
                provider.as_str(),
                kind_of(target),
                live.names.number(target).unwrap_or(-1),
                window.began_at.0,
                window.members.cast_signed(),
                window.losses.cast_signed(),
            ],
        });
    }
    tell(&changes.audit, number, Some(user), now, rows);
    Ok(())
}

/// Pending deliveries to receivers.
fn told(store: &PgStore, it: &Loaded, after: Option<&Record>, changes: &Changes, now: Timestamp) -> Option<Statement> {
    let news = news(it.stored.as_ref().map(|(_, record)| record), after, changes)?;
    outbox::tell_receivers(store.round(), it.number, &news, now)
}

/// Removes a user and the personal fields of their rows of the audit, those of users who became one with them included.
async fn erase(
    pipe: &Pipe,
    number: i64,
    entries: &[Entry],
    now: Timestamp,
    statements: &mut Vec<Statement>,
    rows: &mut Vec<audit::NewRow>,
) -> Result<(), Failed> {
    let former = "SELECT id FROM loginsync.former_users WHERE user_id = $1 ORDER BY id";
    let mut numbers = vec![number];
    numbers.extend(pipe.numbers(former, &values![number]).await?);
    statements.push(Statement {
        text: "DELETE FROM loginsync.audit_people WHERE user_id = ANY($1)".into(),
        values: vec![Value::Ints(numbers.iter().copied().map(Some).collect())],
    });
    statements.push(remove(number));
    for Entry { event, detail, .. } in entries {
        rows.extend(numbers.iter().map(|number| audit::NewRow {
            at: now,
            event: (*event).to_owned(),
            detail: detail.clone(),
            login: None,
            user: Some(*number),
            person: None,
        }));
    }
    Ok(())
}

async fn common(
    store: &PgStore,
    pipe: &Pipe,
    shared: &Shared,
    live: &super::Live,
    now: Timestamp,
    statements: &mut Vec<Statement>,
) -> Result<(), Failed> {
    let Shared { epoch: _, notes, ended_windows, work, done, token: _, catalogue, restored: since, bound, audit: _ } =
        shared;
    if let Some(at) = since {
        statements.extend(forget(*at));
    }
    if let Some(written) = catalogue {
        statements.extend(catalogue::write(store, pipe, written, &live.names, now).await?);
    }
    for (name, value) in notes {
        statements.push(match value {
            Some(value) => settings::set(name, value.clone()),
            None => Statement {
                text: "DELETE FROM loginsync.settings WHERE name = $1".into(),
                values: values![name.as_str()],
            },
        });
    }
    for (provider, target) in ended_windows {
        statements.push(Statement {
            text: "DELETE FROM loginsync.guards WHERE provider = $1 AND kind = $2 AND target = $3".into(),
            values: values![provider.as_str(), kind_of(target), live.names.number(target).unwrap_or(-1)],
        });
    }
    if let Some(work) = work {
        statements.push(Statement {
            text: "INSERT INTO loginsync.work (item) VALUES ($1)".into(),
            values: values![work.text()],
        });
    }
    for number in done {
        statements.push(Statement { text: done_text().into(), values: values![*number] });
    }
    for (bearer, bound) in bound {
        let digest = erased::digest(store, pipe, bearer).await?;
        statements.extend(erased::bind(&digest, bound, now));
    }
    Ok(())
}

/// The database may be in another cluster, which restarts the numbering of transactions: what has no seal yet counts as written
/// now, and seals go
/// on from here.
fn forget(at: Timestamp) -> Vec<Statement> {
    let statement = |text: &'static str| Statement { text: text.into(), values: Vec::new() };
    vec![
        settings::set(restored::NAME, at.0.to_be_bytes().to_vec()),
        statement("DELETE FROM loginsync.sessions"),
        statement("DELETE FROM loginsync.api_tokens"),
        statement("DELETE FROM loginsync.console"),
        lock(locks::SEALS, "pg_advisory_xact_lock"),
        statement(
            "UPDATE loginsync.seals SET xid = pg_current_xact_id()
             WHERE sequence = (SELECT max(sequence) FROM loginsync.seals)",
        ),
        statement(
            "UPDATE loginsync.audit SET xid = pg_current_xact_id()
             WHERE NOT EXISTS (SELECT 1 FROM loginsync.seals WHERE audit_id = audit.id)",
        ),
        statement(schema::NOTE_CLUSTER),
    ]
}
/// Work stays open for longer than rules may be old: until then it takes what such rules have given out of what is written.
fn done_text() -> String {
    format!("DELETE FROM loginsync.work WHERE number = $1 AND created_at < {NOW} - 3000")
}

fn tell(entries: &[Entry], number: Option<i64>, user: Option<&UserId>, now: Timestamp, rows: &mut Vec<audit::NewRow>) {
    for Entry { event, detail, login, about } in entries {
        let (user, person) = match about {
            About::NoUser => (None, None),
            About::Number => (number, None),
            About::Person { email } => (number, user.map(|user| (user.clone(), email.clone()))),
            About::Other { number, user } => (Some(*number), Some((user.clone(), None))),
            About::Former(number) => (Some(*number), None),
        };
        let (event, detail, login) = ((*event).to_owned(), detail.clone(), login.clone());
        rows.push(audit::NewRow { at: now, event, detail, login, user, person });
    }
}
