-- Presence: which workers and relays are there. Each says so every few seconds; nothing waits for it, or goes by it.
-- Locks and plans: README.md beside this file.

-- Half of each page is left free, and nothing that changes is in an index: saying so again moves no index.
CREATE TABLE outbox.workers (
    id         uuid        PRIMARY KEY,
    host       text        NOT NULL,
    pid        integer     NOT NULL,
    version    text        NOT NULL,
    wire       text        NOT NULL,
    serves     text[]      NOT NULL,  -- consumers; relay: it sends steps to Kafka
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    CONSTRAINT workers_serves CHECK (serves <@ ARRAY['authz', 'temporal', 'both', 'relay']),
    CONSTRAINT workers_size CHECK (length(host) <= 255 AND length(version) <= 100 AND length(wire) <= 20)
) WITH (fillfactor = 50);

-- A process is there, and has been for so many seconds. Whoever comes clears away who has not been seen for an hour.
CREATE FUNCTION outbox.check_in(process uuid, host text, pid integer, version text, wire text, serves text[], up float8)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    UPDATE outbox.workers w SET seen_at = moment WHERE w.id = process;
    IF NOT FOUND THEN
        DELETE FROM outbox.workers w WHERE w.seen_at < moment - interval '1 hour';
        INSERT INTO outbox.workers VALUES (
            process, host, pid, version, wire, serves, moment - make_interval(secs => up), moment);
    END IF;
END;
$$;

-- It ends in order.
CREATE FUNCTION outbox.check_out(process uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM outbox.workers w WHERE w.id = process;
END;

-- Who has been seen in the last hour; present: in the last half minute, in which one says so three times.
CREATE VIEW outbox.seen_workers AS
SELECT w.id, w.host, w.pid, w.version, w.wire, w.serves, w.started_at, w.seen_at,
       w.seen_at > clock_timestamp() - interval '30 seconds' AS present
  FROM outbox.workers w WHERE w.seen_at > clock_timestamp() - interval '1 hour';
