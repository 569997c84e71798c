"""What the demo sees of its intents: snapshots of the ledger, and what changed from one to the next."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from outbox.flow.table import Status
from outbox.store.progress import ProgressStore
from outbox.store.why import STORES

_ENDED = frozenset({Status.SUCCEEDED, Status.FAILED})
STATES = {
    "incoming": "not seen yet",
    "queued": "behind another",
    "ready": "ready",
    "leased": "under way",
    "waiting": "retry later",
    "holding": "holding",
    "parked": "parked",
}
"""The states of an intent that has not ended, in words."""


@dataclass(frozen=True)
class Snapshot:
    """The demo's intents at one moment."""

    intents: Sequence[dict[str, Any]] = ()
    recent: Sequence[dict[str, Any]] = ()
    breakers: Sequence[dict[str, Any]] = ()

    @cached_property
    def statuses(self) -> Counter[str]:
        """How many intents stand how."""
        return Counter(row["status"] for row in self.intents)

    @property
    def ended(self) -> int:
        """How many have ended."""
        return sum(self.statuses[status] for status in _ENDED)

    @cached_property
    def states(self) -> Counter[str]:
        """How many of those that have not ended are in which of ``STATES``."""
        return Counter(
            "incoming" if row["place"] == "incoming" else row["state"]
            for row in self.intents
            if row["state"] is not None
        )

    @cached_property
    def lanes(self) -> tuple[int, int]:
        """How many lanes have nothing pending, of how many."""
        settled: dict[str, bool] = defaultdict(lambda: True)
        for row in self.intents:
            settled[row["schedule_id"]] &= row["status"] in _ENDED
        return sum(settled.values()), len(settled)

    @property
    def down(self) -> dict[str, str]:
        """The stores whose breaker is open, and why."""
        return {STORES[row["consumer"]]: row["error_code"] for row in self.breakers}


def news(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """Tell what changed of the stores' breakers."""
    for store, code in after.down.items():
        if store not in before.down:
            yield (
                f"[yellow]{store}'s breaker opens[/] ({code}): its steps wait and spend no attempts; "
                "one at a time probes it"
            )
    for store in before.down:
        if store not in after.down:
            yield f"[green]{store}'s breaker closes[/]: a probe went through, and the others follow"


async def look(store: ProgressStore, intents: Sequence[UUID]) -> Snapshot:
    """Take a snapshot of these intents."""
    return Snapshot(*await store.look(intents))
