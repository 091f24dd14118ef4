-- Version 5. Pending events for receivers, which are not state. Added to the tables of version 1.

-- `data` is JSON, with numbers and names and nothing personal. `due`: not before this moment.
CREATE TABLE loginsync.events (
    id       text COLLATE "C" PRIMARY KEY,
    receiver text COLLATE "C" NOT NULL,
    at       bigint NOT NULL,
    kind     text NOT NULL,
    user_id  bigint,
    data     text NOT NULL,
    due      bigint NOT NULL,
    failures bigint NOT NULL,
    fault    text
);
CREATE INDEX events_of ON loginsync.events (receiver, at, id);
