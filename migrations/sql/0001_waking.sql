-- Waking: whom to notify, and when. All who listen poll as well.
-- Locks and plans: README.md beside this file.

-- Notify who listens, unless much is on its way already that somebody has not read. Any role that may connect can fill
-- the queue of notifications: it listens, and stays in a transaction. Then each commit that notifies fails.
CREATE FUNCTION outbox.tell(channel text) RETURNS void LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT pg_notify(channel, '') WHERE pg_notification_queue_usage() < 0.25;
END;

-- Until when somebody waits for results, in microseconds since 1970: settles tell of them until then. A sequence, as it
-- leaves no row versions behind; unlogged, as after a crash nobody waits any more.
CREATE UNLOGGED SEQUENCE outbox.awaited_until AS bigint MINVALUE 0;

CREATE FUNCTION outbox.somebody_waits(moment timestamptz) RETURNS boolean LANGUAGE sql VOLATILE
RETURN coalesce(pg_sequence_last_value('outbox.awaited_until') > extract(epoch FROM moment) * 1000000, false);
