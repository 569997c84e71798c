"""Histograms count what they are told, and come out the same for Prometheus and for exporters."""

from typing import Any

import pytest
from opentelemetry.sdk.metrics import Histogram as Instrument
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from prometheus_client.parser import text_string_to_metric_families

from outbox.telemetry import catalogue
from outbox.telemetry.beside import HistogramsBeside
from outbox.telemetry.histograms import Buckets, Histograms
from outbox.telemetry.instruments import observe
from outbox.telemetry.prometheus import Exposition


def test_a_value_lies_in_the_bucket_up_to_whose_bound_it_is() -> None:
    buckets = Buckets((1, 2.5))
    for value in (0.0, 1.0, 1.1, 2.5, 2.6, 100.0):
        buckets.record(value)
    assert buckets.counts == [2, 2, 2]
    assert buckets.total == pytest.approx(107.2)


def recorded() -> Histograms:
    """Two of one metric, and one that nothing was recorded in."""
    histograms = Histograms()
    histograms.of(catalogue.EFFECT_DURATION, "authz", "register").record(0.004)
    for value in (0.02, 40.0):
        histograms.of(catalogue.EFFECT_DURATION, "temporal", "create").record(value)
    histograms.of(catalogue.CLAIM_DURATION)
    return histograms


def test_prometheus_reads_them_beside_all_else() -> None:
    exposition = Exposition(recorded())
    provider = MeterProvider([exposition.reader])
    observe(provider.get_meter("test"), catalogue.PARKED, lambda: [((), 3)])
    text = exposition.page("")[0].decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {"outbox_parked", "outbox_effect_duration_seconds"}
    effect = families["outbox_effect_duration_seconds"]
    assert (effect.type, effect.documentation) == ("histogram", catalogue.EFFECT_DURATION.meaning)
    found = {
        (sample.name.rpartition("_")[2], sample.labels["effect"], sample.labels.get("le")): sample.value
        for sample in effect.samples
    }
    assert found["bucket", "register", "0.0025"] == 0
    assert found["bucket", "register", "0.005"] == found["bucket", "register", "+Inf"] == 1
    assert found["bucket", "create", "30.0"] == 1
    assert found["bucket", "create", "+Inf"] == found["count", "create", None] == 2
    assert found["sum", "create", None] == pytest.approx(40.02)


class Kept(MetricExporter):
    """Keeps what it is given."""

    def __init__(self, temporality: AggregationTemporality) -> None:
        super().__init__({Instrument: temporality})
        self.given: list[dict[str, Any]] = []

    def export(self, metrics_data: MetricsData, *_: Any, **__: Any) -> MetricExportResult:
        metrics = metrics_data.resource_metrics[0].scope_metrics[0].metrics
        self.given.append({metric.name: metric.data for metric in metrics})
        return MetricExportResult.SUCCESS

    def points(self) -> dict[str, HistogramDataPoint]:
        """The latest of them, by effect."""
        return {
            str((point.attributes or {})["effect"]): point
            for point in self.given[-1]["outbox.effect.duration"].data_points
        }

    def force_flush(self, *_: Any, **__: Any) -> bool:
        return True

    def shutdown(self, *_: Any, **__: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("temporality", "again"),
    [(AggregationTemporality.CUMULATIVE, (3, 41.02)), (AggregationTemporality.DELTA, (1, 1.0))],
)
def test_exporters_get_them_since_the_begin_or_since_the_last_time(
    temporality: AggregationTemporality, again: tuple[int, float]
) -> None:
    kept, histograms = Kept(temporality), recorded()
    reader = PeriodicExportingMetricReader(HistogramsBeside(kept, histograms), float("inf"))
    provider = MeterProvider([reader])
    observe(provider.get_meter("test"), catalogue.PARKED, lambda: [((), 3)])
    reader.collect()
    assert set(kept.given[0]) == {"outbox.parked", "outbox.effect.duration"}
    assert kept.given[0]["outbox.effect.duration"].aggregation_temporality is temporality
    first = kept.points()["create"]
    assert first.count == 2
    assert first.sum == pytest.approx(40.02)
    assert first.attributes == {"consumer": "temporal", "effect": "create"}
    assert tuple(first.explicit_bounds) == catalogue.EFFECT_DURATION.buckets
    assert sum(first.bucket_counts) == 2
    assert first.bucket_counts[-1] == 1
    histograms.of(catalogue.EFFECT_DURATION, "temporal", "create").record(1.0)
    reader.collect()
    second = kept.points()["create"]
    assert second.count == again[0]
    assert second.sum == pytest.approx(again[1])
    later = temporality is AggregationTemporality.DELTA
    assert second.start_time_unix_nano == (first.time_unix_nano if later else first.start_time_unix_nano)
    provider.shutdown()
