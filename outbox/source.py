"""Where a worker's steps come from: the one protocol that the wires implement, and the direct wire."""

from collections.abc import Callable, Mapping
from typing import Protocol

from outbox.dispatch import Dispatch
from outbox.flow import Consumer
from outbox.rest import Rest


class Source(Protocol):
    """A wire: hands out leased steps. What becomes of them is settled in Postgres, whatever the wire.

    Attributes:
        relayed: another process hands the steps out; it must be told when there may be more.
    """

    relayed: bool

    async def take(self, credit: Mapping[Consumer, int]) -> list[Dispatch]:
        """Take at most so many steps of each consumer, without waiting for more to come."""
        ...

    async def rest(self, seconds: float) -> None:
        """Wait until there may be something to take: at most so long, often less."""
        ...

    def stir(self) -> None:
        """End the rest under way, or the next one: there may be something to take."""
        ...

    def leave(self) -> None:
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


class Bell(Protocol):
    """What tells that work came in."""

    on_wake: Callable[[], None]


class DirectSource:
    """The direct wire: steps are claimed from Postgres. Polling is the truth; wake-ups make it faster."""

    relayed = False

    def __init__(self, store: Claims, wakeups: Bell) -> None:
        self._store = store
        self._wakeups = wakeups
        self._rest = Rest()
        wakeups.on_wake = self._rest.stir

    async def take(self, credit: Mapping[Consumer, int]) -> list[Dispatch]:
        """Claim steps; what comes in from here on ends the next rest."""
        self._rest.forget()
        return await self._store.claim(credit)

    async def rest(self, seconds: float) -> None:
        """Wait for a wake-up, a stir, or the time."""
        await self._rest.wait(seconds)

    def stir(self) -> None:
        """End the rest under way, or the next one."""
        self._rest.stir()

    def leave(self) -> None:
        """Nothing waits here: what was claimed is under way."""

    async def pending(self, *, repairs: bool) -> bool:
        """Whether anything is left that goes on without a person; due repairs count for who does them."""
        return await self._store.pending(repairs=repairs)
