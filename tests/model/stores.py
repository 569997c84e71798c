"""SpiceDB and Temporal as values: what one call makes of them, and what it answers.

Only what the outbox relies on, as measured on the real servers: preconditions and atomic writes there,
the memory of one request id and the unconditional delete here.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from consumers.authz.client import Match, NotAsExpected, Read, Requires, Tuple
from consumers.authz.errors import Occupied
from consumers.calls import StoreFailure
from consumers.temporal.client import AlreadyTaken, NotThere
from outbox.errors import ErrorCode
from outbox.flow.outcome import Refused


@dataclass(frozen=True, slots=True)
class SpiceDB:
    tuples: frozenset[Tuple] = frozenset()


@dataclass(frozen=True, slots=True)
class Schedule:
    """Attributes:
    revision: the update that it tells to have changed it last.
    definition: the entries whose fields it has: its create's, and the updates' since.
    token: of its state; counts from 1.
    """

    stamp: str | None
    revision: str | None = None
    definition: tuple[int, ...] = ()
    token: int = 1


@dataclass(frozen=True, slots=True)
class Temporal:
    """Attributes:
    request_id: of the last create that took effect; remembered when the schedule is gone.
    """

    schedule: Schedule | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Write:
    tuples: tuple[Tuple, ...]
    requires: tuple[Requires, ...]


@dataclass(frozen=True, slots=True)
class Remove:
    match: Match
    requires: tuple[Requires, ...]


@dataclass(frozen=True, slots=True)
class Look:
    match: Match


@dataclass(frozen=True, slots=True)
class Create:
    request_id: str
    stamp: str
    bad: bool
    revision: str | None = None
    definition: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    token: int
    revision: str | None
    definition: tuple[int, ...]
    bad: bool


@dataclass(frozen=True, slots=True)
class Delete:
    pass


@dataclass(frozen=True, slots=True)
class Describe:
    pass


Call = Write | Remove | Look | Create | Update | Delete | Describe


@dataclass(frozen=True, slots=True)
class Stores:
    spicedb: SpiceDB = SpiceDB()
    temporal: Temporal = Temporal()


@dataclass(frozen=True, slots=True)
class Answer:
    """A value, or what the client raises."""

    value: object = None
    raises: type[Exception] | None = None

    def give(self) -> object:
        if self.raises is NotAsExpected:
            raise NotAsExpected(Occupied(ErrorCode.RACED, "a precondition does not hold"))
        if self.raises is NotThere:
            raise NotThere("there is no such schedule")
        if self.raises is AlreadyTaken:
            raise AlreadyTaken("the id is taken")
        if self.raises is StoreFailure:
            raise StoreFailure(self.value)  # type: ignore[arg-type]
        return self.value


NOT_AS_EXPECTED = Answer(raises=NotAsExpected)
TAKEN = Answer(raises=AlreadyTaken)
GONE = Answer(raises=NotThere)
BAD = Answer(Refused(ErrorCode.REFUSED, "bad cron"), raises=StoreFailure)


def reads(call: Call) -> bool:
    return isinstance(call, Look | Describe)


def apply(stores: Stores, call: Call) -> tuple[Stores, Answer]:
    """What the call makes of the stores, and what it answers."""
    match call:
        case Write() | Remove() | Look():
            spicedb, answer = _spicedb(stores.spicedb, call)
            return replace(stores, spicedb=spicedb), answer
        case Create() | Update() | Delete() | Describe():
            temporal, answer = _temporal(stores.temporal, call)
            return replace(stores, temporal=temporal), answer
        case _:
            assert_never(call)


def _spicedb(store: SpiceDB, call: Write | Remove | Look) -> tuple[SpiceDB, Answer]:
    if isinstance(call, Look):
        found = tuple(sorted(one for one in store.tuples if _matches(one, call.match)))
        return store, Answer(Read(found, "token"))
    if not all(
        any(_matches(one, must.match) for one in store.tuples) == must.present for must in call.requires
    ):
        return store, NOT_AS_EXPECTED
    if isinstance(call, Write):
        return SpiceDB(store.tuples | set(call.tuples)), Answer("token")
    return SpiceDB(frozenset(one for one in store.tuples if not _matches(one, call.match))), Answer("token")


def _matches(one: Tuple, match: Match) -> bool:
    return (
        (one.resource_type, one.resource_id) == (match.resource_type, match.resource_id)
        and match.relation in {"", one.relation}
        and match.subject_type in {"", one.subject_type}
        and match.subject_id in {"", one.subject_id}
    )


def _updated(store: Temporal, call: Update) -> tuple[Temporal, Answer]:
    if store.schedule is None:
        return store, GONE
    if call.token != store.schedule.token:
        return store, Answer()  # somebody else wrote meanwhile: OK, and nothing changes
    updated = Schedule(store.schedule.stamp, call.revision, call.definition, call.token + 1)
    return replace(store, schedule=updated), Answer()


def _temporal(store: Temporal, call: Create | Update | Delete | Describe) -> tuple[Temporal, Answer]:
    match call:
        case Create(bad=True) | Update(bad=True):
            return store, BAD
        case Create() if call.request_id == store.request_id:
            # Remembered: OK, whatever became of the schedule since.
            return store, Answer()
        case Create() if store.schedule is not None:
            return store, TAKEN
        case Create():
            schedule = Schedule(call.stamp, call.revision, call.definition)
            return Temporal(schedule, call.request_id), Answer()
        case Update():
            return _updated(store, call)
        case Delete():
            return replace(store, schedule=None), Answer()
        case Describe():
            return store, Answer(store.schedule)
        case _:
            assert_never(call)
