"""The worker's side of Postgres: claim, take, settle, standing, pending; each a call of one SQL function."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, LiteralString
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox import clock
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Creator, Dispatch, Standing
from outbox.flow.settlement import Settlement
from outbox.flow.table import Consumer, EventType, Kind
from outbox.store.engine import rows

_CLAIM: LiteralString = """
    SELECT * FROM outbox.claim(
        %(limits)s::jsonb, %(rates)s::jsonb, %(lease)s, %(step_timeout)s, %(late_write)s, updating => true)
"""
_TAKE: LiteralString = """
    SELECT * FROM outbox.take(%(dispatches)s::jsonb, %(lease)s, %(step_timeout)s, updating => true)
"""
_DISPATCHED: LiteralString = "SELECT * FROM outbox.dispatched(%(dispatches)s::jsonb)"
_SETTLE: LiteralString = """
    SELECT * FROM outbox.settle(
        %(settlements)s::jsonb, %(room)s::jsonb, %(lease)s, %(step_timeout)s,
        %(late_write)s, %(verify_again)s, %(wake)s, updating => true)
"""
_STANDING: LiteralString = "SELECT outbox.standing(%(schedule)s, %(stamp)s)"
_PENDING: LiteralString = "SELECT outbox.pending(%(repairs)s)"


@dataclass(frozen=True, slots=True)
class Timing:
    """The times that a lease is made of, and when what stays unknown is verified again; in seconds."""

    lease: float
    step_timeout: float
    late_write: float
    verify_again: float = 600.0


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settle did.

    Attributes:
        matched: the intent and lease number of each settlement that matched. The others named a lease that is
            over: nothing happened to their steps.
        handed: steps that follow in the same lanes, leased to the one who settled.
    """

    matched: AbstractSet[tuple[UUID, int]]
    handed: Sequence[Dispatch] = ()


class WorkStore:
    """Claims and settles steps. Implements the effects' ``Ledger`` too."""

    def __init__(
        self, engine: AsyncEngine, timing: Timing, rates: Mapping[Consumer, float] | None = None
    ) -> None:
        """Bind the store to its database.

        Args:
            engine: of ``outbox.store.engine``, whose statements commit by themselves.
            timing: of the leases.
            rates: steps per second of each consumer, over all workers; those without one have no limit.
        """
        self._engine = engine
        self._timing = timing
        self._rated = frozenset(rates or {})
        self._rates = orjson.dumps({name.value: rate for name, rate in (rates or {}).items()}).decode()

    async def claim(self, limits: Mapping[Consumer, int]) -> list[Dispatch]:
        """Lease at most so many due steps of each consumer, heads of lanes only."""
        # Taken before the call: the worker's deadline is never later than the one in the database.
        deadline = clock.monotonic() + self._timing.step_timeout
        asked = {
            "limits": _limits(limits),
            "rates": self._rates,
            "lease": self._timing.lease,
            "step_timeout": self._timing.step_timeout,
            "late_write": self._timing.late_write,
        }
        return [_dispatch(row, deadline) for row in await rows(self._engine, _CLAIM, asked)]

    async def take(self, dispatches: Collection[tuple[UUID, int]]) -> list[Dispatch]:
        """Begin an attempt at each of these dispatched steps (intent, lease number) that still stands.

        Not among those returned: what has been taken already, or dispatched anew since.
        """
        deadline = clock.monotonic() + self._timing.step_timeout
        asked = {
            "dispatches": _named(dispatches),
            "lease": self._timing.lease,
            "step_timeout": self._timing.step_timeout,
        }
        return [_dispatch(row, deadline) for row in await rows(self._engine, _TAKE, asked)]

    async def dispatched(self, dispatches: Collection[tuple[UUID, int]]) -> set[tuple[UUID, int]]:
        """Tell which of these dispatched steps (intent, lease number) could be taken still."""
        found = await rows(self._engine, _DISPATCHED, {"dispatches": _named(dispatches)})
        return {(row["intent_id"], row["lease_number"]) for row in found}

    async def settle(
        self,
        settlements: Sequence[Settlement],
        *,
        room: Mapping[Consumer, int] = MappingProxyType({}),
        wake: bool = False,
    ) -> Settled:
        """Settle a batch in one transaction.

        Args:
            settlements: what came of steps that the caller had leased.
            room: how many of the steps that follow may be leased to the caller, of each consumer; the others
                are due for everybody. Of a consumer with a rate none are: it is spent by claims alone.
            wake: tell others that there may be steps for them.
        """
        deadline = clock.monotonic() + self._timing.step_timeout
        parameters = {
            "settlements": orjson.dumps(settlements).decode(),
            "room": _limits({name: many for name, many in room.items() if name not in self._rated}),
            "lease": self._timing.lease,
            "step_timeout": self._timing.step_timeout,
            "late_write": self._timing.late_write,
            "verify_again": self._timing.verify_again,
            "wake": wake,
        }
        answer = await rows(self._engine, _SETTLE, parameters)
        stale = {(row["stale"], row["stale_lease"]) for row in answer if row["stale"]}
        return Settled(
            {(one.intent_id, one.lease_number) for one in settlements} - stale,
            [_dispatch(row, deadline) for row in answer if not row["stale"]],
        )

    async def standing(self, schedule_id: str, stamp: str) -> Standing:
        """Tell what a stamp found on a schedule is."""
        (found,) = await rows(self._engine, _STANDING, {"schedule": schedule_id, "stamp": stamp})
        return Standing(found["standing"])

    async def pending(self, *, repairs: bool) -> bool:
        """Whether anything is left that goes on without a person; due repairs count for who does them."""
        (found,) = await rows(self._engine, _PENDING, {"repairs": repairs})
        return bool(found["pending"])


def _limits(limits: Mapping[Consumer, int]) -> str:
    return orjson.dumps({name.value: room for name, room in limits.items()}).decode()


def _named(dispatches: Collection[tuple[UUID, int]]) -> str:
    named = [{"intent_id": intent, "lease_number": lease} for intent, lease in dispatches]
    return orjson.dumps(named).decode()


# Looked up: calling an enum for its member takes ten times as long, and more than what updates add to a step.
_KINDS = {one.value: one for one in Kind}
_EVENTS = {one.value: one for one in EventType}
_NO_CHANGES: frozenset[str] = frozenset()


def _dispatch(row: Mapping[str, Any], deadline: float) -> Dispatch:
    creator: dict[str, Any] = row["creator"]
    cause = None
    if row["cause_code"] is not None:
        cause = Cause(ErrorCode(row["cause_code"]), row["cause_message"])
    return Dispatch(
        intent_id=row["intent_id"],
        schedule_id=row["schedule_id"],
        kind=_KINDS[row["kind"]],
        event_type=_EVENTS[row["event_type"]],
        lease_number=row["lease_number"],
        attempt=row["attempt"],
        deadline=deadline,
        strikes=row["strikes"],
        unknown=row["unknown"],
        cause=cause,
        look=row["looking"],
        patience=row["patience"],
        request=row["request"],
        creator=Creator(**creator),
        trace=row["trace"] or {},
        live_intent=row["live_intent"],
        live_adopted=row["live_adopted"],
        ran_out=row["ran_out"],
        run=tuple(row["run"] or ()),
        changes=frozenset(row["changes"]) if row["changes"] else _NO_CHANGES,
        revision=row["revision"],
    )
