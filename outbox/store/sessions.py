"""What keeps vacuum from clearing away the hot queue's dead rows: an open transaction, or a slot."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# What others' sessions do can only be seen with pg_read_all_stats; which of them is the oldest, always.
_OLDEST = text("""
    SELECT * FROM (
        SELECT 'session' AS kind, a.pid::text AS name, a.usename::text AS user_name,
               nullif(a.application_name, '') AS application, a.state,
               extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds,
               greatest(age(a.backend_xmin), age(a.backend_xid)) AS transactions
          FROM pg_stat_activity a
         WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
           AND coalesce(a.backend_type, 'client backend') = 'client backend'
           AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
        UNION ALL
        SELECT 'prepared transaction', p.gid, p.owner::text, NULL, 'prepared',
               extract(epoch FROM clock_timestamp() - p.prepared)::float8, age(p.transaction)
          FROM pg_prepared_xacts p WHERE p.database = current_database()
        UNION ALL
        SELECT 'replication slot', s.slot_name::text, NULL, s.plugin::text,
               CASE WHEN s.active THEN 'active' ELSE 'inactive' END, NULL, age(s.xmin)
          FROM pg_replication_slots s WHERE s.xmin IS NOT NULL
    ) AS held ORDER BY transactions DESC, seconds DESC NULLS LAST LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class Opened:
    """What somebody has opened and not ended.

    Attributes:
        kind: ``session``, ``prepared transaction`` or ``replication slot``.
        name: the session's process id, or the other's name.
        application: the session's ``application_name``.
        seconds: how long it has been open; None: our role may not see it (grant it ``pg_read_all_stats``).
    """

    kind: str
    name: str
    user_name: str | None
    application: str | None
    state: str | None
    seconds: float | None

    @property
    def who(self) -> str:
        """It and whose it is, in words."""
        whose = f" of {self.user_name}" if self.user_name else ""
        by = f" ({self.application})" if self.application else ""
        state = f", {self.state}" if self.state else ""
        since = "since when can't be seen" if self.seconds is None else f"for {self.seconds:.0f} s"
        return f"{self.kind} {self.name}{whose}{by}{state}, {since}"

    @property
    def fix(self) -> str:
        """How it is ended, if it should not be there."""
        match self.kind:
            case "session":
                return f"end it where it comes from, or SELECT pg_terminate_backend({self.name})"
            case "prepared transaction":
                return f"COMMIT PREPARED or ROLLBACK PREPARED '{self.name}'"
            case _:
                return f"let its reader go on, or SELECT pg_drop_replication_slot('{self.name}')"


@dataclass(frozen=True, slots=True)
class Holder(Opened):
    """What holds vacuum back the furthest. Attributes: ``transactions``, how many have begun since."""

    transactions: int

    @property
    def what(self) -> str:
        """It, in words."""
        return f"{self.who}, {self.transactions} transactions ago"


async def oldest_holder(connection: AsyncConnection) -> Holder | None:
    """What holds vacuum back the furthest; None: nothing does."""
    row = (await connection.execute(_OLDEST)).mappings().one_or_none()
    return None if row is None else Holder(**row)
