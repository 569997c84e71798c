"""Replays in waves: planned, started, carried on by workers, aborted."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

WAVES = (1, 2, 5, 20, 50, 100, 200, 500)
TOLERATED = 0.2

_PLAN = text("SELECT outbox.plan_replay(:operator, :why, :intents, :forced, :waves, :tolerated)")
_START = text("SELECT outbox.start_replay(:operator, :why, :replay)")
_ABORT = text("SELECT outbox.abort_replay(:operator, :why, :replay)")
_CARRY_ON = text("SELECT outbox.carry_on_replays()")
_LIST = text("""
    SELECT r.id, r.who, r.why, r.forced, r.waves, r.tolerated, r.state, r.wave, r.planned_at, r.started_at,
           r.ended_at, r.ended_as, n.*
      FROM outbox.replays r
     CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE i.action <> 'refused' OR i.wave IS NOT NULL) AS planned,
               count(*) FILTER (WHERE i.action = 'refused' AND i.wave IS NULL) AS refused,
               count(*) FILTER (WHERE i.followed IS NOT NULL) AS replayed,
               count(*) FILTER (WHERE i.wave IS NOT NULL AND i.followed IS NULL) AS skipped,
               count(*) FILTER (WHERE i.outcome = 'succeeded') AS succeeded,
               count(*) FILTER (WHERE i.outcome <> 'succeeded') AS failed_again
          FROM outbox.replay_items i WHERE i.replay = r.id) AS n
     WHERE CAST(:replay AS bigint) IS NULL OR r.id = :replay
     ORDER BY r.id DESC LIMIT :limit
""")
_ITEMS = text("""
    SELECT i.number, i.intent_id, n.schedule_id, i.action, i.reason, i.wave, i.followed, i.outcome
      FROM outbox.replay_items i LEFT JOIN outbox.intents n ON n.id = i.intent_id
     WHERE i.replay = :replay AND i.number > :after ORDER BY i.number LIMIT :limit
""")


class ReplayStore:
    """Plans replays in waves, starts, reads and aborts them.

    Args:
        engine: to the database.
        operator: who asks for it.
        why: they do.
    """

    def __init__(self, engine: AsyncEngine, operator: str, why: str | None = None) -> None:
        self._engine = engine
        self._by = {"operator": operator, "why": why}

    async def plan(
        self,
        intents: Sequence[UUID],
        *,
        forced: bool = False,
        waves: Sequence[int] = WAVES,
        tolerated: float = TOLERATED,
    ) -> int:
        """Rehearse the replay of each, and keep that as a plan; returns the plan's id.

        Args:
            intents: in the order in which they are to be replayed.
            forced: also those that a later intent of the lane has overtaken.
            waves: how many each wave replays, 1,000 at most; the last again and again.
            tolerated: the share of a wave that may fail again.
        """
        asked = {"intents": list(intents), "forced": forced, "waves": list(waves), "tolerated": tolerated}
        async with self._engine.connect() as connection:
            return int(await connection.scalar(_PLAN, self._by | asked) or 0)

    async def start(self, replay: int) -> bool:
        """Have workers carry out a plan; whether it was one."""
        return await self._ask(_START, replay)

    async def abort(self, replay: int) -> bool:
        """End what is planned or running; whether it was. What was replayed goes on."""
        return await self._ask(_ABORT, replay)

    async def _ask(self, statement: Any, replay: int) -> bool:
        async with self._engine.connect() as connection:
            return bool(await connection.scalar(statement, self._by | {"replay": replay}))

    async def found(self, *, replay: int | None = None, limit: int = 20) -> list[dict[str, Any]]:
        """The newest replays, or one, each with how many of it came out how."""
        asked = {"replay": replay, "limit": limit}
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(_LIST, asked)).mappings()]

    async def items(self, replay: int, *, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """What is planned of each intent, or came of it, in order, from after this number on."""
        asked = {"replay": replay, "after": after, "limit": limit}
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(_ITEMS, asked)).mappings()]


class RunningReplays:
    """What workers do for replays: carry them on."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def carry_on(self) -> None:
        """Look how the waves under way come out; then begin the next ones, or end."""
        async with self._engine.connect() as connection:
            await connection.execute(_CARRY_ON)
