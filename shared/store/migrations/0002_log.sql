CREATE TABLE tickets (
    org_id     TEXT   NOT NULL,
    app_id     TEXT   NOT NULL,
    ticket_id  TEXT   NOT NULL,
    hash       BYTEA  NOT NULL UNIQUE,
    peer_id    TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, app_id, ticket_id),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

-- seq and last_hash are those of the newest settled change.
CREATE TABLE documents (
    org_id      TEXT   NOT NULL,
    app_id      TEXT   NOT NULL,
    document_id TEXT   NOT NULL,
    seq         BIGINT NOT NULL,
    last_hash   BYTEA  NOT NULL,
    PRIMARY KEY (org_id, app_id, document_id),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

-- The log. deps is the hashes one after the other, 32 bytes each.
CREATE TABLE changes (
    org_id      TEXT    NOT NULL,
    app_id      TEXT    NOT NULL,
    position    BIGINT  NOT NULL,
    document_id TEXT    NOT NULL,
    seq         BIGINT  NOT NULL,
    hash        BYTEA   NOT NULL,
    prev        BYTEA,
    concurrent  BOOLEAN NOT NULL,
    deps        BYTEA   NOT NULL,
    actor       TEXT    NOT NULL,
    actor_seq   BIGINT  NOT NULL,
    start_op    BIGINT  NOT NULL,
    author_time BIGINT  NOT NULL,
    message     TEXT    NOT NULL,
    raw         BYTEA   NOT NULL,
    patches     BYTEA   NOT NULL,
    received_at BIGINT  NOT NULL,
    origin      TEXT    NOT NULL,
    PRIMARY KEY (org_id, app_id, position),
    UNIQUE (org_id, app_id, document_id, seq),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);
