"""How the platform wrote its schedules before: SpiceDB first, then Temporal, from a request handler."""

import os
import sys
from datetime import timedelta
from typing import NoReturn

from authzed.api.v1 import (
    AsyncClient,
    ObjectReference,
    Relationship,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
)
from grpcutil import insecure_bearer_token_credentials
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
)


def spicedb() -> AsyncClient:
    """A client for SpiceDB."""
    token = insecure_bearer_token_credentials(os.environ["OUTBOX_SPICEDB_TOKEN"])
    return AsyncClient(os.environ["OUTBOX_SPICEDB_ENDPOINT"], token)


async def temporal() -> Client:
    """A client for Temporal."""
    return await Client.connect(
        os.environ["OUTBOX_TEMPORAL_ADDRESS"], namespace=os.environ["OUTBOX_TEMPORAL_NAMESPACE"]
    )


def registration(schedule_id: str, owner: str) -> WriteRelationshipsRequest:
    """What says whose a schedule is, and of which agent."""
    return WriteRelationshipsRequest(
        updates=[
            _touch(schedule_id, "owner", "user", owner),
            _touch(schedule_id, "parent_agent", "agent", schedule_id.partition("--")[0]),
        ]
    )


async def create(client: Client, schedule_id: str, owner: str) -> None:
    """Make the schedule; its memo says who asked for it."""
    report = ScheduleActionStartWorkflow(
        "Report", {"owner": owner}, id=f"{schedule_id}-run", task_queue="agents"
    )
    daily = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=1))])
    await client.create_schedule(schedule_id, Schedule(action=report, spec=daily), memo={"created_by": owner})


def end() -> NoReturn:
    """End the process, all done, without Python's shutdown.

    Just after a call, temporalio's native threads crash one in five interpreters that shut down.
    """
    sys.stdout.flush()
    os._exit(0)


def _touch(schedule_id: str, relation: str, kind: str, subject: str) -> RelationshipUpdate:
    return RelationshipUpdate(
        operation=RelationshipUpdate.OPERATION_TOUCH,
        relationship=Relationship(
            resource=ObjectReference(object_type="agent_schedule", object_id=schedule_id),
            relation=relation,
            subject=SubjectReference(object=ObjectReference(object_type=kind, object_id=subject)),
        ),
    )
