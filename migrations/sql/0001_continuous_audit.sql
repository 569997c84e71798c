-- The continuous audit, which workers do by themselves, at a rate that they share: where its round is, and what the
-- last one found.
--
-- A round goes through the lanes in the order of their ids, then through the lists of SpiceDB and of Temporal for
-- what carries a stamp under a name that has no lane.
-- Locks and plans: README.md beside this file.

CREATE TABLE outbox.audit (
    only_row      boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    stage         text        NOT NULL DEFAULT 'lanes',
    reached       text        NOT NULL DEFAULT '',  -- a lane's id, or a list's cursor
    tokens        float8      NOT NULL DEFAULT 0,   -- what is left of the rate
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    began_at      timestamptz,                      -- this round
    looked        bigint      NOT NULL DEFAULT 0,   -- at so many lanes
    live          bigint      NOT NULL DEFAULT 0,   -- so many of them live
    found         jsonb       NOT NULL DEFAULT '{}', -- drifts by kind
    last_began_at timestamptz,                      -- the last round that ended
    last_ended_at timestamptz,
    last_looked   bigint,
    last_live     bigint,
    last_found    jsonb,
    CONSTRAINT audit_stage CHECK (stage IN ('lanes', 'spicedb', 'temporal'))
);
INSERT INTO outbox.audit DEFAULT VALUES;

-- What was found, schedule by schedule, until it is looked at again. Of each kind, a round writes down the first
-- thousand: more is counted alone.
CREATE TABLE outbox.drifts (
    schedule_id text        COLLATE "C" NOT NULL,
    kind        text        NOT NULL,
    detail      text        NOT NULL,
    fix         text        NOT NULL,  -- as the audit said it
    found_at    timestamptz NOT NULL,
    PRIMARY KEY (schedule_id, kind)
);

-- Take the next lanes of the round, or the next page of a store's list, at most `rate` a second over all workers
-- (a page counts as one). Nothing, while the rate is spent, another worker takes, or a store is halted or its breaker
-- open.
CREATE FUNCTION outbox.audit_take(rate float8, most integer)
RETURNS TABLE (stage text, reached text, names text[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    step   outbox.audit;
    moment timestamptz := clock_timestamp();
    room   integer;
    batch  text[];
BEGIN
    SELECT * INTO step FROM outbox.audit FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR EXISTS (SELECT FROM outbox.breakers)
       OR EXISTS (SELECT FROM outbox.halts h WHERE h.what IN ('authz', 'temporal')) THEN
        RETURN;
    END IF;
    step.tokens := least(greatest(rate, 1), step.tokens + rate * extract(epoch FROM moment - step.at)::float8);
    room := least(most, floor(step.tokens)::integer);
    IF room < 1 THEN
        RETURN;  -- as it was: so that it adds up from the last time that something was taken
    END IF;
    IF step.stage = 'lanes' THEN
        batch := ARRAY(SELECT outbox.lanes_after(step.reached, '', room));
        RETURN QUERY SELECT step.stage, step.reached, batch;
        IF cardinality(batch) < room THEN
            step.stage := 'spicedb';
            step.reached := '';
        ELSE
            step.reached := batch[cardinality(batch)];
        END IF;
    ELSE
        RETURN QUERY SELECT step.stage, step.reached, '{}'::text[];
    END IF;
    UPDATE outbox.audit a
       SET stage = step.stage, reached = step.reached, at = moment,
           tokens = step.tokens - greatest(1, coalesce(cardinality(batch), 0)),
           began_at = coalesce(a.began_at, moment),
           looked = a.looked + coalesce(cardinality(batch), 0);
END;
$$;

-- Add to the round what was found, and how many live lanes it was found among. What was known of the schedules that
-- were judged gives way to what was found of them now. Returns what the round has come to, and what the last one had.
CREATE FUNCTION outbox.audit_add(counted jsonb, among bigint, judged text[], drifts jsonb)
RETURNS TABLE (found jsonb, live bigint, last_found jsonb, last_live bigint)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM outbox.drifts d WHERE d.schedule_id = ANY (judged);
    INSERT INTO outbox.drifts (schedule_id, kind, detail, fix, found_at)
    SELECT f.schedule_id, f.kind, string_agg(f.detail, '; '), min(f.fix), clock_timestamp()
      FROM jsonb_to_recordset(drifts) AS f (schedule_id text, kind text, detail text, fix text)
     CROSS JOIN outbox.audit a
     WHERE coalesce((a.found->>f.kind)::bigint, 0) < 1000
     GROUP BY f.schedule_id, f.kind ORDER BY f.schedule_id, f.kind
        ON CONFLICT (schedule_id, kind) DO UPDATE
       SET detail = excluded.detail, fix = excluded.fix, found_at = excluded.found_at;
    UPDATE outbox.audit a SET live = a.live + among, found = (
        SELECT coalesce(jsonb_object_agg(g.key, g.count), '{}')
          FROM (SELECT u.key, sum(u.value::bigint) AS count
                  FROM (SELECT * FROM jsonb_each_text(a.found)
                        UNION ALL SELECT * FROM jsonb_each_text(counted)) AS u
                 GROUP BY u.key) AS g)
    RETURNING a.found, a.live, coalesce(a.last_found, '{}'), coalesce(a.last_live, 0);
END;

-- Go on from a page of a store's list, unless somebody else did: to the page after (none: that was the last).
-- Returns whether the round is over with it. What it did not find again is forgotten then.
CREATE FUNCTION outbox.audit_pass(stage_was text, reached_was text, next text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    round_began timestamptz;
BEGIN
    IF next IS NOT NULL THEN
        UPDATE outbox.audit a SET reached = next WHERE a.stage = stage_was AND a.reached = reached_was;
        RETURN false;
    END IF;
    IF stage_was = 'spicedb' THEN
        UPDATE outbox.audit a SET stage = 'temporal', reached = ''
         WHERE a.stage = stage_was AND a.reached = reached_was;
        RETURN false;
    END IF;
    SELECT a.began_at INTO round_began FROM outbox.audit a
     WHERE a.stage = stage_was AND a.reached = reached_was FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE outbox.audit a
       SET stage = 'lanes', reached = '', began_at = NULL, looked = 0, live = 0, found = '{}',
           last_began_at = a.began_at, last_ended_at = clock_timestamp(), last_looked = a.looked,
           last_live = a.live, last_found = a.found;
    DELETE FROM outbox.drifts d WHERE d.found_at < round_began;
    RETURN true;
END;
$$;
