-- formations is a JSON list of names, or ["*"]; sealed holds the sink's secrets.
CREATE TABLE sinks (
    org_id     TEXT   NOT NULL REFERENCES orgs (org_id),
    sink_id    TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    formations TEXT   NOT NULL,
    config     TEXT   NOT NULL,
    sealed     BYTEA,
    format     TEXT   NOT NULL,
    start_at   TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, sink_id)
);

-- Everything up to position is delivered, or its document is in held.
CREATE TABLE cursors (
    org_id          TEXT   NOT NULL,
    sink_id         TEXT   NOT NULL,
    app_id          TEXT   NOT NULL,
    position        BIGINT NOT NULL,
    attempts        BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    last_error      TEXT   NOT NULL,
    PRIMARY KEY (org_id, sink_id, app_id),
    FOREIGN KEY (org_id, sink_id) REFERENCES sinks (org_id, sink_id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

-- A document that a sink does not take now: nothing from from_seq on has been
-- delivered. State is retrying, parked or redriving.
CREATE TABLE held (
    org_id          TEXT   NOT NULL,
    sink_id         TEXT   NOT NULL,
    app_id          TEXT   NOT NULL,
    document_id     TEXT   NOT NULL,
    held_id         TEXT   NOT NULL,
    from_seq        BIGINT NOT NULL,
    hash            BYTEA  NOT NULL,
    state           TEXT   NOT NULL,
    attempts        BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    last_error      TEXT   NOT NULL,
    excerpt         TEXT   NOT NULL,
    since           BIGINT NOT NULL,
    skip_seq        BIGINT NOT NULL,
    PRIMARY KEY (org_id, sink_id, app_id, document_id),
    UNIQUE (org_id, sink_id, held_id),
    FOREIGN KEY (org_id, sink_id, app_id) REFERENCES cursors (org_id, sink_id, app_id) ON DELETE CASCADE
);
