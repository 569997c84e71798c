"""The disk that Postgres writes to is full: an error and nothing half; with room again, all goes on."""

import asyncio
import contextlib
import random
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

import outbox
from outbox.stack import Stack, StackError, StackInfo
from outbox.testing.databases import copied_outbox, prepare_template
from tests.chaos.producers import AWAY
from tests.pipeline.harness import Pipeline
from tests.pipeline.ledger import until
from tests.stack.lazy import LazyStack
from tests.stack.small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.nemesis

_MEGABYTE = 1 << 20
# Less than a segment of the WAL, of which a server must have room for one.
_LEFT = 8 * _MEGABYTE
_MUCH = 100_000


@dataclass(frozen=True)
class Server:
    """A Postgres whose data lies on a small disk."""

    disk: SmallDisk
    info: StackInfo
    template: str


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Of the module's own."""
    with small_disk(200 * _MEGABYTE) as disk, LazyStack(disk.home) as lazy:
        template = prepare_template(lazy.info)
        with psycopg.connect(lazy.info.database_url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET max_wal_size = '32MB'")
            connection.execute("SELECT pg_reload_conf()")
        yield Server(disk, lazy.info, template)


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """Instead of the shared server's."""
    with copied_outbox(server.info, server.template) as url:
        yield url


async def test_producers_get_an_error_and_nothing_half_and_all_goes_on_once_there_is_room(
    pipeline: Pipeline, server: Server
) -> None:
    """Whether a table can't grow or the WAL can't: Postgres then ends itself, and is started again."""
    promised = [await pipeline.create("before")]
    async with pipeline.working():
        await pipeline.ledger.await_event(promised[0].id, "created")
        with server.disk.full(left=_LEFT):
            failed = await produce_until_it_fails(pipeline, promised)
        await asyncio.to_thread(start_again, server.disk)
        await pipeline.ledger.reconnect()
        promised.append(await repeated(pipeline, failed))
        for intent in promised:
            await pipeline.ledger.await_event(intent.id, "created")
    rows = await pipeline.ledger.rows("SELECT id FROM outbox.intents WHERE kind = 'create'")
    assert {row["id"] for row in rows} == {intent.id for intent in promised}, (
        "and none that nobody was told of"
    )
    await pipeline.agree(any_order=True)


async def produce_until_it_fails(pipeline: Pipeline, promised: list[outbox.Intent]) -> str:
    """Ask for schedules with much to keep until Postgres has no room; the name of the one that failed."""
    for number in range(1000):
        name = f"n-{number}"
        try:
            promised.append(await ask(pipeline, name))
        except AWAY:
            return name
    raise AssertionError("there was always room")


async def repeated(pipeline: Pipeline, name: str) -> outbox.Intent:
    """What is in doubt, asked for again under its key."""

    async def again() -> outbox.Intent | None:
        try:
            return await ask(pipeline, name)
        except AWAY:
            return None

    intent: outbox.Intent = await until("Postgres to take it", again)
    return intent


async def ask(pipeline: Pipeline, name: str) -> outbox.Intent:
    request = outbox.CreateSchedule(
        agent_id=pipeline.agent,
        name=name,
        workflow_name="Run",
        task_queue="agents",
        interval_seconds=3600,
        # Nothing makes it smaller, and it is the same for the same name.
        workflow_params={"data": b64encode(random.Random(name).randbytes(_MUCH)).decode()},
    )
    await pipeline.may_use_the_agent(outbox.Principal(user_id="alice"))
    async with pipeline.producer() as producer:
        key = f"{pipeline.agent} {name}"
        (intent,) = await outbox.enqueue_many(producer, [(request, outbox.Principal(user_id="alice"), key)])
        return intent


def start_again(disk: SmallDisk) -> None:
    """What a supervisor does with a server that has ended; it may be just about to."""
    stack = Stack(disk.home)
    with contextlib.suppress(StackError):
        stack.start("postgres")
    stack.start("postgres")
