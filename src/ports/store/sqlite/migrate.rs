//! From an older schema to the current one: into a new file next to the old one, which then takes its place.
//!
//! ```text
//! hold      no other process uses the file, and its log is in it
//! copy      FILE.copy: all of it, brought to the last of the old schemas
//! build     FILE.new: the current schema, filled from the copy
//! keep      FILE.schemaN: the old file, under a second name
//! replace   FILE.new becomes FILE
//! ```
//!
//! The old file is not changed, so that a kill at any moment leaves either it or the new one, whole. What is left of an attempt
//! is removed by the next one. Going back to the old file brings back revoked access and spent tokens; `docs/deploy.md` says so.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, params};
use serde::Deserialize;

use super::super::StoreError;
use super::super::chain::Sealer;
use super::audit;
use super::file::create_private;
use super::schema::{self, VERSION, patiently};
use super::{cannot_open, provider_of, target_of, unavailable, user_of};
use crate::clock::Clock;
use crate::pipeline::ids::{MappingId, ProviderName, Target, Timestamp};
use crate::pipeline::plan::{Grant, Source};
use crate::pipeline::record::names::Names;
use crate::pipeline::record::text;
use crate::pipeline::record::{
    Deny, Disabled, Holding, ProviderLogin, Read, Record, RecordedClaim, RecordedState, Rest, Stopped,
};

/// What brings a database from each version to the next, up to the last that was brought up to date in place.
const SCRIPTS: [&str; 8] = [
    include_str!("schema/1-logins.sql"),
    include_str!("schema/2-rules.sql"),
    include_str!("schema/3-sessions.sql"),
    include_str!("schema/4-catalogue.sql"),
    include_str!("schema/5-audit.sql"),
    include_str!("schema/6-privilege.sql"),
    include_str!("schema/7-brake.sql"),
    include_str!("schema/8-sign-out.sql"),
];
/// The first version with the second format of audit rows.
const SECOND_FORMAT: i64 = 5;
/// Users between two words about the progress.
const STRIDE: i64 = 10_000;

/// Steps after which a kill is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Held,
    Copied,
    Built,
    Kept,
    Replaced,
}

/// Brings a file up to date. The caller has the claim.
pub(super) fn migrate(path: &Path, found: i64, sealer: &Sealer) -> Result<(), StoreError> {
    carry_out(path, found, sealer, |_| Ok(()))
}

/// Whether some process is at it.
pub(super) fn is_under_way(path: &Path) -> bool {
    Files::of(path, 0).is_ok_and(|files| files.copy.exists() || files.new.exists())
}

/// Removes what a migration has left that was killed when all but this was done.
pub(super) fn tidy(path: &Path) -> Result<(), StoreError> {
    Files::of(path, 0)?.clear()
}

/// The files of one migration.
struct Files {
    /// Without symbolic links, since a link must go on pointing at the database.
    old: PathBuf,
    copy: PathBuf,
    new: PathBuf,
    kept: PathBuf,
}

