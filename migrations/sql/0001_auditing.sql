-- Auditing: what an audit reads of the ledger. Nothing here locks or writes.
-- Locks and plans: README.md beside this file.

-- The schedule ids that follow, in the order of their bytes. A lane is whatever an intent names, or what is
-- live still after its intents were pruned.
CREATE FUNCTION outbox.lanes_after(after text, prefix text, most integer) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    (SELECT DISTINCT i.schedule_id FROM outbox.intents i
      WHERE i.schedule_id > after AND starts_with(i.schedule_id, prefix)
      ORDER BY i.schedule_id LIMIT most)
    UNION
    (SELECT l.schedule_id FROM outbox.lanes l
      WHERE l.schedule_id > after AND starts_with(l.schedule_id, prefix)
      ORDER BY l.schedule_id LIMIT most)
    ORDER BY schedule_id LIMIT most;
END;

-- What the ledger says of these lanes; names that it doesn't know are left out.
CREATE FUNCTION outbox.audited_lanes(names text[])
RETURNS TABLE (schedule_id text, live_intent uuid, adopted boolean, creator jsonb, ran_out boolean,
               skipped boolean, busy boolean, former_creators jsonb[])
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
BEGIN ATOMIC
    SELECT n.name, l.live_intent, coalesce(c.kind = 'repair', false), c.creator,
           coalesce((c.request->>'end_at')::timestamptz <= clock_timestamp(), false),
           EXISTS (SELECT FROM outbox.events e WHERE e.intent_id = l.live_intent
                      AND e.type = 'schedule.registration_skipped'),
           EXISTS (SELECT FROM outbox.intents i JOIN outbox.queue q ON q.intent_id = i.id
                    WHERE i.schedule_id = n.name AND q.place <> 'deferred'),
           ARRAY(SELECT DISTINCT f.creator FROM outbox.intents f
                  WHERE f.schedule_id = n.name AND f.id IS DISTINCT FROM l.live_intent
                    AND EXISTS (SELECT FROM outbox.events e
                                 WHERE e.intent_id = f.id AND e.type = 'schedule.registered'))
      FROM unnest(names) AS n (name)
      LEFT JOIN outbox.lanes l ON l.schedule_id = n.name
      LEFT JOIN outbox.intents c ON c.id = l.live_intent
     WHERE l.schedule_id IS NOT NULL
        OR EXISTS (SELECT FROM outbox.intents i WHERE i.schedule_id = n.name);
END;

-- Whose these stamps are, of those that are intents of the ledger.
CREATE FUNCTION outbox.lane_of(stamps uuid[]) RETURNS TABLE (id uuid, schedule_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT i.id, i.schedule_id FROM outbox.intents i WHERE i.id = ANY (stamps);
END;
