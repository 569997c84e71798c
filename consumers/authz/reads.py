"""Reads all that SpiceDB holds of the outbox, page by page, for comparing it with the ledger."""

import asyncio
from collections.abc import AsyncIterator, Collection
from functools import partial

from consumers.authz.client import AuthzClient, Match, Tuple
from consumers.authz.names import ENDED, INTENT, REGISTERED_BY, SCHEDULE
from consumers.authz.relationships import ended
from consumers.calls import Call, read_patiently

_PAGE = 1000


async def read_schedule(client: AuthzClient, schedule_id: str, *, seconds: float) -> frozenset[Tuple]:
    """Read all relationships of one schedule, fully consistent.

    Raises:
        StoreFailure: SpiceDB can't tell, though it was asked three times for so many seconds.
    """
    found = await read_patiently(partial(client.read, Match(SCHEDULE, schedule_id)), seconds=seconds)
    return frozenset(found.tuples)


async def read_stamps(
    client: AuthzClient, cursor: str | None, *, seconds: float
) -> tuple[dict[str, str], str | None]:
    """Read on through all relationships of schedules: the stamps among 1,000 of them, and where to read on.

    Raises:
        StoreFailure: SpiceDB can't tell in time.
    """
    page = await client.read_page(SCHEDULE, "", cursor, Call.within(seconds), limit=_PAGE)
    stamps = {found.resource_id: found.subject_id for found in page.tuples if found.relation == REGISTERED_BY}
    return stamps, page.cursor


async def read_marks(client: AuthzClient, stamps: Collection[str], *, seconds: float) -> set[str]:
    """Tell which of these stamps are marked as ended, each read fully consistent.

    Raises:
        StoreFailure: SpiceDB can't tell, though it was asked three times for so many seconds.
    """
    reads = {stamp: read_patiently(partial(client.read, ended(stamp)), seconds=seconds) for stamp in stamps}
    found = await asyncio.gather(*reads.values())
    return {stamp for stamp, read in zip(reads, found, strict=True) if read.tuples}


async def read_schedules(
    client: AuthzClient, *, prefix: str = "", seconds: float
) -> AsyncIterator[tuple[str, frozenset[Tuple]]]:
    """Read the relationships of every schedule whose id starts so, schedule by schedule, as of one moment.

    Args:
        client: SpiceDB.
        prefix: of the schedule ids; empty: all.
        seconds: how long each page of 1,000 relationships may take.

    Raises:
        StoreFailure: SpiceDB can't tell in time.
    """
    gathered: list[Tuple] = []
    async for found in _read_all(client, SCHEDULE, prefix, seconds):
        if gathered and gathered[0].resource_id != found.resource_id:
            yield gathered[0].resource_id, frozenset(gathered)
            gathered = []
        gathered.append(found)
    if gathered:
        yield gathered[0].resource_id, frozenset(gathered)


async def read_ended(client: AuthzClient, *, seconds: float) -> AsyncIterator[str]:
    """Read the ids of all intents that are marked as ended, each page within so many seconds.

    Raises:
        StoreFailure: SpiceDB can't tell in time.
    """
    async for found in _read_all(client, INTENT, "", seconds):
        if found.relation == ENDED:
            yield found.resource_id


async def _read_all(
    client: AuthzClient, resource_type: str, prefix: str, seconds: float
) -> AsyncIterator[Tuple]:
    cursor: str | None = None
    while True:
        read = partial(client.read_page, resource_type, prefix, cursor, limit=_PAGE)
        page = await read_patiently(read, seconds=seconds)
        for found in page.tuples:
            yield found
        cursor = page.cursor
        if cursor is None:
            return
