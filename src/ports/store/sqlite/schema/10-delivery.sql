-- Version 10. Pending deliveries to receivers. Added to the tables of version 9.

-- The version of each user whom receivers follow, raised with every change of what they hold; by which row of the audit, and by which
-- login. `round`: of the receivers when it was looked at last. `open`: receivers have no row of this version yet.
CREATE TABLE followed (
    user_id INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    round   INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    cause   TEXT NOT NULL,
    login   TEXT,
    open    INTEGER NOT NULL
);
CREATE INDEX followed_open ON followed (at) WHERE open;

-- What each receiver has confirmed of each user: the version, and in `state` what it was told with it, as JSON; in `tried` what it
-- may know since, of deliveries that it did not confirm. `due`: not before this moment.
CREATE TABLE delivered (
    receiver  TEXT NOT NULL,
    user_id   INTEGER NOT NULL,
    wanted    INTEGER NOT NULL,
    confirmed INTEGER NOT NULL,
    state     TEXT,
    tried     TEXT,
    due       INTEGER NOT NULL,
    failures  INTEGER NOT NULL,
    fault     TEXT,
    PRIMARY KEY (receiver, user_id)
) WITHOUT ROWID;
CREATE INDEX delivered_due ON delivered (receiver, due) WHERE confirmed < wanted;
CREATE INDEX delivered_by_user ON delivered (user_id);
