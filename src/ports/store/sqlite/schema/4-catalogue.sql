-- Version 4: what the mapping APIs have made, and who may call them.

-- Groups (0), roles (1) and mappings (2). Groups and roles that the configuration declares are here with their numbers and
-- keys alone, since the faces speak of them by those. Numbers are given by the program and never twice.
CREATE TABLE catalogue (
    number     INTEGER PRIMARY KEY,
    kind       INTEGER NOT NULL,
    key        TEXT NOT NULL UNIQUE,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    body       TEXT NOT NULL
);

-- How a group is shown for the users of a provider.
CREATE TABLE exposures (
    provider   TEXT NOT NULL,
    group_name TEXT NOT NULL,
    alias      TEXT,
    hidden     INTEGER NOT NULL,
    PRIMARY KEY (provider, group_name)
) WITHOUT ROWID;

-- `secret` is the SHA-256 of 256 random bits.
CREATE TABLE api_clients (
    name       TEXT PRIMARY KEY,
    secret     BLOB NOT NULL UNIQUE,
    scopes     TEXT NOT NULL,
    faces      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    revoked_at INTEGER
) WITHOUT ROWID;

-- Access tokens, by their SHA-256; `client` is the secret's that they were taken with.
CREATE TABLE api_tokens (
    digest     BLOB PRIMARY KEY,
    refresh    BLOB UNIQUE,
    client     BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX api_tokens_by_client ON api_tokens (client, created_at);
