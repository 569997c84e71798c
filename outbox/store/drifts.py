"""What the continuous audit has found, schedule by schedule."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

_KINDS = text("""
    SELECT d.kind, d.fix, count(*) AS count, max(d.found_at) AS found_at
      FROM outbox.drifts d GROUP BY d.kind, d.fix ORDER BY d.kind, d.fix
""")
# With the newest intent of the lane since: whoever has asked for a repair sees what became of it.
_PAGE = text("""
    SELECT d.*, s.id AS intent_since, s.kind AS kind_since, s.status AS status_since
      FROM (SELECT d.schedule_id, d.kind, d.detail, d.fix, d.found_at FROM outbox.drifts d
             WHERE (CAST(:kind AS text) IS NULL OR d.kind = :kind)
               AND (CAST(:schedule AS text) IS NULL OR (d.schedule_id, d.kind) > (:schedule, :kind_before))
             ORDER BY d.schedule_id, d.kind LIMIT :limit) AS d
      LEFT JOIN LATERAL (SELECT i.id FROM outbox.intents i
                          WHERE i.schedule_id = d.schedule_id AND i.created_at > d.found_at
                          ORDER BY i.position DESC LIMIT 1) AS n ON true
      LEFT JOIN LATERAL (SELECT * FROM outbox.intent_status s WHERE s.id = n.id OFFSET 0) AS s ON true
     ORDER BY d.schedule_id, d.kind
""")


class DriftStore:
    """Reads what was found and not looked at again since."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def kinds(self) -> list[dict[str, Any]]:
        """How many there are of each kind and fix, and when the last was found."""
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(_KINDS)).mappings()]

    async def page(
        self, *, kind: str | None = None, after: tuple[str, str] | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Some of them by schedule id, each with what was asked of its lane since.

        Args:
            kind: only these.
            after: read on after this schedule id and kind.
            limit: so many at most.
        """
        schedule, before = after or (None, None)
        asked = {"kind": kind, "schedule": schedule, "kind_before": before, "limit": limit}
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(_PAGE, asked)).mappings()]
