"""The ledger in memory: its tables, as in migrations/sql/0001_tables.sql, and what reads them."""

import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from uuid import UUID

from outbox.flow.dispatch import Standing
from outbox.flow.table import REQUESTED, STEPS, TERMINALS, Consumer, EventType, Kind, Status
from outbox.store.work import Timing

FOREVER = float("inf")
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(slots=True)
class Intent:
    """A row of ``outbox.intents``."""

    id: UUID
    position: int
    schedule_id: str
    kind: Kind
    request: Mapping[str, Any]
    creator: Mapping[str, Any]
    created_at: float
    replays: UUID | None = None
    replay_number: int | None = None


@dataclass(slots=True)
class Event:
    """A row of ``outbox.events``."""

    intent_id: UUID
    schedule_id: str
    type: EventType
    at: float
    lease_number: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    superseded_by: UUID | None = None

    @classmethod
    def of_attempt(cls, row: "Row", at: float, error_code: str | None, error_message: str | None) -> "Event":
        """A line of the attempts that did not settle their step."""
        return cls(
            row.intent_id, row.schedule_id, row.event_type, at, row.lease_number, error_code, error_message
        )


@dataclass(slots=True)
class Row:
    """A row of ``outbox.queue``."""

    intent_id: UUID
    position: int
    schedule_id: str
    event_type: EventType
    due_at: float
    place: str = "incoming"
    state: str = "queued"
    lease_number: int = 0
    attempts: int = 0
    strikes: int = 0
    deadline: float | None = None
    unknown_until: float | None = None
    looking: bool = False
    cause_code: str | None = None
    cause_message: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    failing_since: float | None = None
    patience: float = 0.0
    halted: bool = False
    alone: bool = False

    @property
    def consumer(self) -> Consumer:
        """Who applies the pending step."""
        return STEPS[self.event_type].consumer


@dataclass(slots=True)
class Lane:
    """A row of ``outbox.lanes``."""

    live_intent: UUID | None
    hold_until: float | None
    updated_at: float
    definition: Mapping[str, Any] | None = None
    revision: UUID | None = None


@dataclass(slots=True)
class Breaker:
    """A row of ``outbox.breakers``."""

    probe_at: float
    error_code: str | None
    failures: int = 1
    probing: bool = False


@dataclass(slots=True)
class Entry:
    """What a producer asks for."""

    schedule_id: str
    kind: Kind
    request: Mapping[str, Any] = field(default_factory=dict)
    creator: Mapping[str, Any] = field(default_factory=dict)


