"""The least that each role needs, as SQL for whoever owns the database to read and run."""

GRANTS = """\
-- Roles of the outbox. Run as the owner of schema outbox; rename the roles to taste, then grant them
-- to your login roles:  GRANT outbox_producer TO my_application;
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['outbox_producer', 'outbox_worker', 'outbox_operator'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
    -- Membership is not the owner's to give, unless the owner made the roles.
    IF NOT pg_has_role('outbox_operator', 'outbox_producer', 'MEMBER') THEN
        GRANT outbox_producer TO outbox_operator;
    END IF;
END $$;
GRANT USAGE ON SCHEMA outbox TO outbox_producer, outbox_worker, outbox_operator;

-- Producers may enqueue, and wait for what became of it.
GRANT EXECUTE ON FUNCTION outbox.enqueue(jsonb), outbox.enqueue_many(jsonb) TO outbox_producer;
GRANT EXECUTE ON FUNCTION outbox.intent_result(uuid), outbox.awaited_result(uuid) TO outbox_producer;

-- Workers may claim and settle, and ask what they need to know for that.
GRANT EXECUTE ON FUNCTION
    outbox.claim(jsonb, jsonb, double precision, double precision, double precision, boolean),
    outbox.settle(jsonb, jsonb, double precision, double precision, double precision, double precision,
                  boolean, boolean)
    TO outbox_worker;
GRANT EXECUTE ON FUNCTION outbox.standing(text, text), outbox.pending(boolean) TO outbox_worker;
-- Any process may show the whole outbox in figures.
GRANT EXECUTE ON FUNCTION outbox.gauges(integer) TO outbox_worker, outbox_operator;
-- They audit by themselves, and may ask for repairs.
GRANT EXECUTE ON FUNCTION
    outbox.audit_take(double precision, integer), outbox.audit_add(jsonb, bigint, text[], jsonb),
    outbox.audit_pass(text, text, text), outbox.audited_lanes(text[]), outbox.lane_of(uuid[]),
    outbox.request_repair(text, boolean)
    TO outbox_worker;
-- They say that they are there.
GRANT EXECUTE ON FUNCTION
    outbox.check_in(uuid, text, integer, text, text, text[], double precision), outbox.check_out(uuid)
    TO outbox_worker;
-- They carry on replays in waves that operators have started.
GRANT EXECUTE ON FUNCTION outbox.carry_on_replays() TO outbox_worker;
-- On the Kafka wire the relay dispatches, workers take; whoever publishes strikes off what it has published.
GRANT EXECUTE ON FUNCTION
    outbox.dispatch(jsonb, integer, jsonb, double precision, double precision, boolean), outbox.recall(jsonb),
    outbox.take(jsonb, double precision, double precision, boolean), outbox.dispatched(jsonb),
    outbox.take_turn_to_publish(), outbox.to_publish(integer), outbox.published(bigint[])
    TO outbox_worker;
GRANT SELECT ON outbox.alembic_version, outbox.instance TO outbox_worker;

-- What operators do is written down, by the functions that do it.
-- Operators may read everything, enqueue by hand, replay, discard, hold, release, ask for repairs, and prune.
-- What holds vacuum back is named to them without; since when, only with GRANT pg_read_all_stats.
GRANT SELECT ON ALL TABLES IN SCHEMA outbox TO outbox_operator;
GRANT EXECUTE ON FUNCTION
    outbox.replay_by(text, text, uuid, boolean, boolean), outbox.discard_by(text, text, uuid),
    outbox.hold_by(text, text, text, timestamptz), outbox.release_by(text, text, text),
    outbox.repair_by(text, text, text, boolean), outbox.reclaim_by(text, text, text, uuid, jsonb, jsonb),
    outbox.prunable(timestamptz, uuid, integer), outbox.begin_prune(text, text, timestamptz),
    outbox.prune_batch(bigint, timestamptz, uuid[]), outbox.prune_lanes(timestamptz, text, integer),
    outbox.prune_operations(timestamptz, integer),
    outbox.plan_replay(text, text, uuid[], boolean, integer[], double precision),
    outbox.start_replay(text, text, bigint), outbox.abort_replay(text, text, bigint),
    outbox.lanes_after(text, text, integer), outbox.audited_lanes(text[]), outbox.lane_of(uuid[]),
    outbox.newest(text, timestamptz, uuid, integer), outbox.first_id(timestamptz), outbox.last_hour(integer),
    outbox.in_need(text), outbox.depths(integer), outbox.front(text), outbox.behind(text, integer),
    outbox.failure_groups(),
    outbox.oldest_unparked(integer), outbox.requested_at(uuid)
    TO outbox_operator;
"""
