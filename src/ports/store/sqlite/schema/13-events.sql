-- Version 13. Pending events for receivers, which are not state. Added to the tables of version 9.

-- `data` is JSON, with numbers and names and nothing personal. `due`: not before this moment.
CREATE TABLE events (
    id       TEXT PRIMARY KEY,
    receiver TEXT NOT NULL,
    at       INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    user_id  INTEGER,
    data     TEXT NOT NULL,
    due      INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    fault    TEXT
) WITHOUT ROWID;
CREATE INDEX events_of ON events (receiver, at, id);
