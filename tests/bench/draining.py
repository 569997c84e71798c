"""P2, P2c, P6: what taking and settling steps costs where the effects cost nothing."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import psycopg

import outbox
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome, Refused
from outbox.flow.settlement import RetryPolicy
from outbox.flow.table import Consumer
from outbox.store.engine import open_engine
from outbox.store.notifier import Notifier
from outbox.store.work import Timing, WorkStore
from outbox.worker.loop import Worker, WorkerOptions
from outbox.worker.observer import Observer
from outbox.worker.source import DirectSource
from tests.bench.intake import OWNER
from tests.bench.measure import Result, Side, check, in_turn, middle
from tests.bench.stage import Stage

TIMING = Timing(lease=30.0, step_timeout=10.0, late_write=30.0)
CONCURRENCY = 2000
_BATCH = 1000
_NO = Refused(ErrorCode.REFUSED, "a benchmark refuses everything")


class NoEffects:
    """Refuses each create at once, which ends it after one step; sees to the order of each lane."""

    steps = 1
    ends_as = "schedule.create_failed"
    outcome: Outcome = _NO

    def __init__(self) -> None:
        self.latest: dict[str, tuple[int, bool]] = {}
        self.applied = 0
        self.disorder = 0

    async def apply(self, dispatch: Dispatch) -> Outcome:
        place = dispatch.request["interval_seconds"], dispatch.consumer is Consumer.TEMPORAL
        if self.latest.get(dispatch.schedule_id, (0, False)) >= place:
            self.disorder += 1
        self.latest[dispatch.schedule_id] = place
        self.applied += 1
        return self.outcome

    async def look(self, dispatch: Dispatch) -> Outcome:
        raise AssertionError(f"{dispatch.intent_id}: there is nothing to look for")


class BothSteps(NoEffects):
    """Says of each step that it is done, so that a create ends after two."""

    steps = 2
    ends_as = "schedule.created"
    outcome = Done()


async def fill(url: str, intents: int, lanes: int, *, prefix: str = "lane", params: Any = None) -> None:
    """Enqueue creates, the n-th of a lane with the interval n, so that the order can be told."""
    entries = [
        outbox.CreateSchedule(
            agent_id="agent",
            name=f"{prefix}-{place % lanes}",
            workflow_name="RunAgent",
            task_queue="agents",
            interval_seconds=place // lanes + 1,
            workflow_params=params or {"prompt": "x" * 130, "model": "m-large"},
        )
        for place in range(intents)
    ]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as line:
        for begin in range(0, intents, _BATCH):
            await outbox.enqueue_many(line, [(entry, OWNER) for entry in entries[begin : begin + _BATCH]])


@asynccontextmanager
async def worker(
    url: str,
    effects: Any,
    *,
    concurrency: int = CONCURRENCY,
    until_idle: bool = True,
    observer: Observer | None = None,
) -> AsyncIterator[Worker]:
    """A worker as `outbox run` makes it, with effects of the benchmark's own."""
    serves: Mapping[Consumer, Any] = {Consumer.AUTHZ: effects, Consumer.TEMPORAL: effects}
    options = WorkerOptions(
        concurrency=dict.fromkeys(serves, concurrency), policy=RetryPolicy(), until_idle=until_idle
    )
    async with open_engine(url) as engine, Notifier(url) as notifier:
        store = WorkStore(engine, TIMING)
        yield Worker(DirectSource(store, notifier), store, serves, options, observer=observer)


