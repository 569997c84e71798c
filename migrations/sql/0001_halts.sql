-- Halts: what a person keeps from going on, a store or a schedule, until it is released or its time is over.
-- Locks and plans: README.md beside this file.
--
-- No step of a halted store is handed out. The head of a halted schedule is marked, and no claim looks at what is
-- marked. Neither changes what the steps are at: attempts, due times and holds stay as they were.

CREATE TABLE outbox.halts (
    what  text        COLLATE "C" PRIMARY KEY,  -- authz, temporal, or a schedule id (which has -- in it)
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    until timestamptz NOT NULL DEFAULT 'infinity',  -- the first claim after that ends the halt
    who   text        NOT NULL,
    why   text        NOT NULL
);
CREATE INDEX halts_until ON outbox.halts (until);

-- Who applies nothing now: the consumers whose stores are halted. A repair needs both stores.
CREATE FUNCTION outbox.halted_stores() RETURNS text[] LANGUAGE sql STABLE
RETURN ARRAY(SELECT DISTINCT c.consumer FROM outbox.halts h
              CROSS JOIN LATERAL unnest(ARRAY[h.what, 'both']) AS c (consumer)
              WHERE h.what = ANY (ARRAY['authz', 'temporal']));

-- Mark the lane's head, or take the mark away. A settle that is about to make another one the head has this one
-- locked: it is waited for, and then the other one is seen.
CREATE FUNCTION outbox.mark_head(schedule text, as_halted boolean, moment timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
DECLARE
    a_head CONSTANT text := 'head';
BEGIN
    LOOP
        UPDATE outbox.queue q
           SET halted = as_halted,
               -- What is on its way to a worker is none of a worker's yet.
               state = CASE WHEN as_halted AND q.state = 'dispatched' THEN 'ready' ELSE q.state END,
               -- Claims may have stopped to look where it was due.
               due_at = CASE WHEN NOT as_halted THEN greatest(q.due_at, moment)
                             WHEN q.state = 'dispatched' THEN moment
                             ELSE q.due_at END
         WHERE q.schedule_id = schedule AND q.place = a_head AND q.halted <> as_halted;
        EXIT WHEN NOT EXISTS (SELECT FROM outbox.queue q
                               WHERE q.schedule_id = schedule AND q.place = a_head AND q.halted <> as_halted);
    END LOOP;
END;
$$;

-- End the halts whose time is over; claims do it. A lane whose head is being settled right now is left for the next.
CREATE FUNCTION outbox.end_halts(moment timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    over   text;
    a_head CONSTANT text := 'head';
BEGIN
    FOR over IN SELECT h.what FROM outbox.halts h WHERE h.until <= moment ORDER BY h.until LIMIT 1000 LOOP
        PERFORM FROM outbox.queue q WHERE q.schedule_id = over AND q.place = a_head FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND AND EXISTS (
            SELECT FROM outbox.queue q WHERE q.schedule_id = over AND q.place = a_head);
        PERFORM outbox.mark_head(over, false, moment);
        PERFORM outbox.record('release', h.who, 'its time is over', h.what, NULL, 'released', 'by itself', NULL)
           FROM outbox.halts h WHERE h.what = over;
        DELETE FROM outbox.halts h WHERE h.what = over;
    END LOOP;
END;
$$;

-- Halt a store or a schedule, and answer how many steps of it are under way still: these go on. Claims come before
-- it or after it; a settle that began before may lease one more step.
CREATE FUNCTION outbox.hold(target text, ends_at timestamptz, operator text, why text)
RETURNS TABLE (action text, reason text, under_way bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    moment  timestamptz;
    found_  outbox.halts;
    a_store CONSTANT boolean := target IN ('authz', 'temporal');
BEGIN
    PERFORM outbox.require_read_committed();
    IF NOT a_store AND NOT EXISTS (SELECT FROM outbox.intents i WHERE i.schedule_id = target) THEN
        RETURN QUERY SELECT 'refused', 'there is no intent of such a schedule', 0::bigint;
        RETURN;
    END IF;
    LOCK TABLE outbox.turn_to_claim IN SHARE UPDATE EXCLUSIVE MODE;
    moment := clock_timestamp();
    PERFORM outbox.end_halts(moment);
    INSERT INTO outbox.halts (what, since, until, who, why)
    VALUES (target, moment, coalesce(ends_at, 'infinity'), operator, why) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO found_ FROM outbox.halts h WHERE h.what = target;
        RETURN QUERY SELECT 'refused', format('%s halted it already (%s): release it first', found_.who, found_.why),
                            0::bigint;
        RETURN;
    END IF;
    IF a_store THEN
        UPDATE outbox.queue q SET state = 'ready', due_at = moment
         WHERE q.intent_id IN (
            SELECT w.intent_id FROM outbox.queue w WHERE w.consumer IN (target, 'both') AND w.state = 'dispatched'
             ORDER BY w.intent_id FOR UPDATE);
    ELSE
        PERFORM outbox.mark_head(target, true, moment);
    END IF;
    RETURN QUERY
    SELECT 'held', format('no step of %s is begun until it is released', target), count(*)
      FROM outbox.queue q
     WHERE q.state = 'leased' AND q.due_at > moment
       AND CASE WHEN a_store THEN q.consumer IN (target, 'both') ELSE q.schedule_id = target END;
END;
$$;

-- Let a store or a schedule go on.
CREATE FUNCTION outbox.release(target text) RETURNS TABLE (action text, reason text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
#variable_conflict use_column
BEGIN
    PERFORM outbox.require_read_committed();
    LOCK TABLE outbox.turn_to_claim IN SHARE UPDATE EXCLUSIVE MODE;
    DELETE FROM outbox.halts h WHERE h.what = target;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'refused', 'nobody halted it';
        RETURN;
    END IF;
    PERFORM outbox.mark_head(target, false, clock_timestamp());
    NOTIFY outbox_work;
    RETURN QUERY SELECT 'released', format('%s goes on', target);
END;
$$;
