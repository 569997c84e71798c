"""Replays in waves from a page: planned, which is the preview; then started, and carried on by workers."""

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.console.access import Visitor
from outbox.console.asked import Because, PlanChange
from outbox.console.refusals import NotFound, StandsOtherwise
from outbox.store.failures import FailureStore
from outbox.store.replays import ReplayStore

Shown = dict[str, Any]


class Waves:
    """Plans, starts and aborts replays of any size."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._failures = FailureStore(engine)

    async def plan(self, change: PlanChange, by: Visitor) -> Shown | None:
        """Rehearse each intent and keep that as a plan; None: there is no such group."""
        intents = change.intents if change.group is None else await self._failures.members(change.group)
        if not intents:
            return None
        store = ReplayStore(self._engine, by.name, change.reason)
        planned = await store.plan(
            intents, forced=change.force, waves=change.waves, tolerated=change.tolerate
        )
        (found,) = await store.found(replay=planned)
        return found

    async def start(self, replay: int, change: Because, by: Visitor) -> Shown:
        """Have workers carry out a plan.

        Raises:
            NotFound: there is none.
            StandsOtherwise: it was started or dropped already.
        """
        store = ReplayStore(self._engine, by.name, change.reason)
        return await _moved(store, replay, store.start)

    async def abort(self, replay: int, change: Because, by: Visitor) -> Shown:
        """End what is planned or running.

        Raises:
            NotFound: there is none.
            StandsOtherwise: it has ended already.
        """
        store = ReplayStore(self._engine, by.name, change.reason)
        return await _moved(store, replay, store.abort)


async def _moved(store: ReplayStore, replay: int, move: Callable[[int], Awaitable[bool]]) -> Shown:
    moved = await move(replay)
    found = await store.found(replay=replay)
    if not found:
        raise NotFound(f"there is no replay {replay}")
    if not moved:
        raise StandsOtherwise(f"replay {replay} is {found[0]['state']}: it is left as it is")
    return found[0]
