"""What a worker does, as metrics: an observer that counts.

What can be counted by adding to a number is, and is read when somebody collects: that costs the loop a look
into a dictionary, where an instrument would cost it a lock and an allocation each time.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome
from outbox.flow.settlement import Settlement
from outbox.flow.table import TERMINALS, EventType, Kind
from outbox.store.work import Settled
from outbox.telemetry import catalogue
from outbox.telemetry.catalogue import Metric, Reading
from outbox.telemetry.requested import requested_at
from outbox.worker.observer import Report


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


def histogram(meter: Meter, metric: Metric) -> Histogram:
    """Make a histogram with the buckets that its metric has."""
    return meter.create_histogram(
        metric.name,
        unit=metric.unit,
        description=metric.meaning,
        explicit_bucket_boundaries_advisory=metric.buckets,
    )


_COUNTED = (
    catalogue.STEPS,
    catalogue.STEP_ERRORS,
    catalogue.STEPS_TAKEN,
    catalogue.SETTLEMENTS,
    catalogue.SETTLEMENTS_DROPPED,
    catalogue.INTENTS_ENDED,
)


class Counted:
    """A worker's observer that counts what it is told of."""

    def __init__(self, meter: Meter) -> None:
        self._counts: dict[Metric, Counter[tuple[str, ...]]] = {metric: Counter() for metric in _COUNTED}
        for metric, counts in self._counts.items():
            observe(meter, metric, _reader(counts))
        self._effect = histogram(meter, catalogue.EFFECT_DURATION)
        self._claim = histogram(meter, catalogue.CLAIM_DURATION)
        self._settle = histogram(meter, catalogue.SETTLE_DURATION)
        self._intent = histogram(meter, catalogue.INTENT_DURATION)
        self._revocation = histogram(meter, catalogue.REVOCATION_DURATION)
        self._counts[catalogue.SETTLEMENTS_DROPPED][()] = 0

    def took(self, dispatches: Sequence[Dispatch], seconds: float) -> None:
        """Count what was taken."""
        if not dispatches:
            return
        self._claim.record(seconds)
        self._counts[catalogue.STEPS_TAKEN].update((one.consumer.value,) for one in dispatches)

    def attempt(self, dispatch: Dispatch) -> AbstractContextManager[Report]:
        """Count an attempt, and take its time."""
        return _Attempt(self, dispatch)

    def attempted(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        """Count an attempt that has come out so, after so long."""
        consumer, effect = dispatch.consumer.value, dispatch.step.effect.value
        self._counts[catalogue.STEPS][consumer, effect, type(outcome).__name__.lower()] += 1
        if not isinstance(outcome, Done):
            self._counts[catalogue.STEP_ERRORS][consumer, outcome.code.value] += 1
        self._effect.record(seconds, {"consumer": consumer, "effect": effect})

    def settled(self, batch: Sequence[Settlement], settled: Settled, seconds: float) -> None:
        """Count what was settled, and what was dropped."""
        self._settle.record(seconds)
        self._counts[catalogue.SETTLEMENTS_DROPPED][()] += len(batch) - len(settled.matched)
        self._counts[catalogue.STEPS_TAKEN].update((one.consumer.value,) for one in settled.handed)
        for settlement in batch:
            if (settlement.intent_id, settlement.lease_number) in settled.matched:
                self._counts[catalogue.SETTLEMENTS][settlement.action.value,] += 1
                if settlement.terminal and settlement.next_event:
                    self._ended(settlement, settlement.next_event)

    def _ended(self, settlement: Settlement, event: EventType) -> None:
        kind = _KINDS[event].value
        code = settlement.error_code.value if settlement.error_code else ""
        self._counts[catalogue.INTENTS_ENDED][kind, event.value, code] += 1
        took = max(0.0, time.time() - requested_at(settlement.intent_id))
        self._intent.record(took, {"kind": kind, "status": TERMINALS[event].status.value})
        if event is EventType.DELETED:
            self._revocation.record(took)


def _reader(counts: Counter[tuple[str, ...]]) -> Callable[[], Reading]:
    # A copy, which no other thread gets in between: the loop may add a label while somebody reads.
    return lambda: counts.copy().items()


class _Attempt:
    """Takes the time of one attempt."""

    def __init__(self, counted: Counted, dispatch: Dispatch) -> None:
        self._counted = counted
        self._dispatch = dispatch

    def __enter__(self) -> Report:
        self._began = time.perf_counter()
        return self._report

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def _report(self, outcome: Outcome) -> None:
        self._counted.attempted(self._dispatch, outcome, time.perf_counter() - self._began)


_KINDS = {
    EventType.CREATED: Kind.CREATE,
    EventType.CREATE_FAILED: Kind.CREATE,
    EventType.DELETED: Kind.DELETE,
    EventType.DELETE_FAILED: Kind.DELETE,
    EventType.REPAIRED: Kind.REPAIR,
}
"""What kind of intent ends with which event."""
