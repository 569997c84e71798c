"""Where a worker's steps come from: the one protocol that the wires implement, and the direct wire."""

from collections.abc import Callable, Mapping
from typing import Protocol

from outbox.flow.dispatch import Dispatch
from outbox.flow.table import Consumer
from outbox.worker.wake import WakeSignal


class Source(Protocol):
    """A wire: hands out leased steps. What becomes of them is settled in Postgres, whatever the wire.

    Attributes:
        relayed: another process hands the steps out; it must be told when there may be more.
    """

    relayed: bool

    async def take(self, credit: Mapping[Consumer, int]) -> list[Dispatch]:
        """Take at most so many steps of each consumer, without waiting for more to come."""
        ...

    async def wait_for_work(self, seconds: float) -> None:
        """Wait until there may be something to take: at most so long, often less."""
        ...

    def wake(self) -> None:
        """End the wait under way, or the next one: there may be something to take."""
        ...

    def close(self) -> None:
        """Nothing more will be taken: give back what waits here, for others to take at once."""
        ...

    async def pending(self, *, repairs: bool) -> bool:
        """Whether anything is left that goes on without a person; due repairs count for who does them."""
        ...


class Claims(Protocol):
    """What the direct wire asks of Postgres."""

    async def claim(self, limits: Mapping[Consumer, int]) -> list[Dispatch]:
        """Lease at most so many due steps of each consumer."""
        ...

    async def pending(self, *, repairs: bool) -> bool:
        """Whether anything is left that goes on without a person."""
        ...


class Notifies(Protocol):
    """What tells that work came in."""

    on_wake: Callable[[], None]


class DirectSource:
    """The direct wire: steps are claimed from Postgres. Polling is the truth; wake-ups make it faster."""

    relayed = False

    def __init__(self, store: Claims, notifier: Notifies) -> None:
        self._store = store
        self._wake = WakeSignal()
        notifier.on_wake = self._wake.set

    async def take(self, credit: Mapping[Consumer, int]) -> list[Dispatch]:
        """Claim steps; what comes in from here on ends the next wait."""
        self._wake.clear()
        return await self._store.claim(credit)

    async def wait_for_work(self, seconds: float) -> None:
        """Wait for a wake-up, or the time."""
        await self._wake.wait(seconds)

    def wake(self) -> None:
        """End the wait under way, or the next one."""
        self._wake.set()

    def close(self) -> None:
        """Nothing waits here: what was claimed is under way."""

    async def pending(self, *, repairs: bool) -> bool:
        """Whether anything is left that goes on without a person; due repairs count for who does them."""
        return await self._store.pending(repairs=repairs)
