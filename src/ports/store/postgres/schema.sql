-- Version 1. The same facts as in the SQLite store, in the shape that logins of several replicas need. Times are milliseconds
-- since 1970 in UTC. Texts compare byte by byte, as the program does.

-- One row. `generation` rises when names or open work change: what was decided by an older one is decided again. `revision` rises
-- when the catalogue or the files of live replicas change: replicas take over what changed within a second.
CREATE TABLE loginsync.rules (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    generation bigint NOT NULL DEFAULT 1,
    revision   bigint NOT NULL DEFAULT 1
);
INSERT INTO loginsync.rules DEFAULT VALUES;

-- Files by which live replicas decide: what they give and guard, as JSON. Of two that say the same there is one row.
CREATE TABLE loginsync.files (
    digest  bytea PRIMARY KEY,
    content text NOT NULL
);

-- The processes that serve. `until` is when one that was not heard of counts no more, by the clock of this server; `ahead` is by how
-- much the replica's clock is ahead of it.
CREATE TABLE loginsync.replicas (
    id         bytea PRIMARY KEY,
    name       text NOT NULL,
    version    text NOT NULL,
    file       bytea NOT NULL REFERENCES loginsync.files (digest),
    started_at bigint NOT NULL,
    until      bigint NOT NULL,
    ahead      bigint NOT NULL
) WITH (fillfactor = 50);

-- The replica that does what is done once. `fence` rises with every change of it.
CREATE TABLE loginsync.leader (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    owner bytea NOT NULL DEFAULT '',
    fence bigint NOT NULL DEFAULT 0,
    until bigint NOT NULL DEFAULT 0
);
INSERT INTO loginsync.leader DEFAULT VALUES;

-- Groups (0) and roles (1). No number is used twice; one that is gone keeps its name here.
CREATE TABLE loginsync.targets (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind   bigint NOT NULL,
    name   text COLLATE "C" NOT NULL,
    gone   boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX targets_by_name ON loginsync.targets (kind, name) WHERE NOT gone;

CREATE SEQUENCE loginsync.user_numbers;

-- `record` is what a login seldom changes: its UPDATE leaves the column out. No index has a column that every login writes, so
-- that a login writes no index.
CREATE TABLE loginsync.users (
    id            bigint PRIMARY KEY,
    namespace     text COLLATE "C" NOT NULL,
    subject       text COLLATE "C" NOT NULL,
    version       bigint NOT NULL DEFAULT 1,
    email         text COLLATE "C",
    display_name  text COLLATE "C",
    created_at    bigint NOT NULL,
    disabled      boolean NOT NULL,
    last_login_at bigint,
    logins        text NOT NULL,
    due           bigint,
    record        text,
    UNIQUE (namespace, subject)
) WITH (fillfactor = 75);
CREATE INDEX users_due ON loginsync.users (due) WHERE due IS NOT NULL;

-- One row for each grant. `kind` 4: a mapping disabled the user; 5: it would have, and the brake has stopped it; their `target` is
-- the moment. `at`: since when the brake holds a revocation.
CREATE TABLE loginsync.holdings (
    kind     bigint NOT NULL,
    target   bigint NOT NULL,
    provider text COLLATE "C" NOT NULL,
    mapping  bytea NOT NULL,
    user_id  bigint NOT NULL REFERENCES loginsync.users (id) ON DELETE CASCADE,
    at       bigint,
    PRIMARY KEY (kind, target, provider, mapping, user_id)
);
CREATE INDEX holdings_by_mapping ON loginsync.holdings (mapping, provider, kind, target, user_id);
CREATE INDEX holdings_by_user ON loginsync.holdings (user_id);
CREATE INDEX holdings_held ON loginsync.holdings (kind, target, provider) WHERE at IS NOT NULL AND kind < 2;

CREATE TABLE loginsync.denied (
    kind    bigint NOT NULL,
    name    text COLLATE "C" NOT NULL,
    user_id bigint NOT NULL REFERENCES loginsync.users (id) ON DELETE CASCADE,
    PRIMARY KEY (kind, name, user_id)
);
CREATE INDEX denied_by_user ON loginsync.denied (user_id);

CREATE TABLE loginsync.guards (
    provider text COLLATE "C" NOT NULL,
    kind     bigint NOT NULL,
    target   bigint NOT NULL,
    began_at bigint NOT NULL,
    members  bigint NOT NULL,
    losses   bigint NOT NULL,
    PRIMARY KEY (provider, kind, target)
);

CREATE TABLE loginsync.work (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item       text NOT NULL,
    created_at bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000)::bigint
);

