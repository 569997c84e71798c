"""Awa: its Rust engine with a handler in Python."""

import asyncio
import time
from dataclasses import dataclass

from awa import AsyncClient
from common import Tally, arguments, payload, report

WORKERS = 200


@dataclass
class Step:
    """One job."""

    lane: int
    number: int
    prompt: str


async def main() -> None:
    """Fill the queue, then drain it."""
    url, jobs, lanes, seconds = arguments()
    tally = Tally(jobs)
    client = AsyncClient(url)
    await client.migrate()
    await client.install_queue_storage()

    @client.task(Step, queue="steps")
    async def step(job: object) -> None:
        tally.note(job.args.lane, job.args.number)  # type: ignore[attr-defined]

    for begin in range(0, jobs, 1000):
        wave = [Step(**payload(place, lanes)) for place in range(begin, min(jobs, begin + 1000))]  # type: ignore[arg-type]
        await client.enqueue_many_copy(wave, queue="steps")
    began, cpu = time.perf_counter(), time.process_time()
    await client.start([("steps", WORKERS)])
    async with asyncio.timeout(seconds):
        await tally.finished.wait()
    report(tally, began, cpu, "awa-pg", f"{WORKERS} workers, queue storage")
    await client.shutdown()


asyncio.run(main())
