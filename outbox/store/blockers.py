"""Who holds a lock that claims, settles or other calls of the outbox wait for."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from outbox.store.sessions import Opened

# Locks are taken for milliseconds.
LONG_SECONDS = 1.0

# Who waits for, or while holding, a lock on something of the outbox; and of those who are waited for, one
# that waits for nobody. Everybody may see locks; process 0 stands for a prepared transaction.
_BLOCKER = text("""
    WITH held AS MATERIALIZED (
        SELECT l.pid, l.granted, l.waitstart, c.oid IS NOT NULL AS ours
          FROM pg_locks l
          LEFT JOIN pg_class c ON c.oid = l.relation AND c.relnamespace = to_regnamespace('outbox')
           AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    ), waiting AS MATERIALIZED (
        SELECT h.pid, extract(epoch FROM clock_timestamp() - min(h.waitstart))::float8 AS seconds
          FROM held h WHERE h.pid <> pg_backend_pid()
         GROUP BY h.pid HAVING bool_or(NOT h.granted) AND bool_or(h.ours)
    ), blocking AS (
        SELECT b.pid, max(w.seconds) AS waiting_seconds
          FROM waiting w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b (pid)
         WHERE b.pid NOT IN (SELECT w.pid FROM waiting w)
         GROUP BY b.pid
    )
    SELECT CASE b.pid WHEN 0 THEN 'prepared transaction' ELSE 'session' END AS kind,
           CASE b.pid WHEN 0 THEN p.gid ELSE b.pid::text END AS name,
           coalesce(a.usename, p.owner)::text AS user_name, nullif(a.application_name, '') AS application,
           CASE b.pid WHEN 0 THEN 'prepared' ELSE a.state END AS state,
           extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8 AS seconds,
           (SELECT count(*) FROM waiting)::integer AS waiting, b.waiting_seconds
      FROM blocking b
      LEFT JOIN pg_stat_activity a ON a.pid = b.pid
      LEFT JOIN LATERAL (SELECT * FROM pg_prepared_xacts p WHERE b.pid = 0 AND p.database = current_database()
                          ORDER BY p.prepared LIMIT 1) AS p ON true
     WHERE b.waiting_seconds >= :long
     ORDER BY b.waiting_seconds DESC LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class Blocker(Opened):
    """What holds others up the longest.

    Attributes:
        waiting: how many calls wait in all, some of them behind others.
        waiting_seconds: how long the first that waits for it has waited.
    """

    waiting: int
    waiting_seconds: float

    @property
    def what(self) -> str:
        """It, in words."""
        calls = (
            "a call of the outbox waits" if self.waiting == 1 else f"{self.waiting} calls of the outbox wait"
        )
        return f"{calls} for a lock, for {self.waiting_seconds:.0f} s so far, that is held by {self.who}"


async def blocker(connection: AsyncConnection) -> Blocker | None:
    """What holds others up the longest; None: nothing has for a second."""
    row = (await connection.execute(_BLOCKER, {"long": LONG_SECONDS})).mappings().one_or_none()
    return None if row is None else Blocker(**row)
