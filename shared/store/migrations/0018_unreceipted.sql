-- How many positions before the cursor the receipts do not count yet.
ALTER TABLE cursors ADD COLUMN unreceipted BIGINT NOT NULL DEFAULT 0;
