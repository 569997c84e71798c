"""What the demo leaves for operators to look at: a parked lane, failures that are alike, and a difference."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from outbox import compose
from outbox.demo.view import View
from outbox.demo.workers import DemoFailed, Workers
from outbox.demo.workload import Planned, Workload
from outbox.producer.enqueue import enqueue_many
from outbox.settings import Settings
from outbox.store.drifts import DriftStore
from outbox.store.engine import transaction
from outbox.store.reads import ReadStore

# The first attempt of this worker fails as nobody foresaw, and is not made again.
_DEFECTIVE = {"OUTBOX_FAILPOINTS": "apply.before=fail-once", "OUTBOX_RETRY_MAX_STRIKES": "1"}
# Of SpiceDB's steps: a repair that is still to come, which takes both stores, must not meet it.
_ONLY = ("--only", "authz")
_AUDITS_ALL_AT_ONCE = {"OUTBOX_AUDIT_RATE_PER_SECOND": "1000"}
_LOOK_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Aftermath:
    """Makes trouble once all has been verified, and mends none of it."""

    engine: AsyncEngine
    settings: Settings
    workload: Workload
    workers: Workers
    view: View

    async def leave(self) -> None:
        """Leave it, and stop the workers that it took.

        Raises:
            DemoFailed: it does not come about.
        """
        left = self.workload.aftermath
        parked = await self._enqueue([left.parked])
        number = await self.workers.start(*_ONLY, **_DEFECTIVE)
        try:
            await self._until("no step parked", lambda: self._stand(parked, "parked"))
            self.view.tell(f"[yellow]{left.parked.schedule_id} is parked[/]: worker {number} has a defect")
            await self.workers.stop()
            await self.workers.start(**_AUDITS_ALL_AT_ONCE)
            failing = await self._enqueue(left.failing)
            self.view.tell(f"producers commit {len(failing)} creates with one and the same typo")
            await compose.foreign.remove_from_temporal(self.settings, left.removed)
            self.view.tell(f"past the outbox, somebody deletes {left.removed} in Temporal")
            await self._until("what must fail did not", lambda: self._stand(failing, "failed"))
            await self._until("no audit found what was deleted", self._is_found)
            self.view.tell("the workers' audit has found that")
        finally:
            await self.workers.stop()

    async def _enqueue(self, planned: Sequence[Planned]) -> list[UUID]:
        async with transaction(self.engine) as connection:
            return [one.id for one in await enqueue_many(connection, [one.entry for one in planned])]

    async def _stand(self, intents: Sequence[UUID], status: str) -> bool:
        """Whether all of them stand so."""
        rows = [await ReadStore(self.engine).intent(one) for one in intents]
        return all(row is not None and row["status"] == status for row in rows)

    async def _is_found(self) -> bool:
        found = await DriftStore(self.engine).page(kind="missing_schedule", limit=500)
        return any(one["schedule_id"] == self.workload.aftermath.removed for one in found)

    async def _until(self, missed: str, reached: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not await reached():
            self.workers.check()
            if time.monotonic() > deadline:
                words = self.workers.last_words()
                raise DemoFailed(f"{missed} in {_PATIENCE_SECONDS:.0f} s; {words}")
            await asyncio.sleep(_LOOK_SECONDS)
