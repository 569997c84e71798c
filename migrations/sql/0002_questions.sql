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

CREATE TYPE outbox.run AS (run uuid[], changes text[], definition jsonb);

-- What an update at the head of its lane stands for: itself and the updates right behind it, up to a bound. What the
-- definition becomes by all of them, and which fields they name. Not in SQL, which would be planned into every claim.
CREATE FUNCTION outbox.run_of(head uuid, schedule text, alone boolean, definition jsonb) RETURNS outbox.run
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    ids    uuid[];
    found  outbox.run;
BEGIN
    ids := ARRAY[head] || ARRAY(
        SELECT b.intent_id FROM (
            SELECT f.intent_id, f.position,
                   bool_and(f.event_type = 'schedule.update.requested' AND NOT f.alone)
                       OVER (ORDER BY f.position) AS joins
              FROM (SELECT q.* FROM outbox.queue q
                     WHERE q.place = 'behind' AND q.schedule_id = schedule AND NOT run_of.alone
                     ORDER BY q.position LIMIT 500) AS f) AS b
         WHERE b.joins ORDER BY b.position);
    SELECT ids,
           ARRAY(SELECT DISTINCT k.name FROM outbox.intents i
                  CROSS JOIN LATERAL jsonb_object_keys(i.request) AS k (name)
                  WHERE i.id = ANY (ids) AND k.name NOT IN ('agent_id', 'name') ORDER BY k.name),
           (SELECT outbox.revision(d.request ORDER BY d.number)
              FROM (SELECT run_of.definition AS request, 0 AS number
                    UNION ALL
                    SELECT i.request, r.number FROM unnest(ids) WITH ORDINALITY AS r (id, number)
                      JOIN outbox.intents i ON i.id = ANY (ARRAY[r.id])) AS d)
      INTO found;
    RETURN found;
END;
$$;

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
                    CASE WHEN q.looking AND q.cause_code = 'discarded' THEN b.definition ELSE (u.update).definition END
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
