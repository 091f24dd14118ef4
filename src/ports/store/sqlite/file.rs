//! The database file on the disk: one `serve` for each, and the file that was opened is still the one at its path.
//!
//! SQLite goes on writing into a file that was deleted or replaced, and says that all is well; what it wrote is gone at the
//! next start. So device and inode of the file, its log and its lock are compared with those that were opened, before each
//! commit and each read.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::super::StoreError;

/// The right to serve a database: an advisory lock on `FILE.lock`. The system releases it when the process ends, however
/// that ends, so that none is ever left behind. Commands work alongside it: they rely on SQLite's own locks.
#[derive(Debug)]
pub struct Claim {
    lock: File,
    path: PathBuf,
}

impl Claim {
    /// Claims a database, which is created where there is none; `None` while another process holds the claim.
    ///
    /// # Errors
    /// When the file or its lock cannot be created, or the file system has no locks.
    pub fn take(database: &Path) -> Result<Option<Self>, StoreError> {
        create_private(database)?;
        let path = beside(&resolved(database)?, ".lock");
        let failed = |error: std::io::Error| StoreError::Unavailable(format!("`{}`: {error}", path.display()));
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(failed)?;
        // A command that root runs must not leave a lock that the service may not open.
        if let Ok(owner) = std::fs::metadata(database) {
            let _ = std::os::unix::fs::fchown(&lock, Some(owner.uid()), Some(owner.gid()));
        }
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // The file may have been removed between opening and locking it; then the lock guards nothing.
        let ours = lock.metadata().map_err(failed)?;
        let same = std::fs::metadata(&path).is_ok_and(|found| identity(&found) == identity(&ours));
        Ok(same.then_some(Self { lock, path }))
    }
}

/// The error of a second `serve`.
pub fn in_use(database: &Path) -> StoreError {
    StoreError::Invalid(format!(
        "`{0}` is in use by another `loginsync serve`, which holds the lock on `{0}.lock`. One process serves a SQLite file: \
         stop the other one, or set `store.path` to a different file. Sidecars that share a store need PostgreSQL: set `store.url`, \
         and `loginsync db move` takes along what the file holds",
        database.display()
    ))
}

/// The files of an open database, as they were when it was opened.
#[derive(Debug)]
pub(super) struct Files {
    known: Vec<(PathBuf, (u64, u64))>,
}

impl Files {
    /// Notes the files of a database that SQLite has open, so that its log exists.
    pub(super) fn of(database: &Path, claim: Option<&Claim>) -> Result<Self, StoreError> {
        let resolved = resolved(database)?;
        let mut known = Vec::with_capacity(4);
        for path in [database.to_owned(), beside(&resolved, "-wal"), beside(&resolved, "-shm")] {
            let found = std::fs::metadata(&path).map_err(|error| cannot_use(&path, &error))?;
            known.push((path, identity(&found)));
        }
        if let Some(claim) = claim {
            let found = claim.lock.metadata().map_err(|error| cannot_use(&claim.path, &error))?;
            known.push((claim.path.clone(), identity(&found)));
        }
        Ok(Self { known })
    }

    /// Whether these files are still at their paths.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.known.iter().find(|(path, known)| {
            // What cannot be looked at counts as gone: it could not be opened at the next start either.
            !std::fs::metadata(path).is_ok_and(|found| identity(&found) == *known)
        }) {
            None => Ok(()),
            Some((path, _)) => Err(StoreError::Unavailable(format!(
                "`{}` was deleted, moved or replaced while it was open: what is written now would be lost; put the right \
                 file in place and restart loginsync",
                path.display()
            ))),
        }
    }
}

/// Creates the file for its owner alone, since it may hold the keys of cookies. An existing one is left as it is.
pub(super) fn create_private(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(cannot_use(path, &error)),
        _ => Ok(()),
    }
}

/// The path without symbolic links: SQLite puts its log next to the file itself, and two names of one file share a lock.
fn resolved(database: &Path) -> Result<PathBuf, StoreError> {
    std::fs::canonicalize(database).map_err(|error| cannot_use(database, &error))
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn cannot_use(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("`{}`: {error}", path.display()))
}
