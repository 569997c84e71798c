"""The schedule that a definition says: what a create asked for, changed by the updates since.

Of a schedule that the outbox did not create, its description stands for the create. Then only the fields that
updates named are laid over it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Memo, Payload, Payloads, RetryPolicy, SearchAttributes
from temporalio.api.enums.v1 import ScheduleOverlapPolicy
from temporalio.api.schedule.v1 import (
    IntervalSpec,
    Schedule,
    SchedulePolicies,
    ScheduleSpec,
    ScheduleState,
)
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.converter import DataConverter, WorkflowSerializationContext

from consumers.temporal.described import described_in

REVISION_KEY = "outbox_revision"

# Any worker must be able to read what is ours: the platform's own converter, which may encrypt, stays out.
PLAIN = DataConverter.default.payload_converter

_OVERLAP = {
    "skip": ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_SKIP,
    "buffer_one": ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_BUFFER_ONE,
    "buffer_all": ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_BUFFER_ALL,
    "cancel_other": ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_CANCEL_OTHER,
    "terminate_other": ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_TERMINATE_OTHER,
    "allow_all": ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL,
}


async def schedule_of(
    definition: Mapping[str, Any],
    schedule_id: str,
    *,
    revision: UUID | None,
    namespace: str,
    converter: DataConverter,
) -> Schedule:
    """Build the schedule.

    Args:
        definition: as the ledger has it.
        schedule_id: names the workflow, too, where the definition doesn't.
        revision: the intent that changed the definition last, if one did; started workflows carry it.
        namespace: of the schedule.
        converter: encodes what the workflow gets.

    Raises:
        KeyError: the definition lacks what a schedule needs.
        Exception: whatever the platform's data converter raises.
    """
    schedule = described_in(definition) or _blank(definition, schedule_id)
    workflow = schedule.action.start_workflow
    in_context = converter.with_context(WorkflowSerializationContext(namespace, workflow.workflow_id))
    _set_spec(schedule.spec, definition)
    _set_policies(schedule.policies, definition)
    _set_state(schedule.state, definition)
    _set_workflow(workflow, definition)
    await _set_inputs(workflow, definition, in_context)
    mark(schedule, revision)
    return schedule


def mark(schedule: Schedule, revision: UUID | None) -> None:
    """Write a revision into the memo of the workflows that the schedule starts, or take it away.

    The schedule's own memo can't be changed once it is created.
    """
    workflow = schedule.action.start_workflow
    if revision is not None:
        workflow.memo.fields[REVISION_KEY].CopyFrom(PLAIN.to_payload(str(revision)))
    elif REVISION_KEY in workflow.memo.fields:
        del workflow.memo.fields[REVISION_KEY]


def keep_what_hands_changed(schedule: Schedule, present: Schedule, changes: frozenset[str]) -> None:
    """Leave alone what people change in Temporal itself, unless it is what is to be changed."""
    state = schedule.state
    if "paused" not in changes:
        state.paused = present.state.paused
    if "note" not in changes:
        state.notes = present.state.notes
    state.limited_actions = present.state.limited_actions
    state.remaining_actions = present.state.remaining_actions


def _blank(definition: Mapping[str, Any], schedule_id: str) -> Schedule:
    schedule = Schedule(policies=SchedulePolicies(overlap_policy=_OVERLAP["skip"]))
    schedule.action.start_workflow.workflow_id = f"{schedule_id}-run"
    if definition.get("cron_expression") is None:
        schedule.spec.interval.append(IntervalSpec(interval=_duration(definition["interval_seconds"])))
    return schedule


def _set_spec(spec: ScheduleSpec, definition: Mapping[str, Any]) -> None:
    cron, interval = definition.get("cron_expression"), definition.get("interval_seconds")
    if cron is not None or interval is not None:
        for times in ("cron_string", "calendar", "structured_calendar", "interval"):
            spec.ClearField(times)
    if cron is not None:
        spec.cron_string.append(cron)
    elif interval is not None:
        spec.interval.append(IntervalSpec(interval=_duration(interval)))
    if "start_at" in definition:
        _set(spec, "start_time", _timestamp(definition["start_at"]))
    if "end_at" in definition:
        _set(spec, "end_time", _timestamp(definition["end_at"]))
    if "timezone" in definition:
        spec.timezone_name = definition["timezone"] or ""
    if "jitter_seconds" in definition:
        _set(spec, "jitter", _duration(definition["jitter_seconds"]))


def _set_policies(policies: SchedulePolicies, definition: Mapping[str, Any]) -> None:
    if "overlap_policy" in definition:
        policies.overlap_policy = _OVERLAP[definition["overlap_policy"] or "skip"]
    if "catchup_window_seconds" in definition:
        _set(policies, "catchup_window", _duration(definition["catchup_window_seconds"]))
    if "pause_on_failure" in definition:
        policies.pause_on_failure = bool(definition["pause_on_failure"])


def _set_state(state: ScheduleState, definition: Mapping[str, Any]) -> None:
    if "paused" in definition:
        state.paused = bool(definition["paused"])
    if "note" in definition:
        state.notes = definition["note"] or ""


def _set_workflow(workflow: NewWorkflowExecutionInfo, definition: Mapping[str, Any]) -> None:
    workflow.workflow_type.name = definition["workflow_name"]
    workflow.task_queue.name = definition["task_queue"]
    if "execution_timeout_seconds" in definition:
        timeout = _duration(definition["execution_timeout_seconds"])
        _set(workflow, "workflow_execution_timeout", timeout)
    if "retry_policy" in definition:
        _set(workflow, "retry_policy", _retry(definition["retry_policy"]))
    if "search_attributes" in definition:
        named = {name: PLAIN.to_payload(one) for name, one in (definition["search_attributes"] or {}).items()}
        _set(workflow, "search_attributes", SearchAttributes(indexed_fields=named) if named else None)


async def _set_inputs(
    workflow: NewWorkflowExecutionInfo, definition: Mapping[str, Any], converter: DataConverter
) -> None:
    """Set what the platform's own converter encodes."""
    params, args = definition.get("workflow_params"), definition.get("workflow_args")
    if params is not None or args is not None:
        encoded = await converter.encode([params] if args is None else args)
        _set(workflow, "input", Payloads(payloads=encoded))
    elif "workflow_params" in definition or "workflow_args" in definition:
        _set(workflow, "input", None)
    if "memo" in definition:
        values = definition["memo"] or {}
        encoded = await converter.encode(list(values.values())) if values else []
        memo: dict[str, Payload] = dict(zip(values, encoded, strict=True))
        _set(workflow, "memo", Memo(fields=memo) if memo else None)


def _set(message: Any, field: str, value: Any) -> None:
    message.ClearField(field)
    if value is not None:
        getattr(message, field).CopyFrom(value)


def _retry(policy: Mapping[str, Any] | None) -> RetryPolicy | None:
    if policy is None:
        return None
    return RetryPolicy(
        initial_interval=_duration(policy.get("initial_interval_seconds")),
        backoff_coefficient=policy.get("backoff_coefficient", 0.0),
        maximum_interval=_duration(policy.get("maximum_interval_seconds")),
        maximum_attempts=policy.get("maximum_attempts", 0),
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
