"""Replays in waves: a few first, then more; exactly what was planned; never on where too much fails again."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.compose.replays import carrying_on
from outbox.errors import ErrorCode
from outbox.flow.outcome import Conflict, Done, Outcome, Transient
from outbox.flow.settlement import RetryPolicy, decide
from outbox.flow.table import Consumer
from outbox.settings import Settings
from outbox.store.engine import async_engine
from outbox.store.operate import OperateStore
from outbox.store.reads import ReadStore
from outbox.store.replays import ReplayStore, RunningReplays
from outbox.store.work import WorkStore
from tests.store.conftest import Enqueue

LIMITS = dict.fromkeys(Consumer, 100)
TAKEN = Conflict(ErrorCode.CONFLICT_FOREIGN, "taken")
RACED = Transient(ErrorCode.RACED, "again")

Apply = Callable[[Outcome], Awaitable[int]]
Fail = Callable[[int], Awaitable[list[UUID]]]


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    engine = async_engine(database)
    yield engine
    await engine.dispose()


@pytest.fixture
def replays(engine: AsyncEngine) -> ReplayStore:
    return ReplayStore(engine, "alice", "mended")


@pytest.fixture
def running(engine: AsyncEngine) -> RunningReplays:
    return RunningReplays(engine)


@pytest.fixture
def apply(store: WorkStore) -> Apply:
    """Apply all that is due with this outcome, to its end; how many steps it was at first."""

    async def run(outcome: Outcome) -> int:
        first = 0
        while taken := await store.claim(LIMITS):
            first = first or len(taken)
            policy = RetryPolicy(max_strikes=1)
            await store.settle([decide(one, outcome, policy, random.Random(1)) for one in taken])
        return first

    return run


@pytest.fixture
def fail(enqueue: Enqueue, apply: Apply) -> Fail:
    """Intents that have failed, of as many schedules."""

    async def run(count: int, outcome: Outcome = TAKEN) -> list[UUID]:
        intents = [await enqueue(f"s{number}") for number in range(count)]
        await apply(outcome)
        return intents

    return run


async def told(replays: ReplayStore, replay: int, *names: str) -> tuple[Any, ...]:
    (row,) = await replays.found(replay=replay)
    return tuple(row[name] for name in names)


async def test_each_wave_is_larger_and_begins_when_the_last_one_has_come_out(
    fail: Fail, apply: Apply, replays: ReplayStore, running: RunningReplays
) -> None:
    replay = await replays.plan(await fail(9), waves=[1, 2, 5])
    await running.carry_on()
    assert await apply(Done()) == 0, "nothing before it is started"
    assert await replays.start(replay)
    for wave in (1, 2, 5, 1):
        for _ in range(2):
            await running.carry_on()
        assert await apply(Done()) == wave
    await running.carry_on()
    assert await told(replays, replay, "state", "planned", "replayed", "succeeded", "ended_as") == (
        "done",
        9,
        9,
        9,
        "all of it was replayed",
    )


async def test_it_stops_by_itself_where_too_many_of_a_wave_fail_again(
    fail: Fail, apply: Apply, replays: ReplayStore, running: RunningReplays
) -> None:
    replay = await replays.plan(await fail(5), waves=[1, 4], tolerated=0.5)
    await replays.start(replay)
    await running.carry_on()
    await apply(Done())
    await running.carry_on()
    assert await apply(TAKEN) == 4
    await running.carry_on()
    ended = "4 of 4 in wave 2 failed again"
    assert await told(replays, replay, "state", "succeeded", "failed_again", "ended_as") == (
        "stopped",
        1,
        4,
        ended,
    )


async def test_what_was_planned_is_done_and_what_has_changed_since_is_skipped_and_told(
    fail: Fail,
    apply: Apply,
    enqueue: Enqueue,
    engine: AsyncEngine,
    replays: ReplayStore,
    running: RunningReplays,
) -> None:
    alice = OperateStore(engine, "alice")
    kept, by_hand = await fail(2)
    parked = await enqueue("parked")
    await apply(RACED)
    replay = await replays.plan([kept, by_hand, parked], waves=[10])
    await alice.replay(by_hand, forced=False, rehearsed=False)
    await alice.replay(parked, forced=False, rehearsed=False)
    await apply(RACED)
    later = await enqueue("later")
    await apply(TAKEN)
    await replays.start(replay)
    await running.carry_on()
    items = await replays.items(replay)
    assert [(one["intent_id"], one["action"], one["reason"][:20]) for one in items] == [
        (kept, "reenqueued", "create of " + items[0]["schedule_id"][:10]),
        (by_hand, "refused", "it was replayed alre"),
        (parked, "skipped", "it has changed since"),
    ]
    assert later not in {one["intent_id"] for one in items}
    assert await told(replays, replay, "planned", "replayed", "skipped") == (3, 1, 2)


async def test_what_a_plan_refuses_is_told_and_never_replayed(
    fail: Fail, apply: Apply, enqueue: Enqueue, replays: ReplayStore, running: RunningReplays
) -> None:
    (overtaken,) = await fail(1)
    await enqueue("s0", kind="delete")
    replay = await replays.plan([overtaken])
    await apply(Done())
    await replays.start(replay)
    await running.carry_on()
    assert await told(replays, replay, "state", "planned", "refused", "replayed") == ("done", 0, 1, 0)
    (item,) = await replays.items(replay)
    assert (item["action"], "overtaken" in item["reason"], item["wave"]) == ("refused", True, None)


async def test_one_that_is_aborted_begins_no_more_waves(
    fail: Fail, apply: Apply, replays: ReplayStore, running: RunningReplays
) -> None:
    replay = await replays.plan(await fail(3), waves=[1])
    await replays.start(replay)
    await running.carry_on()
    assert await replays.abort(replay)
    assert await apply(Done()) == 1, "what was replayed goes on"
    await running.carry_on()
    assert await apply(Done()) == 0
    assert await told(replays, replay, "state", "ended_as") == ("aborted", "aborted by alice: mended")
    assert not await replays.start(replay)
    assert not await replays.abort(replay)


async def test_each_replay_is_written_down_for_whom_started_it(
    fail: Fail, replays: ReplayStore, running: RunningReplays, engine: AsyncEngine
) -> None:
    replay = await replays.plan(await fail(1))
    await replays.start(replay)
    await running.carry_on()
    done = await ReadStore(engine).operations()
    assert [(one["action"], one["who"], one["why"], one["outcome"]) for one in done] == [
        ("replay", "alice", "mended", "reenqueued"),
        ("start", "alice", "mended", "started"),
    ]


async def test_of_many_workers_one_begins_a_wave(
    fail: Fail, apply: Apply, replays: ReplayStore, database: str
) -> None:
    replay = await replays.plan(await fail(6), waves=[2])
    await replays.start(replay)
    engines = [async_engine(database) for _ in range(4)]
    await asyncio.gather(*(RunningReplays(one).carry_on() for one in engines))
    assert await apply(Done()) == 2
    for one in engines:
        await one.dispose()


async def test_it_goes_on_beside_a_worker_when_whoever_started_it_is_gone(
    database: str, replays: ReplayStore
) -> None:
    replay = await replays.plan([])
    await replays.start(replay)
    async with carrying_on(Settings(database_url=database)):
        while await told(replays, replay, "state") != ("done",):
            pass  # it is carried on within a second
