-- What goes to a sink: changes of formations, or its organization's audit trail.
ALTER TABLE sinks ADD COLUMN source TEXT NOT NULL DEFAULT 'changes';

-- Every entry of the trail up to seq has been delivered.
CREATE TABLE audit_cursors (
    org_id          TEXT   NOT NULL,
    sink_id         TEXT   NOT NULL,
    seq             BIGINT NOT NULL,
    attempts        BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    last_error      TEXT   NOT NULL,
    PRIMARY KEY (org_id, sink_id),
    FOREIGN KEY (org_id, sink_id) REFERENCES sinks (org_id, sink_id) ON DELETE CASCADE
);
