-- Breakers: a store that can't be used is left alone, but for one probe at a time.
-- Locks and plans: README.md beside this file.

-- Open the breakers of stores that could not be used, close those of stores that answered.
CREATE FUNCTION outbox.settle_breakers(settlements jsonb, moment timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    longest_pause CONSTANT float8 := 15;  -- seconds between two probes, at most
BEGIN
    WITH item AS (
        SELECT s.* FROM jsonb_to_recordset(settlements)
            AS s (consumer text, store text, error_code text, error_message text)
    ), down AS (
        INSERT INTO outbox.breakers AS b (consumer, since, probe_at, error_code, error_message)
        SELECT DISTINCT ON (i.consumer) i.consumer, moment, moment + interval '1 second',
               i.error_code, i.error_message
          FROM item i WHERE i.store = 'down' ORDER BY i.consumer
            ON CONFLICT (consumer) DO UPDATE
           -- What was under way already when it opened says nothing new, however much of it there is.
           SET failures = b.failures + b.probing::integer,
               probe_at = CASE WHEN b.probing
                   THEN moment + make_interval(secs => least(longest_pause, 2 ^ least(b.failures, 10)))
                   ELSE b.probe_at END,
               probing = false,
               error_code = excluded.error_code,
               error_message = excluded.error_message
        RETURNING b.consumer
    ), recalled AS (
        -- What is on its way to workers waits like the rest; the probe goes out alone.
        UPDATE outbox.queue q SET state = 'ready', due_at = moment
          FROM (SELECT w.intent_id FROM down d JOIN outbox.queue w ON w.consumer = d.consumer
                 WHERE w.state = 'dispatched' FOR UPDATE OF w SKIP LOCKED) AS waiting
         WHERE q.intent_id = ANY (ARRAY[waiting.intent_id])
    )
    DELETE FROM outbox.breakers b
     WHERE b.consumer IN (SELECT i.consumer FROM item i WHERE i.store = 'up')
       AND b.consumer NOT IN (SELECT d.consumer FROM down d);
END;
$$;
