"""One test's share of what is backstage: a database, workers, proxies before the stores, the judgement."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import psycopg

from outbox.compose.clearing import clear
from outbox.compose.worker import open_worker
from outbox.settings import Settings
from outbox.stack import StackInfo
from outbox.testing.databases import copied_outbox
from outbox.testing.fault_proxy import FaultProxy
from outbox.testing.faults import Gate
from outbox.testing.history import judge, read_history, read_stores
from outbox.verify.records import Stores
from outbox.worker.loop import Worker

_TOLD_MOST = 10
"""Lanes whose stories are told at once."""


class Violated(Exception):  # noqa: N818 - named for what it tells
    """The stores are not as they must be; the message says what is wrong, and how it came about."""


class Trial:
    """What one test has.

    Attributes:
        settings: of its workers, without a proxy before the stores.
        proxies: before each store, if the test asks for faults.
    """

    def __init__(self, settings: Settings, proxies: Mapping[str, FaultProxy]) -> None:
        self.settings = settings
        self.proxies = proxies
        ends = {"spicedb": "spicedb_endpoint", "temporal": "temporal_address"}
        places = {ends[store]: proxy.address for store, proxy in proxies.items()}
        self._met = settings.model_copy(update=places)
        self._theirs = Stores()
        self._gates: list[Gate] = []
        self._outages: dict[str, AbstractAsyncContextManager[None]] = {}
        self._worker: Worker | None = None
        self._working: asyncio.Task[None] | None = None
        self._converging: set[asyncio.Task[None]] = set()

    @property
    def database_url(self) -> str:
        """The test's database."""
        return self.settings.database_url.get_secret_value()

    async def work(self) -> None:
        """Start a worker; returns when it works."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._working = asyncio.create_task(self._work(begun))
        await asyncio.wait([begun, self._working], return_when=asyncio.FIRST_COMPLETED)
        await self._see_that_it_works()

    async def stop(self) -> None:
        """Stop all that works here; raises what the worker has ended with by itself."""
        for task in self._converging:
            task.cancel()
        await asyncio.gather(*self._converging, return_exceptions=True)
        if self._worker is not None:
            self._worker.stop()
        if self._working is not None:
            await self._working

    async def converge(self, *, seconds: float, granted: Mapping[str, Collection[str]]) -> None:
        """Work until nothing goes on without a person, and judge what came of it.

        Raises:
            TimeoutError: something goes on still.
            Violated: an invariant doesn't hold.
        """
        await self._see_that_it_works()
        task = asyncio.create_task(self._until_idle())
        self._converging.add(task)
        task.add_done_callback(self._converging.discard)
        try:
            async with asyncio.timeout(seconds):
                await task
        except TimeoutError:
            queue = (await read_history(self.database_url)).queue
            stories = await self._stories({row["schedule_id"] for row in queue if row["place"] != "deferred"})
            raise TimeoutError(f"something goes on still after {seconds:g} s\n\n{stories}") from None
        violations, _ = await judge(self.settings, before=self._theirs, granted=granted)
        if violations:
            told = "\n".join(map(str, violations))
            stories = await self._stories({one.schedule_id for one in violations if one.schedule_id})
            raise Violated(f"the stores are not as they must be\n{told}\n\n{stories}")

    async def leave(self, schedules: Collection[str]) -> None:
        """Take what stands under these names for somebody else's."""
        self._theirs = await read_stores(self.settings, schedules)

    async def arm(self, store: str, fault: str, method: str, how: Mapping[str, Any]) -> int | None:
        """Arm a fault; of a gate, return its number."""
        given = dict(how)
        if "status" in given:
            given["status"] = _status(given["status"])
        armed = getattr(self.proxies[store], fault)(method, **given)
        if not isinstance(armed, Gate):
            return None
        self._gates.append(armed)
        return len(self._gates) - 1

    async def clear_faults(self, store: str) -> None:
        """Disarm all faults of a store."""
        self.proxies[store].clear()

    async def gate_reached(self, number: int, seconds: float) -> None:
        """Wait until a call stands at a gate.

        Raises:
            TimeoutError: none came.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._gates[number].reached.wait()
        except TimeoutError:
            raise TimeoutError(f"no call came to the gate in {seconds:g} s") from None

    async def open_gate(self, number: int) -> None:
        """Let through what stands at a gate, and all that comes."""
        self._gates[number].open()

    async def begin_outage(self, store: str) -> None:
        """Have a store gone."""
        self._outages[store] = self.proxies[store].outage()
        await self._outages[store].__aenter__()

    async def end_outage(self, store: str) -> None:
        """Have it back."""
        await self._outages.pop(store).__aexit__(None, None, None)

    async def calls(self, store: str, method: str | None) -> list[str]:
        """The short names of the methods that were called, in order."""
        return [call.method.rpartition("/")[2] for call in self.proxies[store].calls(method)]

    async def clear_stores(self) -> None:
        """Remove from the stores what was asked for in this database."""
        async with await psycopg.AsyncConnection.connect(self.database_url) as connection:
            found = await connection.execute("SELECT id, schedule_id FROM outbox.intents")
            rows = await found.fetchall()
        await clear(self.settings, {row[1] for row in rows}, {str(row[0]) for row in rows})

    async def _work(self, begun: asyncio.Future[None]) -> None:
        async with open_worker(self._met) as self._worker:
            begun.set_result(None)
            await self._worker.run()

    async def _until_idle(self) -> None:
        async with open_worker(self._met, until_idle=True) as worker:
            await worker.run()

    async def _see_that_it_works(self) -> None:
        if self._working is not None and self._working.done():
            await self._working

    async def _stories(self, schedules: Collection[str]) -> str:
        told = await asyncio.gather(*(self._story(one) for one in sorted(schedules)[:_TOLD_MOST]))
        more = len(schedules) - len(told)
        return "\n".join([*told, *([f"… and {more} more"] if more else [])])

    async def _story(self, schedule_id: str) -> str:
        """What ``outbox show`` tells of a lane: a command, as its words are no business of a library."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOX_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "outbox", "show", schedule_id),
            env=own | {"OUTBOX_DATABASE_URL": self.database_url},
            cwd="/",  # where no .env is
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await process.communicate()
        return told.decode(errors="replace")


