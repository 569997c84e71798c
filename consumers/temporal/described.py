"""A schedule as Temporal describes it, kept as a request: for what a lost ledger had asked for.

Temporal keeps no request as it was sent: a cron expression comes back as the times that it means, an argument
as the platform's converter wrote it. So the description itself is kept, and created again as it is.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from temporalio.api.schedule.v1 import Schedule

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


def described_in(request: Mapping[str, Any]) -> Schedule | None:
    """The described schedule that a request holds, if it was made of one."""
    described = request.get(_KEY)
    return None if described is None else Schedule.FromString(b64decode(described))
