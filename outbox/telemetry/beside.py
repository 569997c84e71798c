"""Our own histograms beside what OpenTelemetry exports of its instruments."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from opentelemetry.sdk.metrics import Histogram as Instrument
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)

from outbox.telemetry.histograms import Histograms, Read


class HistogramsBeside(MetricExporter):
    """An exporter that gives another one what it is given, and the histograms with it.

    Since the process began, or since the last time where that exporter would rather have it so
    (``OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE``).
    """

    def __init__(self, exporter: MetricExporter, histograms: Histograms) -> None:
        # By these a reader asks an exporter what it prefers; there is no other way.
        preferred = exporter._preferred_temporality  # noqa: SLF001
        super().__init__(preferred, exporter._preferred_aggregation)  # noqa: SLF001
        self._exporter = exporter
        self._histograms = histograms
        self._temporality = (preferred or {}).get(Instrument, AggregationTemporality.CUMULATIVE)
        self._since = time.time_ns()
        self._told: dict[tuple[str, tuple[str, ...]], Read] = {}

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any
    ) -> MetricExportResult:
        """Export both."""
        of_process = metrics_data.resource_metrics[0]
        scope = of_process.scope_metrics[0]
        scope = replace(scope, metrics=[*scope.metrics, *self._metrics()])
        of_process = replace(of_process, scope_metrics=[scope, *of_process.scope_metrics[1:]])
        both = replace(metrics_data, resource_metrics=[of_process, *metrics_data.resource_metrics[1:]])
        return self._exporter.export(both, timeout_millis=timeout_millis, **options)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Have the exporter do it."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **options: Any) -> None:
        """Have the exporter do it."""
        self._exporter.shutdown(timeout_millis, **options)

    def _metrics(self) -> list[Metric]:
        now, since = time.time_ns(), self._since
        read = self._histograms.read()
        if self._temporality is AggregationTemporality.DELTA:
            self._since = now
            told, self._told = self._told, {(one.metric.name, one.labels): one for one in read}
            read = [_less(one, told.get((one.metric.name, one.labels))) for one in read]
        return [
            Metric(
                metric.name,
                metric.meaning,
                metric.unit,
                Histogram([_point(one, since, now) for one in found], self._temporality),
            )
            for metric, found in groupby(read, key=lambda one: one.metric)
        ]


def _less(read: Read, before: Read | None) -> Read:
    if before is None:
        return read
    counts = tuple(now - then for now, then in zip(read.counts, before.counts, strict=True))
    return replace(read, counts=counts, total=read.total - before.total)


def _point(read: Read, since: int, now: int) -> HistogramDataPoint:
    unknown: Any = None
    counts: Sequence[int] = read.counts
    return HistogramDataPoint(
        attributes=dict(zip(read.metric.labels, read.labels, strict=True)),
        start_time_unix_nano=since,
        time_unix_nano=now,
        count=sum(counts),
        sum=read.total,
        bucket_counts=counts,
        explicit_bounds=read.metric.buckets,
        # OTLP need not be told, and no value is kept by itself.
        min=unknown,
        max=unknown,
    )
