-- The Kafka wire: a relay dispatches due steps, workers take what reached them.
-- Locks and plans: README.md beside this file.

-- Mark due steps as dispatched, to be taken within dispatch_seconds; what isn't is dispatched again, as no
-- attempt at it was made. No more of a consumer's than bounds[consumer] are out at once, nor more than most
-- in one call.
CREATE FUNCTION outbox.dispatch(
    bounds jsonb, most integer, rates jsonb, dispatch_seconds float8, late_write_seconds float8)
RETURNS TABLE (
    intent_id uuid, schedule_id text, event_type text, consumer text, lease_number bigint, trace jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    limits jsonb;
    chosen uuid[];
BEGIN
    -- Claims exclude each other: what is counted here is still so when more are added to it.
    LOCK TABLE outbox.turn_to_claim IN SHARE UPDATE EXCLUSIVE MODE;
    SELECT jsonb_object_agg(b.key, greatest(0, least(most, b.value::integer - (
               SELECT count(*) FROM outbox.queue q
                WHERE q.state = 'dispatched' AND q.consumer = b.key AND q.due_at > clock_timestamp()))))
      INTO limits FROM jsonb_each_text(bounds) AS b;
    chosen := outbox.choose(limits, rates, false, dispatch_seconds, dispatch_seconds, late_write_seconds);
    RETURN QUERY
    SELECT q.intent_id, q.schedule_id, q.event_type::text, q.consumer::text, q.lease_number, i.trace
      FROM outbox.queue q JOIN outbox.intents i ON i.id = ANY (ARRAY[q.intent_id])
     WHERE q.intent_id = ANY (chosen);
END;
$$;

-- Take dispatched steps, as [{"intent_id": …, "lease_number": …}]: an attempt at each begins now, and its
-- deadline with it. What has been taken already, or dispatched anew since, is not among those returned.
CREATE FUNCTION outbox.take(dispatches jsonb, lease_seconds float8, step_timeout_seconds float8)
RETURNS TABLE (
    intent_id uuid, schedule_id text, kind text, event_type text, lease_number bigint, attempt integer,
    strikes integer, unknown boolean, cause_code text, cause_message text, looking boolean,
    patience float8, request jsonb, creator jsonb, trace jsonb, live_intent uuid,
    live_adopted boolean, ran_out boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    taken uuid[] := outbox.lock_dispatched(dispatches);
BEGIN
    UPDATE outbox.queue q
       SET state = 'leased',
           attempts = q.attempts + 1,
           deadline = clock_timestamp() + make_interval(secs => step_timeout_seconds),
           due_at = clock_timestamp() + make_interval(secs => lease_seconds)
     WHERE q.intent_id = ANY (taken);
    RETURN QUERY SELECT * FROM outbox.steps(taken);
END;
$$;

-- Of these dispatched steps, those that could be taken still.
CREATE FUNCTION outbox.dispatched(dispatches jsonb) RETURNS TABLE (intent_id uuid, lease_number bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    dispatched CONSTANT text := 'dispatched';
BEGIN
    RETURN QUERY
    SELECT q.intent_id, q.lease_number
      FROM jsonb_to_recordset(dispatches) AS d (intent_id uuid, lease_number bigint)
      JOIN outbox.queue q ON q.intent_id = ANY (ARRAY[d.intent_id]) AND q.lease_number = d.lease_number
     WHERE q.state = dispatched;
END;
$$;

-- Give back dispatched steps that could not be published: they are due again at once. Returns how many.
CREATE FUNCTION outbox.recall(dispatches jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
DECLARE
    given_back uuid[] := outbox.lock_dispatched(dispatches);
BEGIN
    UPDATE outbox.queue q SET state = 'ready', due_at = clock_timestamp()
     WHERE q.intent_id = ANY (given_back);
    RETURN cardinality(given_back);
END;
$$;

-- Lock the steps that are still dispatched under these lease numbers, in the order of their ids.
CREATE FUNCTION outbox.lock_dispatched(dispatches jsonb) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dispatched CONSTANT text := 'dispatched';
BEGIN
    PERFORM outbox.require_read_committed();
    RETURN coalesce((SELECT array_agg(m.intent_id) FROM (
        SELECT q.intent_id
          FROM jsonb_to_recordset(dispatches) AS d (intent_id uuid, lease_number bigint)
          JOIN outbox.queue q ON q.intent_id = ANY (ARRAY[d.intent_id]) AND q.lease_number = d.lease_number
         WHERE q.state = dispatched
         ORDER BY q.intent_id
           FOR UPDATE OF q) AS m), '{}');
END;
$$;
