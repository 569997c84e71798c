"""P13: what it costs that people look: a console with five live tabs, its queries, and a replay in waves."""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID

import orjson
import psycopg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.compose.replays import carrying_on
from outbox.console.asked import IntentsQuery, OperationsQuery
from outbox.console.reads import Reads
from outbox.flow.table import Status
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.failures import FailureStore
from outbox.store.replays import ReplayStore
from tests.bench.draining import BothSteps, drain, fill, worker
from tests.bench.measure import Result, Side, check, in_turn, middle, ratios
from tests.bench.stage import Stage

_BOUND_MS = 50.0
_TIMED = 15  # how often each query is asked

# The oldest first, over fifty minutes. Of those that have ended one in a thousand has failed; those that wait
# are the youngest, each the head of its lane, and one in a thousand of them is parked.
_LOAD = """
    SET synchronous_commit = off;
    CREATE TEMP TABLE made AS
    SELECT n, outbox.first_id(at) AS id, 'agent-' || n % 1000 || '--s' || n AS schedule_id, at,
           n > {ended} AS waits, n % 1000 = 0 AS bad
      FROM (SELECT n, clock_timestamp() - ({ended} + {heads} - n) * interval '3 milliseconds' AS at
              FROM generate_series(1, {ended} + {heads}) AS n) AS s;
    INSERT INTO outbox.intents (id, schedule_id, kind, request, creator, created_at)
    SELECT id, schedule_id, 'create', '{{"workflow_name": "W"}}', '{{}}', at FROM made ORDER BY n;
    INSERT INTO outbox.events (intent_id, schedule_id, type, at)
    SELECT id, schedule_id, 'schedule.create.requested', at FROM made ORDER BY n;
    INSERT INTO outbox.events (intent_id, schedule_id, type, at, consumer, attempt, lease_number, error_code,
                               error_message)
    SELECT id, schedule_id, CASE WHEN bad THEN 'schedule.create_failed' ELSE 'schedule.created' END, at,
           'temporal', 1, 2, CASE WHEN bad THEN 'refused' END, CASE WHEN bad THEN 'no such cron: ' || n END
      FROM made WHERE NOT waits ORDER BY n;
    INSERT INTO outbox.queue (intent_id, position, schedule_id, event_type, consumer, due_at, place, state,
                              error_code, error_message)
    SELECT m.id, i.position, m.schedule_id, 'schedule.create.requested', 'authz', m.at, 'head',
           CASE WHEN m.bad THEN 'parked' ELSE 'ready' END, CASE WHEN m.bad THEN 'unexpected' END,
           CASE WHEN m.bad THEN 'nobody knows' END
      FROM made m JOIN outbox.intents i ON i.id = m.id WHERE m.waits;
    SELECT outbox.note_failures(array_agg(id), clock_timestamp()) FROM made WHERE bad;
"""


async def watched(stage: Stage) -> list[Result]:
    """P13: the console and what is done by it, beside a worker that works."""
    return [await _live_tabs(stage), await _queries(stage), await _waves(stage)]


async def _live_tabs(stage: Stage) -> Result:
    """The rate of a drain with five live tabs open, of that without."""
    intents = stage.scale.of(100_000, least=50)
    read: list[int] = []

    async def alone() -> Side:
        with stage.database() as url:
            await fill(url, intents, intents)
            return await drain(stage, url, intents)

    async def beside() -> Side:
        with stage.database() as url:
            await fill(url, intents, intents)
            with _open_tabs(stage, url, read):
                return await drain(stage, url, intents)

    # What is looked for is less than what rounds differ by.
    without, with_tabs = await in_turn(7 if stage.scale.share else 1, alone, beside)
    detail = {
        "without": middle(without),
        "with_five_tabs": middle(with_tabs),
        "intents": intents,
        "pages_read": statistics.median(read),
    }
    return Result.of("P13/tabs", ratios(with_tabs, without), at_least=0.95, detail=detail)


@contextmanager
def _open_tabs(stage: Stage, url: str, read: list[int]) -> Iterator[None]:
    environment = os.environ | stage.stack.environment() | {"OUTBOX_DATABASE_URL": url}
    serve = [sys.executable, "-m", "outbox", "console", "--port", "0", "--json"]
    with subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE) as console:
        assert console.stdout
        place = orjson.loads(console.stdout.readline())["url"]
        look = [sys.executable, "-m", "tests.bench.tabs", place]
        with subprocess.Popen(look, stdout=subprocess.PIPE, text=True) as tabs:
            assert tabs.stdout
            check(tabs.stdout.readline() == "open\n", "the tabs can't be opened")
            yield
            tabs.terminate()
            read.append(int(tabs.stdout.readline()))
        check(tabs.returncode == 0, "a tab failed")
        console.terminate()


