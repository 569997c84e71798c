"""``python -m tests.kafka.scale``: how much faster three workers finish than one, with an effect of 20 ms.

Each worker is a process of its own with one effect of each store at a time, so that the effect takes the
time. The relay, the workers, Postgres and the broker share the machine's cores.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr

import outbox
from outbox.compose import database
from outbox.compose.kafka import create_topics, open_relay, open_source
from outbox.flow.dispatch import Dispatch, Effects
from outbox.flow.outcome import Done, Outcome
from outbox.flow.settlement import RetryPolicy
from outbox.flow.table import Consumer
from outbox.settings import Settings
from outbox.stack import Stack
from outbox.store.engine import open_engine
from outbox.store.work import Timing, WorkStore
from outbox.worker.loop import Worker, WorkerOptions
from tests.kafka.brokers import broker

EFFECT_SECONDS = 0.02
STORES = (Consumer.AUTHZ, Consumer.TEMPORAL)


class Sleeps:
    """An effect that takes its time and no core."""

    async def apply(self, dispatch: Dispatch) -> Outcome:
        del dispatch
        await asyncio.sleep(EFFECT_SECONDS)
        return Done()

    look = apply


async def work(settings: Settings) -> None:
    """One worker, until it is killed."""
    url = settings.database_url.get_secret_value()
    async with open_engine(url) as engine:
        store = WorkStore(engine, Timing(30.0, 10.0, 1.0))
        effects: dict[Consumer, Effects] = dict.fromkeys(STORES, Sleeps())
        options = WorkerOptions(dict.fromkeys(STORES, 1), RetryPolicy(), poll_seconds=0.05)
        async with open_source(settings, engine, store, options.concurrency) as source:
            await Worker(source, store, effects, options).run()


async def measure(settings: Settings, workers: int, intents: int) -> float:
    """Seconds from the first enqueueing to the last end; the workers are there before."""
    database.migrate(settings, revision="base")
    database.migrate(settings)
    create_topics(settings)
    url = settings.database_url.get_secret_value()
    arguments = [url, str(settings.kafka_bootstrap), settings.kafka_prefix]
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.kafka.scale", "--work", *arguments)
        for _ in range(workers)
    ]
    try:
        async with open_relay(settings) as relay:
            relaying = asyncio.create_task(relay.run())
            await asyncio.sleep(8)  # for all to have joined the group
            began = time.monotonic()
            await _enqueue(url, intents)
            while await _left(url):  # noqa: ASYNC110 - the event is in Postgres
                await asyncio.sleep(0.05)
            took = time.monotonic() - began
            relay.stop()
            await relaying
    finally:
        for process in processes:
            process.kill()
            await process.wait()
    return took


async def _enqueue(url: str, intents: int) -> None:
    fields: dict[str, Any] = {"workflow_name": "W", "task_queue": "q", "interval_seconds": 60}
    requests = [
        outbox.CreateSchedule(agent_id="scale", name=f"s{place}", **fields) for place in range(intents)
    ]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await outbox.enqueue_many(connection, [(one, outbox.Principal(user_id="u")) for one in requests])


async def _left(url: str) -> int:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        row = await (await connection.execute("SELECT count(*) FROM outbox.queue")).fetchone()
        return int(row[0]) if row else 0


def main() -> None:
    """Measure one worker and three."""
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.scale", description=__doc__)
    parser.add_argument("--intents", type=int, default=600)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        url, bootstrap, prefix = asked.work
        found = Settings(database_url=SecretStr(url), kafka_bootstrap=bootstrap, kafka_prefix=prefix)
        asyncio.run(work(found))
        return
    with tempfile.TemporaryDirectory(prefix="scale-") as home, Stack(Path(home)) as stack:
        info = stack.up(kafka=broker()[0])
        times = {}
        for workers in (1, 3):
            settings = Settings(
                database_url=SecretStr(info.database_url),
                kafka_bootstrap=info.kafka_bootstrap,
                kafka_prefix=f"scale{workers}",
                poll_interval_seconds=0.05,
                repair_concurrency=0,
            )
            times[workers] = asyncio.run(measure(settings, workers, asked.intents))
            rate = 2 * asked.intents / times[workers]
            print(f"{workers} worker(s): {times[workers]:.1f} s, {rate:.0f} steps/s", flush=True)
        print(f"three finish {times[1] / times[3]:.2f} times as fast as one, on {broker()[0]}")


if __name__ == "__main__":
    main()
