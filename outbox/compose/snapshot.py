"""What SpiceDB and Temporal hold of some schedules, each read by itself and as it is now."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from consumers import authz_reads
from outbox.agreement import Sight
from outbox.compose.agreement import open_all
from outbox.settings import Settings

_SECONDS = 30.0
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Both stores: what is under each name, and all intents that are marked as ended."""

    sights: Mapping[str, Sight]
    ended: frozenset[str]


async def take_snapshot(settings: Settings, names: Collection[str]) -> Snapshot:
    """Read these schedules, and the marks of all ended intents.

    Raises:
        StoreUnusable: SpiceDB or Temporal can't be read.
    """
    gate = asyncio.Semaphore(_AT_ONCE)
    async with open_all(settings) as stores:

        async def read(name: str) -> tuple[str, Sight]:
            async with gate:
                return name, await stores.sight(name)

        sights = dict(await asyncio.gather(*map(read, names)))
        ended = [stamp async for stamp in authz_reads.read_ended(stores.authz, seconds=_SECONDS)]
    return Snapshot(sights, frozenset(ended))
