"""Whether the three stores agree, judged from the event log alone and read straight from each store."""

import asyncio
from collections.abc import Collection, Mapping
from uuid import UUID

from consumers.authz.client import Tuple
from outbox.compose.audit import words
from outbox.testing import Ledger as Records
from outbox.testing import Stores as Snapshot
from outbox.testing import check, read_history
from tests.pipeline.stores import Stores

_PERMISSIONS = ("read", "update", "delete")


async def disagreements(
    database_url: str,
    stores: Stores,
    *,
    more: Mapping[str, Collection[Tuple]],
    before: Snapshot,
    any_order: bool,
) -> list[str]:
    """List everything that is not as it must be once nothing is pending, parked included.

    Args:
        database_url: all its lanes are judged.
        stores: the other two.
        more: relationships that others gave to live schedules since.
        before: what others held in the stores before.
        any_order: intents of a lane were enqueued side by side, so that positions say nothing.
    """
    history = await read_history(database_url)
    records = history.ledger(spans={} if any_order else None)
    snapshot = await _snapshot(stores, records)
    granted = {records.live[name]: {words(one) for one in tuples} for name, tuples in more.items()}
    found = [str(one) for one in check(records, snapshot, before=before, granted=granted)]
    found += [f"{row.schedule_id}: {row}" for row in records.pending if row.state == "parked"]
    return found + await _access_problems(stores, records, snapshot, before)


async def _snapshot(stores: Stores, records: Records) -> Snapshot:
    names = sorted({intent.schedule_id for intent in records.intents})
    tuples = await asyncio.gather(*map(stores.tuples, names))
    schedules = await asyncio.gather(*map(stores.schedule, names))
    ids = [intent.id for intent in records.intents]
    ended = await asyncio.gather(*(stores.ended(UUID(intent_id)) for intent_id in ids))
    return Snapshot(
        {name: frozenset(map(words, held)) for name, held in zip(names, tuples, strict=True) if held},
        {name: found.record for name, found in zip(names, schedules, strict=True) if found},
        {intent_id for intent_id, marked in zip(ids, ended, strict=True) if marked},
    )


async def _access_problems(
    stores: Stores, records: Records, snapshot: Snapshot, before: Snapshot
) -> list[str]:
    """Nobody but the owner of what lives has access, and the owner has all of it: SpiceDB says so itself."""
    found = []
    subjects: dict[str, set[str]] = {}
    for intent in records.intents:
        if intent.owner is not None:
            subjects.setdefault(intent.schedule_id, set()).add(intent.owner)
    for name, owners in sorted(subjects.items()):
        held = before.relationships.get(name, frozenset()) | snapshot.relationships.get(name, frozenset())
        for subject in sorted(owners):
            kind, _, who = subject.partition(":")
            may = [one for one in _PERMISSIONS if await stores.may(one, name, who, kind)]
            if may != (list(_PERMISSIONS) if f"owner@{subject}" in held else []):
                found.append(f"{name}: {subject} may {may}; SpiceDB has {sorted(held)}")
    return found
