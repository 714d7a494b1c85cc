-- Key pairs by which receivers know an organization. sealed is the private half.
-- retires_at is 0 for the one that is not replaced.
CREATE TABLE signing_keys (
    org_id     TEXT   NOT NULL REFERENCES orgs (org_id) ON DELETE CASCADE,
    key_id     TEXT   NOT NULL,
    public     BYTEA  NOT NULL,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    retires_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, key_id)
)
