-- Version 2. What the whole mapping language needs: leases, holds, denies that end, recorded claims, the brake.

-- The last login that decided on everything it kept: leases count from here.
ALTER TABLE watermarks ADD COLUMN renewed_at INTEGER;
-- A digest of what `recorded_claims` holds, so that a login that brings the same writes nothing there.
ALTER TABLE watermarks ADD COLUMN claims_digest BLOB;

-- Where the lease of this grant counts from instead: it was kept by a login that could not renew it.
ALTER TABLE grants ADD COLUMN lease_from INTEGER;
-- The brake has stopped its revocation.
ALTER TABLE grants ADD COLUMN held_at INTEGER;
CREATE INDEX grants_held ON grants (provider, kind, name) WHERE held_at IS NOT NULL;
CREATE INDEX grants_frozen ON grants (provider, lease_from) WHERE lease_from IS NOT NULL;

ALTER TABLE denies ADD COLUMN until INTEGER;

-- The claims of a user's last login through a provider that some mapping reads, as JSON.
CREATE TABLE recorded_claims (
    user_id  INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provider TEXT NOT NULL,
    claims   TEXT NOT NULL,
    PRIMARY KEY (user_id, provider)
) WITHOUT ROWID;

-- Losses of a target through a provider within the running window, and its mapped members at the window's start.
CREATE TABLE brakes (
    provider TEXT NOT NULL,
    kind     INTEGER NOT NULL,
    name     TEXT NOT NULL,
    began_at INTEGER NOT NULL,
    members  INTEGER NOT NULL,
    losses   INTEGER NOT NULL,
    PRIMARY KEY (provider, kind, name)
) WITHOUT ROWID;
