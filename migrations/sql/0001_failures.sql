-- Failures: what has failed or is parked, and nobody has dealt with, sorted by what is alike in it.
-- Locks and plans: README.md beside this file.
--
-- A settle writes a row when an intent fails or parks; a replay, a discard or a prune takes it away. So a group of a
-- hundred thousand is counted in one index, and what costs nothing is what does not fail.

CREATE TABLE outbox.failures (
    intent_id  uuid        PRIMARY KEY,
    group_id   text        COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL,
    status     text        NOT NULL,  -- failed or parked
    consumer   text        NOT NULL,  -- whose step it was
    step       text        NOT NULL,  -- the event that asked for that step
    error_code text        NOT NULL,
    pattern    text        NOT NULL   -- the message without what differs from one to the next
) WITH (
    -- Counting in an index alone takes that the pages beneath were vacuumed.
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 5000
);
CREATE INDEX failures_alike ON outbox.failures (group_id, at, intent_id);

-- A message without ids, schedule ids, numbers and addresses.
CREATE FUNCTION outbox.pattern_of(message text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN regexp_replace(regexp_replace(regexp_replace(left(message, 300),
    '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g'),
    '[A-Za-z0-9_|/=+-]*[A-Za-z0-9_|/=+]--[a-z0-9][a-z0-9-]*', '<schedule>', 'g'),
    '[0-9]+(\.[0-9]+)*', '<n>', 'g');

-- Write down those of the intents that have failed or are parked. What a person discarded has been dealt with.
-- A create that failed in Temporal ends after its compensation: it failed where its error came up first.
CREATE FUNCTION outbox.note_failures(intents uuid[], moment timestamptz) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
BEGIN ATOMIC
    INSERT INTO outbox.failures (intent_id, group_id, at, status, consumer, step, error_code, pattern)
    SELECT f.id, left(md5(concat_ws(' ', f.status, f.consumer, f.step, f.error_code, f.pattern)), 12),
           moment, f.status, f.consumer, f.step, f.error_code, f.pattern
      FROM (SELECT s.id, s.status, coalesce(o.consumer, q.consumer) AS consumer,
                   coalesce(o.step, s.event_type) AS step, s.error_code, outbox.pattern_of(s.error_message) AS pattern
              FROM unnest(intents) AS i (id)
             CROSS JOIN LATERAL (SELECT * FROM outbox.intent_status s WHERE s.id = i.id OFFSET 0) AS s
              LEFT JOIN outbox.queue q ON q.intent_id = ANY (ARRAY[i.id])
              LEFT JOIN LATERAL (
                SELECT e.consumer::text AS consumer,
                       (SELECT b.type::text FROM outbox.events b WHERE b.intent_id = e.intent_id AND b.id < e.id
                         ORDER BY b.id DESC LIMIT 1) AS step
                  FROM outbox.events e
                 WHERE s.status = 'failed' AND e.intent_id = s.id AND e.error_code IS NOT NULL
                 ORDER BY e.id LIMIT 1) AS o ON true
             WHERE s.status IN ('failed', 'parked') AND s.error_code <> 'discarded') AS f
        ON CONFLICT (intent_id) DO UPDATE
       SET group_id = excluded.group_id, at = excluded.at, status = excluded.status, consumer = excluded.consumer,
           step = excluded.step, error_code = excluded.error_code, pattern = excluded.pattern;
END;

-- The groups, the youngest failure first. They are found by leaps from one to the next; each is counted by itself.
CREATE FUNCTION outbox.failure_groups()
RETURNS TABLE (group_id text, status text, consumer text, step text, error_code text, pattern text, count bigint,
               first_at timestamptz, last_at timestamptz, example uuid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE leaps AS (
        (SELECT f.group_id FROM outbox.failures f ORDER BY f.group_id LIMIT 1)
        UNION ALL
        SELECT (SELECT f.group_id FROM outbox.failures f WHERE f.group_id > l.group_id ORDER BY f.group_id LIMIT 1)
          FROM leaps l WHERE l.group_id IS NOT NULL
    )
    SELECT l.group_id, y.status, y.consumer, y.step, y.error_code, y.pattern,
           (SELECT count(*) FROM outbox.failures f WHERE f.group_id = l.group_id),
           (SELECT f.at FROM outbox.failures f WHERE f.group_id = l.group_id ORDER BY f.at LIMIT 1),
           y.at, y.intent_id
      FROM leaps l
     CROSS JOIN LATERAL (SELECT * FROM outbox.failures f WHERE f.group_id = l.group_id
                          ORDER BY f.at DESC, f.intent_id DESC LIMIT 1) AS y
     ORDER BY y.at DESC, l.group_id;
END;
$$;
