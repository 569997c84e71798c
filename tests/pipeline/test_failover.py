"""A standby takes over, and later the old primary again: whoever works, asks or waits goes on by itself."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import outbox
from outbox.audit.drift import DriftKind
from outbox.compose.audit import compare_stores
from outbox.stack import Stack, postgres_versions
from outbox.store import notifier
from outbox.store.migrations import migrate
from tests.docs.pages import Page
from tests.pipeline.harness import UNPOLLED, Pipeline
from tests.pipeline.test_restart import goes_on
from tests.stack.folder import folder
from tests.stack.lazy import LazyStack
from tests.stack.pair import Pair


@pytest.fixture(scope="module")
def two_servers() -> Iterator[Pair]:
    """Of the module's own."""
    if not (postgres_versions.programs() / "pg_basebackup").exists():
        pytest.skip("this version comes without pg_basebackup")
    with folder() as home:
        first = home / "first"
        with LazyStack(first) as lazy:
            lazy.start("postgres")
            with Pair(Stack(first), home / "second") as pair:
                migrate(pair.url, max_request_bytes=262_144)
                yield pair


@pytest.fixture
def pair(two_servers: Pair) -> Pair:
    """The two, one of them following the other; after a test they have changed places."""
    two_servers.follow()
    return two_servers


@pytest.fixture
def database(pair: Pair) -> str:
    """Instead of the shared server's."""
    return pair.url


async def take_over(pair: Pair, end: str) -> None:
    """The primary is killed, or demoted while it lives on; then the standby takes over."""
    await asyncio.to_thread(pair.demote if end == "demoted" else pair.kill)
    await asyncio.to_thread(pair.promote)


@pytest.mark.parametrize("end", ["killed", "demoted"])
async def test_under_load(pipeline: Pipeline, pair: Pair, end: str) -> None:
    """One worker, those who wait, and producers that repeat what is in doubt. Campaigns have relays, too."""
    async with _waitables(pair) as waitables:
        await goes_on(pipeline, waitables, lambda: take_over(pair, end))


async def test_a_wake_up_is_heard_from_the_server_that_took_over(
    pipeline: Pipeline, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demoted one lives on, and the connection to it with it."""
    monkeypatch.setattr(notifier, "_HEARTBEAT_SECONDS", 0.5)
    async with pipeline.working(**UNPOLLED):
        before = await pipeline.create("before")
        await pipeline.ledger.await_event(before.id, "created")
        await take_over(pair, "demoted")
        await pipeline.ledger.reconnect()
        for name in ("at-once", "later"):
            intent = await pipeline.create(name)
            await pipeline.ledger.await_event(intent.id, "created")
    await pipeline.agree()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_an_application_whose_pool_has_connections_to_a_demoted_server_asks_and_waits(
    pipeline: Pipeline, pair: Pair, driver: str
) -> None:
    """It asks as the page on Postgres says; the wait takes no "unknown" from a server without writes."""
    async with _engine(pair, driver) as asking, _engine(pair, driver) as waiting:
        _leave_servers_that_take_no_writes(asking)
        for engine in (asking, waiting):
            async with engine.connect():
                pass
        await take_over(pair, "demoted")
        await pipeline.ledger.reconnect()
        request = outbox.DeleteSchedule(agent_id=pipeline.agent, name="n")
        with pytest.raises(DBAPIError, match="read-only transaction"):
            await _enqueue(asking, request)
        intent = await _enqueue(asking, request)
        async with pipeline.working():
            result = await outbox.wait(waiting, intent.id, timeout=240)
    assert result.status is outbox.Status.SUCCEEDED


async def test_what_only_the_primary_had_is_gone_with_it_where_the_standby_is_asynchronous(
    pipeline: Pipeline, pair: Pair
) -> None:
    """The schedule that came of it stays in the stores, and audits tell of it."""
    await asyncio.to_thread(pair.fall_behind)
    intent = await pipeline.create()
    await pipeline.work()
    await take_over(pair, "killed")
    await pipeline.ledger.reconnect()
    with pytest.raises(outbox.UnknownIntent):
        await outbox.wait(pair.url, intent.id)
    report = await compare_stores(pipeline.settings, ids={pipeline.lane()})
    assert {drift.kind for drift in report.drifts} == {DriftKind.FORGOTTEN}


def _leave_servers_that_take_no_writes(engine: AsyncEngine) -> None:
    """Run the page's example on this engine, instead of the one that it makes."""
    (block,) = Page("docs/postgres.md").blocks("python", mark="run")
    exec(re.sub(r"^engine = .*$", "", block, flags=re.MULTILINE), {"engine": engine})


async def _enqueue(engine: AsyncEngine, request: outbox.DeleteSchedule) -> outbox.Intent:
    async with engine.begin() as connection:
        return await outbox.enqueue_delete(connection, request, principal=outbox.Principal())


@asynccontextmanager
async def _waitables(pair: Pair) -> AsyncIterator[list[AsyncEngine | str]]:
    async with _engine(pair, "psycopg") as first, _engine(pair, "asyncpg") as second:
        yield [pair.url, first, second]


@asynccontextmanager
async def _engine(pair: Pair, driver: str) -> AsyncIterator[AsyncEngine]:
    """An application's engine, in SQLAlchemy's way to name several hosts."""
    known = conninfo_to_dict(pair.url)
    hosts = [f"127.0.0.1:{port}" for port in str(known["port"]).split(",")]
    url = URL.create(
        f"postgresql+{driver}",
        username=str(known["user"]),
        password=str(known["password"]),
        database=str(known["dbname"]),
        query={"host": hosts, "target_session_attrs": "read-write"},
    )
    engine = create_async_engine(url)
    try:
        yield engine
    finally:
        await engine.dispose()