@asynccontextmanager
async def open_trial(
    stack: StackInfo, template: str, changes: Mapping[str, Any], *, faults: bool
) -> AsyncIterator[Trial]:
    """All that one test has; nothing of it is left after.

    Args:
        stack: where the servers are.
        template: the database to copy.
        changes: settings, by the names of their fields.
        faults: whether there are to be proxies before the stores.

    Raises:
        ValueError: there is no such setting, or its value is none.
    """
    unknown = sorted(changes.keys() - Settings.model_fields.keys())
    if unknown:
        raise ValueError(f"there is no setting {', '.join(unknown)}: `outbox settings` lists them")
    found = {name.removeprefix("OUTBOX_").lower(): value for name, value in stack.environment().items()}
    async with AsyncExitStack() as around:
        url = around.enter_context(copied_outbox(stack, template))
        # Not by its constructor, which would read the environment of whoever runs the tests.
        settings = Settings.model_validate({**found, "database_url": url, **changes})
        proxies = {}
        if faults:
            for store, place in (
                ("spicedb", settings.spicedb_endpoint),
                ("temporal", settings.temporal_address),
            ):
                proxies[store] = await around.enter_async_context(FaultProxy(place))
        trial = Trial(settings, proxies)
        around.push_async_callback(trial.clear_stores)
        around.push_async_callback(trial.stop)
        yield trial


def _status(name: str) -> grpc.StatusCode:
    try:
        return grpc.StatusCode[name]
    except KeyError:
        raise ValueError(f"gRPC has no status {name}") from None
