"""Retention: what goes, what stays however old, and that each call is bounded."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome
from outbox.flow.table import Consumer, Live
from outbox.store.engine import open_engine
from outbox.store.retention import RetentionStore
from outbox.store.work import WorkStore
from tests.store.conftest import Enqueue, Query
from tests.store.test_operate import LIMITS, fail, settle_next, to

SOON = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    async with open_engine(database) as opened:
        yield opened


async def prune(engine: AsyncEngine, older_than: datetime = SOON, *, batch: int = 100) -> list[int]:
    """Prune as the command does, without SpiceDB; how many intents each batch took."""
    store = RetentionStore(engine, older_than, batch=batch, operator="tester")
    gone = [await store.prune(intents) async for intents in store.prunable()]
    async for _ in store.prune_lanes():
        pass
    return gone


async def left(query: Query, table: str = "intents", column: str = "id") -> set[UUID]:
    return {row[column] for row in await query(f"SELECT {column} FROM outbox.{table}")}


async def settle_all(store: WorkStore, *, but: UUID | None = None, outcome: Outcome | None = None) -> None:
    def wanted(taken: list[Dispatch]) -> list[Dispatch]:
        return [one for one in taken if one.intent_id != but]

    while taken := wanted(await store.claim({**LIMITS, Consumer.AUTHZ: 10})):
        await store.settle([to(one, outcome or Done()) for one in taken])


async def test_it_takes_what_has_ended_and_leaves_what_is_needed(
    store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine
) -> None:
    live = await enqueue("live")
    await enqueue("gone")
    await enqueue("gone", kind="delete")
    waiting = await enqueue("busy")
    await settle_all(store, but=waiting)
    assert sum(await prune(engine, batch=1)) == 2
    assert await left(query) == {live, waiting}
    assert await query("SELECT live_intent FROM outbox.lanes") == [{"live_intent": live}]
    assert await left(query, "events", "intent_id") == {live, waiting}


async def test_what_was_reclaimed_stays_for_as_long_as_it_is_live(
    store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine, agent: str
) -> None:
    stamp = UUID(int=1)
    await query("SELECT outbox.request_reclaim(%s, %s, '{}', '{}')", f"{agent}--s", stamp)
    await settle_next(store, Done(live=Live.RECLAIM))
    await prune(engine)
    assert await left(query) == {stamp}
    await enqueue(kind="delete")
    await settle_all(store)
    await prune(engine)
    assert await left(query) == set()


async def test_an_adoption_stays_for_as_long_as_it_is_live(
    store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine, agent: str
) -> None:
    await query("SELECT outbox.request_repair(%s, true)", f"{agent}--s")
    adoption = (await settle_next(store, Done(live=Live.SET))).intent_id
    await prune(engine)
    assert await left(query) == {adoption}
    await enqueue(kind="delete")
    await settle_all(store)
    await prune(engine)
    assert await left(query) == set()
    assert await query("SELECT * FROM outbox.lanes") == []


async def test_what_is_younger_stays(
    store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine
) -> None:
    await enqueue()
    before = datetime.now(UTC)
    await fail(store)
    assert await prune(engine, before - timedelta(minutes=1)) == []
    assert await prune(engine, before + timedelta(seconds=1)) == [1]
    assert await left(query) == set()


async def test_all_of_a_lane_stays_while_late_writes_may_land(
    store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine
) -> None:
    await enqueue()
    await fail(store)
    await query(
        "INSERT INTO outbox.lanes (schedule_id, hold_until, updated_at) "
        "SELECT schedule_id, clock_timestamp() + interval '1 minute', now() FROM outbox.intents"
    )
    assert await prune(engine) == [0]
    assert len(await query("SELECT * FROM outbox.lanes")) == 1
    await query("UPDATE outbox.lanes SET hold_until = clock_timestamp()")
    assert await prune(engine) == [1]
    assert await query("SELECT * FROM outbox.lanes") == []


async def test_all_of_a_lane_stays_while_a_repair_is_to_come(
    store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine, agent: str
) -> None:
    first = await enqueue()
    await fail(store)
    await query("SELECT outbox.request_repair(%s)", f"{agent}--s")
    await query("UPDATE outbox.queue SET due_at = now() + interval '1 hour'")
    assert await prune(engine) == [0]
    assert first in await left(query)


async def test_what_became_needed_since_it_was_looked_at_stays(
    store: WorkStore, enqueue: Enqueue, query: Query, engine: AsyncEngine
) -> None:
    first = await enqueue()
    await fail(store)
    retention = RetentionStore(engine, SOON, batch=10, operator="tester")
    (found,) = [intents async for intents in retention.prunable()]
    assert found == [first]
    second = await enqueue()
    assert await retention.prune(found) == 0
    assert await left(query) == {first, second}


async def test_each_call_looks_at_so_many_rows_and_the_walk_ends(
    store: WorkStore, enqueue: Enqueue, engine: AsyncEngine
) -> None:
    for place in range(7):
        await enqueue(f"s{place}")
    await settle_all(store)
    assert await prune(engine, batch=3) == [0, 0, 0], "all live: looked at once each, three at a time"
    assert await prune(engine, datetime(1969, 1, 1, tzinfo=UTC)) == []
