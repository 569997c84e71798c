-- Claiming: due steps are chosen, and leased to a worker.
-- Locks and plans: README.md beside this file.

-- How many steps of each consumer may be chosen: of what the caller has room for, what breakers and rates allow.
-- probing: some breaker is open.
CREATE FUNCTION outbox.room(
    limits jsonb, rates jsonb, moment timestamptz, OUT names text[], OUT rooms integer[], OUT probing boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    -- A store whose breaker is open gets one step when its next probe is due, and none before.
    SELECT array_agg(a.key), array_agg(
               CASE WHEN b.consumer IS NULL THEN a.value::integer
                    WHEN b.probe_at > moment THEN 0
                    ELSE least(a.value::integer, 1) END), bool_or(b.consumer IS NOT NULL)
      INTO names, rooms, probing
      FROM jsonb_each_text(limits) AS a LEFT JOIN outbox.breakers b ON b.consumer = a.key;

    -- A rate is a bucket that holds one second's worth.
    IF rates <> '{}' THEN
        INSERT INTO outbox.budgets AS b (consumer, tokens, at)
        SELECT r.key, r.value::float8, moment FROM jsonb_each_text(rates) AS r
            ON CONFLICT (consumer) DO UPDATE
           SET at = moment,
               -- A clock that was set back takes nothing away.
               tokens = least(excluded.tokens, b.tokens
                              + excluded.tokens * greatest(0, extract(epoch FROM moment - b.at)::float8));
        SELECT array_agg(CASE WHEN b.consumer IS NULL THEN n.room ELSE least(n.room, floor(b.tokens)::integer) END
                         ORDER BY n.place)
          INTO rooms
          FROM unnest(names, rooms) WITH ORDINALITY AS n (consumer, room, place)
          LEFT JOIN outbox.budgets b ON b.consumer = n.consumer AND rates ? n.consumer;
    END IF;
END;
$$;

-- Choose up to limits[consumer] due steps of each consumer, as {"authz": 10, "temporal": 5}, and no more than
-- rates[consumer] a second, over all workers, of those that have a rate; lease them to the caller (taken), or
-- mark them as dispatched, for a worker to take.
--
-- A claim looks at heads and at what has come in since the last claim, never at the backlog behind heads.
CREATE FUNCTION outbox.choose(
    limits jsonb, rates jsonb, taken boolean,
    lease_seconds float8, step_timeout_seconds float8, late_write_seconds float8)
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
    batched  record;
    floors   outbox.floors;
    probing  boolean;  -- whether some breaker is open
BEGIN
    -- 1. Claims exclude each other.
    PERFORM pg_advisory_xact_lock(7304564, 1);
    moment := clock_timestamp();

    -- 2. Breakers and rates say how much of the caller's room may be used.
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
             WHERE h.state NOT IN ('queued', 'parked') AND h.consumer = r.consumer
               AND h.due_at <= moment AND h.due_at >= outbox.floor_of(floors, r.consumer)
             ORDER BY h.due_at LIMIT r.room
               FOR UPDATE SKIP LOCKED) AS q
    ), expired AS (
        INSERT INTO outbox.attempts
               (intent_id, event_type, consumer, attempt, lease_number, action, error_code, error_message)
        SELECT d.intent_id, d.event_type, d.consumer, d.attempts, d.lease_number, 'retry', 'lease_expired',
               'the worker died or stalled; its call may have been applied'
          FROM due d WHERE d.state = 'leased'
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
              FROM unnest(names, rooms) WITH ORDINALITY AS r (consumer, room, at))
      INTO claimed, rooms
      FROM leased l;

    -- 5. What has come in is placed: at the head of a free lane, first come, first leased; else behind its head.
    --    The head's row is locked against deletion meanwhile, so that the settle that ends the head comes after
    --    the mark and sees the follower that it must promote. A lane whose head is being settled right now is
    --    left for the next claim.
    WHILE floors.news AND marked < most_marked AND (SELECT sum(room) FROM unnest(rooms) AS room) > 0 LOOP
        batch := least(most_marked - marked, greatest(64, 2 * (SELECT sum(room) FROM unnest(rooms) AS room)));
        WITH incoming AS MATERIALIZED (
            SELECT q.intent_id, q.schedule_id, q.consumer, q.position,
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
            SELECT r.intent_id, r.heads, l.hold_until,
                   r.heads AND coalesce(l.hold_until <= moment, true)
                   AND row_number() OVER (
                       PARTITION BY r.consumer, r.heads AND coalesce(l.hold_until <= moment, true)
                       ORDER BY r.position
                   ) <= coalesce(rooms[array_position(names, r.consumer)], 0) AS leases
              FROM ranked r LEFT JOIN outbox.lanes l ON l.schedule_id = ANY (ARRAY[r.schedule_id])
        ), written AS (
            UPDATE outbox.queue q
               SET place = CASE WHEN p.heads THEN 'head' ELSE 'behind' END,
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
                                 -- Not below the floor, where no claim looks; the oldest first there, too.
                                 WHEN p.heads THEN greatest(q.due_at, p.hold_until, least(moment,
                                     outbox.floor_of(floors, q.consumer)
                                     + (q.position - floors.incoming) * interval '1 microsecond'))
                                 ELSE q.due_at END
              FROM placed p WHERE q.intent_id = ANY (ARRAY[p.intent_id])
            RETURNING q.intent_id, q.consumer, p.leases
        )
        SELECT (SELECT count(*)::integer FROM incoming) AS seen,
               (SELECT max(i.position) FROM incoming i) AS last,
               (SELECT coalesce(array_agg(w.intent_id), '{}') FROM written w WHERE w.leases) AS leased,
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
        EXIT WHEN batched.seen < batch;
    END LOOP;
    IF marked >= most_marked THEN
        NOTIFY outbox_work;  -- there is more to look at
    END IF;

    IF cardinality(claimed) = 0 THEN
        RETURN claimed;
    END IF;
    -- 6. What was chosen is spent, and the turn of its requests to be published has come.
    PERFORM outbox.spend(claimed, rates, probing, moment + make_interval(secs => step_timeout_seconds));
    RETURN claimed;
