-- Intake, by a producer of any isolation: under SERIALIZABLE, two that have nothing to do with each other don't conflict.
-- Locks and plans: README.md beside this file.

-- One request, in single-row statements: a batch's one statement takes longer to start than they take in all.
-- Errors: OB001, the column naming the field; OB002, an idempotency key that stands for another request.
CREATE OR REPLACE FUNCTION outbox.enqueue(
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
        -- SERIALIZABLE takes a look at what others add for a conflict with each of them: there a worker is always woken.
        RETURNING CASE WHEN current_setting('transaction_isolation') = 'serializable' THEN false ELSE
            EXISTS (SELECT FROM outbox.queue p WHERE p.place = 'incoming'
                       AND p.position < q.position AND p.position > q.position - 100) END INTO busy;
        IF NOT busy THEN
            PERFORM outbox.tell('outbox_work');
        END IF;
    END IF;
END $$;

-- An array of requests: all of them or, on the first bad one, none. Answers in the order of the array, which
-- is the order of the lane too. Errors: as of a single one, the detail being the place in the array, from 0.
CREATE OR REPLACE FUNCTION outbox.enqueue_many(requests jsonb)
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

    IF FOUND AND (CASE WHEN current_setting('transaction_isolation') = 'serializable' THEN true ELSE NOT EXISTS (
        SELECT FROM outbox.queue p
         WHERE p.place = 'incoming' AND p.position <= latest AND p.position > latest - 100
    ) END) THEN
        PERFORM outbox.tell('outbox_work');
    END IF;
END $$;
