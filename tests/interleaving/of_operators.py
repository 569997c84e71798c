"""What operators meet: each other, workers, and retention."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tests.interleaving.calls import (
    DONE,
    LANE,
    REFUSED,
    TAKEN,
    Before,
    asks_for_repair,
    claims,
    discards,
    dispatches,
    enqueues,
    holds,
    prunes,
    reclaims,
    releases,
    replays,
    settles,
    takes,
)
from tests.interleaving.scenario import TRY_AGAIN, Scenario
from tests.interleaving.stage import Call


async def _two_replays_of_one(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle(TAKEN)
    return [replays(intent), replays(intent)]


async def _a_replay_of_what_is_parked_and_a_discard(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle(DONE)
    await before.park()
    return [replays(intent), discards(intent)]


async def _two_discards(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.park()
    return [discards(intent), discards(intent)]


async def _two_replays_and_a_claim(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle(DONE)
    await before.park()
    return [replays(intent), replays(intent), claims()]


async def _a_discard_and_a_claim(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle(DONE)
    await before.park()
    await before.enqueue("delete")
    return [discards(intent), claims()]


async def _a_run_is_discarded_while_one_more_comes(before: Before) -> Sequence[Call]:
    await before.have_live()
    first, _ = await before.enqueue("update", "update")
    await before.park()
    await before.enqueue("update")
    return [discards(first), claims()]


async def _a_replay_and_a_claim_with_followers(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle(TAKEN)
    await before.enqueue("create")
    return [replays(intent), claims()]


async def _a_replay_while_the_one_that_overtakes_it_ends(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle(TAKEN)
    await before.enqueue("create")
    await before.settle(DONE)
    last = await before.claim()
    return [replays(intent), settles(last)]


async def _a_replay_that_somebody_may_overtake(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle(TAKEN)
    return [replays(intent, forced=False), enqueues("create")]


async def _pruning_what_is_replayed(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle(TAKEN)
    return [prunes([intent]), replays(intent)]


async def _pruning_a_key_that_is_used_again(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create", key="k")
    await before.settle(TAKEN)
    return [prunes([intent]), enqueues(key="k")]


async def _pruning_while_the_head_ends(before: Before) -> Sequence[Call]:
    (created,) = await before.enqueue("create")
    await before.settle(DONE, DONE)
    await before.enqueue("delete")
    await before.settle(DONE)
    last = await before.claim()
    return [prunes([created], lanes=True), settles(last)]


async def _pruning_beside_a_claim(before: Before) -> Sequence[Call]:
    (failed,) = await before.enqueue("create")
    await before.settle(TAKEN)
    await before.enqueue("create")
    return [prunes([failed], lanes=True), claims()]


async def _pruning_beside_a_discard(before: Before) -> Sequence[Call]:
    (failed,) = await before.enqueue("create")
    await before.settle(TAKEN)
    (parked,) = await before.enqueue("create")
    await before.park()
    return [prunes([failed]), discards(parked)]


async def _two_prunes(before: Before) -> Sequence[Call]:
    (failed,) = await before.enqueue("create")
    await before.settle(TAKEN)
    return [prunes([failed], lanes=True), prunes([failed], lanes=True)]


async def _two_repairs_are_asked_for(before: Before) -> Sequence[Call]:
    await before.have_live()
    return [asks_for_repair(), asks_for_repair(), claims()]


async def _a_repair_while_the_head_ends(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle(DONE)
    last = await before.claim()
    return [settles(last), asks_for_repair(), claims()]


async def _a_reclaim_is_claimed(_: Before) -> Sequence[Call]:
    return [reclaims(), enqueues("delete"), claims()]


async def _a_reclaim_ends_while_a_delete_is_placed(before: Before) -> Sequence[Call]:
    await reclaims()(before.engine)
    last = await before.claim()
    await before.enqueue("delete")
    return [settles(last), claims()]


async def _a_hold_and_a_claim(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle(DONE)
    return [holds(LANE), claims()]


async def _a_hold_as_the_head_is_placed(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    return [holds(LANE), claims()]


async def _a_hold_while_the_head_ends(before: Before) -> Sequence[Call]:
    await before.enqueue("create", "create")
    await before.settle(DONE)
    last = await before.claim()
    return [holds(LANE), settles(last, room=5)]


async def _a_hold_while_the_head_ends_and_the_next_is_placed(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle(DONE)
    last = await before.claim()
    await before.enqueue("delete")
    return [holds(LANE), settles(last), claims()]


async def _a_release_and_a_claim(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await holds(LANE)(before.engine)
    return [releases(LANE), claims()]


async def _a_release_while_the_head_ends(before: Before) -> Sequence[Call]:
    await before.enqueue("create", "create")
    await before.settle(DONE)
    last = await before.claim()
    await holds(LANE)(before.engine)
    return [releases(LANE), settles(last, room=5)]


async def _a_halt_is_over_while_the_head_ends(before: Before) -> Sequence[Call]:
    await before.enqueue("create", "create")
    await before.settle(DONE)
    last = await before.claim()
    await holds(LANE, until=datetime.now(UTC) - timedelta(seconds=1))(before.engine)
    return [claims(), settles(last)]


async def _a_store_is_held_while_its_step_is_taken(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    dispatched = await before.dispatch()
    return [holds("authz"), takes(dispatched), dispatches()]


async def _a_replay_of_what_is_halted(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.park()
    return [replays(intent), holds(LANE), claims()]


async def _a_discarded_step_ends_as_it_is_replayed(before: Before) -> Sequence[Call]:
    (intent,) = await before.enqueue("create")
    await before.settle(DONE)
    await before.park()
    await discards(intent)(before.engine)
    last = await before.claim()
    return [settles(last, REFUSED), replays(intent)]


SCENARIOS = (
    Scenario("two replays of one intent", _two_replays_of_one),
    Scenario("a replay and a discard of one parked intent", _a_replay_of_what_is_parked_and_a_discard),
    Scenario("two discards of one parked intent", _two_discards),
    Scenario("two replays of a parked intent, and a claim", _two_replays_and_a_claim),
    Scenario("a discard and a claim", _a_discard_and_a_claim),
    Scenario("a run of updates is discarded while one more comes", _a_run_is_discarded_while_one_more_comes),
    Scenario("a replay and a claim", _a_replay_and_a_claim_with_followers),
    Scenario("a replay while what overtook it ends", _a_replay_while_the_one_that_overtakes_it_ends),
    # Who commits first is not overtaken; both may believe that of themselves.
    Scenario("a replay that a producer may overtake", _a_replay_that_somebody_may_overtake, any_order=True),
    Scenario("a discarded step ends as it is replayed", _a_discarded_step_ends_as_it_is_replayed),
    # Both may happen: it is replayed, and gone.
    Scenario("what is replayed is pruned", _pruning_what_is_replayed, serial=False),
    Scenario(
        "an idempotency key is used while its intent is pruned",
        _pruning_a_key_that_is_used_again,
        may_fail=TRY_AGAIN,
    ),
    Scenario("retention while a head ends", _pruning_while_the_head_ends),
    Scenario("retention beside a claim", _pruning_beside_a_claim),
    Scenario("retention beside a discard", _pruning_beside_a_discard),
    Scenario("retention, twice", _two_prunes),
    Scenario("repairs are asked for, twice, and claimed", _two_repairs_are_asked_for),
    Scenario("a repair is asked for while the head ends", _a_repair_while_the_head_ends),
    Scenario("a reclaim is asked for, and a delete, and claimed", _a_reclaim_is_claimed, any_order=True),
    Scenario("a reclaim ends while a delete is placed", _a_reclaim_ends_while_a_delete_is_placed),
    Scenario("a schedule is halted beside a claim", _a_hold_and_a_claim),
    Scenario("a schedule is halted as its head is placed", _a_hold_as_the_head_is_placed),
    Scenario("a schedule is halted while its head ends", _a_hold_while_the_head_ends),
    Scenario(
        "a schedule is halted while its head ends and the next is placed",
        _a_hold_while_the_head_ends_and_the_next_is_placed,
    ),
    Scenario("a schedule is released beside a claim", _a_release_and_a_claim),
    Scenario("a schedule is released while its head ends", _a_release_while_the_head_ends),
    Scenario("a halt is over while the head ends", _a_halt_is_over_while_the_head_ends),
    Scenario("a store is halted while its step is taken", _a_store_is_held_while_its_step_is_taken),
    Scenario("a parked step is replayed while its schedule is halted", _a_replay_of_what_is_halted),
)
