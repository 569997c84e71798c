"""P17: verifying a live ledger: what a page reads however much there is, and what it takes from a worker."""

import asyncio
import time
from contextlib import suppress

from outbox.store.engine import open_engine
from outbox.store.verifying import VerifyStore
from outbox.verify.sweep import Verifier
from outbox.verify.tally import Tally
from tests.bench.capacity import PagesRead
from tests.bench.draining import calls_while, drain, fill
from tests.bench.ledger import write_schedules
from tests.bench.measure import Result, Side, check, in_turn, middle, ratios
from tests.bench.stage import Stage

_LANES = 100
"""As many as one page of it has."""
_FEW = 1000
_RATE = 1000.0
"""Lanes a second: the command's own, if the ledger alone is verified."""
_UNBOUNDED = 1e9


async def verified(stage: Stage) -> list[Result]:
    """P17: pages read for a page of lanes; a drain beside verifying at its default rate."""
    # As large at any scale: it is counted, not timed.
    many = 100_000 if stage.scale.share else 2 * _LANES
    return [await _pages(stage, many), await _beside(stage, many)]


async def _pages(stage: Stage, many: int) -> Result:
    with stage.database() as small, stage.database() as large:
        await asyncio.to_thread(write_schedules, small, min(_FEW, many))
        await asyncio.to_thread(write_schedules, large, many)
        few, _ = await _page(small)
        lots, statements = await _page(large)
        seconds = await _all(large, many)
    detail = {
        "of_few": few,
        "pages": lots,
        "statements": statements,
        "lanes": _LANES,
        "schedules": many,
        "seconds_for_1000_lanes": round(seconds / many * 1000, 3),
    }
    return Result("P17/pages", lots / few, at_most=2.0, spread=(lots / few,) * 2, detail=detail)


async def _page(url: str) -> tuple[int, int]:
    """Pages and statements of one page of lanes, after one that made its plans."""
    async with open_engine(url) as engine:
        store, counted = VerifyStore(engine), PagesRead(engine)
        for after in ("agent-1", "agent-10"):
            snapshot = await counted("page", store.page(after, _LANES))
            check(len(snapshot.names) == _LANES, f"{len(snapshot.names)} lanes, not {_LANES}")
        statements = await calls_while(store.page("agent-11", _LANES))
    return counted.pages["page"], statements


async def _all(url: str, many: int) -> float:
    """Seconds that it takes alone."""
    async with open_engine(url) as engine:
        tally, began = Tally(), time.perf_counter()
        found = [one async for one in Verifier(VerifyStore(engine), None, _UNBOUNDED).all(tally)]
        check((tally.lanes, found) == (many, []), f"{tally.lanes} of {many} lanes, {found[:3]}")
        return time.perf_counter() - began


async def _beside(stage: Stage, many: int) -> Result:
    """The rate of a drain of one-step intents beside it, again and again, of that without."""
    intents = stage.scale.of(50_000, least=60)
    lanes: list[float] = []

    async def alone() -> Side:
        with stage.database() as url:
            await asyncio.to_thread(write_schedules, url, many)
            await fill(url, intents, intents)
            return await drain(stage, url, intents)

    async def beside() -> Side:
        with stage.database() as url:
            await asyncio.to_thread(write_schedules, url, many)
            await fill(url, intents, intents)
            tally = Tally()
            verifying = asyncio.create_task(_again_and_again(url, tally))
            try:
                side = await drain(stage, url, intents)
            finally:
                verifying.cancel()
                with suppress(asyncio.CancelledError):
                    await verifying
            check(tally.violations == 0, f"{tally.found}")
            lanes.append(tally.lanes / side.seconds)
            return side

    without, verified = await in_turn(stage.scale.rounds, alone, beside)
    detail = {
        "without": middle(without),
        "verified": middle(verified),
        "lanes_a_second": round(sum(lanes) / len(lanes)),
        "intents": intents,
        "schedules": many,
    }
    return Result.of("P17/beside", ratios(verified, without), at_least=0.8, detail=detail)


async def _again_and_again(url: str, tally: Tally) -> None:
    async with open_engine(url) as engine:
        while True:
            async for _ in Verifier(VerifyStore(engine), None, _RATE).all(tally):
                pass
