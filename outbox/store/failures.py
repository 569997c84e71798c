"""What has failed or is parked, in groups of what is alike in it."""

from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

_GROUPS = text("""
    SELECT g.group_id, g.status, g.consumer, g.step, g.error_code, g.pattern, g.count, g.first_at, g.last_at,
           g.example AS example_id, s.schedule_id AS example_schedule, s.error_message AS example_message
      FROM outbox.failure_groups() AS g
      LEFT JOIN LATERAL (SELECT * FROM outbox.intent_status s WHERE s.id = g.example OFFSET 0) AS s ON true
     ORDER BY g.last_at DESC, g.group_id
""")
_MEMBERS = text("""
    SELECT f.intent_id FROM outbox.failures f WHERE f.group_id = :group ORDER BY f.intent_id
""")
_PAGE = text("""
    SELECT f.at AS failed_at, s.* FROM (
        SELECT f.intent_id, f.at FROM outbox.failures f
         WHERE f.group_id = :group
           AND (CAST(:before AS uuid) IS NULL OR (f.at, f.intent_id) < (
                SELECT b.at, b.intent_id FROM outbox.failures b WHERE b.intent_id = :before))
         ORDER BY f.at DESC, f.intent_id DESC LIMIT :limit) AS f
     CROSS JOIN LATERAL (SELECT * FROM outbox.intent_status s WHERE s.id = f.intent_id OFFSET 0) AS s
     ORDER BY f.at DESC, f.intent_id DESC
""")


class FailureStore:
    """Reads what nobody has dealt with yet."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def groups(self) -> list[dict[str, Any]]:
        """All groups, the youngest first: each with its count, first and last time, and youngest intent."""
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(_GROUPS)).mappings()]

    async def members(self, group: str) -> list[UUID]:
        """All intents of a group, the oldest first, so that lanes are replayed in their order."""
        async with self._engine.connect() as connection:
            return list((await connection.execute(_MEMBERS, {"group": group})).scalars())

    async def page(self, group: str, *, before: UUID | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Some intents of a group, with their status and when they failed, the last to fail first.

        Args:
            group: its id.
            before: read on after this one.
            limit: so many at most.
        """
        asked = {"group": group, "before": before, "limit": limit}
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(_PAGE, asked)).mappings()]
