"""All states that one lane can reach, breadth first, and what must hold in each.

Within the bound (rule 3) nothing lands after a hold has ended, and the invariants hold as soon as all
intents have ended. Beyond it, calls land whenever they like, and the invariants hold once the repairs ran.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from consumers.authz.client import Tuple
from consumers.authz.effects import relationships_of
from consumers.authz.names import ENDED, REGISTERED_BY
from consumers.authz.relationships import stamp_of
from consumers.calls import StoreFailure
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Creator
from outbox.flow.outcome import Outcome, Refused, Transient, Unknown
from outbox.flow.settlement import Action, RetryPolicy, decide
from outbox.flow.table import TERMINALS, Kind, Live
from tests.model import lane as lanes
from tests.model.attempt import run
from tests.model.lane import SCHEDULE_ID, Entry, Lane, dispatch, intent_id
from tests.model.stores import BAD, Answer, Call, Create, Look, SpiceDB, Stores, Update, Write, apply, reads

_POLICY = RetryPolicy(max_strikes=1000)
_SILENCE = Answer(Unknown(ErrorCode.TIMED_OUT, "no answer"), raises=StoreFailure)
_NOT_READ = Answer(Transient(ErrorCode.TIMED_OUT, "no answer"), raises=StoreFailure)
_NOT_REGISTERED = Answer(Refused(ErrorCode.REGISTRATION_REFUSED, "no"), raises=StoreFailure)


@dataclass(frozen=True, slots=True)
class State:
    """Attributes:
    late: calls without an answer that have not landed, and may.
    answers: what the attempt under way has got from the stores so far; none: no attempt is under way.
    faults: how many may still happen.
    past: what SpiceDB has held so far, nothing at first, which a read that is behind may show.
    """

    lane: Lane
    stores: Stores
    late: tuple[Call, ...]
    answers: tuple[Answer, ...] | None
    faults: int
    past: frozenset[SpiceDB] = frozenset({SpiceDB()})

    def having(self, stores: Stores) -> "State":
        """The same, once the stores hold this."""
        return replace(self, stores=stores, past=self.past | {self.stores.spicedb})


@dataclass(frozen=True, slots=True)
class Scenario:
    """Attributes:
    before: what the stores hold at first; all of it somebody else's.
    legacy: it is a schedule from before the outbox, which a delete may remove.
    """

    name: str
    entries: tuple[Entry, ...]
    before: Stores = field(default_factory=Stores)
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Broken:
    """An invariant that does not hold, and how that came about, step by step."""

    invariant: str
    trace: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explored:
    states: int
    rests: int
    broken: Broken | None


Step = tuple[str, State]


def explore(scenario: Scenario, *, faults: int, bounded: bool) -> Explored:
    """Visit every state; stop at the first that breaks an invariant, as its trace is a shortest one."""
    first = State(Lane(), scenario.before, (), None, faults)
    came_from: dict[State, tuple[State, str] | None] = {first: None}
    todo = deque([first])
    rests = 0
    while todo:
        state = todo.popleft()
        steps = list(_steps(state, scenario, bounded=bounded))
        for label, following in steps:
            wrong = _wrong_step(scenario, state, following, bounded=bounded)
            if wrong:
                return Explored(len(came_from), rests, Broken(wrong, _trace(came_from, state, label)))
            if following not in came_from:
                came_from[following] = (state, label)
                todo.append(following)
        if _at_rest(state, scenario, bounded=bounded):
            rests += 1
            wrong = _wrong_rest(scenario, state)
        else:
            wrong = None if steps else "the lane stands still, and nothing is at rest"
        if wrong:
            return Explored(len(came_from), rests, Broken(wrong, _trace(came_from, state)))
    return Explored(len(came_from), rests, None)


# What may happen next.


def _steps(state: State, scenario: Scenario, *, bounded: bool) -> Iterator[Step]:
    for at, call in enumerate(state.late):
        fewer = state.late[:at] + state.late[at + 1 :]
        landed, _ = apply(state.stores, call)
        yield f"late: {_words(call)} lands", replace(state.having(landed), late=fewer)
        yield f"late: {_words(call)} is lost", replace(state, late=fewer)
    if state.answers is not None:
        yield from _attempt(state, scenario.entries, state.answers)
        return
    lane = state.lane
    over = not state.late
    if (following := lanes.claim(lane)) is not None:
        yield f"claim {_words_of_head(following)}", replace(state, lane=following, answers=())
    if (following := lanes.begin(lane, scenario.entries)) is not None:
        yield "the next intent becomes head", replace(state, lane=following)
    if (over or not bounded) and (following := lanes.pass_bound(lane)) is not None:
        yield "the bound is over", replace(state, lane=following)
    # The last look comes late enough even beyond the bound.
    due = over or not (bounded or lane.verify == 1)
    if due and (following := lanes.begin_repair(lane)) is not None:
        yield "a repair becomes head", replace(state, lane=following)


def _attempt(state: State, entries: tuple[Entry, ...], answers: tuple[Answer, ...]) -> Iterator[Step]:
    following = run(state.lane, entries, answers)
    if not isinstance(following, Call):
        yield from _settle(state, entries, following)
        if state.faults:
            yield "the worker dies before the settle", _die(state)
        return
    stores, answer = apply(state.stores, following)
    name = _words(following)
    yield name, replace(state.having(stores), answers=(*answers, answer))
    if not state.faults:
        return
    worse = replace(state, faults=state.faults - 1)
    if reads(following):
        yield f"{name}: no answer", replace(worse, answers=(*answers, _NOT_READ))
        for behind in _answers_behind(state, following) - {answer}:
            yield f"{name}: behind, {behind.value}", replace(worse, answers=(*answers, behind))
        return
    unanswered = (*answers, _SILENCE)
    late = tuple(sorted((*state.late, following), key=repr))
    yield f"{name}: applied, the answer is lost", replace(worse.having(stores), answers=unanswered)
    yield f"{name}: no answer, may land late", replace(worse, late=late, answers=unanswered)
    yield f"{name}: the worker dies, it may land late", _die(replace(state, late=late))
    yield f"{name}: the worker dies before it", _die(state)
    if isinstance(following, Write) and following.requires:
        yield f"{name}: refused", replace(worse, answers=(*answers, _NOT_REGISTERED))
    if isinstance(following, Create | Update):
        yield f"{name}: refused", replace(worse, answers=(*answers, BAD))


def _answers_behind(state: State, call: Call) -> set[Answer]:
    """What a read of SpiceDB may show that is behind."""
    if not isinstance(call, Look):
        return set()
    return {apply(replace(state.stores, spicedb=one), call)[1] for one in state.past}


def _settle(state: State, entries: tuple[Entry, ...], outcome: Outcome) -> Iterator[Step]:
    one = decide(dispatch(state.lane, entries), outcome, _POLICY, Random(0))
    label = f"settle {type(outcome).__name__}: {one.action.value} {one.next_event or ''}"
    lane = lanes.settle(state.lane, one)
    yield label, replace(state, lane=lane, answers=None)
    if one.action is Action.ADVANCE and (handed := lanes.hand_over(lane, entries)):
        leased = replace(state, lane=handed, answers=())
        yield f"{label}, and what follows is handed over", leased
        if state.faults:
            yield f"{label}, and what follows is handed over, but the answer is lost", _die(leased)


def _die(state: State) -> State:
    return replace(state, lane=lanes.expire(state.lane), answers=None, faults=state.faults - 1)


# What must hold.


def _at_rest(state: State, scenario: Scenario, *, bounded: bool) -> bool:
    lane = state.lane
    over = lane.head is None and len(lane.ended) == len(scenario.entries) and not state.late
    return over and not lane.hold and (bounded or not lane.verify)


def _wrong_step(scenario: Scenario, before: State, after: State, *, bounded: bool) -> str | None:
    """I2, I5, and within the bound I4.

    What others hold stays; what has ended is not registered again; nothing runs before it is registered.
    """
    if not _may_go(scenario, before.lane):
        if not scenario.before.spicedb.tuples <= after.stores.spicedb.tuples:
            return "I2: relationships of somebody else were removed"
        theirs, there = scenario.before.temporal.schedule, after.stores.temporal.schedule
        # Adopted, it may be updated.
        updated = scenario.legacy and there is not None and there.stamp is None
        if theirs not in {None, there} and not updated:
            return "I2: a schedule of somebody else was removed"
    gained = after.stores.spicedb.tuples - before.stores.spicedb.tuples
    lane = before.lane
    former = {str(intent_id(number)) for number in range(len(lane.ended)) if number != lane.live}
    if any(one.relation == REGISTERED_BY and one.subject_id in former for one in gained):
        return "I5: an intent that has ended was registered"
    new = after.stores.temporal.schedule
    if not bounded or new is None or new == before.stores.temporal.schedule:
        return None
    wanted = _registration(scenario, new.stamp)
    return None if wanted <= after.stores.spicedb.tuples else "I4: created before it was registered"


def _may_go(scenario: Scenario, lane: Lane) -> bool:
    """Whether a delete has begun, and may take what is from before the outbox."""
    begun = scenario.entries[: len(lane.ended) + 1]
    return scenario.legacy and any(one.kind is Kind.DELETE for one in begun)


def _wrong_rest(scenario: Scenario, state: State) -> str | None:
    lane, stores = state.lane, state.stores
    by_log = _live_by_log(scenario, lane)
    if lane.live != by_log:
        return f"I3: the live stamp is {lane.live}, by the log it is {by_log}"
    held = {one for one in stores.spicedb.tuples if one.relation != ENDED}
    schedule = stores.temporal.schedule
    if lane.live is None:
        if held == scenario.before.spicedb.tuples and schedule == scenario.before.temporal.schedule:
            return None
        gone = not held and schedule is None
        return None if gone else f"I1: nothing is live, but there is {schedule} and {sorted(held)}"
    stamp = str(intent_id(lane.live))
    stamps = {stamp, None} if scenario.entries[lane.live].kind is Kind.REPAIR else {stamp}
    if schedule is None or schedule.stamp not in stamps:
        return f"I1: {lane.live} is live, but Temporal has {schedule}"
    if schedule.definition != lane.definition:
        return f"I6: {lane.live} is defined by {lane.definition}, but Temporal has {schedule}"
    if held != _registration(scenario, stamp):
        return f"I1, I5: {lane.live} is live, but SpiceDB has {sorted(held)}"
    return None


def _live_by_log(scenario: Scenario, lane: Lane) -> int | None:
    live = None
    for number, event in enumerate(lane.ended):
        match TERMINALS[event].live:
            case Live.SET:
                live = number
            case Live.CLEAR:
                live = None
            case _ if scenario.entries[number].kind is Kind.REPAIR and number == lane.live:
                # The log doesn't say which adoptions found something.
                live = number
            case _:
                pass
    return live


def _registration(scenario: Scenario, stamp: str | None) -> frozenset[Tuple]:
    for number, entry in enumerate(scenario.entries):
        if stamp != str(intent_id(number)):
            continue
        if entry.kind is Kind.REPAIR:
            return scenario.before.spicedb.tuples | {stamp_of(SCHEDULE_ID, stamp)}
        return relationships_of(SCHEDULE_ID, Creator(user_id=entry.by), stamp)
    return frozenset()


# In words.


def _trace(came_from: dict[State, tuple[State, str] | None], state: State, *last: str) -> tuple[str, ...]:
    """The labels of the steps that led to a state, and of one more step from there."""
    labels: list[str] = []
    while (origin := came_from[state]) is not None:
        state, label = origin
        labels.append(label)
    return (*reversed(labels), *last)


def _words_of_head(lane: Lane) -> str:
    head = lane.head
    assert head is not None
    looking = ", looking" if head.looking else ""
    return f"{head.event} of intent {head.number}, lease {head.lease}{looking}"


def _words(call: Call) -> str:
    match call:
        case Create():
            return f"temporal create {call.request_id[-4:]}"
        case Update():
            return f"temporal update to {call.definition} with token {call.token}"
        case Write():
            return "spicedb write " + ", ".join(f"{t.relation}@{t.subject_id[-6:]}" for t in call.tuples)
        case _:
            return type(call).__name__.lower()
