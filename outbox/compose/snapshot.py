"""What SpiceDB and Temporal hold of some schedules, each read by itself and as it is now."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from consumers.authz import reads as authz_reads
from outbox.audit.comparison import Observed
from outbox.compose.audit import open_all
from outbox.settings import Settings

_SECONDS = 30.0
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Both stores: what is under each name, and all intents that are marked as ended."""

    observed: Mapping[str, Observed]
    ended: frozenset[str]


async def take_snapshot(settings: Settings, names: Collection[str]) -> Snapshot:
    """Read these schedules, and the marks of all ended intents.

    Raises:
        StoreUnusable: SpiceDB or Temporal can't be read.
    """
    gate = asyncio.Semaphore(_AT_ONCE)
    async with open_all(settings) as stores:

        async def read(name: str) -> tuple[str, Observed]:
            async with gate:
                return name, await stores.observed(name)

        observed = dict(await asyncio.gather(*map(read, names)))
        ended = [stamp async for stamp in authz_reads.read_ended(stores.authz, seconds=_SECONDS)]
    return Snapshot(observed, frozenset(ended))
