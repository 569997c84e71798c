"""The providers of meters and tracers, with the exporters that the standard OTEL_* variables name."""

import os
import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from outbox.telemetry.asked import Signal, exporter_names
from outbox.telemetry.beside import HistogramsBeside
from outbox.telemetry.histograms import Histograms

_END_SECONDS = 2.0
_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


def resource(version: str, instance: str) -> Resource:
    """What this process is; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word."""
    ours = {"service.name": "outbox", "service.version": version, "service.instance.id": instance}
    return Resource.create().merge(Resource(ours)).merge(OTELResourceDetector().detect())


def meter_provider(what: Resource, histograms: Histograms, *readers: MetricReader) -> MeterProvider:
    """A provider of meters, for these readers and for the exporters that the environment names.

    Exporters get the histograms, too.
    """
    exporters = [
        PeriodicExportingMetricReader(HistogramsBeside(make(), histograms)) for make in _exporters("metrics")
    ]
    return MeterProvider([*readers, *exporters], what)


def tracer_provider(what: Resource) -> TracerProvider | None:
    """A provider of tracers for the exporters that the environment names; None: it names none."""
    exporters = _exporters("traces")
    if not exporters:
        return None
    provider = TracerProvider(resource=what)
    for make in exporters:
        # Its queue is bounded: what a dead collector doesn't take is dropped.
        provider.add_span_processor(BatchSpanProcessor(make()))
    return provider


def end(*shutdowns: Callable[[], object]) -> None:
    """Export what is left, and wait no longer than two seconds for that: a collector may be dead."""
    ending = threading.Thread(
        target=lambda: [end() for end in shutdowns], name="outbox-otlp-end", daemon=True
    )
    ending.start()
    ending.join(_END_SECONDS)


def _exporters(signal: Signal) -> list[Callable[[], Any]]:
    """The exporters that OTEL_TRACES_EXPORTER or OTEL_METRICS_EXPORTER names, by their entry points.

    Raises:
        ValueError: there is no such exporter here.
    """
    return [_exporter(signal, name) for name in exporter_names(signal, os.environ)]


def _exporter(signal: Signal, name: str) -> Callable[[], Any]:
    if name == "otlp":
        protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or os.environ.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
        )
        name = _PROTOCOLS.get(protocol, protocol)
    found = entry_points(group=f"opentelemetry_{signal}_exporter", name=name)
    for entry in found:
        make: Callable[[], Any] = entry.load()
        return make
    raise ValueError(
        f"OTEL_{signal.upper()}_EXPORTER asks for {name}, and no installed package has such an exporter"
    )
