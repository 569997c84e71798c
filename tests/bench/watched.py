"""P12: what it costs a worker to be watched: metrics, and metrics with every span sampled."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from outbox.telemetry.histograms import Histograms
from outbox.telemetry.instruments import Counted
from outbox.telemetry.late import Late
from outbox.telemetry.prometheus import Exposition
from outbox.telemetry.spans import Traced
from outbox.worker.observer import Observer, Unobserved
from tests.bench.draining import drain, fill
from tests.bench.measure import Result, Side, in_turn, middle, ratios
from tests.bench.stage import Stage
from tests.bench.stores import entries, real_stores, through_the_outbox

Work = Callable[[Observer], Awaitable[Side]]


class Nowhere(SpanExporter):
    """Takes what is exported: what a collector is sent costs its exporter's thread, whatever that is."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


@contextmanager
def _counted() -> Iterator[Observer]:
    """With metrics, as they are for Prometheus."""
    histograms = Histograms()
    provider = MeterProvider([Exposition(histograms).reader])
    yield Counted(provider.get_meter("bench"), histograms)
    provider.shutdown()


@contextmanager
def _traced() -> Iterator[Observer]:
    """With metrics and spans."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    with _counted() as counted:
        yield Traced(Late(provider.get_tracer("bench")), counted)
    provider.shutdown()


async def overhead(stage: Stage) -> list[Result]:
    """P12: with metrics and with spans beside without; end to end, and where only the loop is left."""
    creates = stage.scale.of(2000, least=10)
    intents = stage.scale.of(20_000, least=50)

    async def loop(observer: Observer) -> Side:
        with stage.database() as url:
            await fill(url, intents, intents)
            return await drain(stage, url, intents, observer=observer)

    async with real_stores(stage) as stores:
        plain, counted, traced = await _each_way(
            stage, lambda observer: through_the_outbox(stage, stores, entries(creates), observer=observer)
        )
    bare, with_metrics, with_spans = await _each_way(stage, loop)
    detail = {"without": middle(plain), "metrics": middle(counted), "spans": middle(traced)}
    of_loop = {"without": middle(bare), "metrics": middle(with_metrics), "spans": middle(with_spans)}
    return [
        Result.of("P12/metrics", ratios(counted, plain), at_least=0.95, detail=detail),
        Result.of("P12/spans", ratios(traced, plain), at_least=0.85, detail=detail),
        Result.of("P12/metrics-cpu", _cpu(with_metrics, bare), at_most=1.05, detail=of_loop),
        Result.of("P12/spans-cpu", _cpu(with_spans, bare), at_most=1.15, detail=of_loop),
    ]


async def _each_way(stage: Stage, work: Work) -> list[list[Side]]:
    async def counted() -> Side:
        with _counted() as observer:
            return await work(observer)

    async def traced() -> Side:
        with _traced() as observer:
            return await work(observer)

    rounds = 1 if stage.scale.share == 0 else 9
    return await in_turn(rounds, lambda: work(Unobserved()), counted, traced)


def _cpu(watched: Sequence[Side], plain: Sequence[Side]) -> list[float]:
    """What worker and Postgres took together, round by round."""
    return [
        (one.client_cpu + one.server_cpu) / (other.client_cpu + other.server_cpu)
        for one, other in zip(watched, plain, strict=True)
    ]
