"""What a schedule is that the ledger has forgotten: read from both stores, so that it can be reclaimed."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from consumers.authz import reads as authz_reads
from consumers.authz.effects import creator_of
from consumers.calls import read_patiently
from outbox.compose.audit import AllThree, open_all
from outbox.flow.dispatch import Creator
from outbox.settings import Settings

_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A schedule that stands in both stores, as the intent would have it that the ledger has lost.

    Attributes:
        stamp: that intent's id.
        definition: what it asked for, as a request.
        creator: whom it made the owner; the account that it was made for is not known.
    """

    schedule_id: str
    stamp: UUID
    definition: Mapping[str, Any]
    creator: Creator


async def read_forgotten(settings: Settings, names: Iterable[str]) -> AsyncIterator[Forgotten]:
    """Read these schedules; one that is gone meanwhile, or has no one owner, is left out.

    Raises:
        StoreUnusable: SpiceDB or Temporal can't be read.
    """
    async with open_all(settings) as stores:
        for name in names:
            found = await _read(stores, name)
            if found is not None:
                yield found


async def _read(stores: AllThree, name: str) -> Forgotten | None:
    tuples, described = await asyncio.gather(
        authz_reads.read_schedule(stores.authz, name, seconds=_SECONDS),
        read_patiently(partial(stores.temporal.definition, name), seconds=_SECONDS),
    )
    creator = creator_of(tuples)
    if described is None or described[0].stamp is None or creator is None:
        return None
    found, definition = described
    return Forgotten(name, UUID(found.stamp), definition, creator)
