-- Version 3: who a browser is between its logins. The id itself is in the browser alone; here is its SHA-256.

CREATE TABLE sessions (
    key          BLOB PRIMARY KEY,
    user_id      INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provider     TEXT NOT NULL,
    -- The login that it began with, and the token of that login.
    login        TEXT NOT NULL,
    token        TEXT NOT NULL,
    -- What the provider calls the person and its own session, by which it ends ours.
    subject      TEXT NOT NULL,
    sid          TEXT,
    name_format  TEXT,
    -- SHA-256 of the app's own session cookie, where the session is bound to one.
    app_cookie   BLOB,
    -- Sealed with the cookie keys.
    refresh      BLOB,
    created_at   INTEGER NOT NULL,
    seen_at      INTEGER NOT NULL,
    synced_at    INTEGER NOT NULL,
    idle_until   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX sessions_by_user ON sessions (user_id, created_at);
CREATE INDEX sessions_by_subject ON sessions (provider, subject);
CREATE INDEX sessions_by_sid ON sessions (provider, sid) WHERE sid IS NOT NULL;
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- A disabled user has no session, and being enabled again brings none back.
CREATE TRIGGER sessions_end_with_the_user AFTER UPDATE OF disabled_at ON users WHEN NEW.disabled_at IS NOT NULL
BEGIN
    DELETE FROM sessions WHERE user_id = NEW.id;
END;
