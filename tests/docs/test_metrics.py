"""The page of metrics is the catalogue, and the catalogue's names are those that Prometheus gets."""

import re

from opentelemetry.sdk.metrics import MeterProvider

from outbox.cli.metrics_page import page
from outbox.telemetry import catalogue
from outbox.telemetry.histograms import Histograms
from outbox.telemetry.instruments import observe
from outbox.telemetry.prometheus import Exposition
from tests.docs.pages import ROOT

EVERY = {*catalogue.OF_A_WORKER, *catalogue.OF_A_RELAY, *catalogue.OF_THE_OUTBOX}


def test_the_metrics_page_is_what_make_docs_writes() -> None:
    assert (ROOT / "docs/metrics.md").read_text("utf-8") == page()


def test_every_metric_is_on_the_page() -> None:
    assert {one for one in vars(catalogue).values() if isinstance(one, catalogue.Metric)} == EVERY


def test_prometheus_gets_each_metric_under_the_name_that_the_page_gives() -> None:
    histograms = Histograms()
    exposition = Exposition(histograms)
    meter = MeterProvider([exposition.reader]).get_meter("test")
    for metric in EVERY:
        values = tuple("x" for _ in metric.labels)
        if metric.kind is catalogue.Kind.HISTOGRAM:
            histograms.of(metric, *values).record(1.0)
        else:
            observe(meter, metric, lambda values=values: [(values, 1.0)])  # type: ignore[misc]
    text, _ = exposition.page("")
    told = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text.decode(), re.MULTILINE))
    assert told == {metric.prometheus: metric.kind.value for metric in EVERY}


def test_no_metric_is_told_apart_by_what_grows_without_bound() -> None:
    closed = {"consumer", "effect", "outcome", "code", "action", "kind", "event", "status", "state", "place"}
    assert {label for metric in EVERY for label in metric.labels} - closed == {
        "loop",
        "serves",
        "topic",
        "version",
    }