async def _queries(stage: Stage) -> Result:
    """Each query of the pages that are left open, with a million intents and 100,000 heads."""
    heads = stage.scale.of(100_000)
    ended = stage.scale.of(900_000, least=200)
    with stage.database() as url:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as line:
            await line.execute(_LOAD.format(heads=heads, ended=ended).encode())
            await line.execute("VACUUM ANALYZE")
            await line.execute("SELECT brin_summarize_new_values('outbox.events_recent')")
        async with open_engine(url) as engine:
            took = await _timed(engine, _asked(engine))
    medians = {name: statistics.median(times) for name, times in took.items()}
    slowest = max(medians, key=lambda name: medians[name])
    detail = {
        "ms": {name: round(taken, 2) for name, taken in medians.items()},
        "intents": heads + ended,
        "heads": heads,
        "bound_ms": _BOUND_MS,
    }
    values = [taken / _BOUND_MS for taken in took[slowest]]
    return Result.of("P13/queries", values, at_most=1.0, detail=detail)


def _asked(engine: AsyncEngine) -> Mapping[str, Callable[[], Awaitable[Any]]]:
    """What the pages ask of Postgres; no other store is asked."""
    reads = Reads(engine, stores=None)  # type: ignore[arg-type]
    return {
        "overview": reads.overview,
        "failures": reads.failures,
        "intents": lambda: reads.intents(IntentsQuery()),
        "intents that failed": lambda: reads.intents(IntentsQuery(status=Status.FAILED)),
        "intents that are pending": lambda: reads.intents(IntentsQuery(status=Status.PENDING)),
        "operations": lambda: reads.operations(OperationsQuery()),
    }


async def _timed(
    engine: AsyncEngine, asked: Mapping[str, Callable[[], Awaitable[Any]]]
) -> dict[str, list[float]]:
    """Milliseconds of each statement of each page, again and again."""
    took: dict[str, list[float]] = defaultdict(list)
    place: list[Any] = ["", 0, 0.0]

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def before(*_: Any) -> None:
        place[1] += 1
        place[2] = time.perf_counter()

    @event.listens_for(engine.sync_engine, "after_cursor_execute")
    def after(_: Any, __: Any, statement: str, *___: Any) -> None:
        taken = (time.perf_counter() - place[2]) * 1000
        took[f"{place[0]} {place[1]}: {' '.join(statement.split())[:60]}"].append(taken)

    for name, ask in asked.items():
        for _ in range(_TIMED):
            place[:2] = [name, 0]
            await ask()
    return took


async def _waves(stage: Stage) -> Result:
    """The rate of a drain beside a replay in waves of 5,000, what it replays included, of that without."""
    failed = stage.scale.of(5000, least=20)
    intents = stage.scale.of(100_000, least=50)
    details: list[dict[str, float]] = []

    async def alone() -> Side:
        async with _failed(stage, failed) as (url, _):
            await fill(url, intents, intents, prefix="new")
            return await drain(stage, url, intents, BothSteps())

    async def beside() -> Side:
        async with _failed(stage, failed) as (url, members):
            await fill(url, intents, intents, prefix="new")
            return await _drained_beside(stage, url, members, details)

    without, with_waves = await in_turn(_rounds(stage), alone, beside)
    detail = {
        "without": middle(without),
        "with_waves": middle(with_waves),
        "intents": intents,
        "failed": failed,
        **{name: statistics.median(one[name] for one in details) for name in details[0]},
    }
    return Result.of("P13/waves", ratios(with_waves, without), at_least=0.95, detail=detail)


@asynccontextmanager
async def _failed(stage: Stage, count: int) -> AsyncIterator[tuple[str, list[UUID]]]:
    """A database with a group of so many failed intents."""
    with stage.database() as url:
        await fill(url, count, count, prefix="failed")
        await drain(stage, url, count)
        async with open_engine(url) as engine:
            (group,) = await FailureStore(engine).groups()
            members = await FailureStore(engine).members(group["group_id"])
            check(len(members) == count, f"{len(members)} are in the group, not {count}")
            yield url, members


async def _drained_beside(
    stage: Stage, url: str, members: list[UUID], details: list[dict[str, float]]
) -> Side:
    effects = BothSteps()
    async with open_engine(url) as engine, carrying_on(Settings.model_validate({"database_url": url})):
        replays = ReplayStore(engine, "bench")
        began = time.perf_counter()
        plan = await replays.plan(members)
        planned = time.perf_counter() - began
        await replays.start(plan)
        async with worker(url, effects) as one:
            with stage.meter() as reading:
                await one.run()
        side = reading.side(effects.applied // effects.steps)
        while (await replays.found(replay=plan))[0]["state"] == "running":
            await asyncio.sleep(0.2)
            async with worker(url, effects) as one:
                await one.run()
        whole = time.perf_counter() - began
        (row,) = await replays.found(replay=plan)
    told = (row["state"], row["succeeded"])
    check(told == ("done", len(members)), f"the replay came out as {told}")
    check(effects.disorder == 0, f"{effects.disorder} steps came out of their lane's order")
    details.append({"preview_s": round(planned, 3), "until_all_were_replayed_s": round(whole, 1)})
    return side


def _rounds(stage: Stage) -> int:
    return 1 if stage.scale.share == 0 else 3
