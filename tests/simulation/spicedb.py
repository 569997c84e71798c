"""SpiceDB in memory, behind the channel that the real client talks to: conditions, atomicity."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc
from authzed.api.v1 import (
    Cursor,
    DeleteRelationshipsRequest,
    DeleteRelationshipsResponse,
    ObjectReference,
    Precondition,
    ReadRelationshipsRequest,
    ReadRelationshipsResponse,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
    WriteRelationshipsResponse,
    ZedToken,
)

from consumers.authz.client import Tuple
from consumers.authz.names import object_id

Send = Callable[[str, Any, Callable[[], Any], float], Awaitable[Any]]
"""Carries a call to the server: method, request, what the server does then, seconds to wait."""

_SUBJECTS = {"user", "service_account"}
_RELATIONS: dict[tuple[str, str], set[str]] = {
    ("agent", "owner"): _SUBJECTS,
    ("agent", "editor"): _SUBJECTS,
    ("agent", "reader"): _SUBJECTS,
    ("outbox_intent", "ended"): {"outbox_intent"},
    ("agent_schedule", "owner"): _SUBJECTS,
    ("agent_schedule", "editor"): _SUBJECTS,
    ("agent_schedule", "reader"): _SUBJECTS,
    ("agent_schedule", "parent_agent"): {"agent"},
    ("agent_schedule", "registered_by"): {"outbox_intent"},
}
_TYPES = {"user", "service_account", *(resource_type for resource_type, _ in _RELATIONS)}
_Op = RelationshipUpdate.Operation
_Must = Precondition.Operation


class MemorySpiceDB:
    """Relationships, and the calls that read and write them, each at one moment.

    Args:
        now: tells the time.

    Attributes:
        tuples: all relationships.
        on_change: told of every write that changed something: what it added, and what it removed.
        lag: by how many seconds a read is behind, whatever consistency it asks for. Conditions never are.
    """

    def __init__(self, now: Callable[[], float] = lambda: 0.0) -> None:
        self.tuples: set[Tuple] = set()
        self.revision = 0
        self.on_change: Callable[[set[Tuple], set[Tuple]], None] = lambda *_: None
        self.lag: Callable[[], float] = lambda: 0.0
        self._now = now
        self._past: list[tuple[float, set[Tuple]]] = [(float("-inf"), set())]

    def of(self, resource_type: str, resource_id: str) -> set[Tuple]:
        """The relationships of one object."""
        return {t for t in self.tuples if (t.resource_type, t.resource_id) == (resource_type, resource_id)}

    def change(self, added: Iterable[Tuple] = (), removed: Iterable[Tuple] = ()) -> None:
        """Add and remove relationships at once."""
        fresh, gone = set(added) - self.tuples, self.tuples & set(removed)
        self.revision += 1
        self.tuples = (self.tuples | fresh) - gone
        if fresh or gone:
            self._past.append((self._now(), self.tuples))
            self.on_change(fresh, gone)

    def write(self, request: WriteRelationshipsRequest) -> WriteRelationshipsResponse:
        """WriteRelationships: creates, touches and deletes, all or none."""
        updates = [(update.operation, _checked(update.relationship)) for update in request.updates]
        if len({found for _, found in updates}) != len(updates):
            raise _error(
                grpc.StatusCode.INVALID_ARGUMENT, "found duplicate update operation for relationship"
            )
        self._require(request.optional_preconditions)
        for operation, found in updates:
            if operation == _Op.OPERATION_CREATE and found in self.tuples:
                raise _error(grpc.StatusCode.ALREADY_EXISTS, "a relationship to be created already existed")
        self.change(
            (found for operation, found in updates if operation != _Op.OPERATION_DELETE),
            (found for operation, found in updates if operation == _Op.OPERATION_DELETE),
        )
        return WriteRelationshipsResponse(written_at=self._token())

    def delete(self, request: DeleteRelationshipsRequest) -> DeleteRelationshipsResponse:
        """DeleteRelationships: all that match, or none."""
        self._require(request.optional_preconditions)
        self.change(removed=self._matching(request.relationship_filter, self.tuples))
        return DeleteRelationshipsResponse(deleted_at=self._token())

    def read(self, request: ReadRelationshipsRequest) -> list[ReadRelationshipsResponse]:
        """ReadRelationships, ordered by object, from a cursor on where one is given."""
        found = sorted(self._matching(request.relationship_filter, self._seen()))
        start = int(request.optional_cursor.token or 0)
        return [
            ReadRelationshipsResponse(
                read_at=self._token(),
                relationship=_relationship(one),
                after_result_cursor=Cursor(token=str(start + place + 1)),
            )
            for place, one in enumerate(found[start:][: request.optional_limit or None])
        ]

    def _seen(self) -> set[Tuple]:
        """What a read sees now."""
        moment = self._now() - self.lag()
        return next(tuples for at, tuples in reversed(self._past) if at <= moment)

    def _token(self) -> ZedToken:
        return ZedToken(token=f"revision-{self.revision}")

    def _require(self, preconditions: Iterable[Precondition]) -> None:
        for one in preconditions:
            there = bool(self._matching(one.filter, self.tuples))
            if there != (one.operation == _Must.OPERATION_MUST_MATCH):
                raise _error(grpc.StatusCode.FAILED_PRECONDITION, "unable to satisfy write precondition")

    def _matching(self, wanted: RelationshipFilter, tuples: set[Tuple]) -> list[Tuple]:
        if not wanted.resource_type:
            raise _error(grpc.StatusCode.INVALID_ARGUMENT, "the filter is empty")
        _known(wanted.resource_type, wanted.optional_relation)
        subject = wanted.optional_subject_filter
        return [
            found
            for found in tuples
            if found.resource_type == wanted.resource_type
            and wanted.optional_resource_id in {"", found.resource_id}
            and found.resource_id.startswith(wanted.optional_resource_id_prefix)
            and wanted.optional_relation in {"", found.relation}
            and subject.subject_type in {"", found.subject_type}
            and subject.optional_subject_id in {"", found.subject_id}
        ]


class Channel:
    """Stands for a ``grpc.aio.Channel`` to the server, as far as the client's calls go."""

    def __init__(self, server: MemorySpiceDB, send: Send) -> None:
        self._send = send
        self._methods: dict[str, Callable[[Any], Any]] = {
            "WriteRelationships": server.write,
            "DeleteRelationships": server.delete,
            "ReadRelationships": server.read,
        }

    def unary_unary(self, path: str, *_: Any, **__: Any) -> Callable[..., Awaitable[Any]]:
        """A method that answers with one message."""
        method = path.rpartition("/")[2]
        act = self._methods.get(method, _unimplemented)

        def call(request: Any, *, timeout: float, **_: Any) -> Awaitable[Any]:
            return self._send(method, request, lambda: act(request), timeout)

        return call

    def unary_stream(self, path: str, *_: Any, **__: Any) -> Callable[..., AsyncIterator[Any]]:
        """A method that answers with a stream."""
        whole = self.unary_unary(path)

        async def call(request: Any, **options: Any) -> AsyncIterator[Any]:
            for one in await whole(request, **options):
                yield one

        return call

    stream_unary = unary_unary

    async def close(self, grace: float | None = None) -> None:
        """There is nothing to close."""


