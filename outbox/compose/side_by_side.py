"""One schedule in the three stores, side by side, as they are at this moment: for people who look at it."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

from consumers.authz import reads as authz_reads
from consumers.calls import Call, StoreFailure
from outbox.audit.drift import Busy
from outbox.audit.sweep import Finding, Tally, examine
from outbox.compose.audit import AllThree, unusable, words

Shown = dict[str, Any]

_SECONDS = 3.0
_AGREEMENT_SECONDS = 5.0


async def side_by_side(stores: AllThree, schedule_id: str) -> Shown:
    """Read a schedule in each store; a store that can't be read says why, and hides nothing of the others.

    ``agrees`` is None where that can't be told: intents are under way, or a store can't be read.
    """
    lane, authz, temporal = await asyncio.gather(
        stores.ledger.lane(schedule_id),
        _or_why(_relationships(stores, schedule_id)),
        _or_why(stores.temporal.summary(schedule_id, Call.within(_SECONDS))),
    )
    ledger = None
    if lane is not None:
        ledger = {
            "live_intent": lane["live_intent"],
            "adopted": lane["adopted"],
            "revision": lane["revision"],
            "creator": lane["creator"],
            "ran_out": lane["ran_out"],
            "under_way": lane["busy"],
        }
    shown: Shown = {"ledger": ledger, "spicedb": authz, "temporal": temporal}
    if any(one and "error" in one for one in (authz, temporal)):
        return shown | {"agrees": None, "differences": []}
    return shown | await _agreement(stores, schedule_id)


async def judge(stores: AllThree, schedule_ids: Sequence[str]) -> dict[str, list[Finding]]:
    """Compare some schedules in the three stores as an audit of them does; those that agree have no findings.

    Raises:
        StoreUnusable: a store can't be read.
    """
    found: dict[str, list[Finding]] = {name: [] for name in schedule_ids}
    try:
        async for finding in examine(stores, list(found), Tally()):
            found[finding.schedule_id].append(finding)
    except StoreFailure as failure:
        raise unusable("the stores can't be compared", failure) from failure
    return found


async def _relationships(stores: AllThree, schedule_id: str) -> Shown | None:
    async with asyncio.timeout(_SECONDS):
        found = await authz_reads.read_schedule(stores.authz, schedule_id, seconds=_SECONDS)
    return {"relationships": sorted(map(words, found))} if found else None


async def _agreement(stores: AllThree, schedule_id: str) -> Shown:
    """Compare as an audit of this one schedule does."""
    try:
        async with asyncio.timeout(_AGREEMENT_SECONDS):
            found = [one async for one in examine(stores, [schedule_id], Tally())]
    except (StoreFailure, TimeoutError):
        return {"agrees": None, "differences": []}
    if any(isinstance(one, Busy) for one in found):
        return {"agrees": None, "differences": []}
    differences = [
        {"kind": one.kind, "detail": one.detail, "fix": one.fix, "ours": one.is_ours}
        for one in found
        if not isinstance(one, Busy)
    ]
    return {"agrees": not differences, "differences": differences}


async def _or_why(read: Awaitable[Shown | None]) -> Shown | None:
    try:
        return await read
    except StoreFailure as failure:
        return {"error": {"code": failure.outcome.code, "message": failure.outcome.message}}
    except TimeoutError:
        return {"error": {"code": "timed_out", "message": f"no answer within {_SECONDS:g} s"}}
