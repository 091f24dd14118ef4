//! The sidecars that share a database: by which files they decide, which of them does what is done once, and how one hears what
//! another has changed.
//!
//! A replica announces its file and itself, and renews that. The revision of the rules rises when the catalogue changes, when a
//! file appears that no live replica had, and when the last replica of one is gone. A login is decided by the rules of a revision
//! that was current within the last second; older rules decide nothing until they were caught up with. A replica that was not
//! heard of for a while counts no more, and what it decided meanwhile is not written.

use std::time::{Duration, Instant};

use super::facts::Look;
use super::pipe::{Failed, Pipe, Statement, get, values};
use super::{NOW, PgStore, Shared, locks, records};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::elsewhere::{Announced, Elsewhere};
use crate::pipeline::mapping::stored::Stored;
use crate::ports::store::StoreError;

/// For how long an announcement counts. It is renewed several times within it.
const LIVES: i64 = 10_000;
/// For how long a leader leads without a word.
const LEADS: i64 = 6_000;
/// How old rules may be that decide a login.
const LAG: Duration = Duration::from_secs(1);
/// By how much a replica's clock may be off. It is below the least leeway that providers have by default.
const MOST_OFF: i64 = 30_000;
/// Rows that one sweep takes from a table.
const SWEPT: i64 = 10_000;
/// After its end a token is remembered for so long, since clocks differ.
const KEPT: i64 = 60_000;

/// How this process stands among the replicas.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// By which the others know it; `None`: it does not serve.
    pub id: Option<[u8; 16]>,
    /// The rules that it decides by.
    follows: Option<Follows>,
    /// By how many milliseconds its clock is ahead of the server's.
    ahead: i64,
    /// Records are of a later version than it reads.
    outdated: Option<StoreError>,
}

/// A revision of the rules, and when it was asked for: it was the current one then, or became so later.
#[derive(Debug, Clone, Copy)]
pub struct Revision {
    pub number: i64,
    pub asked_at: Instant,
}

/// Rules that a process decides by.
#[derive(Debug, Clone, Copy)]
struct Follows {
    epoch: u64,
    /// Asked for when it was known to be the current one last.
    revision: Revision,
}

impl Standing {
    /// The epoch that a decision is compared with, of a database at this revision: a newer one than that of the rules where they are
    /// older than they may be.
    pub(super) fn epoch(&mut self, revision: Revision, is_live: bool) -> Option<u64> {
        self.know(revision);
        let follows = self.follows?;
        let may = is_live && follows.revision.asked_at.elapsed() < LAG;
        Some(if may { follows.epoch } else { follows.epoch + 1 })
    }

    /// A revision is the current one.
    fn know(&mut self, revision: Revision) {
        if let Some(follows) = &mut self.follows
            && follows.revision.number == revision.number
        {
            follows.revision.asked_at = follows.revision.asked_at.max(revision.asked_at);
        }
    }

    /// Rules were adopted on a database at a revision, which rose by that or did not.
    pub(super) fn adopted(&mut self, epoch: u64, on: Revision, rose: bool) {
        let revision = match &self.follows {
            // What else was changed before is still to be caught up with.
            Some(follows) if follows.revision.number != on.number => follows.revision,
            _ => Revision { number: on.number + i64::from(rose), ..on },
        };
        self.follows = Some(Follows { epoch, revision });
    }

    /// Why this process should decide nothing.
    pub(super) fn fault(&self) -> Option<StoreError> {
        if let Some(outdated) = &self.outdated {
            return Some(outdated.clone());
        }
        let seconds = self.ahead / 1000;
        (self.ahead.abs() > MOST_OFF).then(|| {
            StoreError::Invalid(format!(
                "the clock of this machine is {seconds} s ahead of the database's; expected within {} s: set the clocks",
                MOST_OFF / 1000
            ))
        })
    }
}

/// What a replica says of itself.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// For an operator: the machine, and the process on it.
    pub name: String,
    pub version: &'static str,
    pub file: Announced,
}

/// What a replica decides by, in addition to its file.
#[derive(Debug, Clone)]
pub struct Following {
    pub revision: Revision,
    pub stored: Stored,
    /// What the files of other live replicas say.
    pub elsewhere: Elsewhere,
    /// How many files there are, with its own.
    pub files: usize,
}

