"""What Temporal really does, where the effects rest on it; and that the one in memory does the same."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import grpc
import pytest
from temporalio.api.common.v1 import Memo, WorkflowType
from temporalio.api.schedule.v1 import Schedule, ScheduleAction, ScheduleSpec
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    CreateScheduleRequest,
    DeleteScheduleRequest,
    DescribeScheduleRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from consumers.calls import Call, StoreFailure
from consumers.temporal.client import Found, TemporalClient
from consumers.temporal.request import stamp_in, stamp_memo
from outbox.flow.outcome import Misconfigured
from outbox.stack import StackInfo
from outbox.testing import FaultProxy
from tests.contracts.memory import temporal_in_memory
from tests.simulation.temporal import Client as MemoryClient

SECONDS = timedelta(seconds=10)
Service = Client | MemoryClient


class Raw:
    """The server's schedule service, one call at a time."""

    def __init__(self, client: Service, schedule_id: str) -> None:
        self._service: Any = client.workflow_service
        self._id = schedule_id

    def request(self, request_id: str, *, cron: str = "0 3 * * *", **fields: Any) -> CreateScheduleRequest:
        workflow = NewWorkflowExecutionInfo(
            workflow_id="run", workflow_type=WorkflowType(name="Run"), task_queue=TaskQueue(name="agents")
        )
        schedule = Schedule(
            spec=ScheduleSpec(cron_string=[cron]), action=ScheduleAction(start_workflow=workflow)
        )
        defaults: dict[str, Any] = {"namespace": "default", "schedule_id": self._id, "schedule": schedule}
        return CreateScheduleRequest(request_id=request_id, **{**defaults, **fields})

    async def create(self, request_id: str, **fields: Any) -> None:
        await self.send(self.request(request_id, **fields))

    async def send(self, request: CreateScheduleRequest) -> None:
        await self._service.create_schedule(request, retry=False, timeout=SECONDS)

    async def delete(self, namespace: str = "default") -> None:
        request = DeleteScheduleRequest(namespace=namespace, schedule_id=self._id)
        await self._service.delete_schedule(request, retry=False, timeout=SECONDS)

    async def memo(self, namespace: str = "default") -> Memo:
        request = DescribeScheduleRequest(namespace=namespace, schedule_id=self._id)
        answer = await self._service.describe_schedule(request, retry=False, timeout=SECONDS)
        return cast("Memo", answer.memo)

    async def exists(self) -> bool:
        try:
            await self.memo()
        except RPCError as failure:
            if failure.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True


@pytest.fixture(params=["server", "memory"])
async def client(request: pytest.FixtureRequest) -> Service:
    """The server's client, or what stands for it in simulations."""
    if request.param == "memory":
        return temporal_in_memory()
    stack: StackInfo = request.getfixturevalue("stack")
    return await Client.connect(stack.temporal_address)


@pytest.fixture
def raw(client: Service, schedule_id: str) -> Raw:
    return Raw(client, schedule_id)


async def error(call: Any) -> tuple[RPCStatusCode, str, list[str]]:
    with pytest.raises(RPCError) as caught:
        await call
    found = caught.value
    details = [detail.type_url.rpartition(".")[2] for detail in found.grpc_status.details]
    return found.status, found.message, details


async def test_a_request_id_makes_a_create_repeatable(raw: Raw) -> None:
    first, second = str(uuid4()), str(uuid4())
    await raw.create(first, memo=stamp_memo("first", "ours"))
    # The body is not looked at: only the stamp tells what exists.
    await raw.create(first, memo=stamp_memo("second", "ours"))
    assert stamp_in(await raw.memo()) == "first"
    status, _, details = await error(raw.create(second))
    assert status is RPCStatusCode.ALREADY_EXISTS
    assert details == ["WorkflowExecutionAlreadyStartedFailure"]


async def test_a_remembered_request_id_answers_ok_and_creates_nothing(raw: Raw) -> None:
    await raw.create("a")
    await raw.delete()
    await raw.create("a")
    assert not await raw.exists()


async def test_only_the_last_request_id_is_remembered(raw: Raw) -> None:
    for request_id in ("a", "b"):
        await raw.create(request_id)
        await raw.delete()
    await raw.create("a")
    assert await raw.exists()


async def test_what_is_not_found_says_whether_it_is_the_schedule_or_the_namespace(
    client: Service, raw: Raw
) -> None:
    await raw.create("a")
    await raw.delete()
    gone = [await error(raw.memo()), await error(raw.delete())]
    never = Raw(client, str(uuid4()))
    gone += [await error(never.memo()), await error(never.delete())]
    for status, _, details in gone:
        assert (status, details) == (RPCStatusCode.NOT_FOUND, ["NotFoundFailure"])
    elsewhere = [
        await error(raw.memo("nowhere")),
        await error(raw.delete("nowhere")),
        await error(raw.create("b", namespace="nowhere")),
    ]
    for answer in elsewhere:
        assert answer == (
            RPCStatusCode.NOT_FOUND,
            "Namespace nowhere is not found.",
            ["NamespaceNotFoundFailure"],
        )


