"""P8: the Kafka wire beside the direct one, with effects that cost nothing."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from outbox.compose.kafka import create_topics, open_source
from outbox.flow.settlement import RetryPolicy
from outbox.flow.table import Consumer
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.work import WorkStore
from outbox.worker.loop import Worker, WorkerOptions
from tests.bench.draining import (
    CONCURRENCY,
    TIMING,
    NoEffects,
    check_drained,
    drain,
    fill,
    from_first_to_last,
)
from tests.bench.measure import Result, Side, in_turn, middle, ratios
from tests.bench.stage import Stage

_STORES = (Consumer.AUTHZ, Consumer.TEMPORAL)


async def kafka(stage: Stage) -> list[Result]:
    """P8: the same drain on both wires, and on the Kafka wire with ten times as much waiting."""
    intents = stage.scale.of(20_000, least=60)
    few, many = await in_turn(
        1, lambda: _over_kafka(stage, intents), lambda: _over_kafka(stage, 10 * intents)
    )
    backlog = {"kafka": middle(few), "kafka_ten_times": middle(many), "intents": intents}
    return [
        await _beside(stage, "P8/2k", stage.scale.of(2_000, least=60), rounds=9),
        await _beside(stage, "P8/20k", intents, rounds=3),
        Result.of("P8/backlog", [few[0].rate / many[0].rate], at_most=1.2, detail=backlog),
    ]


async def _beside(stage: Stage, row: str, intents: int, *, rounds: int) -> Result:
    over_kafka, directly = await in_turn(
        rounds if stage.scale.share else 1,
        lambda: _over_kafka(stage, intents),
        lambda: _directly(stage, intents),
    )
    detail = {"kafka": middle(over_kafka), "direct": middle(directly), "intents": intents}
    return Result.of(row, ratios(over_kafka, directly), at_least=0.7, detail=detail)


async def _directly(stage: Stage, intents: int) -> Side:
    with stage.database() as url:
        await fill(url, intents, max(2, intents // 10))
        return await from_first_to_last(url, await drain(stage, url, intents))


async def _over_kafka(stage: Stage, intents: int) -> Side:
    """The worker's part is measured in this process; the relay is one of its own, as in production."""
    with stage.database() as url:
        await fill(url, intents, max(2, intents // 10))
        settings = Settings.model_validate(
            {
                "database_url": url,
                "kafka_bootstrap": stage.kafka(),
                "kafka_prefix": f"b{uuid4().hex[:12]}",
                "dispatch_max": 5 * CONCURRENCY,
            }
        )
        create_topics(settings)
        effects = NoEffects()
        async with open_engine(url) as engine:
            store = WorkStore(engine, TIMING)
            options = WorkerOptions(dict.fromkeys(_STORES, CONCURRENCY), RetryPolicy(), until_idle=True)
            async with open_source(settings, engine, store, options.concurrency) as source:
                worker = Worker(source, store, dict.fromkeys(_STORES, effects), options)
                with stage.meter() as reading:
                    async with _relay(settings):
                        await worker.run()
        await check_drained(url, effects, intents)
        return await from_first_to_last(url, reading.side(intents))


@asynccontextmanager
async def _relay(settings: Settings) -> AsyncIterator[None]:
    environment: dict[str, Any] = {
        "OUTBOX_DATABASE_URL": settings.database_url.get_secret_value(),
        "OUTBOX_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "OUTBOX_KAFKA_PREFIX": settings.kafka_prefix,
        "OUTBOX_DISPATCH_MAX": str(settings.dispatch_max),
        "OUTBOX_WIRE": "kafka",
    }
    relay = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "outbox", "relay", env=os.environ | environment
    )
    try:
        yield
    finally:
        relay.kill()
        await relay.wait()
