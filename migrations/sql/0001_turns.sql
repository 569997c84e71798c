-- Turns: what one session does at a time, it does while it holds the lock on one of these; and under which isolation.
-- Locks and plans: README.md beside this file.
--
-- An advisory lock would be anybody's: whoever may connect can take it, and keep it. These can be locked only by who
-- has the right to change them (LOCK TABLE asks for it), which is given to nobody.
-- They are views of nothing, as there is nothing to vacuum, to dump or to read of them: none of that waits for a turn.
-- SHARE UPDATE EXCLUSIVE is the weakest lock that excludes itself. It leaves no trace: no WAL, no transaction id.
CREATE VIEW outbox.turn_to_claim AS SELECT;
CREATE VIEW outbox.turn_to_publish AS SELECT;

-- Each statement of a claim or a settle has to see what others have committed before it. Workers ask for that where
-- the session is theirs; behind a pooler of transactions it is the role's setting that counts.
CREATE FUNCTION outbox.require_read_committed() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the outbox works under READ COMMITTED alone, and this transaction is %',
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'OB003',
                  HINT = format('ALTER ROLE %I SET default_transaction_isolation = ''read committed''', session_user);
    END IF;
END;
$$;
