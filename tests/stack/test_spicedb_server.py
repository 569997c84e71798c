"""The embedded SpiceDB answers the ordinary client as a server would, and replays exactly what it took."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

import grpc
import grpc.aio
import pytest
from authzed.api.v1 import (
    AsyncClient,
    CheckPermissionRequest,
    Consistency,
    DeleteRelationshipsRequest,
    DeleteRelationshipsResponse,
    LookupResourcesRequest,
    ObjectReference,
    Precondition,
    ReadRelationshipsRequest,
    ReadSchemaRequest,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectReference,
    WatchRequest,
    WriteRelationshipsRequest,
    WriteSchemaRequest,
)
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpcutil import insecure_bearer_token_credentials

from outbox.stack import Stack, StackInfo

SCHEMA = """
definition user {}
definition kept {
    relation owner: user
}
definition doc {
    relation owner: user
    relation viewer: user
    permission view = owner + viewer
}
"""
CREATE, TOUCH, DELETE = (
    RelationshipUpdate.OPERATION_CREATE,
    RelationshipUpdate.OPERATION_TOUCH,
    RelationshipUpdate.OPERATION_DELETE,
)


def running(stack: Stack) -> StackInfo:
    found = stack.info()
    assert found is not None
    return found


def connect(stack: Stack) -> AsyncClient:
    where = running(stack)
    return AsyncClient(where.spicedb_endpoint, insecure_bearer_token_credentials(where.spicedb_token))


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[AsyncClient]:
    client = connect(stack)
    await client.WriteSchema(WriteSchemaRequest(schema=SCHEMA))
    await client.DeleteRelationships(DeleteRelationshipsRequest(relationship_filter=of("doc")))
    yield client
    # A new connection: one that has seen the server down waits before it tries again.
    await connect(stack).DeleteRelationships(DeleteRelationshipsRequest(relationship_filter=of("doc")))


def of(resource_type: str, resource: str = "") -> RelationshipFilter:
    return RelationshipFilter(resource_type=resource_type, optional_resource_id=resource)


def doc(resource: str, *, relation: str = "owner", subject: str = "ann", kind: str = "doc") -> Relationship:
    return Relationship(
        resource=ObjectReference(object_type=kind, object_id=resource),
        relation=relation,
        subject=SubjectReference(object=ObjectReference(object_type="user", object_id=subject)),
    )


def write(
    *relationships: Relationship,
    operation: "RelationshipUpdate.Operation.ValueType" = CREATE,
    unless: Iterable[RelationshipFilter] = (),
) -> WriteRelationshipsRequest:
    must_not = Precondition.OPERATION_MUST_NOT_MATCH
    return WriteRelationshipsRequest(
        updates=[RelationshipUpdate(operation=operation, relationship=one) for one in relationships],
        optional_preconditions=[Precondition(operation=must_not, filter=one) for one in unless],
    )


async def everything(client: AsyncClient) -> list[str]:
    request = ReadRelationshipsRequest(
        consistency=Consistency(fully_consistent=True), relationship_filter=of("doc")
    )
    found = [answer.relationship async for answer in client.ReadRelationships(request)]
    return sorted(f"{r.resource.object_id}#{r.relation}@{r.subject.object.object_id}" for r in found)


async def refusal(call: object) -> tuple[grpc.StatusCode, str, str]:
    """The status, the text and the reason of a call that is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    error = caught.value
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    info = ErrorInfo()
    if details:
        Status.FromString(details).details[0].Unpack(info)
    return error.code(), error.details() or "", info.reason.removeprefix("ERROR_REASON_")


