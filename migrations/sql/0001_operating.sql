-- Operating: failed intents are tried again, parked ones ended, repairs asked for.
-- Locks and plans: README.md beside this file.

-- Replay one intent. A parked step is re-armed; a failed intent is enqueued anew, linked to the first of its
-- chain and numbered, so that of two operators at once one is refused. Rehearsed, nothing is written.
-- Answers what was (or would be) done: rearmed, reenqueued or refused, why, and the new intent.
CREATE FUNCTION outbox.replay(intent uuid, forced boolean, rehearsed boolean)
RETURNS TABLE (action text, reason text, new_intent_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    original outbox.intents;
    standing record;
    root     uuid;
    number   integer;
    latest   uuid;
BEGIN
    SELECT * INTO original FROM outbox.intents i WHERE i.id = intent;
    IF original.id IS NULL THEN
        RETURN QUERY SELECT 'refused', 'there is no such intent', NULL::uuid;
        RETURN;
    END IF;
    SELECT s.status, s.event_type INTO standing FROM outbox.intent_status s WHERE s.id = intent;

    IF standing.status = 'parked' THEN
        IF NOT rehearsed THEN
            UPDATE outbox.queue q
               SET state = CASE WHEN q.unknown_until > clock_timestamp() THEN 'holding' ELSE 'ready' END,
                   due_at = greatest(clock_timestamp(), q.unknown_until),
                   strikes = 0, attempts = 0, patience = 0
             WHERE q.intent_id = intent AND q.state = 'parked';
            IF NOT FOUND THEN
                RETURN QUERY SELECT 'refused', 'somebody else was quicker', NULL::uuid;
                RETURN;
            END IF;
            DELETE FROM outbox.failures f WHERE f.intent_id = intent;
            NOTIFY outbox_work;
        END IF;
        RETURN QUERY SELECT 'rearmed', format('%s is tried again', standing.event_type), NULL::uuid;
        RETURN;
    END IF;
    IF standing.status <> 'failed' THEN
        RETURN QUERY SELECT 'refused', format('it is %s: only failed and parked intents are replayed',
                                              standing.status), NULL::uuid;
        RETURN;
    END IF;

    root := coalesce(original.replays, original.id);
    SELECT i.id, i.replay_number INTO latest, number
      FROM outbox.intents i WHERE i.replays = root ORDER BY i.replay_number DESC LIMIT 1;
    IF coalesce(latest, root) <> intent THEN
        RETURN QUERY SELECT 'refused', format('it was replayed already: the newest of its chain is %s', latest),
                            NULL::uuid;
        RETURN;
    END IF;
    IF NOT forced AND EXISTS (
        SELECT FROM outbox.intents i
         WHERE i.schedule_id = original.schedule_id AND i.position > original.position
           AND (i.kind <> 'repair' OR i.request <> '{}')
    ) THEN
        RETURN QUERY SELECT 'refused',
                            'a later intent of the lane has overtaken it (force replays it all the same)', NULL::uuid;
        RETURN;
    END IF;
    IF rehearsed THEN
        RETURN QUERY SELECT 'reenqueued', format('%s of %s is asked for again', original.kind, original.schedule_id),
                            NULL::uuid;
        RETURN;
    END IF;

    latest := outbox.uuid7();
    BEGIN
        WITH written AS (
            INSERT INTO outbox.intents
                   (id, schedule_id, kind, request, creator, trace, replays, replay_number)
            VALUES (latest, original.schedule_id, original.kind, original.request, original.creator, original.trace,
                    root, coalesce(number, 0) + 1)
            RETURNING *
        ), logged AS (
            INSERT INTO outbox.events (intent_id, schedule_id, type)
            SELECT w.id, w.schedule_id, 'schedule.' || w.kind || '.requested' FROM written w
        )
        INSERT INTO outbox.queue (intent_id, position, schedule_id, event_type, consumer)
        SELECT w.id, w.position, w.schedule_id, 'schedule.' || w.kind || '.requested',
               CASE w.kind WHEN 'create' THEN 'authz' ELSE 'temporal' END
          FROM written w;
    EXCEPTION WHEN unique_violation THEN
        RETURN QUERY SELECT 'refused', 'somebody else was quicker', NULL::uuid;
        RETURN;
    END;
    DELETE FROM outbox.failures f WHERE f.intent_id = intent;
    NOTIFY outbox_work;
    RETURN QUERY SELECT 'reenqueued', format('%s of %s is asked for again', original.kind, original.schedule_id),
                        latest;
END;
$$;

-- End a parked intent. It converges: what is ours is undone first, and what has taken effect after all stands.
-- Answers what happens now, or why nothing does.
CREATE FUNCTION outbox.discard(intent uuid, why text) RETURNS TABLE (action text, reason text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    step   outbox.queue;
    moment timestamptz := clock_timestamp();
BEGIN
    SELECT * INTO step FROM outbox.queue q WHERE q.intent_id = intent FOR UPDATE;
    IF step.intent_id IS NULL OR step.state <> 'parked' THEN
        RETURN QUERY SELECT 'refused', 'it is not parked: only parked intents are discarded';
        RETURN;
    END IF;
    IF step.event_type IN ('schedule.unscheduled', 'schedule.compensation_requested') THEN
        RETURN QUERY SELECT 'refused', 'it is undoing what is ours already, and must go through: replay it';
        RETURN;
    END IF;

    IF step.event_type = 'schedule.create.requested' THEN
        -- Nothing is in Temporal yet: the compensation undoes what may be in SpiceDB.
        WITH logged AS (
            INSERT INTO outbox.events (intent_id, schedule_id, type, at, error_code, error_message)
            VALUES (intent, step.schedule_id, 'schedule.compensation_requested', moment, 'discarded', why)
            RETURNING id
        )
        INSERT INTO outbox.publications (event_id, intent_id)
        SELECT l.id, intent FROM logged l JOIN outbox.instance n ON n.publishes;
        UPDATE outbox.queue q SET event_type = 'schedule.compensation_requested', consumer = 'authz'
         WHERE q.intent_id = intent;
    END IF;
    UPDATE outbox.queue q
       SET state = CASE WHEN q.unknown_until > moment THEN 'holding' ELSE 'ready' END,
           due_at = greatest(moment, q.unknown_until),
           -- Elsewhere a look shows whether the effect stands; if not, the discard is what the intent ends with.
           looking = step.event_type <> 'schedule.create.requested',
           cause_code = 'discarded', cause_message = why, strikes = 0, attempts = 0, patience = 0
     WHERE q.intent_id = intent;
    DELETE FROM outbox.failures f WHERE f.intent_id = intent;
    NOTIFY outbox_work;
    RETURN QUERY SELECT 'discarding', format('%s is undone where it took effect', step.event_type);
END;
$$;

-- Ask for a repair of a lane, in its turn. One of a kind at a time is enough.
CREATE FUNCTION outbox.ask_for_repair(schedule text, asked jsonb, by jsonb) RETURNS uuid
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found uuid;
BEGIN
    SELECT q.intent_id INTO found FROM outbox.intents i JOIN outbox.queue q ON q.intent_id = i.id
     WHERE i.schedule_id = schedule AND i.kind = 'repair' AND i.request = asked
       AND (q.place IN ('incoming', 'behind') OR (q.place = 'deferred' AND q.due_at <= clock_timestamp()));
    IF found IS NOT NULL THEN
        RETURN found;
    END IF;
    WITH written AS (
        INSERT INTO outbox.intents (id, schedule_id, kind, request, creator)
        VALUES (outbox.uuid7(), schedule, 'repair', asked, by) RETURNING *
    ), logged AS (
        INSERT INTO outbox.events (intent_id, schedule_id, type)
        SELECT w.id, w.schedule_id, 'schedule.repair.requested' FROM written w
    )
    INSERT INTO outbox.queue (intent_id, position, schedule_id, place, event_type, consumer)
    SELECT w.id, w.position, w.schedule_id, 'deferred', 'schedule.repair.requested', 'both' FROM written w
    RETURNING intent_id INTO found;
    NOTIFY outbox_work;
    RETURN found;
END;
$$;

-- Ask for a lane to be brought to what its live stamp says; or, adopting, for a schedule from before the outbox to
-- become the lane's live one.
CREATE FUNCTION outbox.request_repair(schedule text, adopting boolean DEFAULT false) RETURNS uuid
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT outbox.ask_for_repair(schedule, CASE WHEN adopting THEN '{"adopt": true}'::jsonb ELSE '{}' END, '{}');
END;

-- Ask for a schedule that the ledger doesn't know any more, and that carries this stamp in both stores, to become
-- the lane's live one again: as what its intent had asked for, and by whom.
CREATE FUNCTION outbox.request_reclaim(schedule text, stamp uuid, definition jsonb, by jsonb) RETURNS uuid
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT outbox.ask_for_repair(schedule, definition || jsonb_build_object('reclaim', stamp), by);
END;