impl Files {
    fn of(path: &Path, version: i64) -> Result<Self, StoreError> {
        let old = std::fs::canonicalize(path).map_err(|error| failed(path, &error))?;
        let beside = |suffix: &str| {
            let mut name = old.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Ok(Self { copy: beside(".copy"), new: beside(".new"), kept: beside(&format!(".schema{version}")), old })
    }

    /// Removes what an attempt has left.
    fn clear(&self) -> Result<(), StoreError> {
        for file in [&self.copy, &self.new] {
            for suffix in ["", "-journal", "-wal", "-shm"] {
                let mut name = file.as_os_str().to_owned();
                name.push(suffix);
                match std::fs::remove_file(&name) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(file, &error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn failed(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("`{}`: {error}", path.display()))
}

fn carry_out(
    path: &Path,
    found: i64,
    sealer: &Sealer,
    mut after: impl FnMut(Stage) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let files = Files::of(path, found)?;
    files.clear()?;
    let held = hold(&files.old)?;
    // Another process may have been faster.
    if schema::version(&held).map_err(unavailable)? != found {
        return Ok(());
    }
    check_space(&files.old)?;
    after(Stage::Held)?;
    say(&format!("bringing `{}` from schema version {found} to {VERSION}", path.display()));
    copy(&held, &files, found, sealer)?;
    after(Stage::Copied)?;
    build(&files)?;
    after(Stage::Built)?;
    keep(&files)?;
    after(Stage::Kept)?;
    std::fs::rename(&files.new, &files.old).map_err(|error| failed(&files.new, &error))?;
    sync_folder(&files.old)?;
    after(Stage::Replaced)?;
    files.clear()?;
    say(&format!("done; the old file is `{}`", files.kept.display()));
    // Until here no other process has opened the old file.
    drop(held);
    Ok(())
}

/// Reports progress on standard error; a closed one is not a fault.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Opens the file for this process alone, with all of its log in it.
fn hold(path: &Path) -> Result<Connection, StoreError> {
    let refused = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            StoreError::Unavailable(format!(
                "`{}` has an older schema and is in use by another process, so it cannot be migrated; stop the other process",
                path.display()
            ))
        }
        _ => cannot_open(path, &error),
    };
    let connection = Connection::open(path).map_err(refused)?;
    // A log that another process left behind is moved into the file, and goes.
    patiently(|| connection.pragma_update(None, "journal_mode", "DELETE")).map_err(refused)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(refused)?;
    patiently(|| connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")).map_err(refused)?;
    Ok(connection)
}

/// The copy and the new file need room on the same disk, each about as much as the old one.
fn check_space(path: &Path) -> Result<(), StoreError> {
    let size = std::fs::metadata(path).map_err(|error| failed(path, &error))?.len();
    let folder = path.parent().unwrap_or(Path::new("/"));
    let found = rustix::fs::statvfs(folder).map_err(|error| failed(folder, &error.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let needed = size.saturating_mul(5) / 2;
    match free < needed {
        true => Err(StoreError::Unavailable(format!(
            "`{}` has an older schema, and migrating it needs {} MB on the same disk, of which {} MB are free: make room, \
             or move it to a larger disk",
            path.display(),
            needed.div_ceil(1_000_000),
            free / 1_000_000
        ))),
        false => Ok(()),
    }
}

/// Gives a file the owner and the rights of another: root may run the command, and the service reads the file.
fn resemble(file: &Path, other: &Path) -> Result<(), StoreError> {
    let found = std::fs::metadata(other).map_err(|error| failed(other, &error))?;
    let own = std::fs::metadata(file).map_err(|error| failed(file, &error))?;
    if (own.uid(), own.gid()) != (found.uid(), found.gid()) {
        std::os::unix::fs::chown(file, Some(found.uid()), Some(found.gid())).map_err(|error| failed(file, &error))?;
    }
    std::fs::set_permissions(file, found.permissions()).map_err(|error| failed(file, &error))
}

fn copy(held: &Connection, files: &Files, found: i64, sealer: &Sealer) -> Result<(), StoreError> {
    create_private(&files.copy)?;
    let name = files.copy.to_str().ok_or_else(|| {
        StoreError::Invalid(format!("`{}` is not UTF-8; expected a path that is", files.copy.display()))
    })?;
    held.execute("VACUUM INTO ?1", [name]).map_err(unavailable)?;
    let connection = Connection::open(&files.copy).map_err(unavailable)?;
    quickly(&connection).map_err(unavailable)?;
    connection.execute_batch("BEGIN").map_err(unavailable)?;
    for (_, script) in (1..).zip(SCRIPTS).filter(|(number, _)| *number > found) {
        connection.execute_batch(script).map_err(unavailable)?;
    }
    if found < SECOND_FORMAT {
        audit::continue_first_format(&connection, sealer, Clock::system().now())?;
    }
    connection.execute_batch("COMMIT").map_err(unavailable)
}

/// A file that is thrown away after a crash needs no journal.
fn quickly(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "OFF")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -200_000)
}

fn build(files: &Files) -> Result<(), StoreError> {
    create_private(&files.new)?;
    let mut connection = Connection::open(&files.new).map_err(unavailable)?;
    quickly(&connection).map_err(unavailable)?;
    connection.execute("ATTACH ?1 AS old", [files.copy.to_str().unwrap_or_default()]).map_err(unavailable)?;
    let transaction = connection.transaction().map_err(unavailable)?;
    transaction.execute_batch(schema::TABLES).map_err(unavailable)?;
    fill(&transaction)?;
    schema::finish(&transaction).map_err(unavailable)?;
    transaction.commit().map_err(unavailable)?;
    connection.execute_batch("DETACH old").map_err(unavailable)?;
    // So that those who open it first need not agree on that.
    connection.pragma_update(None, "journal_mode", "WAL").map_err(unavailable)?;
    connection.close().map_err(|(_, error)| unavailable(error))?;
    resemble(&files.new, &files.old)?;
    let written = File::open(&files.new).and_then(|file| file.sync_all());
    written.map_err(|error| failed(&files.new, &error))
}

/// Gives the old file a second name, under which it stays.
fn keep(files: &Files) -> Result<(), StoreError> {
    match std::fs::remove_file(&files.kept) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&files.kept, &error)),
        _ => {}
    }
    std::fs::hard_link(&files.old, &files.kept).map_err(|error| failed(&files.kept, &error))?;
    sync_folder(&files.old)
}

fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(folder, &error))
}

