"""What workers and relays meet: each other, and producers."""

from collections.abc import Sequence

from tests.interleaving.calls import (
    DONE,
    LOST,
    REFUSED,
    Before,
    claims,
    dispatches,
    enqueues,
    recalls,
    settles,
    takes,
)
from tests.interleaving.scenario import Scenario
from tests.interleaving.stage import Call


async def _a_follower_while_its_head_ends(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle(DONE)
    last = await before.claim()
    await before.enqueue("delete")
    return [settles(last), claims()]


async def _the_same_handed_over(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle(DONE)
    last = await before.claim()
    await before.enqueue("delete")
    return [settles(last, room=5), claims()]


async def _the_same_dispatched(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle(DONE)
    last = await before.claim()
    await before.enqueue("delete")
    return [settles(last), dispatches()]


async def _two_claims_of_one_lane(before: Before) -> Sequence[Call]:
    await before.enqueue("create", "delete")
    return [claims(), claims()]


async def _two_settles_of_one_lease(before: Before) -> Sequence[Call]:
    await before.enqueue("create", "delete")
    await before.settle(DONE)
    last = await before.claim()
    return [settles(last), settles(last, REFUSED)]


async def _a_lost_attempt_ends_beside_a_claim(before: Before) -> Sequence[Call]:
    """The head ends with two repairs, and what follows holds."""
    await before.enqueue("create", "delete")
    await before.settle(DONE, LOST)
    await before.pass_time()
    last = await before.claim()
    return [settles(last), claims()]


async def _a_lease_is_over_as_its_settle_comes(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    last = await before.claim()
    await before.pass_time()
    return [settles(last), claims()]


async def _a_lease_is_over_as_its_settle_hands_over(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    last = await before.claim()
    await before.pass_time()
    return [settles(last, room=5), claims()]


async def _a_producer_while_the_head_ends(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.settle(DONE)
    last = await before.claim()
    return [settles(last), enqueues("delete"), claims()]


async def _two_producers_and_a_claim(_: Before) -> Sequence[Call]:
    return [enqueues("create"), enqueues("delete"), claims()]


async def _two_takes(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    dispatched = await before.dispatch()
    return [takes(dispatched), takes(dispatched)]


async def _a_take_as_it_is_dispatched_again(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    late = await before.dispatch(seconds=0.0)
    return [takes(late), dispatches()]


async def _a_take_and_a_recall(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    dispatched = await before.dispatch()
    return [takes(dispatched), recalls(dispatched)]


async def _a_take_a_recall_and_a_dispatch(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    dispatched = await before.dispatch()
    return [takes(dispatched), recalls(dispatched), dispatches()]


async def _two_relays(before: Before) -> Sequence[Call]:
    await before.enqueue("create")
    await before.enqueue("create", lane="b--s")
    return [dispatches(bound=1), dispatches(bound=1)]


async def _a_run_of_updates_while_one_more_comes(before: Before) -> Sequence[Call]:
    await before.have_live()
    await before.enqueue("update", "update")
    run = await before.claim()
    await before.enqueue("update")
    return [settles(run), claims()]


async def _an_update_is_asked_for_while_the_run_before_ends(before: Before) -> Sequence[Call]:
    await before.have_live()
    await before.enqueue("update", "update")
    run = await before.claim()
    return [settles(run), enqueues("update", note="one more"), claims()]


async def _a_run_is_split_while_one_more_comes(before: Before) -> Sequence[Call]:
    await before.have_live()
    await before.enqueue("update", "update")
    run = await before.claim()
    await before.enqueue("update")
    return [settles(run, REFUSED), claims()]


async def _a_run_is_claimed_while_one_more_comes(before: Before) -> Sequence[Call]:
    await before.have_live()
    await before.enqueue("update")
    return [claims(), enqueues("update", note="one more")]


async def _a_run_of_updates_before_a_delete(before: Before) -> Sequence[Call]:
    await before.have_live()
    await before.enqueue("update", "update")
    run = await before.claim()
    await before.enqueue("delete")
    return [settles(run, room=5), claims()]


SCENARIOS = (
    Scenario("a follower is placed while its head ends", _a_follower_while_its_head_ends),
    Scenario("a follower is placed while its head ends, and handed over", _the_same_handed_over),
    Scenario("a follower is placed by a relay while its head ends", _the_same_dispatched),
    Scenario("two claims of one lane", _two_claims_of_one_lane),
    Scenario("two settles of one lease", _two_settles_of_one_lease),
    Scenario("a lost attempt ends beside a claim", _a_lost_attempt_ends_beside_a_claim),
    # Both may happen: it settles in time, or another attempt is made.
    Scenario("a lease is over as its settle comes", _a_lease_is_over_as_its_settle_comes),
    Scenario("a lease is over as its settle hands over", _a_lease_is_over_as_its_settle_hands_over),
    Scenario("a producer commits while the head ends", _a_producer_while_the_head_ends),
    Scenario("two producers and a claim", _two_producers_and_a_claim, any_order=True),
    Scenario("two takes of one dispatch", _two_takes),
    Scenario("a take as its step is dispatched again", _a_take_as_it_is_dispatched_again),
    Scenario("a take and a recall", _a_take_and_a_recall),
    Scenario("a take and a recall, and the next dispatch", _a_take_a_recall_and_a_dispatch),
    Scenario("two relays with room for one", _two_relays, bound=1),
    Scenario("a run of updates ends while one more comes", _a_run_of_updates_while_one_more_comes),
    Scenario(
        "an update is asked for while the run before ends",
        _an_update_is_asked_for_while_the_run_before_ends,
    ),
    Scenario("a run of updates is split while one more comes", _a_run_is_split_while_one_more_comes),
    Scenario("a run of updates is claimed while one more comes", _a_run_is_claimed_while_one_more_comes),
    Scenario("a run of updates ends before a delete that is placed", _a_run_of_updates_before_a_delete),
)
