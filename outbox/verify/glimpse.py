"""One lane of a live ledger, as a snapshot had it."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from outbox.store.verifying import Row, Snapshot
from outbox.verify.lane import Lane, lanes_of
from outbox.verify.records import Ledger
from outbox.verify.rows import Rows, ledger_of

_ALL = "~"
"""Greater than any id: of a lane that is not here whole, anything that ended may be missing."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """One lane at one moment; two that are equal have nothing between them.

    Attributes:
        waits: a late write of it may still land, or an intent that is not among those here has not ended.
    """

    schedule_id: str
    ledger: Ledger
    waits: bool

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, due later (a repair), or may still land."""
        return not self.ledger.pending and not self.waits

    def lane(self, ended: Collection[str] | None = None) -> Lane:
        """What the log tells; with the marks of ended intents, if they were looked at."""
        return lanes_of(self.ledger, ended).get(self.schedule_id) or Lane(self.schedule_id)


def glimpses(snapshot: Snapshot) -> list[Glimpse]:
    """The lanes of a snapshot, in its order."""
    intents, lanes = _by_lane(snapshot.intents), _by_lane(snapshot.lanes)
    queue, events = _by_lane(snapshot.queue), _by_lane(snapshot.events)
    return [
        Glimpse(
            name,
            # The order in which producers committed is not in the ledger.
            ledger_of(
                Rows(intents[name], events[name], queue[name], lanes[name]),
                spans={},
                pruned_before=_ALL if name in snapshot.cut else snapshot.pruned_before,
            ),
            waits=name in snapshot.queued or any(row["holds"] for row in lanes[name]),
        )
        for name in snapshot.names
    ]


def _by_lane(rows: Sequence[Row]) -> defaultdict[str, list[Row]]:
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["schedule_id"]].append(row)
    return found
