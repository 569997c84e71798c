"""Cells that nothing can reach, and why: whoever reaches one has disproved the reason."""

from collections.abc import Callable
from dataclasses import dataclass

from outbox.flow.table import STEPS, EventType
from tests.simulation.reach.cells import (
    LOOK,
    NO_SCHEDULE,
    UNDOING,
    Act,
    Attempt,
    Became,
    Beside,
    Came,
    Cell,
    Happened,
    Head,
    Live,
    Settle,
    step_of,
)

E = EventType


@dataclass(frozen=True)
class Never:
    """Why some cells can't be reached, and which."""

    reason: str
    covers: Callable[[Cell], bool]


def reason_against(cell: Cell) -> str | None:
    """Why nothing can reach a cell; None: something might."""
    return next((one.reason for one in NEVER if one.covers(cell)), None)


def _outcome(reason: str, covers: Callable[[Attempt | Settle | Beside], bool]) -> Never:
    return Never(reason, lambda cell: not isinstance(cell, Act) and covers(cell))


def _attempt(reason: str, covers: Callable[[Attempt], bool]) -> Never:
    return Never(reason, lambda cell: isinstance(cell, Attempt) and covers(cell))


def _settle(reason: str, covers: Callable[[Settle], bool]) -> Never:
    return Never(reason, lambda cell: isinstance(cell, Settle) and covers(cell))


def _beside(reason: str, covers: Callable[[Beside], bool]) -> Never:
    return Never(reason, lambda cell: isinstance(cell, Beside) and covers(cell))


def _act(reason: str, covers: Callable[[Act], bool]) -> Never:
    return Never(reason, lambda cell: isinstance(cell, Act) and covers(cell))


def _of(*events: EventType) -> frozenset[str]:
    """These steps, applied and looked for."""
    return frozenset(step_of(event, look=look) for event in events for look in (False, True))


_REGISTER = step_of(E.CREATE_REQUESTED, look=False)
_REGISTERS = {_REGISTER, step_of(E.REPAIR_REQUESTED, look=False)}
_CONVERGE = _of(*(event for event, step in STEPS.items() if step.rejected is None))
_UNLOOKED = _of(E.COMPENSATION_REQUESTED, E.UNSCHEDULED) & {
    step_of(one, look=True) for one in (E.COMPENSATION_REQUESTED, E.UNSCHEDULED)
}
# These end their attempt, whatever it was about.
_FAILS = frozenset(Happened) - {Happened.NOTHING, Happened.TWICE, Happened.STOPPED, Happened.KILLED}
_SILENT = {Happened.SILENT_BEFORE, Happened.SILENT_AFTER, Happened.SILENT_LATE, Happened.SILENT_BEYOND}
# Where a read is all there is, a failed call leaves no doubt.
_BREAKS = {
    *(Happened.RESET_BEFORE, Happened.RESET_AFTER, Happened.RESET_LATE, Happened.RESET_BEYOND),
    *(Happened.SILENT_BEFORE, Happened.SILENT_AFTER, Happened.SILENT_LATE, Happened.SILENT_BEYOND),
    *(Happened.BROKEN_BEFORE, Happened.BROKEN_AFTER),
}
_UNSENT = {Happened.UNREACHABLE, Happened.OVERLOADED}
# What of these has begun is either the write itself, or a look at what it has done.
_WRITES_ONLY = {
    step_of(one, look=False) for one in (E.REGISTERED, E.REGISTRATION_SKIPPED, E.COMPENSATION_REQUESTED)
}
# Nobody looks at what these have written.
_UNSEEN = {step_of(one, look=False) for one in (E.COMPENSATION_REQUESTED, E.DELETE_REQUESTED, E.UNSCHEDULED)}
# These look who holds the name, and that nobody may look refuses nothing.
_LOOKS = {step_of(one, look=False) for one in (E.CREATE_REQUESTED, E.UNSCHEDULED)}
_READS_ONLY = {
    step_of(one, look=True)
    for one in (E.CREATE_REQUESTED, E.REGISTERED, E.REGISTRATION_SKIPPED, E.DELETE_REQUESTED)
}
# Three calls at most, of which each is there and back in a quarter of the step's time.
_SHORT = {
    *_READS_ONLY,
    *_of(E.UPDATE_REQUESTED),
    step_of(E.DELETE_REQUESTED, look=False),
    step_of(E.COMPENSATION_REQUESTED, look=False),
    step_of(E.REPAIR_REQUESTED, look=True),
}
_REPAIR_LOOK = step_of(E.REPAIR_REQUESTED, look=True)
_SMOOTH = {Happened.NOTHING, Happened.TWICE}
_GOOD = {Came.DONE, Came.SKIPPED, Came.CONFLICT}


def _is_look(step: str) -> bool:
    return step.endswith(LOOK)


def _asks_the_ledger(step: str) -> bool:
    """Whether an attempt asks whose a stamp is."""
    return not _is_look(step) and step not in _of(E.COMPENSATION_REQUESTED, E.UPDATE_REQUESTED)


