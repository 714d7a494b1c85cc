-- The rules by which an organization admits, every version that is still kept; the
-- highest is the one that counts. scope is the formation that they are for, or empty
-- for all; app_id is the same for the database to look after.
CREATE TABLE policies (
    org_id   TEXT   NOT NULL REFERENCES orgs (org_id) ON DELETE CASCADE,
    scope    TEXT   NOT NULL,
    app_id   TEXT,
    version  BIGINT NOT NULL,
    document TEXT   NOT NULL,
    digest   TEXT   NOT NULL,
    made_at  BIGINT NOT NULL,
    made_by  TEXT   NOT NULL,
    note     TEXT   NOT NULL,
    restores BIGINT NOT NULL,
    PRIMARY KEY (org_id, scope, version),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);

CREATE INDEX policies_by_app ON policies (org_id, app_id);

-- The last decisions of an organization, to be asked again of other rules. Claims are
-- redacted.
CREATE TABLE decisions (
    org_id      TEXT    NOT NULL,
    decision_id TEXT    NOT NULL,
    app_id      TEXT    NOT NULL,
    at          BIGINT  NOT NULL,
    allowed     BOOLEAN NOT NULL,
    claims      TEXT    NOT NULL,
    request     TEXT    NOT NULL,
    decision    TEXT    NOT NULL,
    PRIMARY KEY (org_id, decision_id),
    FOREIGN KEY (org_id, app_id) REFERENCES formations (org_id, app_id) ON DELETE CASCADE
);
