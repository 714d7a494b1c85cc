-- seq and hash are an entry's place in its organization's chain; 0 and empty until
-- it is linked. Entries from before there was a chain wait for that like any other.
ALTER TABLE audit ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;

ALTER TABLE audit ADD COLUMN hash TEXT NOT NULL DEFAULT '';

-- The second guard of the order: no number is given out twice, whoever links.
CREATE UNIQUE INDEX audit_linked ON audit (org_id, seq) WHERE seq > 0;

CREATE INDEX audit_waiting ON audit (org_id, audit_id) WHERE seq = 0;

-- The end of each chain: what the next entry is linked to. since is where the
-- organization that there is now, or was last, began. Nothing here refers to orgs:
-- a chain goes on where it ended if a name is used again.
CREATE TABLE audit_chains (
    org_id TEXT   NOT NULL PRIMARY KEY,
    seq    BIGINT NOT NULL,
    hash   TEXT   NOT NULL,
    since  BIGINT NOT NULL,
    signed BIGINT NOT NULL
);

CREATE TABLE audit_heads (
    org_id    TEXT   NOT NULL,
    seq       BIGINT NOT NULL,
    hash      TEXT   NOT NULL,
    at        BIGINT NOT NULL,
    public    BYTEA  NOT NULL,
    signature BYTEA  NOT NULL,
    PRIMARY KEY (org_id, seq)
)
