-- How many things the last comparison found to be wrong.
ALTER TABLE cursors ADD COLUMN found BIGINT NOT NULL DEFAULT 0
