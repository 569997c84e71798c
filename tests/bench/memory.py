"""P7: the memory of a worker that drains a million waiting intents, beside one that drains a thousand."""

import asyncio
import json
import logging
import subprocess
import sys

import structlog

from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Outcome
from tests.bench.draining import NoEffects, fill, worker
from tests.bench.measure import Result, check, peak_memory
from tests.bench.stage import Stage

_MOST_SECONDS = 1800


class _Counted(NoEffects):
    """Remembers no lane: what grows is the worker's."""

    async def apply(self, dispatch: Dispatch) -> Outcome:
        del dispatch
        self.applied += 1
        return self.outcome


async def draining(stage: Stage) -> list[Result]:
    """P7: the peak of a process of its own, for either amount."""
    amounts = (stage.scale.of(1000), stage.scale.of(1_000_000, least=100))
    peaks = []
    for amount in amounts:
        with stage.database() as url:
            for begin in range(0, amount, 50_000):
                some = min(50_000, amount - begin)
                await fill(url, some, max(1, some // 10), prefix=f"lane-{begin}")
            peaks.append(await asyncio.to_thread(_peak, url, amount))
    few, many = peaks
    detail = {"waiting": list(amounts), "peak_mib": [round(peak / 2**20, 1) for peak in peaks]}
    return [Result("P7", many / few, at_most=1.2, spread=(many / few,) * 2, detail=detail)]


def _peak(url: str, amount: int) -> int:
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench.memory", url],
        capture_output=True,
        text=True,
        check=False,
        timeout=_MOST_SECONDS,
    )
    check(run.returncode == 0, run.stderr[-2000:])
    found = json.loads(run.stdout)
    check(found["applied"] == amount, f"{found['applied']} of {amount} were applied")
    return int(found["peak"])


async def _drain(url: str) -> None:
    effects = _Counted()
    # As many as the settings' defaults let a worker hold at once.
    async with worker(url, effects, concurrency=16) as one:
        await one.run()
    print(json.dumps({"applied": effects.applied, "peak": peak_memory()}))  # noqa: T201 - the answer


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(_drain(sys.argv[1]))
