"""Several outboxes share SpiceDB, each with a database and a Temporal namespace of its own, by agent."""

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

import outbox
from outbox.compose.audit import compare_stores
from outbox.errors import ErrorCode
from outbox.settings import Settings
from outbox.stack import StackInfo
from outbox.testing.databases import copied
from tests.audit.test_real_stores import ALICE, converge, create, drifts, enqueue
from tests.conftest import settings_for

NAMESPACE = "of-another-outbox"


@pytest.fixture
async def namespace(stack: StackInfo) -> str:
    client = await Client.connect(stack.temporal_address)
    kept = Duration()
    kept.FromTimedelta(timedelta(days=1))
    request = RegisterNamespaceRequest(namespace=NAMESPACE, workflow_execution_retention_period=kept)
    try:
        await client.workflow_service.register_namespace(request)
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
    return NAMESPACE


@pytest.fixture
def other(stack: StackInfo, template: str, namespace: str, spicedb_schema: None) -> Iterator[Settings]:
    del spicedb_schema
    with copied(stack, template) as url:
        with psycopg.connect(url) as connection:
            connection.execute("UPDATE outbox.instance SET id = gen_random_uuid()")
        yield settings_for(stack, url, temporal_namespace=namespace)


async def test_each_has_its_agents_and_leaves_the_others_alone(
    settings: Settings, other: Settings, agent: str
) -> None:
    theirs = f"{agent}-of-another"
    await enqueue(settings, (create(agent, "daily"), ALICE))
    await enqueue(other, (create(theirs, "daily"), ALICE))
    await converge(settings)
    await converge(other)
    assert await drifts(settings, agent) == []
    assert await drifts(other, theirs) == []
    # Each meets the registration of the other in SpiceDB; the schedule is in a namespace it does not see.
    assert await drifts(settings, theirs) == [("daily", "foreign")]
    assert await drifts(other, agent) == [("daily", "foreign")]
    assert (await compare_stores(settings, prefix=agent)).agrees


async def test_an_agent_of_both_is_a_conflict_for_the_second(
    settings: Settings, other: Settings, agent: str
) -> None:
    await enqueue(settings, (create(agent, "daily"), ALICE))
    await converge(settings)
    (second,) = await enqueue(other, (create(agent, "daily"), outbox.Principal(user_id="bob")))
    await converge(other)
    result = await outbox.wait(other.database_url.get_secret_value(), second, timeout=30)
    assert (result.status, result.error and result.error.code) == ("failed", ErrorCode.CONFLICT_FOREIGN)
    assert await drifts(settings, agent) == []