@pytest.mark.parametrize(
    ("header", "code", "text"),
    [
        (
            None,
            "UNAUTHENTICATED",
            "rpc error: code = Unauthenticated desc = Request unauthenticated with bearer",
        ),
        (
            "Basic x",
            "UNAUTHENTICATED",
            "rpc error: code = Unauthenticated desc = Request unauthenticated with bearer",
        ),
        ("x", "UNAUTHENTICATED", "rpc error: code = Unauthenticated desc = Bad authorization string"),
        ("Bearer wrong", "PERMISSION_DENIED", "invalid token"),
    ],
)
@pytest.mark.parametrize("method", ["SchemaService/ReadSchema", "PermissionsService/ReadRelationships"])
async def test_a_call_without_the_token_is_refused_as_by_spicedb(
    stack: Stack, method: str, header: str | None, code: str, text: str
) -> None:
    metadata = (("authorization", header),) if header else ()
    async with grpc.aio.insecure_channel(running(stack).spicedb_endpoint) as channel:
        call = channel.unary_unary(f"/authzed.api.v1.{method}")(b"", metadata=metadata)
        assert await refusal(call) == (grpc.StatusCode[code], f"invalid preshared key: {text}", "")


async def test_the_causes_of_a_refusal_can_be_told_apart(client: AsyncClient) -> None:
    await client.WriteRelationships(write(doc("a")))
    failed = grpc.StatusCode.FAILED_PRECONDITION
    precondition = 'operation:OPERATION_MUST_NOT_MATCH filter:{resource_type:"doc" optional_resource_id:"a"}'
    code, text, reason = await refusal(client.WriteRelationships(write(doc("b"), unless=[of("doc", "a")])))
    assert (code, reason) == (failed, "WRITE_OR_DELETE_PRECONDITION_FAILURE")
    # The engine puts one blank or two between the fields, at random.
    assert " ".join(text.split()) == f"unable to satisfy write precondition `{precondition}`"
    assert await refusal(client.WriteRelationships(write(doc("b", kind="none")))) == (
        failed,
        "object definition `none` not found",
        "UNKNOWN_DEFINITION",
    )
    assert await refusal(client.WriteRelationships(write(doc("b", relation="none")))) == (
        failed,
        "relation/permission `none` not found under definition `doc`",
        "UNKNOWN_RELATION_OR_PERMISSION",
    )
    code, text, reason = await refusal(client.WriteRelationships(write(doc("a"))))
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "ATTEMPT_TO_RECREATE_RELATIONSHIP")
    assert text.startswith("could not CREATE relationship `doc:a#owner@user:ann`, as it already existed.")
    assert await everything(client) == ["a#owner@ann"]


async def test_streams_pass_through_with_their_errors(client: AsyncClient) -> None:
    await client.WriteRelationships(write(*(doc(f"d{number}") for number in range(300))))
    request = LookupResourcesRequest(
        consistency=Consistency(fully_consistent=True),
        resource_object_type="doc",
        permission="view",
        subject=SubjectReference(object=ObjectReference(object_type="user", object_id="ann")),
    )
    assert len([answer async for answer in client.LookupResources(request)]) == 300
    unknown = ReadRelationshipsRequest(relationship_filter=of("none"))
    code, text, _ = await refusal(client.ReadRelationships(unknown).read())
    assert (code, text) == (grpc.StatusCode.FAILED_PRECONDITION, "object definition `none` not found")


async def test_what_could_not_be_journaled_is_not_offered(stack: Stack) -> None:
    where = running(stack)
    async with grpc.aio.insecure_channel(where.spicedb_endpoint) as channel:
        call = channel.unary_unary("/authzed.api.v1.PermissionsService/ImportBulkRelationships")
        metadata = (("authorization", f"Bearer {where.spicedb_token}"),)
        assert (await refusal(call(b"", metadata=metadata)))[0] is grpc.StatusCode.UNIMPLEMENTED


