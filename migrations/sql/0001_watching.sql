-- Watching: the whole outbox in figures, for whoever exports them. Reads what is there and changes nothing.
-- Locks and plans: README.md beside this file.

-- Each figure by its labels, which are consumers, states, places and kinds, never a schedule. Counts are exact up to
-- the bound, and estimates beyond it: it costs the same at a million waiting. What is not so has no row: no age of
-- the oldest head where there is no head.
CREATE FUNCTION outbox.gauges(bound integer) RETURNS TABLE (metric text, labels text[], value float8)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    now_s CONSTANT float8 := extract(epoch FROM clock_timestamp());
    oldest_unparked CONSTANT float8 := outbox.oldest_unparked(bound);
    oldest_parked CONSTANT float8 := (SELECT outbox.requested_at(q.intent_id) FROM outbox.queue q
                                       WHERE q.state = 'parked' ORDER BY q.intent_id LIMIT 1);
    oldest_delete CONSTANT float8 := (SELECT outbox.requested_at(q.intent_id) FROM outbox.queue q
                                       WHERE q.event_type IN ('schedule.delete.requested', 'schedule.unscheduled')
                                       ORDER BY q.intent_id LIMIT 1);
BEGIN
    RETURN QUERY
    WITH depths AS MATERIALIZED (
        SELECT d.of, d.consumer,
               CASE WHEN d.capped THEN greatest(d.counted, d.about) ELSE d.counted END::float8 AS many
          FROM outbox.depths(bound) AS d
    )
    SELECT 'outbox.heads', ARRAY[d.consumer, d.of], d.many FROM depths d WHERE d.consumer IS NOT NULL
    UNION ALL
    SELECT 'outbox.waiting', ARRAY[d.of], d.many FROM depths d WHERE d.of IN ('incoming', 'behind', 'deferred')
    UNION ALL
    SELECT n.metric, '{}'::text[], d.many
      FROM depths d
      JOIN (VALUES ('parked', 'outbox.parked'), ('halted', 'outbox.halted'), ('unpublished', 'outbox.unpublished_events'))
           AS n (of, metric) ON n.of = d.of
    UNION ALL
    SELECT a.metric, '{}', greatest(0, now_s - a.since) FROM (VALUES
        ('outbox.oldest_head_age', least(oldest_unparked, oldest_parked)),
        ('outbox.oldest_unparked_head_age', oldest_unparked),
        ('outbox.oldest_parked_age', oldest_parked),
        ('outbox.oldest_revocation_age', oldest_delete),
        ('outbox.audit_age', (SELECT extract(epoch FROM a.last_ended_at)::float8 FROM outbox.audit a))
    ) AS a (metric, since) WHERE a.since IS NOT NULL
    UNION ALL
    SELECT b.metric, ARRAY[s.consumer], b.value
      FROM unnest(ARRAY['authz', 'temporal', 'both']) AS s (consumer)
      LEFT JOIN outbox.breakers o ON o.consumer = s.consumer
     CROSS JOIN LATERAL (VALUES
        ('outbox.breaker_open', (o.consumer IS NOT NULL)::integer::float8),
        ('outbox.breaker_age', now_s - extract(epoch FROM o.since)::float8)) AS b (metric, value)
     WHERE b.value IS NOT NULL
    UNION ALL
    SELECT 'outbox.workers', ARRAY[s.serves],
           (SELECT count(*) FROM outbox.seen_workers w WHERE w.present AND s.serves = ANY (w.serves))::float8
      FROM unnest(ARRAY['authz', 'temporal', 'both', 'relay']) AS s (serves)
    UNION ALL
    SELECT 'outbox.budget_left', ARRAY[b.consumer], b.tokens FROM outbox.budgets b
    UNION ALL
    SELECT 'outbox.drift', ARRAY[f.key], f.value::float8
      FROM outbox.audit a CROSS JOIN LATERAL jsonb_each_text(a.last_found) AS f
    UNION ALL
    SELECT 'outbox.leases.expired', ARRAY[x.consumer], x.many::float8 FROM outbox.leases_expired x
    UNION ALL
    -- Where not all lanes were looked at, those that were stand for the others.
    SELECT 'outbox.live_schedules', '{}', s.live * CASE WHEN s.seen > bound THEN greatest(1, s.lanes / s.seen) ELSE 1 END
      FROM (SELECT count(*) AS seen, count(l.live_intent)::float8 AS live,
                   (SELECT c.reltuples::float8 FROM pg_class c WHERE c.oid = 'outbox.lanes'::regclass) AS lanes
              FROM (SELECT n.live_intent FROM outbox.lanes n LIMIT bound + 1) AS l) AS s
    UNION ALL
    SELECT 'outbox.oldest_transaction_age', '{}', greatest(0, now_s - extract(epoch FROM t.began)::float8)
      FROM (SELECT least(
                (SELECT min(a.xact_start) FROM pg_stat_activity a
                  WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
                    AND coalesce(a.backend_type, 'client backend') = 'client backend'
                    AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)),
                (SELECT min(p.prepared) FROM pg_prepared_xacts p WHERE p.database = current_database())) AS began) AS t
     WHERE t.began IS NOT NULL
    UNION ALL
    SELECT q.metric, '{}', q.value FROM (VALUES
        ('outbox.queue_size', pg_total_relation_size('outbox.queue')::float8),
        ('outbox.queue_dead_rows', pg_stat_get_dead_tuples('outbox.queue'::regclass)::float8)) AS q (metric, value);
END;
$$;
