-- Waves: a replay of many, a few at first and then more, which stops by itself where too many of a wave fail again.
-- Locks and plans: README.md beside this file.
--
-- It is planned, which is its preview, and then started: what is done is what was planned. Workers carry it on, so it
-- goes on when whoever started it is gone. The next wave begins when all of the last one have come out.

CREATE TABLE outbox.replays (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    who       text        NOT NULL,
    role      name        NOT NULL DEFAULT session_user,
    why       text,
    forced    boolean     NOT NULL,
    waves     integer[]   NOT NULL,  -- how many each replays; the last one again and again
    tolerated float8      NOT NULL,  -- the share of a wave that may fail again
    state     text        NOT NULL DEFAULT 'planned',
    wave      integer     NOT NULL DEFAULT 0,  -- which one is under way
    planned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    ended_at  timestamptz,
    ended_as  text,  -- what ended it, in words
    CONSTRAINT replays_state CHECK (state IN ('planned', 'running', 'done', 'stopped', 'aborted')),
    CONSTRAINT replays_waves CHECK (cardinality(waves) > 0 AND 1 <= ALL (waves) AND 1000 >= ALL (waves)),
    CONSTRAINT replays_tolerated CHECK (tolerated BETWEEN 0 AND 1)
);
CREATE INDEX replays_running ON outbox.replays (id) WHERE state = 'running';

CREATE TABLE outbox.replay_items (
    replay     bigint  NOT NULL REFERENCES outbox.replays ON DELETE CASCADE,
    number     integer NOT NULL,
    intent_id  uuid    NOT NULL,
    seen       bigint  NOT NULL,  -- its lease number when it was planned: another one says that it has changed since
    action     text    NOT NULL,  -- what is to be done; then, what was done: rearmed, reenqueued, refused or skipped
    reason     text    NOT NULL,
    wave       integer,           -- none yet
    followed   uuid,              -- the intent that tells how it came out
    outcome    text,              -- its status at the end: succeeded, failed or parked
    PRIMARY KEY (replay, number)
);
CREATE INDEX replay_items_open ON outbox.replay_items (replay, number) WHERE wave IS NULL AND action <> 'refused';
CREATE INDEX replay_items_out ON outbox.replay_items (replay, number) WHERE followed IS NOT NULL AND outcome IS NULL;

-- Plan it: each intent is rehearsed, in this order.
CREATE FUNCTION outbox.plan_replay(
    operator text, why text, intents uuid[], forced boolean, waves integer[], tolerated float8) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    planned bigint;
BEGIN
    INSERT INTO outbox.replays (who, why, forced, waves, tolerated)
    VALUES (operator, why, forced, waves, tolerated) RETURNING id INTO planned;
    INSERT INTO outbox.replay_items (replay, number, intent_id, seen, action, reason)
    SELECT planned, n.number, n.id, coalesce(s.attempts, 0), r.action, r.reason
      FROM unnest(intents) WITH ORDINALITY AS n (id, number)
     CROSS JOIN LATERAL outbox.replay(n.id, forced, true) AS r
      LEFT JOIN outbox.intent_status s ON s.id = n.id;
    RETURN planned;
END;
$$;

