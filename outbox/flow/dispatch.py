"""A dispatch: one step, leased to one worker; and the two protocols that a worker applies it through."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from outbox import clock
from outbox.errors import ErrorCode
from outbox.flow.outcome import Outcome
from outbox.flow.table import STEPS, Consumer, EventType, Kind, Step

_TRACEPARENT_PARTS = 4


@dataclass(frozen=True, slots=True)
class Creator:
    """Whom a schedule belongs to, and the account that the calls are made for.

    At most one of ``user_id`` and ``service_account_id`` is set; with neither, nothing is registered.
    """

    user_id: str | None = None
    service_account_id: str | None = None
    account_id: str | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """The refusal or conflict that a held or compensating intent will end with."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One step of one intent, leased.

    Attributes:
        lease_number: only grows for an intent; a settle that names an older one is dropped.
        attempt: the number of this attempt at the step, from 1.
        strikes: failed attempts at the step that the store answered; the step parks when there are too many.
        unknown: an earlier attempt of the intent may have taken effect, or may yet.
        cause: what stands against the intent, if anything does.
        look: don't apply, only look whether an earlier attempt took effect; if not, the cause stands.
        patience: seconds that the step waited so far because of failures that its store answered.
        generation: completes the Temporal request id; a repair takes one of its own.
        request: the intent's request as it was enqueued (JSON object). Of a repair, the definition of what is
            live or, where nothing is, the lane's last request. Of an update, the whole definition that is to
            stand: what is live, changed by what the run asks for; of a look at one, what is live.
        run: of an update, the intents that it stands for, in the order of the lane: its own, and those right
            behind it that nobody has begun. The last one is the revision that the store will tell.
        changes: of an update, the fields that the run names.
        revision: of an update or a repair, the intent that changed the definition last before it, if any did.
        live_intent: the lane's live stamp, if a create stands.
        live_adopted: the live stamp is that of an adoption: its schedule in Temporal carries none.
        ran_out: of a repair: the schedule's own end had passed when the step was leased, by Postgres' clock.
        deadline: on the clock of ``outbox.clock``, in seconds; no call may start after it or outlast it.
    """

    intent_id: UUID
    schedule_id: str
    kind: Kind
    event_type: EventType
    lease_number: int
    attempt: int
    deadline: float
    strikes: int = 0
    unknown: bool = False
    cause: Cause | None = None
    look: bool = False
    patience: float = 0.0
    generation: str = "1"
    request: Mapping[str, Any] = field(default_factory=dict)
    creator: Creator = field(default_factory=Creator)
    trace: Mapping[str, str] = field(default_factory=dict)
    live_intent: UUID | None = None
    live_adopted: bool = False
    run: tuple[UUID, ...] = ()
    changes: frozenset[str] = frozenset()
    revision: UUID | None = None
    ran_out: bool = False

    @property
    def step(self) -> Step:
        """The row of the flow that this dispatch carries out."""
        return STEPS[self.event_type]

    @property
    def adopts(self) -> bool:
        """Whether it asks for a schedule from before the outbox to be taken into the ledger."""
        return self.kind is Kind.REPAIR and self.request.get("adopt") is True

    @property
    def reclaims(self) -> str | None:
        """The stamp that is to be taken into the ledger again, if it asks for that."""
        return self.request.get("reclaim") if self.kind is Kind.REPAIR else None

    @property
    def is_discarded(self) -> bool:
        """Whether an operator ends it: what it did is undone."""
        return self.cause is not None and self.cause.code is ErrorCode.DISCARDED

    @property
    def trace_id(self) -> str | None:
        """The trace that the producer's span belongs to, if it had one."""
        parts = self.trace.get("traceparent", "").split("-")
        return parts[1] if len(parts) == _TRACEPARENT_PARTS else None

    def about(self) -> dict[str, Any]:
        """What every line of the log says that is of an attempt at it."""
        about = {
            "intent_id": str(self.intent_id),
            "schedule_id": self.schedule_id,
            "step": self.event_type.value,
            "attempt": self.attempt,
        }
        return about if self.trace_id is None else {**about, "trace_id": self.trace_id}

    @property
    def consumer(self) -> Consumer:
        """Who applies it."""
        return self.step.consumer

    def remaining(self) -> float:
        """Seconds left until the deadline; zero or less when it has passed."""
        return self.deadline - clock.monotonic()


class Standing(StrEnum):
    """What the ledger says of a stamp found in a store."""

    ENDED = "ended"
    """An intent of this lane that has ended and is not the live one: debris, ours to remove."""
    LIVE = "live"
    """The intent whose create stands now."""
    FOREIGN = "foreign"
    """Not an ended intent of this lane: not ours to touch."""


class Ledger(Protocol):
    """What an effect may ask of Postgres."""

    async def standing(self, schedule_id: str, stamp: str) -> Standing:
        """Tell what the stamp found on ``schedule_id`` is; any text may be asked about."""
        ...


class Effects(Protocol):
    """One store's side of the flow. Neither method raises for what a store may answer."""

    async def apply(self, dispatch: Dispatch) -> Outcome:
        """Bring the step's effect about, or find that it stands, before the dispatch's deadline."""
        ...

    async def look(self, dispatch: Dispatch) -> Outcome:
        """Read whether the step's effect stands: ``Done``, or ``Refused`` with the dispatch's cause.

        Called once no earlier attempt can land any more. It changes nothing, save that it may take back what
        is to be tried anew, or is discarded.
        """
        ...
