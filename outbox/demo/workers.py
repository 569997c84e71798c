"""The demo's workers: real ``outbox run`` processes, one of which gets killed."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from outbox.errors import OutboxError

SHORT_SETTINGS: Mapping[str, str] = {
    "OUTBOX_LATE_WRITE_SECONDS": "2",
    "OUTBOX_STEP_TIMEOUT_SECONDS": "3",
    "OUTBOX_LEASE_SECONDS": "5",
    "OUTBOX_RETRY_CAP_SECONDS": "2",
}
_STOP_SECONDS = 10.0
_TAIL_CHARACTERS = 1_000


class DemoFailed(OutboxError):  # noqa: N818 - named for what it is
    """The demo can't go on; the message says why, and where to look."""


class Workers:
    """Worker processes by number, from 1; none outlives the context.

    Args:
        environment: the settings that point at the stack.
        logs: a folder for ``worker-<number>.log``.
    """

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self._environment = {**os.environ, **environment, **SHORT_SETTINGS}
        self._logs = logs
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._started = 0

    async def start(self, *options: str, **settings: str) -> int:
        """Start one more worker, with options and settings of its own, and return its number."""
        self._started += 1
        self._logs.mkdir(parents=True, exist_ok=True)
        with self._log(self._started).open("wb") as log:
            # A group of its own: Ctrl-C is for the demo, which stops its workers in order.
            self._running[self._started] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "outbox", "run", *options),
                env=self._environment | settings,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        return self._started

    async def kill(self, number: int) -> None:
        """Kill a worker with SIGKILL."""
        process = self._running.pop(number)
        process.kill()
        await process.wait()

    def check(self) -> None:
        """See that all workers run.

        Raises:
            DemoFailed: one has ended by itself.
        """
        for number, process in self._running.items():
            if process.returncode is not None:
                raise DemoFailed(
                    f"worker {number} ended by itself, exit code {process.returncode} {self._words(number)}"
                )

    def last_words(self) -> str:
        """What the newest worker wrote last."""
        return f"worker {self._started} {self._words(self._started)}"

    async def stop(self) -> None:
        """Ask all workers to drain, and wait until they have ended."""
        left = [self._running.pop(number) for number in list(self._running)]
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await asyncio.gather(*map(_ended, left))

    def _words(self, number: int) -> str:
        log = self._log(number)
        return f"(see {log}): {log.read_text(errors='replace')[-_TAIL_CHARACTERS:].strip()}"

    def _log(self, number: int) -> Path:
        return self._logs / f"worker-{number}.log"


async def _ended(process: asyncio.subprocess.Process) -> None:
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
