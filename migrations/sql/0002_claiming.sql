-- Claiming: due steps are chosen, and leased to a worker that knows them.
-- Locks and plans: README.md beside this file.

DROP FUNCTION outbox.claim(jsonb, jsonb, float8, float8, float8);
DROP FUNCTION outbox.choose(jsonb, jsonb, boolean, float8, float8, float8);

-- Choose up to limits[consumer] due steps of each consumer, as {"authz": 10, "temporal": 5}, and no more than
-- rates[consumer] a second, over all workers, of those that have a rate; lease them to the caller (taken), or
-- mark them as dispatched, for a worker to take.
--
-- updating: whether the caller knows updates; to one from before there were any, none go.
--
-- A claim looks at heads and at what has come in since the last claim, never at the backlog behind heads.
CREATE FUNCTION outbox.choose(
    limits jsonb, rates jsonb, taken boolean,
    lease_seconds float8, step_timeout_seconds float8, late_write_seconds float8, updating boolean)
RETURNS uuid[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    most_marked CONSTANT integer := 2000;  -- bounds how long one claim holds the others up
    a_head     CONSTANT text := 'head';
    a_newcomer CONSTANT text := 'incoming';
    moment   timestamptz;
    names    text[];
    rooms    integer[];
    batch    integer;
    after    bigint := -1;
    marked   integer := 0;
    claimed  uuid[];
    expiries text[];  -- whose leases had ended, one entry for each
    batched  record;
    floors   outbox.floors;
    last_due timestamptz;  -- of the head that was lifted last
    lifted   boolean := false;  -- whether this claim lifts any
    probing  boolean;  -- whether some breaker is open
BEGIN
    PERFORM outbox.require_read_committed();

    -- 1. Claims exclude each other.
    LOCK TABLE outbox.turn_to_claim IN SHARE UPDATE EXCLUSIVE MODE;
    moment := clock_timestamp();

    -- 2. Halts, breakers and rates say how much of the caller's room may be used.
    IF EXISTS (SELECT FROM outbox.halts h WHERE h.until <= moment) THEN
        PERFORM outbox.end_halts(moment);
    END IF;
    SELECT r.names, r.rooms, r.probing INTO names, rooms, probing FROM outbox.room(limits, rates, moment) AS r;

    -- 3. Repairs whose time has come line up like everybody else, where somebody is there to do them: in front
    --    of a worker of one store alone they would only stand in their lane's way.
    IF limits ? 'both' THEN
        UPDATE outbox.queue SET place = 'incoming' WHERE intent_id IN (
            SELECT q.intent_id FROM outbox.queue q WHERE q.place = 'deferred' AND q.due_at <= moment
             ORDER BY q.due_at LIMIT most_marked);
    END IF;

    floors := outbox.floors(moment);

    -- 4. Heads whose step is due are leased: ready, waited or held long enough, dispatched and taken by nobody, or
    --    leased by a worker that let the lease end.
    WITH due AS (
        SELECT q.* FROM unnest(names, rooms) AS r (consumer, room)
         CROSS JOIN LATERAL (
            SELECT h.* FROM outbox.queue h
             WHERE h.state NOT IN ('queued', 'parked') AND NOT h.halted AND h.consumer = r.consumer
               AND h.due_at <= moment AND h.due_at >= outbox.floor_of(floors, r.consumer)
               AND (updating OR h.event_type <> 'schedule.update.requested')
             ORDER BY h.due_at LIMIT r.room
               FOR UPDATE SKIP LOCKED) AS q
    ), expired AS (
        INSERT INTO outbox.attempts
               (intent_id, event_type, consumer, attempt, lease_number, action, error_code, error_message)
        SELECT d.intent_id, d.event_type, d.consumer, d.attempts, d.lease_number, 'retry', 'lease_expired',
               'the worker died or stalled; its call may have been applied'
          FROM due d WHERE d.state = 'leased'
        RETURNING consumer
    ), leased AS (
        UPDATE outbox.queue q
           SET state = CASE WHEN taken THEN 'leased' ELSE 'dispatched' END,
               lease_number = d.lease_number + 1,
               attempts = d.attempts + taken::integer,
               strikes = d.strikes + (d.state = 'leased')::integer,
               unknown_until = CASE WHEN d.state = 'leased'
                   THEN greatest(d.unknown_until, d.deadline + make_interval(secs => late_write_seconds))
                   ELSE d.unknown_until END,
               deadline = CASE WHEN taken THEN moment + make_interval(secs => step_timeout_seconds)
                               ELSE d.deadline END,
               due_at = moment + make_interval(secs => lease_seconds)
          FROM due d WHERE q.intent_id = ANY (ARRAY[d.intent_id])
        RETURNING q.intent_id, q.consumer
    )
    SELECT coalesce(array_agg(l.intent_id), '{}'),
           (SELECT array_agg(r.room - (SELECT count(*)::integer FROM leased c WHERE c.consumer = r.consumer)
                             ORDER BY r.at)
              FROM unnest(names, rooms) WITH ORDINALITY AS r (consumer, room, at)),
           (SELECT array_agg(e.consumer) FROM expired e)
      INTO claimed, rooms, expiries
      FROM leased l;
    IF expiries IS NOT NULL THEN
        UPDATE outbox.leases_expired x SET many = x.many + e.many
          FROM (SELECT u.consumer, count(*) AS many FROM unnest(expiries) AS u (consumer) GROUP BY u.consumer) AS e
         WHERE x.consumer = ANY (ARRAY[e.consumer]);
    END IF;

    -- 5. What has come in is placed: at the head of a free lane, first come, first leased; else behind its head.
    --    The head's row is locked against deletion meanwhile, so that the settle that ends the head comes after
    --    the mark and sees the follower that it must promote. A lane whose head is being settled right now is
    --    left for the next claim.
    last_due := least(moment, outbox.last_placed());
    WHILE floors.any_incoming AND marked < most_marked AND (SELECT sum(room) FROM unnest(rooms) AS room) > 0 LOOP
        batch := least(most_marked - marked, greatest(64, 2 * (SELECT sum(room) FROM unnest(rooms) AS room)));
        WITH incoming AS MATERIALIZED (
            SELECT q.intent_id, q.schedule_id, q.consumer, q.position, q.due_at,
                   updating OR q.event_type <> 'schedule.update.requested' AS known,
                   row_number() OVER (ORDER BY q.position) AS number,
                   (SELECT h.intent_id FROM outbox.queue h
                     WHERE h.place = 'head' AND h.schedule_id = q.schedule_id) AS head
              FROM outbox.queue q
             WHERE q.place = 'incoming' AND q.position >= floors.incoming AND q.position > after
             ORDER BY q.position LIMIT batch
        ), pinned AS MATERIALIZED (
            SELECT h.intent_id FROM (SELECT DISTINCT i.head FROM incoming i) AS b
              JOIN outbox.queue h ON h.intent_id = ANY (ARRAY[b.head]) AND h.place = a_head
               FOR KEY SHARE OF h SKIP LOCKED
        ), ranked AS (
            SELECT i.*, i.head IS NULL
                        AND row_number() OVER (PARTITION BY i.schedule_id ORDER BY i.position) = 1 AS heads
              FROM incoming i
             -- Written so that it becomes a look into a hash table, whatever the planner expects.
             WHERE CASE WHEN i.head IS NOT NULL THEN i.head IN (SELECT p.intent_id FROM pinned p)
                        WHEN floors.incoming = 0 THEN true
                        -- One that was committed late, below the floor, comes first.
                        ELSE NOT EXISTS (
                            SELECT FROM outbox.intents e JOIN outbox.queue w ON w.intent_id = ANY (ARRAY[e.id])
                             WHERE e.schedule_id = ANY (ARRAY[i.schedule_id]) AND e.position < floors.incoming
                               AND w.place = a_newcomer)
                   END
        ), placed AS (
            SELECT g.intent_id, g.heads, g.due_at, g.hold_until, g.halted,
                   last_due + g.number * interval '1 microsecond' AS next_due,
                   g.goes AND row_number() OVER (PARTITION BY g.consumer, g.goes ORDER BY g.position)
                              <= coalesce(rooms[array_position(names, g.consumer)], 0) AS leases
              FROM (SELECT r.*, l.hold_until, r.heads AND t.what IS NOT NULL AS halted,
                           r.heads AND r.known AND t.what IS NULL
                               AND coalesce(l.hold_until <= moment, true) AS goes
                      FROM ranked r
                      LEFT JOIN outbox.lanes l ON l.schedule_id = ANY (ARRAY[r.schedule_id])
                      LEFT JOIN outbox.halts t ON t.what = ANY (ARRAY[r.schedule_id])) AS g
        ), written AS (
            UPDATE outbox.queue q
               SET place = CASE WHEN p.heads THEN 'head' ELSE 'behind' END,
                   halted = p.halted,
                   state = CASE WHEN p.leases AND taken THEN 'leased'
                                WHEN p.leases THEN 'dispatched'
                                WHEN NOT p.heads THEN 'queued'
                                WHEN p.hold_until > moment THEN 'holding'
                                ELSE 'ready' END,
                   lease_number = p.leases::integer,
                   attempts = (p.leases AND taken)::integer,
                   deadline = CASE WHEN p.leases AND taken
                       THEN moment + make_interval(secs => step_timeout_seconds) END,
                   due_at = CASE WHEN p.leases THEN moment + make_interval(secs => lease_seconds)
                                 -- Neither below a floor, where no claim looks, nor before what was placed earlier.
                                 WHEN p.heads THEN greatest(q.due_at, p.next_due, p.hold_until)
                                 ELSE q.due_at END
              FROM placed p WHERE q.intent_id = ANY (ARRAY[p.intent_id])
            RETURNING q.intent_id, q.consumer, p.leases
        )
        SELECT (SELECT count(*)::integer FROM incoming) AS seen,
               (SELECT max(i.position) FROM incoming i) AS last,
               (SELECT coalesce(array_agg(w.intent_id), '{}') FROM written w WHERE w.leases) AS leased,
               (SELECT max(p.next_due) FROM placed p
                 WHERE p.heads AND NOT p.leases AND p.next_due > p.due_at) AS last_due,
               (SELECT array_agg(
                    r.room - (SELECT count(*)::integer FROM written w
                               WHERE w.leases AND w.consumer = r.consumer)
                    ORDER BY r.at)
                  FROM unnest(names, rooms) WITH ORDINALITY AS r (consumer, room, at)) AS rooms
          INTO batched;
        claimed := claimed || batched.leased;
        rooms := batched.rooms;
        marked := marked + batched.seen;
        after := batched.last;
        IF batched.last_due IS NOT NULL THEN
            lifted := true;
            last_due := batched.last_due;
        END IF;
        EXIT WHEN batched.seen < batch;
    END LOOP;
    IF lifted THEN
        PERFORM setval('outbox.placed_due', (extract(epoch FROM last_due) * 1000000)::bigint);
    END IF;
    IF marked >= most_marked THEN
        PERFORM outbox.tell('outbox_work');  -- there is more to look at
    END IF;

    IF cardinality(claimed) = 0 THEN
        RETURN claimed;
    END IF;
    -- 6. What was chosen is spent: rates and probes.
    PERFORM outbox.spend(claimed, rates, probing, moment + make_interval(secs => step_timeout_seconds));

    -- 7. The requests of intents whose turn has come are published.
    IF (SELECT n.publishes FROM outbox.instance n WHERE n.only_row) THEN
        PERFORM outbox.publish_requests(claimed);
    END IF;
    RETURN claimed;
END;
$$;

-- The direct wire: lease due steps to the caller.
CREATE FUNCTION outbox.claim(
    limits jsonb, rates jsonb, lease_seconds float8, step_timeout_seconds float8, late_write_seconds float8,
    updating boolean DEFAULT false)
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
DECLARE
    claimed uuid[] := outbox.choose(
        limits, rates, true, lease_seconds, step_timeout_seconds, late_write_seconds, updating);
BEGIN
    IF cardinality(claimed) > 0 THEN
        RETURN QUERY SELECT * FROM outbox.steps(claimed);
    END IF;
END;
$$;