_OUTCOMES = (
    _outcome(
        "what can only converge is never refused for good, so nobody looks for it, nor may it be discarded",
        lambda one: one.step in _UNLOOKED,
    ),
    _outcome(
        "only a registration is skipped, a create's or a repair's",
        lambda one: one.came is Came.SKIPPED and one.step not in _REGISTERS,
    ),
    _outcome(
        "a look says that it stands, or what stood against it",
        lambda one: _is_look(one.step) and one.came is Came.CONFLICT,
    ),
    _outcome(
        "what takes away meets nobody: it names what it takes",
        lambda one: one.came is Came.CONFLICT and one.step in _of(E.COMPENSATION_REQUESTED, E.UNSCHEDULED),
    ),
)

_ATTEMPTS = (
    _attempt(
        "an attempt comes out one way or another, unless its worker dies",
        lambda one: (one.came is Came.NOTHING) != (one.happened is Happened.KILLED),
    ),
    _attempt(
        "what is cut off is unknown",
        lambda one: one.happened is Happened.CUT_OFF and one.came is not Came.UNKNOWN,
    ),
    _attempt(
        "a call that fails ends its attempt, which is neither done nor in conflict then",
        lambda one: one.happened in _FAILS and one.came in _GOOD,
    ),
    _attempt(
        "a call that is denied means misconfigured; a look at what was written leaves that open",
        lambda one: (
            one.happened is Happened.DENIED
            and one.came is not Came.MISCONFIGURED
            and (one.step in _UNSEEN or one.came is not Came.UNKNOWN)
        ),
    ),
    _attempt(
        "only a call that is denied means misconfigured",
        lambda one: (
            one.came is Came.MISCONFIGURED and one.happened not in {Happened.DENIED, Happened.STOPPED}
        ),
    ),
    _attempt(
        "only a call that is refused means refused, and what a store will not have though nothing goes wrong",
        lambda one: one.came is Came.REFUSED and one.happened in _FAILS - {Happened.REFUSED},
    ),
    _attempt(
        "where the ledger can't be asked, an attempt ends as unexpected, which is unknown",
        lambda one: one.happened is Happened.POSTGRES and one.came is not Came.UNKNOWN,
    ),
    _attempt(
        "nobody asks the ledger whose a stamp is",
        lambda one: one.happened is Happened.POSTGRES and not _asks_the_ledger(one.step),
    ),
    _attempt(
        "a look that fails is taken again, and leaves no doubt",
        lambda one: (
            one.step in _READS_ONLY
            and one.happened in _FAILS - _SILENT - {Happened.CUT_OFF}
            and one.came not in {Came.TRANSIENT, Came.MISCONFIGURED}
        ),
    ),
    _attempt(
        "a write that breaks off may have been applied, and a look at what it did says no more",
        lambda one: one.step in _WRITES_ONLY and one.happened in _BREAKS and one.came is Came.TRANSIENT,
    ),
    _attempt(
        "what was not sent, or shed, was not applied; only a look at what was written leaves that open",
        lambda one: one.step in _UNSEEN and one.happened in _UNSENT and one.came is Came.UNKNOWN,
    ),
    _attempt(
        "a write that is refused is refused; a look at what was written, or is to be repaired, says less",
        lambda one: (
            one.happened is Happened.REFUSED
            and (
                (one.step in _UNSEEN and one.came is Came.UNKNOWN)
                or (one.step in _UNSEEN - _LOOKS and one.came is Came.TRANSIENT)
                or (one.step == E.UPDATE_REQUESTED.value and one.came is Came.TRANSIENT)
                or (one.step in _WRITES_ONLY and one.came is Came.TRANSIENT)
            )
        ),
    ),
    _attempt(
        "what a store would not have is not enqueued, save definitions that Temporal alone can judge",
        lambda one: (
            one.came is Came.REFUSED
            and one.happened in _SMOOTH
            and one.step in {*_UNSEEN, step_of(E.REPAIR_REQUESTED, look=False)}
        ),
    ),
    _attempt(
        "where nothing goes wrong, three calls come back in time",
        lambda one: one.step in _SHORT and one.happened in _SMOOTH and one.came is Came.UNKNOWN,
    ),
    _attempt(
        "a look that is one read, or an undoing, meets nobody that could race with it",
        lambda one: (
            one.step in {*_READS_ONLY, step_of(E.COMPENSATION_REQUESTED, look=False), _REPAIR_LOOK}
            and one.happened in _SMOOTH
            and one.came is Came.TRANSIENT
        ),
    ),
    _attempt(
        "a repair that is discarded takes back an adoption's stamp, by two writes, or nothing",
        lambda one: (
            one.step == _REPAIR_LOOK
            and (
                (one.happened in _SMOOTH and one.came is Came.REFUSED)
                or (one.happened in _UNSENT and one.came is not Came.TRANSIENT)
                or (one.happened in _BREAKS and one.came is not Came.UNKNOWN)
                or (one.happened is Happened.REFUSED and one.came is not Came.REFUSED)
            )
        ),
    ),
)

