"""What seeds reach: that it is seen as it happens, that some of it must be, and that what can't be is not."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from uuid import UUID

import pytest

from outbox import current
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome, Unknown
from outbox.flow.settlement import RetryPolicy, Settlement, decide
from outbox.flow.table import EventType, Kind
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.network import Fault
from tests.simulation.reach.cells import (
    Act,
    Attempt,
    Became,
    Came,
    Deed,
    Happened,
    Head,
    Lane,
    Live,
    Settle,
    all_cells,
)
from tests.simulation.reach.never import NEVER, reason_against
from tests.simulation.reach.report import Reach, missing, tables
from tests.simulation.reach.witness import Witness
from tests.simulation.swarm import Feature, draw

STEP = EventType.REGISTERED.value
LOST = Unknown(ErrorCode.CONNECTION_LOST, "lost")


class Seen:
    """One attempt of one worker, and who sees it."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.witness = Witness(loop.time, 4.0)
        self.process = Process(loop, "worker")
        self.reports = self.witness.of(self.process)
        self.dispatch = Dispatch(UUID(int=7), "a--s", Kind.CREATE, EventType.REGISTERED, 1, 1, deadline=4.0)
        self.reports.began(self.dispatch)

    def meets(self, fault: Fault, *, store: str = "temporal", beyond: bool = False) -> None:
        token = current.attempt.set(self.dispatch)
        self.witness.failed(store, fault, beyond)
        current.attempt.reset(token)

    def comes(self, outcome: Outcome) -> Settlement:
        self.reports.attempted(self.dispatch, outcome, 0.1)
        return decide(self.dispatch, outcome, RetryPolicy(), random.Random(1))

    def settles(self, settlement: Settlement, *, is_current: bool = True) -> None:
        key = settlement.intent_id, settlement.lease_number
        self.witness.settled([settlement], {key} if is_current else set())

    @property
    def attempt(self) -> Attempt:
        (cell,) = (cell for cell in self.witness.cells() if isinstance(cell, Attempt))
        return cell

    @property
    def settle(self) -> Settle:
        (cell,) = (cell for cell in self.witness.cells() if isinstance(cell, Settle))
        return cell


@pytest.fixture
def seen() -> Iterator[Seen]:
    with closing(SimulatedLoop(1)) as loop:
        yield Seen(loop)


def test_what_happened_to_an_attempt_is_what_went_wrong_last(seen: Seen) -> None:
    seen.meets(Fault.TWICE)
    seen.meets(Fault.RESET_LATE, beyond=True)
    seen.settles(seen.comes(LOST))
    assert seen.attempt == Attempt(STEP, Happened.RESET_BEYOND, Came.UNKNOWN)
    assert seen.settle == Settle(STEP, Came.UNKNOWN, Became.RETRIED)


def test_where_postgres_fails_it_is_not_the_store(seen: Seen) -> None:
    seen.meets(Fault.RESET_AFTER, store="postgres")
    seen.comes(Unknown(ErrorCode.UNEXPECTED, "?"))
    assert seen.attempt.happened is Happened.POSTGRES


def test_who_dies_in_an_attempt_tells_nobody_what_came_of_it(seen: Seen) -> None:
    seen.meets(Fault.SILENT_LATE)
    seen.process.kill()
    seen.comes(Unknown(ErrorCode.RELEASED, "it unwinds"))
    assert seen.attempt == Attempt(STEP, Happened.KILLED, Came.NOTHING)
    assert seen.settle == Settle(STEP, Came.NOTHING, Became.LOST)


def test_who_was_stopped_in_an_attempt_was_stopped_whatever_its_calls_met(seen: Seen) -> None:
    seen.process.pause()
    seen.process.resume()
    seen.meets(Fault.DENIED)
    seen.comes(Done())
    assert seen.attempt == Attempt(STEP, Happened.STOPPED, Came.DONE)


def test_a_settlement_that_matched_once_is_not_undone_by_the_same_words_again(seen: Seen) -> None:
    settlement = seen.comes(Done())
    seen.settles(settlement)
    seen.settles(settlement, is_current=False)
    assert seen.settle == Settle(STEP, Came.DONE, Became.ADVANCED)


def test_a_settlement_under_a_lease_that_is_over_is_dropped(seen: Seen) -> None:
    seen.settles(seen.comes(Done()), is_current=False)
    assert seen.settle.became is Became.STALE


def test_each_reason_keeps_somebody_from_something() -> None:
    """The first that covers a cell is told; one that never is says nothing."""
    told = Counter(reason_against(cell) for cell in all_cells())
    assert [one.reason for one in NEVER if not told[one.reason]] == []


def test_what_is_reached_though_it_cant_be_is_told() -> None:
    impossible = Attempt(STEP, Happened.NOTHING, Came.NOTHING)
    unnamed = Act(Lane(Head.NONE, followed=False, live=Live.NONE), Deed.REPLAY, "maybe")
    told = Reach(1, {impossible: 1, unnamed: 1}).disproved
    assert told == [
        f"{impossible}: an attempt comes out one way or another, unless its worker dies",
        f"{unnamed}: there is no such cell",
    ]


def test_a_report_names_what_was_met_and_what_was_not() -> None:
    met = Act(Lane(Head.PARKED, followed=True, live=Live.LIVE), Deed.DISCARD, "discarding")
    reach = Reach(1, {met: 3})
    assert "| discard | discarding | 1 of 6 | 3 |" in list(tables(reach))
    (line,) = (line for line in missing(reach) if line.startswith("- discard: discarding:"))
    assert "head parked, live: a schedule" in line
    assert "head parked and followers, live: a schedule" not in line
    assert met not in reach.missing


def test_a_seed_has_some_features_and_another_has_others() -> None:
    """In any pair each of two is there with and without the other: no feature hides another in all seeds."""
    drawn = [draw(seed).features for seed in range(400)]
    assert draw(7) == draw(7)
    for one in Feature:
        for other in set(Feature) - {one}:
            seen = {(one in features, other in features) for features in drawn}
            assert len(seen) == 4, f"{one}, {other}: {seen}"
