-- The public keys of issuers as they were last published, for processes that start while
-- an issuer does not answer. They are nobody's; name is a digest over the issuer and
-- the authorities by which it is met.
CREATE TABLE issuer_keys (
    name       BYTEA  NOT NULL PRIMARY KEY,
    key_set    TEXT   NOT NULL,
    fetched_at BIGINT NOT NULL
);
