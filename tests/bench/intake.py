"""P1, P1b: what enqueueing costs beside the plainest INSERT of the same bytes."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg

import outbox
from tests.bench.measure import Result, Side, check, in_turn, middle, ratios, repeat
from tests.bench.stage import Stage, connections

Line = psycopg.AsyncConnection[Any]

PAYLOAD_BYTES = 400
OWNER = outbox.Principal(user_id="user-7", account_id="account-7")
_PLAIN = "CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload text NOT NULL)"
numbers = itertools.count()


def entry(number: int) -> outbox.CreateSchedule:
    """A request of about 400 bytes as JSON, as an application would make it."""
    return outbox.CreateSchedule(
        agent_id=f"agent-{number % 1000}",
        name=f"nightly-{number}",
        workflow_name="RunAgent",
        task_queue="agents",
        workflow_params={"prompt": "x" * 130, "model": "m-large"},
        cron_expression="0 9 * * *",
        timezone="Europe/Berlin",
    )


async def single(stage: Stage) -> list[Result]:
    """P1: one intent per transaction, from 1 and from 8 producers."""
    results = []
    for producers in (1, 8):
        async with _line_up(stage, producers) as (ours, theirs):
            mine, plain = await in_turn(
                stage.scale.rounds,
                lambda: _timed(stage, ours, enqueue_one),
                lambda: _timed(stage, theirs, _insert),
            )
            await _check_intake(ours[0], theirs[0], mine, plain)
        results.append(
            Result.of(
                f"P1/{producers}",
                ratios(mine, plain),
                at_least=0.8,
                detail={"enqueue": middle(mine), "insert": middle(plain), "producers": producers},
            )
        )
    return results


async def batches(stage: Stage) -> list[Result]:
    """P1b: a thousand in one statement; either side's thousand is there before the time is taken."""
    size = 1000 if stage.scale.share else 20
    insert = b"INSERT INTO plain (payload) VALUES " + b", ".join([b"(%s)"] * size)

    async def enqueue(line: Line) -> Side:
        items = [(entry(next(numbers)), OWNER) for _ in range(size)]
        with stage.meter() as reading:
            async with line.transaction():
                await outbox.enqueue_many(line, items)
        return reading.side(size)

    async def plainly(line: Line) -> Side:
        payloads = [_payload(next(numbers)) for _ in range(size)]
        with stage.meter() as reading:
            async with line.transaction():
                await line.execute(insert, payloads)
        return reading.side(size)

    async with _line_up(stage, 1) as (ours, theirs):
        mine, plain = await in_turn(
            3 * stage.scale.rounds, lambda: enqueue(ours[0]), lambda: plainly(theirs[0])
        )
        await _check_intake(ours[0], theirs[0], mine, plain)
    detail = {"enqueue": middle(mine), "insert": middle(plain), "batch": size}
    return [Result.of("P1b", ratios(mine, plain), at_least=0.4, detail=detail)]


@asynccontextmanager
async def _line_up(stage: Stage, producers: int) -> AsyncIterator[tuple[list[Line], list[Line]]]:
    with stage.database() as url:
        async with connections(url, producers) as ours, connections(url, producers) as theirs:
            await theirs[0].execute(_PLAIN)
            # Both sides' statements are prepared and their caches warm.
            for line in ours + theirs:
                for _ in range(10):
                    await (enqueue_one if line in ours else _insert)(line)
            yield ours, theirs


def _payload(number: int) -> str:
    return f'{{"number": {number}, "text": "'.ljust(PAYLOAD_BYTES - 2, "x") + '"}'


async def enqueue_one(line: Line) -> None:
    """One intent in a transaction of its own."""
    async with line.transaction():
        await outbox.enqueue_create(line, entry(next(numbers)), principal=OWNER)


async def _insert(line: Line) -> None:
    async with line.transaction():
        await line.execute(b"INSERT INTO plain (payload) VALUES (%s)", (_payload(next(numbers)),))


async def _timed(stage: Stage, lines: list[Line], work: Callable[[Line], Awaitable[None]]) -> Side:
    with stage.meter() as reading:
        done = await repeat(stage.scale.seconds, lines, work)
    return reading.side(done)


async def _check_intake(ours: Line, theirs: Line, mine: list[Side], plain: list[Side]) -> None:
    for table in ("intents", "events", "queue"):
        count = await _count(ours, f"outbox.{table}")
        check(count >= sum(side.items for side in mine), f"{table} has {count} rows: some are missing")
    check(await _count(theirs, "plain") >= sum(side.items for side in plain), "plain rows are missing")


async def _count(line: Line, table: str) -> int:
    row = await (await line.execute(f"SELECT count(*) FROM {table}".encode())).fetchone()
    return int(row[0]) if row else 0