class Tables:
    """The rows, and what producers and everybody else does with them.

    Args:
        timing: of the leases.
        clock: tells the moment, in seconds.
        random: makes the ids.
        rates: steps a second of each consumer that has a limit.
    """

    def __init__(
        self,
        timing: Timing,
        clock: Callable[[], float],
        random: random.Random,
        rates: Mapping[Consumer, float] | None = None,
    ) -> None:
        self._timing = timing
        self._clock = clock
        self._random = random
        self._rates = rates or {}
        self._positions = 0
        self.intents: dict[UUID, Intent] = {}
        self.events: list[Event] = []
        self.attempts: list[Event] = []
        self.queue: dict[UUID, Row] = {}
        self.lanes: dict[str, Lane] = {}
        self.breakers: dict[Consumer, Breaker] = {}
        self.halts: dict[str, float] = {}  # until when; a consumer's or a schedule's
        self.budgets: dict[Consumer, tuple[float, float]] = {}
        # When the head is due that was lifted last. Nothing is, unless a comparison with the SQL asks for it.
        self.placed_due = -FOREVER
        self.on_work: Callable[[], None] = lambda: None

    # Producers.

    def enqueue(self, entry: Entry) -> Intent:
        """Write an intent that nobody else sees before it is committed."""
        return Intent(
            self.new_id(),
            self._next_position(),
            entry.schedule_id,
            entry.kind,
            entry.request,
            entry.creator,
            created_at=self._clock(),
        )

    def commit(self, intents: Iterable[Intent]) -> None:
        """Let everybody see what a producer's transaction wrote."""
        for intent in intents:
            self._request(intent)
        self.on_work()

    def _request(self, intent: Intent, *, place: str = "incoming", due_at: float | None = None) -> None:
        event = REQUESTED[intent.kind]
        due_at = intent.created_at if due_at is None else due_at
        self.intents[intent.id] = intent
        self.events.append(Event(intent.id, intent.schedule_id, event, self._clock()))
        self.queue[intent.id] = Row(
            intent.id, intent.position, intent.schedule_id, event, due_at, place=place
        )

    def _append_repair(
        self,
        schedule_id: str,
        due_at: float,
        request: Mapping[str, Any] = _NOTHING,
        creator: Mapping[str, Any] = _NOTHING,
    ) -> Intent:
        repair = Intent(
            self.new_id(),
            self._next_position(),
            schedule_id,
            Kind.REPAIR,
            request,
            creator,
            created_at=self._clock(),
        )
        self._request(repair, place="deferred", due_at=due_at)
        return repair

    def new_id(self) -> UUID:
        """An id in order of time, as ``outbox.uuid7`` makes them."""
        milliseconds = int(self._clock() * 1000) & (2**48 - 1)
        return UUID(int=milliseconds << 80 | 0x7 << 76 | 0x2 << 62 | self._random.getrandbits(62))

    def _next_position(self) -> int:
        self._positions += 1
        return self._positions

    # Questions.

    def live_intent(self, schedule_id: str) -> UUID | None:
        """The lane's live stamp."""
        lane = self.lanes.get(schedule_id)
        return lane.live_intent if lane else None

    def lane(self, schedule_id: str) -> list[Intent]:
        """The lane's intents, in the order of their positions."""
        found = [one for one in self.intents.values() if one.schedule_id == schedule_id]
        return sorted(found, key=lambda one: one.position)

    def definition(self, schedule_id: str) -> Mapping[str, Any] | None:
        """What is live is defined so."""
        lane = self.lanes.get(schedule_id)
        if lane is None or lane.live_intent is None:
            return None
        return self.intents[lane.live_intent].request if lane.definition is None else lane.definition

    def run_of(self, row: "Row") -> list[Intent]:
        """The updates that one at the head of its lane stands for: itself, and those right behind it."""
        run = [self.intents[row.intent_id]]
        behind = [
            one for one in self.queue.values() if one.place == "behind" and one.schedule_id == row.schedule_id
        ]
        for one in sorted(behind, key=lambda one: one.position):
            if row.alone or one.alone or one.event_type is not EventType.UPDATE_REQUESTED:
                break
            run.append(self.intents[one.intent_id])
        return run

    def standing(self, schedule_id: str, stamp: str) -> Standing:
        """What a stamp found on a schedule is."""
        if not _UUID.fullmatch(stamp):
            return Standing.FOREIGN
        intent = self.intents.get(UUID(stamp))
        if self.live_intent(schedule_id) == UUID(stamp):
            return Standing.LIVE
        if intent is None or intent.schedule_id != schedule_id or intent.id in self.queue:
            return Standing.FOREIGN
        return Standing.ENDED

    def pending(self, *, repairs: bool) -> bool:
        """Whether anything is left that goes on without a person."""
        moment = self._clock()
        return any(
            not self.is_halted(row.consumer)
            and (
                row.place == "incoming"
                or (row.place == "head" and row.state != "parked" and not row.halted)
                or (repairs and row.place == "deferred" and row.due_at <= moment)
            )
            for row in self.queue.values()
        )

    def is_halted(self, consumer: Consumer) -> bool:
        """Whether a person keeps the consumer's store from being used; a repair needs both."""
        stores = {Consumer.AUTHZ, Consumer.TEMPORAL} if consumer is Consumer.BOTH else {consumer}
        return not stores.isdisjoint(self.halts)

    def status(self, intent: UUID) -> Status:
        """Where an intent stands."""
        for event in self.events:
            if event.intent_id == intent and event.type in TERMINALS:
                return TERMINALS[event.type].status
        return self._status_in_the_queue(intent)

    def statuses(self) -> dict[UUID, Status]:
        """Where all of them stand."""
        ended = {one.intent_id: TERMINALS[one.type].status for one in self.events if one.type in TERMINALS}
        return {intent: ended.get(intent) or self._status_in_the_queue(intent) for intent in self.intents}

    def _status_in_the_queue(self, intent: UUID) -> Status:
        row = self.queue.get(intent)
        return Status.PARKED if row and row.state == "parked" else Status.PENDING


_EITHER = ("cron_expression", "interval_seconds"), ("workflow_params", "workflow_args")


def revised(definition: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A definition, changed by what an update asks for; see ``outbox.revised``."""
    gone = set()
    for one, other in _EITHER:
        gone |= {other} if changes.get(one) is not None else set()
        gone |= {one} if changes.get(other) is not None else set()
    return {name: value for name, value in definition.items() if name not in gone} | dict(changes)


def latest(one: float | None, other: float | None) -> float:
    """SQL's ``greatest`` of two, of which at least one is no NULL."""
    latest = latest_or_none(one, other)
    assert latest is not None
    return latest


def latest_or_none(one: float | None, other: float | None) -> float | None:
    """SQL's ``greatest``, which ignores NULL."""
    known = [value for value in (one, other) if value is not None]
    return max(known, default=None)