END;
$$;

-- Write down that these steps were chosen: their stores' rates are spent on them, a step that went out to a store
-- with an open breaker is its probe, and requests whose turn has come are published.
CREATE FUNCTION outbox.spend(chosen uuid[], rates jsonb, probing boolean, next_probe timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF rates <> '{}' THEN
        UPDATE outbox.budgets b SET tokens = b.tokens - (
            SELECT count(*) FROM outbox.queue q
             WHERE q.intent_id = ANY (chosen) AND q.consumer = b.consumer)
         WHERE rates ? b.consumer;
    END IF;
    -- The step that went out to a store with an open breaker is its probe: no other before it had its time.
    IF probing THEN
        UPDATE outbox.breakers b
           SET probe_at = next_probe, probing = true
         WHERE EXISTS (SELECT FROM outbox.queue q
                        WHERE q.intent_id = ANY (chosen) AND q.consumer = b.consumer);
    END IF;

    -- The turn of these intents has come: their requests are published now, in the order of the lane.
    IF (SELECT n.publishes FROM outbox.instance n WHERE n.only_row) THEN
        INSERT INTO outbox.publications (event_id, intent_id)
        SELECT e.id, e.intent_id FROM outbox.queue q
          JOIN outbox.events e ON e.intent_id = ANY (ARRAY[q.intent_id]) AND e.type = q.event_type
         WHERE q.intent_id = ANY (chosen) AND q.lease_number = 1;
    END IF;
END;
$$;

-- What a worker needs to know of steps.
CREATE FUNCTION outbox.steps(intents uuid[])
RETURNS TABLE (
    intent_id uuid, schedule_id text, kind text, event_type text, lease_number bigint, attempt integer,
    strikes integer, unknown boolean, cause_code text, cause_message text, looking boolean,
    patience float8, request jsonb, creator jsonb, trace jsonb, live_intent uuid,
    live_adopted boolean)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT q.intent_id, q.schedule_id, i.kind::text, q.event_type::text, q.lease_number, q.attempts, q.strikes,
           q.unknown_until IS NOT NULL, q.cause_code, q.cause_message, q.looking, q.patience,
           asked.request, asked.creator, i.trace, l.live_intent,
           EXISTS (SELECT FROM outbox.intents a WHERE a.id = ANY (ARRAY[l.live_intent]) AND a.kind = 'repair')
      FROM outbox.queue q
      JOIN outbox.intents i ON i.id = ANY (ARRAY[q.intent_id])
      LEFT JOIN outbox.lanes l ON l.schedule_id = ANY (ARRAY[q.schedule_id])
      -- A repair brings about what the live intent asked for; where none is, it is made in the last one's name.
      -- An adoption has a request of its own.
      JOIN outbox.intents asked ON asked.id = ANY (ARRAY[CASE
           WHEN i.kind = 'repair' AND NOT i.request ? 'adopt' THEN coalesce(
               l.live_intent,
               (SELECT last.id FROM outbox.intents last
                 WHERE last.schedule_id = i.schedule_id AND last.kind <> 'repair'
                 ORDER BY last.position DESC LIMIT 1),
               i.id)
           ELSE i.id END])
     WHERE q.intent_id = ANY (intents);
END;

-- The direct wire: lease due steps to the caller.
CREATE FUNCTION outbox.claim(
    limits jsonb, rates jsonb, lease_seconds float8, step_timeout_seconds float8, late_write_seconds float8)
RETURNS TABLE (
    intent_id uuid, schedule_id text, kind text, event_type text, lease_number bigint, attempt integer,
    strikes integer, unknown boolean, cause_code text, cause_message text, looking boolean,
    patience float8, request jsonb, creator jsonb, trace jsonb, live_intent uuid,
    live_adopted boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
DECLARE
    claimed uuid[] := outbox.choose(
        limits, rates, true, lease_seconds, step_timeout_seconds, late_write_seconds);
BEGIN
    IF cardinality(claimed) > 0 THEN
        RETURN QUERY SELECT * FROM outbox.steps(claimed);
    END IF;
END;
$$;