/// What a replica learns when it renews its announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// It leads.
    pub leads: bool,
    /// It counts no more, and has to announce itself again.
    pub lapsed: bool,
}

impl Shared {
    /// Of so many rows of the audit that were given their places at once, there may be more.
    pub const SEALED_AT_ONCE: u64 = super::audit::BATCH.unsigned_abs();

    /// Announces this process, or that it decides by another file now. Where the others did not know the file, it returns when they
    /// decide by rules that know it, so that none of them ends what this file gives.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn announce(&self, announcement: Announcement, now: Timestamp) -> Result<(), StoreError> {
        let is_news = self.run(move |store| async move { announce(&store, &announcement, now).await }).await?;
        if is_news {
            tokio::time::sleep(LAG + LAG / 4).await;
        }
        Ok(())
    }

    /// What there is to decide by now.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn following(&self) -> Result<Following, StoreError> {
        let (id, asked_at) = (self.0.standing().id.map(|id| id.to_vec()), Instant::now());
        self.look(move |look| async move { Ok((following(&look, id, asked_at).await?, look)) }).await
    }

    /// This process decides by rules of this epoch, which were made of this revision.
    pub fn follow(&self, epoch: u64, revision: Revision) {
        let mut standing = self.0.standing();
        let newer = standing.follows.filter(|follows| follows.epoch > epoch);
        if newer.is_none() {
            standing.follows = Some(Follows { epoch, revision });
        }
    }

    /// The revision that this process decides by.
    pub fn follows(&self) -> Option<i64> {
        self.0.standing().follows.map(|follows| follows.revision.number)
    }

    /// The revision that the database is at.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        self.read(|store| async move {
            let (pipe, asked_at) = (store.pipe().await?, Instant::now());
            let number = pipe.number("SELECT revision FROM loginsync.rules", &[]).await?;
            pipe.finish();
            store.standing().know(Revision { number, asked_at });
            Ok(number)
        })
        .await
    }

    /// Says that this process is still there, and leads where no other does. By the server's clock.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn renew(&self, now: Timestamp) -> Result<Heard, StoreError> {
        self.run(move |store| async move { renew(&store, now).await }).await
    }

    /// Takes this process from the replicas: it decides nothing from now on.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn leave(&self) -> Result<(), StoreError> {
        self.run(|store| async move {
            let Some(id) = store.standing().id else { return Ok(()) };
            let pipe = store.pipe().await?;
            pipe.all(&store.begin("BEGIN")).await?;
            pipe.row("SELECT pg_advisory_xact_lock($1)", &values![locks::RULES]).await?;
            pipe.run("DELETE FROM loginsync.replicas WHERE id = $1", &values![id.to_vec()]).await?;
            pipe.run("UPDATE loginsync.leader SET until = 0 WHERE owner = $1", &values![id.to_vec()]).await?;
            forget_files(&pipe).await?;
            raise_records(&pipe).await?;
            pipe.run("COMMIT", &[]).await?;
            pipe.finish();
            Ok(())
        })
        .await
    }

    /// What a leader does every now and then: replicas that are gone, tokens that cannot pass any more, sessions that have ended.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        self.run(|store| async move { sweep(&store).await }).await
    }

    /// Gives rows of the audit their places. Returns how many those were; none where this process does not lead.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn seal(&self) -> Result<u64, StoreError> {
        self.run(|store| async move { super::audit::seal(&store).await }).await
    }

    /// Digests of the files that live replicas have announced.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn live_files(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read(|store| async move {
            let pipe = store.pipe().await?;
            let text = format!("SELECT DISTINCT file FROM loginsync.replicas WHERE until > {NOW}");
            let files = pipe.rows(&text, &[]).await?.iter().map(|row| get(row, 0)).collect();
            pipe.finish();
            files
        })
        .await
    }
}