-- Begin what was planned, or end what is planned or running before its time; what a wave has replayed goes on. Answers
-- whether it was so.
CREATE FUNCTION outbox.start_replay(operator text, why text, planned bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE outbox.replays r SET state = 'running', started_at = clock_timestamp(), who = operator, role = session_user
     WHERE r.id = planned AND r.state = 'planned';
    IF FOUND THEN
        PERFORM outbox.record('start', operator, why, 'outbox', NULL, 'started', format('replay %s', planned), NULL);
    END IF;
    RETURN FOUND;
END;
$$;
CREATE FUNCTION outbox.abort_replay(operator text, why text, planned bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    UPDATE outbox.replays r
       SET state = 'aborted', ended_at = clock_timestamp(), ended_as = concat_ws(': ', 'aborted by ' || operator, why)
     WHERE r.id = planned AND r.state IN ('planned', 'running');
    IF FOUND THEN
        PERFORM outbox.record('abort', operator, why, 'outbox', NULL, 'aborted', format('replay %s', planned), NULL);
    END IF;
    RETURN FOUND;
END;
$$;

-- Replay the next of a running one, and write each down. Returns how many there were.
CREATE FUNCTION outbox.replay_wave(run outbox.replays, nth integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
DECLARE
    most CONSTANT integer := run.waves[least(nth, cardinality(run.waves))];
    item outbox.replay_items;
    done record;
    many integer := 0;
BEGIN
    FOR item IN SELECT i.* FROM outbox.replay_items i
                 WHERE i.replay = run.id AND i.wave IS NULL AND i.action <> 'refused' ORDER BY i.number LIMIT most LOOP
        many := many + 1;
        IF item.seen IS DISTINCT FROM (SELECT s.attempts FROM outbox.intent_status s WHERE s.id = item.intent_id) THEN
            SELECT 'skipped' AS action, 'it has changed since it was planned' AS reason, NULL::uuid AS new_intent_id
              INTO done;
        ELSE
            SELECT * INTO done FROM outbox.replay(item.intent_id, run.forced, false);
            INSERT INTO outbox.operations (action, who, role, why, target, intent_id, outcome, detail, made)
            SELECT 'replay', run.who, run.role, run.why, n.schedule_id, n.id, done.action,
                   format('replay %s, wave %s: %s', run.id, nth, done.reason), done.new_intent_id
              FROM outbox.intents n WHERE n.id = item.intent_id;
        END IF;
        UPDATE outbox.replay_items i
           SET wave = nth, action = done.action, reason = done.reason,
               followed = CASE done.action WHEN 'rearmed' THEN item.intent_id ELSE done.new_intent_id END
         WHERE i.replay = run.id AND i.number = item.number;
    END LOOP;
    RETURN many;
END;
$$;

-- Carry on what runs: see how the last wave has come out; then end it, or begin the next one.
CREATE FUNCTION outbox.carry_on_replays() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
DECLARE
    run   outbox.replays;
    again bigint;
    acted bigint;
BEGIN
    FOR run IN SELECT r.* FROM outbox.replays r WHERE r.state = 'running' ORDER BY r.id FOR UPDATE SKIP LOCKED LOOP
        UPDATE outbox.replay_items i SET outcome = s.status
          FROM outbox.intent_status s
         WHERE i.replay = run.id AND i.followed IS NOT NULL AND i.outcome IS NULL
           AND s.id = ANY (ARRAY[i.followed]) AND s.status <> 'pending';
        CONTINUE WHEN EXISTS (SELECT FROM outbox.replay_items i
                               WHERE i.replay = run.id AND i.followed IS NOT NULL AND i.outcome IS NULL);
        SELECT count(*) FILTER (WHERE i.outcome <> 'succeeded'), count(*) INTO again, acted
          FROM outbox.replay_items i WHERE i.replay = run.id AND i.wave = run.wave AND i.followed IS NOT NULL;
        IF again > run.tolerated * acted THEN
            UPDATE outbox.replays r
               SET state = 'stopped', ended_at = clock_timestamp(),
                   ended_as = format('%s of %s in wave %s failed again', again, acted, run.wave)
             WHERE r.id = run.id;
        ELSIF outbox.replay_wave(run, run.wave + 1) > 0 THEN
            UPDATE outbox.replays r SET wave = run.wave + 1 WHERE r.id = run.id;
        ELSE
            UPDATE outbox.replays r
               SET state = 'done', ended_at = clock_timestamp(), ended_as = 'all of it was replayed'
             WHERE r.id = run.id;
        END IF;
    END LOOP;
END;
$$;
