-- Version 1. Times are milliseconds since 1970 in UTC; `kind` is 0 for a group, 1 for a role.

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE users (
    id            INTEGER PRIMARY KEY,
    namespace     TEXT NOT NULL,
    subject       TEXT NOT NULL,
    email         TEXT,
    display_name  TEXT,
    created_at    INTEGER NOT NULL,
    disabled_at   INTEGER,
    UNIQUE (namespace, subject)
);

-- The newest login that was applied for a user through a provider.
CREATE TABLE watermarks (
    user_id       INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provider      TEXT NOT NULL,
    issued_at     INTEGER NOT NULL,
    last_login_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, provider)
) WITHOUT ROWID;

-- One row a reason. An assigned grant has no provider and no mapping.
CREATE TABLE grants (
    user_id    INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind       INTEGER NOT NULL,
    name       TEXT NOT NULL,
    provider   TEXT NOT NULL DEFAULT '',
    mapping    BLOB NOT NULL DEFAULT x'',
    granted_at INTEGER NOT NULL,
    granted_by TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (user_id, kind, name, provider, mapping)
) WITHOUT ROWID;

CREATE INDEX grants_by_target ON grants (kind, name, user_id);
CREATE INDEX grants_by_mapping ON grants (mapping) WHERE mapping <> x'';

CREATE TABLE denies (
    user_id   INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind      INTEGER NOT NULL,
    name      TEXT NOT NULL,
    denied_at INTEGER NOT NULL,
    denied_by TEXT NOT NULL,
    reason    TEXT NOT NULL,
    PRIMARY KEY (user_id, kind, name)
) WITHOUT ROWID;

-- Tokens that were here, by a digest of issuer and token id, until they could not pass by their own times. `spent` is 0
-- where the token was only refused, so that one token fills no more than one audit row of its kind.
CREATE TABLE tokens (
    digest BLOB NOT NULL,
    spent  INTEGER NOT NULL,
    until  INTEGER NOT NULL,
    PRIMARY KEY (digest, spent)
) WITHOUT ROWID;

CREATE INDEX tokens_by_until ON tokens (until);

-- The chain: each seal covers the row and the seal before it. What names a person is outside it: a seal covers only the
-- salted hash of that (`person`), so it can be erased. One row, not two, since every login writes it.
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    event    TEXT NOT NULL,
    detail   TEXT NOT NULL,
    person   BLOB,
    keyed    INTEGER NOT NULL,
    seal     BLOB NOT NULL,
    user_id  INTEGER,
    salt     BLOB,
    fields   TEXT
);
