-- Who signs a formation's certificates. Without sealed the key is in the genesis.
CREATE TABLE authorities (
    org_id       TEXT   NOT NULL,
    app_id       TEXT   NOT NULL,
    authority_id TEXT   NOT NULL,
    public_key   BYTEA  NOT NULL,
    state        TEXT   NOT NULL,
    sealed       BYTEA,
    reason       TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    activated_at BIGINT NOT NULL,
    replaced_at  BIGINT NOT NULL,
    ended_at     BIGINT NOT NULL,
    PRIMARY KEY (org_id, app_id, authority_id),
    UNIQUE (org_id, app_id, public_key),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

CREATE UNIQUE INDEX authorities_sole ON authorities (org_id, app_id, state) WHERE state IN ('active', 'next');

INSERT INTO authorities (org_id, app_id, authority_id, public_key, state, reason, created_at, activated_at, replaced_at, ended_at)
    SELECT org_id, app_id, 'genesis', authority_key, 'active', '', created_at, created_at, 0, 0 FROM formations;

-- One row for each formation, which whoever changes what is below has locked.
-- issued is the last certificate's number, nodes how many rows of that table are
-- the formation's, revision grows with each revocation.
CREATE TABLE ledgers (
    org_id   TEXT   NOT NULL,
    app_id   TEXT   NOT NULL,
    issued   BIGINT NOT NULL,
    nodes    BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (org_id, app_id),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

INSERT INTO ledgers (org_id, app_id, issued, nodes, revision) SELECT org_id, app_id, 0, 0, 0 FROM formations;

-- Whose name a node id is, and until when. proved_at is the newest proof of its
-- key that was taken.
CREATE TABLE nodes (
    org_id    TEXT   NOT NULL,
    app_id    TEXT   NOT NULL,
    node_id   TEXT   NOT NULL,
    subject   BYTEA  NOT NULL,
    until     BIGINT NOT NULL,
    proved_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, app_id, node_id),
    UNIQUE (org_id, app_id, subject),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

-- Every certificate there ever was. revoked_at is 0 for one that was not revoked.
CREATE TABLE certificates (
    org_id       TEXT    NOT NULL,
    app_id       TEXT    NOT NULL,
    number       BIGINT  NOT NULL,
    serial       TEXT    NOT NULL,
    subject      BYTEA   NOT NULL,
    node_id      TEXT    NOT NULL,
    tier         INTEGER NOT NULL,
    permissions  INTEGER NOT NULL,
    issued_at    BIGINT  NOT NULL,
    expires_at   BIGINT  NOT NULL,
    renew_after  BIGINT  NOT NULL,
    authority_id TEXT    NOT NULL,
    encoded      BYTEA   NOT NULL,
    issued_by    TEXT    NOT NULL,
    why          TEXT    NOT NULL,
    rule         TEXT    NOT NULL,
    admitted_by  TEXT    NOT NULL,
    replaces     TEXT    NOT NULL,
    replaced_by  TEXT    NOT NULL,
    revoked_at   BIGINT  NOT NULL,
    revoked_by   TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    PRIMARY KEY (org_id, app_id, number),
    UNIQUE (org_id, app_id, serial),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

CREATE INDEX certificates_node ON certificates (org_id, app_id, node_id, number);

CREATE INDEX certificates_expiry ON certificates (org_id, app_id, expires_at, number, authority_id) WHERE revoked_at = 0;

CREATE INDEX certificates_revoked ON certificates (org_id, app_id, number) WHERE revoked_at <> 0;

CREATE INDEX certificates_revoked_keys ON certificates (org_id, app_id, subject) WHERE revoked_at <> 0;

-- The newest signed list of each formation. good_until is when an entry of it
-- expires, so that a shorter one will do.
CREATE TABLE revocation_lists (
    org_id       TEXT   NOT NULL,
    app_id       TEXT   NOT NULL,
    version      BIGINT NOT NULL,
    revision     BIGINT NOT NULL,
    authority_id TEXT   NOT NULL,
    made_at      BIGINT NOT NULL,
    good_until   BIGINT NOT NULL,
    encoded      BYTEA  NOT NULL,
    PRIMARY KEY (org_id, app_id),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
)
