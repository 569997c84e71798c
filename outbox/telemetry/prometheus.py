"""The metrics as Prometheus reads them: its text, or OpenMetrics where asked for."""

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


class Exposition:
    """Collects whenever it is asked.

    Attributes:
        reader: what is to be read is what its meter provider's instruments hold.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.reader: MetricReader = PrometheusMetricReader(
            disable_target_info=True, scope_info_enabled=False, registry=self._registry
        )

    def page(self, accept: str) -> tuple[bytes, str]:
        """All metrics and their content type, in the form that an Accept header prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
