"""P11: what grows beside the work: worker processes on one database, and what has ended in its ledger."""

import asyncio
import itertools
import json
import logging
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

import outbox
from outbox.flow.dispatch import Dispatch
from outbox.store.engine import open_engine
from outbox.store.work import WorkStore
from outbox.worker.observer import Unobserved
from tests.bench.depth import Bed, compared
from tests.bench.draining import TIMING, NoEffects, check_drained, fill, from_first_to_last, worker
from tests.bench.intake import OWNER, entry
from tests.bench.ledger import write_schedules
from tests.bench.measure import Result, Side, check, in_turn, middle, percentile, ratios
from tests.bench.stage import Stage

_PROCESSES = (1, 2, 4, 8)
_OF_SMOKE = (1, 2)
_ENDED = {"1m": 1_000_000, "10m": 10_000_000}
_BATCHES = 60
_STRIDE = 7919
"""A prime, so that going on by so many, one comes by every schedule before any comes again."""


async def growth(stage: Stage) -> list[Result]:
    """P11: the rate of several processes beside that of one, and the cost of a step beside old history."""
    ended = _ENDED if stage.scale.share else {"1m": _ENDED["1m"]}
    return [*await _processes(stage), *[await _history(stage, name, full) for name, full in ended.items()]]


@dataclass(frozen=True)
class Drained:
    """How processes drained together.

    Attributes:
        claims: the milliseconds of each claim that brought steps, with its wait for other processes' claims.
    """

    side: Side
    claims: Sequence[float]


async def _processes(stage: Stage) -> list[Result]:
    # Enough for each of eight to make what it pays once, connections and plans, a small part of it.
    intents = stage.scale.of(200_000, least=60)
    counts = _PROCESSES if stage.scale.share else _OF_SMOKE
    taken: dict[int, list[Drained]] = {count: [] for count in counts}

    async def drain(count: int) -> Side:
        drained = await _together(stage, intents, count)
        taken[count].append(drained)
        return drained.side

    rounds = 3 if stage.scale.share else 1
    alone, *others = await in_turn(rounds, *[lambda count=count: drain(count) for count in counts])
    detail = {"one": _summary(taken[1]), "intents": intents}
    return [
        Result.of(
            f"P11/{count}",
            ratios(together, alone),
            at_least=0.9,
            detail=detail | {"together": _summary(taken[count])},
        )
        for count, together in zip(counts[1:], others, strict=True)
    ]


def _summary(rounds: Sequence[Drained]) -> dict[str, float]:
    claims = [took for one in rounds for took in one.claims]
    return middle(one.side for one in rounds) | {
        "claims": round(len(claims) / len(rounds), 1),
        "claim_p50_ms": round(statistics.median(claims), 1),
        "claim_p99_ms": round(percentile([*claims, *claims], 99), 1),
    }


async def _together(stage: Stage, intents: int, count: int) -> Drained:
    """So many processes, which all begin when the last of them is ready."""
    with stage.database() as url:
        await fill(url, intents, max(2, intents // 5))
        workers = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bench.growth", url),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(count)
        ]
        for one in workers:
            check(bool(one.stdout and await one.stdout.readline()), "a worker did not start")
        with stage.meter() as reading:
            answers = await asyncio.gather(*(one.communicate(b"go\n") for one in workers))
        found = [json.loads(answer) for answer, _ in answers]
        effects = NoEffects()
        effects.applied, effects.disorder = (
            sum(one[name] for one in found) for name in ("applied", "disorder")
        )
        await check_drained(url, effects, intents)
        reading.client_cpu = sum(one["cpu"] for one in found)
        side = await from_first_to_last(url, reading.side(intents))
    return Drained(side, [took for one in found for took in one["claims"]])


class _Claims(Unobserved):
    """Keeps how long claims took, in milliseconds."""

    def __init__(self) -> None:
        self.took_ms: list[float] = []

    def took(self, dispatches: Sequence[Dispatch], seconds: float) -> None:
        if dispatches:
            self.took_ms.append(seconds * 1000)


class _Aged(Bed):
    """Its new requests are for schedules of the ledger, wherever in it they lie."""

    def __init__(self, url: str, store: WorkStore, schedules: int) -> None:
        super().__init__(url, store)
        self._schedules = schedules
        self._numbers = itertools.count(0, _STRIDE)

    async def fill(self, intents: int, *, lanes: int | None = None) -> None:
        del lanes
        entries = [entry(next(self._numbers) % self._schedules) for _ in range(intents)]
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as line:
            await outbox.enqueue_many(line, [(one, OWNER) for one in entries])


async def _history(stage: Stage, name: str, full: int) -> Result:
    """Claim and settle of a batch, with so many ended intents in the ledger and with none."""
    ended = stage.scale.of(full // 10 if stage.scale.share < 1 else full, least=2000)
    schedules = ended // 2
    with stage.database() as url, stage.database() as old_url:
        await asyncio.to_thread(write_schedules, old_url, schedules, deleted=True)
        async with open_engine(url) as engine, open_engine(old_url) as old_engine:
            empty = _Aged(url, WorkStore(engine, TIMING), schedules)
            old = _Aged(old_url, WorkStore(old_engine, TIMING), schedules)
            for bed in (empty, old):
                await bed.fill(stage.scale.of(1000))
                await bed.settle_in(5)
            rounds = _BATCHES if stage.scale.share else 2
            pairs = [(await empty.step(), await old.step()) for _ in range(rounds)]
    detail: dict[str, Any] = {"ended": ended}
    for side, values in zip(("empty", "old"), zip(*pairs, strict=True), strict=True):
        detail |= {
            f"{side}_us": round(statistics.median(values), 1),
            f"{side}_p99_us": round(percentile(values, 99), 1),
        }
    return compared(f"P11/{name}-ended", pairs, detail, at_most=1.2)


async def _drain(url: str) -> None:
    """One of the processes: says that it is ready, and drains when it is told to."""
    effects, claims = NoEffects(), _Claims()
    async with worker(url, effects, observer=claims) as one:
        print("ready", flush=True)  # noqa: T201 - the parent waits for it
        await asyncio.to_thread(sys.stdin.readline)
        began = time.process_time()
        await one.run()
    found = {"applied": effects.applied, "disorder": effects.disorder, "claims": claims.took_ms}
    print(json.dumps(found | {"cpu": time.process_time() - began}))  # noqa: T201 - the answer


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(_drain(sys.argv[1]))
