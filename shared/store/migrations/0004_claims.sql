-- What only one sink of a kind may have, whosever it is: a file's path, for
-- instance. NULL claims nothing, and both engines let it stand any number of times.
ALTER TABLE sinks ADD COLUMN claim TEXT;

CREATE UNIQUE INDEX sinks_claim ON sinks (kind, claim);
