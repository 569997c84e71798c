"""One thing that meets another: what was there, and the calls that are under way at once."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tests.interleaving.calls import Before
from tests.interleaving.stage import Call


@dataclass(frozen=True)
class Scenario:
    """What meets.

    Attributes:
        prepare: what was there; returns the calls that are under way at once.
        serial: each ending must be one that the calls come to one after another, too.
        may_fail: the SQL states that a caller is to expect, and to answer by trying again.
        any_order: producers that commit at once have no order between them.
        bound: so many steps of a consumer may be on their way to workers; None: they are not counted.
    """

    name: str
    prepare: Callable[[Before], Awaitable[Sequence[Call]]]
    serial: bool = True
    may_fail: frozenset[str] = field(default_factory=frozenset)
    any_order: bool = False
    bound: int | None = None


TRY_AGAIN = frozenset({"40001"})
