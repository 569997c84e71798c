"""What the stores' own clients see of each fault: the texts that telling errors apart is built on."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest
from authzed.api.v1 import AsyncClient, ReadRelationshipsRequest, WriteRelationshipsRequest
from temporalio.api.common.v1 import WorkflowType
from temporalio.api.schedule.v1 import Schedule, ScheduleAction
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import CreateScheduleRequest, DescribeScheduleRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from outbox.stack.ports import pick
from outbox.testing import FaultProxy

CREATE = "CreateSchedule"
WRITE = "WriteRelationships"
REFUSED = "Failed to connect to remote host: Connection refused"
STARTUP_SECONDS = 240
# For calls that are not to time out: no wait for a busy machine is longer, short of the test's own end.
LONG = 240.0


@pytest.fixture(scope="module")
async def temporal_target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    port = pick(set())
    database = tmp_path_factory.mktemp("temporal") / "temporal.db"
    server = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("temporal"),
        *("server", "start-dev", "--headless", "--port", str(port), "--db-filename", str(database)),
        *("--sqlite-pragma", "synchronous=off", "--sqlite-pragma", "journal_mode=wal"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        await server.wait()


@pytest.fixture
async def temporal(temporal_target: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(temporal_target) as proxy:
        yield proxy


async def connected(proxy: FaultProxy) -> Client:
    """A client of a server that may still be starting."""
    async with asyncio.timeout(STARTUP_SECONDS):
        while True:
            with contextlib.suppress(RuntimeError):
                return await Client.connect(proxy.address)
            await asyncio.sleep(0.1)


async def create(client: Client, *, seconds: float = LONG) -> str:
    schedule_id = f"s-{uuid4()}"
    run = NewWorkflowExecutionInfo(
        workflow_id=f"{schedule_id}-run",
        workflow_type=WorkflowType(name="W"),
        task_queue=TaskQueue(name="q"),
    )
    request = CreateScheduleRequest(
        namespace="default",
        schedule_id=schedule_id,
        request_id=schedule_id,
        schedule=Schedule(action=ScheduleAction(start_workflow=run)),
    )
    timeout = timedelta(seconds=seconds)
    await client.workflow_service.create_schedule(request, retry=False, timeout=timeout)
    return schedule_id


async def exists(client: Client, schedule_id: str) -> bool:
    request = DescribeScheduleRequest(namespace="default", schedule_id=schedule_id)
    try:
        await client.workflow_service.describe_schedule(request, timeout=timedelta(seconds=LONG))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


def requested(proxy: FaultProxy) -> str:
    return CreateScheduleRequest.FromString(proxy.calls(CREATE)[-1].request).schedule_id


async def refusal(call: Awaitable[object]) -> tuple[RPCStatusCode, str]:
    with pytest.raises(RPCError) as caught:
        await call
    return caught.value.status, caught.value.message


async def test_temporal_passes_through(temporal: FaultProxy) -> None:
    client = await connected(temporal)
    assert await exists(client, await create(client))
    [call] = temporal.calls(CREATE)
    assert dict(call.metadata)["temporal-namespace"] == "default"
    request = DescribeScheduleRequest(namespace="default", schedule_id="nobody")
    with pytest.raises(RPCError) as caught:
        await client.workflow_service.describe_schedule(request)
    # The details travel in the trailing metadata.
    assert caught.value.grpc_status.details[0].type_url.endswith("NotFoundFailure")


@pytest.mark.parametrize(
    "status",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
    ],
)
async def test_temporal_refuses(temporal: FaultProxy, status: grpc.StatusCode) -> None:
    client = await connected(temporal)
    temporal.fail(CREATE, status=status, details="because")
    assert await refusal(create(client)) == (RPCStatusCode[status.name], "because")
    assert not await exists(client, requested(temporal))


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after_effect", [False, True])
async def test_temporal_is_cut(temporal: FaultProxy, *, after_effect: bool, reset: bool) -> None:
    client = await connected(temporal)
    temporal.cut(CREATE, after_effect=after_effect, reset=reset)
    # Not UNAVAILABLE: a connection lost after the send is UNKNOWN here.
    assert await refusal(create(client)) == (RPCStatusCode.UNKNOWN, "transport error")
    assert len(temporal.calls(CREATE)) == 1
    assert await exists(await connected(temporal), requested(temporal)) is after_effect


async def test_temporal_times_out(temporal: FaultProxy) -> None:
    client = await connected(temporal)
    lost = temporal.lose_reply(CREATE, status=None)
    # The client sends its deadline along, so the server's word that it has passed may come first.
    assert await refusal(create(client, seconds=0.5)) in {
        (RPCStatusCode.CANCELLED, "Timeout expired"),
        (RPCStatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"),
    }
    await lost.calls[0].answered.wait()
    assert await exists(client, requested(temporal))
    async with temporal.black_hole():
        assert await refusal(create(client, seconds=0.5)) == (RPCStatusCode.CANCELLED, "Timeout expired")


async def test_temporal_applies_late(temporal: FaultProxy) -> None:
    client = await connected(temporal)
    late = temporal.apply_late(CREATE)
    assert (await refusal(create(client)))[0] is RPCStatusCode.DEADLINE_EXCEEDED
    assert not await exists(client, requested(temporal))
    assert (await late.release()).status is grpc.StatusCode.OK
    assert await exists(client, requested(temporal))


async def test_temporal_is_gone(temporal: FaultProxy) -> None:
    client = await connected(temporal)
    async with temporal.outage():
        # Calls may still go to the lost connection; they are told so, and haven't arrived either.
        while (told := await refusal(create(client))) != (RPCStatusCode.UNAVAILABLE, "tcp connect error"):
            assert told in {
                (RPCStatusCode.UNKNOWN, "transport error"),
                (RPCStatusCode.CANCELLED, "operation was canceled"),
            }
        lazy = await Client.connect(temporal.address, lazy=True)
        with pytest.raises(
            RuntimeError, match=r"^Failed client connect: .*tcp connect error.*Connection refused"
        ):
            await create(lazy)
    assert temporal.calls(CREATE) == []
    assert await exists(lazy, await create(lazy))


async def test_temporal_call_is_cancelled(temporal: FaultProxy) -> None:
    client = await connected(temporal)
    gate = temporal.gate(CREATE)
    task = asyncio.create_task(create(client))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await temporal.calls(CREATE)[0].ended.wait()
    gate.open()
    assert not await exists(client, requested(temporal))


class Relationships:
    """Accepts every write and reads two empty relationships back."""

    def service(self, details: Any) -> Any:
        if details.method.endswith("/ReadRelationships"):
            return grpc.unary_stream_rpc_method_handler(self.read)
        return grpc.unary_unary_rpc_method_handler(self.write)

    async def write(self, _request: bytes, _context: Any) -> bytes:
        return b""

    async def read(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b""
        yield b""


@pytest.fixture
async def spicedb() -> AsyncIterator[FaultProxy]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Relationships(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with FaultProxy(f"127.0.0.1:{port}") as proxy:
        yield proxy
    await server.stop(None)


def authzed_client(proxy: FaultProxy) -> Any:
    token = grpc.access_token_call_credentials("token")
    return AsyncClient(
        proxy.address, grpc.composite_channel_credentials(grpc.local_channel_credentials(), token)
    )


@pytest.fixture
async def write(spicedb: FaultProxy) -> Callable[..., Awaitable[object]]:
    client = authzed_client(spicedb)

    async def write(seconds: float = LONG) -> None:
        await client.WriteRelationships(
            WriteRelationshipsRequest(), timeout=seconds, metadata=(("x-account-id", "a1"),)
        )

    return write


async def authzed_refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def test_spicedb_passes_through(spicedb: FaultProxy, write: Callable[..., Awaitable[object]]) -> None:
    await write()
    metadata = dict(spicedb.calls(WRITE)[0].metadata)
    assert (metadata["authorization"], metadata["x-account-id"]) == ("Bearer token", "a1")
    client = authzed_client(spicedb)
    assert len([found async for found in client.ReadRelationships(ReadRelationshipsRequest())]) == 2


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after_effect", [False, True])
async def test_spicedb_is_cut(
    spicedb: FaultProxy, write: Callable[..., Awaitable[object]], *, after_effect: bool, reset: bool
) -> None:
    cut = spicedb.cut(WRITE, after_effect=after_effect, reset=reset)
    code, text = await authzed_refusal(write())
    assert code is grpc.StatusCode.UNAVAILABLE
    # In brackets stands what the socket said, which depends on who was writing.
    assert text.startswith("Stream removed (")
    assert [call.forwarded for call in cut.calls] == [after_effect]


async def test_spicedb_times_out(spicedb: FaultProxy, write: Callable[..., Awaitable[object]]) -> None:
    await write()
    spicedb.swallow(WRITE)
    timed_out = (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    assert await authzed_refusal(write(0.3)) == timed_out
    async with spicedb.black_hole():
        assert await authzed_refusal(write(0.3)) == timed_out


async def test_spicedb_is_gone(spicedb: FaultProxy, write: Callable[..., Awaitable[object]]) -> None:
    async with spicedb.outage():
        for _ in range(2):
            code, text = await authzed_refusal(write())
            assert code is grpc.StatusCode.UNAVAILABLE
            assert text.startswith("failed to connect to all addresses; last error: ")
            assert text.endswith(REFUSED)
    assert spicedb.calls() == []
