"""Reads of SpiceDB that are behind although they ask for full consistency, as those of a replica may be.

The proxy before the server asks for an exact snapshot instead: the answer is what the server itself held at
that moment. Writes and their preconditions are left as they are.
"""

from collections.abc import Callable

import grpc.aio
from authzed.api.v1 import Consistency, ReadRelationshipsRequest, ReadSchemaRequest, ZedToken
from authzed.api.v1.schema_service_pb2_grpc import SchemaServiceStub

READ = "ReadRelationships"
_SECONDS = 240.0


async def present(endpoint: str, token: str) -> ZedToken:
    """The present moment of a SpiceDB that has a schema."""
    async with grpc.aio.insecure_channel(endpoint) as channel:
        answer = await SchemaServiceStub(channel).ReadSchema(
            ReadSchemaRequest(), timeout=_SECONDS, metadata=(("authorization", f"Bearer {token}"),)
        )
    moment: ZedToken = answer.read_at
    return moment


def as_of(moment: ZedToken) -> Callable[[bytes], bytes]:
    """What makes of a read's request one of that moment; a page goes on at the moment of the one before."""

    def change(request: bytes) -> bytes:
        asked = ReadRelationshipsRequest.FromString(request)
        if not asked.HasField("optional_cursor"):
            asked.consistency.CopyFrom(Consistency(at_exact_snapshot=moment))
        changed: bytes = asked.SerializeToString()
        return changed

    return change
