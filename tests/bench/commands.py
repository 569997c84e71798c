"""P10: the CPU time that the command line takes to answer what needs no store."""

import asyncio
import os
import resource
import statistics
import subprocess
import sys

from tests.bench.measure import Result, check
from tests.bench.stage import Stage

_SECONDS = 0.3
_OUTBOX = (sys.executable, "-m", "outbox")
_COMPLETION = {"_OUTBOX_COMPLETE": "complete_bash", "COMP_WORDS": "outbox in", "COMP_CWORD": "1"}


async def answers(stage: Stage) -> list[Result]:
    """P10: help, version and completion, of 0.3 s; beside the interpreter alone."""
    rounds = stage.scale.of(15, least=3)
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
    return results


def _median(command: tuple[str, ...], environment: dict[str, str], rounds: int, answer: str) -> float:
    """Seconds of CPU time, those of the first run, which compiles, left out."""
    took = []
    for _ in range(rounds + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        check(answer in run.stdout, f"{command}: {run.stdout}{run.stderr}")
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(took[1:])