// ------------------------------------------------------------------------------------------------------- what is in it

/// What stays as it was, and what goes by number now.
const TABLES: &str = "
    INSERT INTO settings SELECT name, value FROM old.settings WHERE name <> 'probe';
    INSERT INTO audit SELECT sequence, at, event, detail, person, keyed, seal, user_id, salt, fields, format, login, mac, key
        FROM old.audit ORDER BY sequence;
    INSERT INTO catalogue SELECT number, kind, key, version, created_at, updated_at, body FROM old.catalogue;
    INSERT INTO exposures SELECT provider, group_name, alias, hidden FROM old.exposures;
    INSERT INTO api_clients SELECT name, secret, scopes, faces, created_at, created_by, revoked_at FROM old.api_clients;
    INSERT INTO api_tokens SELECT digest, refresh, client, created_at, expires_at FROM old.api_tokens;
    INSERT INTO erased SELECT digest, erased_at, disabled_at, disabled_by, disabled_label FROM old.erased;
    INSERT INTO erased_denies SELECT digest, kind, name, denied_at, denied_by, until FROM old.erased_denies;
    INSERT OR IGNORE INTO tokens SELECT until / 3600000, digest FROM old.tokens WHERE spent ORDER BY 1, 2;
    INSERT OR IGNORE INTO refusals SELECT until / 3600000, digest FROM old.tokens WHERE NOT spent ORDER BY 1, 2;
    INSERT INTO targets (number, kind, name)
        SELECT row_number() OVER (ORDER BY kind, name), kind, name
        FROM (SELECT kind, name FROM old.grants UNION SELECT kind, name FROM old.brakes UNION SELECT kind, name FROM old.brake_people);
    INSERT INTO guards SELECT provider, brakes.kind, number, began_at, members, losses
        FROM old.brakes JOIN targets ON targets.kind = brakes.kind AND targets.name = brakes.name;
    INSERT INTO denied SELECT kind, name, user_id FROM old.denies ORDER BY 1, 2, 3;
    INSERT INTO holdings SELECT grants.kind, number, provider, mapping, user_id, held_at
        FROM old.grants JOIN targets ON targets.kind = grants.kind AND targets.name = grants.name ORDER BY 1, 2, 3, 4, 5;
    INSERT INTO holdings SELECT 4, disabled_at, '', disabled_by, id, NULL FROM old.users
        WHERE disabled_at IS NOT NULL AND disabled_by IS NOT NULL;
    INSERT INTO holdings SELECT 5, stopped_at, coalesce(stopped_through, ''), stopped_by, id, NULL FROM old.users
        WHERE stopped_at IS NOT NULL AND stopped_by IS NOT NULL AND disabled_at IS NULL;
    INSERT INTO given SELECT DISTINCT mapping, provider, kind, target FROM holdings WHERE kind < 2 AND provider <> ''
        ORDER BY 1, 2, 3, 4;";

/// These name users.
const TABLES_OF_USERS: &str = "
    INSERT INTO former_users SELECT id, user_id FROM old.former_users;
    INSERT INTO sessions (key, user_id, provider, login, token, subject, sid, name_format, app_cookie, refresh, created_at, seen_at,
                          synced_at, idle_until, expires_at, name_qualifier, sp_name_qualifier, hint)
        SELECT key, user_id, provider, login, token, subject, sid, name_format, app_cookie, refresh, created_at, seen_at,
               synced_at, idle_until, expires_at, name_qualifier, sp_name_qualifier, hint FROM old.sessions;";

