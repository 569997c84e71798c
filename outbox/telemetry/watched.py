"""A process that is watched: its meters, its endpoint, and what is exported, for as long as it works."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any
from uuid import uuid4

import structlog
from opentelemetry.metrics import Meter

from outbox.pulse import Pulse
from outbox.store.engine import async_engine
from outbox.store.relay import Dispatched
from outbox.store.watching import Figures, gauges
from outbox.telemetry import catalogue, otlp
from outbox.telemetry.aside import Aside
from outbox.telemetry.cached import Cached
from outbox.telemetry.catalogue import Metric, Reading
from outbox.telemetry.histograms import Histograms
from outbox.telemetry.http import Process, listen, serving
from outbox.telemetry.instruments import Counted, observe
from outbox.telemetry.late import Late
from outbox.telemetry.prometheus import Exposition
from outbox.telemetry.readiness import Readiness
from outbox.telemetry.spans import Relayed, Traced
from outbox.worker.observer import Observer

_NAME = "agent-schedule-outbox"
_FRESH_SECONDS = 5.0
_END_SECONDS = 2.0

log = structlog.get_logger()


class Watched:
    """What is told of a process.

    Attributes:
        observer: what its worker reports to.
        sent: what its relay reports to.
    """

    def __init__(
        self,
        meter: Meter,
        exposition: Exposition,
        aside: Aside,
        readiness: Readiness,
        *,
        outbox: Callable[[], Coroutine[Any, Any, Figures]],
        histograms: Histograms,
        late: Late | None,
    ) -> None:
        self._meter = meter
        self._exposition = exposition
        self._aside = aside
        self._readiness = readiness
        counted = Counted(meter, histograms)
        self.observer: Observer = Traced(late, counted) if late else counted
        self.sent = Relayed(late) if late else _unsaid
        release = version(_NAME)
        self.read(catalogue.BUILD_INFO, lambda: [((release,), 1)])
        self._outbox = Cached("Postgres", aside, outbox, seconds=_FRESH_SECONDS)
        self._show(self._outbox, catalogue.OF_THE_OUTBOX)

    def read(self, metric: Metric, reading: Callable[[], Reading]) -> None:
        """Have a metric read so, whenever somebody collects."""
        observe(self._meter, metric, reading)

    def ask(
        self,
        name: str,
        metrics: Iterable[Metric],
        figures: Callable[[], Coroutine[Any, Any, Figures]],
        *,
        seconds: float,
    ) -> None:
        """Have metrics read so together, aside, at most every so many seconds; the name is for the log."""
        self._show(Cached(name, self._aside, figures, seconds=seconds), metrics)

    def _show(self, figures: Cached[Figures], metrics: Iterable[Metric]) -> None:
        for metric in metrics:
            self.read(metric, partial(_of, figures, metric.name))

    def _stores_down(self) -> list[str]:
        open_or_not = _of(self._outbox, catalogue.BREAKER_OPEN.name)
        return [consumer for (consumer,), is_open in open_or_not if is_open]

    def process(self, pulses: Mapping[str, Pulse]) -> Process:
        """What is asked of a process with these loops."""
        return Process(pulses, self._readiness.problem, self._stores_down, self._exposition.page)

    @asynccontextmanager
    async def serving(self, pulses: Mapping[str, Pulse], host: str, port: int | None) -> AsyncIterator[None]:
        """Inside, the endpoint answers for a process with these loops; without a port there is none."""
        self.read(catalogue.LOOP_AGE, lambda: [((name,), pulse.age()) for name, pulse in pulses.items()])
        if port is None:
            yield
            return
        with listen(host, port) as taken:
            log.info("http.serving", host=host, port=taken.getsockname()[1])
            async with serving(self.process(pulses), self._aside, taken):
                yield


def _unsaid(batch: Sequence[Dispatched], arrived: int, seconds: float) -> None:
    """Take no notice: what is counted of it the relay counts itself."""


def _of(figures: Cached[Figures], name: str) -> Reading:
    """One metric's values; none where they can't be had."""
    return (figures.get() or {}).get(name, ())


@asynccontextmanager
async def watching(database_url: str) -> AsyncIterator[Watched]:
    """Inside, a process is watched; at the end, what was measured is exported if somebody takes it."""
    histograms = Histograms()
    exposition = Exposition(histograms)
    what = otlp.resource(version(_NAME), str(uuid4()))
    meters = otlp.meter_provider(what, histograms, exposition.reader)
    tracers = otlp.tracer_provider(what)
    engine = async_engine(database_url, bounded=True)
    with Aside() as aside:
        watch = Watched(
            meters.get_meter(_NAME),
            exposition,
            aside,
            Readiness(engine),
            outbox=lambda: gauges(engine),
            histograms=histograms,
            late=Late(tracers.get_tracer(_NAME)) if tracers else None,
        )
        try:
            yield watch
        finally:
            otlp.end(*(one.shutdown for one in (tracers, meters) if one))
            # It belongs to the loop that has used it.
            await asyncio.wait([asyncio.wrap_future(aside.start(engine.dispose()))], timeout=_END_SECONDS)
