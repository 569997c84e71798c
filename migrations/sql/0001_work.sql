-- What a worker may do: claim steps, settle them, ask what a stamp is, ask whether work is left.
--
-- Locks. Claims exclude each other by advisory lock (7304564, 1), held for their few milliseconds.
-- A claim never waits for a row: it skips what a settle has locked. A settle locks the rows that it settles,
-- in the order of their ids, and waits at most for a claim. Producers lock nothing that either waits for.
--
-- Plans. The tables grow and empty faster than their statistics follow, and plans are kept for as long as a
-- connection. So no plan may be chosen because a table, or what a partial index holds of it, was small once:
--   * a row is looked up by = ANY (ARRAY[key]): as =, but no reason to read an index from end to end in a join;
--   * where a row is looked up, its place or state is compared with a constant of the function. With a literal,
--     the partial index of all rows that are in that state would do, too;
--   * heads are found by their lane through place, and by their time through state: an index for each;
--   * what is called from outside leaves the planner no other way than indexes. What these functions call is
--     planned under the settings that they have made.

-- Where a claim starts to look: whatever lies before is gone. Row versions that are gone are passed over again by
-- every look until they are vacuumed, and none can be while some transaction, anywhere, is older than them.
--
-- Each claim looks from the very start for as long as that takes less than a millisecond. When it takes longer, what
-- it finds there first becomes the floor of the next claims, for twenty times as long as the look took: so looks
-- from the start never take more than a twentieth of the time. The floors stay behind by a second and a thousand
-- positions. What is committed later still is found by the next look from the start.
-- Sequences keep them, as these leave no row versions behind.
CREATE TYPE outbox.floors AS (
    authz timestamptz, temporal timestamptz, "both" timestamptz,
    incoming bigint,  -- position; 0: looked from the start
    news     boolean  -- whether anything incoming may be there
);
CREATE SEQUENCE outbox.next_look AS bigint MINVALUE 0;  -- microseconds since 1970, as the next three
CREATE SEQUENCE outbox.floor_authz AS bigint MINVALUE 0;
CREATE SEQUENCE outbox.floor_temporal AS bigint MINVALUE 0;
CREATE SEQUENCE outbox.floor_both AS bigint MINVALUE 0;
CREATE SEQUENCE outbox.floor_incoming AS bigint MINVALUE 0;  -- position

CREATE FUNCTION outbox.floors(moment timestamptz) RETURNS outbox.floors
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    now_us bigint := extract(epoch FROM moment) * 1000000;
    behind CONSTANT timestamptz := moment - interval '1 second';
    began  timestamptz;
    took   bigint;  -- microseconds
    found  outbox.floors;
BEGIN
    IF now_us < pg_sequence_last_value('outbox.next_look') THEN
        RETURN (to_timestamp(pg_sequence_last_value('outbox.floor_authz') / 1000000.0),
                to_timestamp(pg_sequence_last_value('outbox.floor_temporal') / 1000000.0),
                to_timestamp(pg_sequence_last_value('outbox.floor_both') / 1000000.0),
                pg_sequence_last_value('outbox.floor_incoming'), true)::outbox.floors;
    END IF;

    began := clock_timestamp();
    SELECT (SELECT h.due_at FROM outbox.queue h
             WHERE h.state NOT IN ('queued', 'parked') AND h.consumer = 'authz' ORDER BY h.due_at LIMIT 1),
           (SELECT h.due_at FROM outbox.queue h
             WHERE h.state NOT IN ('queued', 'parked') AND h.consumer = 'temporal' ORDER BY h.due_at LIMIT 1),
           (SELECT h.due_at FROM outbox.queue h
             WHERE h.state NOT IN ('queued', 'parked') AND h.consumer = 'both' ORDER BY h.due_at LIMIT 1),
           (SELECT i.position FROM outbox.queue i WHERE i.place = 'incoming' ORDER BY i.position LIMIT 1)
      INTO found.authz, found.temporal, found."both", found.incoming;
    took := extract(epoch FROM clock_timestamp() - began) * 1000000;
    IF took < 1000 THEN
        RETURN ('-infinity', '-infinity', '-infinity', 0, found.incoming IS NOT NULL)::outbox.floors;
    END IF;
    found := (least(found.authz, behind), least(found.temporal, behind), least(found."both", behind),
              greatest(0, least(found.incoming, (SELECT last_value FROM outbox.intents_position_seq) - 1000)),
              found.incoming IS NOT NULL)::outbox.floors;
    PERFORM setval('outbox.floor_authz', (extract(epoch FROM found.authz) * 1000000)::bigint),
            setval('outbox.floor_temporal', (extract(epoch FROM found.temporal) * 1000000)::bigint),
            setval('outbox.floor_both', (extract(epoch FROM found."both") * 1000000)::bigint),
            setval('outbox.floor_incoming', found.incoming),
            setval('outbox.next_look', now_us + 20 * took);
    RETURN found;
