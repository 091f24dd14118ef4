-- The second format of audit rows: `mac` covers time, event, detail, login, user number (`user_id`) and the hash of the personal
-- fields (`person`); `seal` links it to the row before. `key` is the id of the key, NULL for rows that only have hashes. Rows
-- of the first format keep their seals; the first row after them seals how many they are.
ALTER TABLE audit ADD COLUMN format INTEGER NOT NULL DEFAULT 1;
ALTER TABLE audit ADD COLUMN login TEXT;
ALTER TABLE audit ADD COLUMN mac BLOB;
ALTER TABLE audit ADD COLUMN key BLOB;

-- A process of an older version may still run. Its rows would break the chain, so its logins are refused instead.
CREATE TRIGGER audit_rows_have_a_mac BEFORE INSERT ON audit WHEN NEW.mac IS NULL
BEGIN
    SELECT RAISE(ABORT, 'a newer loginsync has upgraded this database: stop the older process');
END;
