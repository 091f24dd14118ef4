-- Version 2. Pending deliveries to receivers. Added to the tables of version 1.

-- The version of each user whom receivers follow, raised with every change of what they hold; by which row of the audit, and by which
-- login. `round`: of the receivers when it was looked at last. `open`: receivers have no row of this version yet.
CREATE TABLE loginsync.followed (
    user_id bigint PRIMARY KEY,
    version bigint NOT NULL,
    round   bigint NOT NULL,
    at      bigint NOT NULL,
    cause   text NOT NULL,
    login   text COLLATE "C",
    open    boolean NOT NULL
) WITH (fillfactor = 75);
CREATE INDEX followed_open ON loginsync.followed (at) WHERE open;

-- What each receiver has confirmed of each user: the version, and in `state` what it was told with it, as JSON; in `tried` what it
-- may know since, of deliveries that it did not confirm. `due`: not before this moment.
CREATE TABLE loginsync.delivered (
    receiver  text COLLATE "C" NOT NULL,
    user_id   bigint NOT NULL,
    wanted    bigint NOT NULL,
    confirmed bigint NOT NULL,
    state     text,
    tried     text,
    due       bigint NOT NULL,
    failures  bigint NOT NULL,
    fault     text,
    PRIMARY KEY (receiver, user_id)
) WITH (fillfactor = 75);
CREATE INDEX delivered_due ON loginsync.delivered (receiver, due) WHERE confirmed < wanted;
CREATE INDEX delivered_by_user ON loginsync.delivered (user_id);
