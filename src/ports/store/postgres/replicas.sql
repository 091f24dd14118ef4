-- Version 6. Several versions of loginsync side by side: the newest version of records that a replica reads, and the oldest version
-- of this schema whose loginsync may run on it. A later one that only adds says an older version than its own.
ALTER TABLE loginsync.replicas ADD COLUMN IF NOT EXISTS reads bigint NOT NULL DEFAULT 1;
ALTER TABLE loginsync.schema ADD COLUMN IF NOT EXISTS oldest bigint NOT NULL DEFAULT 6;