/// Whether there are others, and none of them had the file.
async fn announce(store: &PgStore, announcement: &Announcement, now: Timestamp) -> Result<bool, Failed> {
    let Announcement { name, version, file } = announcement;
    let known = store.standing().id;
    let id = match known {
        Some(id) => id,
        None => {
            let mut id = [0; 16];
            aws_lc_rs::rand::fill(&mut id)
                .map_err(|_| StoreError::Unavailable("the operating system returned no random bytes".into()))?;
            id
        }
    };
    let pipe = store.pipe().await?;
    pipe.all(&store.begin("BEGIN")).await?;
    // Alone: so that no decision is between two sets of files, and the first of two that announce one file raises the revision.
    pipe.row("SELECT pg_advisory_xact_lock($1)", &values![locks::RULES]).await?;
    let written = u32::try_from(pipe.number(WRITTEN, &values![records::WRITTEN]).await?).unwrap_or(u32::MAX);
    if let Err(outdated) = records::check_written(written, store.reads) {
        pipe.run("ROLLBACK", &[]).await?;
        pipe.finish();
        store.standing().outdated = Some(outdated.clone());
        return Err(outdated.into());
    }
    let known = format!("SELECT count(*) FROM loginsync.replicas WHERE file = $1 AND id <> $2 AND until > {NOW}");
    let known = pipe.number(&known, &values![file.digest, id.to_vec()]).await?;
    let own = format!("SELECT count(*) FROM loginsync.replicas WHERE file = $1 AND id = $2 AND until > {NOW}");
    let own = pipe.number(&own, &values![file.digest, id.to_vec()]).await?;
    let others = format!("SELECT count(*) FROM loginsync.replicas WHERE id <> $1 AND until > {NOW}");
    let others = pipe.number(&others, &values![id.to_vec()]).await?;
    pipe.run(
        "INSERT INTO loginsync.files (digest, content) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        &values![file.digest, file.text.as_str()],
    )
    .await?;
    let row = format!(
        "INSERT INTO loginsync.replicas (id, name, version, file, started_at, until, ahead, reads)
         VALUES ($1, $2, $3, $4, {NOW}, {NOW} + $5, $6 - {NOW}, $7)
         ON CONFLICT (id) DO UPDATE SET file = $4, until = {NOW} + $5, ahead = $6 - {NOW}
         RETURNING ahead"
    );
    let reads = i64::from(store.reads);
    let row = pipe.row(&row, &values![id.to_vec(), name.as_str(), *version, file.digest, LIVES, now.0, reads]).await?;
    let ahead = row.map_or(Ok(0), |row| get(&row, 0))?;
    let appears = known == 0 && own == 0;
    if appears {
        pipe.run(RISE, &[]).await?;
    }
    forget_files(&pipe).await?;
    raise_records(&pipe).await?;
    pipe.run("COMMIT", &[]).await?;
    pipe.finish();
    let mut standing = store.standing();
    (standing.id, standing.ahead) = (Some(id), ahead);
    Ok(appears && others > 0)
}

/// The rules are others: decisions under way are decided again.
pub(super) const RISE: &str = "UPDATE loginsync.rules SET generation = generation + 1, revision = revision + 1";

/// The version in which records are written.
const WRITTEN: &str = "SELECT coalesce((SELECT ('x' || encode(value, 'hex'))::bit(32)::bigint FROM loginsync.settings WHERE name = $1), 1)";
/// The newest that every replica reads that was not swept yet.
const ALL_READ: &str = "SELECT coalesce(min(reads), 0) FROM loginsync.replicas";

/// From now on records are written in the newest version that all replicas read; a replica that does not read it cannot begin any more.
async fn raise_records(pipe: &Pipe) -> Result<(), Failed> {
    let all_read = pipe.number(ALL_READ, &[]).await?;
    if all_read > pipe.number(WRITTEN, &values![records::WRITTEN]).await? {
        let version = u32::try_from(all_read).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        let Statement { text, values } = super::settings::set(records::WRITTEN, version);
        pipe.run(&text, &values).await?;
        pipe.run(RISE, &[]).await?;
    }
    Ok(())
}

/// Files that no replica has go, and the revision rises by that.
async fn forget_files(pipe: &Pipe) -> Result<(), Failed> {
    let gone = "DELETE FROM loginsync.files
                WHERE NOT EXISTS (SELECT 1 FROM loginsync.replicas WHERE file = files.digest)";
    if pipe.run(gone, &[]).await? > 0 {
        pipe.run(RISE, &[]).await?;
    }
    Ok(())
}

