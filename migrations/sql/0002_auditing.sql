-- Auditing: what an audit reads of the ledger.
-- Locks and plans: README.md beside this file.

DROP FUNCTION outbox.audited_lanes(text[]);

-- What the ledger says of these lanes; names that it doesn't know are left out.
CREATE FUNCTION outbox.audited_lanes(names text[])
RETURNS TABLE (schedule_id text, live_intent uuid, adopted boolean, creator jsonb, ran_out boolean,
               skipped boolean, busy boolean, former_creators jsonb[], revision uuid, defined boolean)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
BEGIN ATOMIC
    SELECT n.name, l.live_intent, coalesce(c.kind = 'repair', false), c.creator,
           coalesce((coalesce(l.definition, c.request)->>'end_at')::timestamptz <= clock_timestamp(), false),
           EXISTS (SELECT FROM outbox.events e WHERE e.intent_id = l.live_intent
                      AND e.type = 'schedule.registration_skipped'),
           EXISTS (SELECT FROM outbox.intents i JOIN outbox.queue q ON q.intent_id = i.id
                    WHERE i.schedule_id = n.name AND q.place <> 'deferred'),
           ARRAY(SELECT DISTINCT f.creator FROM outbox.intents f
                  WHERE f.schedule_id = n.name AND f.id IS DISTINCT FROM l.live_intent
                    AND EXISTS (SELECT FROM outbox.events e
                                 WHERE e.intent_id = f.id AND e.type = 'schedule.registered')),
           l.revision, l.definition IS NOT NULL
      FROM unnest(names) AS n (name)
      LEFT JOIN outbox.lanes l ON l.schedule_id = n.name
      LEFT JOIN outbox.intents c ON c.id = l.live_intent
     WHERE l.schedule_id IS NOT NULL
        OR EXISTS (SELECT FROM outbox.intents i WHERE i.schedule_id = n.name);
END;
