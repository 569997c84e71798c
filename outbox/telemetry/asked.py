"""Whether the environment asks for telemetry; can be told without the extra."""

from collections.abc import Mapping
from typing import Literal

Signal = Literal["traces", "metrics"]


def exporter_names(signal: Signal, environment: Mapping[str, str]) -> list[str]:
    """The exporters that the OTEL_* variables name: by default ``otlp``, where an endpoint is set."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    default = "otlp" if any(environment.get(name) for name in endpoints) else "none"
    wanted = environment.get(f"OTEL_{signal.upper()}_EXPORTER") or default
    # /metrics has them for Prometheus without being asked so.
    return [name for name in map(str.strip, wanted.split(",")) if name not in {"none", "prometheus", ""}]
