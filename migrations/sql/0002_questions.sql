-- Questions: what workers ask of the ledger, and what is live is defined as.
-- Locks and plans: README.md beside this file.

DROP FUNCTION outbox.steps(uuid[]);

-- A definition, changed by what an update asks for. A schedule has one kind of times and one of arguments: naming the
-- one takes the other away. A null stays: it clears what a schedule has that the outbox did not create.
CREATE FUNCTION outbox.revised(definition jsonb, changes jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (definition - array_remove(ARRAY[
        CASE WHEN changes->>'cron_expression' IS NOT NULL THEN 'interval_seconds' END,
        CASE WHEN changes->>'interval_seconds' IS NOT NULL THEN 'cron_expression' END,
        CASE WHEN changes->>'workflow_params' IS NOT NULL THEN 'workflow_args' END,
        CASE WHEN changes->>'workflow_args' IS NOT NULL THEN 'workflow_params' END], NULL)) || changes;

CREATE AGGREGATE outbox.revision(jsonb) (SFUNC = outbox.revised, STYPE = jsonb, INITCOND = '{}');

-- What an update at the head of its lane stands for: itself and the updates right behind it, up to a bound. What the
-- definition becomes by all of them, and which fields they name.
CREATE FUNCTION outbox.run_of(head uuid, schedule text, alone boolean, definition jsonb)
RETURNS TABLE (run uuid[], changes text[], definition jsonb)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH run AS MATERIALIZED (
        SELECT head AS intent_id, 0 AS number
        UNION ALL
        SELECT b.intent_id, b.number FROM (
            SELECT f.intent_id, row_number() OVER w AS number,
                   bool_and(f.event_type = 'schedule.update.requested' AND NOT f.alone) OVER w AS joins
              FROM (SELECT q.* FROM outbox.queue q
                     WHERE q.place = 'behind' AND q.schedule_id = schedule AND NOT run_of.alone
                     ORDER BY q.position LIMIT 500) AS f
            WINDOW w AS (ORDER BY f.position)) AS b
         WHERE b.joins
    ), asked AS MATERIALIZED (
        SELECT r.intent_id, r.number, i.request
          FROM run r JOIN outbox.intents i ON i.id = ANY (ARRAY[r.intent_id])
    )
    SELECT (SELECT array_agg(a.intent_id ORDER BY a.number) FROM asked a),
           ARRAY(SELECT DISTINCT k.name FROM asked a CROSS JOIN LATERAL jsonb_object_keys(a.request) AS k (name)
                  WHERE k.name NOT IN ('agent_id', 'name') ORDER BY k.name),
           (SELECT outbox.revision(d.request ORDER BY d.number)
              FROM (SELECT run_of.definition AS request, -1 AS number
                    UNION ALL SELECT a.request, a.number FROM asked a) AS d);
END;

-- What a worker needs to know of steps.
CREATE FUNCTION outbox.steps(intents uuid[])
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
                    -- What is to stand; where an operator discards it, what was before.
                    CASE WHEN q.looking AND q.cause_code = 'discarded' THEN b.definition ELSE u.definition END
                WHEN 'repair' THEN b.definition
                ELSE i.request END,
           CASE i.kind WHEN 'update' THEN i.creator ELSE asked.creator END, i.trace, l.live_intent,
           EXISTS (SELECT FROM outbox.intents a WHERE a.id = ANY (ARRAY[l.live_intent]) AND a.kind = 'repair'),
           -- By this clock, as audits judge it, and by no worker's.
           i.kind = 'repair' AND coalesce((b.definition->>'end_at')::timestamptz <= clock_timestamp(), false),
           u.run, u.changes, CASE WHEN i.kind IN ('update', 'repair') THEN l.revision END
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
      LEFT JOIN LATERAL (
        SELECT r.* FROM outbox.run_of(q.intent_id, q.schedule_id, q.alone, b.definition) AS r
         WHERE i.kind = 'update') AS u ON true
     WHERE q.intent_id = ANY (intents);
END;
