-- Version 6: with which right something was given, who a mapping disabled, and what binds people who were erased.

-- Of a grant by hand: 1 when it was made with scope `admin` or at the command line, 0 when it was not, NULL when that is
-- unknown.
ALTER TABLE grants ADD COLUMN as_admin INTEGER;
UPDATE grants SET as_admin = 1 WHERE provider = '' AND granted_by LIKE 'cli:%';

-- The mapping that disabled the user, and its label then. Both NULL: an operator did.
ALTER TABLE users ADD COLUMN disabled_by BLOB;
ALTER TABLE users ADD COLUMN disabled_label TEXT;
-- A mapping would have disabled the user, and the brake has stopped that.
ALTER TABLE users ADD COLUMN stopped_by BLOB;
ALTER TABLE users ADD COLUMN stopped_label TEXT;
ALTER TABLE users ADD COLUMN stopped_through TEXT;
ALTER TABLE users ADD COLUMN stopped_at INTEGER;
CREATE INDEX users_disabled_by ON users (disabled_at) WHERE disabled_by IS NOT NULL;
CREATE INDEX users_stopped ON users (stopped_at) WHERE stopped_at IS NOT NULL;

-- Users who were merged into another, so that their rows of the audit are found.
CREATE TABLE former_users (
    id      INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX former_users_by_user ON former_users (user_id);

-- What still binds a person who was erased. The digest is an HMAC of namespace and subject with a key of this store.
CREATE TABLE erased (
    digest         BLOB PRIMARY KEY,
    erased_at      INTEGER NOT NULL,
    disabled_at    INTEGER,
    disabled_by    BLOB,
    disabled_label TEXT
) WITHOUT ROWID;

CREATE TABLE erased_denies (
    digest    BLOB NOT NULL REFERENCES erased (digest) ON DELETE CASCADE,
    kind      INTEGER NOT NULL,
    name      TEXT NOT NULL,
    denied_at INTEGER NOT NULL,
    denied_by TEXT NOT NULL,
    until     INTEGER,
    PRIMARY KEY (digest, kind, name)
) WITHOUT ROWID;
