"""Mends what the outbox leaves alone, as the platform sees fit: reads what an audit found, as JSON lines.

    outbox audit --json > inventory.jsonl
    python tidy.py < inventory.jsonl

What is registered without a schedule goes: nothing runs. What runs without a registration is given back to
whoever created it, as Temporal's memo says. All else is for a person to look at.
"""

import asyncio
import json
import sys
from collections.abc import Iterable

import old_platform
from authzed.api.v1 import (
    AsyncClient,
    Consistency,
    DeleteRelationshipsRequest,
    ReadRelationshipsRequest,
    RelationshipFilter,
)
from temporalio.client import Client, ScheduleDescription
from temporalio.service import RPCError, RPCStatusCode


async def mend(schedule_id: str, spicedb: AsyncClient, temporal: Client) -> str:
    """Mend one schedule; returns what was done."""
    described = await _described(temporal, schedule_id)
    all_of_it = RelationshipFilter(resource_type="agent_schedule", optional_resource_id=schedule_id)
    if described is None:
        await spicedb.DeleteRelationships(DeleteRelationshipsRequest(relationship_filter=all_of_it))
        return "nothing runs: its registration is gone"
    if await _any(spicedb, all_of_it):
        return "LEFT as it is: look at its name and its owners"
    owner = str((await described.memo())["created_by"])
    await spicedb.WriteRelationships(old_platform.registration(schedule_id, owner))
    return f"it runs: given back to {owner}"


async def _described(temporal: Client, schedule_id: str) -> ScheduleDescription | None:
    try:
        return await temporal.get_schedule_handle(schedule_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def _any(spicedb: AsyncClient, which: RelationshipFilter) -> bool:
    asked = ReadRelationshipsRequest(
        consistency=Consistency(fully_consistent=True), relationship_filter=which, optional_limit=1
    )
    return [one async for one in spicedb.ReadRelationships(asked)] != []


async def main(lines: Iterable[str]) -> None:
    """Mend all that is foreign to the outbox."""
    found = [json.loads(line) for line in lines]
    spicedb, temporal = old_platform.spicedb(), await old_platform.temporal()
    for schedule_id in sorted({one["schedule_id"] for one in found if one["kind"] == "foreign"}):
        print(f"{schedule_id}: {await mend(schedule_id, spicedb, temporal)}")


if __name__ == "__main__":
    asyncio.run(main(sys.stdin))
    old_platform.end()
