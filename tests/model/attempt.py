"""One attempt as a value: the real effects, run again from the answers they got so far.

The effects are coroutines that only ever wait for a store's answer, so a run is told by its dispatch and the
answers: given them, it makes its next call or comes to its outcome.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from uuid import UUID

from temporalio.api.schedule import v1 as protobuf

from consumers.authz.client import AuthzClient, Match, Requires, Tuple
from consumers.authz.effects import AuthzEffects
from consumers.calls import Call as Bounds
from consumers.repair import RepairEffects
from consumers.temporal.client import Described, Found, TemporalClient
from consumers.temporal.effects import TemporalEffects
from consumers.temporal.request import _request_id
from outbox.flow.dispatch import Dispatch, Effects, Standing
from outbox.flow.outcome import Outcome
from outbox.flow.table import Consumer
from tests.model.lane import SCHEDULE_ID, Entry, dispatch
from tests.model.lane import Lane as LaneValue
from tests.model.stores import Answer, Call, Create, Delete, Describe, Look, Remove, Schedule, Update, Write

_INSTANCE = UUID(int=99)


@dataclass(frozen=True, slots=True)
class Ask:
    """Wait for the answer to one call."""

    call: Call

    def __await__(self) -> Generator[Call, Answer, Any]:
        answer = yield self.call
        return answer.give()


class _Client:
    """Takes only calls that keep rule 4: all of an attempt are bounded by the deadline of its dispatch."""

    def __init__(self, attempted: Dispatch) -> None:
        self._deadline = attempted.deadline

    def bounded(self, call: Bounds) -> None:
        assert call.deadline == self._deadline


class _Authz(_Client):
    async def create(self, tuples: Sequence[Tuple], requires: Sequence[Requires], call: Bounds) -> Any:
        self.bounded(call)
        return await Ask(Write(tuple(tuples), tuple(requires)))

    async def touch(self, tuples: Sequence[Tuple], call: Bounds) -> Any:
        self.bounded(call)
        return await Ask(Write(tuple(tuples), ()))

    async def delete(self, match: Match, requires: Sequence[Requires], call: Bounds) -> Any:
        self.bounded(call)
        return await Ask(Remove(match, tuple(requires)))

    async def read(self, match: Match, call: Bounds) -> Any:
        self.bounded(call)
        return await Ask(Look(match))


class _Temporal(_Client):
    async def create(self, dispatch: Dispatch, instance: UUID, call: Bounds, *, anew: bool = False) -> Any:
        self.bounded(call)
        assert (dispatch.schedule_id, instance) == (SCHEDULE_ID, _INSTANCE)
        request_id, asked = _request_id(dispatch, anew=anew), dispatch.request
        revision = None if dispatch.revision is None else str(dispatch.revision)
        stamp = str(dispatch.intent_id)
        return await Ask(Create(request_id, stamp, bool(asked["bad"]), revision, asked["definition"]))

    async def read(self, schedule_id: str, call: Bounds) -> Described | None:
        self.bounded(call)
        assert schedule_id == SCHEDULE_ID
        found: Schedule | None = await Ask(Describe())
        if found is None:
            return None
        carried = Found(found.stamp, revision=found.revision)
        return Described(carried, protobuf.Schedule(), str(found.token).encode())

    async def describe(self, schedule_id: str, call: Bounds) -> Found | None:
        described = await self.read(schedule_id, call)
        return None if described is None else described.found

    async def definition(self, schedule_id: str, call: Bounds) -> tuple[Found, dict[str, Any]] | None:
        described = await self.read(schedule_id, call)
        return None if described is None else (described.found, {"described": "as it is"})

    async def update(
        self, dispatch: Dispatch, present: Described, call: Bounds, *, revision: UUID | None, changes: object
    ) -> Any:
        del changes
        self.bounded(call)
        assert dispatch.schedule_id == SCHEDULE_ID
        told, asked = None if revision is None else str(revision), dispatch.request
        return await Ask(Update(int(present.token), told, asked["definition"], bool(asked["bad"])))

    async def delete(self, schedule_id: str, call: Bounds) -> Any:
        self.bounded(call)
        assert schedule_id == SCHEDULE_ID
        return await Ask(Delete())


@dataclass(frozen=True, slots=True)
class _Ledger:
    lane: LaneValue

    async def standing(self, schedule_id: str, stamp: str) -> Standing:
        assert schedule_id == SCHEDULE_ID
        try:
            number = UUID(stamp).int - 1
        except ValueError:
            return Standing.FOREIGN
        if number == self.lane.live:
            return Standing.LIVE
        return Standing.ENDED if 0 <= number < len(self.lane.ended) else Standing.FOREIGN


@cache
def run(lane: LaneValue, entries: tuple[Entry, ...], answers: tuple[Answer, ...]) -> Call | Outcome:
    """The call that the attempt at the lane's leased step makes next, or its outcome."""
    asked = dispatch(lane, entries)
    authz = AuthzEffects(cast("AuthzClient", _Authz(asked)), _Ledger(lane))
    temporal = TemporalEffects(cast("TemporalClient", _Temporal(asked)), _Ledger(lane), _INSTANCE)
    effects: dict[Consumer, Effects] = {
        Consumer.AUTHZ: authz,
        Consumer.TEMPORAL: temporal,
        Consumer.BOTH: RepairEffects(authz, temporal),
    }
    at = effects[asked.consumer]
    going = at.look(asked) if asked.look else at.apply(asked)
    try:
        call: Call = going.send(None)
        for answer in answers:
            call = going.send(answer)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    going.close()
    return call
