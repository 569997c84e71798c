"""Temporal's schedules in memory, behind the service that the real client calls.

As measured: a request id is remembered for a name's last create only, deletes take no condition, and a
replayed create with a remembered id answers OK and creates nothing. An update with a stale token, or with a
request id that is remembered, answers OK and changes nothing; tokens count from 1 for each that is created.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from google.protobuf.any_pb2 import Any as Packed
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from temporalio.api.common.v1 import Memo
from temporalio.api.errordetails.v1 import (
    NamespaceNotFoundFailure,
    NotFoundFailure,
    WorkflowExecutionAlreadyStartedFailure,
)
from temporalio.api.schedule.v1 import Schedule, ScheduleListEntry
from temporalio.api.workflowservice.v1 import (
    CreateScheduleRequest,
    CreateScheduleResponse,
    DeleteScheduleRequest,
    DeleteScheduleResponse,
    DescribeScheduleRequest,
    DescribeScheduleResponse,
    ListSchedulesRequest,
    ListSchedulesResponse,
    UpdateScheduleRequest,
    UpdateScheduleResponse,
)
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

Send = Callable[[str, Any, Callable[[], Any], float], Awaitable[Any]]
"""Carries a call to the server: method, request, what the server does then, seconds to wait."""

NAMESPACE = "default"
_FIELD = r"[\d*/,\-LW#?]+"
_CRON = re.compile(rf"(@\w+( \w+)?)|({_FIELD}( {_FIELD}){{4,6}})")
_LONGEST_ID = 977


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule that exists."""

    request_id: str
    memo: Memo
    schedule: Schedule
    token: int = 1
    updated_by: str = ""


class MemoryTemporal:
    """Schedules, and the calls that read and write them, each at one moment.

    Attributes:
        schedules: what exists, by id.
        on_change: told of every call that made or removed something: the id, what stood there, what does now.
        on_update: told of every schedule that was updated.
        on_describe: told of every schedule that was read.
    """

    def __init__(self) -> None:
        self.schedules: dict[str, Standing] = {}
        self._last_request: dict[str, str] = {}
        self.on_change: Callable[[str, Standing | None, Standing | None], None] = lambda *_: None
        self.on_update: Callable[[str], None] = lambda _: None
        self.on_describe: Callable[[str], None] = lambda _: None

    def put(self, schedule_id: str, standing: Standing | None) -> None:
        """Let a schedule stand or be gone, past every condition."""
        before = self.schedules.pop(schedule_id, None)
        if standing is not None:
            self.schedules[schedule_id] = standing
            self._last_request[schedule_id] = standing.request_id
        self.on_change(schedule_id, before, standing)

    def note(self, schedule_id: str, text: str) -> None:
        """What a person does in the server's own console: note something on a schedule, if it is there."""
        standing = self.schedules.get(schedule_id)
        if standing is not None:
            noted = Schedule()
            noted.CopyFrom(standing.schedule)
            noted.state.notes = text
            self.schedules[schedule_id] = replace(standing, schedule=noted, token=standing.token + 1)

    def create(self, request: CreateScheduleRequest) -> CreateScheduleResponse:
        """CreateSchedule."""
        _check_namespace(request.namespace)
        _check(request)
        standing = self.schedules.get(request.schedule_id)
        if standing is not None:
            if standing.request_id == request.request_id:
                return CreateScheduleResponse()
            raise _error(
                RPCStatusCode.ALREADY_EXISTS,
                f'schedule "{request.schedule_id}" is already registered',
                WorkflowExecutionAlreadyStartedFailure(),
            )
        if self._last_request.get(request.schedule_id) != request.request_id:
            self.put(request.schedule_id, Standing(request.request_id, request.memo, request.schedule))
        return CreateScheduleResponse()

    def describe(self, request: DescribeScheduleRequest) -> DescribeScheduleResponse:
        """DescribeSchedule."""
        _check_namespace(request.namespace)
        standing = self._standing(request.schedule_id)
        self.on_describe(request.schedule_id)
        return DescribeScheduleResponse(
            memo=standing.memo, schedule=standing.schedule, conflict_token=str(standing.token).encode()
        )

    def update(self, request: UpdateScheduleRequest) -> UpdateScheduleResponse:
        """UpdateSchedule; the definition is judged before the server looks whether the schedule is there."""
        _check_namespace(request.namespace)
        _check(request)
        standing = self._standing(request.schedule_id)
        fresh = request.conflict_token in {b"", str(standing.token).encode()}
        if fresh and standing.updated_by != request.request_id:
            self.schedules[request.schedule_id] = replace(
                standing,
                schedule=request.schedule,
                token=standing.token + 1,
                updated_by=request.request_id,
            )
            self.on_update(request.schedule_id)
        return UpdateScheduleResponse()

    def delete(self, request: DeleteScheduleRequest) -> DeleteScheduleResponse:
        """DeleteSchedule, whatever it is."""
        _check_namespace(request.namespace)
        self._standing(request.schedule_id)
        self.put(request.schedule_id, None)
        return DeleteScheduleResponse()

    def list(self, request: ListSchedulesRequest) -> ListSchedulesResponse:
        """ListSchedules, page by page."""
        _check_namespace(request.namespace)
        start = int(request.next_page_token or b"0")
        end = start + (request.maximum_page_size or len(self.schedules))
        names = sorted(self.schedules)
        return ListSchedulesResponse(
            schedules=[
                ScheduleListEntry(schedule_id=name, memo=self.schedules[name].memo)
                for name in names[start:end]
            ],
            next_page_token=str(end).encode() if end < len(names) else b"",
        )

    def _standing(self, schedule_id: str) -> Standing:
        if schedule_id not in self.schedules:
            raise _error(RPCStatusCode.NOT_FOUND, "schedule not found", NotFoundFailure())
        return self.schedules[schedule_id]


