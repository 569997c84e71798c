"""Examples run as a reader would: in processes of their own, told by variables where their servers are."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from tests.docs.pages import ROOT
from tests.kafka.conftest import broker, settings, work
from tests.store.conftest import enqueue, query
from tests.store.roles import login_role

__all__ = ["broker", "enqueue", "query", "settings", "work"]

EXAMPLES = ROOT / "docs/examples"
SECONDS = 240


def blind() -> dict[str, str]:
    """This process's variables, without those of an outbox; the environment's commands come first."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOX_")}
    return found | {"PATH": f"{Path(sys.executable).parent}:{found['PATH']}"}


@pytest.fixture
def producer(database: str) -> Iterator[str]:
    """The database's URL for an application: it may enqueue, wait, and have tables of its own."""
    with login_role(database, "outbox_producer") as url:
        with psycopg.connect(database) as owner:
            owner.execute("GRANT CREATE ON SCHEMA public TO outbox_producer")
        yield url


class Program:
    """An example's program, which runs until it is killed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def lines(self, count: int) -> list[str]:
        """The next lines that it prints."""
        assert self._process.stdout
        async with asyncio.timeout(SECONDS):
            return [(await self._process.stdout.readline()).decode().strip() for _ in range(count)]

    async def ended(self) -> tuple[int, str]:
        """Wait until it has ended by itself: its exit code, and the last line that it says."""
        async with asyncio.timeout(SECONDS):
            _, said = await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode, said.decode().strip().rpartition("\n")[2]

    async def interrupt(self) -> None:
        """End it as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
        code, said = await self.ended()
        assert code == 0, said

    async def kill(self) -> None:
        """End it as a crash does."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


@asynccontextmanager
async def started(script: str, *arguments: object, **environment: str) -> AsyncIterator[Program]:
    """An example's program in Python, killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLES / script,
        *(str(one) for one in arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=blind() | environment,
    )
    program = Program(process)
    try:
        yield program
    finally:
        await program.kill()
