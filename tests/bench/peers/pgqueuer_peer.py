"""PgQueuer: asyncpg, large batches."""

import asyncio
import json
import time
from datetime import timedelta

import asyncpg
from common import Tally, arguments, payload, report
from pgqueuer import AsyncpgDriver, PgQueuer, Queries
from pgqueuer.models import Job
from pgqueuer.types import QueueExecutionMode

BATCH = 1000


async def main() -> None:
    """Fill the queue, then drain it."""
    url, jobs, lanes, _ = arguments()
    tally = Tally(jobs)
    connection = await asyncpg.connect(url)
    driver = AsyncpgDriver(connection)
    queries = Queries(driver)
    await queries.install()
    for begin in range(0, jobs, 1000):
        places = range(begin, min(jobs, begin + 1000))
        await queries.enqueue(
            ["step"] * len(places),
            [json.dumps(payload(place, lanes)).encode() for place in places],
            [0] * len(places),
        )
    app = PgQueuer(driver)

    @app.entrypoint("step")
    async def step(job: Job) -> None:
        found = json.loads(job.payload or b"{}")
        tally.note(found["lane"], found["number"])

    began, cpu = time.perf_counter(), time.process_time()
    await app.run(batch_size=BATCH, mode=QueueExecutionMode.drain, dequeue_timeout=timedelta(seconds=1))
    report(tally, began, cpu, "pgqueuer", f"asyncpg, batch_size={BATCH}, drain")
    await connection.close()


asyncio.run(main())
