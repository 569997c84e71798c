"""P1c: one enqueue in the caller's transaction, beside each peer's own; all on psycopg."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import outbox
from tests.bench.against import script
from tests.bench.intake import OWNER, Line, enqueue_one, entry, numbers
from tests.bench.measure import Result, Side, in_turn, middle, ratios, repeat
from tests.bench.stage import Stage, connections

PEERS = ("pgqueuer", "faststream", "procrastinate", "awa")
_ON_SQLALCHEMY = "faststream"


async def enqueues(stage: Stage) -> list[Result]:
    """P1c: from 1 and from 8 producers, beside each peer."""
    return [await _beside(stage, peer, producers) for peer in PEERS for producers in (1, 8)]


async def _beside(stage: Stage, peer: str, producers: int) -> Result:
    versions: list[str] = []
    with stage.database() as url, stage.database(outbox=False) as their_url:

        async def theirs() -> Side:
            install = "again" if versions else "install"
            found = await script("enqueue_peer", peer, their_url, producers, stage.scale.seconds, install)
            versions.append(found["version"])
            return Side(found["done"], found["seconds"], found["client_cpu"], 0.0)

        if peer == _ON_SQLALCHEMY:
            async with _engine(url, producers) as engine:
                mine, others = await in_turn(
                    stage.scale.rounds, lambda: _on_an_engine(stage, engine, producers), theirs
                )
        else:
            async with connections(url, producers) as lines:
                for line in lines * 10:
                    await enqueue_one(line)
                mine, others = await in_turn(stage.scale.rounds, lambda: _on_lines(stage, lines), theirs)
    detail = {
        "enqueue": {name: value for name, value in middle(mine).items() if name != "server_cpu_us"},
        peer: {name: value for name, value in middle(others).items() if name != "server_cpu_us"},
        "version": versions[0],
        "producers": producers,
    }
    return Result.of(f"P1c/{peer}-{producers}", ratios(mine, others), at_least=1.0, detail=detail)


async def _on_lines(stage: Stage, lines: list[Line]) -> Side:
    with stage.meter() as reading:
        done = await repeat(stage.scale.seconds, lines, enqueue_one)
    return reading.side(done)


@asynccontextmanager
async def _engine(url: str, producers: int) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"), pool_size=producers)
    try:
        await _on_engine(engine)
        yield engine
    finally:
        await engine.dispose()


async def _on_engine(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await outbox.enqueue_create(connection, entry(next(numbers)), principal=OWNER)


async def _on_an_engine(stage: Stage, engine: AsyncEngine, producers: int) -> Side:
    with stage.meter() as reading:
        done = await repeat(stage.scale.seconds, [engine] * producers, _on_engine)
    return reading.side(done)