-- Spent tokens, by a digest of issuer and token id; `until` is when one can no longer pass.
CREATE TABLE loginsync.tokens (
    digest bytea PRIMARY KEY,
    until  bigint NOT NULL
);
CREATE INDEX tokens_by_until ON loginsync.tokens (until);

CREATE TABLE loginsync.refusals (
    digest bytea PRIMARY KEY,
    until  bigint NOT NULL
);
CREATE INDEX refusals_by_until ON loginsync.refusals (until);

-- Small facts by name. Secrets among them are sealed with `store.key_file`.
CREATE TABLE loginsync.settings (
    name  text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);

-- Rows are added and never changed. Identity values are not the order of commits: a seal gives a row its place, in an order that
-- nothing can slip behind (`xid`).
CREATE TABLE loginsync.audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid     xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at      bigint NOT NULL,
    event   text NOT NULL,
    detail  text NOT NULL,
    person  bytea,
    user_id bigint,
    login   text COLLATE "C",
    mac     bytea,
    key     bytea,
    -- Only of rows of the first format, which came from another store: whether the seal was made with a key. They have no MAC.
    first_keyed boolean,
    CHECK (mac IS NOT NULL OR first_keyed IS NOT NULL)
);
CREATE INDEX audit_by_xid ON loginsync.audit (xid, id);
CREATE INDEX audit_by_login ON loginsync.audit (login) WHERE login IS NOT NULL;
CREATE INDEX audit_by_user ON loginsync.audit (user_id) WHERE user_id IS NOT NULL;

CREATE TABLE loginsync.seals (
    sequence bigint PRIMARY KEY,
    audit_id bigint NOT NULL UNIQUE,
    xid      xid8 NOT NULL,
    seal     bytea NOT NULL
);

-- What names a person, outside the chain, so that it can be erased.
CREATE TABLE loginsync.audit_people (
    audit_id bigint PRIMARY KEY,
    user_id  bigint,
    salt     bytea NOT NULL,
    fields   text NOT NULL
);
CREATE INDEX audit_people_by_user ON loginsync.audit_people (user_id);

CREATE TABLE loginsync.former_users (
    id      bigint PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES loginsync.users (id) ON DELETE CASCADE
);
CREATE INDEX former_users_by_user ON loginsync.former_users (user_id);

-- What still binds a person who was erased. The digest is an HMAC of namespace and subject with a key of this store.
CREATE TABLE loginsync.erased (
    digest         bytea PRIMARY KEY,
    erased_at      bigint NOT NULL,
    disabled_at    bigint,
    disabled_by    bytea,
    disabled_label text
);
CREATE TABLE loginsync.erased_denies (
    digest    bytea NOT NULL REFERENCES loginsync.erased (digest) ON DELETE CASCADE,
    kind      bigint NOT NULL,
    name      text COLLATE "C" NOT NULL,
    denied_at bigint NOT NULL,
    denied_by text NOT NULL,
    until     bigint,
    PRIMARY KEY (digest, kind, name)
);

CREATE TABLE loginsync.sessions (
    key               bytea PRIMARY KEY,
    user_id           bigint NOT NULL REFERENCES loginsync.users (id) ON DELETE CASCADE,
    provider          text COLLATE "C" NOT NULL,
    login             text NOT NULL,
    token             text NOT NULL,
    subject           text COLLATE "C" NOT NULL,
    sid               text COLLATE "C",
    name_format       text,
    app_cookie        bytea,
    refresh           bytea,
    created_at        bigint NOT NULL,
    seen_at           bigint NOT NULL,
    synced_at         bigint NOT NULL,
    idle_until        bigint NOT NULL,
    expires_at        bigint NOT NULL,
    name_qualifier    text,
    sp_name_qualifier text,
    hint              bytea
);
CREATE INDEX sessions_by_user ON loginsync.sessions (user_id, created_at);
CREATE INDEX sessions_by_subject ON loginsync.sessions (provider, subject);
CREATE INDEX sessions_by_sid ON loginsync.sessions (provider, sid) WHERE sid IS NOT NULL;
CREATE INDEX sessions_by_end ON loginsync.sessions (expires_at);

