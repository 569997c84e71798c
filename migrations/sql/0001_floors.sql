-- Floors: where a claim starts to look. Whatever lies before is gone.
-- Locks and plans: README.md beside this file.
--
-- Row versions that are gone are passed over again by every look until they are vacuumed, and none can be while some
-- transaction, anywhere, is older than them.
--
-- Each claim looks from the very start for as long as that takes less than a millisecond. When it takes longer, what
-- it finds there first becomes the floor of the next claims, for twenty times as long as the look took: so looks
-- from the start never take more than a twentieth of the time. The floors stay behind by a second and a thousand
-- positions. What is committed later still is found by the next look from the start.
-- Sequences keep them, as these leave no row versions behind.
--
-- A head that is placed while there is no room for it may have waited since before the floor, where no claim looks.
-- It is lifted: it is due a microsecond after what was lifted before it, and no earlier than a second before the last
-- look that took long, which no floor is above. That is so whether floors hold just now or not: so heads that have
-- waited for as long go in the order in which they were placed, whatever the floors were when each was.
CREATE TYPE outbox.floors AS (
    authz timestamptz, temporal timestamptz, "both" timestamptz,
    incoming     bigint,  -- position; 0: looked from the start
    any_incoming boolean  -- whether anything incoming may be there
);
CREATE SEQUENCE outbox.last_look AS bigint MINVALUE 0;  -- microseconds since 1970, as the next five
CREATE SEQUENCE outbox.next_look AS bigint MINVALUE 0;
CREATE SEQUENCE outbox.placed_due AS bigint MINVALUE 0;
CREATE SEQUENCE outbox.floor_authz AS bigint MINVALUE 0;
CREATE SEQUENCE outbox.floor_temporal AS bigint MINVALUE 0;
CREATE SEQUENCE outbox.floor_both AS bigint MINVALUE 0;
CREATE SEQUENCE outbox.floor_incoming AS bigint MINVALUE 0;  -- position

CREATE FUNCTION outbox.floor_of(floors outbox.floors, consumer text) RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN CASE consumer WHEN 'authz' THEN (floors).authz WHEN 'temporal' THEN (floors).temporal
                     ELSE (floors)."both" END;

-- When the head is due that was lifted last; or later, by the last look that took long. What is lifted follows it.
CREATE FUNCTION outbox.last_placed() RETURNS timestamptz LANGUAGE sql VOLATILE
RETURN coalesce(to_timestamp(pg_sequence_last_value('outbox.placed_due') / 1000000.0), '-infinity');

CREATE FUNCTION outbox.floors(moment timestamptz) RETURNS outbox.floors
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    -- However long a look seems to have taken: the clock may be set forward, or the machine stopped, meanwhile.
    longest CONSTANT bigint := 300000000;
    behind  CONSTANT timestamptz := moment - interval '1 second';
    now_us     bigint := extract(epoch FROM moment) * 1000000;
    last_look  bigint := pg_sequence_last_value('outbox.last_look');
    placed_due bigint := pg_sequence_last_value('outbox.placed_due');
    began timestamptz;
    took  bigint;  -- microseconds
    found outbox.floors;
BEGIN
    -- A look that lies in the future was made by a clock that has been set back since.
    IF now_us >= last_look
       AND now_us < least(pg_sequence_last_value('outbox.next_look'), last_look + longest) THEN
        RETURN (to_timestamp(pg_sequence_last_value('outbox.floor_authz') / 1000000.0),
                to_timestamp(pg_sequence_last_value('outbox.floor_temporal') / 1000000.0),
                to_timestamp(pg_sequence_last_value('outbox.floor_both') / 1000000.0),
                pg_sequence_last_value('outbox.floor_incoming'), true)::outbox.floors;
    END IF;

    began := clock_timestamp();
    SELECT (SELECT h.due_at FROM outbox.queue h
             WHERE h.state NOT IN ('queued', 'parked') AND NOT h.halted AND h.consumer = 'authz' ORDER BY h.due_at LIMIT 1),
           (SELECT h.due_at FROM outbox.queue h
             WHERE h.state NOT IN ('queued', 'parked') AND NOT h.halted AND h.consumer = 'temporal' ORDER BY h.due_at LIMIT 1),
           (SELECT h.due_at FROM outbox.queue h
             WHERE h.state NOT IN ('queued', 'parked') AND NOT h.halted AND h.consumer = 'both' ORDER BY h.due_at LIMIT 1),
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
            setval('outbox.placed_due',
                   greatest(now_us - 1000000, CASE WHEN placed_due <= now_us THEN placed_due END)),
            setval('outbox.last_look', now_us),
            setval('outbox.next_look', now_us + 20 * took);
    RETURN found;
END;
$$;
