-- Settling: what came of steps is written, and what follows from it.
-- Locks and plans: README.md beside this file.

DROP FUNCTION outbox.settle(jsonb, jsonb, float8, float8, float8, float8, boolean);

-- What is live is defined anew by settlements: by updates, each with the run that it stands for; by what a repair
-- learnt of it in Temporal. The run of an update that is done ends with it; that of one that is split goes on one by one.
CREATE FUNCTION outbox.redefine(
    settlements jsonb, matched uuid[], leases bigint[], moment timestamptz, publishes boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT s.intent_id, s.lease_number, s.attempt, s.live, d.*, i.schedule_id
          FROM jsonb_to_recordset(settlements) AS s (
               intent_id uuid, lease_number bigint, attempt integer, live text, redefines jsonb)
         CROSS JOIN LATERAL jsonb_to_record(s.redefines) AS d (
               split boolean, through uuid, run uuid[], definition jsonb, revision uuid)
          JOIN outbox.intents i ON i.id = ANY (ARRAY[s.intent_id])
         WHERE (s.intent_id, s.lease_number) IN (SELECT * FROM unnest(matched, leases))
         ORDER BY i.schedule_id
    LOOP
        IF one.split THEN
            UPDATE outbox.queue q SET alone = true, looking = false, cause_code = NULL, cause_message = NULL
             WHERE q.intent_id = ANY (one.intent_id || one.run);
        ELSIF one.live = 'revise' THEN
            UPDATE outbox.lanes l
               SET revision = one.through,
                   definition = (
                       SELECT outbox.revision(d.request ORDER BY d.number)
                         FROM (SELECT coalesce(one.definition, l.definition, c.request) AS request, 0 AS number
                                 FROM outbox.intents c WHERE c.id = ANY (ARRAY[l.live_intent])
                               UNION ALL
                               SELECT u.request, r.number FROM unnest(one.intent_id || one.run)
                                      WITH ORDINALITY AS r (id, number)
                                 JOIN outbox.intents u ON u.id = ANY (ARRAY[r.id])) AS d)
             WHERE l.schedule_id = ANY (ARRAY[one.schedule_id]);
            PERFORM outbox.end_run(one.run, one.through, one.attempt, one.lease_number, moment, publishes);
        ELSE
            UPDATE outbox.lanes l SET definition = coalesce(l.definition, one.definition),
                                      revision = coalesce(one.revision, l.revision)
             WHERE l.schedule_id = ANY (ARRAY[one.schedule_id]);
        END IF;
    END LOOP;
END;
$$;

-- The updates that were applied with another one, as one, end as it did.
CREATE FUNCTION outbox.end_run(
    run uuid[], last uuid, attempts integer, lease bigint, moment timestamptz, publishes boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO outbox.publications (event_id, intent_id)
    SELECT e.id, e.intent_id FROM outbox.events e
     WHERE publishes AND e.intent_id = ANY (run) AND e.type = 'schedule.update.requested' ORDER BY e.id;
    WITH logged AS (
        INSERT INTO outbox.events (intent_id, schedule_id, type, at, consumer, attempt, lease_number, superseded_by)
        SELECT i.id, i.schedule_id, 'schedule.updated', moment, 'temporal', attempts, lease, nullif(last, i.id)
          FROM outbox.intents i WHERE i.id = ANY (run) ORDER BY i.position
        RETURNING id, intent_id
    )
    INSERT INTO outbox.publications (event_id, intent_id)
    SELECT l.id, l.intent_id FROM logged l WHERE publishes ORDER BY l.id;
    DELETE FROM outbox.queue q WHERE q.intent_id = ANY (run);
END;
$$;

-- Settle a batch: outcome, follow-up event, live stamp and the lane's next intent, in one transaction. What follows in
-- the same lanes is handed over: leased to the caller at once, as far as there is room for it.
--
-- settlements: an array of objects, the fields of outbox.flow.settlement.Settlement. What names a lease that is
-- not the row's own any more matches nothing: its name is returned (stale, stale_lease). The other rows that are
-- returned are the steps that are handed over.
-- room: how many steps of each consumer may be handed over, as {"authz": 10}. Of a store that is halted, or whose
-- breaker is open, none are.
-- verify_again_seconds: an intent that ends with an attempt that got no answer is followed by two repairs of
-- its lane: as soon as that attempt can't land any more, if the bound holds, and once more so much later. A repair
-- is followed by the second alone: with two each, repairs through a store that answers every other time would breed.
-- wake: notify idle workers, as the next steps may be for others than the caller.
-- updating: whether the caller knows updates, so that they may be handed over.
CREATE FUNCTION outbox.settle(
    settlements jsonb, room jsonb, lease_seconds float8, step_timeout_seconds float8,
    late_write_seconds float8, verify_again_seconds float8, wake boolean, updating boolean DEFAULT false)
RETURNS TABLE (
    stale uuid, stale_lease bigint,
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
    moment  timestamptz;
    matched uuid[];
    leases  bigint[];
    names   text[];
    rooms   integer[];
    handed  uuid[];
    notifies boolean;
    reclaims uuid[];
    failing  uuid[];
    redefines boolean;
    leased    CONSTANT text := 'leased';
    publishes CONSTANT boolean := (SELECT n.publishes FROM outbox.instance n WHERE n.only_row);
BEGIN
    PERFORM outbox.require_read_committed();

    -- 1. The rows are locked. The work comes in later statements, with snapshots of their own: a claim that held
    --    one of these rows while it marked a follower has committed by then, and the follower is seen.
    SELECT array_agg(m.intent_id), array_agg(m.lease_number) INTO matched, leases FROM (
        SELECT q.intent_id, q.lease_number
          FROM jsonb_to_recordset(settlements) AS s (intent_id uuid, lease_number bigint, event_type text)
          JOIN outbox.queue q ON q.intent_id = ANY (ARRAY[s.intent_id]) AND q.lease_number = s.lease_number
           AND q.event_type = s.event_type
         WHERE q.state = leased
         ORDER BY q.intent_id
           FOR UPDATE OF q) AS m;
    RETURN QUERY
    SELECT o.*, n.* FROM (SELECT s.intent_id, s.lease_number
                            FROM jsonb_to_recordset(settlements) AS s (intent_id uuid, lease_number bigint)
                          EXCEPT SELECT * FROM unnest(matched, leases)) AS o
      LEFT JOIN outbox.steps('{}') AS n ON false;
    IF matched IS NULL THEN
        RETURN;
    END IF;
    moment := clock_timestamp();

    -- 2. Breakers open and close. They, halts and the caller say how many steps may be handed over.
    PERFORM outbox.settle_breakers(settlements, moment);
    SELECT array_agg(r.key), array_agg(r.value::integer) INTO names, rooms FROM jsonb_each_text(room) AS r
     WHERE NOT EXISTS (SELECT FROM outbox.breakers b WHERE b.consumer = r.key)
       AND r.key <> ALL (outbox.halted_stores());

    -- 3. Events and attempts are written, queue rows moved on, and intents ended (item, logged … remembered).
    -- 4. The first follower of each ended head becomes the head (followers, promoted).
    WITH current AS (
        SELECT DISTINCT ON (s.intent_id) s.*, q.schedule_id, q.position, q.halted,
               CASE WHEN s.unknown
                    THEN greatest(q.unknown_until, q.deadline + make_interval(secs => late_write_seconds))
                    ELSE q.unknown_until END AS unknown_until
          FROM jsonb_to_recordset(settlements) AS s (
               intent_id uuid, event_type text, consumer text, lease_number bigint,
               attempt integer, action text, next_event text, next_consumer text, terminal boolean,
               live text, waits boolean, unknown boolean, strike boolean, patient boolean, delay_seconds float8,
               error_code text, error_message text, zed_token text, redefines jsonb)
          -- What matched is locked, and matches still.
          JOIN outbox.queue q ON q.intent_id = ANY (ARRAY[s.intent_id]) AND q.lease_number = s.lease_number
           AND q.event_type = s.event_type
         WHERE q.state = leased
         ORDER BY s.intent_id
    ), item AS MATERIALIZED (
        SELECT g.*, g.goes AND row_number() OVER (PARTITION BY g.next_consumer, g.goes ORDER BY g.position)
                    <= coalesce(rooms[array_position(names, g.next_consumer)], 0) AS handed
          FROM (SELECT c.*, h.holds, c.action = 'advance' AND NOT (c.terminal OR h.holds OR c.halted) AS goes
                  FROM current c
                 CROSS JOIN LATERAL (SELECT coalesce(c.waits AND c.unknown_until > moment, false) AS holds) AS h) AS g
    ), logged AS (
        INSERT INTO outbox.events (intent_id, schedule_id, type, at, consumer, attempt, lease_number,
                                   error_code, error_message, zed_token, superseded_by)
        SELECT i.intent_id, i.schedule_id, i.next_event, moment, i.consumer, i.attempt, i.lease_number,
               i.error_code, i.error_message, i.zed_token, nullif((i.redefines->>'through')::uuid, i.intent_id)
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
                       CASE WHEN i.handed THEN 'leased' WHEN i.holds THEN 'holding' ELSE 'ready' END
                   WHEN 'retry' THEN 'waiting'
                   WHEN 'hold' THEN 'holding'
                   WHEN 'park' THEN 'parked' END,
               due_at = CASE i.action
                   WHEN 'advance' THEN CASE WHEN i.handed THEN moment + make_interval(secs => lease_seconds)
                                            WHEN i.waits THEN greatest(moment, i.unknown_until)
                                            ELSE moment END
                   WHEN 'retry' THEN greatest(moment + make_interval(secs => i.delay_seconds),
                                              CASE WHEN i.waits THEN i.unknown_until END)
                   WHEN 'hold' THEN greatest(moment, i.unknown_until)
                   WHEN 'park' THEN 'infinity' END,
               lease_number = q.lease_number + i.handed::integer,
               deadline = CASE WHEN i.handed THEN moment + make_interval(secs => step_timeout_seconds)
                               ELSE q.deadline END,
               attempts = CASE i.action WHEN 'advance' THEN i.handed::integer ELSE q.attempts END,
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
        RETURNING q.intent_id, i.handed
    ), ended AS (
        DELETE FROM outbox.queue q USING item i WHERE q.intent_id = ANY (ARRAY[i.intent_id]) AND i.terminal
        RETURNING q.schedule_id, q.intent_id, i.live, i.unknown_until, i.redefines,
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
        INSERT INTO outbox.lanes AS l (schedule_id, live_intent, hold_until, updated_at, definition, revision)
        SELECT e.schedule_id,
               CASE e.live WHEN 'set' THEN e.intent_id WHEN 'clear' THEN NULL ELSE was.live_intent END,
               e.hold_until, moment,
               -- Of what is live from now on, its intent says all.
               CASE WHEN e.live NOT IN ('set', 'clear', 'reclaim') THEN was.definition END,
               CASE WHEN e.live NOT IN ('set', 'clear', 'reclaim') THEN was.revision END
          FROM ended e LEFT JOIN outbox.lanes was ON was.schedule_id = ANY (ARRAY[e.schedule_id])
         WHERE e.live <> 'keep' OR e.hold_until IS NOT NULL
         ORDER BY e.schedule_id
            ON CONFLICT (schedule_id) DO UPDATE
           SET live_intent = excluded.live_intent,
               definition = excluded.definition,
               revision = excluded.revision,
               hold_until = greatest(l.hold_until, excluded.hold_until),
               updated_at = excluded.updated_at
    ), unused AS (
        SELECT array_agg(r.room - (SELECT count(*)::integer FROM item i
                                    WHERE i.handed AND i.next_consumer = r.consumer) ORDER BY r.at) AS rooms
          FROM unnest(names, rooms) WITH ORDINALITY AS r (consumer, room, at)
    ), followers AS (
        SELECT g.*, g.goes AND row_number() OVER (PARTITION BY g.consumer, g.goes ORDER BY g.position)
                    <= coalesce((SELECT u.rooms FROM unused u)[array_position(names, g.consumer)], 0) AS handed
          FROM (SELECT f.*, h.hold_until, t.what IS NOT NULL AS halted,
                       f.known AND t.what IS NULL AND coalesce(h.hold_until <= moment, true) AS goes
                  FROM ended e
                  LEFT JOIN outbox.lanes l ON l.schedule_id = ANY (ARRAY[e.schedule_id])
                  LEFT JOIN outbox.halts t ON t.what = ANY (ARRAY[e.schedule_id])
                 CROSS JOIN LATERAL (SELECT greatest(e.hold_until, l.hold_until) AS hold_until) AS h
                 CROSS JOIN LATERAL (
                    SELECT f.intent_id, f.consumer, f.position,
                           updating OR f.event_type <> 'schedule.update.requested' AS known
                      FROM outbox.queue f
                     WHERE f.place = 'behind' AND f.schedule_id = e.schedule_id
                       AND NOT coalesce(e.redefines->'run' ? f.intent_id::text, false)  -- they end with it
                     ORDER BY f.position LIMIT 1) AS f) AS g
    ), promoted AS (
        UPDATE outbox.queue q
           SET place = 'head',
               halted = f.halted,
               state = CASE WHEN f.handed THEN 'leased' WHEN f.hold_until > moment THEN 'holding' ELSE 'ready' END,
               lease_number = q.lease_number + f.handed::integer,
               attempts = q.attempts + f.handed::integer,
               deadline = CASE WHEN f.handed THEN moment + make_interval(secs => step_timeout_seconds)
                               ELSE q.deadline END,
               due_at = CASE WHEN f.handed THEN moment + make_interval(secs => lease_seconds)
                             ELSE greatest(moment, f.hold_until) END
          FROM followers f WHERE q.intent_id = ANY (ARRAY[f.intent_id])
        RETURNING q.intent_id, f.handed
    )
    SELECT coalesce(array_agg(h.intent_id), '{}') INTO handed
      FROM (SELECT * FROM moved UNION ALL SELECT * FROM promoted) AS h WHERE h.handed;

    -- 5. What was reclaimed is entered, what is live is defined anew, and what failed is sorted.
    SELECT bool_or(s.terminal OR s.action = 'park'), array_agg(s.intent_id) FILTER (
               WHERE s.live = 'reclaim' AND (s.intent_id, s.lease_number) IN (SELECT * FROM unnest(matched, leases))),
           array_agg(DISTINCT s.intent_id) FILTER (WHERE s.action = 'park' OR s.next_event LIKE '%\_failed'),
           bool_or(s.redefines IS NOT NULL)
      INTO notifies, reclaims, failing, redefines
      FROM jsonb_to_recordset(settlements) AS s (
           intent_id uuid, lease_number bigint, terminal boolean, action text, live text, next_event text,
           redefines jsonb);
    IF reclaims IS NOT NULL THEN
        PERFORM outbox.enter_reclaimed(reclaims, moment);
    END IF;
    IF redefines THEN
        PERFORM outbox.redefine(settlements, matched, leases, moment, publishes);
    END IF;
    IF failing IS NOT NULL THEN
        PERFORM outbox.note_failures(failing, moment);
    END IF;

    -- 6. The requests of intents whose turn has come are published, after all that has ended before them.
    IF publishes THEN
        PERFORM outbox.publish_requests(handed);
    END IF;

    -- 7. Whoever waits to hear is notified.
    IF notifies AND outbox.somebody_waits(moment) THEN
        PERFORM outbox.tell('outbox_settled');
    END IF;
    IF wake THEN
        PERFORM outbox.tell('outbox_work');
    END IF;

    RETURN QUERY
    SELECT NULL::uuid, NULL::bigint, h.* FROM outbox.steps(handed) AS h;
END;
$$;