async fn following(look: &Look, id: Option<Vec<u8>>, asked_at: Instant) -> Result<Following, Failed> {
    let number = look.pipe.number("SELECT revision FROM loginsync.rules", &[]).await?;
    let revision = Revision { number, asked_at };
    let stored = super::catalogue::stored(look).await?;
    let mut elsewhere = Elsewhere::default();
    let files = look
        .pipe
        .rows(
            "SELECT content FROM loginsync.files WHERE digest IS DISTINCT FROM
             (SELECT file FROM loginsync.replicas WHERE id = $1)
             ORDER BY digest",
            &values![id],
        )
        .await?;
    for row in &files {
        elsewhere = elsewhere.with(get(row, 0)?).ok_or_else(|| {
            StoreError::Invalid("a replica has announced its file in a way that this version does not read".into())
        })?;
    }
    Ok(Following { revision, stored, elsewhere, files: files.len() + 1 })
}

async fn renew(store: &PgStore, now: Timestamp) -> Result<Heard, Failed> {
    let Some(id) = store.standing().id else { return Ok(Heard { leads: false, lapsed: true }) };
    let pipe = store.pipe().await?;
    let mut statements = store.begin("BEGIN");
    statements.push(Statement {
        text: format!(
            "UPDATE loginsync.replicas SET until = {NOW} + $2, ahead = $3 - {NOW} WHERE id = $1 AND until > {NOW}
             RETURNING ahead"
        )
        .into(),
        values: values![id.to_vec(), LIVES, now.0],
    });
    // Who is off leads no one: what it swept would be the wrong rows.
    statements.push(Statement {
        text: format!(
            "UPDATE loginsync.leader SET owner = $1, until = {NOW} + $2, fence = fence + (owner <> $1)::int
             WHERE (owner = $1 OR until < {NOW})
               AND EXISTS (SELECT 1 FROM loginsync.replicas WHERE id = $1 AND until > {NOW} AND abs(ahead) <= $3)
             RETURNING fence"
        )
        .into(),
        values: values![id.to_vec(), LEADS, MOST_OFF],
    });
    statements.push(Statement { text: "COMMIT".into(), values: Vec::new() });
    let told = pipe.all(&statements).await?;
    pipe.finish();
    let mut told = told.into_iter().skip(2);
    let (renewed, leads) = (told.next().unwrap_or_default(), told.next().unwrap_or_default());
    if let Some(row) = renewed.first() {
        store.standing().ahead = get(row, 0)?;
    }
    Ok(Heard { leads: !leads.is_empty(), lapsed: renewed.is_empty() })
}

async fn sweep(store: &PgStore) -> Result<(), Failed> {
    let pipe = store.pipe().await?;
    pipe.all(&store.begin("BEGIN")).await?;
    let gone = format!("SELECT count(*) FROM loginsync.replicas WHERE until < {NOW} - {LIVES}");
    if pipe.number(&gone, &[]).await? > 0 {
        pipe.row("SELECT pg_advisory_xact_lock($1)", &values![locks::RULES]).await?;
        pipe.run(&format!("DELETE FROM loginsync.replicas WHERE until < {NOW} - {LIVES}"), &[]).await?;
        forget_files(&pipe).await?;
        raise_records(&pipe).await?;
    }
    pipe.run("COMMIT", &[]).await?;
    // Each table by itself, and none of them waits for a login.
    for (table, key, until) in
        [("tokens", "digest", "until"), ("refusals", "digest", "until"), ("sessions", "key", "expires_at")]
    {
        let text = format!(
            "DELETE FROM loginsync.{table} WHERE {key} IN
             (SELECT {key} FROM loginsync.{table} WHERE {until} < {NOW} - {KEPT} ORDER BY {until} LIMIT {SWEPT}
              FOR UPDATE SKIP LOCKED)"
        );
        let mut statements = store.begin("BEGIN");
        statements.push(Statement { text: text.into(), values: Vec::new() });
        statements.push(Statement { text: "COMMIT".into(), values: Vec::new() });
        pipe.all(&statements).await?;
    }
    pipe.finish();
    Ok(())
}

/// A statement that fails where this replica counts no more.
pub(super) fn still_lives(id: [u8; 16]) -> Statement {
    Statement {
        text: format!("SELECT 1 / count(*) FROM loginsync.replicas WHERE id = $1 AND until > {NOW}").into(),
        values: values![id.to_vec()],
    }
}

/// Whether the replica counts, in a look-up whose given parameter has its identity, or NULL where it does not serve.
pub(super) fn lives(parameter: &str) -> String {
    format!(
        "({parameter}::bytea IS NULL OR EXISTS (SELECT 1 FROM loginsync.replicas WHERE id = {parameter} AND until > {NOW}))"
    )
}
