"""Makes the schedules of a platform that never heard of the outbox, one in fifty of them broken.

    python seed.py 1000

Its faults are those that two writes from a request handler leave behind.
"""

import asyncio
import sys
from collections import Counter

import old_platform
from authzed.api.v1 import AsyncClient
from temporalio.client import Client

AT_ONCE = 16
USERS = 50
SCHEDULES_OF_AN_AGENT = 10
# What the first four of 200 are; all others are whole.
BROKEN = (
    "registered, and no schedule: the handler died between its two writes",
    "a schedule, and not registered: it was compensated, though the create had worked",
    "two owners: it was handed over, and the first one stayed",
    "a name with capitals",
)


async def make(number: int, spicedb: AsyncClient, temporal: Client) -> str:
    """Make one schedule; returns what is wrong with it."""
    fault = BROKEN[number % 200] if number % 200 < len(BROKEN) else "whole"
    name = f"Report-{number}" if fault == BROKEN[3] else f"report-{number}"
    schedule_id = f"agent-{number // SCHEDULES_OF_AN_AGENT}--{name}"
    owner = f"user-{number % USERS}"
    if fault != BROKEN[1]:
        await spicedb.WriteRelationships(old_platform.registration(schedule_id, owner))
    if fault == BROKEN[2]:
        await spicedb.WriteRelationships(old_platform.registration(schedule_id, "alice"))
    if fault != BROKEN[0]:
        await old_platform.create(temporal, schedule_id, owner)
    return fault


async def main(count: int) -> None:
    """Make so many."""
    spicedb, temporal = old_platform.spicedb(), await old_platform.temporal()
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> str:
        async with room:
            return await make(number, spicedb, temporal)

    made = Counter(await asyncio.gather(*(one(number) for number in range(count))))
    for fault in ("whole", *BROKEN):
        print(f"{made[fault]:4}  {fault}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
    old_platform.end()