fn fill(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(TABLES).map_err(unavailable)?;
    let names = super::state::names(connection)?;
    let total: i64 =
        connection.query_row("SELECT count(*) FROM old.users", [], |row| row.get(0)).map_err(unavailable)?;
    let old = Old { connection, names: &names };
    let mut select = connection
        .prepare(
            "SELECT id, namespace, subject, email, display_name, created_at, disabled_at, disabled_by, disabled_label,
                    stopped_by, stopped_label, stopped_through, stopped_at FROM old.users ORDER BY id",
        )
        .map_err(unavailable)?;
    let mut rows = select.query([]).map_err(unavailable)?;
    let mut done = 0;
    while let Some(row) = rows.next().map_err(unavailable)? {
        old.user(row)?;
        done += 1;
        if done % STRIDE == 0 {
            say(&format!("{done} of {total} users"));
        }
    }
    connection.execute_batch(TABLES_OF_USERS).map_err(unavailable)
}

/// The tables of the old schema.
struct Old<'a> {
    connection: &'a Connection,
    names: &'a Names,
}

impl Old<'_> {
    /// Writes one user again.
    fn user(&self, row: &Row<'_>) -> Result<(), StoreError> {
        let number: i64 = row.get(0).map_err(unavailable)?;
        let (namespace, subject): (String, String) =
            (row.get(1).map_err(unavailable)?, row.get(2).map_err(unavailable)?);
        // What is not a name of a user is found now, and not when they log in.
        user_of(&namespace, &subject)?;
        let mut record = head(row).map_err(unavailable)?;
        self.each(
            "SELECT kind, name, provider, mapping, granted_at, granted_by, as_admin, lease_from, held_at
                   FROM old.grants WHERE user_id = ?1",
            number,
            |row| grant(&mut record, row),
        )?;
        self.each(
            "SELECT kind, name, denied_at, denied_by, reason, until FROM old.denies WHERE user_id = ?1",
            number,
            |row| deny(&mut record, row),
        )?;
        self.each(
            "SELECT provider, issued_at, last_login_at, renewed_at FROM old.watermarks WHERE user_id = ?1",
            number,
            |row| login(&mut record, row),
        )?;
        self.each("SELECT provider, claims FROM old.recorded_claims WHERE user_id = ?1", number, |row| {
            claims(&mut record, row, &namespace, &subject)
        })?;
        self.each("SELECT provider, kind, name, began_at FROM old.brake_people WHERE user_id = ?1", number, |row| {
            counted(&mut record, row)
        })?;
        record.due = record.denies.values().filter_map(|deny| deny.until).min();
        self.write(number, (&namespace, &subject), &record).map_err(unavailable)
    }

    fn each(
        &self,
        statement: &str,
        number: i64,
        mut take: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut select = self.connection.prepare_cached(statement).map_err(unavailable)?;
        let mut rows = select.query(params![number]).map_err(unavailable)?;
        while let Some(row) = rows.next().map_err(unavailable)? {
            take(row)?;
        }
        Ok(())
    }

    fn write(&self, number: i64, (namespace, subject): (&str, &str), record: &Record) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO users (id, namespace, subject, email, display_name, created_at, disabled, last_login_at, logins, due)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        insert.execute(params![
            number,
            namespace,
            subject,
            record.email,
            record.display_name,
            record.created_at.0,
            record.disabled.is_some(),
            record.last_login().map(|at| at.0),
            text::logins(record, text::Versions::default()),
            record.due.map(|at| at.0),
        ])?;
        let mut insert = self.connection.prepare_cached("INSERT INTO records (user_id, record) VALUES (?1, ?2)")?;
        insert
            .execute(params![
                number,
                super::records::padded(text::rarely(record, self.names, text::Versions::default()))
            ])
            .map(drop)
    }
}

fn head(row: &Row<'_>) -> rusqlite::Result<Record> {
    let mut record = Record::new(Timestamp(row.get(5)?));
    record.email = row.get(3)?;
    record.display_name = row.get(4)?;
    if let Some(at) = row.get::<_, Option<i64>>(6)? {
        let label: Option<String> = row.get(8)?;
        let by = row.get::<_, Option<[u8; 16]>>(7)?.map(|mapping| (MappingId(mapping), label.unwrap_or_default()));
        record.disabled = Some(Disabled { at: Timestamp(at), by });
    }
    if let (Some(at), Some(mapping)) = (row.get::<_, Option<i64>>(12)?, row.get::<_, Option<[u8; 16]>>(9)?) {
        let through: Option<String> = row.get(11)?;
        record.stopped = Some(Stopped {
            mapping: MappingId(mapping),
            label: row.get::<_, Option<String>>(10)?.unwrap_or_default(),
            provider: through.and_then(|name| ProviderName::parse(&name).ok()),
            at: Timestamp(at),
        });
    }
    Ok(record)
}

