-- Challenges that were answered. One that was not is nowhere.
CREATE TABLE enrollment_challenges (
    org_id TEXT   NOT NULL,
    app_id TEXT   NOT NULL,
    nonce  TEXT   NOT NULL,
    until  BIGINT NOT NULL,
    PRIMARY KEY (org_id, app_id, nonce),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

CREATE INDEX enrollment_challenges_until ON enrollment_challenges (until);

-- Nodes that asked to be let in and had to wait for an administrator, with what was
-- decided before (tier to reasons), and what became of it. secret is a keyed hash.
CREATE TABLE enrollments (
    org_id        TEXT    NOT NULL,
    app_id        TEXT    NOT NULL,
    enrollment_id TEXT    NOT NULL,
    subject       BYTEA   NOT NULL,
    node_id       TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    tier          INTEGER NOT NULL,
    permissions   INTEGER NOT NULL,
    validity      BIGINT  NOT NULL,
    credentials   BOOLEAN NOT NULL,
    rule          TEXT    NOT NULL,
    admitted_by   TEXT    NOT NULL,
    evidence      TEXT    NOT NULL,
    provider      TEXT    NOT NULL,
    claimant      TEXT    NOT NULL,
    digest        TEXT    NOT NULL,
    vouched_at    BIGINT  NOT NULL,
    session_end   BIGINT  NOT NULL,
    refresh_at    BIGINT  NOT NULL,
    proved_at     BIGINT  NOT NULL,
    secret        BYTEA   NOT NULL,
    created_at    BIGINT  NOT NULL,
    expires_at    BIGINT  NOT NULL,
    decided_at    BIGINT  NOT NULL,
    decided_by    TEXT    NOT NULL,
    note          TEXT    NOT NULL,
    serial        TEXT    NOT NULL,
    PRIMARY KEY (org_id, app_id, enrollment_id),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

-- A key waits once.
CREATE UNIQUE INDEX enrollments_waiting ON enrollments (org_id, app_id, subject) WHERE state = 'pending';

CREATE INDEX enrollments_key ON enrollments (org_id, app_id, subject, enrollment_id);

CREATE INDEX enrollments_state ON enrollments (org_id, app_id, state, enrollment_id);

-- What an identity provider said of whom a node's key belongs to, when it was last
-- asked. subject is the key in hexadecimal; refresh_at is 0 if nobody need ask again.
CREATE TABLE vouchers (
    org_id      TEXT   NOT NULL,
    app_id      TEXT   NOT NULL,
    subject     TEXT   NOT NULL,
    provider    TEXT   NOT NULL,
    claimant    TEXT   NOT NULL,
    digest      TEXT   NOT NULL,
    vouched_at  BIGINT NOT NULL,
    session_end BIGINT NOT NULL,
    refresh_at  BIGINT NOT NULL,
    PRIMARY KEY (org_id, app_id, subject),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

CREATE INDEX vouchers_claimant ON vouchers (org_id, provider, claimant);

-- Who is with the organization no more, whatever their provider still says.
CREATE TABLE offboarded (
    org_id   TEXT   NOT NULL REFERENCES orgs (org_id) ON DELETE CASCADE,
    provider TEXT   NOT NULL,
    claimant TEXT   NOT NULL,
    at       BIGINT NOT NULL,
    by_whom  TEXT   NOT NULL,
    reason   TEXT   NOT NULL,
    PRIMARY KEY (org_id, provider, claimant)
);
