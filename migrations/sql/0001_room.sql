-- Room: how many steps may be chosen, of what callers have room for, and what is spent when they are.
-- Locks and plans: README.md beside this file.

-- How many steps of each consumer may be chosen: of what the caller has room for, what halts, breakers and rates allow.
-- probing: some breaker is open.
CREATE FUNCTION outbox.room(
    limits jsonb, rates jsonb, moment timestamptz, OUT names text[], OUT rooms integer[], OUT probing boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    halted CONSTANT text[] := outbox.halted_stores();
BEGIN
    -- A store that a person has halted gets none; a repair needs both. One whose breaker is open gets one step when
    -- its next probe is due, and none before.
    SELECT array_agg(a.key), array_agg(
               CASE WHEN a.key = ANY (halted) THEN 0
                    WHEN b.consumer IS NULL THEN a.value::integer
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

-- Write down that these steps were chosen: their stores' rates are spent on them, and a step that went out to a
-- store with an open breaker is its probe.
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
END;
$$;
