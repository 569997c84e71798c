"""P15: what capacity is planned by: pages read, bytes kept, rows and WAL written, a process's memory.

Counts, which no neighbour moves. Postgres' statistics tell them, of a connection that does one thing after
the other.
"""

import asyncio
import random
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, LiteralString, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

import outbox
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done
from outbox.flow.settlement import RetryPolicy, decide
from outbox.flow.table import Consumer
from outbox.store.browse import BrowseStore, Wanted
from outbox.store.engine import open_engine, rows
from outbox.store.ledger import LedgerStore
from outbox.store.reads import ReadStore
from outbox.store.watching import gauges
from outbox.store.work import WorkStore
from tests.bench.draining import TIMING
from tests.bench.intake import OWNER, entry
from tests.bench.ledger import write_schedules
from tests.bench.measure import Result, check
from tests.bench.processes import processes
from tests.bench.stage import Stage

_BATCH = 100
_POLICY = RetryPolicy()
_JITTER = random.Random(1)
_ROOM = {Consumer.AUTHZ: _BATCH, Consumer.TEMPORAL: _BATCH}
_STRIDE = 7919
"""A prime, so that going on by so many, one comes by every schedule before any comes again."""
T = TypeVar("T")
_FEW = 1000

_PAGES: LiteralString = """
    SELECT sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0)
               + coalesce(toast_blks_read + toast_blks_hit, 0))::bigint AS n
      FROM pg_statio_user_tables WHERE schemaname = 'outbox'
"""
_SPENT = """
    SELECT sum(n_tup_ins)::bigint AS inserted, sum(n_tup_upd)::bigint AS updated,
           sum(n_tup_del)::bigint AS deleted,
           pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal
      FROM pg_stat_user_tables WHERE schemaname = 'outbox'
"""
_BYTES = """
    SELECT c.relname AS name, pg_table_size(c.oid) AS bytes, pg_indexes_size(c.oid) AS of_indexes
      FROM pg_class c WHERE c.oid = ANY (ARRAY['outbox.intents', 'outbox.events', 'outbox.lanes']::regclass[])
"""


async def capacity(stage: Stage) -> list[Result]:
    """P15: a ledger of a million live schedules beside one of a thousand; bytes, rows and WAL; processes."""
    many = stage.scale.of(1_000_000, least=2 * _FEW)
    with stage.database() as small, stage.database() as large, stage.database() as past:
        await asyncio.to_thread(write_schedules, small, _FEW)
        await asyncio.to_thread(write_schedules, large, many)
        await asyncio.to_thread(write_schedules, past, many // 2, deleted=True)
        kept = [
            await _kept("live", large, many, "schedules"),
            await _kept("ended", past, many // 2 * 2, "intents"),
        ]
        few, lots = await _questions(small, _FEW), await _questions(large, many)
    pages = [
        _single(
            f"P15/{name}",
            lots[name] / few[name],
            2.0,
            {"of_few": few[name], "pages": lots[name], "schedules": many},
        )
        for name in few
    ]
    return [*pages, *kept, *await _written(stage), *await processes(stage)]


def _single(row: str, ratio: float, at_most: float, detail: dict[str, Any]) -> Result:
    return Result(row, ratio, at_most=at_most, spread=(ratio, ratio), detail=detail)


async def _kept(name: str, url: str, many: int, of: str) -> Result:
    """Bytes of tables and indexes for each, of 2 KB."""
    async with open_engine(url) as engine:
        found = {row["name"]: row for row in await rows(engine, _BYTES, {})}
    detail: dict[str, Any] = {of: many}
    for table in ("intents", "events", "lanes"):
        row = found[table]
        detail[table] = {"bytes": round(row["bytes"] / many), "of_indexes": round(row["of_indexes"] / many)}
    each = sum(row["bytes"] + row["of_indexes"] for row in found.values()) / many
    return _single(f"P15/{name}", each / 2048, 1.0, detail | {"bytes_each": round(each)})


async def _questions(url: str, schedules: int) -> dict[str, int]:
    """How many pages each takes; what is asked once before has its plan."""
    async with open_engine(url) as engine:
        work, ledger = WorkStore(engine, TIMING), LedgerStore(engine)
        counted = PagesRead(engine)
        for turn in range(2):
            await counted("gauges", gauges(engine))
            await counted("status", ReadStore(engine).depths())
            await counted("page", BrowseStore(engine).page(Wanted()))
            await counted(
                "audit", ledger.known([entry(place).schedule_id for place in _spread(turn, schedules)])
            )
            await counted("idle", work.claim(_ROOM))
            await counted("enqueue", _enqueue(engine, "delete", _spread(turn, schedules)))
            taken = await counted("claim", work.claim(_ROOM))
            following = await counted("settle", _settle(work, taken))
            await _settle(work, following)
    return counted.pages


class PagesRead:
    """Counts the pages that were looked at for one thing after the other."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.pages: dict[str, int] = {}

    async def __call__(self, name: str, asked: Awaitable[T]) -> T:
        before = await self._count()
        answer = await asked
        self.pages[name] = await self._count() - before
        return answer

    async def _count(self) -> int:
        await rows(self._engine, "SELECT pg_stat_force_next_flush()", {})
        return int((await rows(self._engine, _PAGES, {}))[0]["n"])


def _spread(turn: int, schedules: int) -> list[int]:
    """The numbers of a turn's schedules, wherever in the ledger they lie; the next turn has others."""
    return [place * _STRIDE % schedules for place in range(turn * _BATCH, (turn + 1) * _BATCH)]


async def _enqueue(engine: AsyncEngine, kind: str, numbers: Sequence[int]) -> None:
    asked = [entry(number) for number in numbers]
    items: list[tuple[outbox.CreateSchedule | outbox.DeleteSchedule, outbox.Principal]] = [
        (one if kind == "create" else outbox.DeleteSchedule(agent_id=one.agent_id, name=one.name), OWNER)
        for one in asked
    ]
    async with engine.connect() as connection:
        await outbox.enqueue_many(connection, items)


async def _settle(work: WorkStore, taken: Sequence[Dispatch]) -> Sequence[Dispatch]:
    """Settle steps as done; those that follow are handed over."""
    check(len(taken) == _BATCH, f"{len(taken)} steps, not {_BATCH}")
    settled = await work.settle([decide(one, Done(), _POLICY, _JITTER) for one in taken], room=_ROOM)
    check(len(settled.matched) == _BATCH, f"{len(settled.matched)} were settled, not {_BATCH}")
    return settled.handed


async def _written(stage: Stage) -> list[Result]:
    """Rows and WAL of a create and of its delete, from request to end, in batches of a hundred."""
    batches = stage.scale.of(20, least=2)
    results = []
    with stage.database() as url:
        async with open_engine(url) as engine:
            for kind in ("create", "delete"):
                before = await _spent(engine)
                for turn in range(batches):
                    await _enqueue(engine, kind, _spread(turn, 10**9))
                    work = WorkStore(engine, TIMING)
                    await _settle(work, await _settle(work, await work.claim(_ROOM)))
                after = await _spent(engine)
                each = {name: round((after[name] - before[name]) / batches / _BATCH, 2) for name in after}
                results.append(
                    _single(f"P15/{kind}", each["wal"] / 8192, 1.0, {**each, "intents": batches * _BATCH})
                )
    return results


async def _spent(engine: AsyncEngine) -> Mapping[str, int]:
    await rows(engine, "SELECT pg_stat_force_next_flush()", {})
    return (await rows(engine, _SPENT, {}))[0]
