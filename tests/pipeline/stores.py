"""SpiceDB and Temporal seen past the proxies: what they hold, and what strangers put there."""

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import grpc
from authzed.api.v1 import (
    CheckPermissionRequest,
    CheckPermissionResponse,
    Consistency,
    ObjectReference,
    SubjectReference,
)
from authzed.api.v1.permission_service_pb2_grpc import PermissionsServiceStub
from temporalio.api.schedule import v1 as protobuf
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
)
from temporalio.service import RPCError, RPCStatusCode

from consumers.authz.client import AuthzClient, Match, Tuple
from consumers.authz.names import AGENT, ENDED, INTENT, OWNER, PARENT_AGENT, REGISTERED_BY, SCHEDULE, USER
from consumers.calls import Call
from consumers.temporal.request import MEMO_KEY, revision_in
from outbox.testing import Scheduled as Record

_SECONDS = 240.0
_DAY = timedelta(days=1)
_CERTAIN = CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION


@dataclass(frozen=True)
class Scheduled:
    """A schedule that Temporal has."""

    stamp: str | None
    workflow: str
    workflow_id: str
    task_queue: str
    revision: str | None = field(default=None, compare=False)

    @property
    def record(self) -> Record:
        """The same, as the checker takes it."""
        runs = f"{self.workflow} as {self.workflow_id} on {self.task_queue}"
        return Record(self.stamp, runs, self.revision)


class Stores:
    """Reads fully consistently, and writes without any of the outbox's conditions."""

    def __init__(self, authz: AuthzClient, channel: grpc.aio.Channel, token: str, temporal: Client) -> None:
        self._authz = authz
        self._checks = PermissionsServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._temporal = temporal

    # SpiceDB.

    async def tuples(self, schedule_id: str) -> set[Tuple]:
        return set((await self._authz.read(Match(SCHEDULE, schedule_id), Call.within(_SECONDS))).tuples)

    async def ended(self, intent_id: UUID) -> bool:
        found = await self._authz.read(Match(INTENT, str(intent_id), ENDED), Call.within(_SECONDS))
        return bool(found.tuples)

    async def put(self, *tuples: Tuple) -> None:
        await self._authz.touch(tuples, Call.within(_SECONDS))

    async def remove(self, found: Tuple) -> None:
        match = Match(
            found.resource_type, found.resource_id, found.relation, found.subject_type, found.subject_id
        )
        await self._authz.delete(match, [], Call.within(_SECONDS))

    async def may(self, permission: str, schedule_id: str, subject: str, subject_type: str = USER) -> bool:
        response = await self._checks.CheckPermission(
            CheckPermissionRequest(
                consistency=Consistency(fully_consistent=True),
                resource=ObjectReference(object_type=SCHEDULE, object_id=schedule_id),
                permission=permission,
                subject=SubjectReference(object=ObjectReference(object_type=subject_type, object_id=subject)),
            ),
            timeout=_SECONDS,
            metadata=self._metadata,
        )
        return bool(response.permissionship == _CERTAIN)

    # Temporal.

    async def schedule(self, schedule_id: str) -> Scheduled | None:
        try:
            found = await self._temporal.get_schedule_handle(schedule_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        action = found.schedule.action
        assert isinstance(action, ScheduleActionStartWorkflow)
        stamp = (await found.memo()).get(MEMO_KEY)
        revision = revision_in(found.raw_description.schedule)
        return Scheduled(stamp, action.workflow, action.id, action.task_queue, revision)

    async def definition(self, schedule_id: str) -> protobuf.Schedule:
        """The schedule as Temporal describes it."""
        return (await self._temporal.get_schedule_handle(schedule_id).describe()).raw_description.schedule

    async def pause_by_hand(self, schedule_id: str, note: str) -> None:
        """What a person does in Temporal's own console."""
        await self._temporal.get_schedule_handle(schedule_id).pause(note=note)

    async def plant_schedule(self, schedule_id: str) -> Scheduled:
        """A schedule from before the outbox, or of somebody else: without a stamp."""
        await self._temporal.create_schedule(
            schedule_id,
            Schedule(
                action=ScheduleActionStartWorkflow("Legacy", id="legacy", task_queue="legacy"),
                spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=_DAY)]),
            ),
        )
        return Scheduled(None, "Legacy", "legacy", "legacy")

    async def drop_schedule(self, schedule_id: str) -> None:
        await self._temporal.get_schedule_handle(schedule_id).delete()


def owner(schedule_id: str, subject: str, subject_type: str = USER) -> Tuple:
    return Tuple(SCHEDULE, schedule_id, OWNER, subject_type, subject)


def parent(schedule_id: str) -> Tuple:
    return Tuple(SCHEDULE, schedule_id, PARENT_AGENT, AGENT, schedule_id.partition("--")[0])


def stamp(schedule_id: str, intent_id: UUID) -> Tuple:
    return Tuple(SCHEDULE, schedule_id, REGISTERED_BY, INTENT, str(intent_id))


def reader(schedule_id: str, user: str) -> Tuple:
    return Tuple(SCHEDULE, schedule_id, "reader", USER, user)


def registered(schedule_id: str, intent_id: UUID, user: str) -> set[Tuple]:
    """What a registration writes."""
    return {owner(schedule_id, user), parent(schedule_id), stamp(schedule_id, intent_id)}


def legacy(schedule_id: str, user: str) -> set[Tuple]:
    """What a schedule from before the outbox has in SpiceDB: no stamp."""
    return {owner(schedule_id, user), parent(schedule_id)}
