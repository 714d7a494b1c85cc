-- Logins that were ended before their time, and what of a login may come only once.
-- name is a hash: of a session, of the provider's session, of a subject, of a login
-- that was begun, of a notice of a log-out. A row is needed until what it names could
-- not be used any more in any case.
CREATE TABLE ended_logins (
    name     BYTEA  NOT NULL PRIMARY KEY,
    ended_at BIGINT NOT NULL,
    until    BIGINT NOT NULL
);

CREATE INDEX ended_logins_by_until ON ended_logins (until);
