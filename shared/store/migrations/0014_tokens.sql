-- Tokens of programs that call the API of one organization. hash is an HMAC: without
-- the key it helps neither to guess a token nor to add one.
CREATE TABLE service_tokens (
    org_id          TEXT    NOT NULL REFERENCES orgs (org_id) ON DELETE CASCADE,
    token_id        TEXT    NOT NULL,
    hash            BYTEA   NOT NULL UNIQUE,
    label           TEXT    NOT NULL,
    role            TEXT    NOT NULL,
    every_formation BOOLEAN NOT NULL,
    scopes          TEXT    NOT NULL,
    created_at      BIGINT  NOT NULL,
    created_by      TEXT    NOT NULL,
    expires_at      BIGINT  NOT NULL,
    revoked_at      BIGINT  NOT NULL DEFAULT 0,
    last_used_at    BIGINT  NOT NULL DEFAULT 0,
    PRIMARY KEY (org_id, token_id)
);

-- The formations that a token is kept to. A line goes with its formation, so that a
-- formation made later under the same name is not opened by it.
CREATE TABLE service_token_formations (
    org_id   TEXT NOT NULL,
    token_id TEXT NOT NULL,
    app_id   TEXT NOT NULL,
    PRIMARY KEY (org_id, token_id, app_id),
    FOREIGN KEY (org_id, token_id) REFERENCES service_tokens (org_id, token_id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

CREATE INDEX service_token_formations_by_app ON service_token_formations (org_id, app_id);

-- Tokens that let peers into a formation. uses never exceeds max_uses: one statement
-- compares and counts.
CREATE TABLE enrollment_tokens (
    org_id      TEXT   NOT NULL,
    app_id      TEXT   NOT NULL,
    token_id    TEXT   NOT NULL,
    hash        BYTEA  NOT NULL UNIQUE,
    label       TEXT   NOT NULL,
    max_uses    BIGINT NOT NULL,
    uses        BIGINT NOT NULL DEFAULT 0,
    tier        BIGINT NOT NULL,
    permissions BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    created_by  TEXT   NOT NULL,
    expires_at  BIGINT NOT NULL,
    revoked_at  BIGINT NOT NULL DEFAULT 0,
    reason      TEXT   NOT NULL DEFAULT '',
    used_at     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (org_id, app_id, token_id),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);
