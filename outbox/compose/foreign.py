"""Things in SpiceDB and Temporal that the outbox did not make: made and read past it, for demo and tests."""

from collections.abc import Mapping
from uuid import uuid4

from consumers.authz import reads as authz_reads
from consumers.authz.client import Tuple
from consumers.authz.names import AGENT, OWNER, PARENT_AGENT, SCHEDULE, USER, agent_of
from consumers.calls import Call
from consumers.temporal import reads as temporal_reads
from outbox.compose.clients import authz_client, temporal_client
from outbox.flow.dispatch import Dispatch
from outbox.flow.table import EventType, Kind
from outbox.settings import Settings

_SECONDS = 10.0
_REQUEST: Mapping[str, object] = {
    "workflow_name": "SomebodyElses",
    "task_queue": "elsewhere",
    "interval_seconds": 86_400,
}


async def hold_in_spicedb(settings: Settings, schedule_id: str, owner: str) -> None:
    """Give a schedule an owner and a parent agent, without a stamp."""
    client = authz_client(settings)
    held = [
        Tuple(SCHEDULE, schedule_id, OWNER, USER, owner),
        Tuple(SCHEDULE, schedule_id, PARENT_AGENT, AGENT, agent_of(schedule_id)),
    ]
    try:
        await client.touch(held, Call.within(_SECONDS))
    finally:
        await client.close()


async def hold_in_temporal(settings: Settings, schedule_id: str) -> None:
    """Create a schedule as another system's outbox would: with a stamp that no ledger here knows."""
    call = Call.within(_SECONDS)
    theirs = Dispatch(
        intent_id=uuid4(),
        schedule_id=schedule_id,
        kind=Kind.CREATE,
        event_type=EventType.REGISTERED,
        lease_number=1,
        attempt=1,
        deadline=call.deadline,
        request=_REQUEST,
    )
    await (await temporal_client(settings)).create(theirs, uuid4(), call)


async def remove_from_temporal(settings: Settings, schedule_id: str) -> None:
    """Delete a schedule as a person might, by hand."""
    await (await temporal_client(settings)).delete(schedule_id, Call.within(_SECONDS))


async def read(settings: Settings, schedule_id: str) -> tuple[frozenset[Tuple], str | None]:
    """What both stores hold of a schedule: its relationships, and Temporal's description of it in words."""
    authz = authz_client(settings)
    try:
        tuples = await authz_reads.read_schedule(authz, schedule_id, seconds=_SECONDS)
    finally:
        await authz.close()
    found = await temporal_reads.read_schedule(await temporal_client(settings), schedule_id, seconds=_SECONDS)
    return tuples, None if found is None else f"schedule with stamp {found.stamp}"
