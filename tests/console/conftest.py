"""The console over a real database and real stores, spoken to without a network."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import psycopg
import pytest
from playwright.async_api import Browser
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

import outbox
from outbox import compose
from outbox.console.server import listening, open_console
from outbox.stack import StackInfo
from outbox.store.grants import GRANTS
from outbox.testing.databases import copied
from tests.conftest import settings_for
from tests.console.browsers import chromium
from tests.debian import NotToBeHadError

BASE = "http://127.0.0.1:8484"
PRINCIPAL = outbox.Principal(user_id="u1")

EVIL = "<script>alert(1)</script>\x1b[31m red \u202eesrever\u202c \u200bhidden"
LONG = "x" * 200_000


@pytest.fixture(scope="module")
def ledger(stack: StackInfo, template: str) -> Iterator[str]:
    """The URL of a database that the tests of a module share."""
    with copied(stack, template) as url:
        with psycopg.connect(url) as owner:
            owner.execute("UPDATE outbox.instance SET id = gen_random_uuid()")
        yield url


@pytest.fixture(scope="module")
def as_operator(ledger: str) -> Iterator[str]:
    """The same database, by a login that is a member of ``outbox_operator`` and of nothing else."""
    name = f"login_{uuid4().hex[:8]}"
    with psycopg.connect(ledger, autocommit=True) as owner:
        owner.execute(GRANTS.encode())
        owner.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' IN ROLE outbox_operator").format(sql.Identifier(name))
        )
        place = conninfo_to_dict(ledger)
        query = urlencode({"host": place["host"], "port": place["port"], "user": name, "password": "x"})
        yield f"postgresql:///{place['dbname']}?{query}"
        owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


class Consoles:
    """Opens consoles, each with settings of its own, and a client of each."""

    def __init__(self, stack: StackInfo, url: str, exits: AsyncExitStack) -> None:
        self._stack = stack
        self._url = url
        self._exits = exits

    async def open(self, *, peer: str = "127.0.0.1", base: str = BASE, **settings: Any) -> httpx.AsyncClient:
        app, _ = await self._exits.enter_async_context(
            open_console(settings_for(self._stack, self._url, **settings))
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(peer, 50_000))
        return await self._exits.enter_async_context(httpx.AsyncClient(transport=transport, base_url=base))


@pytest.fixture
async def consoles(stack: StackInfo, as_operator: str, spicedb_schema: None) -> AsyncIterator[Consoles]:
    del spicedb_schema
    async with AsyncExitStack() as exits:
        yield Consoles(stack, as_operator, exits)


@pytest.fixture
async def client(consoles: Consoles) -> httpx.AsyncClient:
    """A client of a console that tells nobody apart."""
    return await consoles.open()


@asynccontextmanager
async def served(stack: StackInfo, url: str, **settings: Any) -> AsyncIterator[str]:
    """The address of a console that listens, without the slash at its end."""
    async with listening(settings_for(stack, url, **settings), "127.0.0.1", 0) as page:
        serving = asyncio.create_task(page.run())
        try:
            yield page.url.rstrip("/")
        finally:
            # One that went on behind a failed test would answer on sockets that are another's by then.
            page.stop()
            await serving


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One for all that need one."""
    async with AsyncExitStack() as exits:
        try:
            yield await exits.enter_async_context(chromium())
        except NotToBeHadError as error:
            pytest.skip(str(error))


def schedule(agent: str, name: str, **fields: Any) -> outbox.CreateSchedule:
    known: dict[str, Any] = {"workflow_name": "W", "task_queue": "q", "interval_seconds": 3600}
    return outbox.CreateSchedule(agent_id=agent, name=name, **(known | fields))


async def enqueue(ledger: str, *requests: outbox.CreateSchedule) -> list[outbox.Intent]:
    async with await psycopg.AsyncConnection.connect(ledger) as connection:
        return await outbox.enqueue_many(connection, [(one, PRINCIPAL) for one in requests])


async def work(stack: StackInfo, ledger: str) -> None:
    """Have a worker apply all that is pending."""
    async with compose.worker.open_worker(settings_for(stack, ledger), until_idle=True) as worker:
        await worker.run()
