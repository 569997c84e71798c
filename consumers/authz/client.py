"""The calls to SpiceDB that the project makes, each with its deadline, token and metadata.

A failed call raises ``StoreFailure`` with the outcome it means, or ``NotAsExpected`` where a precondition
does not hold. Hidden retries are off, and no call waits for a connection (rule 4).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
from authzed.api.v1 import (
    Consistency,
    Cursor,
    DeleteRelationshipsRequest,
    ObjectReference,
    Precondition,
    ReadRelationshipsRequest,
    ReadSchemaRequest,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectFilter,
    SubjectReference,
    WriteRelationshipsRequest,
    WriteSchemaRequest,
)
from authzed.api.v1.permission_service_pb2_grpc import PermissionsServiceStub
from authzed.api.v1.schema_service_pb2_grpc import SchemaServiceStub

from consumers.authz.errors import STORE, Occupied, classify
from consumers.authz.names import object_id
from consumers.calls import Call, StoreFailure, method_of
from outbox.current import calling
from outbox.failpoints import reach

_OPTIONS = (
    ("grpc.enable_retries", 0),
    # The channel's own reconnect backoff grows to two minutes: an outage would outlast itself by that much.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A half-open connection must not cost a deadline per call for ever. Servers in Go object to pings more
    # often than every five minutes; the time-out also bounds how long sent data may stay unacknowledged.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


@dataclass(frozen=True, slots=True, order=True)
class Tuple:
    """One relationship, ``type:id#relation@subject_type:subject_id``."""

    resource_type: str
    resource_id: str
    relation: str
    subject_type: str
    subject_id: str
    subject_relation: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """Which relationships: those of one object, narrowed where more is given.

    There is no way to leave the object's id open, as SpiceDB reads that as every object.
    """

    resource_type: str
    resource_id: str
    relation: str = ""
    subject_type: str = ""
    subject_id: str = ""

    def __post_init__(self) -> None:
        object_id(self.resource_id)
        if bool(self.subject_type) != bool(self.subject_id):
            raise ValueError("a subject has a type and an id")
        if self.subject_id:
            object_id(self.subject_id)


@dataclass(frozen=True, slots=True)
class Requires:
    """A precondition: relationships that must (or must not) be there for the write to happen."""

    match: Match
    present: bool


