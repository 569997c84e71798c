"""P10: the CPU time that starting takes: commands that need no store, a producer's import, a worker."""

import asyncio
import os
import resource
import statistics
import subprocess
import sys

from outbox.compose import schema
from tests.bench.measure import Result, check
from tests.bench.stage import Stage
from tests.bench.stores import settings_of

_SECONDS = 0.3
_START_SECONDS = 1.0
_BARE = "import sqlalchemy, psycopg, pydantic"
_OURS = "from outbox import *"
_OUTBOX = (sys.executable, "-m", "outbox")
_COMPLETION = {"_OUTBOX_COMPLETE": "complete_bash", "COMP_WORDS": "outbox in", "COMP_CWORD": "1"}


async def answers(stage: Stage) -> list[Result]:
    """P10: help, version and completion, of 0.3 s; beside the interpreter alone."""
    rounds = stage.scale.of(15, least=1)
    alone = await asyncio.to_thread(_median, (sys.executable, "-c", ""), {}, rounds, "")
    questions = {
        "help": ((*_OUTBOX, "--help"), {}, "Usage:"),
        "version": ((*_OUTBOX, "--version"), {}, "."),
        "completion": (_OUTBOX, _COMPLETION, "intents"),
    }
    results = []
    for name, (command, environment, answer) in questions.items():
        took = await asyncio.to_thread(_median, command, environment, rounds, answer)
        ratio = took / _SECONDS
        detail = {"cpu_ms": round(took * 1000), "interpreter_alone_ms": round(alone * 1000), "rounds": rounds}
        results.append(Result(f"P10/{name}", ratio, at_most=1.0, spread=(ratio, ratio), detail=detail))
    return [*results, await _import(rounds), await _start(stage, rounds)]


async def _import(rounds: int) -> Result:
    """All that producers use, of the bare import of what it stands on."""
    bare, ours = [
        await asyncio.to_thread(_median, (sys.executable, "-c", code), {}, rounds, "")
        for code in (_BARE, _OURS)
    ]
    detail = {"cpu_ms": round(ours * 1000), "bare_cpu_ms": round(bare * 1000), "rounds": rounds}
    return Result("P10/import", ours / bare, at_most=1.2, spread=(ours / bare,) * 2, detail=detail)


async def _start(stage: Stage, rounds: int) -> Result:
    """A worker from its start to a first claim that finds nothing, and its end with it."""
    await schema.apply(settings_of(stage), lambda _: True)
    with stage.database() as url:
        environment = {**stage.stack.environment(), "OUTBOX_DATABASE_URL": url}
        took = await asyncio.to_thread(_median, (*_OUTBOX, "run", "--until-idle"), environment, rounds, "")
    ratio = took / _START_SECONDS
    detail = {"cpu_ms": round(took * 1000), "rounds": rounds}
    return Result("P10/run", ratio, at_most=1.0, spread=(ratio, ratio), detail=detail)


def _median(command: tuple[str, ...], environment: dict[str, str], rounds: int, answer: str) -> float:
    """Seconds of CPU time, those of the first run, which compiles, left out."""
    took = []
    for _ in range(rounds + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        # What was compiled is kept, as it is wherever a package is installed.
        run = subprocess.run(
            command,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        good = answer in run.stdout if answer else run.returncode == 0
        check(good, f"{command}: {run.stdout}{run.stderr}")
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(took[1:])