END;
$$;

-- Choose up to limits[consumer] due steps of each consumer, as {"authz": 10, "temporal": 5}, and no more than
-- rates[consumer] a second, over all workers, of those that have a rate; lease them to the caller (taken), or
-- mark them as dispatched, for a worker to take.
--
-- A claim looks at heads and at what has come in since the last claim, never at the backlog behind heads.
-- An incoming intent becomes its lane's head where the lane has none. Where it has one, the head's row is
-- locked against deletion while its follower is marked, so that the settle that ends the head comes after the
-- mark and sees the follower that it must promote. A lane whose head is being settled right now is left
-- for the next claim.
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
    fresh    record;
    floors   outbox.floors;
    probing  boolean;  -- whether some breaker is open
BEGIN
    PERFORM pg_advisory_xact_lock(7304564, 1);
    moment := clock_timestamp();

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
               tokens = least(excluded.tokens,
                              b.tokens + excluded.tokens * extract(epoch FROM moment - b.at)::float8);
        SELECT array_agg(CASE WHEN b.consumer IS NULL THEN n.room ELSE least(n.room, floor(b.tokens)::integer) END
                         ORDER BY n.place)
          INTO rooms
          FROM unnest(names, rooms) WITH ORDINALITY AS n (consumer, room, place)
          LEFT JOIN outbox.budgets b ON b.consumer = n.consumer AND rates ? n.consumer;
    END IF;

    -- Repairs whose time has come line up like everybody else, where somebody is there to do them: in front of
    -- a worker of one store alone they would only stand in their lane's way.
    IF limits ? 'both' THEN
        UPDATE outbox.queue SET place = 'incoming' WHERE intent_id IN (
            SELECT q.intent_id FROM outbox.queue q WHERE q.place = 'deferred' AND q.due_at <= moment
             ORDER BY q.due_at LIMIT most_marked);
    END IF;

    floors := outbox.floors(moment);

    -- Heads whose step is due: ready, rested, held long enough, dispatched and taken by nobody, or leased by a
    -- worker that let the lease end.
    WITH due AS (
        SELECT q.* FROM unnest(names, rooms) AS r (consumer, room)
         CROSS JOIN LATERAL (
            SELECT h.* FROM outbox.queue h
             WHERE h.state NOT IN ('queued', 'parked') AND h.consumer = r.consumer
               AND h.due_at <= moment AND h.due_at >= CASE r.consumer
                   WHEN 'authz' THEN floors.authz WHEN 'temporal' THEN floors.temporal ELSE floors."both" END
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

    -- What has come in: heads of free lanes first come, first leased; the rest goes behind its head.
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
                                 WHEN p.heads THEN greatest(q.due_at, p.hold_until)
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
          INTO fresh;
        claimed := claimed || fresh.leased;
        rooms := fresh.rooms;
        marked := marked + fresh.seen;
        after := fresh.last;
        EXIT WHEN fresh.seen < batch;
    END LOOP;
    IF marked >= most_marked THEN
        NOTIFY outbox_work;  -- there is more to look at
    END IF;

    IF cardinality(claimed) = 0 THEN
        RETURN claimed;
    END IF;
    IF rates <> '{}' THEN
        UPDATE outbox.budgets b SET tokens = b.tokens - (
            SELECT count(*) FROM outbox.queue q
             WHERE q.intent_id = ANY (claimed) AND q.consumer = b.consumer)
         WHERE rates ? b.consumer;
    END IF;
    -- The step that went out to a store with an open breaker is its probe: no other before it had its time.
    IF probing THEN
        UPDATE outbox.breakers b
           SET probe_at = moment + make_interval(secs => step_timeout_seconds), probing = true
         WHERE EXISTS (SELECT FROM outbox.queue q
                        WHERE q.intent_id = ANY (claimed) AND q.consumer = b.consumer);
    END IF;

    -- The turn of these intents has come: their requests are published now, in the order of the lane.
    IF (SELECT n.publishes FROM outbox.instance n WHERE n.only_row) THEN
        INSERT INTO outbox.publications (event_id, intent_id)
        SELECT e.id, e.intent_id FROM outbox.queue q
          JOIN outbox.events e ON e.intent_id = ANY (ARRAY[q.intent_id]) AND e.type = q.event_type
         WHERE q.intent_id = ANY (claimed) AND q.lease_number = 1;
    END IF;
    RETURN claimed;
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
           wish.request, wish.creator, i.trace, l.live_intent,
           EXISTS (SELECT FROM outbox.intents a WHERE a.id = ANY (ARRAY[l.live_intent]) AND a.kind = 'repair')
      FROM outbox.queue q
      JOIN outbox.intents i ON i.id = ANY (ARRAY[q.intent_id])
      LEFT JOIN outbox.lanes l ON l.schedule_id = ANY (ARRAY[q.schedule_id])
      -- A repair brings about what the live intent asked for; where none is, it is made in the last one's name.
      -- An adoption has a wish of its own.
      JOIN outbox.intents wish ON wish.id = ANY (ARRAY[CASE
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

-- Settle a batch: outcome, follow-up event, live stamp and the lane's next intent, in one transaction.
--
-- settlements: an array of objects, the fields of outbox.settlement.Settlement. What names a lease that is
-- not the row's own any more matches nothing; the rows that did match are returned.
-- verify_again_seconds: an intent that ends with an attempt that got no answer is followed by two repairs of
-- its lane: as soon as that attempt can't land any more, if the bound holds, and once more so much later. A repair
-- is followed by the second alone: with two each, repairs through a store that answers every other time would breed.
-- wake: tell idle workers, as the next steps may be for others than the caller.
CREATE FUNCTION outbox.settle(
    settlements jsonb, late_write_seconds float8, verify_again_seconds float8, wake boolean)
RETURNS TABLE (intent_id uuid, lease_number bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    moment  timestamptz;
    matched uuid[];
    leases  bigint[];
    tells   boolean;
    leased    CONSTANT text := 'leased';
    publishes CONSTANT boolean := (SELECT n.publishes FROM outbox.instance n WHERE n.only_row);
BEGIN
    -- First the locks, then (with a snapshot of its own) the work: a claim that held one of these rows
    -- while it marked a follower has committed by then, and the follower is seen.
    SELECT array_agg(m.intent_id), array_agg(m.lease_number) INTO matched, leases FROM (
        SELECT q.intent_id, q.lease_number
          FROM jsonb_to_recordset(settlements) AS s (intent_id uuid, lease_number bigint, event_type text)
          JOIN outbox.queue q ON q.intent_id = ANY (ARRAY[s.intent_id]) AND q.lease_number = s.lease_number
           AND q.event_type = s.event_type
         WHERE q.state = leased
         ORDER BY q.intent_id
           FOR UPDATE OF q) AS m;
    IF matched IS NULL THEN
        RETURN;
    END IF;
    moment := clock_timestamp();

    WITH item AS (
        SELECT DISTINCT ON (s.intent_id) s.*, q.position,
               CASE WHEN s.unknown
                    THEN greatest(q.unknown_until, q.deadline + make_interval(secs => late_write_seconds))
                    ELSE q.unknown_until END AS unknown_until
          FROM jsonb_to_recordset(settlements) AS s (
               intent_id uuid, schedule_id text, event_type text, consumer text, lease_number bigint,
               attempt integer, action text, next_event text, next_consumer text, terminal boolean,
               live text, waits boolean, unknown boolean, strike boolean, patient boolean, delay_seconds float8,
               error_code text, error_message text, zed_token text)
          -- What matched is locked, and matches still.
          JOIN outbox.queue q ON q.intent_id = ANY (ARRAY[s.intent_id]) AND q.lease_number = s.lease_number
           AND q.event_type = s.event_type
         WHERE q.state = leased
         ORDER BY s.intent_id
    ), logged AS (
        INSERT INTO outbox.events (intent_id, schedule_id, type, at, consumer, attempt, lease_number,
                                   error_code, error_message, zed_token)
        SELECT i.intent_id, i.schedule_id, i.next_event, moment, i.consumer, i.attempt, i.lease_number,
               i.error_code, i.error_message, i.zed_token
          FROM item i WHERE i.action = 'advance' ORDER BY i.position
        RETURNING id, intent_id
    ), published AS (
        INSERT INTO outbox.publications (event_id, intent_id)
        SELECT l.id, l.intent_id FROM logged l WHERE publishes ORDER BY l.id
    ), tried AS (
        INSERT INTO outbox.attempts (intent_id, event_type, consumer, attempt, lease_number, action, at,
                                     error_code, error_message)
        SELECT i.intent_id, i.event_type, i.consumer, i.attempt, i.lease_number, i.action, moment,
               i.error_code, i.error_message
          FROM item i WHERE i.action <> 'advance' ORDER BY i.position
    ), moved AS (
        UPDATE outbox.queue q SET
               event_type = coalesce(i.next_event, q.event_type),
               consumer = coalesce(i.next_consumer, q.consumer),
               state = CASE i.action
                   WHEN 'advance' THEN
                       CASE WHEN i.waits AND i.unknown_until > moment THEN 'holding' ELSE 'ready' END
                   WHEN 'retry' THEN 'waiting'
                   WHEN 'hold' THEN 'holding'
                   WHEN 'park' THEN 'parked' END,
               due_at = CASE i.action
                   WHEN 'advance' THEN CASE WHEN i.waits THEN greatest(moment, i.unknown_until) ELSE moment END
                   WHEN 'retry' THEN greatest(moment + make_interval(secs => i.delay_seconds),
                                              CASE WHEN i.waits THEN i.unknown_until END)
                   WHEN 'hold' THEN greatest(moment, i.unknown_until)
                   WHEN 'park' THEN 'infinity' END,
               attempts = CASE i.action WHEN 'advance' THEN 0 ELSE q.attempts END,
               strikes = CASE i.action WHEN 'advance' THEN 0 ELSE q.strikes + i.strike::integer END,
               patience = CASE WHEN i.action = 'advance' THEN 0
                               WHEN i.patient THEN q.patience + i.delay_seconds
                               ELSE q.patience END,
               unknown_until = i.unknown_until,
               looking = i.action = 'hold' OR (q.looking AND i.action <> 'advance'),
               cause_code = CASE WHEN i.action IN ('advance', 'hold') THEN i.error_code ELSE q.cause_code END,
               cause_message = CASE WHEN i.action IN ('advance', 'hold') THEN i.error_message
                                    ELSE q.cause_message END,
               error_code = CASE i.action WHEN 'advance' THEN NULL ELSE i.error_code END,
               error_message = CASE i.action WHEN 'advance' THEN NULL ELSE i.error_message END,
               failing_since = CASE i.action WHEN 'advance' THEN NULL
                                             ELSE coalesce(q.failing_since, moment) END
          FROM item i WHERE q.intent_id = ANY (ARRAY[i.intent_id]) AND NOT i.terminal
    ), ended AS (
        DELETE FROM outbox.queue q USING item i WHERE q.intent_id = ANY (ARRAY[i.intent_id]) AND i.terminal
        RETURNING q.schedule_id, q.intent_id, i.live, i.unknown_until,
                  q.event_type = 'schedule.repair.requested' AS repairs,
                  CASE WHEN i.unknown_until > moment THEN i.unknown_until END AS hold_until
    ), checks AS MATERIALIZED (
        SELECT outbox.uuid7() AS id, e.schedule_id, greatest(e.unknown_until, moment) + again.later AS due_at
          FROM ended e
         CROSS JOIN unnest(ARRAY[interval '0', make_interval(secs => verify_again_seconds)])
               WITH ORDINALITY AS again (later, number)
         WHERE e.unknown_until IS NOT NULL AND (again.number = 2 OR NOT e.repairs)
    ), repairs AS (
        INSERT INTO outbox.intents (id, schedule_id, kind, request, creator)
        SELECT c.id, c.schedule_id, 'repair', '{}', '{}' FROM checks c ORDER BY c.due_at
        RETURNING id, position
    ), repairs_logged AS (
        INSERT INTO outbox.events (intent_id, schedule_id, type, at)
        SELECT c.id, c.schedule_id, 'schedule.repair.requested', moment FROM checks c
    ), repairs_queued AS (
        INSERT INTO outbox.queue (intent_id, position, schedule_id, place, event_type, consumer, due_at)
        SELECT c.id, r.position, c.schedule_id, 'deferred', 'schedule.repair.requested', 'both', c.due_at
          FROM checks c JOIN repairs r USING (id)
    ), remembered AS (
        INSERT INTO outbox.lanes AS l (schedule_id, live_intent, hold_until, updated_at)
        SELECT e.schedule_id,
               CASE e.live WHEN 'set' THEN e.intent_id WHEN 'keep' THEN was.live_intent END,
               e.hold_until, moment
          FROM ended e LEFT JOIN outbox.lanes was ON was.schedule_id = ANY (ARRAY[e.schedule_id])
         WHERE e.live <> 'keep' OR e.hold_until IS NOT NULL
         ORDER BY e.schedule_id
            ON CONFLICT (schedule_id) DO UPDATE
           SET live_intent = excluded.live_intent,
               hold_until = greatest(l.hold_until, excluded.hold_until),
               updated_at = excluded.updated_at
    )
    UPDATE outbox.queue q
       SET place = 'head',
           state = CASE WHEN n.hold_until > moment THEN 'holding' ELSE 'ready' END,
           due_at = greatest(moment, n.hold_until)
      FROM (SELECT b.intent_id, greatest(e.hold_until, l.hold_until) AS hold_until
              FROM ended e
              LEFT JOIN outbox.lanes l ON l.schedule_id = ANY (ARRAY[e.schedule_id])
             CROSS JOIN LATERAL (
                SELECT f.intent_id FROM outbox.queue f
                 WHERE f.place = 'behind' AND f.schedule_id = e.schedule_id
                 ORDER BY f.position LIMIT 1) AS b) AS n
     WHERE q.intent_id = ANY (ARRAY[n.intent_id]);

    PERFORM outbox.settle_breakers(settlements, moment);

    SELECT bool_or(s.terminal OR s.action = 'park') INTO tells
      FROM jsonb_to_recordset(settlements) AS s (terminal boolean, action text);
    -- Whoever waits for a result holds this lock shared: no waiter, no notification.
    IF tells AND NOT pg_try_advisory_xact_lock(7304564, 2) THEN
        NOTIFY outbox_settled;
    END IF;
    IF wake THEN
        NOTIFY outbox_work;
    END IF;

    RETURN QUERY SELECT DISTINCT m.* FROM unnest(matched, leases) AS m;
END;
$$;

-- Open the breakers of stores that could not be used, close those of stores that answered.
CREATE FUNCTION outbox.settle_breakers(settlements jsonb, moment timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    longest_rest CONSTANT float8 := 15;  -- seconds between two probes, at most
BEGIN
    WITH news AS (
        SELECT s.* FROM jsonb_to_recordset(settlements)
            AS s (consumer text, store text, error_code text, error_message text)
    ), down AS (
        INSERT INTO outbox.breakers AS b (consumer, since, probe_at, error_code, error_message)
        SELECT DISTINCT ON (n.consumer) n.consumer, moment, moment + interval '1 second',
               n.error_code, n.error_message
          FROM news n WHERE n.store = 'down' ORDER BY n.consumer
            ON CONFLICT (consumer) DO UPDATE
           -- What was under way already when it opened tells nothing new, however much of it there is.
           SET failures = b.failures + b.probing::integer,
               probe_at = CASE WHEN b.probing
                   THEN moment + make_interval(secs => least(longest_rest, 2 ^ least(b.failures, 10)))
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
     WHERE b.consumer IN (SELECT n.consumer FROM news n WHERE n.store = 'up')
       AND b.consumer NOT IN (SELECT d.consumer FROM down d);
END;
$$;

-- What a stamp found on a schedule is: the lane's live one, an ended intent of the lane (debris), or foreign.
CREATE FUNCTION outbox.standing(schedule text, stamp text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE
        WHEN stamp !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN 'foreign'
        WHEN EXISTS (SELECT FROM outbox.lanes l
                      WHERE l.schedule_id = schedule AND l.live_intent = stamp::uuid) THEN 'live'
        WHEN EXISTS (SELECT FROM outbox.intents i
                      WHERE i.id = stamp::uuid AND i.schedule_id = schedule
                        AND NOT EXISTS (SELECT FROM outbox.queue q WHERE q.intent_id = i.id)) THEN 'ended'
        ELSE 'foreign' END;
END;

-- Whether anything is left that goes on without a person: what stands behind a parked head does not, nor does
-- a repair whose time has not come, or that the asking worker does not do.
CREATE FUNCTION outbox.pending(repairs boolean) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM outbox.queue q WHERE q.place = 'incoming')
        OR EXISTS (SELECT FROM outbox.queue q WHERE q.place = 'head' AND q.state <> 'parked')
        OR (repairs AND EXISTS (SELECT FROM outbox.queue q
                                 WHERE q.place = 'deferred' AND q.due_at <= clock_timestamp()));
END;
