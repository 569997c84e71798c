"""P2, P2b: the same work done by other queues on Postgres, each in its best shape."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.draining import drain, fill
from tests.bench.measure import Result, Side, check, middle
from tests.bench.stage import Stage

ENVIRONMENT = Path(".bench/peers")
"""Apart from ours; made by `make bench`, with what `peers/requirements.txt` pins."""
_SCRIPTS = Path(__file__).parent / "peers"
_MOST_SECONDS = 400


async def procrastinate(stage: Stage) -> list[Result]:
    """P2: a drain in lane order beside the one peer that keeps an order."""
    intents = stage.scale.of(100_000, least=60)
    lanes = max(2, intents // 10)
    seconds = 60.0 * stage.scale.share if stage.scale.share else 1.0
    mine, theirs = [], []
    for _ in range(1 if stage.scale.share in {0.0, 1.0} else 2):
        mine.append(await _drain_ours(stage, intents, lanes))
        theirs.append(
            await _peer(
                stage, "procrastinate", jobs=max(60, int(seconds * 1000)), lanes=lanes, seconds=seconds
            )
        )
    values = [our.rate / their["rate"] for our, their in zip(mine, theirs, strict=True)]
    detail = {"outbox": middle(mine), "procrastinate": theirs[-1], "intents": intents, "lanes": lanes}
    return [Result.of("P2", values, at_least=40.0, detail=detail)]


async def unordered(stage: Stage) -> list[Result]:
    """P2b: the same drain beside peers that keep no order."""
    intents = stage.scale.of(100_000, least=60)
    lanes = max(2, intents // 10)
    results = []
    for name in ("pgqueuer", "awa", "faststream"):
        mine, theirs = [], []
        for _ in range(1 if stage.scale.share in {0.0, 1.0} else 3):
            mine.append(await _drain_ours(stage, intents, lanes))
            theirs.append(await _peer(stage, name, jobs=intents, lanes=lanes, seconds=_MOST_SECONDS))
        values = [our.rate / their["rate"] for our, their in zip(mine, theirs, strict=True)]
        detail = {"outbox": middle(mine), name: theirs[-1], "intents": intents, "lanes": lanes}
        results.append(Result.of(f"P2b/{name}", values, at_least=1.0, detail=detail))
    return results


async def _drain_ours(stage: Stage, intents: int, lanes: int) -> Side:
    with stage.database() as url:
        await fill(url, intents, lanes)
        return await drain(stage, url, intents)


async def _peer(stage: Stage, name: str, *, jobs: int, lanes: int, seconds: float) -> dict[str, Any]:
    """Have a peer drain its queue in a database of its own."""
    with stage.database(outbox=False) as url, stage.meter() as reading:
        found = await script(f"{name}_peer", url, jobs, lanes, seconds)
    check(found["done"] > 0, f"{name} did nothing")
    check(found["disorder"] == 0 or name != "procrastinate", f"{name} broke the order of a lane")
    found["rate"] = found["done"] / found["seconds"]
    found["server_cpu_us_with_filling"] = round(reading.server_cpu / found["done"] * 1e6, 1)
    return found


async def script(name: str, *arguments: object) -> dict[str, Any]:
    """Run one of the peers' scripts; it prints what it did as JSON."""
    run = await asyncio.to_thread(
        subprocess.run,
        [str(ENVIRONMENT / "bin" / "python"), str(_SCRIPTS / f"{name}.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * _MOST_SECONDS,
    )
    check(run.returncode == 0, f"{name}: {run.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(
        next(line for line in run.stdout.splitlines() if line.startswith('{"done"'))
    )
    return found


def available() -> bool:
    """Whether the peers' environment is there."""
    return (ENVIRONMENT / "bin" / "python").exists() and sys.platform != "win32"
