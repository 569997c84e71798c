-- The Kafka wire: a relay dispatches due steps, workers take what reached them and they know.
-- Locks and plans: README.md beside this file.

DROP FUNCTION outbox.dispatch(jsonb, integer, jsonb, float8, float8), outbox.take(jsonb, float8, float8);

-- Mark due steps as dispatched, to be taken within dispatch_seconds; what isn't is dispatched again, as no
-- attempt at it was made. No more of a consumer's than bounds[consumer] are out at once, nor more than most
-- in one call.
CREATE FUNCTION outbox.dispatch(
    bounds jsonb, most integer, rates jsonb, dispatch_seconds float8, late_write_seconds float8,
    updating boolean DEFAULT false)
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
    chosen := outbox.choose(limits, rates, false, dispatch_seconds, dispatch_seconds, late_write_seconds,
                            updating);
    RETURN QUERY
    SELECT q.intent_id, q.schedule_id, q.event_type::text, q.consumer::text, q.lease_number, i.trace
      FROM outbox.queue q JOIN outbox.intents i ON i.id = ANY (ARRAY[q.intent_id])
     WHERE q.intent_id = ANY (chosen);
END;
$$;

-- Take dispatched steps, as [{"intent_id": …, "lease_number": …}]: an attempt at each begins now, and its
-- deadline with it. What has been taken already, or dispatched anew since, is not among those returned.
CREATE FUNCTION outbox.take(
    dispatches jsonb, lease_seconds float8, step_timeout_seconds float8, updating boolean DEFAULT false)
RETURNS TABLE (
    intent_id uuid, schedule_id text, kind text, event_type text, lease_number bigint, attempt integer,
    strikes integer, unknown boolean, cause_code text, cause_message text, looking boolean,
    patience float8, request jsonb, creator jsonb, trace jsonb, live_intent uuid,
    live_adopted boolean, ran_out boolean, run uuid[], changes text[], revision uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    taken uuid[] := outbox.lock_dispatched(dispatches);
BEGIN
    IF NOT updating THEN
        taken := ARRAY(SELECT q.intent_id FROM outbox.queue q
                        WHERE q.intent_id = ANY (taken) AND q.event_type <> 'schedule.update.requested');
    END IF;
    UPDATE outbox.queue q
       SET state = 'leased',
           attempts = q.attempts + 1,
           deadline = clock_timestamp() + make_interval(secs => step_timeout_seconds),
           due_at = clock_timestamp() + make_interval(secs => lease_seconds)
     WHERE q.intent_id = ANY (taken);
    RETURN QUERY SELECT * FROM outbox.steps(taken);
END;
$$;
