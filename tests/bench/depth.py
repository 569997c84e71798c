"""P5: what a step costs whatever waits, whatever was done, and while nothing that is gone can be vacuumed."""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg

from outbox.errors import ErrorCode
from outbox.flow.outcome import Refused
from outbox.flow.settlement import RetryPolicy, decide
from outbox.flow.table import Consumer
from outbox.store.engine import open_engine
from outbox.store.work import WorkStore
from tests.bench.draining import TIMING, fill
from tests.bench.measure import Result, check, percentile
from tests.bench.stage import Stage

BATCH = 100
_NO = Refused(ErrorCode.REFUSED, "a benchmark refuses everything")
_POLICY = RetryPolicy()
_JITTER = random.Random(1)
_LEAST = 2  # batches, of which there are percentiles
_PACE = 500  # steps a second, beside the open transaction


class Bed:
    """A database with so much waiting in it; each `step` claims and settles a batch, and refills."""

    def __init__(self, url: str, store: WorkStore) -> None:
        self._url = url
        self._store = store
        self._enqueued = 0

    async def fill(self, intents: int, *, lanes: int | None = None) -> None:
        """Let so many more wait, each in a lane of its own unless told otherwise."""
        self._enqueued += 1
        await fill(self._url, intents, lanes or intents, prefix=f"lane-{self._enqueued}")

    async def settle_in(self, batches: int = 20) -> None:
        """Let what is new be placed, until a claim meets heads alone, and caches warm."""
        for _ in range(batches):
            await self.step()

    async def step(self, size: int = BATCH, *, passing: bool = False) -> float:
        """Claim and settle a batch, or (passing) what a claim gets to; microseconds for each of a batch."""
        await self.fill(size)
        began = time.perf_counter()
        taken = await self._store.claim({Consumer.AUTHZ: size})
        settled = await self._store.settle([decide(one, _NO, _POLICY, _JITTER) for one in taken])
        took = time.perf_counter() - began
        whole, matched = passing or len(taken) == size, len(settled.matched)
        check(whole and len(taken) == matched, f"{len(taken)} taken, {matched} settled, not {size}")
        return took / size * 1e6

    async def through(self, steps: int) -> None:
        """Do so many steps, as large as they come."""
        done = 0
        while done < steps:
            await self.fill(1000)
            taken = await self._store.claim({Consumer.AUTHZ: 1000})
            await self._store.settle([decide(one, _NO, _POLICY, _JITTER) for one in taken])
            done += len(taken)


@asynccontextmanager
async def beds(stage: Stage, count: int) -> AsyncIterator[list[Bed]]:
    """So many of them."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            url = stack.enter_context(stage.database())
            engine = await stack.enter_async_context(open_engine(url))
            made.append(Bed(url, WorkStore(engine, TIMING)))
        yield made


async def any_depth(stage: Stage) -> list[Result]:
    """P5: 100 thousand and a million waiting, a long lane in front, and after two million steps."""
    rounds = max(2, int(60 * stage.scale.share) or 2)
    few = stage.scale.of(1000)
    amounts = {
        "100k": stage.scale.of(100_000, least=40),
        "1m": stage.scale.of(1_000_000, least=60),
        "lane": stage.scale.of(100_000, least=40),
        "2m-done": stage.scale.of(2_000_000, least=200),
    }
    results = []
    for name, amount in amounts.items():
        async with beds(stage, 2) as (small, large):
            await small.fill(few)
            if name == "lane":
                await large.fill(amount, lanes=1)
            elif name == "2m-done":
                await large.through(amount)
                await large.fill(few)
            else:
                await large.fill(amount)
            # A claim looks at 2,000 of what has come in, at most.
            claims = amount // 2000 + 5 if name == "lane" else 5
            passing = [await large.step(passing=name == "lane") for _ in range(claims)]
            await small.settle_in(5)
            pairs = [(await small.step(), await large.step()) for _ in range(rounds)]
        detail = {
            "waiting_1k_us": round(statistics.median(one for one, _ in pairs), 1),
            f"{name}_us": round(statistics.median(other for _, other in pairs), 1),
            "amount": amount,
            "batch": BATCH,
        }
        if name == "lane":
            detail["while_the_lane_is_passed_over_us"] = round(statistics.mean(passing), 1)
        results.append(compared(f"P5/{name}", pairs, detail, at_most=1.3))
    return [*results, await _open_transaction(stage)]


async def _open_transaction(stage: Stage) -> Result:
    """500 steps a second while some transaction stays open; beside the same where none is."""
    seconds = max(1.0, 300 * stage.scale.share)
    async with beds(stage, 2) as (free, held):
        for bed in (free, held):
            await bed.fill(stage.scale.of(1000))
            await bed.settle_in(5)
        async with await psycopg.AsyncConnection.connect(held._url) as other:
            await other.execute("CREATE TABLE elsewhere (x int)")  # it has an id, as a producer's would
            pairs: list[tuple[float, float]] = []
            began = time.perf_counter()
            while (gone := time.perf_counter() - began) < seconds or len(pairs) < _LEAST:
                pairs.append((await free.step(), await held.step()))
                await asyncio.sleep(max(0.0, BATCH / _PACE - (time.perf_counter() - began - gone)))
            late = pairs[-max(2, len(pairs) // 5) :]
    detail = {
        "without_us": round(statistics.median(one for one, _ in late), 1),
        "with_us": round(statistics.median(other for _, other in late), 1),
        "with_p99_us": round(percentile([other for _, other in late], 99), 1),
        "with_mean_us": round(statistics.mean(other for _, other in late), 1),
        "seconds": round(seconds),
        "steps": len(pairs) * BATCH,
    }
    return compared("P5/open-transaction", late, detail, at_most=2.0)


def compared(row: str, pairs: list[tuple[float, float]], detail: dict[str, Any], *, at_most: float) -> Result:
    """The ratio of the medians; its spread from halves of the rounds, as single batches scatter too much."""

    def ratio(some: list[tuple[float, float]]) -> float:
        return statistics.median(large for _, large in some) / statistics.median(small for small, _ in some)

    halves = [ratio(pairs[::2]), ratio(pairs[1::2])]
    return Result(row, ratio(pairs), at_most=at_most, spread=(min(halves), max(halves)), detail=detail)
