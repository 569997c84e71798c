"""Postgres restarts under load: workers, listeners, producers and those who wait go on by themselves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import outbox
from outbox.stack import Stack
from tests.chaos.producers import AWAY
from tests.pipeline.harness import UNPOLLED, Pipeline
from tests.stack.containers import ContainerStack

LANES = 12
WAITS = ["url", "psycopg", "asyncpg"]


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_under_load(pipeline: Pipeline, running_stack: Stack | ContainerStack, *, end: str) -> None:
    """One worker in this process, and producers that repeat what they don't know to be committed."""

    async def restart() -> None:
        await asyncio.to_thread(getattr(running_stack, end), "postgres")
        await asyncio.to_thread(running_stack.start, "postgres")

    async with _waitables(pipeline.database_url) as waitables:
        await goes_on(pipeline, waitables, restart)


async def test_a_wake_up_after_a_restart_is_heard(
    pipeline: Pipeline, running_stack: Stack | ContainerStack
) -> None:
    async with pipeline.working(**UNPOLLED):
        before = await pipeline.create("before")
        await pipeline.ledger.await_event(before.id, "created")
        await asyncio.to_thread(running_stack.stop, "postgres")
        await asyncio.to_thread(running_stack.start, "postgres")
        await pipeline.ledger.reconnect()
        for name in ("at once", "later"):
            intent = await pipeline.create(name.replace(" ", "-"))
            await pipeline.ledger.await_event(intent.id, "created")
    await pipeline.agree()


async def test_a_wait_while_postgres_is_away_says_so(
    pipeline: Pipeline, running_stack: Stack | ContainerStack
) -> None:
    intent = await pipeline.create()
    await asyncio.to_thread(running_stack.stop, "postgres")
    try:
        with pytest.raises(TimeoutError, match=r"within 0.5 s: Postgres is away \(.*refused"):
            await outbox.wait(pipeline.database_url, intent.id, timeout=0.5)
    finally:
        await asyncio.to_thread(running_stack.start, "postgres")


@asynccontextmanager
async def _waitables(url: str) -> AsyncIterator[list[AsyncEngine | str]]:
    engines = [create_async_engine(url.replace("postgresql", f"postgresql+{name}")) for name in WAITS[1:]]
    try:
        yield [url, *engines]
    finally:
        for engine in engines:
            await engine.dispose()


async def goes_on(
    pipeline: Pipeline, waitables: Sequence[AsyncEngine | str], trouble: Callable[[], Awaitable[None]]
) -> None:
    """A worker, those who wait, and producers that repeat what is in doubt, whatever happens meanwhile."""
    async with pipeline.working():
        first = [await ask(pipeline, f"n-{number}", "create") for number in range(LANES)]
        waits = [
            asyncio.create_task(outbox.wait(waitables[number % 3], intent.id, timeout=240))
            for number, intent in enumerate(first)
        ]
        asking = asyncio.create_task(ask_for_more(pipeline))
        await pipeline.ledger.await_event(first[0].id, "created")
        await trouble()
        await pipeline.ledger.reconnect()
        more = await asking
        ends = await asyncio.gather(*waits, *(outbox.wait(waitables[0], one.id, timeout=240) for one in more))
        assert {result.status for result in ends} == {outbox.Status.SUCCEEDED}
    await pipeline.agree()


async def ask_for_more(pipeline: Pipeline) -> list[outbox.Intent]:
    """Delete and create again, in every lane."""
    return [
        await ask(pipeline, f"n-{number}", what) for number in range(LANES) for what in ("delete", "again")
    ]


async def ask(pipeline: Pipeline, name: str, what: str) -> outbox.Intent:
    key = f"{pipeline.agent} {name} {what}"
    owner = outbox.Principal(user_id="bob" if what == "again" else "alice")
    await pipeline.may_use_the_agent(owner)
    request = (
        outbox.DeleteSchedule(agent_id=pipeline.agent, name=name)
        if what == "delete"
        else outbox.CreateSchedule(
            agent_id=pipeline.agent,
            name=name,
            workflow_name="Run",
            task_queue="agents",
            interval_seconds=3600,
        )
    )
    while True:
        try:
            async with pipeline.producer() as producer:
                (intent,) = await outbox.enqueue_many(producer, [(request, owner, key)])
        except AWAY:
            # Committed or not: the key tells.
            await asyncio.sleep(0.1)
        else:
            return intent
