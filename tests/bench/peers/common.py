"""What the peers' scripts share. They run in an environment of their own, so nothing of ours is imported."""

import asyncio
import json
import sys
import time
from importlib.metadata import version

PADDING = "x" * 130


class Tally:
    """Counts what was done, notices what a lane got out of order, and knows when all is done."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.done = 0
        self.disorder = 0
        self.finished = asyncio.Event()
        self._latest: dict[int, int] = {}

    def note(self, lane: int, number: int) -> None:
        """One job was done: the so-many-th of its lane."""
        if self._latest.get(lane, -1) >= number:
            self.disorder += 1
        self._latest[lane] = number
        self.done += 1
        if self.done >= self.jobs:
            self.finished.set()


def arguments() -> tuple[str, int, int, float]:
    """The database, how many jobs, in how many lanes, and how long at most."""
    url, jobs, lanes, seconds = sys.argv[1:]
    return url, int(jobs), int(lanes), float(seconds)


def payload(place: int, lanes: int) -> dict[str, object]:
    """A job about as large as one of the outbox's."""
    return {"lane": place % lanes, "number": place // lanes, "prompt": PADDING}


def report(tally: Tally, began: float, cpu: float, package: str, settings: str) -> None:
    """Print what was done, for the benchmark to read."""
    seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    found = {
        "done": tally.done,
        "seconds": round(seconds, 3),
        "disorder": tally.disorder,
        "client_cpu_us": round(spent / max(1, tally.done) * 1e6, 1),
        "version": f"{package} {version(package)}",
        "settings": settings,
    }
    print(json.dumps(found), flush=True)  # noqa: T201 - the script's answer
