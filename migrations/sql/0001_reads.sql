-- What operators and waiting producers read. Statuses are derived here, in one place.

CREATE VIEW outbox.intent_status AS
SELECT i.id, i.schedule_id, i.kind, i.created_at, i.position, i.replays, i.replay_number,
       CASE WHEN t.type IN ('schedule.created', 'schedule.deleted', 'schedule.repaired') THEN 'succeeded'
            WHEN t.type IS NOT NULL THEN 'failed'
            WHEN q.state = 'parked' THEN 'parked'
            ELSE 'pending' END AS status,
       coalesce(t.type, q.event_type) AS event_type,
       coalesce(t.lease_number, q.lease_number) AS attempts,
       CASE WHEN t.type IS NULL THEN q.error_code ELSE t.error_code END AS error_code,
       CASE WHEN t.type IS NULL THEN q.error_message ELSE t.error_message END AS error_message,
       coalesce(t.at, (SELECT max(e.at) FROM outbox.events e WHERE e.intent_id = i.id), i.created_at) AS updated_at
FROM outbox.intents i
LEFT JOIN (
    SELECT e.intent_id, e.type::text AS type, e.at, e.lease_number, e.error_code, e.error_message FROM outbox.events e
) AS t ON t.intent_id = i.id AND t.type IN (
    'schedule.created', 'schedule.create_failed', 'schedule.deleted', 'schedule.delete_failed',
    'schedule.repaired')
LEFT JOIN outbox.queue q ON q.intent_id = i.id;

-- What a producer that waits may see of one intent; no row for an id that isn't there.
CREATE FUNCTION outbox.intent_result(intent uuid)
RETURNS TABLE (status text, event_type text, error_code text, error_message text, zed_token text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT s.status, s.event_type,
           CASE WHEN s.status IN ('failed', 'parked') THEN s.error_code END,
           CASE WHEN s.status IN ('failed', 'parked') THEN s.error_message END,
           (SELECT e.zed_token FROM outbox.events e
             WHERE e.intent_id = s.id AND e.zed_token IS NOT NULL ORDER BY e.id DESC LIMIT 1)
      FROM outbox.intent_status s WHERE s.id = intent;
END;
