"""Failures in groups: what nobody has dealt with yet, sorted by what is alike in it."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.errors import ErrorCode
from outbox.flow.outcome import Conflict, Done, Outcome, Refused, Transient
from outbox.flow.settlement import RetryPolicy, decide
from outbox.flow.table import Consumer, Status
from outbox.store.engine import async_engine
from outbox.store.failures import FailureStore
from outbox.store.operate import OperateStore
from outbox.store.retention import RetentionStore
from outbox.store.work import WorkStore
from tests.store.conftest import Enqueue, Query

LIMITS = dict.fromkeys(Consumer, 10)
RACED = Transient(ErrorCode.RACED, "again")


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    engine = async_engine(database)
    yield engine
    await engine.dispose()


async def settle_next(store: WorkStore, outcome: Outcome) -> None:
    (one,) = await store.claim(LIMITS)
    await store.settle([decide(one, outcome, RetryPolicy(max_strikes=1), random.Random(1))])


def taken(by: UUID) -> Outcome:
    return Conflict(ErrorCode.CONFLICT_FOREIGN, f"taken by {by}, 3 times")


async def fail(store: WorkStore, enqueue: Enqueue, name: str) -> UUID:
    intent = await enqueue(name)
    await settle_next(store, taken(intent))
    return intent


async def test_what_fails_alike_is_one_group_and_what_does_not_is_another(
    store: WorkStore, enqueue: Enqueue, engine: AsyncEngine
) -> None:
    first = await fail(store, enqueue, "a")
    parked = await enqueue("b")
    await settle_next(store, RACED)
    last = await fail(store, enqueue, "c")
    groups = await FailureStore(engine).groups()
    told = [
        (g["count"], g["status"], g["consumer"], g["step"], g["error_code"], g["pattern"]) for g in groups
    ]
    assert told == [
        (2, "failed", "authz", "schedule.create.requested", "conflict_foreign", "taken by <id>, <n> times"),
        (1, "parked", "authz", "schedule.create.requested", "raced", "again"),
    ]
    assert [one["example_id"] for one in groups] == [last, parked]
    assert groups[0]["example_message"] == f"taken by {last}, 3 times"
    assert groups[0]["first_at"] < groups[1]["first_at"] < groups[0]["last_at"]
    members = FailureStore(engine)
    group = groups[0]["group_id"]
    assert await members.members(group) == [first, last]
    (youngest,) = await members.page(group, limit=1)
    assert youngest["id"] == last
    assert [one["id"] for one in await members.page(group, before=last)] == [first]


async def test_a_create_that_temporal_refused_failed_there_and_not_where_it_was_undone(
    store: WorkStore, enqueue: Enqueue, engine: AsyncEngine
) -> None:
    await enqueue()
    for outcome in (Done(), Refused(ErrorCode.REFUSED, "bad cron"), Done()):
        await settle_next(store, outcome)
    (group,) = await FailureStore(engine).groups()
    assert (group["consumer"], group["step"], group["pattern"]) == (
        "temporal",
        "schedule.registered",
        "bad cron",
    )


async def test_what_was_dealt_with_is_in_no_group(
    store: WorkStore, enqueue: Enqueue, engine: AsyncEngine
) -> None:
    alice = OperateStore(engine, "alice")
    failed = await fail(store, enqueue, "a")
    await alice.replay(failed, forced=False, rehearsed=False)
    assert await FailureStore(engine).groups() == []
    await settle_next(store, RACED)
    ((again,),) = [
        await FailureStore(engine).members(g["group_id"]) for g in await FailureStore(engine).groups()
    ]
    await alice.replay(again, forced=False, rehearsed=False)
    assert await FailureStore(engine).groups() == []
    await settle_next(store, RACED)
    await alice.discard(again, "not wanted")
    await settle_next(store, Done())
    assert await FailureStore(engine).groups() == []
    await fail(store, enqueue, "old")
    retention = RetentionStore(engine, datetime.now(UTC) + timedelta(hours=1), batch=9, operator="alice")
    assert [await retention.prune(intents) async for intents in retention.prunable()] == [3]
    assert await FailureStore(engine).groups() == []


async def test_a_group_is_chosen_for_a_replay(
    store: WorkStore, enqueue: Enqueue, engine: AsyncEngine
) -> None:
    failed = await fail(store, enqueue, "a")
    await enqueue("b")
    await settle_next(store, RACED)
    groups = {one["status"]: one["group_id"] for one in await FailureStore(engine).groups()}
    chosen = await OperateStore(engine, "alice").replayable(
        statuses=[Status.FAILED, Status.PARKED],
        schedule_id=None,
        error=None,
        since=None,
        group=groups["failed"],
    )
    assert chosen == [failed]


@pytest.mark.parametrize(
    ("message", "pattern"),
    [
        (
            "agent-7--night exists, created by 01a20a98-af62-7a5f-a1b4-82a7e485a547",
            "<schedule> exists, created by <id>",
        ),
        ("no answer from 127.0.0.1:7233 within 10.5 s", "no answer from <n>:<n> within <n> s"),
        ("a/b=c--x-1: taken", "<schedule>: taken"),
        ("bad cron", "bad cron"),
        ("x" * 400, "x" * 300),
    ],
)
async def test_a_pattern_leaves_out_what_differs(query: Query, message: str, pattern: str) -> None:
    assert await query("SELECT outbox.pattern_of(%s) AS p", message) == [{"p": pattern}]
