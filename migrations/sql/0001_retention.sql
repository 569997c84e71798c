-- Retention: look what may go, then delete it, both in batches whose size the caller bounds.
--
-- In between, the caller removes from SpiceDB the marks of the intents that go: whatever happens to it on the
-- way, an intent's row is there for as long as its mark.
-- Locks and plans: README.md beside this file.

-- Of these intents, those that may go: they ended before, and nothing needs them. Kept are those with an event
-- that is still to be published, the intent of a live stamp, and every intent of a lane that has something unsettled
-- or whose late writes may still land: by its stamps a lane's debris is known, and a replay is linked to the first of
-- its chain.
CREATE FUNCTION outbox.prunable_of(intents uuid[], older_than timestamptz) RETURNS SETOF uuid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
BEGIN ATOMIC
    WITH ended AS MATERIALIZED (
        SELECT i.id, i.schedule_id FROM outbox.intents i
         WHERE i.id = ANY (intents)
           AND EXISTS (SELECT FROM outbox.events t
                        WHERE t.intent_id = i.id AND t.at < older_than AND t.type IN (
                              'schedule.created', 'schedule.create_failed', 'schedule.updated',
                              'schedule.update_failed', 'schedule.deleted', 'schedule.delete_failed',
                              'schedule.repaired'))
    ), needed AS MATERIALIZED (
        -- Where anything of a lane is queued, there is a head, or something that has no place yet.
        SELECT e.schedule_id FROM ended e
         WHERE EXISTS (SELECT FROM outbox.queue q WHERE q.schedule_id = e.schedule_id AND q.place = 'head')
        UNION
        SELECT q.schedule_id FROM outbox.queue q
         WHERE q.place = 'incoming' AND q.schedule_id IN (SELECT e.schedule_id FROM ended e)
        UNION
        SELECT q.schedule_id FROM outbox.queue q
         WHERE q.place = 'deferred' AND q.schedule_id IN (SELECT e.schedule_id FROM ended e)
        UNION
        SELECT l.schedule_id FROM outbox.lanes l
         WHERE l.schedule_id IN (SELECT e.schedule_id FROM ended e) AND l.hold_until > clock_timestamp()
    )
    SELECT e.id FROM ended e
     WHERE e.schedule_id NOT IN (SELECT n.schedule_id FROM needed n)
       AND NOT EXISTS (SELECT FROM outbox.publications p WHERE p.intent_id = e.id)
       AND NOT EXISTS (SELECT FROM outbox.lanes l
                        WHERE l.schedule_id = e.schedule_id AND l.live_intent = e.id);
END;

-- Look through the next intents in the order of their ids, which is that of their time, up to so many, and up
-- to those that began later: each with whether it may go. None: that was all.
CREATE FUNCTION outbox.prunable(older_than timestamptz, after uuid, most integer)
RETURNS TABLE (intent_id uuid, goes boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bound CONSTANT uuid := outbox.first_id(older_than);
    next_ids uuid[];
BEGIN
    next_ids := ARRAY(SELECT i.id FROM outbox.intents i
                       WHERE i.id > after AND i.id < bound ORDER BY i.id LIMIT most);
    RETURN QUERY
    SELECT n.id, p.id IS NOT NULL
      FROM unnest(next_ids) AS n (id)
      LEFT JOIN outbox.prunable_of(next_ids, older_than) AS p (id) ON p.id = n.id
     ORDER BY n.id;
END;
$$;

-- Delete these intents with their events and attempts, as far as they may go still; returns how many went.
CREATE FUNCTION outbox.prune(older_than timestamptz, intents uuid[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone uuid[] := ARRAY(SELECT outbox.prunable_of(intents, older_than));
BEGIN
    DELETE FROM outbox.attempts a WHERE a.intent_id = ANY (gone);
    DELETE FROM outbox.failures f WHERE f.intent_id = ANY (gone);
    DELETE FROM outbox.events e WHERE e.intent_id = ANY (gone);
    DELETE FROM outbox.intents i WHERE i.id = ANY (gone);
    RETURN cardinality(gone);
END;
$$;

-- Look through the next lanes, up to so many, and delete those that say nothing any more: nothing is live,
-- nothing held, nothing queued. Returns where to go on (none: that was all), and how many went.
CREATE FUNCTION outbox.prune_lanes(older_than timestamptz, after text, most integer)
RETURNS TABLE (last text, gone bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH looked AS (
        SELECT l.* FROM outbox.lanes l WHERE l.schedule_id > after
         ORDER BY l.schedule_id LIMIT most
    ), deleted AS (
        DELETE FROM outbox.lanes l USING looked d
         WHERE l.schedule_id = d.schedule_id AND l.live_intent IS NULL AND l.updated_at < older_than
           AND coalesce(l.hold_until < clock_timestamp(), true)
           AND NOT EXISTS (SELECT FROM outbox.queue q
                            WHERE q.schedule_id = l.schedule_id AND q.place = 'head')
           AND NOT EXISTS (SELECT FROM outbox.queue q
                            WHERE q.schedule_id = l.schedule_id AND q.place = 'incoming')
           AND NOT EXISTS (SELECT FROM outbox.queue q
                            WHERE q.schedule_id = l.schedule_id AND q.place = 'deferred')
        RETURNING l.schedule_id
    )
    SELECT max(d.schedule_id), (SELECT count(*) FROM deleted) FROM looked d;
END;
$$;
