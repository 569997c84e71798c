"""The whole ledger, to judge or tell what happened. Never locks; needs SELECT on the outbox's tables."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

Row = dict[str, Any]

_TABLES = {
    "intents": text("""
        SELECT i.id, i.schedule_id, i.kind, i.position, i.creator, i.request, i.created_at,
               -- What is live ends as it was last updated.
               coalesce(
                   (coalesce(l.definition, i.request)->>'end_at')::timestamptz <= clock_timestamp(), false
               ) AS ran_out
          FROM outbox.intents i
          LEFT JOIN outbox.lanes l ON l.schedule_id = i.schedule_id AND l.live_intent = i.id
         ORDER BY i.position
    """),
    "events": text("""
        SELECT intent_id, schedule_id, type, at, lease_number, error_code, error_message
          FROM outbox.events ORDER BY id
    """),
    "attempts": text("""
        SELECT intent_id, event_type, at, action, lease_number, error_code, error_message
          FROM outbox.attempts ORDER BY id
    """),
    "queue": text("""
        SELECT intent_id, schedule_id, event_type, place, state, lease_number, error_code, error_message
          FROM outbox.queue ORDER BY position
    """),
    "lanes": text("SELECT schedule_id, live_intent, revision FROM outbox.lanes"),
}


class HistoryStore:
    """Reads all tables as they are at one moment: an intent that ends between two reads would seem lost."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="REPEATABLE READ")

    async def read(self) -> dict[str, list[Row]]:
        """Read intents by position, events and attempts in their order, queue and lanes."""
        async with self._engine.connect() as connection:
            return {
                name: [dict(row) for row in (await connection.execute(statement)).mappings()]
                for name, statement in _TABLES.items()
            }
