-- Version 8: what a provider needs to know which of its sessions we end.

ALTER TABLE sessions ADD COLUMN name_qualifier TEXT;
ALTER TABLE sessions ADD COLUMN sp_name_qualifier TEXT;
-- The ID token that the session began with. Sealed with the cookie keys.
ALTER TABLE sessions ADD COLUMN hint BLOB;
