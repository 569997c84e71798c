"""A role, or a database, may set nearly anything for every session: each works, or says what to change.

And what a server may run out of.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs
from typer.testing import CliRunner

import outbox
from outbox.cli.main import app
from outbox.flow.table import Consumer, Status
from outbox.store.engine import open_engine
from outbox.store.relay import Flow, RelayStore
from outbox.store.url import parameters
from tests.stack.containers import ContainerStack
from tests.stack.lazy import LazyStack
from tests.store.roles import connected_as
from tests.worker.conftest import Bench

REQUEST = outbox.CreateSchedule(
    agent_id="agent",
    name="s",
    workflow_name="W",
    task_queue="q",
    interval_seconds=60,
    # What is not in Latin-1, and what an old syntax of strings would take for an escape.
    workflow_params={"text": "★ \\n 'x'"},
)

THROW_OUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE usename = %s AND application_name LIKE 'outbox%%'
"""

ASKED = ("--workflow", "W", "--task-queue", "q", "--interval", "60", "--user", "u")

Setting = Callable[[str, str | None], None]


@pytest.fixture
def setting(database: str) -> Iterator[Setting]:
    """Set something, or None for what it was, for all sessions to come; this one's own is older."""
    name = sql.Identifier(parameters(database)["dbname"])
    with psycopg.connect(database, autocommit=True) as owner:

        def change(setting: str, value: str | None) -> None:
            verb = sql.SQL("RESET {}") if value is None else sql.SQL("SET {} = {}")
            what = [sql.Identifier(setting), *([] if value is None else [sql.Literal(value)])]
            owner.execute(sql.SQL("ALTER DATABASE {} ").format(name) + verb.format(*what))

        yield change


async def enqueued(database: str) -> outbox.Intent:
    async with await psycopg.AsyncConnection.connect(database) as connection:
        return await outbox.enqueue_create(connection, REQUEST, principal=outbox.Principal(user_id="u"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client_encoding", "latin1"),
        ("default_transaction_deferrable", "on"),
        ("default_transaction_isolation", "repeatable read"),
        ("default_transaction_isolation", "serializable"),
        ("idle_in_transaction_session_timeout", "20s"),
        ("idle_session_timeout", "50ms"),
        ("intervalstyle", "sql_standard"),
        ("lock_timeout", "20s"),
        ("plan_cache_mode", "force_custom_plan"),
        ("row_security", "off"),
        ("search_path", "nowhere"),
        ("session_replication_role", "replica"),
        ("standard_conforming_strings", "off"),
        ("statement_timeout", "20s"),
        ("timezone", "Asia/Kathmandu"),
        ("transform_null_equals", "on"),
    ],
)
def test_the_outbox_works(setting: Setting, database: str, name: str, value: str) -> None:
    setting(name, value)
    lane = asyncio.run(work(database))
    if name == "idle_session_timeout":
        # A command is cut off by rights where the machine is slower than that between two of its statements.
        setting(name, "1min")
    for command in (["create", "agent", "more", *ASKED], ["intents"], ["show", lane], ["status"]):
        ran = CliRunner().invoke(app, [*command, "--json"], env={"OUTBOX_DATABASE_URL": database})
        assert ran.exit_code == 0, f"{command}: {ran.stderr}"
    asyncio.run(relay(database))


async def work(database: str) -> str:
    """Enqueue, take, settle, wait."""
    # A producer's connection is the application's own.
    intent = await enqueued(database + "?client_encoding=utf8")
    bench = Bench(database)
    async with bench.worker() as worker:
        await worker.run()
    assert (await outbox.wait(database, intent.id, timeout=240)).status is Status.SUCCEEDED
    assert bench.effects.asked[0].request["workflow_params"] == REQUEST.workflow_params
    return intent.schedule_id


async def relay(database: str) -> None:
    """Dispatch, recall, and publish, short of Kafka."""
    async with open_engine(database) as engine:
        store = RelayStore(engine, Flow({Consumer.AUTHZ: 1}, 10, 30.0, 1.0))
        (dispatched,) = await store.dispatch()
        await store.recall([dispatched])
        assert [one.intent_id for one in await store.dispatch()] == [dispatched.intent_id]
        async with store.publishing() as batch:
            assert batch.events == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("statement_timeout", "1ms", "canceling statement due to statement timeout"),
        ("lock_timeout", "1ms", "canceling statement due to lock timeout"),
    ],
)
async def test_a_time_out_that_is_too_short_is_waited_out_and_told(
    setting: Setting, database: str, name: str, value: str, said: str
) -> None:
    intent = await enqueued(database)
    with psycopg.connect(database) as holder, capture_logs() as logs:
        # Whoever claims waits; this session was there before what is set, which it might not keep to either.
        holder.execute("LOCK TABLE outbox.queue")
        setting(name, value)
        async with Bench(database).worker() as worker:
            running = asyncio.create_task(worker.run())
            async with asyncio.timeout(240):
                while not [one for one in logs if one["event"] == "take.postponed"]:  # noqa: ASYNC110 - a log
                    await asyncio.sleep(0.01)
            setting(name, None)
            holder.rollback()
            await running
    assert (await outbox.wait(database, intent.id, timeout=240)).status is Status.SUCCEEDED
    assert {one["reason"] for one in logs if one["event"] == "take.postponed"} == {said}


@asynccontextmanager
async def working(url: str) -> AsyncIterator[None]:
    async with Bench(url).worker(until_idle=False, poll_seconds=0.05) as worker:
        running = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            worker.stop()
            await running


async def until_enqueued(database: str) -> outbox.Intent:
    """As a producer whose Postgres has just gone away does it."""
    async with asyncio.timeout(240):
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                return await enqueued(database)
            await asyncio.sleep(0.05)


async def test_no_connection_left_is_waited_out(database: str) -> None:
    with (
        connected_as(database, "outbox_worker") as login,
        psycopg.connect(database, autocommit=True) as owner,
    ):
        name = login.info.user
        async with working(f"{database}?user={name}&password=x"):
            first = await enqueued(database)
            await outbox.wait(database, first.id, timeout=240)
            limit = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format
            owner.execute(limit(sql.Identifier(name), 0))
            with capture_logs() as logs:
                owner.execute(THROW_OUT, [name])
                async with asyncio.timeout(240):
                    while not any("too many connections" in one.get("reason", "") for one in logs):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
            owner.execute(limit(sql.Identifier(name), -1))
            second = await enqueued(database)
            assert (await outbox.wait(database, second.id, timeout=240)).status is Status.SUCCEEDED


async def test_a_backend_that_the_kernel_kills_takes_all_with_it_for_a_moment(
    database: str, servers: LazyStack | ContainerStack
) -> None:
    if isinstance(servers, ContainerStack):
        pytest.skip("its process ids are the container's")
    async with working(database):
        first = await enqueued(database)
        await outbox.wait(database, first.id, timeout=240)
        async with await psycopg.AsyncConnection.connect(database) as victim:
            os.kill(victim.info.backend_pid, signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                await victim.execute("SELECT 1")
        second = await until_enqueued(database)
        assert (await outbox.wait(database, second.id, timeout=240)).status is Status.SUCCEEDED
