"""A pipeline of the test's own: a database, workers, and the real stores behind fault proxies."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from pydantic import SecretStr

import outbox
from consumers.authz.client import Tuple
from consumers.authz.names import AGENT, SERVICE_ACCOUNT, USER
from outbox import CreateSchedule, DeleteSchedule, Intent, Principal, UpdateSchedule
from outbox.compose.audit import compare_stores, words
from outbox.compose.kafka import open_relay
from outbox.compose.worker import open_worker
from outbox.flow.table import Consumer
from outbox.settings import Settings, Wire
from outbox.testing import Call, FaultProxy
from outbox.testing import Stores as Snapshot
from outbox.worker.loop import Worker
from tests.pipeline.agreement import disagreements
from tests.pipeline.ledger import Ledger
from tests.pipeline.stores import Scheduled, Stores

NIGHTLY = "nightly"
NOBODY = Principal()
BAD_CRON = "not a cron"
_REQUEST: Mapping[str, Any] = {"workflow_name": "Run", "task_queue": "agents"}
_WORK_SECONDS = 240.0
PATIENT: dict[str, Any] = {"step_timeout_seconds": 20.0, "lease_seconds": 20.0}
"""For steps that stand at a gate: they must not run out of time there, however slow the machine."""
UNPOLLED: dict[str, Any] = PATIENT | {"poll_interval_seconds": 3600.0}
"""For workers that have to be woken: what runs out of time would be tried again by the next poll alone."""


class Pipeline:
    """Producers, workers and stores of one test.

    Attributes:
        spicedb: the proxy before SpiceDB.
        temporal: the proxy before Temporal.
        stores: both, seen past the proxies.
        ledger: Postgres, seen past the workers.
    """

    def __init__(
        self,
        settings: Settings,
        agent: str,
        *,
        spicedb: FaultProxy,
        temporal: FaultProxy,
        stores: Stores,
        ledger: Ledger,
    ) -> None:
        self.settings = settings
        self.agent = agent
        self.spicedb = spicedb
        self.temporal = temporal
        self.stores = stores
        self.ledger = ledger
        self._welcome: set[tuple[str, str]] = set()

    @property
    def database_url(self) -> str:
        return self.settings.database_url.get_secret_value()

    def lane(self, name: str = NIGHTLY) -> str:
        return f"{self.agent}--{name}"

    @property
    def _direct(self) -> Settings:
        ends = {"spicedb_endpoint": self.spicedb.target, "temporal_address": self.temporal.target}
        return self.settings.model_copy(update=ends)

    # Producing.

    async def create(
        self,
        name: str = NIGHTLY,
        *,
        by: str | Principal = "alice",
        cron: str = "0 3 * * *",
        within: psycopg.AsyncConnection[Any] | None = None,
        **fields: Any,
    ) -> Intent:
        """Enqueue a create, in a transaction of its own or within the caller's."""
        principal = Principal(user_id=by) if isinstance(by, str) else by
        await self.may_use_the_agent(principal)
        request = CreateSchedule(
            agent_id=self.agent, name=name, cron_expression=cron, **{**_REQUEST, **fields}
        )
        if within is not None:
            return await outbox.enqueue_create(within, request, principal=principal)
        async with self.producer() as producer:
            return await outbox.enqueue_create(producer, request, principal=principal)

    async def update(
        self,
        name: str = NIGHTLY,
        *,
        by: str | Principal = "alice",
        within: psycopg.AsyncConnection[Any] | None = None,
        **changes: Any,
    ) -> Intent:
        """Enqueue an update, in a transaction of its own or within the caller's."""
        principal = Principal(user_id=by) if isinstance(by, str) else by
        request = UpdateSchedule(agent_id=self.agent, name=name, **changes)
        if within is not None:
            return await outbox.enqueue_update(within, request, principal=principal)
        async with self.producer() as producer:
            return await outbox.enqueue_update(producer, request, principal=principal)

    async def delete(
        self,
        name: str = NIGHTLY,
        *,
        by: str | Principal = "alice",
        within: psycopg.AsyncConnection[Any] | None = None,
    ) -> Intent:
        """Enqueue a delete, in a transaction of its own or within the caller's."""
        principal = Principal(user_id=by) if isinstance(by, str) else by
        request = DeleteSchedule(agent_id=self.agent, name=name)
        if within is not None:
            return await outbox.enqueue_delete(within, request, principal=principal)
        async with self.producer() as producer:
            return await outbox.enqueue_delete(producer, request, principal=principal)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A producer's transaction, committed at the end."""
        async with await psycopg.AsyncConnection.connect(self.database_url) as connection:
            yield connection

    async def may_use_the_agent(self, principal: Principal) -> None:
        """Whoever creates schedules may use the agent: what a schedule denies is the schedule's doing."""
        kinds = {USER: principal.user_id, SERVICE_ACCOUNT: principal.service_account_id}
        for kind, subject in kinds.items():
            if subject and (kind, subject) not in self._welcome:
                self._welcome.add((kind, subject))
                await self.stores.put(Tuple(AGENT, self.agent, "editor", kind, subject))

    # Working.

    async def work(self, **settings: Any) -> dict[str, int]:
        """Run a worker until nothing is pending; return what it sums up."""
        async with asyncio.timeout(_WORK_SECONDS), self._open(until_idle=True, **settings) as worker:
            await worker.run()
        return worker.summary()

    @asynccontextmanager
    async def working(self, *, only: Consumer | None = None, **settings: Any) -> AsyncIterator[Worker]:
        """Inside, a worker runs."""
        async with self._open(only=only, **settings) as worker:
            running = asyncio.create_task(worker.run())
            try:
                yield worker
            finally:
                worker.stop()
                async with asyncio.timeout(_WORK_SECONDS):
                    await running

    @asynccontextmanager
    async def _open(
        self, *, until_idle: bool = False, only: Consumer | None = None, **settings: Any
    ) -> AsyncIterator[Worker]:
        with_changes = self.settings.model_copy(update=settings)
        async with (
            _relaying(with_changes),
            open_worker(with_changes, only=only, until_idle=until_idle) as worker,
        ):
            yield worker

    @asynccontextmanager
    async def process(self, log: Path, *arguments: str, **settings: Any) -> AsyncIterator["Process"]:
        """Inside, ``outbox run`` runs as a process of its own."""
        with_changes = self.settings.model_copy(update=settings)
        environment = environment_of(with_changes)
        async with AsyncExitStack() as around:
            await around.enter_async_context(_relaying(with_changes))
            stderr = around.enter_context(log.open("wb"))
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "outbox", "run", *arguments),
                env=environment,
                cwd=log.parent,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
            try:
                yield process
            finally:
                if process.returncode is None:
                    process.kill()
                await process.communicate()

    # Judging.

    async def agree(
        self,
        *,
        more: Mapping[str, Collection[Tuple]] | None = None,
        before: Snapshot | None = None,
        any_order: bool = False,
    ) -> None:
        """Assert that the three stores agree, and that nothing is left to do.

        The project's own check has to say so too: it and the checker share no code.
        """
        found = await disagreements(
            self.database_url, self.stores, more=more or {}, before=before or Snapshot(), any_order=any_order
        )
        assert not found, "\n".join(found)
        lanes = await self.ledger.rows("SELECT DISTINCT schedule_id FROM outbox.intents")
        theirs = {*before.relationships, *before.schedules} if before else set()
        ids = {row["schedule_id"] for row in lanes} - theirs
        report = await compare_stores(self._direct, ids=ids)
        assert report.drifts == []
        assert report.busy == []

    async def intact(self, *, schedule: Scheduled | None, tuples: set[Tuple], name: str = NIGHTLY) -> None:
        """Assert that what is under the name is exactly this, which others had put there before."""
        assert await self.stores.schedule(self.lane(name)) == schedule
        assert await self.stores.tuples(self.lane(name)) == tuples
        held = {self.lane(name): frozenset(map(words, tuples))} if tuples else {}
        await self.agree(before=Snapshot(held, {self.lane(name): schedule.record} if schedule else {}))

    def about(self, *texts: str | UUID) -> Callable[[Call], bool]:
        """Select the calls whose request holds all these texts."""
        wanted = [str(one).encode() for one in texts]
        return lambda call: all(one in call.request for one in wanted)


Process = asyncio.subprocess.Process


@asynccontextmanager
async def _relaying(settings: Settings) -> AsyncIterator[None]:
    """Inside, a relay runs where the wire has one."""
    if settings.wire is Wire.DIRECT:
        yield
        return
    async with open_relay(settings) as relay:
        running = asyncio.create_task(relay.run())
        try:
            yield
        finally:
            relay.stop()
            await running


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment of a process with these settings, and none of ours."""
    values = {
        f"OUTBOX_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in settings
        if value is not None
    }
    return {key: value for key, value in os.environ.items() if not key.startswith("OUTBOX_")} | values


async def said(log: Path, words: str) -> bool:
    """Whether a process has logged these words."""
    return words in await asyncio.to_thread(log.read_text)


async def ends_as(pipeline: Pipeline, intent_id: UUID, event: str, code: str | None = None) -> None:
    """Assert how an intent has ended."""
    assert await pipeline.ledger.ended_as(intent_id) == (event, code)
