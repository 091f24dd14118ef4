-- Version 7: who was counted in a running window of the brake, so that one person who loses a target twice is one.

CREATE TABLE brake_people (
    provider TEXT NOT NULL,
    kind     INTEGER NOT NULL,
    name     TEXT NOT NULL,
    user_id  INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The window's.
    began_at INTEGER NOT NULL,
    PRIMARY KEY (provider, kind, name, user_id)
) WITHOUT ROWID;

CREATE INDEX brake_people_by_user ON brake_people (user_id);
