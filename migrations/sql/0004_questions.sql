-- Questions: what workers ask of the ledger, with what a look at updates may have to bring back.
-- Locks and plans: README.md beside this file.

-- What a worker needs to know of steps.
CREATE OR REPLACE FUNCTION outbox.steps(intents uuid[])
RETURNS TABLE (
    intent_id uuid, schedule_id text, kind text, event_type text, lease_number bigint, attempt integer,
    strikes integer, unknown boolean, cause_code text, cause_message text, looking boolean,
    patience float8, request jsonb, creator jsonb, trace jsonb, live_intent uuid,
    live_adopted boolean, ran_out boolean, run uuid[], changes text[], revision uuid)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT q.intent_id, q.schedule_id, i.kind::text, q.event_type::text, q.lease_number, q.attempts, q.strikes,
           q.unknown_until IS NOT NULL, q.cause_code, q.cause_message, q.looking, q.patience,
           CASE i.kind WHEN 'update' THEN
                    -- What is to stand; of a look what was before, which it brings back.
                    CASE WHEN q.looking THEN b.definition ELSE (u.update).definition END
                WHEN 'repair' THEN b.definition
                ELSE i.request END,
           CASE i.kind WHEN 'update' THEN i.creator ELSE asked.creator END, i.trace, l.live_intent,
           EXISTS (SELECT FROM outbox.intents a WHERE a.id = ANY (ARRAY[l.live_intent]) AND a.kind = 'repair'),
           -- By this clock, as audits judge it, and by no worker's.
           i.kind = 'repair' AND coalesce((b.definition->>'end_at')::timestamptz <= clock_timestamp(), false),
           (u.update).run, (u.update).changes, CASE WHEN i.kind IN ('update', 'repair') THEN l.revision END
      FROM outbox.queue q
      JOIN outbox.intents i ON i.id = ANY (ARRAY[q.intent_id])
      LEFT JOIN outbox.lanes l ON l.schedule_id = ANY (ARRAY[q.schedule_id])
      -- An update and a repair are about what the live intent asked for; where none is, a repair is made in the
      -- name of the lane's last one. An adoption and a reclaim have requests of their own.
      JOIN outbox.intents asked ON asked.id = ANY (ARRAY[CASE
           WHEN i.kind = 'update' THEN coalesce(l.live_intent, i.id)
           WHEN i.kind = 'repair' AND i.request = '{}' THEN coalesce(
               l.live_intent,
               (SELECT last.id FROM outbox.intents last
                 WHERE last.schedule_id = i.schedule_id AND last.kind IN ('create', 'delete')
                 ORDER BY last.position DESC LIMIT 1),
               i.id)
           ELSE i.id END])
     CROSS JOIN LATERAL (
        SELECT CASE WHEN asked.id = l.live_intent THEN coalesce(l.definition, asked.request)
                    ELSE asked.request END AS definition) AS b
     CROSS JOIN LATERAL (
        SELECT CASE WHEN i.kind = 'update'
                    THEN outbox.run_of(q.intent_id, q.schedule_id, q.alone, b.definition) END AS update OFFSET 0) AS u
     WHERE q.intent_id = ANY (intents);
END;
