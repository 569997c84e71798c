"""Each peer's own enqueue of one job in the caller's transaction, over and over; all of them on psycopg."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

import psycopg
from common import payload

Enqueue = Callable[[int], Awaitable[object]]


@asynccontextmanager
async def pgqueuer(url: str, *, install: bool) -> AsyncIterator[Enqueue]:
    """PgQueuer, by its driver for psycopg."""
    from pgqueuer import Queries  # noqa: PLC0415 - no peer pays for another's imports
    from pgqueuer.db import PsycopgDriver  # noqa: PLC0415

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        queries = Queries(PsycopgDriver(connection))
        if install:
            await queries.install()

        async def enqueue(place: int) -> None:
            async with connection.transaction():
                await queries.enqueue("step", json.dumps(payload(place, 1000)).encode(), 0)

        yield enqueue


@asynccontextmanager
async def procrastinate(url: str, *, install: bool) -> AsyncIterator[Enqueue]:
    """Procrastinate, with a lock, on a connection of the caller's."""
    import procrastinate  # noqa: PLC0415

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=1))

    @app.task(name="step")
    async def step(**job: object) -> None:
        del job

    async with app.open_async(), await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        if install:
            await app.schema_manager.apply_schema_async()

        async def enqueue(place: int) -> None:
            async with connection.transaction():
                task = step.configure(lock=str(place % 1000), connection=connection)
                await task.defer_async(**payload(place, 1000))

        yield enqueue


@asynccontextmanager
async def awa(url: str, *, install: bool) -> AsyncIterator[Enqueue]:
    """Awa, by its bridge into transactions of psycopg's."""
    from awa import AsyncClient  # noqa: PLC0415
    from awa.bridge import insert_job  # noqa: PLC0415

    @dataclass
    class Step:
        lane: int
        number: int
        prompt: str

    if install:
        client = AsyncClient(url)
        await client.migrate()
        await client.install_queue_storage()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def enqueue(place: int) -> None:
            async with connection.transaction():
                await insert_job(connection, Step(**payload(place, 1000)), queue="steps")  # type: ignore[arg-type]

        yield enqueue


@asynccontextmanager
async def faststream(url: str, *, install: bool) -> AsyncIterator[Enqueue]:
    """faststream-outbox, on a connection of SQLAlchemy's."""
    from faststream_outbox import OutboxBroker, make_outbox_table  # noqa: PLC0415
    from sqlalchemy import MetaData  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    metadata = MetaData()
    table = make_outbox_table(metadata, table_name="outbox")
    engine = create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"), pool_size=1)
    if install:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
    broker = OutboxBroker(engine, outbox_table=table)
    await broker.connect()

    async def enqueue(place: int) -> None:
        async with engine.begin() as connection:
            await broker.publish(payload(place, 1000), queue="steps", session=connection)

    yield enqueue
    await engine.dispose()


PEERS = {"pgqueuer": pgqueuer, "procrastinate": procrastinate, "awa": awa, "faststream": faststream}
PACKAGES = {"awa": "awa-pg", "faststream": "faststream-outbox"}


async def main() -> None:
    """Let some producers enqueue at once, and print how often they did."""
    name, url, producers, seconds, install = sys.argv[1:]
    done = 0

    async def produce(enqueue: Enqueue, until: float) -> None:
        nonlocal done
        while time.perf_counter() < until:
            await enqueue(done)
            done += 1

    async with AsyncExitStack() as stack:
        lines = [
            await stack.enter_async_context(PEERS[name](url, install=install == "install" and not place))
            for place in range(int(producers))
        ]
        for line in lines * 10:  # statements are prepared and caches warm
            await line(0)
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(produce(line, began + float(seconds)) for line in lines))
        spent, took = time.process_time() - cpu, time.perf_counter() - began
    package = PACKAGES.get(name, name)
    found = {"done": done, "seconds": took, "client_cpu": spent, "version": f"{package} {version(package)}"}
    print(json.dumps(found), flush=True)  # noqa: T201 - the script's answer


asyncio.run(main())
