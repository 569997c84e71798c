"""The routes, as they were: each handler writes SpiceDB and Temporal, and takes back what it can."""

from datetime import timedelta
from typing import Annotated, Any

from authzed.api.v1 import (
    AsyncClient,
    DeleteRelationshipsRequest,
    ObjectReference,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectReference,
    WriteRelationshipsRequest,
)
from fastapi import APIRouter
from pydantic import BaseModel, Field
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleSpec,
)
from temporalio.service import RPCError, RPCStatusCode

from service.access import may, readable
from service.app import AgentId, Backend, Name, User, make_app
from service.live import describe
from service.problems import Problem, forbidden, not_found

router = APIRouter()


class CreateSchedule(BaseModel):
    """What a schedule is made of."""

    agent_id: Annotated[str, Field(pattern="^[A-Za-z0-9_|/=+-]{1,128}$")]
    name: Annotated[str, Field(pattern="^[a-z0-9-]{1,64}$")]
    workflow_name: str
    task_queue: str
    workflow_params: dict[str, Any] = {}
    interval_seconds: Annotated[int, Field(ge=1)]


@router.post("/schedules", status_code=201)
async def create(wanted: CreateSchedule, user: User, on: Backend) -> dict[str, Any]:
    """Make a schedule."""
    if not await may(on.spicedb, user, "update", "agent", wanted.agent_id):
        raise forbidden("update", f"agent {wanted.agent_id}")
    schedule_id = f"{wanted.agent_id}--{wanted.name}"
    await _register(on.spicedb, schedule_id, wanted.agent_id, user)
    # Whoever is killed here leaves an owner of nothing.
    try:
        await on.temporal.create_schedule(schedule_id, _schedule(schedule_id, wanted))
    except ScheduleAlreadyRunningError:
        # Whose is it? If it is another's, they share an owner now; if it is ours, its owner must stay.
        raise Problem(409, "conflict", f"there is a schedule {schedule_id}") from None
    except RPCError:
        # Of a time-out nobody knows whether it took effect: this may leave a schedule without an owner.
        await _deregister(on.spicedb, schedule_id)
        raise
    return {"schedule_id": schedule_id}


@router.delete("/schedules/{agent_id:path}/{name}")
async def delete(agent_id: AgentId, name: Name, user: User, on: Backend) -> dict[str, Any]:
    """Remove a schedule."""
    schedule_id = f"{agent_id}--{name}"
    if not await may(on.spicedb, user, "delete", "agent_schedule", schedule_id):
        raise forbidden("delete", f"schedule {schedule_id}")
    try:
        await on.temporal.get_schedule_handle(schedule_id).delete()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
    # Whoever is killed here leaves an owner of nothing, who owns what comes under this name next.
    await _deregister(on.spicedb, schedule_id)
    return {"schedule_id": schedule_id}


@router.get("/schedules")
async def list_(user: User, on: Backend) -> list[str]:
    """The schedules that you may read."""
    return await readable(on.spicedb, user)


@router.get("/schedules/{agent_id:path}/{name}")
async def read(agent_id: AgentId, name: Name, user: User, on: Backend) -> dict[str, Any]:
    """One schedule, as Temporal has it."""
    schedule_id = f"{agent_id}--{name}"
    if not await may(on.spicedb, user, "read", "agent_schedule", schedule_id):
        raise not_found(schedule_id)
    return await describe(on.temporal, schedule_id)


def _schedule(schedule_id: str, wanted: CreateSchedule) -> Schedule:
    every = timedelta(seconds=wanted.interval_seconds)
    return Schedule(
        action=ScheduleActionStartWorkflow(
            wanted.workflow_name,
            wanted.workflow_params,
            id=f"{schedule_id}-run",
            task_queue=wanted.task_queue,
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
    )


async def _register(spicedb: AsyncClient, schedule_id: str, agent_id: str, user: str) -> None:
    schedule = ObjectReference(object_type="agent_schedule", object_id=schedule_id)
    subjects = {
        "owner": ObjectReference(object_type="user", object_id=user),
        "parent_agent": ObjectReference(object_type="agent", object_id=agent_id),
    }
    updates = [
        RelationshipUpdate(
            operation=RelationshipUpdate.OPERATION_TOUCH,
            relationship=Relationship(
                resource=schedule, relation=relation, subject=SubjectReference(object=subject)
            ),
        )
        for relation, subject in subjects.items()
    ]
    await spicedb.WriteRelationships(WriteRelationshipsRequest(updates=updates))


async def _deregister(spicedb: AsyncClient, schedule_id: str) -> None:
    every = RelationshipFilter(resource_type="agent_schedule", optional_resource_id=schedule_id)
    await spicedb.DeleteRelationships(DeleteRelationshipsRequest(relationship_filter=every))


app = make_app(router)
