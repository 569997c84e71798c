"""The brake: where very much is missing at once, a person decides whether it is repaired (rule 9).

The likelier cause is then a wrong endpoint or namespace, or a store that was emptied and is being restored:
repairs would run every agent twice.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from outbox.audit.drift import DriftKind

FEW = 20
_ONE_IN = 10
_IN_WORDS = {
    DriftKind.MISSING_SCHEDULE: "are not in Temporal: are OUTBOX_TEMPORAL_ADDRESS and _NAMESPACE right?",
    DriftKind.MISSING_TUPLE: "lack relationships in SpiceDB: is OUTBOX_SPICEDB_ENDPOINT right?",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What an audit, or a round of the continuous one, has found so far.

    Attributes:
        found: how many drifts of each kind.
        live: how many live schedules it has looked at.
    """

    found: Mapping[str, int] = field(default_factory=dict)
    live: int = 0

    def count(self, kind: DriftKind) -> int:
        """How many drifts of a kind."""
        return self.found.get(kind, 0)

    def braked(self) -> frozenset[DriftKind]:
        """What more than a tenth of the live schedules lack, and more than 20."""
        bound = max(FEW, self.live / _ONE_IN)
        return frozenset(kind for kind in _IN_WORDS if self.count(kind) > bound)

    def told(self) -> list[str]:
        """What is braked, in words, and where to look first."""
        return [
            f"{self.count(kind)} of {self.live} live schedules {_IN_WORDS[kind]}"
            for kind in sorted(self.braked())
        ]


@dataclass(frozen=True, slots=True)
class Rounds:
    """The present round of the continuous audit, and the last that ended."""

    now: Seen
    before: Seen

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Read them from the row of ``outbox.audit``."""
        before = Seen(row["last_found"] or {}, row["last_live"] or 0)
        return cls(Seen(row["found"], row["live"]), before)

    def braked(self) -> frozenset[DriftKind]:
        """What so many lack, in this round or in the last, that a person has to look first."""
        return self.now.braked() | self.before.braked()

    def held_back(self) -> frozenset[DriftKind]:
        """What this round asks for no repair of.

        What is braked; and beyond 20 of a kind, what the last round had not counted, too: how much is missing
        is known at the end of a round only.
        """
        many = {kind for kind in _IN_WORDS if self.now.count(kind) > max(FEW, self.before.count(kind))}
        return self.braked() | many

    def told(self) -> list[str]:
        """What is braked, in words."""
        return self.now.told() or self.before.told()


class Allowance:
    """How much of one request for repairs the brake lets through: 20 of each kind that it is on for."""

    def __init__(self, rounds: Rounds) -> None:
        self._braked = rounds.braked()
        self._taken: Counter[DriftKind] = Counter()

    def takes(self, kinds: Collection[DriftKind]) -> bool:
        """Whether one more schedule, which differs so, may be repaired."""
        held = self._braked.intersection(kinds)
        if any(self._taken[kind] >= FEW for kind in held):
            return False
        self._taken.update(held)
        return True
