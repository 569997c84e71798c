-- What is live is defined by its create and the updates since.
-- Locks and plans: README.md beside this file.

ALTER TABLE outbox.lanes
    ADD COLUMN definition jsonb,  -- what is live is defined so; null: as its intent asked for
    ADD COLUMN revision   uuid;   -- the update that changed the definition last, if one did
ALTER TABLE outbox.queue
    ADD COLUMN alone boolean NOT NULL DEFAULT false;  -- an update whose run was refused: it is tried by itself
ALTER TABLE outbox.events
    ADD COLUMN superseded_by uuid;  -- of an update: the later one that was applied with it, as one
