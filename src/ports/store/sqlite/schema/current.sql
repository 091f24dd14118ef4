-- Version 9. Users are records, what they hold goes by number, and a login writes few pages. Times are milliseconds since 1970 in
-- UTC.

-- Groups (0) and roles (1). No number is used twice; one that is gone keeps its name here.
CREATE TABLE targets (
    number INTEGER PRIMARY KEY,
    kind   INTEGER NOT NULL,
    name   TEXT NOT NULL,
    gone   INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX targets_by_name ON targets (kind, name) WHERE NOT gone;

-- What every login writes. `logins` is JSON: for each provider the newest token, the last login, and from when leases count.
CREATE TABLE users (
    id            INTEGER PRIMARY KEY,
    namespace     TEXT NOT NULL,
    subject       TEXT NOT NULL,
    email         TEXT,
    display_name  TEXT,
    created_at    INTEGER NOT NULL,
    disabled      INTEGER NOT NULL DEFAULT 0,
    last_login_at INTEGER,
    logins        TEXT NOT NULL DEFAULT '{"version":1}',
    -- No lease and no deny ends before this moment. It moves when it has come, and earlier only for something earlier, so that
    -- logins leave the index alone.
    due           INTEGER,
    UNIQUE (namespace, subject)
);
CREATE INDEX users_due ON users (due) WHERE due IS NOT NULL;

-- What a login seldom changes, as JSON: grants, denies, recorded claims, why the user is disabled.
CREATE TABLE records (
    user_id INTEGER PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    record  TEXT NOT NULL
);

-- One row for each grant, by what it is of; `loginsync db check` says whether they equal the records. An assigned grant has no
-- provider and no mapping; `at` is since when the brake holds its revocation.
-- `kind` 4: a mapping disabled the user; 5: it would have, and the brake has stopped it. Their `target` is the moment.
CREATE TABLE holdings (
    kind     INTEGER NOT NULL,
    target   INTEGER NOT NULL,
    provider TEXT NOT NULL,
    mapping  BLOB NOT NULL,
    user_id  INTEGER NOT NULL,
    at       INTEGER,
    PRIMARY KEY (kind, target, provider, mapping, user_id)
) WITHOUT ROWID;
CREATE INDEX holdings_held ON holdings (kind, target, provider) WHERE at IS NOT NULL AND kind < 2;

-- Who is denied what, by name: a deny binds a name, and outlives what bears it.
CREATE TABLE denied (
    kind    INTEGER NOT NULL,
    name    TEXT NOT NULL,
    user_id INTEGER NOT NULL,
    PRIMARY KEY (kind, name, user_id)
) WITHOUT ROWID;

-- Which mapping has given what through which provider.
CREATE TABLE given (
    mapping  BLOB NOT NULL,
    provider TEXT NOT NULL,
    kind     INTEGER NOT NULL,
    target   INTEGER NOT NULL,
    PRIMARY KEY (mapping, provider, kind, target)
) WITHOUT ROWID;

-- People who lost a target through a provider within the running window of the brake, and its mapped members at the start.
CREATE TABLE guards (
    provider TEXT NOT NULL,
    kind     INTEGER NOT NULL,
    target   INTEGER NOT NULL,
    began_at INTEGER NOT NULL,
    members  INTEGER NOT NULL,
    losses   INTEGER NOT NULL,
    PRIMARY KEY (provider, kind, target)
) WITHOUT ROWID;

-- What a change of the rules has left to do, as JSON.
CREATE TABLE work (
    number INTEGER PRIMARY KEY,
    item   TEXT NOT NULL
);

-- Tokens that were spent, until they could not pass by their own times, by a digest of issuer and token id. `hour` is the last
-- hour in which one could pass, counted since 1970: whole hours go at once, in the order of the table.
CREATE TABLE tokens (
    hour   INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (hour, digest)
) WITHOUT ROWID;

-- The same of tokens that were refused, so that one fills no more than one row of the audit.
CREATE TABLE refusals (
    hour   INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (hour, digest)
) WITHOUT ROWID;

-- Small facts by name, secrets among them.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- The chain. `mac` covers time, event, detail, login, user number (`user_id`) and the hash of the personal fields (`person`);
-- `seal` links it to the row before. What names a person is outside it, so that it can be erased. `key` is the id of the key,
-- NULL for rows that only have hashes. Rows of the first format keep their seals; the first row after them seals how many
-- they are.
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
    fields   TEXT,
    format   INTEGER NOT NULL DEFAULT 1,
    login    TEXT,
    mac      BLOB,
    key      BLOB
);
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

-- Who a browser is between its logins. The id itself is in the browser alone; here is its SHA-256.
CREATE TABLE sessions (
    key               BLOB PRIMARY KEY,
    user_id           INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provider          TEXT NOT NULL,
    -- The login that it began with, and the token of that login.
    login             TEXT NOT NULL,
    token             TEXT NOT NULL,
    -- What the provider calls the person and its own session, by which it ends ours.
    subject           TEXT NOT NULL,
    sid               TEXT,
    name_format       TEXT,
    -- SHA-256 of the app's own session cookie, where the session is bound to one.
    app_cookie        BLOB,
    -- Sealed with the cookie keys.
    refresh           BLOB,
    created_at        INTEGER NOT NULL,
    seen_at           INTEGER NOT NULL,
    synced_at         INTEGER NOT NULL,
    idle_until        INTEGER NOT NULL,
    expires_at        INTEGER NOT NULL,
    name_qualifier    TEXT,
    sp_name_qualifier TEXT,
    -- The ID token that the session began with. Sealed with the cookie keys.
    hint              BLOB
) WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (user_id, created_at);
CREATE INDEX sessions_by_subject ON sessions (provider, subject);
CREATE INDEX sessions_by_sid ON sessions (provider, sid) WHERE sid IS NOT NULL;
CREATE INDEX sessions_by_end ON sessions (expires_at);

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
