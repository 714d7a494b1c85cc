-- Who vouches for an organization's devices and people; sealed holds the provider's
-- secrets.
CREATE TABLE identity_providers (
    org_id      TEXT    NOT NULL REFERENCES orgs (org_id) ON DELETE CASCADE,
    provider_id TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    label       TEXT    NOT NULL,
    issuer      TEXT    NOT NULL,
    enabled     BOOLEAN NOT NULL,
    config      TEXT    NOT NULL,
    sealed      BYTEA,
    version     BIGINT  NOT NULL,
    created_at  BIGINT  NOT NULL,
    updated_at  BIGINT  NOT NULL,
    PRIMARY KEY (org_id, provider_id)
);

-- An issuer is one provider's, since it is how a proof finds its way. What SAML calls a
-- provider is another name than what tokens call it, though some servers have one for
-- both.
CREATE UNIQUE INDEX identity_providers_by_issuer ON identity_providers (org_id, issuer, (CASE kind WHEN 'saml' THEN 1 ELSE 0 END));

-- Proofs that may be used once and were, each by a digest over its issuer and id. They
-- are not the provider's, so that one which is deleted and made again has not forgotten.
CREATE TABLE used_proofs (
    org_id TEXT   NOT NULL REFERENCES orgs (org_id) ON DELETE CASCADE,
    proof  BYTEA  NOT NULL,
    until  BIGINT NOT NULL,
    PRIMARY KEY (org_id, proof)
);

CREATE INDEX used_proofs_by_end ON used_proofs (org_id, until);
