"""Builds the Temporal request that creates a schedule from what an intent asks for.

The memo carries the intent's stamp, the request id its number (rule 2); beside the stamp stands which
outbox wrote it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Memo, Payloads, WorkflowType
from temporalio.api.enums.v1 import ScheduleOverlapPolicy
from temporalio.api.schedule.v1 import (
    IntervalSpec,
    Schedule,
    ScheduleAction,
    SchedulePolicies,
    ScheduleSpec,
    ScheduleState,
)
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import CreateScheduleRequest
from temporalio.converter import DataConverter, WorkflowSerializationContext

from consumers.temporal.described import described_in
from outbox.flow.dispatch import Dispatch

MEMO_KEY = "outbox_intent_id"
INSTANCE_KEY = "outbox_instance"
UNREADABLE = "(unreadable)"

# Any worker must be able to read a stamp: the platform's own converter, which may encrypt, stays out of it.
_STAMPS = DataConverter.default.payload_converter

_OVERLAP = {
    "skip": ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_SKIP,
    "buffer_one": ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_BUFFER_ONE,
    "buffer_all": ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_BUFFER_ALL,
    "cancel_other": ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_CANCEL_OTHER,
    "terminate_other": ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_TERMINATE_OTHER,
    "allow_all": ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL,
}


async def create_request(
    dispatch: Dispatch,
    instance: UUID,
    *,
    namespace: str,
    identity: str,
    converter: DataConverter,
    anew: bool = False,
) -> CreateScheduleRequest:
    """Build the request. The same intent and generation give the same request id, whatever worker sends it.

    Args:
        dispatch: of the create.
        instance: the id of this outbox.
        namespace: of the schedule.
        identity: of this worker.
        converter: encodes the workflow's argument.
        anew: take a request id that no other lease of the intent has used.

    Raises:
        KeyError: the intent's request lacks what a create needs.
        Exception: whatever the platform's data converter raises.
    """
    request = dispatch.request
    workflow_id = f"{dispatch.schedule_id}-run"
    in_context = converter.with_context(WorkflowSerializationContext(namespace, workflow_id))
    return CreateScheduleRequest(
        namespace=namespace,
        schedule_id=dispatch.schedule_id,
        request_id=_request_id(dispatch, anew=anew),
        identity=identity,
        memo=stamp_memo(str(dispatch.intent_id), str(instance)),
        schedule=described_in(request) or await _schedule(request, workflow_id, in_context),
    )


def _request_id(dispatch: Dispatch, *, anew: bool) -> str:
    usual = f"{dispatch.intent_id}:{dispatch.generation}"
    return f"{usual}-{dispatch.lease_number}" if anew else usual


def stamp_memo(stamp: str, instance: str) -> Memo:
    """Write a stamp into a memo, and which outbox it is of."""
    return Memo(fields={MEMO_KEY: _STAMPS.to_payload(stamp), INSTANCE_KEY: _STAMPS.to_payload(instance)})


def stamp_in(memo: Memo) -> str | None:
    """Read the stamp from a memo: None if there is none; what can't be read is a stamp, but nobody's."""
    return _text_in(memo, MEMO_KEY)


def instance_in(memo: Memo) -> str | None:
    """Read from a memo which outbox wrote it: None if it doesn't say, as none did once."""
    return _text_in(memo, INSTANCE_KEY)


def _text_in(memo: Memo, key: str) -> str | None:
    if key not in memo.fields:
        return None
    try:
        text = _STAMPS.from_payload(memo.fields[key])
    except Exception:  # noqa: BLE001 - anything may have been written there, and it fails in as many ways
        return UNREADABLE
    return text if isinstance(text, str) else UNREADABLE


async def _schedule(request: Mapping[str, Any], workflow_id: str, converter: DataConverter) -> Schedule:
    return Schedule(
        spec=_spec(request),
        action=ScheduleAction(start_workflow=await _workflow(request, workflow_id, converter)),
        policies=SchedulePolicies(overlap_policy=_OVERLAP[request.get("overlap_policy") or "skip"]),
        state=ScheduleState(paused=bool(request.get("paused"))),
    )


def _spec(request: Mapping[str, Any]) -> ScheduleSpec:
    spec = ScheduleSpec(
        start_time=_timestamp(request.get("start_at")),
        end_time=_timestamp(request.get("end_at")),
        timezone_name=request.get("timezone") or "",
    )
    if request.get("cron_expression") is not None:
        spec.cron_string.append(request["cron_expression"])
    else:
        spec.interval.append(IntervalSpec(interval=_duration(request["interval_seconds"])))
    return spec


async def _workflow(
    request: Mapping[str, Any], workflow_id: str, converter: DataConverter
) -> NewWorkflowExecutionInfo:
    params = request.get("workflow_params")
    return NewWorkflowExecutionInfo(
        workflow_id=workflow_id,
        workflow_type=WorkflowType(name=request["workflow_name"]),
        task_queue=TaskQueue(name=request["task_queue"]),
        input=None if params is None else Payloads(payloads=await converter.encode([params])),
        workflow_execution_timeout=_duration(request.get("execution_timeout_seconds")),
    )


def _timestamp(text: str | None) -> Timestamp | None:
    if text is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(datetime.fromisoformat(text))
    return timestamp


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration
