"""A worker's slots: each goes to one step, however claims and settles take turns."""

import random
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done
from outbox.flow.settlement import RetryPolicy, Settlement, decide
from outbox.flow.table import Consumer, EventType, Kind
from outbox.worker.credit import Credit

AUTHZ = Dispatch(UUID(int=1), "a--s", Kind.CREATE, EventType.CREATE_REQUESTED, 1, 1, deadline=0.0)
TEMPORAL = replace(AUTHZ, event_type=EventType.REGISTERED)


def settled(*steps: Dispatch) -> list[Settlement]:
    return [decide(one, Done(), RetryPolicy(), random.Random(1)) for one in steps]


def test_a_claim_may_bring_what_is_free() -> None:
    credit = Credit({Consumer.AUTHZ: 3, Consumer.TEMPORAL: 1})
    assert credit.for_claim() == {Consumer.AUTHZ: 3, Consumer.TEMPORAL: 1}
    credit.claimed([AUTHZ])
    assert credit.for_claim() == {Consumer.AUTHZ: 2, Consumer.TEMPORAL: 1}


def test_a_settle_may_hand_over_half_of_what_is_free() -> None:
    credit = Credit({Consumer.AUTHZ: 4, Consumer.TEMPORAL: 8})
    credit.for_claim()
    credit.claimed([AUTHZ])
    # The slot of the step that is settled counts as free.
    assert credit.for_settle(settled(AUTHZ)) == {Consumer.AUTHZ: 2, Consumer.TEMPORAL: 4}
    assert credit.for_claim() == {Consumer.AUTHZ: 2, Consumer.TEMPORAL: 3}, "the other half is a claim's"


def test_a_claim_leaves_room_for_what_may_follow_the_steps_under_way() -> None:
    credit = Credit({Consumer.AUTHZ: 4, Consumer.TEMPORAL: 8})
    credit.for_claim()
    credit.claimed([AUTHZ] * 2)
    assert credit.for_claim() == {Consumer.AUTHZ: 2, Consumer.TEMPORAL: 6}
    assert credit.for_settle(settled(AUTHZ, AUTHZ)) == {Consumer.AUTHZ: 2, Consumer.TEMPORAL: 2}


def test_where_one_slot_is_free_it_goes_to_what_has_waited_longest() -> None:
    credit = Credit({Consumer.AUTHZ: 1, Consumer.TEMPORAL: 1})
    credit.for_claim()
    credit.claimed([AUTHZ])
    assert credit.for_settle(settled(AUTHZ)) == {}


def test_what_a_claim_under_way_may_bring_is_not_lent() -> None:
    credit = Credit({Consumer.AUTHZ: 8})
    credit.for_claim()
    credit.claimed([AUTHZ] * 2)
    assert credit.for_claim() == {Consumer.AUTHZ: 6}
    assert credit.for_settle(settled(AUTHZ)) == {Consumer.AUTHZ: 1}, "its own step's slot alone"


def test_it_is_short_where_a_claim_brought_all_that_there_was_room_for() -> None:
    credit = Credit({Consumer.AUTHZ: 2, Consumer.TEMPORAL: 2})
    credit.for_claim()
    credit.claimed([AUTHZ])
    assert not credit.short
    credit.for_claim()
    credit.claimed([AUTHZ])
    assert credit.short


def test_while_there_is_more_than_room_for_a_claim_leaves_nothing() -> None:
    credit = Credit({Consumer.AUTHZ: 8, Consumer.TEMPORAL: 8})
    assert credit.for_claim() == {Consumer.AUTHZ: 8, Consumer.TEMPORAL: 8}
    credit.claimed([AUTHZ] * 6)
    # Of the six under way each may be followed by one: half of what is free is left to them, and no more.
    assert credit.for_claim() == {Consumer.AUTHZ: 2, Consumer.TEMPORAL: 4}
    credit.claimed([TEMPORAL] * 4)
    assert credit.for_claim() == {Consumer.AUTHZ: 1, Consumer.TEMPORAL: 4}


def test_a_store_that_a_claim_had_no_room_for_may_have_more() -> None:
    credit = Credit({Consumer.AUTHZ: 1, Consumer.TEMPORAL: 2})
    credit.for_claim()
    credit.claimed([AUTHZ])
    assert not credit.for_claim().get(Consumer.AUTHZ)
    credit.claimed([])
    assert credit.short


def test_a_settle_under_way_may_hand_over_until_it_is_settled() -> None:
    credit = Credit({Consumer.AUTHZ: 4, Consumer.TEMPORAL: 4})
    lent = [credit.lent]
    credit.for_claim()
    credit.claimed([AUTHZ, AUTHZ])
    batch = settled(AUTHZ)
    assert credit.for_settle(batch) == {Consumer.AUTHZ: 1, Consumer.TEMPORAL: 2}
    lent.append(credit.lent)
    # The slot of its own step is no other's: a claim may bring all that is free.
    assert credit.for_claim() == {Consumer.AUTHZ: 2, Consumer.TEMPORAL: 1}
    credit.claimed([])
    credit.settled(batch, [TEMPORAL])
    assert [*lent, credit.lent] == [False, True, False]
    assert credit.in_flight == {Consumer.AUTHZ: 1, Consumer.TEMPORAL: 1}


@given(st.integers(), st.integers(1, 5), st.integers(1, 5))
def test_it_never_has_more_under_way_than_slots(seed: int, authz: int, temporal: int) -> None:
    dice = random.Random(seed)
    slots = {Consumer.AUTHZ: authz, Consumer.TEMPORAL: temporal}
    credit = Credit(slots)
    under_way: list[Dispatch] = []
    claim: Mapping[Consumer, int] | None = None
    settle: tuple[list[Dispatch], Mapping[Consumer, int]] | None = None
    for _ in range(30):
        # Both take their time: the other may begin and end meanwhile.
        if dice.random() < 0.5:
            if claim is None:
                claim = credit.for_claim()
            else:
                under_way += (brought := some(dice, claim))
                credit.claimed(brought)
                claim = None
        elif settle is not None:
            batch, room = settle
            handed = some(dice, room)
            credit.settled(settled(*batch), handed)
            under_way = [*under_way[len(batch) :], *handed]
            settle = None
        elif under_way:
            batch = under_way[: dice.randint(1, len(under_way))]
            settle = batch, credit.for_settle(settled(*batch))
        for name, most in slots.items():
            assert sum(one.consumer is name for one in under_way) <= most


def some(dice: random.Random, room: Mapping[Consumer, int]) -> list[Dispatch]:
    """Steps for no more than the room."""
    steps = {Consumer.AUTHZ: AUTHZ, Consumer.TEMPORAL: TEMPORAL}
    return [steps[name] for name, most in room.items() for _ in range(dice.randint(0, most))]
