"""Settles outcomes in batches: what gathers while one batch is written is the next."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog
from sqlalchemy.exc import DBAPIError

from outbox import clock
from outbox.failpoints import reach
from outbox.flow.dispatch import Dispatch
from outbox.flow.settlement import Settlement
from outbox.flow.table import Consumer
from outbox.pulse import Pulse
from outbox.store.engine import is_passing, why
from outbox.store.work import Settled
from outbox.worker.observer import Observer

_RETRY_SECONDS = 0.5

log = structlog.get_logger()


class Settles(Protocol):
    """What the settler asks of Postgres."""

    async def settle(
        self, settlements: Sequence[Settlement], *, room: Mapping[Consumer, int], wake: bool = False
    ) -> Settled:
        """Settle a batch in one transaction; lease at most so many of the steps that follow."""
        ...


class Settler:
    """One writer for all of a worker's outcomes.

    ``room`` tells how many of the steps that follow a batch may be handed over; ``on_settled`` gets them.

    Attributes:
        dropped: how many settlements named a lease that was over.
        pulse: beats with each try to write, and rests while nothing is to be written.
    """

    def __init__(
        self,
        store: Settles,
        *,
        batch_max: int,
        wake: bool,
        room: Callable[[Sequence[Settlement]], Mapping[Consumer, int]],
        on_settled: Callable[[Sequence[Settlement], Sequence[Dispatch]], None],
        observer: Observer,
    ) -> None:
        self._store = store
        self._batch_max = batch_max
        self._wake = wake
        self._room = room
        self._on_settled = on_settled
        self._observer = observer
        self._waiting: list[Settlement] = []
        self._filled = asyncio.Event()
        self.dropped = 0
        self.pulse = Pulse()
        self.pulse.rest()

    def put(self, settlement: Settlement) -> None:
        """Hand over an outcome; it is written as soon as the batch before it is."""
        if not self._waiting:
            self.pulse.beat()
        self._waiting.append(settlement)
        self._filled.set()

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await self._filled.wait()
            await self.flush()

    async def flush(self, *, give_up_at: float = float("inf")) -> None:
        """Write what has gathered; where Postgres is away, try again until ``give_up_at`` (monotonic).

        What is given up is not lost: its lease ends, and another worker finds the effect in the store.
        """
        while self._waiting:
            batch = self._waiting[: self._batch_max]
            self.pulse.beat()
            began = clock.monotonic()
            try:
                await reach("settle.before")
                settled = await self._store.settle(batch, room=self._room(batch), wake=self._wake)
                await reach("settle.after")
            except DBAPIError as error:
                if not is_passing(error):
                    raise
                log.warning("settle.postponed", outcomes=len(batch), reason=why(error))
                if clock.monotonic() >= give_up_at:
                    return
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            del self._waiting[: len(batch)]
            self._observer.settled(batch, settled, clock.monotonic() - began)
            self._tell(len(batch) - len(settled.matched))
            self._on_settled(batch, settled.handed)
        self.pulse.rest()
        self._filled.clear()

    def _tell(self, stale: int) -> None:
        if stale:
            self.dropped += stale
            log.warning("settle.dropped", stale=stale, why="the lease was over before the outcome came")
