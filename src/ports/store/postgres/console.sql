-- Who is signed in to the console: links that were not used yet (`link` 1), and sessions. `operator` is JSON.
CREATE TABLE loginsync.console (
    digest     bytea PRIMARY KEY,
    link       bigint NOT NULL,
    operator   text NOT NULL,
    created_at bigint NOT NULL,
    idle_until bigint NOT NULL,
    expires_at bigint NOT NULL
);
