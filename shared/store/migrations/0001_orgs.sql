-- Times are microseconds since the Unix epoch, JSON is text: both engines keep them alike.
CREATE TABLE orgs (
    org_id       TEXT   NOT NULL PRIMARY KEY,
    display_name TEXT   NOT NULL,
    quotas       TEXT   NOT NULL,
    created_at   BIGINT NOT NULL
);

-- position is the last number given out in the formation's log.
CREATE TABLE formations (
    org_id        TEXT   NOT NULL REFERENCES orgs (org_id),
    app_id        TEXT   NOT NULL,
    mesh_id       TEXT   NOT NULL,
    policy        TEXT   NOT NULL,
    state         TEXT   NOT NULL,
    authority_key BYTEA  NOT NULL,
    created_at    BIGINT NOT NULL,
    position      BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (org_id, app_id)
);

CREATE TABLE genesis (
    org_id TEXT  NOT NULL,
    app_id TEXT  NOT NULL,
    sealed BYTEA NOT NULL,
    PRIMARY KEY (org_id, app_id),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

-- No reference to orgs: the audit trail outlives what it tells of.
CREATE TABLE audit (
    org_id     TEXT   NOT NULL,
    audit_id   TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    actor      TEXT   NOT NULL,
    action     TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    request_id TEXT   NOT NULL,
    detail     TEXT   NOT NULL,
    PRIMARY KEY (org_id, audit_id)
);

-- Events that were decided in a transaction and wait to be published.
CREATE TABLE outbox (
    outbox_id  TEXT   NOT NULL PRIMARY KEY,
    event      TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);

-- Rows are never deleted: an epoch that began again at 1 would let an old holder write.
CREATE TABLE leases (
    name    TEXT   NOT NULL PRIMARY KEY,
    holder  TEXT   NOT NULL,
    address TEXT   NOT NULL,
    epoch   BIGINT NOT NULL,
    until   BIGINT NOT NULL
);