async def test_the_list_tells_each_schedules_stamp(client: Service, raw: Raw, schedule_id: str) -> None:
    await raw.create("a", memo=stamp_memo("mine", "ours"))
    ours = TemporalClient(cast("Client", client))
    found: dict[str, Found] = {}
    # The list lags.
    async with asyncio.timeout(240):
        while schedule_id not in found:
            token, found = b"", {}
            while True:
                page = await ours.list_page(token, Call.within(10), limit=500)
                found |= page.schedules
                token = page.following
                if not token:
                    break
    assert found[schedule_id] == Found("mine")


def with_time_zone(request: CreateScheduleRequest) -> None:
    request.schedule.spec.timezone_name = "Mars/Olympus"


def with_two_time_zones(request: CreateScheduleRequest) -> None:
    request.schedule.spec.timezone_name = "Europe/Rome"
    request.schedule.spec.cron_string[0] = "CRON_TZ=UTC 0 3 * * *"


def without_type(request: CreateScheduleRequest) -> None:
    request.schedule.action.start_workflow.workflow_type.name = ""


def without_task_queue(request: CreateScheduleRequest) -> None:
    request.schedule.action.start_workflow.task_queue.name = ""


def with_a_bad_cron(request: CreateScheduleRequest) -> None:
    request.schedule.spec.cron_string[0] = "now and then"


def with_an_empty_cron(request: CreateScheduleRequest) -> None:
    request.schedule.spec.cron_string[0] = ""


def with_large_arguments(request: CreateScheduleRequest) -> None:
    request.schedule.action.start_workflow.input.payloads.add(data=b"x" * 3 * 1024 * 1024)


def without_id(request: CreateScheduleRequest) -> None:
    request.schedule_id = ""


def with_a_long_id(request: CreateScheduleRequest) -> None:
    request.schedule_id = "x" * 1001


def without_request_id(request: CreateScheduleRequest) -> None:
    request.request_id = ""


@pytest.mark.parametrize(
    "spoil",
    [
        with_time_zone,
        with_two_time_zones,
        without_type,
        without_task_queue,
        with_a_bad_cron,
        with_an_empty_cron,
        with_large_arguments,
        without_id,
        with_a_long_id,
        without_request_id,
    ],
)
async def test_what_can_never_be_is_an_invalid_argument(
    raw: Raw, spoil: Callable[[CreateScheduleRequest], None]
) -> None:
    request = raw.request("a")
    spoil(request)
    assert (await error(raw.send(request)))[0] is RPCStatusCode.INVALID_ARGUMENT


async def test_what_is_larger_than_a_message_is_resource_exhausted(raw: Raw) -> None:
    request = raw.request("a")
    request.schedule.action.start_workflow.input.payloads.add(data=b"x" * 5 * 1024 * 1024)
    status, text, _ = await error(raw.send(request))
    assert status is RPCStatusCode.RESOURCE_EXHAUSTED
    assert "received message" in text
    assert "larger than max" in text


@pytest.mark.parametrize(
    "status",
    [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED],
    ids=lambda one: str(one.name),
)
async def test_refused_credentials_show_while_the_connection_is_made(
    temporal: FaultProxy, status: grpc.StatusCode
) -> None:
    temporal.fail("GetSystemInfo", status=status, details="Request unauthorized.", times=None)
    client = await TemporalClient.connect(temporal.address, "default")
    with pytest.raises(StoreFailure) as caught:
        await client.check(Call.within(10))
    assert isinstance(caught.value.outcome, Misconfigured)
    assert caught.value.outcome.message.startswith("temporal: RuntimeError: Failed client connect")


async def test_tls_towards_a_server_without_is_a_misconfiguration(stack: StackInfo) -> None:
    client = TemporalClient(await Client.connect(stack.temporal_address, tls=True, lazy=True))
    with pytest.raises(StoreFailure) as caught:
        await client.check(Call.within(10))
    assert isinstance(caught.value.outcome, Misconfigured)


async def test_check_finds_the_namespace_or_says_so(stack: StackInfo, schedules: TemporalClient) -> None:
    await schedules.check(Call.within(10))
    client = await TemporalClient.connect(stack.temporal_address, "nowhere")
    with pytest.raises(StoreFailure) as caught:
        await client.check(Call.within(10))
    assert isinstance(caught.value.outcome, Misconfigured)
