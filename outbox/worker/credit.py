"""How many steps a worker may take: a slot for each effect that may run at once, and each goes to one step.

A claim brings steps, and a settle hands over what follows the steps that it settles. Both may be under way at
once, so that what one of them may bring is not free for the other.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from outbox.flow.dispatch import Dispatch
from outbox.flow.settlement import Settlement
from outbox.flow.table import Consumer


class Credit:
    """The slots of one worker.

    A settle gets no more than half of what is open, the slots of its own steps included: the rest is for what
    has waited longest, so that no lane waits for others, however much follows in those. Where the last claim
    found less of a store than it had room for, the next leaves as much as half to what may follow the steps
    under way.
    """

    def __init__(self, slots: Mapping[Consumer, int]) -> None:
        self._slots = slots
        self._in_flight: Counter[Consumer] = Counter()
        self._claimable: dict[Consumer, int] = {}
        self._lent: dict[Consumer, int] = {}
        self._short = set(slots)

    @property
    def in_flight(self) -> Mapping[Consumer, int]:
        """How many steps of each consumer are under way."""
        return {name: self._in_flight[name] for name in self._slots}

    @property
    def lent(self) -> bool:
        """Whether a settle is under way that may hand over steps."""
        return bool(self._lent)

    @property
    def short(self) -> bool:
        """Whether the last claim brought all that it had room for, of some store: there may be more."""
        return bool(self._short)

    def for_claim(self) -> Mapping[Consumer, int]:
        """What a claim may bring."""
        under_way = self._in_flight.total()
        self._claimable = {}
        for name in self._slots:
            free = self._free(name)
            kept = 0 if name in self._short else min(free // 2, under_way - self._in_flight[name])
            if free > kept:
                self._claimable[name] = free - kept
        return self._claimable

    def claimed(self, taken: Sequence[Dispatch]) -> None:
        """The claim brought these."""
        brought = Counter(one.consumer for one in taken)
        self._short = {name for name in self._slots if brought[name] == self._claimable.get(name, 0)}
        self._in_flight += brought
        self._claimable = {}

    def for_settle(self, batch: Sequence[Settlement]) -> Mapping[Consumer, int]:
        """What a settle of these may hand over."""
        self._lent = {}
        own = Counter(one.consumer for one in batch)
        room = {}
        for name, slots in self._slots.items():
            half = (slots - self._in_flight[name] + own[name]) // 2
            if (many := min(self._free(name) + own[name], half)) > 0:
                room[name] = many
                self._lent[name] = max(0, many - own[name])
        return room

    def settled(self, batch: Sequence[Settlement], handed: Sequence[Dispatch]) -> None:
        """These are settled, and those were handed over."""
        self._in_flight.subtract(one.consumer for one in batch)
        self._in_flight.update(one.consumer for one in handed)
        self._lent = {}

    def _free(self, name: Consumer) -> int:
        used = self._in_flight[name] + self._claimable.get(name, 0) + self._lent.get(name, 0)
        return self._slots[name] - used
