-- Reads: what operators and waiting producers ask for. Statuses are derived here, in one place.
-- Locks and plans: README.md beside this file.

CREATE VIEW outbox.intent_status AS
SELECT i.id, i.schedule_id, i.kind, i.created_at, i.position, i.replays, i.replay_number,
       CASE WHEN t.type IN ('schedule.created', 'schedule.updated', 'schedule.deleted', 'schedule.repaired') THEN 'succeeded'
            WHEN t.type IS NOT NULL THEN 'failed'
            WHEN q.state = 'parked' THEN 'parked'
            ELSE 'pending' END AS status,
       coalesce(t.type, q.event_type) AS event_type,
       coalesce(t.lease_number, q.lease_number) AS attempts,
       CASE WHEN t.type IS NULL THEN q.error_code ELSE t.error_code END AS error_code,
       CASE WHEN t.type IS NULL THEN q.error_message ELSE t.error_message END AS error_message,
       coalesce(t.at, (SELECT max(e.at) FROM outbox.events e WHERE e.intent_id = i.id), i.created_at) AS updated_at,
       substr(i.trace->>'traceparent', 4, 32) AS trace_id
FROM outbox.intents i
LEFT JOIN (
    SELECT e.intent_id, e.type::text AS type, e.at, e.lease_number, e.error_code, e.error_message FROM outbox.events e
) AS t ON t.intent_id = i.id AND t.type IN (
    'schedule.created', 'schedule.create_failed', 'schedule.updated', 'schedule.update_failed',
    'schedule.deleted', 'schedule.delete_failed', 'schedule.repaired')
LEFT JOIN outbox.queue q ON q.intent_id = i.id;

