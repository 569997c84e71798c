"""What SpiceDB really does, where the effects rest on it; and that the one in memory does the same."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import grpc
import pytest
from authzed.api.v1 import (
    DeleteRelationshipsRequest,
    ObjectReference,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
)
from authzed.api.v1.permission_service_pb2_grpc import PermissionsServiceStub

from consumers.authz.client import AuthzClient, Match, NotAsExpected, Requires, Tuple
from consumers.authz.names import object_id
from consumers.calls import Call, StoreFailure
from outbox.errors import ErrorCode
from outbox.flow.outcome import Failure, Misconfigured, Refused
from outbox.stack import StackInfo
from tests.contracts.memory import spicedb_in_memory

TYPE = "agent_schedule"


@pytest.fixture
def call() -> Call:
    return Call.within(30)


@pytest.fixture(params=["server", "memory"])
def relationships(request: pytest.FixtureRequest, relationships: AuthzClient) -> AuthzClient:
    """The server with the schema, or what stands for it in simulations."""
    return AuthzClient(spicedb_in_memory(), "token") if request.param == "memory" else relationships


@pytest.fixture
def raw(stack: StackInfo, relationships: AuthzClient) -> "Raw":
    """The same, for calls that our own client refuses to make."""
    return Raw(relationships._channel, stack.spicedb_token)


class Raw:
    """Calls that our own client refuses to make."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = PermissionsServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {token}"),)

    async def write(self, *relationships: Relationship, operation: Any = None) -> None:
        operation = operation or RelationshipUpdate.OPERATION_TOUCH
        updates = [RelationshipUpdate(operation=operation, relationship=one) for one in relationships]
        await self._stub.WriteRelationships(
            WriteRelationshipsRequest(updates=updates), metadata=self._metadata, timeout=240
        )

    async def delete(self, resource_type: str, resource_id: str) -> None:
        request = DeleteRelationshipsRequest(
            relationship_filter=RelationshipFilter(
                resource_type=resource_type, optional_resource_id=resource_id
            )
        )
        await self._stub.DeleteRelationships(request, metadata=self._metadata, timeout=240)


def owned(resource_id: str, user: str = "alice") -> Tuple:
    return Tuple(TYPE, resource_id, "owner", "user", user)


def relationship(resource_id: str, user: str) -> Relationship:
    return Relationship(
        resource=ObjectReference(object_type=TYPE, object_id=resource_id),
        relation="owner",
        subject=SubjectReference(object=ObjectReference(object_type="user", object_id=user)),
    )


async def failure(client: AuthzClient, tuples: Sequence[Tuple], *requires: Requires) -> Failure:
    with pytest.raises(StoreFailure) as caught:
        await client.create(tuples, requires, Call.within(30))
    return caught.value.outcome


async def test_a_create_of_what_exists_rolls_the_whole_write_back(
    relationships: AuthzClient, schedule_id: str, call: Call
) -> None:
    await relationships.create([owned(schedule_id)], (), call)
    with pytest.raises(NotAsExpected, match="ALREADY_EXISTS"):
        await relationships.create([owned(schedule_id, "bob"), owned(schedule_id)], (), call)
    assert (await relationships.read(Match(TYPE, schedule_id), call)).tuples == (owned(schedule_id),)


async def test_a_failed_precondition_is_told_from_a_missing_definition(
    relationships: AuthzClient, schedule_id: str, call: Call
) -> None:
    await relationships.create([owned(schedule_id)], (), call)
    bob = owned(schedule_id, "bob")
    with pytest.raises(NotAsExpected, match="FAILED_PRECONDITION"):
        await relationships.create([bob], [Requires(Match(TYPE, schedule_id), present=False)], call)
    unknown = (
        Tuple("nowhere", "x", "owner", "user", "bob"),
        Tuple(TYPE, "x", "nothing", "user", "bob"),
        Tuple(TYPE, "x", "owner", "nobody", "bob"),
    )
    for one in unknown:
        outcome = await failure(relationships, [one])
        assert isinstance(outcome, Misconfigured)
        assert "FAILED_PRECONDITION" in outcome.message
    for match in (Match("nowhere", "x"), Match(TYPE, "x", "nothing")):
        assert isinstance(await failure(relationships, [bob], Requires(match, present=True)), Misconfigured)


async def test_a_read_of_a_missing_definition_is_a_misconfiguration(
    relationships: AuthzClient, call: Call
) -> None:
    for match in (Match("nowhere", "x"), Match(TYPE, "x", "nothing")):
        with pytest.raises(StoreFailure) as caught:
            await relationships.read(match, call)
        assert isinstance(caught.value.outcome, Misconfigured)


async def test_a_subject_of_another_type_is_the_schemas_fault(relationships: AuthzClient) -> None:
    outcome = await failure(relationships, [Tuple(TYPE, "x", "owner", "agent", "a")])
    assert isinstance(outcome, Misconfigured)
    assert "INVALID_ARGUMENT" in outcome.message


