"""A pipeline for each test: a database of its own, the real stores behind proxies of its own, either wire."""

import os
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from temporalio.client import Client

from consumers.authz.client import AuthzClient
from outbox.stack import StackInfo
from outbox.testing import FaultProxy
from tests.conftest import settings_for
from tests.pipeline.harness import Pipeline
from tests.pipeline.ledger import Ledger
from tests.pipeline.stores import Stores


@pytest.fixture(scope="session")
async def stores(stack: StackInfo, spicedb_schema: None) -> AsyncIterator[Stores]:
    del spicedb_schema  # there for its effect
    authz = AuthzClient.connect(stack.spicedb_endpoint, stack.spicedb_token, tls=False)
    temporal = await Client.connect(stack.temporal_address)
    async with grpc.aio.insecure_channel(stack.spicedb_endpoint) as channel:
        yield Stores(authz, channel, stack.spicedb_token, temporal)
    await authz.close()


@pytest.fixture
async def spicedb(stack: StackInfo) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(stack.spicedb_endpoint) as proxy:
        yield proxy


@pytest.fixture
async def temporal(stack: StackInfo) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(stack.temporal_address) as proxy:
        yield proxy


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The behaviour that must hold, and what is marked so, on both wires; all else on the direct one.

    TEST_WIRES=all runs everything on both.
    """
    if "wire" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker
        if marked("kafka_wire"):
            metafunc.parametrize("wire", ["kafka"])
            return
        both = not marked("direct_wire") and (
            os.environ.get("TEST_WIRES") == "all"
            or metafunc.module.__name__.endswith("test_behaviour")
            or marked("both_wires")
        )
        metafunc.parametrize("wire", ["direct", "kafka"] if both else ["direct"])


@pytest.fixture
async def pipeline(
    request: pytest.FixtureRequest,
    stack: StackInfo,
    database: str,
    stores: Stores,
    wire: str,
    *,
    spicedb: FaultProxy,
    temporal: FaultProxy,
    agent: str,
) -> AsyncIterator[Pipeline]:
    ends: dict[str, object] = {"spicedb_endpoint": spicedb.address, "temporal_address": temporal.address}
    if wire == "kafka":
        ends |= {"wire": "kafka", **request.getfixturevalue("topics")}
    # Holds last as long as these two together.
    times = {"step_timeout_seconds": 1.5, "lease_seconds": 2.0, "late_write_seconds": 0.5}
    # Repairs make calls of their own: only tests of theirs let workers do them.
    times["repair_concurrency"] = 0
    ledger = await Ledger.connect(database)
    yield Pipeline(
        settings_for(stack, database, **ends, **times),
        agent,
        spicedb=spicedb,
        temporal=temporal,
        stores=stores,
        ledger=ledger,
    )
    await ledger.close()
