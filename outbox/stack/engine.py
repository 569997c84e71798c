"""SpiceDB's engine as a shared library: a unary call's bytes go in, bytes or a gRPC status come out.

Errors arrive as text, `rpc error: code = FailedPrecondition desc = …`. What the engine (1.54) says where a
client may need to tell causes apart:

- a precondition fails: FailedPrecondition, "unable to satisfy write precondition `operation:… filter:{…}`",
  with one blank or two between the fields, at random from one process to the next
- an unknown definition, in an update, a precondition or a filter: FailedPrecondition,
  "object definition `x` not found"
- an unknown relation: FailedPrecondition, "relation/permission `r` not found under definition `d`"
- CREATE of what exists: AlreadyExists, "could not CREATE relationship `…`, as it already existed. …"

A SpiceDB server adds the cause as a `google.rpc.ErrorInfo`; the library drops it, so it is put back from
the text.
"""

import ctypes
import re
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from spicedb_embedded import SpiceDBError, ffi

_ERROR = re.compile(r"rpc error: code = (\w+) desc = (.*)", re.DOTALL)
_CODES = {code.name.replace("_", "").lower(): code for code in grpc.StatusCode} | {
    "canceled": grpc.StatusCode.CANCELLED
}
_REASONS = (
    (r"unable to satisfy write precondition", "WRITE_OR_DELETE_PRECONDITION_FAILURE"),
    (r"object definition `(?P<definition_name>[^`]*)` not found", "UNKNOWN_DEFINITION"),
    (
        r"`(?P<relation_or_permission_name>[^`]*)` not found under definition `(?P<definition_name>[^`]*)`",
        "UNKNOWN_RELATION_OR_PERMISSION",
    ),
    (r"could not CREATE relationship `(?P<relationship>[^`]*)`", "ATTEMPT_TO_RECREATE_RELATIONSHIP"),
    (r"subjects of type `[^`]*` are not allowed", "INVALID_SUBJECT_TYPE"),
    (r"cannot write a relationship to permission", "CANNOT_UPDATE_PERMISSION"),
    (r"found more than one update with relationship", "UPDATES_ON_SAME_RELATIONSHIP"),
    (r"too many updates", "TOO_MANY_UPDATES_IN_REQUEST"),
    (r"found more than \d+ relationships to be deleted", "TOO_MANY_RELATIONSHIPS_FOR_TRANSACTIONAL_DELETE"),
    (r"parse error in `schema`", "SCHEMA_PARSE_ERROR"),
)

UNARY = {
    "/authzed.api.v1.SchemaService/ReadSchema": "spicedb_schema_read_schema",
    "/authzed.api.v1.SchemaService/WriteSchema": "spicedb_schema_write_schema",
    "/authzed.api.v1.PermissionsService/WriteRelationships": "spicedb_permissions_write_relationships",
    "/authzed.api.v1.PermissionsService/DeleteRelationships": "spicedb_permissions_delete_relationships",
    "/authzed.api.v1.PermissionsService/CheckPermission": "spicedb_permissions_check_permission",
    "/authzed.api.v1.PermissionsService/CheckBulkPermissions": "spicedb_permissions_check_bulk_permissions",
    "/authzed.api.v1.PermissionsService/ExpandPermissionTree": "spicedb_permissions_expand_permission_tree",
}


@dataclass(frozen=True)
class EngineError(Exception):
    """The engine refused a call."""

    code: grpc.StatusCode
    text: str

    def details(self) -> bytes:
        """The serialized `google.rpc.Status` of a SpiceDB server; empty where the cause isn't known."""
        for pattern, reason in _REASONS:
            match = re.search(pattern, self.text)
            if match:
                info = ErrorInfo(
                    reason=f"ERROR_REASON_{reason}", domain="authzed.com", metadata=match.groupdict()
                )
                packed = AnyMessage()
                packed.Pack(info)
                status = Status(code=self.code.value[0], message=self.text, details=[packed])
                return bytes(status.SerializeToString())
        return b""


class Engine:
    """One engine, with an empty memory if not given a datastore. Calls may come from several threads."""

    def __init__(self, options: ffi.StartOptions | None = None) -> None:
        library: Any = ffi._get_lib()  # noqa: SLF001 -- the bindings offer no other way to correct a signature
        # Declared to take a string, it refuses the address of an error's text.
        library.spicedb_free.argtypes = [ctypes.c_void_p]
        started = ffi.spicedb_start(options)
        self._handle: int = started["handle"]
        transport: str = "unix:" if started["streaming_transport"] == "unix" else ""
        self.streaming_target = transport + str(started["streaming_address"])

    def call(self, method: str, request: bytes) -> bytes:
        """Make the unary call whose full gRPC name is `method`.

        Raises:
            EngineError: the engine refused it.
        """
        try:
            response = ffi._call_rpc(self._handle, request, UNARY[method])  # noqa: SLF001 -- takes bytes for any call
        except SpiceDBError as error:
            raise _parse(str(error)) from None
        return bytes(response)

    def close(self) -> None:
        """End the engine; what it holds in memory is gone."""
        ffi.spicedb_dispose(self._handle)


def _parse(text: str) -> EngineError:
    match = _ERROR.fullmatch(text)
    if match is None:
        return EngineError(grpc.StatusCode.UNKNOWN, text)
    return EngineError(_CODES.get(match[1].lower(), grpc.StatusCode.UNKNOWN), match[2])
