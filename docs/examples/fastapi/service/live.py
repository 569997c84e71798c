"""What Temporal has of a schedule."""

from typing import Any, cast

from temporalio.client import Client, ScheduleActionStartWorkflow
from temporalio.service import RPCError, RPCStatusCode

from service.problems import not_found


async def describe(temporal: Client, schedule_id: str) -> dict[str, Any]:
    """What the service shows of it; a ``Problem`` if there is none."""
    try:
        found = await temporal.get_schedule_handle(schedule_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise not_found(schedule_id) from None
        raise
    action = cast("ScheduleActionStartWorkflow", found.schedule.action)  # Temporal knows no other
    return {
        "schedule_id": schedule_id,
        "workflow_name": action.workflow,
        "task_queue": action.task_queue,
        "paused": found.schedule.state.paused,
        "note": found.schedule.state.note,
        "next_runs": [at.isoformat() for at in found.info.next_action_times[:3]],
    }