-- What a producer that waits may see of one intent; no row for an id that isn't there.
CREATE FUNCTION outbox.intent_result(intent uuid)
RETURNS TABLE (status text, event_type text, error_code text, error_message text, zed_token text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT s.status, s.event_type,
           CASE WHEN s.status IN ('failed', 'parked') THEN s.error_code END,
           CASE WHEN s.status IN ('failed', 'parked') THEN s.error_message END,
           (SELECT e.zed_token FROM outbox.events e
             WHERE e.intent_id = s.id AND e.zed_token IS NOT NULL ORDER BY e.id DESC LIMIT 1)
      FROM outbox.intent_status s WHERE s.id = intent;
END;

-- The same, for a producer that asks every second or so until the intent has ended: meanwhile settles tell of results.
CREATE FUNCTION outbox.awaited_result(intent uuid)
RETURNS TABLE (status text, event_type text, error_code text, error_message text, zed_token text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    FOR status, event_type, error_code, error_message, zed_token IN SELECT * FROM outbox.intent_result(intent) LOOP
        IF status = 'pending' AND NOT outbox.somebody_waits(moment + interval '3 seconds') THEN
            PERFORM setval('outbox.awaited_until', (extract(epoch FROM moment) * 1000000)::bigint + 6000000);
        END IF;
        RETURN NEXT;
    END LOOP;
    IF NOT FOUND AND current_setting('transaction_read_only')::boolean THEN
        RAISE read_only_sql_transaction USING MESSAGE = 'this server takes no writes, and may not know of all intents';
    END IF;
END;
$$;

-- The first id that `outbox.uuid7` may give at that time: ids are in the order of their time.
CREATE FUNCTION outbox.first_id(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN (lpad(to_hex(greatest(0, floor(extract(epoch FROM at) * 1000))::bigint), 12, '0') || repeat('0', 20))::uuid;

-- The newest intents that stand so (null: all), of those since about then (an id is drawn a little before its
-- intent is written), and older than one by its id (null: all). Each status is found where it is rare: what has
-- failed among what has failed.
CREATE FUNCTION outbox.newest(wanted text, since timestamptz, before uuid, most integer) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_sort = off
AS $$
DECLARE
    first CONSTANT uuid := outbox.first_id(coalesce(since - interval '1 minute', 'epoch'));
    bound CONSTANT uuid := coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
BEGIN
    CASE wanted
    WHEN 'failed' THEN RETURN QUERY
        SELECT e.intent_id FROM outbox.events e
         WHERE e.type IN ('schedule.create_failed', 'schedule.update_failed', 'schedule.delete_failed')
           AND e.intent_id >= first AND e.intent_id < bound
         ORDER BY e.intent_id DESC LIMIT most;
    WHEN 'succeeded' THEN RETURN QUERY
        SELECT e.intent_id FROM outbox.events e
         WHERE e.type IN ('schedule.created', 'schedule.create_failed', 'schedule.updated', 'schedule.update_failed',
                          'schedule.deleted', 'schedule.delete_failed', 'schedule.repaired')
           AND e.type NOT IN ('schedule.create_failed', 'schedule.update_failed', 'schedule.delete_failed')
           AND e.intent_id >= first AND e.intent_id < bound
         ORDER BY e.intent_id DESC LIMIT most;
    WHEN 'parked' THEN RETURN QUERY
        SELECT q.intent_id FROM outbox.queue q WHERE q.state = 'parked' AND q.intent_id >= first AND q.intent_id < bound
         ORDER BY q.intent_id DESC LIMIT most;
    WHEN 'pending' THEN RETURN QUERY
        SELECT q.intent_id FROM outbox.queue q WHERE q.state <> 'parked' AND q.intent_id >= first AND q.intent_id < bound
         ORDER BY q.intent_id DESC LIMIT most;
    ELSE RETURN QUERY
        SELECT i.id FROM outbox.intents i WHERE i.id >= first AND i.id < bound ORDER BY i.id DESC LIMIT most;
    END CASE;
END;
$$;

-- Each minute of the last hour: at which position its intents begin, and of the first few of them, how many there
-- are, how they ended, and how long half of them and nearly all of them took.
CREATE FUNCTION outbox.last_hour(most integer)
RETURNS TABLE (at timestamptz, "position" bigint, looked bigint, succeeded bigint, failed bigint, taken float8[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT m.at,
           coalesce(
               (SELECT i.position FROM outbox.intents i WHERE i.id >= outbox.first_id(m.at) ORDER BY i.id LIMIT 1),
               (SELECT i.position + 1 FROM outbox.intents i ORDER BY i.id DESC LIMIT 1)),
           s.looked, s.succeeded, s.failed, s.taken
      FROM (SELECT date_trunc('minute', statement_timestamp()) - n * interval '1 minute' AS at
              FROM generate_series(0, 60) AS n) AS m
     CROSS JOIN LATERAL (
        SELECT count(*) AS looked, count(*) FILTER (WHERE o.status = 'succeeded') AS succeeded,
               count(*) FILTER (WHERE o.status = 'failed') AS failed,
               percentile_disc(ARRAY[0.5, 0.95])
                   WITHIN GROUP (ORDER BY extract(epoch FROM o.updated_at - o.created_at)::float8)
                   FILTER (WHERE o.status IN ('succeeded', 'failed')) AS taken
          FROM (SELECT i.id FROM outbox.intents i
                 WHERE i.id >= outbox.first_id(m.at) AND i.id < outbox.first_id(m.at + interval '1 minute')
                   AND i.kind <> 'repair' ORDER BY i.id LIMIT most) AS i
         CROSS JOIN LATERAL (SELECT * FROM outbox.intent_status s WHERE s.id = i.id OFFSET 0) AS o) AS s
     ORDER BY m.at;
END;
$$;

-- The failed and parked intents, of one lane or (null) of all.
CREATE FUNCTION outbox.in_need(schedule text) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
BEGIN
    IF schedule IS NOT NULL THEN
        RETURN QUERY SELECT i.id FROM outbox.intents i WHERE i.schedule_id = schedule;
    ELSE
        RETURN QUERY SELECT e.intent_id FROM outbox.events e
                      WHERE e.type IN ('schedule.create_failed', 'schedule.update_failed',
                                       'schedule.delete_failed');
        RETURN QUERY SELECT q.intent_id FROM outbox.queue q WHERE q.state = 'parked';
    END IF;
END;
$$;

-- What a lane is at: its head; or what has come in lately and is not placed yet, or a repair that waits for its time.
CREATE FUNCTION outbox.front(schedule text) RETURNS SETOF outbox.queue
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_hashjoin = off
AS $$
BEGIN
    RETURN QUERY SELECT h.* FROM outbox.queue h WHERE h.schedule_id = schedule AND h.place = 'head';
    RETURN QUERY
    SELECT h.* FROM (SELECT i.id FROM outbox.intents i WHERE i.schedule_id = schedule
                      ORDER BY i.position DESC LIMIT 1000) AS latest
      JOIN outbox.queue h ON h.intent_id = ANY (ARRAY[latest.id])
     WHERE h.place::text IN ('incoming', 'deferred');
END;
$$;

-- How many stand behind a lane's head; more than the bound are not counted.
CREATE FUNCTION outbox.behind(schedule text, bound integer) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
BEGIN ATOMIC
    SELECT count(*) FROM (SELECT FROM outbox.queue q WHERE q.schedule_id = schedule AND q.place = 'behind'
                           LIMIT bound) AS counted;
END;

-- When an intent was requested, in seconds since 1970, as its id tells: `outbox.uuid7` begins with that.
CREATE FUNCTION outbox.requested_at(intent uuid) RETURNS float8 LANGUAGE sql IMMUTABLE
RETURN ('x' || left(replace(intent::text, '-', ''), 12))::bit(48)::bigint / 1000.0;

-- When the oldest head that waits for no person (it is neither parked nor halted), or what is still incoming, was
-- requested, in seconds since 1970. Where a store has more heads than the bound, it is the oldest of those that have been due for longest.
CREATE FUNCTION outbox.oldest_unparked(bound integer) RETURNS float8
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
BEGIN
    RETURN (SELECT least(
        (SELECT outbox.requested_at(q.intent_id) FROM outbox.queue q
          WHERE q.place = 'incoming' ORDER BY q.position LIMIT 1),
        (SELECT min(outbox.requested_at(h.intent_id))
           FROM unnest(ARRAY['authz', 'temporal', 'both']) AS c (consumer)
          CROSS JOIN LATERAL (
            SELECT q.intent_id FROM outbox.queue q
             WHERE q.state NOT IN ('queued', 'parked') AND NOT q.halted AND q.consumer = c.consumer
             ORDER BY q.due_at LIMIT bound) AS h)));
END;
$$;

-- How much is where: counted up to a bound, and estimated beyond it, so that it costs the same at a million waiting.
-- of: a place, a state of heads (of a consumer), halted heads of any state, or the events that are still to be
-- published. counted: not more than the bound.
-- about: what Postgres last knew of the index that holds them (-1: nothing yet).
CREATE FUNCTION outbox.depths(bound integer)
RETURNS TABLE (of text, consumer text, counted bigint, capped boolean, about float8)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
BEGIN
    RETURN QUERY
    WITH heads AS MATERIALIZED (
        SELECT c.consumer, d.due, h.state
          FROM unnest(ARRAY['authz', 'temporal', 'both']) AS c (consumer)
         CROSS JOIN (VALUES (true), (false)) AS d (due)
         CROSS JOIN LATERAL (
            (SELECT q.state::text FROM outbox.queue q
              WHERE d.due AND q.state NOT IN ('queued', 'parked') AND NOT q.halted AND q.consumer = c.consumer
                AND q.due_at <= statement_timestamp() LIMIT bound + 1)
            UNION ALL
            (SELECT q.state::text FROM outbox.queue q
              WHERE NOT d.due AND q.state NOT IN ('queued', 'parked') AND NOT q.halted AND q.consumer = c.consumer
                AND q.due_at > statement_timestamp() LIMIT bound + 1)) AS h
    ), whole AS (
        -- Where not all heads were looked at, those that were stand for the others.
        SELECT coalesce(bool_or(g.n > bound), false) AS capped, coalesce(sum(g.n), 0) AS seen
          FROM (SELECT count(*) AS n FROM heads h GROUP BY h.consumer, h.due) AS g
    )
    SELECT h.state, h.consumer, count(*), w.capped,
           count(*) * greatest(1, (SELECT c.reltuples FROM pg_class c
                                    WHERE c.oid = 'outbox.queue_due'::regclass) / greatest(w.seen, 1))::float8
      FROM heads h CROSS JOIN whole w GROUP BY h.state, h.consumer, w.capped, w.seen
    UNION ALL
    SELECT o.of, NULL, o.n, o.n > bound, (SELECT c.reltuples::float8 FROM pg_class c WHERE c.oid = o.index)
      FROM (VALUES
        ('incoming',
         (SELECT count(*) FROM (SELECT FROM outbox.queue q WHERE q.place = 'incoming' LIMIT bound + 1) AS x),
         'outbox.queue_incoming'::regclass),
        ('behind',
         (SELECT count(*) FROM (SELECT FROM outbox.queue q WHERE q.place = 'behind' LIMIT bound + 1) AS x),
         'outbox.queue_behind'::regclass),
        ('deferred',
         (SELECT count(*) FROM (SELECT FROM outbox.queue q WHERE q.place = 'deferred' LIMIT bound + 1) AS x),
         'outbox.queue_deferred'::regclass),
        ('parked', (SELECT count(*) FROM (SELECT FROM outbox.queue q WHERE q.state = 'parked' LIMIT bound + 1) AS x),
         'outbox.queue_parked'::regclass),
        ('halted',
         (SELECT count(*) FROM (
            SELECT FROM outbox.halts h JOIN outbox.queue q ON q.schedule_id = h.what AND q.place = 'head'
             WHERE q.state <> 'parked' LIMIT bound + 1) AS x),
         'outbox.halts_pkey'::regclass),
        ('unpublished', (SELECT count(*) FROM (SELECT FROM outbox.publications LIMIT bound + 1) AS x),
         'outbox.publications_pkey'::regclass)) AS o (of, n, index);
END;
$$;
