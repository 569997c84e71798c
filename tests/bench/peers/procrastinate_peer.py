"""Procrastinate: a worker that keeps the order of each lock."""

import asyncio
import contextlib
import time

import procrastinate
from common import Tally, arguments, payload, report

CONCURRENCY = 20


async def main() -> None:
    """Fill the queue, then work on it for a while."""
    url, jobs, lanes, seconds = arguments()
    tally = Tally(jobs)
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, max_size=CONCURRENCY))

    @app.task(name="step")
    async def step(lane: int, number: int, prompt: str) -> None:
        del prompt
        tally.note(lane, number)

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for place in range(jobs):
            await step.configure(lock=str(place % lanes)).defer_async(**payload(place, lanes))
        began, cpu = time.perf_counter(), time.process_time()
        worker = asyncio.create_task(
            app.run_worker_async(
                concurrency=CONCURRENCY,
                wait=True,
                install_signal_handlers=False,
                delete_jobs="successful",
                fetch_job_polling_interval=0.1,
            )
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await tally.finished.wait()
        report(
            tally,
            began,
            cpu,
            "procrastinate",
            f"concurrency={CONCURRENCY}, delete_jobs=successful, lock per lane",
        )
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


asyncio.run(main())
