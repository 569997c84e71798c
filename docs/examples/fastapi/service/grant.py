"""Makes a user an owner of an agent, as a platform does where it makes agents."""

import asyncio
import os
import sys

from authzed.api.v1 import (
    AsyncClient,
    ObjectReference,
    Relationship,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
)
from grpcutil import insecure_bearer_token_credentials


async def own(user: str, agent_id: str) -> None:
    """Write the relationship."""
    credentials = insecure_bearer_token_credentials(os.environ["OUTBOX_SPICEDB_TOKEN"])
    spicedb = AsyncClient(os.environ["OUTBOX_SPICEDB_ENDPOINT"], credentials)
    owner = Relationship(
        resource=ObjectReference(object_type="agent", object_id=agent_id),
        relation="owner",
        subject=SubjectReference(object=ObjectReference(object_type="user", object_id=user)),
    )
    touch = RelationshipUpdate(operation=RelationshipUpdate.OPERATION_TOUCH, relationship=owner)
    await spicedb.WriteRelationships(WriteRelationshipsRequest(updates=[touch]))


if __name__ == "__main__":
    asyncio.run(own(*sys.argv[1:]))