@dataclass(frozen=True, slots=True)
class Read:
    """What a fully consistent read found, and the token of its moment (None when nothing is there)."""

    tuples: tuple[Tuple, ...]
    zed_token: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some relationships of a resource type, ordered by object, and where to read on (None: the end)."""

    tuples: tuple[Tuple, ...]
    cursor: str | None


class NotAsExpected(Exception):  # noqa: N818 - an answer to look into, not an error
    """A precondition of a write does not hold; nothing was written."""

    def __init__(self, occupied: Occupied) -> None:
        super().__init__(occupied.message)
        self.message = occupied.message


class AuthzClient:
    """SpiceDB, as this project talks to it.

    Args:
        channel: to the server; closed with this client.
        token: the preshared key, sent as a bearer token with each call.
    """

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel = channel
        self._token = token
        self._permissions = PermissionsServiceStub(channel)
        self._schema = SchemaServiceStub(channel)

    @classmethod
    def connect(cls, endpoint: str, token: str, *, tls: bool, ca_path: Path | None = None) -> Self:
        """Prepare a client; the connection is made by the first call. Needs a running event loop.

        Args:
            endpoint: ``host:port``.
            token: the preshared key.
            tls: whether the endpoint speaks TLS; without, the token travels in the clear.
            ca_path: a PEM file of authorities to trust instead of the system's.

        Raises:
            OSError: the CA file can't be read.
            ValueError: the token can't be sent, whatever it is.
        """
        if not (token.isascii() and token.isprintable()):
            raise ValueError("the SpiceDB token has characters that no header may carry")
        if not tls:
            return cls(grpc.aio.insecure_channel(endpoint, options=_OPTIONS), token)
        authorities = ca_path.read_bytes() if ca_path else None
        credentials = grpc.ssl_channel_credentials(root_certificates=authorities)
        return cls(grpc.aio.secure_channel(endpoint, credentials, options=_OPTIONS), token)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def create(self, tuples: Sequence[Tuple], requires: Sequence[Requires], call: Call) -> str:
        """Write relationships that must not exist yet, all or none; return the consistency token."""
        return await self._write(RelationshipUpdate.OPERATION_CREATE, tuples, requires, call)

    async def touch(self, tuples: Sequence[Tuple], call: Call) -> str:
        """Write relationships whether or not they exist, all or none; return the consistency token."""
        return await self._write(RelationshipUpdate.OPERATION_TOUCH, tuples, (), call)

    async def remove(self, tuples: Sequence[Tuple], call: Call) -> str:
        """Delete these relationships, as far as they exist, all or none; return the consistency token."""
        return await self._write(RelationshipUpdate.OPERATION_DELETE, tuples, (), call)

    async def delete(self, match: Match, requires: Sequence[Requires], call: Call) -> str:
        """Delete all that match in one transaction, or nothing; return the consistency token."""
        request = DeleteRelationshipsRequest(
            relationship_filter=_filter(match), optional_preconditions=_preconditions(requires)
        )
        response = await self._bounded(self._permissions.DeleteRelationships, request, call)
        return str(response.deleted_at.token)

    async def read(self, match: Match, call: Call) -> Read:
        """Read all that match, fully consistent."""
        request = ReadRelationshipsRequest(
            consistency=Consistency(fully_consistent=True), relationship_filter=_filter(match)
        )
        responses = await self._bounded(self._collect, request, call, reads=True)
        token = responses[-1].read_at.token if responses else None
        return Read(tuple(_tuple(response.relationship) for response in responses), token)

    async def read_page(
        self, resource_type: str, prefix: str, cursor: str | None, call: Call, *, limit: int
    ) -> Page:
        """Read on through all objects of a type whose ids start so, each page as of the first's moment."""
        request = ReadRelationshipsRequest(
            consistency=Consistency(fully_consistent=True),
            relationship_filter=RelationshipFilter(
                resource_type=resource_type, optional_resource_id_prefix=prefix
            ),
            optional_limit=limit,
            optional_cursor=None if cursor is None else Cursor(token=cursor),
        )
        responses = await self._bounded(self._collect, request, call, reads=True)
        following = responses[-1].after_result_cursor.token if len(responses) == limit else None
        return Page(tuple(_tuple(response.relationship) for response in responses), following)

    async def read_schema(self, call: Call) -> str:
        """Read the schema's text; empty when there is none."""
        response = await self._bounded(self._schema_or_none, ReadSchemaRequest(), call, reads=True)
        return "" if response is None else str(response.schema_text)

    async def write_schema(self, text: str, call: Call) -> None:
        """Replace the schema."""
        await self._bounded(self._schema.WriteSchema, WriteSchemaRequest(schema=text), call)

    async def _write(
        self, operation: Any, tuples: Sequence[Tuple], requires: Sequence[Requires], call: Call
    ) -> str:
        updates = [RelationshipUpdate(operation=operation, relationship=_relationship(t)) for t in tuples]
        request = WriteRelationshipsRequest(updates=updates, optional_preconditions=_preconditions(requires))
        response = await self._bounded(self._permissions.WriteRelationships, request, call)
        return str(response.written_at.token)

    async def _collect(self, request: ReadRelationshipsRequest, **options: Any) -> list[Any]:
        return [response async for response in self._permissions.ReadRelationships(request, **options)]

    async def _schema_or_none(self, request: ReadSchemaRequest, **options: Any) -> Any:
        try:
            return await self._schema.ReadSchema(request, **options)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise

    async def _bounded(
        self, send: Callable[..., Awaitable[Any]], request: Any, call: Call, *, reads: bool = False
    ) -> Any:
        """Send one request within the call's deadline, and put a failure in the words of the flow."""
        seconds = call.budget(STORE)
        try:
            async with asyncio.timeout(seconds):
                await reach("spicedb.before")
                with calling(STORE, method_of(request), call.metadata) as headers:
                    metadata = (("authorization", f"Bearer {self._token}"), *headers.items())
                    answer = await send(request, timeout=seconds, metadata=metadata)
                await reach("spicedb.after")
                return answer
        except Exception as error:
            meaning = classify(error, reads=reads, token=self._token)
            if isinstance(meaning, Occupied):
                raise NotAsExpected(meaning) from None
            raise StoreFailure(meaning) from error


def _filter(match: Match) -> RelationshipFilter:
    """Build the filter of every write: of one object, as ``Match`` sees to."""
    subject = None
    if match.subject_id:
        subject = SubjectFilter(subject_type=match.subject_type, optional_subject_id=match.subject_id)
    return RelationshipFilter(
        resource_type=match.resource_type,
        optional_resource_id=object_id(match.resource_id),
        optional_relation=match.relation,
        optional_subject_filter=subject,
    )


def _preconditions(requires: Sequence[Requires]) -> list[Precondition]:
    must, must_not = Precondition.OPERATION_MUST_MATCH, Precondition.OPERATION_MUST_NOT_MATCH
    return [
        Precondition(operation=must if r.present else must_not, filter=_filter(r.match)) for r in requires
    ]


def _relationship(found: Tuple) -> Relationship:
    return Relationship(
        resource=ObjectReference(object_type=found.resource_type, object_id=object_id(found.resource_id)),
        relation=found.relation,
        subject=SubjectReference(
            object=ObjectReference(object_type=found.subject_type, object_id=object_id(found.subject_id)),
            optional_relation=found.subject_relation,
        ),
    )


def _tuple(relationship: Relationship) -> Tuple:
    return Tuple(
        resource_type=relationship.resource.object_type,
        resource_id=relationship.resource.object_id,
        relation=relationship.relation,
        subject_type=relationship.subject.object.object_type,
        subject_id=relationship.subject.object.object_id,
        subject_relation=relationship.subject.optional_relation,
    )
