"""A schedule as Temporal describes it: for people, and kept as a request.

Temporal keeps no request as it was sent: a cron expression comes back as the times that it means, an argument
as the platform's converter wrote it. So the description itself is kept, and created again as it is.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from temporalio.api.schedule.v1 import Schedule
from temporalio.api.workflowservice.v1 import DescribeScheduleResponse

_KEY = "described"


def request_of(schedule_id: str, schedule: Schedule) -> dict[str, Any]:
    """Put a described schedule as the request of an intent that creates it."""
    agent, _, name = schedule_id.partition("--")
    workflow = schedule.action.start_workflow
    request = {
        "agent_id": agent,
        "name": name,
        "workflow_name": workflow.workflow_type.name,
        "task_queue": workflow.task_queue.name,
        _KEY: b64encode(schedule.SerializeToString()).decode(),
    }
    if schedule.spec.HasField("end_time"):
        request["end_at"] = schedule.spec.end_time.ToDatetime(UTC).isoformat()
    return request


def is_described(request: Mapping[str, Any]) -> bool:
    """Whether a request was made of a description."""
    return _KEY in request


def described_in(request: Mapping[str, Any]) -> Schedule | None:
    """The described schedule that a request holds, if it was made of one."""
    described = request.get(_KEY)
    return None if described is None else Schedule.FromString(b64decode(described))


def summary_of(response: DescribeScheduleResponse) -> dict[str, Any]:
    """Put a description as what a person wants to know of the schedule."""
    schedule, info = response.schedule, response.info
    workflow = schedule.action.start_workflow
    return {
        "workflow": workflow.workflow_type.name,
        "task_queue": workflow.task_queue.name,
        "paused": schedule.state.paused,
        "note": schedule.state.notes or None,
        "runs": info.action_count,
        "last_runs": [one.actual_time.ToDatetime(UTC) for one in info.recent_actions],
        "next_runs": [one.ToDatetime(UTC) for one in info.future_action_times],
        "missed": info.missed_catchup_window,
    }
