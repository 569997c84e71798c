"""Claims: heads only, in lane order, exclusive, whatever else is under way."""

import asyncio
import random
from collections.abc import Iterable

import psycopg

from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome
from outbox.flow.settlement import RetryPolicy, Settlement, decide
from outbox.flow.table import Consumer, EventType
from outbox.store.engine import async_engine
from outbox.store.work import Timing, WorkStore
from tests.store.conftest import Enqueue, Query

LIMITS = {Consumer.AUTHZ: 10, Consumer.TEMPORAL: 10}
POLICY = RetryPolicy()


def settled(dispatches: Iterable[Dispatch], outcome: Outcome | None = None) -> list[Settlement]:
    return [decide(one, outcome or Done(), POLICY, random.Random(1)) for one in dispatches]


async def drain(store: WorkStore) -> list[Dispatch]:
    """Apply everything as done, in the order in which it was handed out."""
    seen: list[Dispatch] = []
    while taken := await store.claim(LIMITS):
        seen += taken
        await store.settle(settled(taken))
    return seen


async def test_a_claimed_step_has_all_that_an_effect_needs(
    store: WorkStore, enqueue: Enqueue, agent: str
) -> None:
    intent = await enqueue("nightly")
    (one,) = await store.claim(LIMITS)
    assert one.intent_id == intent
    assert one.schedule_id == f"{agent}--nightly"
    assert (one.event_type, one.lease_number, one.attempt) == (EventType.CREATE_REQUESTED, 1, 1)
    assert one.creator.user_id == "u1"
    assert one.request["workflow_name"] == "W"
    assert (one.unknown, one.look, one.live_intent, one.patience) == (False, False, None, 0.0)
    assert 0 < one.remaining() <= 10.0


async def test_a_step_is_handed_out_once(store: WorkStore, enqueue: Enqueue) -> None:
    await enqueue()
    assert len(await store.claim(LIMITS)) == 1
    assert await store.claim(LIMITS) == []


async def test_one_intent_of_a_lane_at_a_time_in_the_order_of_enqueueing(
    store: WorkStore, enqueue: Enqueue
) -> None:
    intents = [await enqueue(), await enqueue(kind="delete"), await enqueue()]
    seen = await drain(store)
    ends = [one.intent_id for one in seen]
    assert ends == [intents[0]] * 2 + [intents[1]] * 2 + [intents[2]] * 2
    assert [one.event_type for one in seen] == [
        EventType.CREATE_REQUESTED,
        EventType.REGISTERED,
        EventType.DELETE_REQUESTED,
        EventType.UNSCHEDULED,
        EventType.CREATE_REQUESTED,
        EventType.REGISTERED,
    ]


async def test_the_live_stamp_is_the_create_that_stands(store: WorkStore, enqueue: Enqueue) -> None:
    created = await enqueue()
    await enqueue(kind="delete")
    await enqueue()
    assert [one.live_intent for one in await drain(store)] == [None, None, created, created, None, None]


async def test_credit_is_kept_for_each_consumer(store: WorkStore, enqueue: Enqueue) -> None:
    for place in range(5):
        await enqueue(f"c{place}")
        await enqueue(f"d{place}", kind="delete")
    taken = await store.claim({Consumer.AUTHZ: 2, Consumer.TEMPORAL: 3})
    assert sorted(one.consumer for one in taken) == [Consumer.AUTHZ] * 2 + [Consumer.TEMPORAL] * 3
    assert {one.consumer for one in await store.claim({Consumer.AUTHZ: 9})} == {Consumer.AUTHZ}


async def test_a_worker_of_one_store_never_lets_a_later_intent_overtake(
    store: WorkStore, enqueue: Enqueue
) -> None:
    await enqueue()
    await enqueue(kind="delete")
    assert await store.claim({Consumer.TEMPORAL: 5}) == [], "the create before it needs SpiceDB first"


