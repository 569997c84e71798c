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
     WHERE (CAST(:replay AS bigint) IS NULL OR r.id = :replay)
       AND (CAST(:before AS bigint) IS NULL OR r.id < :before)
     ORDER BY r.id DESC LIMIT :limit
""")
_ITEMS = text("""
    SELECT i.number, i.intent_id, n.schedule_id, i.action, i.reason, i.wave, i.followed, i.outcome
      FROM outbox.replay_items i LEFT JOIN outbox.intents n ON n.id = i.intent_id
     WHERE i.replay = :replay AND i.number > :after ORDER BY i.number LIMIT :limit
""")
# A reason's first words, without the ids that may follow.
_ANSWERS = text("""
    SELECT g.action, g.reason, g.count, i.intent_id AS example_id, n.schedule_id AS example_schedule
      FROM (SELECT i.action,
                   CASE WHEN i.action IN ('refused', 'skipped') THEN split_part(i.reason, ':', 1) ELSE '' END
                       AS reason,
                   count(*) AS count, min(i.number) AS first
              FROM outbox.replay_items i WHERE i.replay = :replay GROUP BY 1, 2) AS g
      JOIN outbox.replay_items i ON i.replay = :replay AND i.number = g.first
      LEFT JOIN outbox.intents n ON n.id = i.intent_id
     ORDER BY g.count DESC, g.action, g.reason LIMIT 50
""")
_BY_WAVE = text("""
    SELECT i.wave, count(*) FILTER (WHERE i.followed IS NOT NULL) AS replayed,
           count(*) FILTER (WHERE i.followed IS NULL) AS skipped,
           count(*) FILTER (WHERE i.outcome = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE i.outcome <> 'succeeded') AS failed_again
      FROM outbox.replay_items i WHERE i.replay = :replay AND i.wave IS NOT NULL
     GROUP BY i.wave ORDER BY i.wave DESC LIMIT 50
""")
_PROGRESS = text("""
    SELECT coalesce(max(r.id), 0), coalesce(sum(r.wave) FILTER (WHERE r.state = 'running'), 0),
           count(*) FILTER (WHERE r.state = 'running')
      FROM (SELECT r.id, r.wave, r.state FROM outbox.replays r ORDER BY r.id DESC LIMIT 20) AS r
""")


class ReplayReads:
    """Tells of replays in waves."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def found(
        self, *, replay: int | None = None, before: int | None = None, limit: int = 20
    ) -> list[dict[str, Any]]:
        """The newest replays, or one, or those before one; each with how many of it came out how."""
        asked = {"replay": replay, "before": before, "limit": limit}
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(_LIST, asked)).mappings()]

    async def items(self, replay: int, *, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """What is planned of each intent, or came of it, in order, from after this number on."""
        asked = {"replay": replay, "after": after, "limit": limit}
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(_ITEMS, asked)).mappings()]

    async def answers(self, replay: int) -> list[dict[str, Any]]:
        """What is planned or came of how many, and why; each with the first of them."""
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(_ANSWERS, {"replay": replay})).mappings()]

    async def waves(self, replay: int) -> list[dict[str, Any]]:
        """How each wave has come out so far, the last one first."""
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(_BY_WAVE, {"replay": replay})).mappings()]

    async def progress(self) -> tuple[int, int, int]:
        """What changes whenever a replay is planned, goes on or ends."""
        async with self._engine.connect() as connection:
            newest, waves, running = (await connection.execute(_PROGRESS)).one()
            return newest, waves, running


class ReplayStore(ReplayReads):
    """Plans replays in waves, starts, reads and aborts them.

    Args:
        engine: to the database.
        operator: who asks for it.
        why: they do.
    """

    def __init__(self, engine: AsyncEngine, operator: str, why: str | None = None) -> None:
        super().__init__(engine)
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


class RunningReplays:
    """What workers do for replays: carry them on."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def carry_on(self) -> None:
        """Look how the waves under way come out; then begin the next ones, or end."""
        async with self._engine.connect() as connection:
            await connection.execute(_CARRY_ON)