fn named(row: &Row<'_>, at: usize) -> Result<Target, StoreError> {
    let name: String = row.get(at + 1).map_err(unavailable)?;
    target_of(row.get(at).map_err(unavailable)?, &name)
}

fn moment(row: &Row<'_>, at: usize) -> Result<Option<Timestamp>, StoreError> {
    row.get::<_, Option<i64>>(at).map(|at| at.map(Timestamp)).map_err(unavailable)
}

fn through(row: &Row<'_>, at: usize) -> Result<ProviderName, StoreError> {
    let name: String = row.get(at).map_err(unavailable)?;
    provider_of(&name)
}

fn grant(record: &mut Record, row: &Row<'_>) -> Result<(), StoreError> {
    let target = named(row, 0)?;
    let provider: String = row.get(2).map_err(unavailable)?;
    let source = match provider.as_str() {
        "" => Source::Assigned,
        name => Source::Mapped { provider: provider_of(name)?, mapping: MappingId(row.get(3).map_err(unavailable)?) },
    };
    let holding = Holding {
        granted_at: Timestamp(row.get(4).map_err(unavailable)?),
        granted_by: row.get(5).map_err(unavailable)?,
        as_admin: row.get(6).map_err(unavailable)?,
        lease_from: moment(row, 7)?,
        held_at: moment(row, 8)?,
        rest: Rest::new(),
    };
    record.holdings.insert(Grant { target, source }, holding);
    Ok(())
}

fn deny(record: &mut Record, row: &Row<'_>) -> Result<(), StoreError> {
    let deny = Deny {
        at: Timestamp(row.get(2).map_err(unavailable)?),
        by: row.get(3).map_err(unavailable)?,
        reason: row.get(4).map_err(unavailable)?,
        until: moment(row, 5)?,
        rest: Rest::new(),
    };
    record.denies.insert(named(row, 0)?, deny);
    Ok(())
}

fn login(record: &mut Record, row: &Row<'_>) -> Result<(), StoreError> {
    let login = ProviderLogin {
        issued_at: Timestamp(row.get(1).map_err(unavailable)?),
        last_login_at: Timestamp(row.get(2).map_err(unavailable)?),
        renewed_at: moment(row, 3)?,
    };
    record.logins.insert(through(row, 0)?, login);
    Ok(())
}

fn counted(record: &mut Record, row: &Row<'_>) -> Result<(), StoreError> {
    let began_at = Timestamp(row.get(3).map_err(unavailable)?);
    record.counted.insert((through(row, 0)?, named(row, 1)?), began_at);
    Ok(())
}

/// One claim as the old schema has it.
#[derive(Deserialize)]
struct OldClaim {
    name: String,
    read: String,
    state: OldState,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum OldState {
    Values,
    Empty,
    Missing,
    Undecided,
}

fn claims(record: &mut Record, row: &Row<'_>, namespace: &str, subject: &str) -> Result<(), StoreError> {
    let text: String = row.get(1).map_err(unavailable)?;
    let unreadable = |error: serde_json::Error| {
        let why = crate::pipeline::faults::json(&error);
        StoreError::Invalid(format!("the recorded claims of `{namespace}/{subject}` cannot be read: {why}"))
    };
    let old: Vec<OldClaim> = serde_json::from_str(&text).map_err(unreadable)?;
    let claim = |OldClaim { name, read, state, values }| RecordedClaim {
        name,
        read: Read::Before(read),
        state: match state {
            OldState::Values => RecordedState::Values,
            OldState::Empty => RecordedState::Empty,
            OldState::Missing => RecordedState::Missing,
            OldState::Undecided => RecordedState::Undecided,
        },
        values,
    };
    record.claims.insert(through(row, 0)?, old.into_iter().map(claim).collect());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Settings, SqliteStore};
    use super::*;
    use crate::config::{Secret, Synchronous};
    use crate::pipeline::ids::{Namespace, Subject, UserId};
    use crate::ports::store::{Store, Users as _};

