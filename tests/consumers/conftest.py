"""The real SpiceDB and Temporal, each behind a fault proxy; and dispatches for a lane of the test's own."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from consumers.authz.client import AuthzClient
from consumers.authz.effects import AuthzEffects
from consumers.calls import Call, StoreFailure
from consumers.temporal.client import TemporalClient
from consumers.temporal.effects import TemporalEffects
from outbox.flow.dispatch import Creator, Dispatch, Standing
from outbox.flow.table import EventType, Kind
from outbox.stack import StackInfo, library
from outbox.stack.ports import pick
from outbox.testing import FaultProxy

REQUEST = {"workflow_name": "Run", "task_queue": "agents", "cron_expression": "0 3 * * *"}

INSTANCE = UUID(int=7)


class MemoryLedger:
    """Knows of each stamp what the test says; all others are foreign."""

    def __init__(self, standings: dict[str, Standing]) -> None:
        self._standings = standings

    async def standing(self, schedule_id: str, stamp: str) -> Standing:
        del schedule_id
        return self._standings.get(stamp, Standing.FOREIGN)


@pytest.fixture(scope="session")
async def relationships(stack: StackInfo, spicedb_schema: None) -> AsyncIterator[AuthzClient]:
    """SpiceDB with the schema, without a proxy: to prepare and to look."""
    del spicedb_schema
    client = AuthzClient.connect(stack.spicedb_endpoint, stack.spicedb_token, tls=False)
    yield client
    await client.close()


@pytest.fixture(scope="session")
async def schedules(stack: StackInfo) -> TemporalClient:
    """Temporal without a proxy: to prepare and to look."""
    return await TemporalClient.connect(stack.temporal_address, "default")


@pytest.fixture
def standings() -> dict[str, Standing]:
    return {}


@pytest.fixture
async def spicedb(stack: StackInfo) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(stack.spicedb_endpoint) as proxy:
        yield proxy


@pytest.fixture
async def temporal(stack: StackInfo) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(stack.temporal_address) as proxy:
        yield proxy


@pytest.fixture
async def authz_effects(
    stack: StackInfo, spicedb: FaultProxy, relationships: AuthzClient, standings: dict[str, Standing]
) -> AsyncIterator[AuthzEffects]:
    del relationships  # there for the schema
    client = AuthzClient.connect(spicedb.address, stack.spicedb_token, tls=False)
    yield AuthzEffects(client, MemoryLedger(standings))
    await client.close()


@pytest.fixture
async def temporal_effects(temporal: FaultProxy, standings: dict[str, Standing]) -> TemporalEffects:
    client = await TemporalClient.connect(temporal.address, "default")
    return TemporalEffects(client, MemoryLedger(standings), INSTANCE)


@pytest.fixture(scope="session")
async def blank_endpoint() -> AsyncIterator[str]:
    """A second SpiceDB, for tests that need a schema of their own: a server has but one."""
    port = pick(set())
    with tempfile.TemporaryDirectory(prefix="schema-") as folder:
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "outbox.stack.spicedb_server", folder, str(port)),
            env={**os.environ, **library.environment(), "OUTBOX_SPICEDB_TOKEN": "token"},
        )
        yield f"127.0.0.1:{port}"
        server.terminate()
        await server.wait()


@pytest.fixture
async def blank(blank_endpoint: str) -> AsyncIterator[AuthzClient]:
    """The second SpiceDB, without a schema."""
    client = AuthzClient.connect(blank_endpoint, "token", tls=False)
    async with asyncio.timeout(240):
        while True:
            try:
                await client.write_schema("", Call.within(5))
                break
            except StoreFailure:
                await asyncio.sleep(0.1)
    yield client
    await client.close()


@pytest.fixture
def schedule_id() -> str:
    return f"agent-{uuid4().hex}--nightly"


@pytest.fixture
def dispatch(schedule_id: str) -> Callable[..., Dispatch]:
    """Makes dispatches of the test's lane: by default of a new intent, by ``alice``, for two minutes."""

    def make(
        event_type: EventType, *, intent: UUID | None = None, seconds: float = 120, **fields: Any
    ) -> Dispatch:
        defaults: dict[str, Any] = {
            "schedule_id": schedule_id,
            "kind": Kind.CREATE,
            "lease_number": 1,
            "attempt": 1,
            "request": REQUEST,
            "creator": Creator(user_id="alice"),
        }
        return Dispatch(
            intent_id=intent or uuid4(),
            event_type=event_type,
            deadline=time.monotonic() + seconds,
            **{**defaults, **fields},
        )

    return make
