"""Sees what happens in a seed, from outside of those who do it: attempts, and what operators meet.

Of attempts the workers' observers tell, the network, and the ledger, which knows what it settled. What was
drawn for the seed counts for nothing here.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from uuid import UUID

from outbox import current
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome
from outbox.flow.settlement import Settlement
from outbox.worker.observer import Observer, Unobserved
from tests.simulation.loop import Process
from tests.simulation.network import Fault
from tests.simulation.reach.cells import (
    Act,
    Attempt,
    Became,
    Beside,
    Came,
    Cell,
    Happened,
    Live,
    Settle,
    became,
    step_of,
)


@dataclass(slots=True)
class _Seen:
    """What is known of one attempt so far."""

    step: str
    live: Live
    process: Process
    leased: float
    ended: float | None = None
    happened: Happened = Happened.NOTHING
    came: Came = Came.NOTHING
    became: Became = Became.LOST

    def fate(self) -> Happened:
        """What happened to it last; what its worker met counts more than what its calls did."""
        if self.ended is None:
            return Happened.KILLED
        if any(self.leased <= at <= self.ended for at in self.process.stops):
            return Happened.STOPPED
        return self.happened


class Witness:
    """Writes down what happens in one seed.

    Args:
        clock: tells the moment, in seconds.
        step_timeout: how long a step has from its lease on.
    """

    def __init__(self, clock: Callable[[], float], step_timeout: float) -> None:
        self._clock = clock
        self._step_timeout = step_timeout
        self._attempts: dict[tuple[UUID, int], _Seen] = {}
        self._acts: Counter[Act] = Counter()

    def of(self, process: Process) -> Observer:
        """What a worker reports to."""
        return _Reports(self, process)

    def began(self, process: Process, dispatch: Dispatch) -> None:
        """An attempt begins."""
        self._attempts[dispatch.intent_id, dispatch.lease_number] = _Seen(
            step=step_of(dispatch.event_type, look=dispatch.look),
            live=Live.of(dispatch.live_intent, adopted=dispatch.live_adopted),
            process=process,
            leased=dispatch.deadline - self._step_timeout,
        )

    def came(self, dispatch: Dispatch, outcome: Outcome) -> None:
        """It has come out so."""
        seen = self._attempts[dispatch.intent_id, dispatch.lease_number]
        if not seen.process.alive:
            return  # what is left of it unwinds, and nobody hears of it
        seen.ended = self._clock()
        skipped = isinstance(outcome, Done) and outcome.skipped
        seen.came = Came.SKIPPED if skipped else Came(type(outcome).__name__.lower())
        if not isinstance(outcome, Done) and outcome.code is ErrorCode.RELEASED:
            seen.happened = Happened.CUT_OFF

    def failed(self, store: str, fault: Fault, beyond: bool) -> None:
        """Something goes wrong with a call; of an attempt, mostly."""
        made = current.attempt.get()
        if isinstance(made, Dispatch):
            happened = Happened.POSTGRES if store == "postgres" else Happened.of(fault, beyond=beyond)
            self._attempts[made.intent_id, made.lease_number].happened = happened

    def settled(self, batch: Sequence[Settlement], matched: AbstractSet[tuple[UUID, int]]) -> None:
        """The ledger was told of these outcomes, and took those that matched."""
        for one in batch:
            seen = self._attempts.get((one.intent_id, one.lease_number))
            if seen is None or seen.became not in {Became.LOST, Became.STALE}:
                continue  # never begun, as it had failed too often; or settled by the same words before
            is_current = (one.intent_id, one.lease_number) in matched
            seen.became = became(one) if is_current else Became.STALE

    def acted(self, act: Act) -> None:
        """Somebody did something about a lane."""
        self._acts[act] += 1

    def cells(self) -> Counter[Cell]:
        """How often each cell was met."""
        return Counter(self._met())

    def _met(self) -> Iterator[Cell]:
        for seen in self._attempts.values():
            yield Attempt(seen.step, seen.fate(), seen.came)
            yield Settle(seen.step, seen.came, seen.became)
            yield Beside(seen.step, seen.live, seen.came)
        yield from self._acts.elements()


class _Reports(Unobserved):
    """One worker's reports."""

    def __init__(self, witness: Witness, process: Process) -> None:
        self._witness = witness
        self._process = process

    def began(self, dispatch: Dispatch) -> None:
        """An attempt begins."""
        self._witness.began(self._process, dispatch)

    def attempted(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        """It has come out so."""
        del seconds
        self._witness.came(dispatch, outcome)
