"""The metrics as Prometheus reads them: its text, or OpenMetrics where asked for."""

from collections.abc import Iterable
from itertools import accumulate, chain, groupby

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from outbox.telemetry.histograms import Histograms


class Exposition:
    """Collects whenever it is asked.

    Attributes:
        reader: what is to be read is what its meter provider's instruments hold.
    """

    def __init__(self, histograms: Histograms) -> None:
        """Read the instruments of a meter provider, and these histograms beside them."""
        self._registry = CollectorRegistry()
        self.reader: MetricReader = PrometheusMetricReader(
            disable_target_info=True, scope_info_enabled=False, registry=self._registry
        )
        self._registry.register(_Beside(histograms))

    def page(self, accept: str) -> tuple[bytes, str]:
        """All metrics and their content type, in the form that an Accept header prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Beside(Collector):
    """Our own histograms, as families of Prometheus'."""

    def __init__(self, histograms: Histograms) -> None:
        self._histograms = histograms

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Name none before there are any: they are not to be read when this is registered."""
        return ()

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Read them."""
        for metric, found in groupby(self._histograms.read(), key=lambda one: one.metric):
            family = HistogramMetricFamily(
                metric.prometheus, metric.meaning, labels=metric.labels, unit="seconds"
            )
            bounds = [str(float(bound)) for bound in metric.buckets]
            for one in found:
                upto = accumulate(one.counts)
                family.add_metric(
                    one.labels, list(zip(chain(bounds, ["+Inf"]), upto, strict=True)), one.total
                )
            yield family
