"""Reads all of a namespace's schedules, page by page, for comparing them with the ledger."""

from collections.abc import AsyncIterator
from functools import partial

from consumers.calls import Call, read_patiently
from consumers.temporal.client import Found, TemporalClient

_PAGE = 500


async def read_schedule(client: TemporalClient, schedule_id: str, *, seconds: float) -> Found | None:
    """Read one schedule as it is now; None if there is no such schedule.

    Raises:
        StoreFailure: Temporal can't tell, though it was asked three times for so many seconds.
    """
    return await read_patiently(partial(client.describe, schedule_id), seconds=seconds)


async def read_stamps(
    client: TemporalClient, token: bytes, *, seconds: float
) -> tuple[dict[str, Found], bytes]:
    """Read on through the namespace's schedules: those of 500 that carry a stamp, and where to read on.

    Raises:
        StoreFailure: Temporal can't tell in time.
    """
    page = await client.list_page(token, Call.within(seconds), limit=_PAGE)
    return {name: found for name, found in page.schedules.items() if found.stamp}, page.following


async def read_schedules(
    client: TemporalClient, *, prefix: str = "", seconds: float
) -> AsyncIterator[tuple[str, Found]]:
    """Read every schedule of the namespace whose id starts so, with its stamp.

    What changed a moment ago may be missing or out of date: the list lags, so what it says against the
    ledger is to be confirmed by ``read_schedule``. A prefix saves nothing; the server lists all there are.

    Args:
        client: Temporal.
        prefix: of the schedule ids; empty: all.
        seconds: how long each page of 500 schedules may take.

    Raises:
        StoreFailure: Temporal can't tell in time.
    """
    token = b""
    while True:
        page = await read_patiently(partial(client.list_page, token, limit=_PAGE), seconds=seconds)
        for schedule_id, found in page.schedules.items():
            if schedule_id.startswith(prefix):
                yield schedule_id, found
        token = page.following
        if not token:
            return
