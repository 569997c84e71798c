-- Questions: what workers ask of the ledger.
-- Locks and plans: README.md beside this file.

-- What a worker needs to know of steps.
CREATE FUNCTION outbox.steps(intents uuid[])
RETURNS TABLE (
    intent_id uuid, schedule_id text, kind text, event_type text, lease_number bigint, attempt integer,
    strikes integer, unknown boolean, cause_code text, cause_message text, looking boolean,
    patience float8, request jsonb, creator jsonb, trace jsonb, live_intent uuid,
    live_adopted boolean, ran_out boolean)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT q.intent_id, q.schedule_id, i.kind::text, q.event_type::text, q.lease_number, q.attempts, q.strikes,
           q.unknown_until IS NOT NULL, q.cause_code, q.cause_message, q.looking, q.patience,
           asked.request, asked.creator, i.trace, l.live_intent,
           EXISTS (SELECT FROM outbox.intents a WHERE a.id = ANY (ARRAY[l.live_intent]) AND a.kind = 'repair'),
           -- By this clock, as audits judge it, and by no worker's.
           i.kind = 'repair' AND coalesce((asked.request->>'end_at')::timestamptz <= clock_timestamp(), false)
      FROM outbox.queue q
      JOIN outbox.intents i ON i.id = ANY (ARRAY[q.intent_id])
      LEFT JOIN outbox.lanes l ON l.schedule_id = ANY (ARRAY[q.schedule_id])
      -- A repair brings about what the live intent asked for; where none is, it is made in the last one's name.
      -- An adoption and a reclaim have requests of their own.
      JOIN outbox.intents asked ON asked.id = ANY (ARRAY[CASE
           WHEN i.kind = 'repair' AND i.request = '{}' THEN coalesce(
               l.live_intent,
               (SELECT last.id FROM outbox.intents last
                 WHERE last.schedule_id = i.schedule_id AND last.kind <> 'repair'
                 ORDER BY last.position DESC LIMIT 1),
               i.id)
           ELSE i.id END])
     WHERE q.intent_id = ANY (intents);
END;

-- What a stamp found on a schedule is: the lane's live one, an ended intent of the lane (debris), or foreign.
CREATE FUNCTION outbox.standing(schedule text, stamp text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE
        WHEN stamp !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN 'foreign'
        WHEN EXISTS (SELECT FROM outbox.lanes l
                      WHERE l.schedule_id = schedule AND l.live_intent = stamp::uuid) THEN 'live'
        WHEN EXISTS (SELECT FROM outbox.intents i
                      WHERE i.id = stamp::uuid AND i.schedule_id = schedule
                        AND NOT EXISTS (SELECT FROM outbox.queue q WHERE q.intent_id = i.id)) THEN 'ended'
        ELSE 'foreign' END;
END;

-- Whether anything is left that goes on without a person: what is parked or halted does not, nor what stands behind
-- it, nor does a repair whose time has not come, or that the asking worker does not do.
CREATE FUNCTION outbox.pending(repairs boolean) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH halted AS MATERIALIZED (SELECT outbox.halted_stores() AS stores)
    SELECT EXISTS (SELECT FROM outbox.queue q WHERE q.place = 'incoming' AND q.consumer <> ALL (h.stores))
        OR EXISTS (SELECT FROM outbox.queue q
                    WHERE q.place = 'head' AND q.state <> 'parked' AND NOT q.halted AND q.consumer <> ALL (h.stores))
        OR (repairs AND EXISTS (SELECT FROM outbox.queue q
                                 WHERE q.place = 'deferred' AND q.due_at <= clock_timestamp()
                                   AND q.consumer <> ALL (h.stores)))
      FROM halted h;
END;
