"""The two stores as values, and what one effect makes of them: for tests of effects by themselves."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from consumers.authz.client import AuthzClient, Tuple
from consumers.authz.effects import AuthzEffects, relationships_of
from consumers.calls import StoreFailure
from consumers.repair import RepairEffects
from consumers.temporal.client import TemporalClient
from consumers.temporal.effects import TemporalEffects
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Creator, Dispatch, Standing
from outbox.flow.outcome import Conflict, Failure, Misconfigured, Transient, Unknown
from outbox.flow.table import EventType, Kind
from tests.model.attempt import _INSTANCE, _Authz, _Temporal
from tests.model.lane import SCHEDULE_ID
from tests.model.stores import (
    Answer,
    Call,
    Schedule,
    SpiceDB,
    Stores,
    Temporal,
    apply,
)

OURS, ENDED, LIVE = UUID(int=7), UUID(int=5), UUID(int=3)
STANDINGS = {str(ENDED): Standing.ENDED, str(LIVE): Standing.LIVE}
ALICE, BOB = Creator(user_id="alice"), Creator(user_id="bob")
READER = Tuple("agent_schedule", SCHEDULE_ID, "reader", "user", "rita")
FOREIGN = Tuple("agent_schedule", SCHEDULE_ID, "registered_by", "outbox_intent", "theirs")
CAUSE = Cause(ErrorCode.CONFLICT_LIVE, "stood against it")
RACED = ErrorCode.RACED
BUSY = Transient(ErrorCode.OVERLOADED, "busy")
SILENT = Unknown(ErrorCode.TIMED_OUT, "silent")
NO_ANSWER = Transient(ErrorCode.TIMED_OUT, "silent")
"""The same of what changes nothing: a question is asked again, and nothing is in doubt."""
WRONG = Misconfigured(ErrorCode.MISCONFIGURED, "token")


def held(intent: UUID = OURS, by: Creator = ALICE) -> frozenset[Tuple]:
    """What an intent registers."""
    return relationships_of(SCHEDULE_ID, by, str(intent))


def owner(by: Creator = ALICE) -> frozenset[Tuple]:
    """What a schedule from before the outbox has."""
    return frozenset(one for one in held(by=by) if one.relation != "registered_by")


def stamp(intent: UUID) -> Tuple:
    return next(one for one in held(intent) if one.relation == "registered_by")


def mark(intent: UUID) -> Tuple:
    return Tuple("outbox_intent", str(intent), "ended", "outbox_intent", str(intent))


def raced(message: str, *, at_once: bool = True) -> Transient:
    return Transient(RACED, message, retry_after=0.0 if at_once else None)


def conflict(code: ErrorCode, message: str) -> Conflict:
    return Conflict(code, message)


FOREIGN_TUPLES = conflict(
    ErrorCode.CONFLICT_FOREIGN,
    f"agent_schedule:{SCHEDULE_ID} has relationships in SpiceDB that the outbox did not write",
)
FOREIGN_SCHEDULE = conflict(
    ErrorCode.CONFLICT_FOREIGN, f"{SCHEDULE_ID} exists in Temporal, and the outbox did not create it"
)


def dispatch(event: EventType, **fields: Any) -> Dispatch:
    known: dict[str, Any] = {
        "intent_id": OURS,
        "schedule_id": SCHEDULE_ID,
        "kind": Kind.CREATE,
        "event_type": event,
        "lease_number": 4,
        "attempt": 2,
        "deadline": 8.0,
        "creator": ALICE,
        "request": {"bad": False, "definition": (1,)},
    }
    return Dispatch(**(known | fields))


class Ledger:
    async def standing(self, schedule_id: str, stamp: str) -> Standing:
        assert schedule_id == SCHEDULE_ID
        return STANDINGS.get(stamp, Standing.FOREIGN)


@dataclass
class World:
    """The two stores, and what was asked of them.

    Attributes:
        instead: by its number, what is answered to a call that then does nothing.
    """

    tuples: frozenset[Tuple] = frozenset()
    schedule: Schedule | None = None
    remembered: str | None = None
    instead: dict[int, Answer] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def authz(self, attempted: Dispatch) -> AuthzEffects:
        return AuthzEffects(cast("AuthzClient", _Authz(attempted)), Ledger())

    def temporal(self, attempted: Dispatch) -> TemporalEffects:
        return TemporalEffects(cast("TemporalClient", _Temporal(attempted)), Ledger(), _INSTANCE)

    def repair(self, attempted: Dispatch) -> RepairEffects:
        return RepairEffects(self.authz(attempted), self.temporal(attempted))

    def run(self, going: Coroutine[Any, Any, Any]) -> Any:
        """Answer each call of an effect, until it comes out."""
        stores = Stores(SpiceDB(self.tuples), Temporal(self.schedule, self.remembered))
        try:
            call: Call = cast("Call", going.send(None))
            while True:
                at = len(self.calls)
                self.calls.append(call)
                if at in self.instead:
                    answer = self.instead[at]
                else:
                    stores, answer = apply(stores, call)
                    self.tuples, self.schedule = stores.spicedb.tuples, stores.temporal.schedule
                call = cast("Call", going.send(answer))
        except StopIteration as end:
            return end.value


@dataclass(frozen=True)
class _Over(Answer):
    """The step's time is over while the call is under way."""

    def give(self) -> object:
        raise asyncio.CancelledError


OVER = _Over()


def fails(failure: Failure, at: int = 0) -> dict[int, Answer]:
    return {at: Answer(failure, raises=StoreFailure)}
