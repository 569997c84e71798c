-- Publishing: the next events, with what superseded them. A publisher from before calls outbox.unpublished.
-- Locks and plans: README.md beside this file.

-- The next events to publish, in order: for the publisher whose turn it is. It has its turn in another transaction.
-- In the same one, no table that is read here could be altered until the broker has answered.
CREATE FUNCTION outbox.to_publish(most integer)
RETURNS TABLE (
    id bigint, event_id bigint, intent_id uuid, schedule_id text, kind text, type text, at timestamptz,
    consumer text, attempt integer, error_code text, error_message text, trace jsonb, superseded_by uuid)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT p.id, e.id, e.intent_id, e.schedule_id, i.kind::text, e.type::text, e.at, e.consumer::text, e.attempt,
           e.error_code, e.error_message, i.trace, e.superseded_by
      FROM (SELECT * FROM outbox.publications ORDER BY id LIMIT most) AS p
      JOIN outbox.events e ON e.intent_id = ANY (ARRAY[p.intent_id]) AND e.id = p.event_id
      JOIN outbox.intents i ON i.id = ANY (ARRAY[e.intent_id])
     ORDER BY p.id;
END;
$$;