@pytest.mark.parametrize(
    "wrong",
    [
        [Tuple(TYPE, "x", "read", "user", "alice")],
        [owned("x"), owned("x")],
        [Tuple(TYPE, "x", "owner", "user", "alice", "member")],
    ],
    ids=["a permission", "one relationship twice", "an unknown relation of the subject"],
)
async def test_a_write_that_can_never_be_is_refused(relationships: AuthzClient, wrong: list[Tuple]) -> None:
    outcome = await failure(relationships, wrong)
    assert isinstance(outcome, Refused | Misconfigured)


async def test_a_touch_may_be_repeated_and_nothing_may_be_deleted(
    relationships: AuthzClient, schedule_id: str, call: Call
) -> None:
    await relationships.touch([owned(schedule_id)], call)
    await relationships.touch([owned(schedule_id)], call)
    for _ in range(2):
        assert await relationships.delete(Match(TYPE, schedule_id), (), call)
    assert (await relationships.read(Match(TYPE, schedule_id), call)).tuples == ()


@pytest.mark.parametrize("bad", ["", "a b", "a.b", "a@b.c", "a:b", "ü", "x" * 1025, "*", "a\n"])
async def test_object_ids_that_we_refuse_are_refused_there_too(raw: Raw, bad: str) -> None:
    with pytest.raises(ValueError, match="not an object id"):
        object_id(bad)
    for one in (relationship(bad, "alice"), relationship("x", bad)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.write(one)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("good", ["a", "azAZ09/_|-=+", "x" * 1024])
async def test_object_ids_that_we_take_are_taken_there_too(raw: Raw, good: str) -> None:
    await raw.write(relationship(f"{object_id(good)}", "alice"))
    await raw.write(relationship("taken", good))


async def test_an_empty_object_id_deletes_everything(
    blank: AuthzClient, blank_endpoint: str, call: Call
) -> None:
    await blank.write_schema(f"definition user {{}}\ndefinition {TYPE} {{\n relation owner: user\n}}", call)
    await blank.touch([owned("one"), owned("two")], call)
    async with grpc.aio.insecure_channel(blank_endpoint) as channel:
        await Raw(channel, "token").delete(TYPE, "")
    for one in ("one", "two"):
        assert (await blank.read(Match(TYPE, one), call)).tuples == ()
    # So that no call of ours can leave it open:
    for narrowed in ({}, {"relation": "owner"}, {"subject_type": "user", "subject_id": "alice"}):
        with pytest.raises(ValueError, match="not an object id"):
            Match(TYPE, "", **narrowed)
    with pytest.raises(ValueError, match="a type and an id"):
        Match(TYPE, "one", subject_type="user")


async def test_an_entirely_empty_filter_is_refused(raw: Raw) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw.delete("", "")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_wrong_token_is_refused_on_every_call(stack: StackInfo, schedule_id: str, call: Call) -> None:
    client = AuthzClient.connect(stack.spicedb_endpoint, "no-such-token", tls=False)
    attempts = (
        client.touch([owned(schedule_id)], call),
        client.delete(Match(TYPE, schedule_id), (), call),
        client.read(Match(TYPE, schedule_id), call),
        client.read_schema(call),
    )
    for attempt in attempts:
        with pytest.raises(StoreFailure) as caught:
            await attempt
        assert isinstance(caught.value.outcome, Misconfigured)
        assert "no-such-token" not in caught.value.outcome.message
    await client.close()


async def test_tls_towards_a_server_without_is_a_misconfiguration(stack: StackInfo, call: Call) -> None:
    client = AuthzClient.connect(stack.spicedb_endpoint, "token", tls=True)
    with pytest.raises(StoreFailure) as caught:
        await client.read_schema(call)
    assert isinstance(caught.value.outcome, Misconfigured)
    await client.close()


async def test_a_host_without_an_address_is_never_reached(call: Call) -> None:
    client = AuthzClient.connect("no-such-host.invalid:1", "token", tls=False)
    with pytest.raises(StoreFailure) as caught:
        await client.touch([owned(str(uuid4()))], call)
    assert caught.value.outcome.code is ErrorCode.UNREACHABLE
    await client.close()


async def test_the_schema_comes_back_rewritten(blank: AuthzClient, call: Call) -> None:
    await blank.write_schema(
        "definition user {}\n"
        "definition agent {\n relation boss: user // gone\n relation peer: user\n"
        " permission both = (boss + peer) & boss\n}\n",
        call,
    )
    # Ordered by name, trailing comments dropped, and no parentheses around what binds tighter anyway.
    assert await blank.read_schema(call) == (
        "definition agent {\n\trelation boss: user\n\trelation peer: user\n"
        "\tpermission both = boss + peer & boss\n}\n\ndefinition user {}"
    )


async def test_a_schema_that_drops_what_is_used_is_refused(blank: AuthzClient, call: Call) -> None:
    await blank.write_schema(f"definition user {{}}\ndefinition {TYPE} {{\n relation owner: user\n}}", call)
    await blank.touch([owned("one")], call)
    with pytest.raises(StoreFailure) as caught:
        await blank.write_schema("definition user {}", call)
    assert isinstance(caught.value.outcome, Refused)
    await blank.delete(Match(TYPE, "one"), (), call)


async def test_a_token_that_no_header_may_carry_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="no header"):
        AuthzClient.connect("127.0.0.1:1", "line\nbreak", tls=False)
