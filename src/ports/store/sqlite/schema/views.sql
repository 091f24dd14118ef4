-- For queries by hand: one row for each grant, with all that is known of it.
CREATE VIEW grants AS
SELECT users.id AS user_id, namespace, subject, iif(targets.kind = 0, 'group', 'role') AS kind, targets.name AS name,
       coalesce(value ->> 'provider', '') AS provider, coalesce(value ->> 'mapping', '') AS mapping,
       value ->> 'granted_at' AS granted_at, coalesce(value ->> 'granted_by', '') AS granted_by,
       value ->> 'as_admin' AS as_admin, value ->> 'lease_from' AS lease_from, value ->> 'held_at' AS held_at
FROM records
JOIN users ON users.id = records.user_id
JOIN json_each(records.record, '$.holdings')
JOIN targets ON targets.number = value ->> 'target'
WHERE NOT targets.gone;

-- Through which providers users have logged in: of when the newest token is, and from when leases count.
CREATE VIEW logins AS
SELECT users.id AS user_id, namespace, subject, key AS provider, value ->> 'issued_at' AS issued_at,
       value ->> 'last_login_at' AS last_login_at, value ->> 'renewed_at' AS renewed_at
FROM users JOIN json_each(users.logins, '$.logins');

-- What enabled users effectively hold: groups, roles, and roles through groups by the rules that were adopted last.
CREATE VIEW memberships AS
WITH direct AS (
    SELECT DISTINCT holdings.user_id AS user_id, targets.kind AS kind, targets.name AS name
    FROM holdings JOIN targets ON targets.number = holdings.target
    WHERE holdings.kind < 2 AND NOT targets.gone
      AND NOT EXISTS (SELECT 1 FROM denied WHERE denied.user_id = holdings.user_id AND denied.kind = targets.kind
                      AND denied.name = targets.name)
      AND NOT EXISTS (SELECT 1 FROM work JOIN json_each(work.item, '$.mappings')
                      WHERE value = lower(hex(holdings.mapping)))
), every AS (
    SELECT user_id, kind, name FROM direct
    UNION
    SELECT user_id, 1, carried.value FROM direct
    JOIN settings ON settings.name = 'adopted'
    JOIN json_each(CAST(settings.value AS TEXT), '$.roles_of') AS groups ON groups.key = direct.name
    JOIN json_each(groups.value) AS carried
    WHERE direct.kind = 0
      AND NOT EXISTS (SELECT 1 FROM denied WHERE denied.user_id = direct.user_id AND denied.kind = 1
                      AND denied.name = carried.value)
)
SELECT users.id AS user_id, namespace, subject, iif(kind = 0, 'group', 'role') AS kind, name
FROM every JOIN users ON users.id = every.user_id WHERE NOT users.disabled;

-- A process of an older version may still run. Its rows would break the chain, so its logins are refused instead.
CREATE TRIGGER audit_rows_have_a_mac BEFORE INSERT ON audit WHEN NEW.mac IS NULL
BEGIN
    SELECT RAISE(ABORT, 'a newer loginsync has upgraded this database: stop the older process');
END;
