"""Verifies a live ledger, page by page: the log at any moment, the stores where nothing is under way.

A page is one snapshot, which is let go before any store is asked. What the stores hold is compared with the
snapshot; where it differs, the ledger is read once more, and only a lane that has not moved meanwhile counts.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from outbox import clock
from outbox.audit.comparison import Observed
from outbox.audit.sweep import together
from outbox.store.verifying import Snapshot
from outbox.verify.glimpse import Glimpse, glimpses
from outbox.verify.invariants import Violation
from outbox.verify.records import Held, Scheduled
from outbox.verify.stores import of_others, store_violations
from outbox.verify.tally import Tally

T = TypeVar("T")

_PAGE = 100
_AT_ONCE = 8
_MARKS_AT_ONCE = 20
_LOOKS = 3


class Ledger(Protocol):
    """The ledger, as it is verified."""

    async def page(self, after: str, most: int) -> Snapshot:
        """The next lanes, up to so many; none: that was all."""
        ...

    async def lanes(self, names: Sequence[str]) -> Snapshot:
        """These lanes, as far as the ledger knows them."""
        ...


class Stores(Protocol):
    """SpiceDB and Temporal, as they are verified."""

    async def observed(self, name: str) -> Observed:
        """What they hold under one name now."""
        ...

    async def ended(self, stamps: Collection[str]) -> set[str]:
        """Those of the stamps that SpiceDB has marked as ended."""
        ...


@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies lanes.

    Attributes:
        ledger: whose lanes.
        stores: None: the ledger alone is judged.
        rate: lanes a second, at most.
    """

    ledger: Ledger
    stores: Stores | None
    rate: float

    async def all(self, tally: Tally, *, after: str = "") -> AsyncGenerator[Violation, None]:
        """Verify every lane whose id comes after one; yields what does not hold, page by page.

        Raises:
            Exception: whatever the ledger or the stores raise.
        """
        tally.reached = after
        while True:
            began = clock.monotonic()
            page = await self.ledger.page(tally.reached, self._page)
            if not page.names:
                return
            async for violation in self._judged(page, tally):
                yield violation
            tally.reached = page.names[-1]
            await self._pace(began, len(page.names))

    async def named(self, names: Sequence[str], tally: Tally) -> AsyncGenerator[Violation, None]:
        """Verify these lanes; yields what does not hold, page by page.

        Raises:
            Exception: whatever the ledger or the stores raise.
        """
        for some in _parts(names, self._page):
            began = clock.monotonic()
            async for violation in self._judged(await self.ledger.lanes(some), tally):
                yield violation
            tally.reached = some[-1]
            if some[-1] != names[-1]:
                await self._pace(began, len(some))

    @property
    def _page(self) -> int:
        return max(1, min(_PAGE, int(self.rate)))

    async def _pace(self, began: float, lanes: int) -> None:
        await asyncio.sleep(max(0.0, began + lanes / self.rate - clock.monotonic()))

    async def _judged(self, page: Snapshot, tally: Tally) -> AsyncIterator[Violation]:
        for some in _parts(glimpses(page), _AT_ONCE):
            for found, was_idle in await together(*map(self._judge, some)):
                tally.lanes += 1
                tally.with_stores += was_idle
                for violation in found:
                    tally.found[violation.invariant] += 1
                    yield violation

    async def _judge(self, seen: Glimpse) -> tuple[list[Violation], bool]:
        """What does not hold in a lane, and whether its stores could be judged, too."""
        found = list(seen.lane().log_violations())
        if self.stores is None:
            return found, False
        of_stores = await self._judge_stores(self.stores, seen)
        if of_stores is None:
            return found, False
        return found + [one for one in of_stores if one not in found], True

    async def _judge_stores(self, stores: Stores, seen: Glimpse) -> list[Violation] | None:
        """The same with the stores; None: something is under way, or keeps coming."""
        for _ in range(_LOOKS):
            if not seen.is_idle:
                return None
            found = await _differences(stores, seen)
            if not found:
                return []
            again = glimpses(await self.ledger.lanes([seen.schedule_id]))
            if again == [seen]:
                return found
            if not again:
                return []
            seen = again[0]
        return None


async def _differences(stores: Stores, seen: Glimpse) -> list[Violation]:
    """What does not hold, of an idle lane and of what the stores hold under its name now."""
    observed = await stores.observed(seen.schedule_id)
    held = _held(observed)
    lane = seen.lane()
    asked = lane.undone | ({lane.live.id} if lane.live else set())
    marked: set[str] = set()
    for some in _parts(sorted(asked), _MARKS_AT_ONCE):
        marked |= await stores.ended(some)
    lane = seen.lane(marked)
    kept, granted = of_others(lane, held)
    return [*lane.log_violations(), *store_violations(lane, held, kept=kept, granted=granted)]


def _held(observed: Observed) -> Held:
    schedule = observed.schedule
    return Held(
        observed.holding.relationships,
        None if schedule is None else Scheduled(schedule.stamp, revision=schedule.revision),
    )


def _parts(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), most):
        yield items[at : at + most]
