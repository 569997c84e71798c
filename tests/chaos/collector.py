"""Takes the metrics that a campaign's processes export, as a collector of OpenTelemetry's would."""

import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

Counts = dict[str, Counter[tuple[str, ...]]]

_EVERY_MS = 1000


class Collector:
    """Keeps what each process told last, also of those that are no more."""

    def __init__(self) -> None:
        self._told: dict[str, Counts] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector._take(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing: it goes to stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        """Has a process export its metrics to here, once a second and at its end."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRIC_EXPORT_INTERVAL": str(_EVERY_MS),
        }

    def counted(self) -> Counts:
        """The counters of all processes, each metric's by the values of its labels, added up."""
        sums: Counts = defaultdict(Counter)
        for told in list(self._told.values()):
            for name, counts in told.items():
                sums[name].update(counts)
        return sums

    def _take(self, body: bytes) -> None:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            about = {one.key: one.value.string_value for one in resource.resource.attributes}
            self._told[about["service.instance.id"]] = {
                metric.name: Counter(
                    {
                        tuple(label.value.string_value for label in point.attributes): point.as_int
                        for point in metric.sum.data_points
                    }
                )
                for scope in resource.scope_metrics
                for metric in scope.metrics
                if metric.WhichOneof("data") == "sum"
            }