async def two_steps(stage: Stage) -> list[Result]:
    """P2c: creates of two steps, beside twice the time of as many that end after one."""
    intents = stage.scale.of(50_000, least=60)
    lanes = max(2, intents // 5)

    async def run(effects: NoEffects) -> Side:
        with stage.database() as url:
            await fill(url, intents, lanes)
            return await drain(stage, url, intents, effects)

    rounds = 1 if stage.scale.share == 0 else 3
    both, single = await in_turn(rounds, lambda: run(BothSteps()), lambda: run(NoEffects()))
    values = [two.seconds / (2 * one.seconds) for two, one in zip(both, single, strict=True)]
    detail = {"two_steps": middle(both), "one_step": middle(single), "intents": intents, "lanes": lanes}
    return [Result.of("P2c", values, at_most=0.75, detail=detail)]


async def drain(
    stage: Stage,
    url: str,
    intents: int,
    effects: NoEffects | None = None,
    *,
    observer: Observer | None = None,
) -> Side:
    """Work off what was filled in, and check that all of it was, in order."""
    effects = effects or NoEffects()
    async with worker(url, effects, observer=observer) as one:
        with stage.meter() as reading:
            await one.run()
    await check_drained(url, effects, intents)
    return reading.side(intents)


async def check_drained(url: str, effects: NoEffects, intents: int) -> None:
    """All were applied in the order of their lanes, and have ended."""
    async with await psycopg.AsyncConnection.connect(url) as line:
        row = await (
            await line.execute(
                "SELECT (SELECT count(*) FROM outbox.queue), (SELECT count(*) FROM outbox.intent_status"
                " WHERE event_type = %s)",
                [effects.ends_as],
            )
        ).fetchone()
    check(effects.disorder == 0, f"{effects.disorder} steps came out of their lane's order")
    steps = effects.steps * intents
    check(effects.applied == steps, f"{effects.applied} of {steps} steps were applied")
    check(row == (0, intents), f"left in the queue, and ended: {row}, not (0, {intents})")


async def from_first_to_last(url: str, side: Side) -> Side:
    """The side, timed from the first end of an intent to the last: starting and joining are no part of it."""
    async with await psycopg.AsyncConnection.connect(url) as line:
        row = await (
            await line.execute(
                "SELECT extract(epoch FROM max(at) - min(at))::float8 FROM outbox.events"
                " WHERE type = 'schedule.create_failed'"
            )
        ).fetchone()
    check(row is not None and row[0] > 0, "the intents did not end one after the other")
    return replace(side, seconds=float(row[0]) if row else 0.0)


async def statements(stage: Stage) -> list[Result]:
    """P6: statements and bytes of WAL that claim and settle take for each step."""
    intents = stage.scale.of(20_000, least=200)
    calls, wal = await _spent(stage, intents, lanes=intents)
    _, after_checkpoint = await _spent(stage, intents, lanes=intents, checkpoint=True)
    crowded_calls, crowded_wal = await _spent(stage, intents, lanes=max(1, intents // 10))
    detail = {
        "steps": intents,
        "wal_bytes_per_step": round(wal),
        "right_after_a_checkpoint": {"wal_bytes_per_step": round(after_checkpoint)},
        "ten_in_a_lane": {"statements": round(crowded_calls, 4), "wal_bytes_per_step": round(crowded_wal)},
    }
    return [
        Result("P6/statements", calls, at_most=0.1, spread=(calls, calls), detail=detail),
        Result("P6/wal", wal / 2048, at_most=1.0, spread=(wal / 2048,) * 2, detail=detail),
    ]


async def _spent(stage: Stage, intents: int, *, lanes: int, checkpoint: bool = False) -> tuple[float, float]:
    """Statements and bytes for each step of so many; a lane's followers' turn is in them, too."""
    with stage.database() as url:
        await fill(url, intents, lanes)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as line:
            if checkpoint:
                await line.execute("CHECKPOINT")  # each page is then logged whole, once
            before = await _wal(line)
            calls = await calls_while(drain(stage, url, intents))
            after = await _wal(line)
    return calls / intents, (after - before) / intents


async def _wal(line: psycopg.AsyncConnection[Any]) -> int:
    row = await (await line.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")).fetchone()
    return int(row[0]) if row else 0


async def calls_while(work: Any) -> int:
    """How many statements the worker sends while the work lasts."""
    calls = 0
    execute = psycopg.AsyncCursor.execute

    async def count(cursor: Any, *statement: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return await execute(cursor, *statement, **options)

    with mock.patch.object(psycopg.AsyncCursor, "execute", count):
        await work
    return calls
