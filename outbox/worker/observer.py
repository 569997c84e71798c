"""What the loop and its settler report to; and the observer of a worker that nobody watches.

Watching changes nothing: an observer waits for nothing and raises nothing.
"""

from collections.abc import Sequence
from typing import Protocol

from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Outcome
from outbox.flow.settlement import Settlement
from outbox.store.work import Settled


class Observer(Protocol):
    """Is told what a worker does, as it does it."""

    def took(self, dispatches: Sequence[Dispatch], seconds: float) -> None:
        """The source was asked for steps; these came, after so long."""
        ...

    def began(self, dispatch: Dispatch) -> None:
        """An attempt begins, in a task and so a context of its own, which holds for its calls."""
        ...

    def attempted(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        """That attempt has come out so, after so long; it is still its context."""
        ...

    def settled(self, batch: Sequence[Settlement], settled: Settled, seconds: float) -> None:
        """A batch was settled in so long; what is not among those that matched is dropped."""
        ...


class Unobserved:
    """Takes no notice of anything."""

    def took(self, dispatches: Sequence[Dispatch], seconds: float) -> None:
        """Take no notice."""

    def began(self, dispatch: Dispatch) -> None:
        """Take no notice."""

    def attempted(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        """Take no notice."""

    def settled(self, batch: Sequence[Settlement], settled: Settled, seconds: float) -> None:
        """Take no notice."""
