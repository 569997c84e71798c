"""The relay's side of Postgres: dispatch, recall; and the events that are still to be published."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from outbox.flow.table import Consumer, EventType, Kind
from outbox.store.engine import rows, transaction
from outbox.store.instance import instance

_DISPATCH: LiteralString = """
    SELECT * FROM outbox.dispatch(
        %(bounds)s::jsonb, %(most)s, %(rates)s::jsonb, %(dispatch_seconds)s, %(late_write)s,
        updating => true)
"""
_RECALL = text("SELECT outbox.recall(CAST(:dispatches AS jsonb))")
_UNPUBLISHED = text("SELECT * FROM outbox.to_publish(:most)")
# Of publishers, one has its turn, until its transaction ends: with the process, at the latest.
_TURN = text("SELECT outbox.take_turn_to_publish()")
# A publisher that stalls is cut off, so that another can go on. As the last statement before the broker is
# waited for, this ends the one before it, which would keep its snapshot until then.
_HOLD = text("SET LOCAL idle_in_transaction_session_timeout = '30s'")
_PUBLISHED = text("SELECT outbox.published(:ids)")


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A step that is on its way to a worker, with the context of its producer's span."""

    intent_id: UUID
    schedule_id: str
    event_type: EventType
    consumer: Consumer
    lease_number: int
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Publication:
    """An event that other systems are told of.

    Attributes:
        id: grows along a lane.
        consumer: whose step led here; none for a request.
        trace: the context of the producer's span, W3C's headers by their names.
        superseded_by: of an update, the later one that it was applied with, as one.
    """

    id: int
    event_id: int
    intent_id: UUID
    schedule_id: str
    kind: Kind
    type: EventType
    at: datetime
    consumer: Consumer | None
    attempt: int | None
    error_code: str | None
    error_message: str | None
    trace: Mapping[str, str]
    superseded_by: UUID | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """How much is out at once.

    Attributes:
        bounds: of each consumer that is dispatched to, how many steps may be dispatched and not taken.
        batch: how many steps one call dispatches at most, and how many events are published together.
        dispatch_seconds: after which a step that nobody took is dispatched again.
    """

    bounds: Mapping[Consumer, int]
    batch: int
    dispatch_seconds: float
    late_write_seconds: float


class RelayStore:
    """Dispatches steps, and hands out events to publish."""

    def __init__(
        self, engine: AsyncEngine, flow: Flow, rates: Mapping[Consumer, float] | None = None
    ) -> None:
        self._engine = engine
        self._flow = flow
        self._instance: UUID | None = None
        self._bounds = orjson.dumps({name.value: bound for name, bound in flow.bounds.items()}).decode()
        self._rates = orjson.dumps({name.value: rate for name, rate in (rates or {}).items()}).decode()

    async def instance(self) -> UUID:
        """The id of this outbox; Postgres is asked once."""
        if self._instance is None:
            self._instance = await instance(self._engine)
        return self._instance

    async def dispatch(self) -> list[Dispatched]:
        """Choose due steps and mark them as dispatched, within the bound."""
        asked = {
            "bounds": self._bounds,
            "most": self._flow.batch,
            "rates": self._rates,
            "dispatch_seconds": self._flow.dispatch_seconds,
            "late_write": self._flow.late_write_seconds,
        }
        return [
            Dispatched(
                row["intent_id"],
                row["schedule_id"],
                EventType(row["event_type"]),
                Consumer(row["consumer"]),
                row["lease_number"],
                row["trace"] or {},
            )
            for row in await rows(self._engine, _DISPATCH, asked)
        ]

    async def recall(self, dispatches: Sequence[Dispatched]) -> None:
        """Make steps that could not be published due again; those that were taken all the same stay taken."""
        named = [{"intent_id": one.intent_id, "lease_number": one.lease_number} for one in dispatches]
        async with self._engine.connect() as connection:
            await connection.execute(_RECALL, {"dispatches": orjson.dumps(named).decode()})

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator["Publishing"]:
        """The next events, which no other publisher hands out until the context is left.

        A transaction is open for as long, which holds the turn of publishers and nothing else. It reads and
        writes no table, and keeps no snapshot while the broker is waited for: neither vacuum nor anybody who
        alters a table waits for it.
        """
        async with transaction(self._engine) as turn:
            if await turn.scalar(_TURN):
                await turn.execute(_HOLD)
                found = await self._unpublished()
            else:
                found = []
            yield Publishing(self._engine, turn, found, full=len(found) == self._flow.batch)

    async def _unpublished(self) -> list["Publication"]:
        async with self._engine.connect() as connection:
            answer = await connection.execute(_UNPUBLISHED, {"most": self._flow.batch})
            return [_publication(dict(row)) for row in answer.mappings()]


class Publishing:
    """A batch of events in the hands of one publisher.

    A publisher that was cut off, as it stalled, finds out when it marks what it has sent. By then another may
    have sent that, and later events of the lane too. So an event may come once more after later ones; its id
    says that it is the same. One that has not come before never comes after later ones.

    Attributes:
        events: in order; a lane's in the order of the lane.
        full: there may be more.
    """

    def __init__(
        self, engine: AsyncEngine, turn: AsyncConnection, events: list[Publication], *, full: bool
    ) -> None:
        self._engine = engine
        self._turn = turn
        self.events = events
        self.full = full

    async def mark_published(self, events: Sequence[Publication]) -> None:
        """Take these off the list: they have been published.

        Raises:
            DBAPIError: among others, that the turn was lost: another publisher may have gone on.
        """
        async with self._engine.connect() as connection:
            await connection.execute(_PUBLISHED, {"ids": [one.id for one in events]})
        await self._turn.execute(_HOLD)


def _publication(row: dict[str, object]) -> Publication:
    typed = {"kind": Kind(str(row["kind"])), "type": EventType(str(row["type"])), "trace": row["trace"] or {}}
    consumer = Consumer(str(row["consumer"])) if row["consumer"] else None
    return Publication(**{**row, **typed, "consumer": consumer})  # type: ignore[arg-type]
