"""What a worker does, as metrics: an observer that counts.

A step pays for this, so that it does no more than add to plain numbers under a key that is there already.
What becomes of them, names of metrics and labels, is made when somebody collects.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from uuid import UUID

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome
from outbox.flow.settlement import Action, Settlement
from outbox.flow.table import STEPS, TERMINALS, EventType, Kind
from outbox.store.work import Settled
from outbox.telemetry import catalogue
from outbox.telemetry.catalogue import Metric, Reading
from outbox.telemetry.histograms import Buckets, Histograms
from outbox.telemetry.requested import requested_at


def observe(meter: Meter, metric: Metric, read: Callable[[], Reading]) -> None:
    """Have a metric read whenever somebody collects, from whichever thread."""

    def collect(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(value, dict(zip(metric.labels, labels, strict=True)))
            for labels, value in tuple(read())
        ]

    make = (
        meter.create_observable_counter
        if metric.kind is catalogue.Kind.COUNTER
        else meter.create_observable_gauge
    )
    make(metric.name, [collect], unit=metric.unit, description=metric.meaning)


_step = attrgetter("event_type")
_what = attrgetter("action", "next_event", "error_code")


class Counted:
    """A worker's observer that counts what it is told of."""

    def __init__(self, meter: Meter, histograms: Histograms) -> None:
        """Show the counts by a meter, and what took how long by histograms."""
        self._taken: Counter[EventType] = Counter()
        self._attempts: Counter[tuple[EventType, type[Outcome], ErrorCode | None]] = Counter()
        self._settled: Counter[tuple[Action, EventType | None, ErrorCode | None]] = Counter()
        self._ended_with_others: Counter[EventType | None] = Counter()
        self._dropped = 0
        observe(meter, catalogue.STEPS_TAKEN, self._steps_taken)
        observe(meter, catalogue.STEPS, self._steps)
        observe(meter, catalogue.STEP_ERRORS, self._step_errors)
        observe(meter, catalogue.SETTLEMENTS, self._settlements)
        observe(meter, catalogue.SETTLEMENTS_DROPPED, lambda: [((), self._dropped)])
        observe(meter, catalogue.INTENTS_ENDED, self._intents_ended)
        self._claim = histograms.of(catalogue.CLAIM_DURATION)
        self._settle = histograms.of(catalogue.SETTLE_DURATION)
        self._effect = {
            event: histograms.of(catalogue.EFFECT_DURATION, step.consumer.value, step.effect.value)
            for event, step in STEPS.items()
        }
        self._lives: dict[EventType | None, Sequence[Buckets]] = {
            event: _lives(histograms, event) for event in TERMINALS
        }

    def took(self, dispatches: Sequence[Dispatch], seconds: float) -> None:
        """Count what was taken."""
        if dispatches:
            self._claim.record(seconds)
            self._taken.update(map(_step, dispatches))

    def began(self, dispatch: Dispatch) -> None:
        """Count nothing: what begins comes out, or its process ends."""

    def attempted(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        """Count an attempt that has come out so, after so long."""
        code = None if isinstance(outcome, Done) else outcome.code
        self._attempts[dispatch.event_type, type(outcome), code] += 1
        self._effect[dispatch.event_type].record(seconds)

    def settled(self, batch: Sequence[Settlement], settled: Settled, seconds: float) -> None:
        """Count what was settled, and what was dropped."""
        self._settle.record(seconds)
        self._taken.update(map(_step, settled.handed))
        if dropped := len(batch) - len(settled.matched):
            self._dropped += dropped
            batch = [one for one in batch if (one.intent_id, one.lease_number) in settled.matched]
        self._settled.update(map(_what, batch))
        now = time.time()
        for one in batch:
            others = _ended_with(one)
            if others:
                self._ended_with_others[one.next_event] += len(others)
            for buckets in self._lives.get(one.next_event, ()):
                for intent in (one.intent_id, *others):
                    buckets.record(max(0.0, now - requested_at(intent)))

    # What follows is called by whoever collects. Each copies the counts first, in one go: the loop may add a
    # key while they are read.

    def _steps_taken(self) -> Reading:
        return _added(((STEPS[event].consumer.value,), many) for event, many in self._taken.copy().items())

    def _steps(self) -> Reading:
        return _added(
            ((STEPS[event].consumer.value, STEPS[event].effect.value, outcome.__name__.lower()), many)
            for (event, outcome, _), many in self._attempts.copy().items()
        )

    def _step_errors(self) -> Reading:
        return _added(
            ((STEPS[event].consumer.value, code.value), many)
            for (event, _, code), many in self._attempts.copy().items()
            if code
        )

    def _settlements(self) -> Reading:
        return _added(((action.value,), many) for (action, _, _), many in self._settled.copy().items())

    def _intents_ended(self) -> Reading:
        ended = [(event, code, many) for (_, event, code), many in self._settled.copy().items()]
        ended += [(event, None, many) for event, many in self._ended_with_others.copy().items()]
        return _added(
            ((_KINDS[event].value, event.value, code.value if code else ""), many)
            for event, code, many in ended
            if event in TERMINALS
        )


def _ended_with(settlement: Settlement) -> Sequence[UUID]:
    """The other intents that end as this one does: of an update that is done, those of its run."""
    redefines = settlement.redefines
    return redefines.run if redefines and not redefines.split else ()


def _lives(histograms: Histograms, event: EventType) -> Sequence[Buckets]:
    """Where it is recorded how long an intent lived that ends with this event."""
    status = TERMINALS[event].status.value
    lives = [histograms.of(catalogue.INTENT_DURATION, _KINDS[event].value, status)]
    if event is EventType.DELETED:
        lives.append(histograms.of(catalogue.REVOCATION_DURATION))
    return lives


def _added(parts: Iterable[tuple[tuple[str, ...], int]]) -> Reading:
    """Add up what has the same labels."""
    sums: Counter[tuple[str, ...]] = Counter()
    for labels, many in parts:
        sums[labels] += many
    return sums.items()


_KINDS = {
    EventType.CREATED: Kind.CREATE,
    EventType.CREATE_FAILED: Kind.CREATE,
    EventType.UPDATED: Kind.UPDATE,
    EventType.UPDATE_FAILED: Kind.UPDATE,
    EventType.DELETED: Kind.DELETE,
    EventType.DELETE_FAILED: Kind.DELETE,
    EventType.REPAIRED: Kind.REPAIR,
}
"""What kind of intent ends with which event."""
