"""What producers meet, in transactions of each isolation."""

from collections.abc import Sequence

from tests.interleaving.calls import (
    DONE,
    OTHER_LANE,
    REPEATABLE_READ,
    SERIALIZABLE,
    TAKEN,
    Before,
    claims,
    enqueues,
    enqueues_many,
    prunes,
    settles,
)
from tests.interleaving.scenario import TRY_AGAIN, Scenario
from tests.interleaving.stage import Call


async def _one_key_twice(_: Before) -> Sequence[Call]:
    return [enqueues(key="k"), enqueues(key="k")]


async def _one_key_twice_and_a_claim(_: Before) -> Sequence[Call]:
    return [enqueues(key="k"), enqueues(key="k"), claims()]


async def _one_key_twice_repeatably(_: Before) -> Sequence[Call]:
    return [enqueues(key="k", isolation=REPEATABLE_READ), enqueues(key="k", isolation=REPEATABLE_READ)]


async def _many_and_a_claim(_: Before) -> Sequence[Call]:
    return [enqueues_many("create", "delete"), claims()]


async def _two_of_many_and_a_claim(_: Before) -> Sequence[Call]:
    return [enqueues_many("create", "delete"), enqueues_many("create", "delete"), claims()]


async def _producers_that_read_repeatably(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    return [enqueues("delete", isolation=REPEATABLE_READ), claims()]


async def _many_that_read_repeatably_and_a_claim(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    return [enqueues_many("update", "delete", isolation=REPEATABLE_READ), claims()]


async def _one_that_reads_repeatably_while_the_head_ends(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle(DONE)
    last = await before.claim()
    return [settles(last), enqueues("delete", isolation=REPEATABLE_READ), claims()]


async def _a_key_that_is_pruned_is_used_again(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create", key="k")
    await before.settle(TAKEN)
    return [prunes([intent]), enqueues(key="k", isolation=REPEATABLE_READ)]


async def _a_serializable_producer_and_a_claim(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    return [enqueues("delete", isolation=SERIALIZABLE), claims()]


async def _serializable_ones_of_one_lane(_: Before) -> Sequence[Call]:
    return [enqueues("create", isolation=SERIALIZABLE), enqueues("delete", isolation=SERIALIZABLE)]


async def _serializable_ones_of_two_lanes(_: Before) -> Sequence[Call]:
    return [
        enqueues("create", key="k", isolation=SERIALIZABLE),
        enqueues("create", lane=OTHER_LANE, key="l", isolation=SERIALIZABLE),
    ]


async def _serializable_ones_and_a_claim(_: Before) -> Sequence[Call]:
    return [
        enqueues("create", isolation=SERIALIZABLE),
        enqueues("create", lane=OTHER_LANE, isolation=SERIALIZABLE),
        claims(),
    ]


async def _serializable_ones_of_many(_: Before) -> Sequence[Call]:
    return [
        enqueues_many("create", "delete", isolation=SERIALIZABLE),
        enqueues_many("create", "delete", lane=OTHER_LANE, isolation=SERIALIZABLE),
    ]


async def _a_serializable_key_twice(before: Before) -> Sequence[Call]:
    await before.enqueue("create", key="k")
    return [
        enqueues(key="k", isolation=SERIALIZABLE),
        enqueues("create", lane=OTHER_LANE, key="l", isolation=SERIALIZABLE),
    ]


SCENARIOS = (
    Scenario("one idempotency key, twice", _one_key_twice, any_order=True),
    Scenario("one idempotency key, twice, and a claim", _one_key_twice_and_a_claim, any_order=True),
    Scenario(
        "one idempotency key, twice, at REPEATABLE READ",
        _one_key_twice_repeatably,
        may_fail=TRY_AGAIN,
        any_order=True,
    ),
    Scenario("a producer of many and a claim", _many_and_a_claim),
    Scenario("two producers of many and a claim", _two_of_many_and_a_claim, any_order=True),
    Scenario("a producer at REPEATABLE READ and a claim", _producers_that_read_repeatably),
    Scenario("a producer of many at REPEATABLE READ and a claim", _many_that_read_repeatably_and_a_claim),
    Scenario(
        "a producer at REPEATABLE READ commits while the head ends",
        _one_that_reads_repeatably_while_the_head_ends,
    ),
    Scenario(
        "a key is used at REPEATABLE READ while its intent is pruned",
        _a_key_that_is_pruned_is_used_again,
        may_fail=TRY_AGAIN,
    ),
    Scenario("a producer at SERIALIZABLE and a claim", _a_serializable_producer_and_a_claim),
    Scenario("two producers at SERIALIZABLE, of one lane", _serializable_ones_of_one_lane, any_order=True),
    Scenario("two producers at SERIALIZABLE, of two lanes", _serializable_ones_of_two_lanes, any_order=True),
    Scenario("two producers at SERIALIZABLE, and a claim", _serializable_ones_and_a_claim, any_order=True),
    Scenario("two producers of many at SERIALIZABLE", _serializable_ones_of_many, any_order=True),
    Scenario(
        "a key is used again at SERIALIZABLE, beside another", _a_serializable_key_twice, any_order=True
    ),
)
