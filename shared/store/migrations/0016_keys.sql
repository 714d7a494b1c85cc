-- The key that an organization has of its own, by its id.
CREATE TABLE org_keys (
    org_id TEXT   NOT NULL PRIMARY KEY REFERENCES orgs (org_id) ON DELETE CASCADE,
    key_id TEXT   NOT NULL,
    set_at BIGINT NOT NULL
);

-- When the last attempt to open a genesis failed for good; 0 if it did not.
ALTER TABLE genesis ADD COLUMN shut_at BIGINT NOT NULL DEFAULT 0;

-- How far each run of re-wrapping has come: everything of all organizations up to
-- at_org, and of that one everything up to the record, is done. scope is the
-- organization that it is about, or empty.
CREATE TABLE rewraps (
    run_id     TEXT   NOT NULL PRIMARY KEY,
    scope      TEXT   NOT NULL,
    at_org     TEXT   NOT NULL,
    at_kind    TEXT   NOT NULL,
    at_app     TEXT   NOT NULL,
    at_id      TEXT   NOT NULL,
    counts     TEXT   NOT NULL,
    started_at BIGINT NOT NULL,
    saved_at   BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL
)
