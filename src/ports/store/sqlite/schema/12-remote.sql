-- Version 12. The ids by which receivers know users and groups. Added to the tables of version 9.

-- `kind` 0: a user, whose number is in `local`; 1: a group, by name. What has one id at a receiver is one here.
CREATE TABLE remote (
    receiver TEXT NOT NULL,
    kind     INTEGER NOT NULL,
    local    TEXT NOT NULL,
    remote   TEXT NOT NULL,
    PRIMARY KEY (receiver, kind, local)
) WITHOUT ROWID;
CREATE UNIQUE INDEX remote_once ON remote (receiver, kind, remote);
CREATE INDEX remote_of ON remote (kind, local);
