"""What the loop and its settler report to; and the observer of a worker that nobody watches.

Watching changes nothing: an observer waits for nothing and raises nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Outcome
from outbox.flow.settlement import Settlement
from outbox.store.work import Settled

Report = Callable[[Outcome], None]
"""Takes the outcome of an attempt."""


class Observer(Protocol):
    """Is told what a worker does, as it does it."""

    def took(self, dispatches: Sequence[Dispatch], seconds: float) -> None:
        """The source was asked for steps; these came, after so long."""
        ...

    def attempt(self, dispatch: Dispatch) -> AbstractContextManager[Report]:
        """An attempt at a step is made inside; its outcome is reported before the end."""
        ...

    def settled(self, batch: Sequence[Settlement], settled: Settled, seconds: float) -> None:
        """A batch was settled in so long; what is not among those that matched is dropped."""
        ...


class Unobserved:
    """Takes no notice of anything."""

    def took(self, dispatches: Sequence[Dispatch], seconds: float) -> None:
        """Take no notice."""

    def attempt(self, dispatch: Dispatch) -> AbstractContextManager[Report]:
        """Take no notice."""
        del dispatch
        return _NOTHING

    def settled(self, batch: Sequence[Settlement], settled: Settled, seconds: float) -> None:
        """Take no notice."""


class _Nothing:
    """An attempt that nobody watches."""

    def __enter__(self) -> Report:
        return self._ignore

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    @staticmethod
    def _ignore(outcome: Outcome) -> None:
        """Take no notice."""


_NOTHING = _Nothing()
