-- Operations: what operators do is written down in the transaction that does it: who, when, why, what came of it.
-- The role operators log in with may act through these functions alone, so nothing is done past the list.
-- Locks and plans: README.md beside this file.

CREATE TABLE outbox.operations (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    action      text        NOT NULL,
    who         text        NOT NULL,                       -- as the caller says
    role        name        NOT NULL DEFAULT session_user,  -- as the database knows
    why         text,
    target      text        NOT NULL COLLATE "C",  -- a schedule id; or a store, or the outbox
    intent_id   uuid,                  -- of the schedule's, what it was about
    outcome     text        NOT NULL,  -- refused, or what was done
    detail      text        NOT NULL,
    made        uuid,                  -- the intent that came of it
    items       bigint      NOT NULL DEFAULT 1,  -- how many intents or schedules it was about
    CONSTRAINT operations_action CHECK (action IN (
        'replay', 'discard', 'repair', 'adopt', 'reclaim', 'hold', 'release', 'prune', 'start', 'abort'))
);
CREATE INDEX operations_target ON outbox.operations (target, id);

CREATE FUNCTION outbox.record(
    action text, operator text, why text, target text, intent uuid, outcome text, detail text, made uuid)
RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO outbox.operations (action, who, why, target, intent_id, outcome, detail, made)
    VALUES (action, operator, why, target, intent, outcome, detail, made) RETURNING id;
END;

-- Replay one intent; rehearsed, nothing is written.
CREATE FUNCTION outbox.replay_by(operator text, why text, intent uuid, forced boolean, rehearsed boolean)
RETURNS TABLE (action text, reason text, new_intent_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    SELECT r.* INTO action, reason, new_intent_id FROM outbox.replay(intent, forced, rehearsed) AS r;
    IF NOT rehearsed THEN
        PERFORM outbox.record('replay', operator, why, i.schedule_id, i.id, action, reason, new_intent_id)
           FROM outbox.intents i WHERE i.id = intent;
    END IF;
    RETURN NEXT;
END;
$$;

-- End a parked intent.
CREATE FUNCTION outbox.discard_by(operator text, why text, intent uuid) RETURNS TABLE (action text, reason text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    SELECT d.* INTO action, reason FROM outbox.discard(intent, why) AS d;
    PERFORM outbox.record('discard', operator, why, i.schedule_id, i.id, action, reason, NULL)
       FROM outbox.intents i WHERE i.id = intent;
    RETURN NEXT;
END;
$$;

-- Ask for a lane's repair, or for an adoption.
CREATE FUNCTION outbox.repair_by(operator text, why text, schedule text, adopting boolean) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked uuid := outbox.request_repair(schedule, adopting);
BEGIN
    PERFORM outbox.record(CASE WHEN adopting THEN 'adopt' ELSE 'repair' END, operator, why, schedule, asked, 'asked',
                          'an intent of its lane, in its turn', asked);
    RETURN asked;
END;
$$;

-- Ask for a schedule to be entered again that the ledger doesn't know any more.
CREATE FUNCTION outbox.reclaim_by(operator text, why text, schedule text, stamp uuid, definition jsonb, by jsonb)
RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked uuid := outbox.request_reclaim(schedule, stamp, definition, by);
BEGIN
    PERFORM outbox.record('reclaim', operator, why, schedule, asked, 'asked', format('under its old id %s', stamp), asked);
    RETURN asked;
END;
$$;

-- Halt a store or a schedule.
CREATE FUNCTION outbox.hold_by(operator text, why text, target text, ends_at timestamptz)
RETURNS TABLE (action text, reason text, under_way bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    SELECT h.* INTO action, reason, under_way FROM outbox.hold(target, ends_at, operator, why) AS h;
    PERFORM outbox.record('hold', operator, why, target, NULL, action, reason, NULL);
    RETURN NEXT;
END;
$$;

-- Let it go on.
CREATE FUNCTION outbox.release_by(operator text, why text, target text) RETURNS TABLE (action text, reason text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    SELECT r.* INTO action, reason FROM outbox.release(target) AS r;
    PERFORM outbox.record('release', operator, why, target, NULL, action, reason, NULL);
    RETURN NEXT;
END;
$$;

-- Begin a prune: one operation, to which its batches are added.
CREATE FUNCTION outbox.begin_prune(operator text, why text, older_than timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    begun bigint := outbox.record('prune', operator, why, 'outbox', NULL, 'pruned',
                                  format('what ended before %s', older_than), NULL);
BEGIN
    UPDATE outbox.operations o SET items = 0 WHERE o.id = begun;
    RETURN begun;
END;
$$;

-- Delete a batch of intents as far as they may go; returns how many went.
CREATE FUNCTION outbox.prune_batch(operation bigint, older_than timestamptz, intents uuid[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone integer;
BEGIN
    PERFORM FROM outbox.operations o
      WHERE o.id = operation AND o.action = 'prune' AND o.role = session_user FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'operation % is no prune of this role', operation;
    END IF;
    gone := outbox.prune(older_than, intents);
    UPDATE outbox.operations o SET items = o.items + gone WHERE o.id = operation;
    RETURN gone;
END;
$$;

-- Forget operations of before, and replays in waves; as many operations as that went. What is pruned takes what was
-- done to it along.
CREATE FUNCTION outbox.prune_operations(older_than timestamptz, most integer) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH ended AS (
        DELETE FROM outbox.replays r WHERE r.state <> 'running' AND coalesce(r.ended_at, r.planned_at) < older_than
    ), gone AS (
        DELETE FROM outbox.operations o WHERE o.id IN (
            SELECT f.id FROM outbox.operations f WHERE f.at < older_than ORDER BY f.id LIMIT most)
        RETURNING o.id
    )
    SELECT count(*) FROM gone;
END;
