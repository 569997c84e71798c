"""Retention's side of Postgres: what may go, and its deletion, batch by batch."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

_NOW = text("SELECT clock_timestamp()")
_PRUNABLE = text("SELECT * FROM outbox.prunable(:older_than, :after, :most)")
_BEGIN = text("SELECT outbox.begin_prune(:operator, :why, :older_than)")
_PRUNE = text("SELECT outbox.prune_batch(:operation, :older_than, :intents)")
_PRUNE_LANES = text("SELECT * FROM outbox.prune_lanes(:older_than, :after, :most)")
_PRUNE_OPERATIONS = text("SELECT outbox.prune_operations(:older_than, :most)")


class RetentionStore:
    """Finds and deletes what ended before a time and is not needed any more.

    Args:
        engine: to the database.
        older_than: intents that ended before.
        batch: how many rows one call looks at, at most.
        operator: who has it done, and ``why``.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        older_than: datetime,
        *,
        batch: int,
        operator: str,
        why: str | None = None,
    ) -> None:
        self._engine = engine
        self._older_than = older_than
        self._batch = batch
        self._by = {"operator": operator, "why": why}
        self._operation: int | None = None

    async def now(self) -> datetime:
        """The time by the clock that says when intents ended."""
        async with self._engine.connect() as connection:
            moment: datetime = (await connection.execute(_NOW)).scalar_one()
        return moment

    async def prunable(self) -> AsyncIterator[list[UUID]]:
        """The intents that may go, batch by batch, the oldest first; batches may be empty."""
        after = UUID(int=0)
        while True:
            asked = {"older_than": self._older_than, "after": after, "most": self._batch}
            async with self._engine.connect() as connection:
                rows = (await connection.execute(_PRUNABLE, asked)).all()
            if not rows:
                return
            yield [row.intent_id for row in rows if row.goes]
            after = rows[-1].intent_id

    async def begin(self) -> None:
        """Write down that it begins, before it takes anything; all batches are this one operation.

        Whoever finds something missing later then knows why, also where a prune takes the operations of those
        before it along.
        """
        if self._operation is None:
            async with self._engine.connect() as connection:
                asked: dict[str, Any] = {"older_than": self._older_than, **self._by}
                self._operation = await connection.scalar(_BEGIN, asked)

    async def prune(self, intents: Sequence[UUID]) -> int:
        """Delete intents, with events and attempts, as far as they may go still; return how many went."""
        await self.begin()
        asked: dict[str, Any] = {
            "older_than": self._older_than,
            "intents": list(intents),
            "operation": self._operation,
        }
        async with self._engine.connect() as connection:
            return int(await connection.scalar(_PRUNE, asked) or 0)

    async def prune_lanes(self) -> AsyncIterator[int]:
        """Delete what is kept of lanes that say nothing any more; yields how many of each batch went."""
        after: str | None = ""
        while after is not None:
            asked = {"older_than": self._older_than, "after": after, "most": self._batch}
            async with self._engine.connect() as connection:
                row = (await connection.execute(_PRUNE_LANES, asked)).one()
            yield row.gone
            after = row.last

    async def prune_operations(self) -> None:
        """Delete what is written down of older operations."""
        asked = {"older_than": self._older_than, "most": self._batch}
        async with self._engine.connect() as connection:
            while await connection.scalar(_PRUNE_OPERATIONS, asked):
                pass
