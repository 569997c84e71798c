-- Intake: what producers call, in their own transaction. It takes no lock that anyone waits for (one
-- idempotency key used twice at once excepted).
-- Locks and plans: README.md beside this file.
--
--   SELECT * FROM outbox.enqueue('{"agent_id": "a1", "name": "daily", "workflow_name": "Report",
--       "task_queue": "agents", "cron_expression": "0 9 * * *", "principal": {"user_id": "u1"}}');

-- Before Postgres 18 there is no uuidv7(): the milliseconds since 1970 go over the head of a random UUID,
-- and two bits turn its version from 4 to 7.
DO $$ BEGIN
    IF to_regproc('pg_catalog.uuidv7') IS NOT NULL THEN
        CREATE FUNCTION outbox.uuid7() RETURNS uuid LANGUAGE sql VOLATILE RETURN uuidv7();
    ELSE
        CREATE FUNCTION outbox.uuid7() RETURNS uuid LANGUAGE sql VOLATILE
        RETURN encode(
            set_bit(set_bit(overlay(
                uuid_send(gen_random_uuid())
                PLACING substring(int8send((date_part('epoch', clock_timestamp()) * 1000)::bigint) FROM 3)
                FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid;
    END IF;
END $$;

-- What is stored of a request that has been judged.
CREATE FUNCTION outbox.stored_request(r jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN r - '{kind,principal,idempotency_key,traceparent,tracestate}'::text[];

CREATE FUNCTION outbox.stored_creator(r jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN coalesce(r->'principal', '{}');

CREATE FUNCTION outbox.stored_trace(r jsonb) RETURNS jsonb LANGUAGE sql STABLE
RETURN CASE WHEN r ?| '{traceparent,tracestate}'::text[] THEN jsonb_strip_nulls(jsonb_build_object(
    'traceparent', r->'traceparent', 'tracestate', r->'tracestate')) END;

-- The intent that has a request's idempotency key already; another request behind the key is an error.
CREATE FUNCTION outbox.first_of_key(r jsonb, ordinal integer, OUT id uuid, OUT created_at timestamptz)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    same boolean;
BEGIN
    -- A statement of its own: only a later one sees what the other transaction has committed.
    SELECT i.id, i.created_at, (i.kind, i.request, i.creator)
           = (coalesce(r->>'kind', 'create'), outbox.stored_request(r), outbox.stored_creator(r))
      INTO id, created_at, same FROM outbox.intents i WHERE i.idempotency_key = r->>'idempotency_key';
    IF id IS NULL THEN
        RAISE EXCEPTION 'the intent of idempotency key "%" was pruned just now: try again', r->>'idempotency_key'
            USING ERRCODE = 'serialization_failure';
    ELSIF NOT same THEN
        RAISE EXCEPTION 'idempotency_key: "%" was used before, for a different request', r->>'idempotency_key'
            USING ERRCODE = 'OB002', COLUMN = 'idempotency_key', DETAIL = ordinal;
    END IF;
END $$;

-- One request, in single-row statements: a batch's one statement takes longer to start than they take in all.
-- Errors: OB001, the column naming the field; OB002, an idempotency key that stands for another request.
CREATE FUNCTION outbox.enqueue(
    request jsonb, OUT id uuid, OUT schedule_id text, OUT kind text, OUT created_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    max_bytes integer;
    place bigint;
    busy boolean;
BEGIN
    -- A value from a table may be compressed: its size would say nothing, and each look into it unpack it anew.
    request := '{}' || request;
    max_bytes := (SELECT l.max_request_bytes FROM outbox.limits l);
    IF outbox.is_plain(request, max_bytes) IS NOT TRUE THEN
        request := outbox.judged(request, max_bytes, 0);
    END IF;
    id := outbox.uuid7();
    schedule_id := (request->>'agent_id') || '--' || (request->>'name');
    kind := coalesce(request->>'kind', 'create');

    INSERT INTO outbox.intents AS i (id, schedule_id, kind, request, creator, trace, idempotency_key)
    VALUES (id, schedule_id, kind, outbox.stored_request(request), outbox.stored_creator(request),
            outbox.stored_trace(request), request->>'idempotency_key')
        ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING i.position, i.created_at INTO place, created_at;
    IF place IS NULL THEN
        SELECT f.id, f.created_at INTO id, created_at FROM outbox.first_of_key(request, 0) f;
    ELSE
        INSERT INTO outbox.events (intent_id, schedule_id, type)
        VALUES (id, schedule_id, 'schedule.' || kind || '.requested');
        INSERT INTO outbox.queue AS q (intent_id, position, schedule_id, event_type, consumer)
        VALUES (id, place, schedule_id, 'schedule.' || kind || '.requested',
                CASE kind WHEN 'create' THEN 'authz' ELSE 'temporal' END)
        -- A glance at the youngest is enough to see whether a worker must be woken. Looking further, past rows
        -- that are gone and can't be vacuumed yet, would make every producer pay for one open transaction.
        RETURNING EXISTS (SELECT FROM outbox.queue p WHERE p.place = 'incoming'
                             AND p.position < q.position AND p.position > q.position - 100) INTO busy;
        IF NOT busy THEN
            PERFORM outbox.tell('outbox_work');
        END IF;
    END IF;
END $$;

-- An array of requests: all of them or, on the first bad one, none. Answers in the order of the array, which
-- is the order of the lane too. Errors: as of a single one, the detail being the place in the array, from 0.
CREATE FUNCTION outbox.enqueue_many(requests jsonb)
RETURNS TABLE (ordinal integer, id uuid, schedule_id text, kind text, created_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    latest bigint := coalesce(pg_sequence_last_value('outbox.intents_position_seq'), 0);
    max_bytes integer;
    item record;
BEGIN
    IF jsonb_typeof(requests) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'requests: must be an array' USING ERRCODE = 'OB001', COLUMN = 'requests';
    ELSIF jsonb_array_length(requests) = 1 THEN
        item := outbox.enqueue(requests->0);
        RETURN QUERY SELECT 0, item.id, item.schedule_id, item.kind, item.created_at;
        RETURN;
    END IF;
    max_bytes := (SELECT l.max_request_bytes FROM outbox.limits l);

    RETURN QUERY
        WITH items AS MATERIALIZED (
            SELECT place::integer - 1 AS ordinal, outbox.uuid7() AS id,
                   CASE WHEN outbox.is_plain(r, max_bytes) THEN r
                        ELSE outbox.judged(r, max_bytes, place::integer - 1) END AS request
              FROM jsonb_array_elements(requests) WITH ORDINALITY AS a (r, place)
        ), written AS (
            INSERT INTO outbox.intents (id, schedule_id, kind, request, creator, trace, idempotency_key)
            SELECT id, (request->>'agent_id') || '--' || (request->>'name'), coalesce(request->>'kind', 'create'),
                   outbox.stored_request(request), outbox.stored_creator(request), outbox.stored_trace(request),
                   request->>'idempotency_key'
              FROM items ORDER BY ordinal
                ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
            RETURNING id, position, schedule_id, kind, created_at
        ), logged AS (
            INSERT INTO outbox.events (intent_id, schedule_id, type)
            SELECT id, schedule_id, 'schedule.' || kind || '.requested' FROM written
        ), queued AS (
            INSERT INTO outbox.queue (intent_id, position, schedule_id, event_type, consumer)
            SELECT id, position, schedule_id, 'schedule.' || kind || '.requested',
                   CASE kind WHEN 'create' THEN 'authz' ELSE 'temporal' END
              FROM written
        )
        SELECT i.ordinal, coalesce(w.id, (outbox.first_of_key(i.request, i.ordinal)).id),
               (i.request->>'agent_id') || '--' || (i.request->>'name'), coalesce(i.request->>'kind', 'create'),
               coalesce(w.created_at, (outbox.first_of_key(i.request, i.ordinal)).created_at)
          FROM items i LEFT JOIN written w ON w.id = i.id ORDER BY i.ordinal;

    IF FOUND AND NOT EXISTS (
        SELECT FROM outbox.queue p
         WHERE p.place = 'incoming' AND p.position <= latest AND p.position > latest - 100
    ) THEN
        PERFORM outbox.tell('outbox_work');
    END IF;
END $$;
