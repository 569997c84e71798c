-- What workers ask of the ledger.

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
