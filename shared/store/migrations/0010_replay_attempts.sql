-- How often in a row the replay has failed at the change that it stands before.
ALTER TABLE replays ADD COLUMN attempts BIGINT NOT NULL DEFAULT 0
