"""Real troubles, a real Prometheus: each fires its alert, and the alert goes quiet when the trouble is over.

The rules are those that are shipped, with other numbers: what takes a quarter of an hour there takes a moment
here.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
import yaml  # type: ignore[import-untyped]

import outbox
from consumers.calls import Call
from outbox.compose import foreign
from outbox.compose.clients import temporal_client
from outbox.settings import Settings
from outbox.stack import Stack, StackInfo
from outbox.stack.ports import pick
from outbox.testing import FaultProxy
from tests.conftest import settings_for
from tests.pipeline.conftest import spicedb, temporal
from tests.pipeline.harness import environment_of
from tests.telemetry.prometheus import EXAMPLES, Server, prometheus, served

__all__ = ["prometheus", "spicedb", "temporal"]

SOONER = {
    "_head_age_seconds) > 300": "_head_age_seconds) > 3",
    "_revocation_age_seconds) > 15": "_revocation_age_seconds) > 3",
    "_revocation_age_seconds) > 45": "_revocation_age_seconds) > 4",
    "_breaker_age_seconds) > 300": "_breaker_age_seconds) > 1",
    "_breaker_age_seconds) > 1800": "_breaker_age_seconds) > 2",
    "[15m])) > 10": "[30s])) > 0",
    "_unpublished_events) > 100": "_unpublished_events) > 0",
    "[15m]": "[30s]",
}
FIRING = 'ALERTS{alertstate="firing"}'


def hastened(folder: Path) -> Path:
    """The rules, all of which fire at once for little."""
    rules = yaml.safe_load((EXAMPLES / "alerts.yaml").read_text("utf-8"))
    untouched = set(SOONER)
    for rule in rules["groups"][0]["rules"]:
        rule.pop("for", None)
        for slow, fast in SOONER.items():
            if slow in rule["expr"]:
                untouched.discard(slow)
                rule["expr"] = rule["expr"].replace(slow, fast)
    assert not untouched
    (folder / "hastened.yaml").write_text(yaml.safe_dump(rules))
    return folder / "hastened.yaml"


class Scene:
    """An outbox with its stores, its workers and their Prometheus.

    Attributes:
        server: that Prometheus.
        settings: what workers work with.
    """

    def __init__(self, settings: Settings, agent: str, server: Server, folder: Path) -> None:
        self.settings = settings
        self.server = server
        self._agent = agent
        self._log = folder / "workers.log"
        self._workers: list[asyncio.subprocess.Process] = []

    def lane(self, name: str) -> str:
        return f"{self._agent}--{name}"

    async def create(self, *names: str) -> list[outbox.Intent]:
        async with await psycopg.AsyncConnection.connect(self.settings.session_url) as connection:
            entries: Any = [
                outbox.CreateSchedule(
                    agent_id=self._agent, name=name, workflow_name="W", task_queue="q", interval_seconds=3600
                )
                for name in names
            ]
            alice = outbox.Principal(user_id="alice")
            return await outbox.enqueue_many(connection, [(entry, alice) for entry in entries])

    async def delete(self, name: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.settings.session_url) as connection:
            request = outbox.DeleteSchedule(agent_id=self._agent, name=name)
            await outbox.enqueue_delete(connection, request, principal=outbox.Principal(user_id="alice"))

    async def ends(self, *intents: outbox.Intent) -> None:
        for intent in intents:
            await outbox.wait(self.settings.session_url, intent.id, timeout=90)

    async def say(self, statement: str, *parameters: object) -> None:
        async with await psycopg.AsyncConnection.connect(self.settings.session_url) as connection:
            await connection.execute(statement.encode(), parameters)

    async def start(self, port: int) -> asyncio.subprocess.Process:
        """Start a worker that is scraped at a port."""
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "outbox", "run", f"--http-port={port}"),
                env=environment_of(self.settings),
                stderr=log,
            )
        self._workers.append(process)
        return process

    async def kill(self) -> None:
        for process in self._workers:
            if process.returncode is None:
                process.kill()
            await process.wait()
        self._workers.clear()

    async def sees(self, query: str, *, none: bool = False) -> None:
        await asyncio.to_thread(self.server.wait_for, query, none=none)

    async def fires(self, *alerts: str) -> None:
        """Wait until each of these (its name, or its name and labels) fires, one after the other."""
        for alert in alerts:
            name, _, labels = alert.partition(" ")
            await self.sees(
                f'ALERTS{{alertstate="firing",alertname="Outbox{name}"{labels and "," + labels}}}'
            )

    async def is_quiet(self) -> None:
        await self.sees(FIRING, none=True)


@pytest.fixture
async def scene(
    stack: StackInfo,
    spicedb_schema: None,
    database: str,
    topics: dict[str, object],
    agent: str,
    prometheus: Path,
    tmp_path: Path,
    *,
    spicedb: FaultProxy,
    temporal: FaultProxy,
) -> AsyncIterator[tuple[Scene, list[int]]]:
    del spicedb_schema  # there for its effect
    settings = settings_for(
        stack,
        database,
        spicedb_endpoint=spicedb.address,
        temporal_address=temporal.address,
        retry_max_strikes=3,
        audit_rate_per_second=50.0,
        **topics,
    )
    ports = [pick(set())]
    ports.append(pick(set(ports)))
    with served(prometheus, ports, hastened(tmp_path), tmp_path) as server:
        scene = Scene(settings, agent, server, tmp_path)
        await scene.say("UPDATE outbox.instance SET publishes = true")
        try:
            yield scene, ports
        finally:
            await scene.kill()


@pytest.mark.campaign(seconds=90)
@pytest.mark.timeout(600)
async def test_each_trouble_fires_its_alert_which_goes_quiet_after_it(
    scene: tuple[Scene, list[int]],
    running_stack: Stack,
    *,
    spicedb: FaultProxy,
    temporal: FaultProxy,
) -> None:
    it, (first, second) = scene
    worker = await it.start(first)
    await it.ends(*await it.create("gone", "drifts", "halted"))
    await it.is_quiet()

    await _schedules_go_wrong(it, spicedb)
    await _stores_and_broker_are_away(it, spicedb, temporal, running_stack)
    await _postgres_is_away(it, running_stack)
    await _a_worker_is_frozen(it, spicedb, worker, second)

    await it.kill()
    await it.fires("NoWorker")
    await it.start(first)
    await it.is_quiet()


async def _schedules_go_wrong(it: Scene, spicedb: FaultProxy) -> None:
    """One parks, some fail, one drifts, one is halted; a person mends each."""
    spicedb.fail(
        "WriteRelationships",
        status=grpc.StatusCode.FAILED_PRECONDITION,
        details="nobody knows why",
        when=lambda call: it.lane("parks").encode() in call.request,
        times=None,
    )
    (parks,) = await it.create("parks")
    await it.say("SELECT outbox.hold_by('ann', 'test', %s, 'infinity')", it.lane("halted"))
    await it.delete("halted")
    for name in ("held", "held-too"):
        await foreign.hold_in_spicedb(it.settings, it.lane(name), "mallory")
        await it.ends(*await it.create(name))
        # An increase is only seen of a counter that was there before.
        await it.sees('outbox_intents_ended_total{code="conflict_foreign"}')
    schedules = await temporal_client(it.settings)
    await schedules.delete(it.lane("drifts"), Call.within(10.0))
    await it.fires("Failing", "Parked", "Drift", "Halted")

    spicedb.clear()
    await it.say("SELECT outbox.replay_by('ann', 'test', %s, false, false)", parks.id)
    await it.say("SELECT outbox.release_by('ann', 'test', %s)", it.lane("halted"))
    await it.say("SELECT outbox.repair_by('ann', 'test', %s, false)", it.lane("drifts"))
    await it.is_quiet()


async def _stores_and_broker_are_away(
    it: Scene, spicedb: FaultProxy, temporal: FaultProxy, stack: Stack
) -> None:
    async with AsyncExitStack() as outages:
        await outages.enter_async_context(spicedb.outage())
        await outages.enter_async_context(temporal.black_hole())
        await outages.enter_async_context(_paused(stack, "kafka"))
        await it.delete("gone")
        await it.create("new")
        # They become no more, so that this one does not last.
        await it.fires("Unpublished")
        await it.fires('BreakerOpen consumer="authz"', 'BreakerOpen consumer="temporal"')
        await it.fires("HeadOld", "RevocationLate")
    await it.is_quiet()


async def _postgres_is_away(it: Scene, stack: Stack) -> None:
    await asyncio.to_thread(stack.kill, "postgres")
    try:
        await it.fires("PostgresAway")
    finally:
        await asyncio.to_thread(stack.start, "postgres")
    await it.is_quiet()


async def _a_worker_is_frozen(
    it: Scene, spicedb: FaultProxy, worker: asyncio.subprocess.Process, port: int
) -> None:
    """For longer than its lease; another has taken its step over by then."""
    gate = spicedb.gate("WriteRelationships")
    (intent,) = await it.create("late")
    await gate.reached.wait()
    worker.send_signal(signal.SIGSTOP)
    gate.open()
    await it.start(port)
    await it.ends(intent)
    worker.send_signal(signal.SIGCONT)
    await it.fires("SettlementsDropped")
    await it.is_quiet()


@asynccontextmanager
async def _paused(stack: Stack, name: Any) -> AsyncIterator[None]:
    await asyncio.to_thread(stack.pause, name)
    try:
        yield
    finally:
        await asyncio.to_thread(stack.resume, name)
