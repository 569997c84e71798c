"""A process that is watched: its meters, its endpoint, and what is exported, for as long as it works."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from uuid import uuid4

import structlog
from opentelemetry.metrics import Meter

from outbox.pulse import Pulse
from outbox.telemetry import catalogue, otlp
from outbox.telemetry.aside import Aside
from outbox.telemetry.catalogue import Metric, Reading
from outbox.telemetry.http import Process, listen, serving
from outbox.telemetry.instruments import Counted, observe
from outbox.telemetry.prometheus import Exposition
from outbox.telemetry.readiness import Readiness

_NAME = "agent-schedule-outbox"

log = structlog.get_logger()


class Watched:
    """What is told of a process.

    Attributes:
        observer: what its worker reports to.
    """

    def __init__(self, meter: Meter, exposition: Exposition, aside: Aside, readiness: Readiness) -> None:
        self._meter = meter
        self._exposition = exposition
        self._aside = aside
        self._readiness = readiness
        self.observer = Counted(meter)
        release = version(_NAME)
        self.read(catalogue.BUILD_INFO, lambda: [((release,), 1)])

    def read(self, metric: Metric, reading: Callable[[], Reading]) -> None:
        """Have a metric read so, whenever somebody collects."""
        observe(self._meter, metric, reading)

    @asynccontextmanager
    async def serving(self, pulses: Mapping[str, Pulse], host: str, port: int | None) -> AsyncIterator[None]:
        """Inside, the endpoint answers for a process with these loops; without a port there is none."""
        self.read(catalogue.LOOP_AGE, lambda: [((name,), pulse.age()) for name, pulse in pulses.items()])
        if port is None:
            yield
            return
        process = Process(pulses, self._readiness.problem, self._exposition.page)
        with listen(host, port) as taken:
            log.info("http.serving", host=host, port=taken.getsockname()[1])
            async with serving(process, self._aside, taken):
                yield


@asynccontextmanager
async def watching(database_url: str) -> AsyncIterator[Watched]:
    """Inside, a process is watched; at the end, what was measured is exported if somebody takes it."""
    exposition = Exposition()
    meters = otlp.meter_provider(otlp.resource(version(_NAME), str(uuid4())), exposition.reader)
    try:
        with Aside() as aside:
            async with Readiness(database_url, aside) as readiness:
                yield Watched(meters.get_meter(_NAME), exposition, aside, readiness)
    finally:
        otlp.end(meters.shutdown)
