"""What a step reads depends neither on how much waits, nor on what was there when the plans were made."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import outbox
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done
from outbox.flow.settlement import RetryPolicy, decide
from outbox.flow.table import Consumer
from outbox.store.engine import open_engine, rows
from outbox.store.relay import Flow, RelayStore
from outbox.store.work import WorkStore
from tests.store.conftest import TIMING, Query

BATCH = 100
INTENTS = 600
READS_OF_A_STEP = 50
CREDIT = {Consumer.AUTHZ: BATCH, Consumer.TEMPORAL: BATCH}

Take = Callable[[], Awaitable[list[Dispatch]]]


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """Used for one call after the other, so that all plans are those of its one connection."""
    async with open_engine(database) as engine:
        yield engine


async def enqueue(database: str, agent: str, count: int, *, lanes: int) -> None:
    entries = [
        outbox.CreateSchedule(
            agent_id=agent,
            name=f"n{place % lanes}",
            workflow_name="W",
            task_queue="q",
            interval_seconds=60,
        )
        for place in range(count)
    ]
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as line:
        await outbox.enqueue_many(line, [(entry, outbox.Principal(user_id="u1")) for entry in entries])


async def gather_statistics(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as line:
        await line.execute("VACUUM ANALYZE")


async def drain(take: Take, store: WorkStore) -> int:
    done = 0
    while taken := await take():
        settled = await store.settle([decide(one, Done(), RetryPolicy(), random.Random(1)) for one in taken])
        assert len(settled.matched) == len(taken)
        done += len(taken)
    return done


async def reads(engine: AsyncEngine) -> int:
    await rows(engine, "SELECT pg_stat_force_next_flush()", {})
    (row,) = await rows(
        engine,
        "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)"
        " + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables) AS n",
        {},
    )
    return int(row["n"])


@pytest.mark.parametrize("relayed", [False, True], ids=["claims", "dispatches"])
@pytest.mark.parametrize("before", ["new", "empty", "few", "incoming", "behind"])
async def test_what_a_step_reads(
    database: str, engine: AsyncEngine, agent: str, before: str, *, relayed: bool
) -> None:
    store = WorkStore(engine, TIMING)
    waiting: list[tuple[UUID, int]] = []
    relay = RelayStore(engine, Flow(dict.fromkeys(CREDIT, 2 * INTENTS), BATCH, 30.0, 1.0))

    async def take() -> list[Dispatch]:
        if not relayed:
            return await store.claim(CREDIT)
        # All that can be is out before any of it is taken.
        while out := await relay.dispatch():
            waiting.extend((one.intent_id, one.lease_number) for one in out)
        some = [waiting.pop() for _ in range(min(BATCH, len(waiting)))]
        return await store.take(some)

    match before:
        case "empty":
            await gather_statistics(database)
            assert await drain(take, store) == 0
        case "few":
            await enqueue(database, agent, 3, lanes=1)
            await gather_statistics(database)
            assert await drain(take, store) == 6
            await gather_statistics(database)
            await enqueue(database, agent, 3, lanes=1)
            assert await drain(take, store) == 6
        case "behind":
            await enqueue(database, agent, INTENTS, lanes=1)
            assert len(await store.claim({Consumer.AUTHZ: 1})) == 1
            await gather_statistics(database)
        case "incoming":
            await enqueue(database, agent, INTENTS, lanes=INTENTS // 2)
            await gather_statistics(database)
    await enqueue(database, f"{agent}-more", INTENTS, lanes=INTENTS // 2)
    begun = await reads(engine)
    done = await drain(take, store)
    assert done >= 2 * INTENTS
    assert (await reads(engine) - begun) / done < READS_OF_A_STEP


async def test_a_step_reads_no_more_where_many_schedules_are_halted(
    database: str, engine: AsyncEngine, agent: str, query: Query
) -> None:
    store = WorkStore(engine, TIMING)
    await enqueue(database, f"{agent}-halted", INTENTS, lanes=INTENTS)
    await query(
        "INSERT INTO outbox.halts (what, who, why) SELECT schedule_id, 'alice', 'upgrade' FROM outbox.queue"
    )
    assert await store.claim(CREDIT) == []
    await enqueue(database, agent, INTENTS, lanes=INTENTS)
    begun = await reads(engine)
    assert await drain(lambda: store.claim(CREDIT), store) == 2 * INTENTS
    assert (await reads(engine) - begun) / (2 * INTENTS) < READS_OF_A_STEP


@pytest.mark.parametrize("before", ["new", "empty"])
async def test_what_publishing_an_event_reads(
    database: str, engine: AsyncEngine, agent: str, query: Query, before: str
) -> None:
    relay = RelayStore(engine, Flow(dict.fromkeys(CREDIT, INTENTS), BATCH, 30.0, 1.0))
    await query("UPDATE outbox.instance SET publishes = true")
    if before == "empty":
        await gather_statistics(database)
        assert await publish(relay) == 0
    await enqueue(database, agent, INTENTS, lanes=INTENTS)
    while await relay.dispatch():
        pass
    begun = await reads(engine)
    assert await publish(relay) == INTENTS
    assert (await reads(engine) - begun) / INTENTS < READS_OF_A_STEP


async def publish(relay: RelayStore) -> int:
    count = 0
    while True:
        async with relay.publishing() as batch:
            if not batch.events:
                return count
            await batch.mark_published(batch.events)
            count += len(batch.events)
