"""The audit: compares the three stores over everything, in memory that does not grow with it.

SpiceDB's and Temporal's lists are spooled and sorted; then they and the ledger are gone through side by side.
Temporal's list lags, and workers go on meanwhile: what seems to differ is looked at again, by itself, before
it is told. Nothing is locked, and nothing is changed.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Protocol, TypeVar

from outbox.audit.comparison import Holding, Known, Lane, Observed, Scheduled, compare
from outbox.audit.drift import Busy, Drift, DriftKind
from outbox.audit.spool import Spool

T = TypeVar("T")

Finding = Drift | Busy
_BATCH = 500
_LOOKS_AT_ONCE = 8


class Readers(Protocol):
    """The three stores, as an audit reads them."""

    @property
    def instance(self) -> str:
        """Which outbox this is."""
        ...

    def lanes(self) -> AsyncIterator[Lane]:
        """All lanes of the ledger, in the order of their ids' bytes."""
        ...

    def holdings(self) -> AsyncIterator[tuple[str, Holding]]:
        """All that SpiceDB has, in any order."""
        ...

    def schedules(self) -> AsyncIterator[tuple[str, Scheduled]]:
        """All that Temporal lists, in any order; it may lag."""
        ...

    async def lane(self, name: str) -> Lane | None:
        """One lane as it is now; None: the ledger doesn't know the name."""
        ...

    async def observed(self, name: str) -> Observed:
        """What the stores hold under one name now."""
        ...

    async def lane_of(self, stamps: Collection[str]) -> dict[str, str]:
        """The schedule id of each stamp that is one of the ledger's intents."""
        ...

    async def ended(self, stamps: Collection[str]) -> set[str]:
        """Those of the stamps that SpiceDB has marked as ended."""
        ...


@dataclass(slots=True)
class Tally:
    """What an audit has come to so far.

    Attributes:
        holdings: how many objects SpiceDB has listed.
        schedules: how many schedules Temporal has listed.
        lanes: how many lanes were compared, the busy ones included.
        live: in how many of them a create (or adoption) stands.
        busy: how many could not be judged yet.
        found: how many drifts of each kind.
        ours: how many of them are failures of ours.
    """

    holdings: int = 0
    schedules: int = 0
    lanes: int = 0
    live: int = 0
    busy: int = 0
    ours: int = 0
    found: Counter[DriftKind] = field(default_factory=Counter)

    @property
    def by_kind(self) -> dict[str, int]:
        """How many drifts of each kind, by its name."""
        return {kind.value: count for kind, count in self.found.items()}

    def count(self, finding: Finding) -> None:
        """Add what was found."""
        if isinstance(finding, Busy):
            self.busy += 1
        else:
            self.found[finding.kind] += 1
            self.ours += finding.is_ours


async def survey(readers: Readers, tally: Tally) -> AsyncGenerator[Finding, None]:
    """Compare everything; yields what differs, in the order of the ids, as it is confirmed.

    Raises:
        Exception: whatever the readers raise.
    """
    with Spool() as spool:
        # The lists first: what they have was enqueued by the time that the ledger is read, so a name that the
        # ledger doesn't know then is somebody else's.
        await together(
            spool.add_holdings(_counted(readers.holdings(), tally, "holdings")),
            spool.add_schedules(_counted(readers.schedules(), tally, "schedules")),
        )
        async for batch in _batches(_merge(readers.lanes(), spool.observed())):
            for finding in await _compare_batch(readers, batch, tally):
                tally.count(finding)
                yield finding


async def examine(readers: Readers, names: Iterable[str], tally: Tally) -> AsyncGenerator[Finding, None]:
    """Compare some schedules, each as it is now; one that moves meanwhile counts as busy.

    Raises:
        Exception: whatever the readers raise.
    """
    async for lane, findings in _looks(readers, list(names)):
        if lane is not None:
            _count_lane(tally, lane)
        for finding in findings:
            tally.count(finding)
            yield finding


Pair = tuple[Lane | None, str, Observed]


async def _compare_batch(readers: Readers, batch: list[Pair], tally: Tally) -> list[Finding]:
    unknown = {
        stamp for lane, _, observed in batch for stamp in observed.stamps - {lane and lane.live_intent}
    }
    known = Known(readers.instance, await readers.lane_of(unknown) if unknown else {})
    findings: list[list[Finding]] = []
    suspects: dict[int, str] = {}
    for lane, name, observed in batch:
        if lane is not None:
            _count_lane(tally, lane)
        if lane is not None and lane.busy:
            findings.append([Busy(name)])
            continue
        found = list(compare(lane or Lane(name), observed, known))
        if found and (lane is not None or found[0].is_reclaimed):
            suspects[len(findings)] = name
        findings.append([*found])
    looked = [confirmed async for _, confirmed in _looks(readers, list(suspects.values()))]
    for at, confirmed in zip(suspects, looked, strict=True):
        findings[at] = confirmed
    return list(chain.from_iterable(findings))


async def _looks(readers: Readers, names: list[str]) -> AsyncIterator[tuple[Lane | None, list[Finding]]]:
    """Look at each, a few at once, in the order of the names."""
    for at in range(0, len(names), _LOOKS_AT_ONCE):
        for found in await together(*(_look(readers, name) for name in names[at : at + _LOOKS_AT_ONCE])):
            yield found


async def _look(readers: Readers, name: str) -> tuple[Lane | None, list[Finding]]:
    """Compare one name as it is now; a lane that is not the same before and after is busy."""
    before = await readers.lane(name)
    observed = await readers.observed(name)
    lane = await readers.lane(name)
    if lane != before or (lane is not None and lane.busy):
        return lane, [Busy(name)]
    known = Known(readers.instance, await readers.lane_of(observed.stamps))
    found = list(compare(lane or Lane(name), observed, known))
    live = {lane.live_intent} if lane and lane.live_intent else set()
    # Of one that was never registered, its mark alone tells that it was deleted since.
    if found or (live and lane and not lane.registration):
        ended = await readers.ended(observed.holding.stamps | live)
        found = list(compare(lane or Lane(name), observed, replace(known, ended=ended)))
    return lane, [*found]


def _count_lane(tally: Tally, lane: Lane) -> None:
    tally.lanes += 1
    tally.live += lane.live_intent is not None


async def _merge(lanes: AsyncIterator[Lane], observed: Iterator[tuple[str, Observed]]) -> AsyncIterator[Pair]:
    """Go through both side by side, in the order of the ids."""
    seen = next(observed, None)
    async for lane in lanes:
        while seen is not None and seen[0] < lane.schedule_id:
            yield (None, *seen)
            seen = next(observed, None)
        if seen is not None and seen[0] == lane.schedule_id:
            yield (lane, *seen)
            seen = next(observed, None)
        else:
            yield (lane, lane.schedule_id, Observed())
    while seen is not None:
        yield (None, *seen)
        seen = next(observed, None)


async def _batches(pairs: AsyncIterator[Pair]) -> AsyncIterator[list[Pair]]:
    batch: list[Pair] = []
    async for pair in pairs:
        batch.append(pair)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _counted(items: AsyncIterator[T], tally: Tally, what: str) -> AsyncIterator[T]:
    async for item in items:
        setattr(tally, what, getattr(tally, what) + 1)
        yield item


async def together(*calls: Awaitable[T]) -> list[T]:
    """Wait for all; the first that fails ends the others, and is what is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