CREATE TABLE loginsync.catalogue (
    number     bigint PRIMARY KEY,
    kind       bigint NOT NULL,
    key        text COLLATE "C" NOT NULL UNIQUE,
    version    bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    body       text NOT NULL
);

CREATE TABLE loginsync.exposures (
    provider   text COLLATE "C" NOT NULL,
    group_name text COLLATE "C" NOT NULL,
    alias      text,
    hidden     boolean NOT NULL,
    PRIMARY KEY (provider, group_name)
);

CREATE TABLE loginsync.api_clients (
    name       text COLLATE "C" PRIMARY KEY,
    secret     bytea NOT NULL UNIQUE,
    scopes     text NOT NULL,
    faces      text NOT NULL,
    created_at bigint NOT NULL,
    created_by text NOT NULL,
    revoked_at bigint
);

CREATE TABLE loginsync.api_tokens (
    digest     bytea PRIMARY KEY,
    refresh    bytea UNIQUE,
    client     bytea NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX api_tokens_by_client ON loginsync.api_tokens (client, created_at);

CREATE TABLE loginsync.schema (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL
);

-- For queries by hand: one row for each grant, with all that is known of it. As JSON and not as JSONB, which takes no NUL in a text.
CREATE VIEW loginsync.grants AS
SELECT users.id AS user_id, namespace, subject, CASE targets.kind WHEN 0 THEN 'group' ELSE 'role' END AS kind,
       targets.name AS name, coalesce(holding ->> 'provider', '') AS provider, coalesce(holding ->> 'mapping', '') AS mapping,
       (holding ->> 'granted_at')::bigint AS granted_at, coalesce(holding ->> 'granted_by', '') AS granted_by,
       (holding ->> 'as_admin')::boolean AS as_admin, (holding ->> 'lease_from')::bigint AS lease_from,
       (holding ->> 'held_at')::bigint AS held_at
FROM loginsync.users
CROSS JOIN LATERAL json_array_elements(users.record::json -> 'holdings') AS holding
JOIN loginsync.targets ON targets.number = (holding ->> 'target')::bigint
WHERE NOT targets.gone;

-- Through which providers users have logged in: of when the newest token is, and from when leases count.
CREATE VIEW loginsync.logins AS
SELECT users.id AS user_id, namespace, subject, key AS provider, (value ->> 'issued_at')::bigint AS issued_at,
       (value ->> 'last_login_at')::bigint AS last_login_at, (value ->> 'renewed_at')::bigint AS renewed_at
FROM loginsync.users CROSS JOIN LATERAL json_each(users.logins::json -> 'logins');

-- What enabled users effectively hold: groups, roles, and roles through groups by the rules that were adopted last.
CREATE VIEW loginsync.memberships AS
WITH direct AS (
    SELECT DISTINCT holdings.user_id, targets.kind, targets.name
    FROM loginsync.holdings JOIN loginsync.targets ON targets.number = holdings.target
    WHERE holdings.kind < 2 AND NOT targets.gone
      AND NOT EXISTS (SELECT 1 FROM loginsync.denied WHERE denied.user_id = holdings.user_id AND denied.kind = targets.kind
                      AND denied.name = targets.name)
      AND NOT EXISTS (SELECT 1 FROM loginsync.work
                      CROSS JOIN LATERAL json_array_elements_text(work.item::json -> 'mappings') AS ending
                      WHERE ending = encode(holdings.mapping, 'hex'))
), everything AS (
    SELECT user_id, kind, name FROM direct
    UNION
    SELECT direct.user_id, 1, carried FROM direct
    JOIN loginsync.settings ON settings.name = 'adopted'
    CROSS JOIN LATERAL json_array_elements_text(convert_from(settings.value, 'UTF8')::json -> 'roles_of' -> direct.name) AS carried
    WHERE direct.kind = 0
      AND NOT EXISTS (SELECT 1 FROM loginsync.denied WHERE denied.user_id = direct.user_id AND denied.kind = 1
                      AND denied.name = carried)
)
SELECT users.id AS user_id, namespace, subject, CASE everything.kind WHEN 0 THEN 'group' ELSE 'role' END AS kind, everything.name
FROM everything JOIN loginsync.users ON users.id = everything.user_id WHERE NOT users.disabled;