class Client:
    """Stands for ``temporalio.client.Client``, as far as our client uses it."""

    namespace = NAMESPACE
    identity = "simulated"
    api_key = None
    data_converter = DataConverter.default

    def __init__(self, server: MemoryTemporal, send: Send) -> None:
        self._server = server
        self._send = send

    @property
    def workflow_service(self) -> "Client":
        """The service, which is this."""
        return self

    def create_schedule(
        self, request: CreateScheduleRequest, *, timeout: timedelta, **_: Any
    ) -> Awaitable[Any]:
        """Call CreateSchedule."""
        return self._send(
            "CreateSchedule", request, lambda: self._server.create(request), timeout.total_seconds()
        )

    def describe_schedule(
        self, request: DescribeScheduleRequest, *, timeout: timedelta, **_: Any
    ) -> Awaitable[Any]:
        """Call DescribeSchedule."""
        return self._send(
            "DescribeSchedule", request, lambda: self._server.describe(request), timeout.total_seconds()
        )

    def update_schedule(
        self, request: UpdateScheduleRequest, *, timeout: timedelta, **_: Any
    ) -> Awaitable[Any]:
        """Call UpdateSchedule."""
        return self._send(
            "UpdateSchedule", request, lambda: self._server.update(request), timeout.total_seconds()
        )

    def delete_schedule(
        self, request: DeleteScheduleRequest, *, timeout: timedelta, **_: Any
    ) -> Awaitable[Any]:
        """Call DeleteSchedule."""
        return self._send(
            "DeleteSchedule", request, lambda: self._server.delete(request), timeout.total_seconds()
        )

    def list_schedules(
        self, request: ListSchedulesRequest, *, timeout: timedelta, **_: Any
    ) -> Awaitable[Any]:
        """Call ListSchedules."""
        return self._send(
            "ListSchedules", request, lambda: self._server.list(request), timeout.total_seconds()
        )

    def describe_namespace(self, request: Any, *, timeout: timedelta, **_: Any) -> Awaitable[Any]:
        """Call DescribeNamespace."""
        return self._send(
            "DescribeNamespace", request, lambda: _check_namespace(request.namespace), timeout.total_seconds()
        )


def _check_namespace(namespace: str) -> None:
    if namespace != NAMESPACE:
        text = f"Namespace {namespace} is not found."
        raise _error(RPCStatusCode.NOT_FOUND, text, NamespaceNotFoundFailure(namespace=namespace))


def _check(request: CreateScheduleRequest | UpdateScheduleRequest) -> None:
    """Refuse what the server takes for invalid, as far as our tests know."""
    spec, workflow = request.schedule.spec, request.schedule.action.start_workflow
    crons = list(spec.cron_string)
    if request.ByteSize() > 4 * 1024 * 1024:
        text = f"grpc: received message larger than max ({request.ByteSize()} vs. 4194304)"
        raise _error(RPCStatusCode.RESOURCE_EXHAUSTED, text)
    reasons = {
        "schedule id is missing or too long": not 0 < len(request.schedule_id.encode()) <= _LONGEST_ID,
        "request id is missing or too long": not 0 < len(request.request_id) <= 1000,
        "workflow type is missing": not workflow.workflow_type.name,
        "task queue is missing": not workflow.task_queue.name,
        "the arguments are too large": workflow.input.ByteSize() > 2 * 1024 * 1024,
        "unknown time zone": spec.timezone_name.startswith("Mars"),
        "invalid cron": any(not _CRON.fullmatch(cron) for cron in crons),
    }
    for reason, holds in reasons.items():
        if holds:
            raise _error(RPCStatusCode.INVALID_ARGUMENT, f"Invalid schedule: {reason}")


def _error(status: RPCStatusCode, text: str, *details: Any) -> RPCError:
    packed = []
    for detail in details:
        one = Packed()
        one.Pack(detail)
        packed.append(one)
    raw = Status(code=status.value, message=text, details=packed).SerializeToString()
    return RPCError(text, status, raw)
