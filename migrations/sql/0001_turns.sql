-- Turns: what one session does at a time, it does while it holds the lock on one of these.
-- Locks and plans: README.md beside this file.
--
-- An advisory lock would be anybody's: whoever may connect can take it, and keep it. These can be locked only by who
-- has the right to change them (LOCK TABLE asks for it), which is given to nobody.
-- They are views of nothing, as there is nothing to vacuum, to dump or to read of them: none of that waits for a turn.
-- SHARE UPDATE EXCLUSIVE is the weakest lock that excludes itself. It leaves no trace: no WAL, no transaction id.
CREATE VIEW outbox.turn_to_claim AS SELECT;
CREATE VIEW outbox.turn_to_publish AS SELECT;
