"""faststream-outbox: the broker as a queue of its own."""

import asyncio
import time

from common import Tally, arguments, payload, report
from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import create_async_engine

WORKERS = 50
BATCH = 100


async def main() -> None:
    """Fill the queue, then drain it."""
    url, jobs, lanes, seconds = arguments()
    tally = Tally(jobs)
    metadata = MetaData()
    table = make_outbox_table(metadata, table_name="outbox")
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=WORKERS + 5)
    broker = OutboxBroker(engine, outbox_table=table)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)

    @broker.subscriber(
        "steps",
        max_workers=WORKERS,
        fetch_batch_size=BATCH,
        terminal_flush_batch_size=BATCH,
        min_fetch_interval=0.01,
        max_fetch_interval=0.1,
    )
    async def step(body: dict) -> None:  # type: ignore[type-arg]
        tally.note(body["lane"], body["number"])

    await broker.connect()
    for begin in range(0, jobs, 1000):
        async with engine.begin() as connection:
            places = range(begin, min(jobs, begin + 1000))
            await broker.publish_batch(
                *(payload(place, lanes) for place in places), queue="steps", session=connection
            )
    began, cpu = time.perf_counter(), time.process_time()
    await broker.start()
    async with asyncio.timeout(seconds):
        await tally.finished.wait()
    report(tally, began, cpu, "faststream-outbox", f"max_workers={WORKERS}, batches of {BATCH}")
    await broker.stop()
    await engine.dispose()


asyncio.run(main())