_SETTLES = (
    _settle(
        "no outcome, nothing to settle",
        lambda one: one.came is Came.NOTHING and one.became is not Became.LOST,
    ),
    _settle(
        "what is done advances",
        lambda one: (
            one.came in {Came.DONE, Came.SKIPPED}
            and one.became in {Became.RETRIED, Became.SPLIT, Became.HELD, Became.PARKED}
        ),
    ),
    _settle(
        "what is unknown or misconfigured is tried again, or parked; it neither advances nor holds",
        lambda one: (
            one.came in {Came.UNKNOWN, Came.MISCONFIGURED}
            and one.became in {Became.ADVANCED, Became.SPLIT, Became.HELD}
        ),
    ),
    _settle(
        "what is misconfigured is no strike, so it is never parked",
        lambda one: one.came is Came.MISCONFIGURED and one.became is Became.PARKED,
    ),
    _settle(
        "an undoing races with nobody, so what is transient of it is no strike",
        lambda one: (
            one.step == E.COMPENSATION_REQUESTED.value
            and one.came is Came.TRANSIENT
            and one.became is Became.PARKED
        ),
    ),
    _settle(
        "of a look that only reads, what is unknown is so for the time: no strike",
        lambda one: one.step in _READS_ONLY and one.came is Came.UNKNOWN and one.became is Became.PARKED,
    ),
    _settle(
        "of what is transient, only a registration may have been so for too long",
        lambda one: (
            one.came is Came.TRANSIENT
            and one.became in {Became.ADVANCED, Became.HELD}
            and one.step != _REGISTER
        ),
    ),
    _settle(
        "only a run of updates is split",
        lambda one: (
            one.became is Became.SPLIT
            and (one.step not in _of(E.UPDATE_REQUESTED) or one.came not in {Came.REFUSED, Came.CONFLICT})
        ),
    ),
    _settle(
        "who has looked holds no more",
        lambda one: _is_look(one.step) and one.became is Became.HELD,
    ),
    _settle(
        "what may be refused for good is not parked for it",
        lambda one: (
            one.step not in _CONVERGE
            and one.came in {Came.REFUSED, Came.CONFLICT}
            and one.became in {Became.PARKED, Became.RETRIED}
        ),
    ),
    _settle(
        "what can only converge is tried again where it is refused",
        lambda one: (
            one.step in _CONVERGE
            and one.came is Came.REFUSED
            and one.became in {Became.ADVANCED, Became.HELD}
        ),
    ),
    _settle(
        "a repair tells of a conflict only to have an adoption's stamp looked for",
        lambda one: (
            one.came is Came.CONFLICT
            and one.step == step_of(E.REPAIR_REQUESTED, look=False)
            and one.became in {Became.ADVANCED, Became.RETRIED, Became.PARKED}
        ),
    ),
)

_BESIDES = (
    _beside(
        "beside what is live a create is in conflict, and no store is asked",
        lambda one: one.step == _REGISTER and one.live is not Live.NONE and one.came is not Came.CONFLICT,
    ),
    _beside(
        "so none has gone on to be created",
        lambda one: one.step in _of(E.REGISTERED, E.REGISTRATION_SKIPPED) and one.live is not Live.NONE,
    ),
    _beside(
        "nor is one registered",
        lambda one: (
            one.step == step_of(E.CREATE_REQUESTED, look=True)
            and one.live is not Live.NONE
            and one.came is Came.DONE
        ),
    ),
    _beside(
        "where nothing is live an update is refused, and no store is asked",
        lambda one: (
            one.step == step_of(E.UPDATE_REQUESTED, look=False)
            and one.live is Live.NONE
            and one.came is not Came.REFUSED
        ),
    ),
    _beside(
        "nor is one found done",
        lambda one: (
            one.step == step_of(E.UPDATE_REQUESTED, look=True)
            and one.live is Live.NONE
            and one.came is Came.DONE
        ),
    ),
    _beside(
        "a repair skips the registration of what lives without an owner, which no adopted one does",
        lambda one: (
            one.step == step_of(E.REPAIR_REQUESTED, look=False)
            and one.live is not Live.LIVE
            and one.came is Came.SKIPPED
        ),
    ),
)

_ACTS = (
    _act(
        "who stands behind a head has one before him",
        lambda one: one.lane.head is Head.NONE and one.lane.followed,
    ),
    _act(
        "what is parked is re-armed or discarded, and nothing else",
        lambda one: one.answer in {"rearmed", "discarding", UNDOING} and one.lane.head is not Head.PARKED,
    ),
    _act(
        "a lane that has something in the queue is not pruned",
        lambda one: one.answer == "pruned" and one.lane.head is not Head.NONE,
    ),
    _act(
        "what has no intents has nothing else either",
        lambda one: (
            one.answer == NO_SCHEDULE and (one.lane.head is not Head.NONE or one.lane.live is not Live.NONE)
        ),
    ),
)

NEVER: tuple[Never, ...] = (*_OUTCOMES, *_ATTEMPTS, *_SETTLES, *_BESIDES, *_ACTS)
