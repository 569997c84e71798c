"""What operators do is written down by what does it: who, when, why, and what came of it."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Creator
from outbox.flow.outcome import Conflict, Outcome, Transient
from outbox.flow.settlement import RetryPolicy, decide
from outbox.flow.table import Consumer
from outbox.store.engine import async_engine
from outbox.store.halts import HaltStore
from outbox.store.operate import OperateStore
from outbox.store.reads import ReadStore
from outbox.store.retention import RetentionStore
from outbox.store.work import WorkStore
from tests.store.conftest import Enqueue, Query
from tests.store.roles import connected_as

LIMITS = dict.fromkeys(Consumer, 10)
TAKEN = Conflict(ErrorCode.CONFLICT_FOREIGN, "taken")
RACED = Transient(ErrorCode.RACED, "again")


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    engine = async_engine(database)
    yield engine
    await engine.dispose()


async def settle_next(store: WorkStore, outcome: Outcome) -> None:
    (one,) = await store.claim(LIMITS)
    policy = RetryPolicy(max_strikes=1)
    await store.settle([decide(one, outcome, policy, random.Random(1))])


async def written(engine: AsyncEngine, *names: str) -> list[tuple[Any, ...]]:
    """These columns of what is written down, the oldest first."""
    return [tuple(row[name] for name in names) for row in (await ReadStore(engine).operations())[::-1]]


async def test_each_action_is_written_down_with_who_why_and_what_came_of_it(
    store: WorkStore, enqueue: Enqueue, engine: AsyncEngine, agent: str
) -> None:
    alice = OperateStore(engine, "alice", "ticket 7")
    failed = await enqueue("failed")
    await settle_next(store, TAKEN)
    again = (await alice.replay(failed, forced=False, rehearsed=False)).new_intent
    await alice.replay(failed, forced=False, rehearsed=False)
    await settle_next(store, TAKEN)
    parked = await enqueue("parked")
    await settle_next(store, RACED)
    await alice.discard(parked, "not wanted")
    repair = await alice.request_repair(f"{agent}--failed")
    adoption = await alice.request_repair(f"{agent}--old", adopting=True)
    reclaim = await alice.request_reclaim(f"{agent}--lost", uuid4(), definition={}, creator=Creator())
    halts = HaltStore(engine, "bob")
    await halts.hold("authz", until=None, why="upgrade")
    await halts.release("authz")
    assert await written(engine, "who", "action", "target", "intent_id", "outcome", "made", "why") == [
        ("alice", "replay", f"{agent}--failed", failed, "reenqueued", again, "ticket 7"),
        ("alice", "replay", f"{agent}--failed", failed, "refused", None, "ticket 7"),
        ("alice", "discard", f"{agent}--parked", parked, "discarding", None, "not wanted"),
        ("alice", "repair", f"{agent}--failed", repair, "asked", repair, "ticket 7"),
        ("alice", "adopt", f"{agent}--old", adoption, "asked", adoption, "ticket 7"),
        ("alice", "reclaim", f"{agent}--lost", reclaim, "asked", reclaim, "ticket 7"),
        ("bob", "hold", "authz", None, "held", None, "upgrade"),
        ("bob", "release", "authz", None, "released", None, None),
    ]


async def test_a_rehearsal_is_no_operation(store: WorkStore, enqueue: Enqueue, engine: AsyncEngine) -> None:
    failed = await enqueue()
    await settle_next(store, TAKEN)
    await OperateStore(engine, "alice").replay(failed, forced=False, rehearsed=True)
    assert await written(engine, "action") == []


async def test_a_halt_whose_time_is_over_is_written_down_as_released(
    store: WorkStore, query: Query, engine: AsyncEngine
) -> None:
    await HaltStore(engine, "bob").hold("authz", until=None, why="upgrade")
    await query("UPDATE outbox.halts SET until = clock_timestamp()")
    await store.claim(LIMITS)
    assert await written(engine, "who", "action", "why") == [
        ("bob", "hold", "upgrade"),
        ("bob", "release", "its time is over"),
    ]


async def test_a_prune_is_one_operation_and_takes_the_older_ones_along(
    store: WorkStore, enqueue: Enqueue, engine: AsyncEngine
) -> None:
    for _ in range(3):
        await enqueue()
        await settle_next(store, TAKEN)
    await HaltStore(engine, "bob").release("authz")
    retention = RetentionStore(engine, datetime.now(UTC) + timedelta(hours=1), batch=2, operator="alice")
    assert [await retention.prune(intents) async for intents in retention.prunable()] == [2, 1]
    assert (await written(engine, "who", "action", "items"))[1:] == [("alice", "prune", 3)]
    await retention.prune_operations()
    assert await written(engine, "action") == []


def test_the_role_is_the_databases_word_and_nobody_elses(database: str) -> None:
    with connected_as(database, "outbox_operator") as connection:
        connection.execute("SELECT outbox.hold_by('the boss', 'why', 'authz', NULL)")
        row = connection.execute("SELECT who, role = session_user FROM outbox.operations").fetchone()
        assert row == ("the boss", True)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM outbox.operations")
