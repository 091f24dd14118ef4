-- Version 4. The ids by which receivers know users and groups. Added to the tables of version 1.

-- `kind` 0: a user, whose number is in `local`; 1: a group, by name. What has one id at a receiver is one here.
CREATE TABLE loginsync.remote (
    receiver text COLLATE "C" NOT NULL,
    kind     bigint NOT NULL,
    local    text COLLATE "C" NOT NULL,
    remote   text COLLATE "C" NOT NULL,
    PRIMARY KEY (receiver, kind, local)
);
CREATE UNIQUE INDEX remote_once ON loginsync.remote (receiver, kind, remote);
CREATE INDEX remote_of ON loginsync.remote (kind, local);
