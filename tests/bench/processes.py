"""Part of P15: the memory and the connections of workers and relays, when they have worked on real stores."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil  # type: ignore[import-untyped]
import psycopg

import outbox
from outbox.compose import schema
from outbox.compose.kafka import create_topics
from outbox.settings import Settings
from tests.bench.intake import OWNER
from tests.bench.measure import Result, check, peak_memory
from tests.bench.stage import Stage
from tests.bench.stores import entries, settings_of

_MOST_SECONDS = 240
_CREATED = "SELECT count(*) FROM outbox.events WHERE type = 'schedule.created'"

_Environment = Mapping[str, Any]


async def processes(stage: Stage) -> list[Result]:
    """A worker on the direct wire; then relay and worker on Kafka, which publish events."""
    await schema.apply(settings_of(stage), lambda _: True)
    with stage.database() as url:
        results = await _worked(stage, url, {"worker": "run"}, {})
    if not stage.scale.share:
        return results
    with stage.database() as url:
        kafka = {"bootstrap": stage.kafka(), "prefix": f"b{uuid4().hex[:12]}"}
        create_topics(
            Settings.model_validate(
                {"database_url": url, **{f"kafka_{name}": value for name, value in kafka.items()}}
            )
        )
        environment = {f"OUTBOX_KAFKA_{name.upper()}": value for name, value in kafka.items()}
        commands = {"kafka-worker": "run", "relay": "relay"}
        return results + await _worked(stage, url, commands, {"OUTBOX_WIRE": "kafka", **environment})


async def _worked(
    stage: Stage, url: str, commands: Mapping[str, str], environment: _Environment
) -> list[Result]:
    """What each of the processes takes, of 256 MB, after so many creates."""
    creates = stage.scale.of(500, least=5)
    environment = {**stage.stack.environment(), "OUTBOX_DATABASE_URL": url, **environment}
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(await psycopg.AsyncConnection.connect(url, autocommit=True))
        await line.execute("UPDATE outbox.instance SET publishes = %s", ["OUTBOX_WIRE" in environment])
        running = {
            name: await stack.enter_async_context(_running(command, environment))
            for name, command in commands.items()
        }
        await outbox.enqueue_many(line, [(one, OWNER) for one in entries(creates)])
        async with asyncio.timeout(_MOST_SECONDS):
            while await _created(line) < creates:  # noqa: ASYNC110 - it is the worker that goes on
                await asyncio.sleep(0.2)
        return [_taken(name, process, url, creates) for name, process in running.items()]


async def _created(line: psycopg.AsyncConnection[Any]) -> int:
    row = await (await line.execute(_CREATED)).fetchone()
    return int(row[0]) if row else 0


def _taken(name: str, process: psutil.Process, url: str, creates: int) -> Result:
    connections = [
        one for one in process.net_connections() if one.raddr and one.raddr.port == urlsplit(url).port
    ]
    check(bool(connections), f"{name} is not connected to Postgres")
    peak = peak_memory(process.pid)
    detail = {"peak_mib": round(peak / 2**20, 1), "connections": len(connections), "creates": creates}
    ratio = peak / 2**28
    return Result(f"P15/{name}", ratio, at_most=1.0, spread=(ratio, ratio), detail=detail)


@asynccontextmanager
async def _running(command: str, environment: _Environment) -> AsyncIterator[psutil.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outbox", command),
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        await process.wait()
