"""Measuring: two sides in turn, medians and spread, and what either costs in CPU time."""

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]


class WrongResultError(AssertionError):
    """A benchmark did not do what it was to measure."""


def check(holds: bool, what: str) -> None:
    """Fail a benchmark whose work came out wrong: its figures would mean nothing."""
    if not holds:
        raise WrongResultError(what)


@dataclass(frozen=True)
class Result:
    """One line of the report.

    Attributes:
        ratio: the median of the rounds' ratios.
        at_least: the goal of a ratio that should be large; None where it should be small.
        at_most: the other kind of goal.
        spread: the lowest and the highest ratio of a round.
        detail: what was measured, in absolute figures.
    """

    id: str
    ratio: float
    at_least: float | None = None
    at_most: float | None = None
    spread: tuple[float, float] = (0.0, 0.0)
    detail: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, row: str, ratios: Sequence[float], *, detail: dict[str, Any], **goal: float) -> "Result":
        """From the ratios of the rounds."""
        spread = (min(ratios), max(ratios))
        return cls(row, statistics.median(ratios), spread=spread, detail=detail, **goal)

    @property
    def ok(self) -> bool:
        """Whether the goal is reached."""
        if self.at_least is not None:
            return self.ratio >= self.at_least
        return self.at_most is None or self.ratio <= self.at_most

    @property
    def reach(self) -> str:
        """The goal, as it is printed."""
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most or 0:g}"

    def to_json(self) -> dict[str, Any]:
        """As it stands in the results' file."""
        return {
            "id": self.id,
            "ratio": round(self.ratio, 3),
            "reach": self.reach,
            "ok": self.ok,
            "spread": [round(end, 3) for end in self.spread],
            "detail": self.detail,
        }


@dataclass(frozen=True)
class Side:
    """What one side did in one round.

    Attributes:
        client_cpu: seconds of CPU time of this process.
        server_cpu: seconds of CPU time of Postgres and all of its backends.
    """

    items: int
    seconds: float
    client_cpu: float
    server_cpu: float

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.seconds

    def summary(self) -> dict[str, float]:
        """In figures that can be compared."""
        return {
            "per_second": round(self.rate, 1),
            "client_cpu_us": round(self.client_cpu / self.items * 1e6, 1),
            "server_cpu_us": round(self.server_cpu / self.items * 1e6, 1),
        }


class Meter:
    """Takes the time and the CPU time of a block; Postgres is found by the folder of its data."""

    def __init__(self, postmaster: psutil.Process) -> None:
        self._postmaster = postmaster

    @contextmanager
    def __call__(self) -> Iterator["Reading"]:
        reading = Reading()
        server, client, began = self._server_cpu(), time.process_time(), time.perf_counter()
        yield reading
        reading.seconds = time.perf_counter() - began
        reading.client_cpu = time.process_time() - client
        reading.server_cpu = self._server_cpu() - server

    def _server_cpu(self) -> float:
        """Of the postmaster, its children, and the children that have ended and were waited for."""
        times = self._postmaster.cpu_times()
        total = times.user + times.system + times.children_user + times.children_system
        for child in self._postmaster.children(recursive=True):
            try:
                own = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += own.user + own.system
        return float(total)


class Reading:
    """What a block took, in seconds."""

    seconds = 0.0
    client_cpu = 0.0
    server_cpu = 0.0

    def side(self, items: int) -> Side:
        """The block as a side that did so many items."""
        return Side(items, self.seconds, self.client_cpu, self.server_cpu)


Measured = Callable[[], Awaitable[Side]]


async def in_turn(rounds: int, *sides: Measured) -> list[list[Side]]:
    """Let the sides take turns, so that whatever else the machine does hits all alike; one list a side."""
    taken: list[list[Side]] = [[] for _ in sides]
    for number in range(rounds):
        order = range(len(sides)) if number % 2 == 0 else reversed(range(len(sides)))
        for place in order:
            taken[place].append(await sides[place]())
    return taken


def ratios(ours: Sequence[Side], theirs: Sequence[Side]) -> list[float]:
    """Of the rates, round by round."""
    return [mine.rate / other.rate for mine, other in zip(ours, theirs, strict=True)]


def middle(sides: Iterable[Side]) -> dict[str, float]:
    """The medians of a side's figures."""
    summaries = [side.summary() for side in sides]
    return {name: round(statistics.median(one[name] for one in summaries), 1) for name in summaries[0]}


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many per cent lie."""
    return statistics.quantiles(values, n=1000, method="inclusive")[round(percent * 10) - 1]


async def repeat(seconds: float, lines: Sequence[Any], work: Callable[[Any], Awaitable[None]]) -> int:
    """Do the work on each line (a connection) over and over; how often it was done."""
    done = 0
    end = time.perf_counter() + seconds

    async def one(line: Any) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await work(line)
            done += 1

    await asyncio.gather(*(one(line) for line in lines))
    return done


def peak_memory(process: int | None = None) -> int:
    """The most memory that a process (None: this one) ever had resident, in bytes.

    Not `ru_maxrss`: that of a process just started is its parent's, where the parent had more.
    """
    status = Path(f"/proc/{process or 'self'}/status")
    for line in status.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{status} names no VmHWM")


def save(results: Sequence[Result], header: dict[str, Any], path: Path) -> None:
    """Write the results, each with what it was measured on; other rows of the file stay as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else []
    lines = {line["id"]: line for line in before}
    for one in results:
        line = one.to_json()
        line["detail"] |= {"machine": header}
        lines[one.id] = line
    path.write_text(json.dumps([lines[name] for name in sorted(lines)], indent=1) + "\n")