async def test_a_late_commit_with_a_smaller_position_waits_its_turn_and_is_not_skipped(
    store: WorkStore, enqueue: Enqueue, database: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database) as slow:
        late = await enqueue(kind="delete", on=slow)  # the smaller position, not committed
        created = await enqueue()
        (register,) = await store.claim(LIMITS)
        assert register.intent_id == created
        await store.settle(settled([register]))
        await slow.commit()  # between the two steps of the create
    (create,) = await store.claim(LIMITS)
    assert (create.intent_id, create.event_type) == (created, EventType.REGISTERED)
    await store.settle(settled([create]))
    assert [one.intent_id for one in await drain(store)] == [late, late]


async def test_an_open_producer_transaction_delays_nobody_else(
    store: WorkStore, enqueue: Enqueue, database: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database) as slow:
        await enqueue("held", on=slow)
        others = {await enqueue(f"other{place}") for place in range(3)}
        same_lane = await enqueue("held")
        assert {one.intent_id for one in await drain(store)} == others | {same_lane}
        await slow.commit()
    assert len(await drain(store)) == 2


async def test_a_long_lane_is_marked_once_and_then_left_alone(
    store: WorkStore, enqueue: Enqueue, query: Query, agent: str
) -> None:
    first = await enqueue("long")
    await query(
        "SELECT count(*) FROM outbox.enqueue_many((SELECT jsonb_agg(jsonb_build_object("
        "'kind', 'delete', 'agent_id', %s::text, 'name', 'long')) FROM generate_series(1, 20000)))",
        agent,
    )
    other = await enqueue("short")
    taken: list[Dispatch] = []
    claims = 0
    while other not in {one.intent_id for one in taken}:
        taken += await store.claim(LIMITS)
        claims += 1
        assert claims <= 12, "each claim must get past two thousand followers"
    assert {one.intent_id for one in taken} == {first, other}
    assert await query("SELECT place, count(*) AS n FROM outbox.queue GROUP BY place ORDER BY place") == [
        {"place": "behind", "n": 20_000},
        {"place": "head", "n": 2},
    ]


async def test_many_claimers_at_once_share_without_overlap(database: str, enqueue: Enqueue) -> None:
    lanes = 30
    for place in range(lanes):
        await enqueue(f"s{place}")
        await enqueue(f"s{place}", kind="delete")
    engines = [async_engine(database) for _ in range(4)]
    seen: list[tuple[str, EventType]] = []

    async def work(store: WorkStore) -> None:
        while True:
            taken = await store.claim({Consumer.AUTHZ: 3, Consumer.TEMPORAL: 3})
            if not taken and not await store.pending(repairs=True):
                return
            seen.extend((one.schedule_id, one.event_type) for one in taken)
            if taken:
                await store.settle(settled(taken))

    await asyncio.gather(*(work(WorkStore(engine, Timing(30, 10, 5))) for engine in engines))
    for engine in engines:
        await engine.dispose()
    assert len(seen) == len(set(seen)) == 4 * lanes
    steps = [
        EventType.CREATE_REQUESTED,
        EventType.REGISTERED,
        EventType.DELETE_REQUESTED,
        EventType.UNSCHEDULED,
    ]
    for lane in {schedule for schedule, _ in seen}:
        assert [event for schedule, event in seen if schedule == lane] == steps


async def test_followers_marked_while_their_head_ends_are_promoted(
    database: str, enqueue: Enqueue, store: WorkStore
) -> None:
    """Producers, claims and settles of one lane all at once: nobody is left behind without a head."""
    rounds = 40

    async def produce() -> None:
        for _ in range(rounds):
            await enqueue()
            await enqueue(kind="delete")

    async def work(own: WorkStore) -> int:
        done = 0
        while not producing.done() or await own.pending(repairs=True):
            taken = await own.claim(LIMITS)
            done += len(taken)
            if taken:
                await own.settle(settled(taken))
        return done

    engine = async_engine(database)
    producing = asyncio.create_task(produce())
    counts = await asyncio.gather(work(store), work(WorkStore(engine, Timing(30, 10, 5))), producing)
    await engine.dispose()
    assert sum(count or 0 for count in counts[:2]) == 4 * rounds
