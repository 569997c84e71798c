"""What a seed may reach: attempts, what was settled of them, and beside what; acts on lanes."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from uuid import UUID

from outbox.flow.settlement import Action, Settlement
from outbox.flow.table import STEPS, EventType
from tests.simulation.network import Fault

LOOK = " (look)"


def step_of(event: EventType, *, look: bool) -> str:
    """A step, or the look that takes its place after a hold or a discard."""
    return event.value + (LOOK if look else "")


class Happened(StrEnum):
    """What happened to an attempt, last: to one of its calls, or to its worker."""

    NOTHING = "nothing"
    UNREACHABLE = Fault.UNREACHABLE.value
    RESET_BEFORE = Fault.RESET_BEFORE.value
    RESET_AFTER = Fault.RESET_AFTER.value
    RESET_LATE = Fault.RESET_LATE.value
    RESET_BEYOND = f"{Fault.RESET_LATE.value} beyond the bound"
    SILENT_BEFORE = Fault.SILENT_BEFORE.value
    SILENT_AFTER = Fault.SILENT_AFTER.value
    SILENT_LATE = Fault.SILENT_LATE.value
    SILENT_BEYOND = f"{Fault.SILENT_LATE.value} beyond the bound"
    TWICE = Fault.TWICE.value
    OVERLOADED = Fault.OVERLOADED.value
    DENIED = Fault.DENIED.value
    REFUSED = Fault.REFUSED.value
    BROKEN_BEFORE = Fault.BROKEN_BEFORE.value
    BROKEN_AFTER = Fault.BROKEN_AFTER.value
    POSTGRES = "Postgres did not answer"
    STOPPED = "its worker was stopped for a while"
    CUT_OFF = "its worker was told to end"
    KILLED = "its worker was killed"

    @classmethod
    def of(cls, fault: Fault, *, beyond: bool) -> "Happened":
        """What a fault is to the attempt."""
        return cls(f"{fault.value} beyond the bound" if beyond else fault.value)


class Came(StrEnum):
    """What came of an attempt: the outcome's class."""

    DONE = "done"
    SKIPPED = "done, skipped"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    CONFLICT = "conflict"
    MISCONFIGURED = "misconfigured"
    NOTHING = "no outcome"


class Became(StrEnum):
    """What became of its step in the ledger."""

    ADVANCED = "advance"
    RETRIED = "retry"
    SPLIT = "split"
    HELD = "hold"
    PARKED = "park"
    STALE = "dropped"
    LOST = "never settled"


def became(settlement: Settlement) -> Became:
    """What a settlement that matched does to its step."""
    is_split = settlement.redefines is not None and settlement.redefines.split
    return Became.SPLIT if is_split else _BECAME[settlement.action]


_BECAME = {
    Action.ADVANCE: Became.ADVANCED,
    Action.RETRY: Became.RETRIED,
    Action.HOLD: Became.HELD,
    Action.PARK: Became.PARKED,
}


class Head(StrEnum):
    """In what state the head of a lane is."""

    NONE = "none"
    READY = "ready"
    LEASED = "leased"
    WAITING = "waiting"
    HOLDING = "holding"
    PARKED = "parked"


class Live(StrEnum):
    """What is live in a lane."""

    NONE = "nothing"
    LIVE = "a schedule"
    ADOPTED = "an adopted schedule"

    @classmethod
    def of(cls, live: UUID | None, *, adopted: bool) -> "Live":
        """What the live intent of a lane is."""
        if live is None:
            return cls.NONE
        return cls.ADOPTED if adopted else cls.LIVE


@dataclass(frozen=True, slots=True)
class Lane:
    """In what state a lane is.

    Attributes:
        followed: others wait behind its head.
    """

    head: Head
    followed: bool
    live: Live

    def __str__(self) -> str:
        return f"head {self.head}{' and followers' if self.followed else ''}, live: {self.live}"


class Deed(StrEnum):
    """What somebody does about a lane."""

    CREATE = "enqueue a create"
    UPDATE = "enqueue an update"
    DELETE = "enqueue a delete"
    REPLAY = "replay"
    FORCE = "replay by force"
    DISCARD = "discard"
    REPAIR = "ask for a repair"
    ADOPT = "adopt"
    RECLAIM = "reclaim"
    HALT = "halt the schedule"
    RELEASE = "release the schedule"
    HALT_STORE = "halt a store"
    RELEASE_STORE = "release a store"
    PRUNE = "prune"


NO_FAILURE = "refused: neither failed nor parked"
REPLAYED = "refused: replayed already"
OVERTAKEN = "refused: overtaken"
NOT_PARKED = "refused: not parked"
UNDOING = "refused: undoing already"
HALTED = "refused: halted already"
NOT_HALTED = "refused: not halted"
NO_SCHEDULE = "refused: no such schedule"

_ASKED = ("asked", "asked already")
ANSWERS: dict[Deed, tuple[str, ...]] = {
    Deed.CREATE: ("asked",),
    Deed.UPDATE: ("asked",),
    Deed.DELETE: ("asked",),
    Deed.REPLAY: ("rearmed", "reenqueued", NO_FAILURE, REPLAYED, OVERTAKEN),
    Deed.FORCE: ("rearmed", "reenqueued", NO_FAILURE, REPLAYED),
    Deed.DISCARD: ("discarding", NOT_PARKED, UNDOING),
    Deed.REPAIR: _ASKED,
    Deed.ADOPT: _ASKED,
    Deed.RECLAIM: _ASKED,
    Deed.HALT: ("held", HALTED, NO_SCHEDULE),
    Deed.RELEASE: ("released", NOT_HALTED),
    Deed.HALT_STORE: ("held", HALTED),
    Deed.RELEASE_STORE: ("released", NOT_HALTED),
    Deed.PRUNE: ("pruned", "kept"),
}
"""What each may be answered."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What happened to an attempt at a step, and what came of it."""

    step: str
    happened: Happened
    came: Came

    def __str__(self) -> str:
        return f"{self.step}: {self.happened}: {self.came}"


@dataclass(frozen=True, slots=True)
class Settle:
    """What came of an attempt, and what became of its step."""

    step: str
    came: Came
    became: Became

    def __str__(self) -> str:
        return f"{self.step}: {self.came}: {self.became}"


@dataclass(frozen=True, slots=True)
class Beside:
    """What came of an attempt at a step, and what was live in its lane."""

    step: str
    live: Live
    came: Came

    def __str__(self) -> str:
        return f"{self.step}: {self.live}: {self.came}"


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody did about a lane, in which state, and what the answer was."""

    lane: Lane
    deed: Deed
    answer: str

    def __str__(self) -> str:
        return f"{self.lane}: {self.deed}: {self.answer}"


Cell = Attempt | Settle | Beside | Act


def all_cells() -> Iterator[Cell]:
    """Name every cell, possible or not."""
    steps = [step_of(event, look=look) for event in STEPS for look in (False, True)]
    yield from (Attempt(*one) for one in product(steps, Happened, Came))
    yield from (Settle(*one) for one in product(steps, Came, Became))
    yield from (Beside(*one) for one in product(steps, Live, Came))
    lanes = [Lane(*one) for one in product(Head, (False, True), Live)]
    for deed, answers in ANSWERS.items():
        yield from (Act(lane, deed, answer) for lane, answer in product(lanes, answers))
