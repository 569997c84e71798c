"""The outbox's own processes during a campaign."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_STOP_SECONDS = 180.0


class Fleet:
    """One process of each command (``run``, ``relay``), started anew when it has ended.

    Args:
        environment: of each.
        log: what all of them log.
        commands: one for each place.
        before: what a process of the version before has in its environment besides. Every other place then
            begins with one.

    Attributes:
        started: how many there have been.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        commands: Sequence[str],
        before: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = {**os.environ, "PYTHONFAULTHANDLER": "1", **environment}
        self._log = log
        self._commands = commands
        self._before = before or {}
        self._of_before = set(range(1, len(commands), 2)) if before else set()
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self.started = 0

    async def fill(self, failpoints: str = "") -> None:
        """Start what does not run; what is started now has these points armed."""
        for place, command in enumerate(self._commands):
            if place in self._running and self._running[place].returncode is None:
                continue
            with self._log.open("ab") as log:
                self._running[place] = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "outbox", *command.split()),
                    env={
                        **self._environment,
                        **(self._before if place in self._of_before else {}),
                        "OUTBOX_FAILPOINTS": failpoints,
                    },
                    cwd=self._log.parent,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                )
            self.started += 1

    async def pick(self, rng: random.Random) -> asyncio.subprocess.Process:
        """One that runs: those that began while Postgres was away have ended, and are started again."""
        await self.fill()
        return rng.choice(self._alive())

    def roll(self, rng: random.Random) -> asyncio.subprocess.Process | None:
        """One of the version before; where there is none, any. What is started in its place is of the other.

        So there is always one that knows updates. None: the one whose turn it is has ended by itself, as it
        began while Postgres was away.
        """
        place = rng.choice(sorted(self._of_before) or range(len(self._commands)))
        self._of_before ^= {place}
        process = self._running[place]
        return process if process.returncode is None else None

    async def stop(self) -> list[int]:
        """Drain all; return their exit codes."""
        alive = self._alive()
        for process in alive:
            process.terminate()
        async with asyncio.timeout(_STOP_SECONDS):
            return [await process.wait() for process in alive]

    async def kill(self) -> None:
        """End what is left."""
        alive = self._alive()
        for process in alive:
            process.send_signal(signal.SIGKILL)
        for process in alive:
            await process.wait()

    def _alive(self) -> list[asyncio.subprocess.Process]:
        return [process for process in self._running.values() if process.returncode is None]
