"""Histograms of plain numbers: to record a value costs a search in its buckets and two additions.

OpenTelemetry has no histogram that is read when somebody collects, and what its own costs for each value is
more than all else that a step is counted with. So these are added to what is collected: for Prometheus in
``prometheus``, for exporters in ``beside``.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from outbox.telemetry.catalogue import Metric


class Buckets:
    """How often something took how long. One thread records, any may read.

    Attributes:
        counts: how many values lie in each bucket, up to its bound and above the one before; the last bucket
            has no bound.
        total: the sum of the values.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def record(self, value: float) -> None:
        """Add a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


@dataclass(frozen=True, slots=True)
class Read:
    """The values of one histogram at a moment.

    Attributes:
        labels: the values of its metric's labels.
    """

    metric: Metric
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    total: float


class Histograms:
    """All histograms of a process. They are made before anybody reads."""

    def __init__(self) -> None:
        self._all: dict[tuple[Metric, tuple[str, ...]], Buckets] = {}

    def of(self, metric: Metric, *labels: str) -> Buckets:
        """Tell where a metric with these labels is recorded."""
        return self._all.setdefault((metric, labels), Buckets(metric.buckets))

    def read(self) -> list[Read]:
        """Those with any values, by their metrics."""
        found = [
            Read(metric, labels, tuple(buckets.counts), buckets.total)
            for (metric, labels), buckets in self._all.items()
        ]
        return sorted((one for one in found if any(one.counts)), key=lambda one: one.metric.name)