    const KEY: &[u8] = b"an audit key for tests, 32 bytes";
    const NOW: i64 = 1_700_000_000_000;

    fn sealer() -> Sealer {
        Sealer::new(Some(&Secret::new(KEY.to_vec())))
    }

    fn open(path: &Path) -> SqliteStore {
        let audit_key = Some(Secret::new(KEY.to_vec()));
        let settings = Settings { synchronous: Synchronous::Normal, timeout: Duration::from_secs(5), audit_key };
        SqliteStore::open(path, settings).unwrap()
    }

    fn last_schema(path: &Path) {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch(include_str!("../../../../fixtures/store/schema8.sql")).unwrap();
    }

    fn count(path: &Path, statement: &str) -> i64 {
        Connection::open(path).unwrap().query_row(statement, [], |row| row.get(0)).unwrap()
    }

    fn user(subject: &str) -> UserId {
        UserId { namespace: Namespace::parse("p").unwrap(), subject: Subject::parse(subject).unwrap() }
    }

    async fn record(store: &SqliteStore, subject: &str) -> Record {
        store.user(user(subject)).await.unwrap().unwrap().record
    }

    /// Everything that the last of the old schemas held.
    async fn assert_whole(path: &Path) {
        let store = open(path);
        let alice = record(&store, "alice").await;
        let names: Vec<String> = alice.holdings.keys().map(|grant| grant.target.to_string()).collect();
        assert_eq!(names, ["group `Editors`", "group `Staff`", "group `Staff`"]);
        let held: Vec<&Holding> = alice.holdings.values().filter(|holding| holding.held_at.is_some()).collect();
        assert_eq!(
            (held.len(), held[0].held_at, held[0].lease_from),
            (1, Some(Timestamp(NOW + 7)), Some(Timestamp(NOW - 5)))
        );
        let by_hand = alice.holdings.iter().find(|(grant, _)| grant.source == Source::Assigned).unwrap().1;
        assert_eq!((by_hand.granted_by.as_str(), by_hand.as_admin), ("cli:root", Some(true)));
        let deny = alice.denies.values().next().unwrap();
        assert_eq!((deny.reason.as_str(), deny.until, alice.due), ("leaving", deny.until, deny.until));
        let login = alice.logins.values().next().unwrap();
        assert_eq!(
            (login.issued_at, login.last_login_at, login.renewed_at),
            (Timestamp(NOW), Timestamp(NOW + 1), Some(Timestamp(NOW + 2)))
        );
        let claims = alice.claims.values().next().unwrap();
        assert_eq!((claims[0].values.len(), claims[1].state), (2, RecordedState::Missing));
        assert_eq!(claims[0].read, Read::Before("Name(\"groups\") [Assertion] First false None".into()));
        assert_eq!((alice.email.as_deref(), alice.display_name.as_deref()), (Some("alice@example.com"), Some("Alice")));
        let bob = record(&store, "bob").await;
        assert_eq!((bob.stopped.unwrap().label.as_str(), bob.counted.len()), ("leavers", 1));
        let carol = record(&store, "carol").await;
        assert_eq!(carol.disabled.unwrap().by.unwrap().1, "leavers");
        for (table, rows) in [
            ("tokens", 1),
            ("refusals", 1),
            ("sessions", 1),
            ("erased", 1),
            ("api_clients", 1),
            ("catalogue", 1),
            ("guards", 1),
            ("former_users", 1),
        ] {
            assert_eq!(count(path, &format!("SELECT count(*) FROM {table}")), rows, "{table}");
        }
        assert_eq!(store.check(false).await.unwrap(), Vec::<String>::new());
        let report = Store::from(store).verify_audit().await.unwrap();
        assert_eq!((report.broken, report.rows, report.keyed), (None, 8, true));
    }

