-- revision grows with every change, so that a caller can say which state he means.
ALTER TABLE orgs ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;

ALTER TABLE formations ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;

-- How many documents the log has. Code of the day before does not count, so whoever
-- takes a formation up counts anew.
ALTER TABLE formations ADD COLUMN documents BIGINT NOT NULL DEFAULT 0;

UPDATE formations SET documents = (SELECT count(*) FROM documents d WHERE d.org_id = formations.org_id AND d.app_id = formations.app_id);

-- Sync sessions, as whoever watches the formation last counted them.
ALTER TABLE formations ADD COLUMN sessions BIGINT NOT NULL DEFAULT 0;

-- What is left of destroyed formations, to be swept.
CREATE INDEX formations_destroyed ON formations (org_id, app_id) WHERE state = 'destroyed';

-- Outlives the organization, like the audit trail. statement is what the authority
-- signed; signature is empty where it could not.
CREATE TABLE destructions (
    org_id         TEXT   NOT NULL,
    destruction_id TEXT   NOT NULL,
    destroyed_at   BIGINT NOT NULL,
    statement      BYTEA  NOT NULL,
    signature      BYTEA  NOT NULL,
    PRIMARY KEY (org_id, destruction_id)
);

-- Enrollments of an organization, counted by the minute.
CREATE TABLE enrollment_counts (
    org_id TEXT   NOT NULL REFERENCES orgs (org_id) ON DELETE CASCADE,
    minute BIGINT NOT NULL,
    count  BIGINT NOT NULL,
    PRIMARY KEY (org_id, minute)
);

-- Requests that carry an Idempotency-Key. org_id is empty where the path names no
-- organization. claim is the id of the request that carries it out; done says that it
-- had an effect; answer is sealed by the key, of which only a hash is kept.
CREATE TABLE idempotency (
    org_id     TEXT    NOT NULL,
    key_hash   BYTEA   NOT NULL,
    digest     BYTEA   NOT NULL,
    claim      TEXT    NOT NULL,
    done       BOOLEAN NOT NULL,
    answer     BYTEA,
    created_at BIGINT  NOT NULL,
    until      BIGINT  NOT NULL,
    PRIMARY KEY (org_id, key_hash)
);

CREATE INDEX idempotency_until ON idempotency (org_id, until)
