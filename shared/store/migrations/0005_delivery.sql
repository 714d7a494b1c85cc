-- trace is the W3C traceparent of the message that brought the change; bytes is
-- what the log weighs up to and with it, so that a lag in bytes is a difference.
ALTER TABLE changes ADD COLUMN trace TEXT NOT NULL DEFAULT '';

ALTER TABLE changes ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;

ALTER TABLE formations ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;

-- retry and filter are JSON, empty for the operator's ladder and for everything.
-- revision grows with each change of the sink: what was delivered under another
-- one is not recorded.
ALTER TABLE sinks ADD COLUMN retry TEXT NOT NULL DEFAULT '';

ALTER TABLE sinks ADD COLUMN filter TEXT NOT NULL DEFAULT '';

ALTER TABLE sinks ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;

-- Nothing up to start_position is owed to the sink. The others say how the last
-- comparison of what was acknowledged with the log came out.
ALTER TABLE cursors ADD COLUMN start_position BIGINT NOT NULL DEFAULT 0;

ALTER TABLE cursors ADD COLUMN compared_at BIGINT NOT NULL DEFAULT 0;

ALTER TABLE cursors ADD COLUMN compared TEXT NOT NULL DEFAULT '';

-- Everything up to purge_to is given up.
ALTER TABLE held ADD COLUMN purge_to BIGINT NOT NULL DEFAULT 0;

-- What each attempt on a held document came to.
CREATE TABLE attempts (
    org_id     TEXT   NOT NULL,
    sink_id    TEXT   NOT NULL,
    held_id    TEXT   NOT NULL,
    attempt_id TEXT   NOT NULL,
    seq        BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    status     TEXT   NOT NULL,
    error      TEXT   NOT NULL,
    excerpt    TEXT   NOT NULL,
    PRIMARY KEY (org_id, sink_id, held_id, attempt_id),
    FOREIGN KEY (org_id, sink_id, held_id) REFERENCES held (org_id, sink_id, held_id) ON DELETE CASCADE
);

-- What a sink has acknowledged of a document: seq and hash of the last event, how
-- many there were, and a digest over all of them in their order. Nothing up to
-- floor is owed.
CREATE TABLE receipts (
    org_id      TEXT   NOT NULL,
    sink_id     TEXT   NOT NULL,
    app_id      TEXT   NOT NULL,
    document_id TEXT   NOT NULL,
    floor       BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    hash        BYTEA  NOT NULL,
    count       BIGINT NOT NULL,
    digest      BYTEA  NOT NULL,
    PRIMARY KEY (org_id, sink_id, app_id, document_id),
    FOREIGN KEY (org_id, sink_id, app_id) REFERENCES cursors (org_id, sink_id, app_id) ON DELETE CASCADE
);

-- What an operator gave up: skipped (a marker went in its place) or purged.
CREATE TABLE omissions (
    org_id      TEXT   NOT NULL,
    sink_id     TEXT   NOT NULL,
    app_id      TEXT   NOT NULL,
    document_id TEXT   NOT NULL,
    from_seq    BIGINT NOT NULL,
    to_seq      BIGINT NOT NULL,
    kind        TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (org_id, sink_id, app_id, document_id, from_seq),
    FOREIGN KEY (org_id, sink_id, app_id) REFERENCES cursors (org_id, sink_id, app_id) ON DELETE CASCADE
);

-- Events sent once more because somebody asked. position is how far it has come.
CREATE TABLE replays (
    org_id          TEXT   NOT NULL,
    sink_id         TEXT   NOT NULL,
    replay_id       TEXT   NOT NULL,
    app_id          TEXT   NOT NULL,
    document_id     TEXT   NOT NULL,
    actor           TEXT   NOT NULL,
    from_position   BIGINT NOT NULL,
    to_position     BIGINT NOT NULL,
    rate            BIGINT NOT NULL,
    state           TEXT   NOT NULL,
    position        BIGINT NOT NULL,
    total           BIGINT NOT NULL,
    delivered       BIGINT NOT NULL,
    refused         BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    last_error      TEXT   NOT NULL,
    created_at      BIGINT NOT NULL,
    ended_at        BIGINT NOT NULL,
    PRIMARY KEY (org_id, sink_id, replay_id),
    FOREIGN KEY (org_id, sink_id, app_id) REFERENCES cursors (org_id, sink_id, app_id) ON DELETE CASCADE
);

-- How far a consumer that fetches by itself has said to have come.
CREATE TABLE consumers (
    org_id     TEXT   NOT NULL,
    app_id     TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    position   BIGINT NOT NULL,
    format     TEXT   NOT NULL,
    filter     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    PRIMARY KEY (org_id, app_id, name),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
)