    #[tokio::test]
    async fn everything_of_the_last_schema_survives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        last_schema(&path);
        assert_whole(&path).await;
        // The old one is next to it, as it was.
        let kept = folder.path().join("store.db.schema8");
        assert_eq!(count(&kept, "SELECT count(*) FROM watermarks"), 2);
        let mut left: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.retain(|name| name.contains("copy") || name.contains("new"));
        assert_eq!(left, Vec::<String>::new());
    }

    /// A kill behind each step: what is there is the old file or the new one, and the next start goes on.
    #[tokio::test]
    async fn a_kill_at_any_step_leaves_a_whole_file() {
        for stage in [Stage::Held, Stage::Copied, Stage::Built, Stage::Kept, Stage::Replaced] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("store.db");
            last_schema(&path);
            let killed = carry_out(&path, 8, &sealer(), |reached| match reached == stage {
                true => Err(StoreError::Unavailable("killed".into())),
                false => Ok(()),
            });
            assert!(killed.is_err(), "{stage:?}");
            let version = if stage == Stage::Replaced { VERSION } else { 8 };
            assert_eq!(count(&path, "SELECT user_version FROM pragma_user_version"), version, "{stage:?}");
            assert_eq!(count(&path, "SELECT count(*) FROM users"), 3, "{stage:?}");
            assert_whole(&path).await;
        }
    }

    /// Half-written files of an attempt that was killed in the midst of a step are no hindrance.
    #[tokio::test]
    async fn what_an_attempt_has_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        last_schema(&path);
        for left in ["store.db.copy", "store.db.new", "store.db.new-journal", "store.db.schema8"] {
            std::fs::write(folder.path().join(left), b"half a file").unwrap();
        }
        assert_whole(&path).await;
    }

    #[tokio::test]
    async fn every_older_schema_is_brought_forward() {
        for version in 1..=8 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("store.db");
            let connection = Connection::open(&path).unwrap();
            SCRIPTS.iter().take(version).for_each(|script| connection.execute_batch(script).unwrap());
            connection
                .execute_batch(&format!(
                    "INSERT INTO users (id, namespace, subject, created_at, disabled_at) VALUES (7, 'p', 'alice', 1, 5);
                     INSERT INTO grants (user_id, kind, name, provider, mapping, granted_at)
                     VALUES (7, 0, 'Staff', 'p', x'{}', 3);
                     INSERT INTO denies (user_id, kind, name, denied_at, denied_by, reason) VALUES (7, 1, 'editor', 4, 'x', 'y');
                     INSERT INTO watermarks (user_id, provider, issued_at, last_login_at) VALUES (7, 'p', 5, 6);
                     INSERT INTO tokens VALUES (x'01', 1, 7);
                     PRAGMA user_version = {version};",
                    "33".repeat(16)
                ))
                .unwrap();
            drop(connection);
            let store = open(&path);
            let alice = record(&store, "alice").await;
            let found = (alice.holdings.len(), alice.denies.len(), alice.logins.len(), alice.disabled.is_some());
            assert_eq!(found, (1, 1, 1, true), "{version}");
            assert_eq!(count(&path, "SELECT count(*) FROM tokens"), 1, "{version}");
            assert_eq!(store.check(false).await.unwrap(), Vec::<String>::new(), "{version}");
        }
    }

    /// `cargo test --release --lib a_hundred_thousand_users -- --ignored --nocapture`.
    #[tokio::test]
    #[ignore = "a measurement, for a release build"]
    async fn a_hundred_thousand_users_take_seconds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let connection = Connection::open(&path).unwrap();
        SCRIPTS.iter().for_each(|script| connection.execute_batch(script).unwrap());
        let claims = format!(
            "[{{\"name\":\"groups\",\"read\":\"x\",\"state\":\"values\",\"values\":[{}\"v\"]}}]",
            "\"a value\",".repeat(19)
        );
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = OFF;
                 BEGIN;
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
                 INSERT INTO users (id, namespace, subject, created_at) SELECT i, 'p', 'user-' || i, 1 FROM n;
                 INSERT INTO watermarks (user_id, provider, issued_at, last_login_at) SELECT id, 'p', 5, 6 FROM users;
                 INSERT INTO recorded_claims SELECT id, 'p', '{claims}' FROM users;
                 WITH RECURSIVE g (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM g WHERE i < 19)
                 INSERT INTO grants (user_id, kind, name, provider, mapping, granted_at)
                 SELECT id, 0, 'group-' || ((id * 7 + i * 13) % 500), 'p', x'{}', 3 FROM users, g;
                 COMMIT;
                 PRAGMA user_version = 8;",
                "33".repeat(16)
            ))
            .unwrap();
        drop(connection);
        let began = std::time::Instant::now();
        let store = open(&path);
        println!("{:?} for {} MB", began.elapsed(), std::fs::metadata(&path).unwrap().len() / 1_000_000);
        assert_eq!(store.count().await.unwrap(), 100_000);
    }
}
