"""Producers at SERIALIZABLE: what their transactions have read, and with whom they conflict."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

import outbox
from tests.producer.test_concurrency import NOBODY, Connection, a_create, a_delete

PRODUCERS, COMMITS = 8, 12
# What Postgres keeps of a transaction to find out what it has read that another one writes.
READ = """
    SELECT DISTINCT coalesce(t.relname, c.relname) FROM pg_locks l
      JOIN pg_class c ON c.oid = l.relation
      LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = i.indrelid
     WHERE l.mode = 'SIReadLock' AND l.pid = pg_backend_pid()
"""


@pytest.fixture
async def serializable(shared: str) -> AsyncIterator[Connection]:
    connection = await psycopg.AsyncConnection.connect(shared)
    await connection.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE)
    async with connection:
        yield connection
        await connection.rollback()


async def read_by(connection: Connection) -> set[str]:
    return {name for (name,) in await (await connection.execute(READ)).fetchall()}


async def test_an_enqueue_has_read_nothing_that_producers_write(serializable: Connection, agent: str) -> None:
    await outbox.enqueue_create(serializable, a_create(agent), principal=NOBODY, idempotency_key=agent)
    await outbox.enqueue_delete(serializable, a_delete(agent), principal=NOBODY)
    await outbox.enqueue_many(serializable, [(a_create(agent), NOBODY), (a_delete(agent), NOBODY)])
    assert await read_by(serializable) == {"limits"}


async def test_a_key_that_is_used_again_has_read_its_intent(serializable: Connection, agent: str) -> None:
    for _ in range(2):
        await outbox.enqueue_create(serializable, a_create(agent), principal=NOBODY, idempotency_key=agent)
    assert await read_by(serializable) == {"limits", "intents"}


@pytest.mark.parametrize("many", [False, True], ids=["one by one", "many at once"])
async def test_producers_of_different_schedules_never_conflict(
    shared: str, agent: str, *, many: bool
) -> None:
    """All have enqueued before the first commits, so each pair of them overlaps."""
    enqueued = asyncio.Barrier(PRODUCERS)

    async def produce(number: int) -> None:
        async with await psycopg.AsyncConnection.connect(shared) as connection:
            await connection.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE)
            for _ in range(COMMITS):
                own = f"{agent}{number}"
                if many:
                    await outbox.enqueue_many(connection, [(a_create(own), NOBODY), (a_delete(own), NOBODY)])
                else:
                    await outbox.enqueue_create(connection, a_create(own), principal=NOBODY)
                await enqueued.wait()
                await connection.commit()

    async with asyncio.TaskGroup() as group:
        for number in range(PRODUCERS):
            group.create_task(produce(number))


async def test_a_worker_is_woken_though_others_wait(
    shared: str, serializable: Connection, agent: str
) -> None:
    """Whether it has to be is not looked at: that would be a conflict with each other producer."""
    async with await psycopg.AsyncConnection.connect(shared, autocommit=True) as listener:
        await listener.execute("LISTEN outbox_work")
        for _ in range(2):
            await outbox.enqueue_create(serializable, a_create(agent), principal=NOBODY)
            await serializable.commit()
        heard = [one.channel async for one in listener.notifies(timeout=60, stop_after=2)]
    assert heard == ["outbox_work"] * 2
