"""What verifying has come to so far."""

from collections import Counter
from dataclasses import dataclass, field

from outbox.verify.invariants import Invariant


@dataclass(slots=True)
class Tally:
    """What it has come to so far.

    Attributes:
        lanes: how many lanes were verified.
        with_stores: of how many of them the stores were judged, too: nothing was under way.
        found: how many violations of each invariant.
        reached: the last schedule id of the last whole page; where to go on.
    """

    lanes: int = 0
    with_stores: int = 0
    found: Counter[Invariant] = field(default_factory=Counter)
    reached: str = ""

    @property
    def violations(self) -> int:
        """How many there are of all invariants."""
        return self.found.total()
