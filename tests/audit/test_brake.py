"""When so much is missing that a person has to look first."""

import pytest

from outbox.audit.brake import Rounds, Seen
from outbox.audit.drift import DriftKind

SCHEDULE, TUPLE = DriftKind.MISSING_SCHEDULE, DriftKind.MISSING_TUPLE


def seen(live: int, **found: int) -> Seen:
    return Seen(found, live)


@pytest.mark.parametrize(
    ("missing", "live", "braked"),
    [
        (20, 20, False),  # all, but not more than 20
        (21, 21, True),
        (21, 200, True),
        (21, 210, False),  # a tenth, and not more
        (22, 210, True),
        (100, 1000, False),
        (101, 1000, True),
    ],
)
def test_more_than_a_tenth_and_more_than_20_is_braked(missing: int, live: int, *, braked: bool) -> None:
    assert seen(live, missing_schedule=missing).braked() == ({SCHEDULE} if braked else set())


def test_each_kind_is_counted_by_itself_and_others_never_brake() -> None:
    assert seen(30, missing_schedule=20, missing_tuple=20).braked() == set()
    assert seen(30, missing_tuple=30, orphan_tuple=30, foreign=1000).braked() == {TUPLE}


def test_a_round_goes_on_repairing_what_is_little() -> None:
    assert Rounds(seen(20, missing_schedule=20), seen(0)).held_back() == set()


def test_more_than_20_wait_until_a_whole_round_has_told_how_much_there_is() -> None:
    now = seen(500, missing_schedule=21)
    assert Rounds(now, seen(0)).held_back() == {SCHEDULE}
    assert Rounds(now, seen(500, missing_schedule=21)).held_back() == set()
    assert Rounds(now, seen(500, missing_schedule=51)).held_back() == {SCHEDULE}, "it told of too much"
    assert Rounds(seen(500), seen(500, missing_schedule=51)).held_back() == {SCHEDULE}


def test_what_a_round_told_of_holds_until_the_next_has_ended() -> None:
    before = seen(200, missing_schedule=200)
    assert Rounds(seen(3), before).told() == before.told() != []
    assert Rounds(seen(200), seen(200)).told() == []
