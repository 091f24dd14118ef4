-- Who is signed in to the console: links that were not used yet (`link` 1), and sessions. `digest` is the SHA-256 of 256 random bits,
-- `operator` JSON.
CREATE TABLE console (
    digest     BLOB PRIMARY KEY,
    link       INTEGER NOT NULL,
    operator   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    idle_until INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
