-- Publishing: events go out to other systems, and off the list of those that are still to go.
-- Locks and plans: README.md beside this file.

-- The turn of these intents has come: the requests of those that were chosen for the first time are to be published
-- now, in the order of the lane.
CREATE FUNCTION outbox.publish_requests(chosen uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO outbox.publications (event_id, intent_id)
    SELECT e.id, e.intent_id FROM outbox.queue q
      JOIN outbox.events e ON e.intent_id = ANY (ARRAY[q.intent_id]) AND e.type = q.event_type
     WHERE q.intent_id = ANY (chosen) AND q.lease_number = 1;
END;
$$;

-- Take the turn to publish, until the transaction ends; false: another publisher has it.
CREATE FUNCTION outbox.take_turn_to_publish() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE outbox.turn_to_publish IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END;
$$;

-- The next events to publish, in order: for the publisher whose turn it is. It has its turn in another transaction.
-- In the same one, no table that is read here could be altered until the broker has answered.
CREATE FUNCTION outbox.unpublished(most integer)
RETURNS TABLE (
    id bigint, event_id bigint, intent_id uuid, schedule_id text, kind text, type text, at timestamptz,
    consumer text, attempt integer, error_code text, error_message text, trace jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT p.id, e.id, e.intent_id, e.schedule_id, i.kind::text, e.type::text, e.at, e.consumer::text, e.attempt,
           e.error_code, e.error_message, i.trace
      FROM (SELECT * FROM outbox.publications ORDER BY id LIMIT most) AS p
      JOIN outbox.events e ON e.intent_id = ANY (ARRAY[p.intent_id]) AND e.id = p.event_id
      JOIN outbox.intents i ON i.id = ANY (ARRAY[e.intent_id])
     ORDER BY p.id;
END;
$$;

-- Take what has been published off the list, in a transaction of its own. It asks nobody whose turn it is: what the
-- broker has acknowledged has been published, though its publisher was cut off meanwhile.
CREATE FUNCTION outbox.published(ids bigint[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM outbox.publications p WHERE p.id = ANY (ids);
END;