def _unimplemented(request: Any) -> Any:
    raise _error(grpc.StatusCode.UNIMPLEMENTED, f"{type(request).__name__} is not simulated")


def _error(status: grpc.StatusCode, text: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(), details=text)


def _known(resource_type: str, relation: str = "") -> None:
    if resource_type not in _TYPES:
        raise _error(grpc.StatusCode.FAILED_PRECONDITION, f"object definition `{resource_type}` not found")
    if relation and (resource_type, relation) not in _RELATIONS:
        raise _error(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"relation/permission `{relation}` not found under definition `{resource_type}`",
        )


def _checked(relationship: Relationship) -> Tuple:
    """Read a relationship to be written, as far as the schema takes it."""
    found = _tuple(relationship)
    for text in (found.resource_id, found.subject_id):
        try:
            object_id(text)
        except ValueError as error:
            raise _error(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
    _known(found.resource_type, found.relation)
    _known(found.subject_type, found.subject_relation)
    if found.subject_type not in _RELATIONS[found.resource_type, found.relation]:
        text = f"subjects of type `{found.subject_type}` are not allowed on relation `{found.relation}`"
        raise _error(grpc.StatusCode.INVALID_ARGUMENT, text)
    return found


def _tuple(relationship: Relationship) -> Tuple:
    resource, subject = relationship.resource, relationship.subject
    return Tuple(
        resource.object_type,
        resource.object_id,
        relationship.relation,
        subject.object.object_type,
        subject.object.object_id,
        subject.optional_relation,
    )


def _relationship(found: Tuple) -> Relationship:
    return Relationship(
        resource=ObjectReference(object_type=found.resource_type, object_id=found.resource_id),
        relation=found.relation,
        subject=SubjectReference(
            object=ObjectReference(object_type=found.subject_type, object_id=found.subject_id),
            optional_relation=found.subject_relation,
        ),
    )
