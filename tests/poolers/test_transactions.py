"""Behind PgBouncer in transaction mode: workers, relays, producers, waits, migrations rely on no session."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import NullPool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from structlog.testing import capture_logs

import outbox
from outbox import OutboxError, Principal
from outbox.flow.table import Status
from outbox.settings import Settings
from outbox.store.migrations import migrate
from outbox.store.notifier import Notifier
from outbox.store.url import parameters
from tests.poolers.conftest import SESSIONS
from tests.store.conftest import Enqueue, Query
from tests.worker.conftest import Bench

WHOSE = Principal(user_id="u1")
CREATED = "SELECT count(*) AS n FROM outbox.events WHERE type = 'schedule.created'"
LEFT_BEHIND = """
    SELECT (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_listening_channels()),
           current_setting('default_transaction_isolation')
"""
# As docs/postgres.md has them.
ON_PSYCOPG: dict[str, Any] = {"connect_args": {"prepare_threshold": None}}
ON_ASYNCPG: dict[str, Any] = {
    "poolclass": NullPool,
    "connect_args": {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__",
    },
}

Producer = Callable[[str], AbstractAsyncContextManager[Any]]


def a_request(place: object) -> outbox.CreateSchedule:
    return outbox.CreateSchedule(
        agent_id="agent", name=f"s{place}", workflow_name="W", task_queue="q", interval_seconds=60
    )


@asynccontextmanager
async def engine_on(url: str, driver: str, options: dict[str, Any]) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url.replace("postgresql:", f"postgresql+{driver}:"), **options)
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.mark.parametrize("wire", ["direct", "kafka"])
async def test_workers_share_three_sessions(
    pooler: str, enqueue: Enqueue, query: Query, wire: str, request: pytest.FixtureRequest
) -> None:
    for place in range(40):
        await enqueue(f"s{place}")
    topics = request.getfixturevalue("topics") if wire == "kafka" else None
    bench = Bench(pooler, topics)
    async with bench.worker() as one, bench.worker() as two, bench.worker() as three:
        await asyncio.gather(one.run(), two.run(), three.run())
    assert await query(CREATED) == [{"n": 40}]
    served = sum(worker.summary()["advance"] for worker in (one, two, three))
    assert served == 80


async def test_the_pooler_that_stands_in_changes_sessions_with_each_transaction(
    own_pooler: str, enqueue: Enqueue, query: Query
) -> None:
    async with await psycopg.AsyncConnection.connect(own_pooler, autocommit=True) as connection:
        seen = [await backend(connection) for _ in range(2 * SESSIONS)]
        async with connection.transaction():
            assert await backend(connection) == await backend(connection) == seen[0]
    assert seen == 2 * seen[:SESSIONS]
    assert len(set(seen)) == SESSIONS
    for place in range(40):
        await enqueue(f"s{place}")
    bench = Bench(own_pooler)
    async with bench.worker() as one, bench.worker() as two:
        await asyncio.gather(one.run(), two.run())
    assert await query(CREATED) == [{"n": 40}]


async def backend(connection: psycopg.AsyncConnection[Any]) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid()", prepare=False)).fetchone()
    assert row
    return int(row[0])


async def test_nothing_stays_on_a_session_that_others_get_next(pooler: str, enqueue: Enqueue) -> None:
    for place in range(20):
        await enqueue(f"s{place}")
    async with Bench(pooler).worker() as worker:
        await worker.run()
    # All at once, each in a transaction: on every session of the pooler's.
    connections = [await psycopg.AsyncConnection.connect(pooler) for _ in range(SESSIONS)]
    for connection in connections:
        found = await (await connection.execute(LEFT_BEHIND, prepare=False)).fetchone()
        assert found == (0, 0, "read committed")
    for connection in connections:
        await connection.close()


async def test_a_role_that_is_serializable_is_told_what_to_change(
    database: str, pooler: str, enqueue: Enqueue
) -> None:
    """Where the session is its own, a worker asks for what it needs; this one is not."""
    await enqueue()
    name = sql.Identifier(parameters(database)["dbname"])
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(
            sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'").format(name)
        )
    async with Bench(database).worker() as direct:
        await direct.run()
    async with Bench(pooler).worker(until_idle=False) as worker:
        with pytest.raises(DBAPIError, match="this transaction is SERIALIZABLE") as refused:
            await worker.run()
    assert "SET default_transaction_isolation" in str(refused.value.orig.diag.message_hint)  # type: ignore[union-attr]


async def test_wake_ups_come_past_the_pooler(database: str, pooler: str, query: Query) -> None:
    woken = asyncio.Event()
    assert Settings.model_validate({"database_url": pooler}).session_url == pooler
    past = Settings.model_validate({"database_url": pooler, "database_direct_url": database})
    with capture_logs() as logs:
        async with Notifier(pooler), Notifier(past.session_url) as hearing:
            hearing.on_wake = woken.set
            await woken.wait()  # it has begun to listen
            woken.clear()
            await query("NOTIFY outbox_work")
            await woken.wait()
            async with asyncio.timeout(240):
                while not logs:  # noqa: ASYNC110 - the event is a line of the log
                    await asyncio.sleep(0.01)
    assert [one["event"] for one in logs] == ["notifier.deaf"]


async def test_migrations_go_through(empty_database: str, pooler: str) -> None:
    name = parameters(empty_database)["dbname"]
    through = pooler.rpartition("/")[0] + f"/{name}"
    assert migrate(through, max_request_bytes=10_000) == (None, "0004")
    assert migrate(through, max_request_bytes=10_000, revision="base") == ("0004", None)


# Producers.


async def many_on_psycopg(url: str, number: int, prepare_threshold: int | None) -> None:
    async with await psycopg.AsyncConnection.connect(url, prepare_threshold=prepare_threshold) as connection:
        for _ in range(number):
            await outbox.enqueue_create(connection, a_request(uuid4()), principal=WHOSE)
            await connection.commit()


async def many_on_an_engine(engine: AsyncEngine, number: int) -> None:
    for _ in range(number):
        async with engine.begin() as connection:
            await outbox.enqueue_create(connection, a_request(uuid4()), principal=WHOSE)


async def test_producers_on_psycopg_need_its_setting(pooler: str, query: Query) -> None:
    await asyncio.gather(*(many_on_psycopg(pooler, 10, None) for _ in range(4)))
    assert await query("SELECT count(*) AS n FROM outbox.intents") == [{"n": 40}]


@pytest.mark.parametrize(("driver", "options"), [("psycopg", ON_PSYCOPG), ("asyncpg", ON_ASYNCPG)])
async def test_producers_on_sqlalchemy_need_the_settings_of_its_drivers(
    pooler: str, query: Query, driver: str, options: dict[str, Any]
) -> None:
    async with engine_on(pooler, driver, options) as engine:
        await asyncio.gather(*(many_on_an_engine(engine, 10) for _ in range(4)))
    assert await query("SELECT count(*) AS n FROM outbox.intents") == [{"n": 40}]


async def test_psycopg_that_names_its_statements_is_told_so(own_pooler: str) -> None:
    with pytest.raises(OutboxError, match="prepared statements must have no names"):
        await many_on_psycopg(own_pooler, 10, 0)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_driver_that_names_its_statements_is_told_so(pooler: str, driver: str) -> None:
    async with engine_on(pooler, driver, {}) as engine:
        with pytest.raises(OutboxError, match="prepared statements must have no names"):  # noqa: PT012 - on PgBouncer it is the last, on another pooler any
            await many_on_an_engine(engine, 10)
            # The one session that PgBouncer has yet is kept, so that the next one gets another.
            async with await psycopg.AsyncConnection.connect(pooler) as keeper:
                await keeper.execute("SELECT 1", prepare=False)
                await many_on_an_engine(engine, 1)


@pytest.mark.parametrize("driver", ["", "psycopg", "asyncpg"])
async def test_a_wait_polls(pooler: str, enqueue: Enqueue, driver: str) -> None:
    intent: UUID = await enqueue()
    async with engine_on(pooler, driver or "psycopg", ON_ASYNCPG if driver == "asyncpg" else {}) as engine:
        waiting = asyncio.create_task(outbox.wait(engine if driver else pooler, intent, timeout=240))
        async with Bench(pooler).worker() as worker:
            await worker.run()
        assert (await waiting).status is Status.SUCCEEDED