async def test_a_replay_after_a_kill_is_exact(stack: Stack, client: AsyncClient) -> None:
    await client.WriteRelationships(write(doc("held"), doc("gone"), doc("back"), unless=[of("doc")]))
    await client.WriteRelationships(write(doc("gone"), operation=DELETE))
    await client.WriteRelationships(write(doc("back"), operation=DELETE))
    await client.WriteRelationships(write(doc("back")))
    await client.WriteRelationships(write(doc("held"), doc("held", subject="bob"), operation=TOUCH))
    await refusal(client.WriteRelationships(write(doc("new"), doc("held"))))
    await client.WriteRelationships(write(*(doc("part", subject=f"u{number}") for number in range(10))))
    answer = await client.DeleteRelationships(
        DeleteRelationshipsRequest(
            relationship_filter=of("doc", "part"), optional_limit=4, optional_allow_partial_deletions=True
        )
    )
    assert answer.deletion_progress == DeleteRelationshipsResponse.DELETION_PROGRESS_PARTIAL
    await client.WriteRelationships(write(*(doc("all", subject=f"u{number}") for number in range(10))))
    await client.DeleteRelationships(DeleteRelationshipsRequest(relationship_filter=of("doc", "all")))
    before = await everything(client)
    assert len(before) == 3 + 6
    schema = (await client.ReadSchema(ReadSchemaRequest())).schema_text
    for end in (stack.kill, stack.stop, stack.kill):
        end("spicedb")
        stack.start("spicedb")
        assert await everything(client) == before
        assert (await client.ReadSchema(ReadSchemaRequest())).schema_text == schema


async def test_writes_that_were_answered_survive_a_kill_under_load(stack: Stack, client: AsyncClient) -> None:
    answered: set[str] = set()
    enough = asyncio.Event()

    async def writer(name: int) -> None:
        for number in range(1000):
            await client.WriteRelationships(write(doc(f"{name}-{number}")))
            answered.add(f"{name}-{number}#owner@ann")
            if len(answered) == 100:
                enough.set()

    writers = [asyncio.create_task(writer(name)) for name in range(8)]
    await enough.wait()
    await asyncio.to_thread(stack.kill, "spicedb")
    ends = await asyncio.gather(*writers, return_exceptions=True)
    assert all(isinstance(end, grpc.aio.AioRpcError) for end in ends)
    await asyncio.to_thread(stack.start, "spicedb")
    found = set(await everything(connect(stack)))
    assert answered <= found
    # Each writer had one write under way, which may have been taken or not.
    assert len(found - answered) <= 8


async def test_cancelled_calls_do_not_wedge_the_server(client: AsyncClient) -> None:
    batch = write(*(doc(f"d{number}") for number in range(1000)), operation=TOUCH)

    async def cancelled(call: grpc.aio.Call) -> None:
        await asyncio.sleep(0.005)
        call.cancel()

    watches = [client.Watch(WatchRequest()) for _ in range(50)]
    await asyncio.gather(*(cancelled(client.WriteRelationships(batch)) for _ in range(50)))
    await asyncio.gather(*(cancelled(watch) for watch in watches))
    await client.WriteRelationships(write(doc("after"), operation=TOUCH), timeout=240)
    assert "after#owner@ann" in await everything(client)


async def test_a_callers_deadline_holds_and_no_other_does(client: AsyncClient) -> None:
    async def watch() -> None:
        async for _ in client.Watch(WatchRequest(), timeout=0.5):
            pass

    assert (await refusal(watch()))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    request = CheckPermissionRequest(
        consistency=Consistency(fully_consistent=True),
        resource=ObjectReference(object_type="doc", object_id="a"),
        permission="view",
        subject=SubjectReference(object=ObjectReference(object_type="user", object_id="ann")),
    )
    await client.CheckPermission(request)


async def test_thirty_two_writers_get_several_hundred_writes_a_second(client: AsyncClient) -> None:
    async def writer(name: int) -> None:
        for number in range(30):
            await client.WriteRelationships(write(doc(f"{name}-{number}")), timeout=240)

    began = time.monotonic()
    await asyncio.gather(*(writer(name) for name in range(32)))
    assert len(await everything(client)) == 960
    # Some 800 a second on two cores; far below, so that a busy machine passes and a serial wait doesn't.
    assert 960 / (time.monotonic() - began) > 100
