"""How a process is watched, by the settings and the standard OTEL_* variables; and what is told of it."""

import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from outbox.errors import OutboxError
from outbox.extras import install
from outbox.flow.table import Consumer
from outbox.pulse import Pulse
from outbox.settings import Settings
from outbox.store.notifier import Notifier
from outbox.store.watching import Figures
from outbox.telemetry import catalogue
from outbox.telemetry.asked import exporter_names
from outbox.telemetry.catalogue import Metric, Reading
from outbox.telemetry.systemd import notifying
from outbox.worker.loop import Worker
from outbox.worker.observer import Observer, Unobserved

if TYPE_CHECKING:
    from outbox.kafka.publisher import Publisher
    from outbox.kafka.relay import Relay, Sent
    from outbox.store.relay import Dispatched

_EXTRA = install("telemetry")

log = structlog.get_logger()


class Watch(Protocol):
    """What a process is told of through."""

    @property
    def observer(self) -> Observer:
        """What its worker reports to."""
        ...

    @property
    def sent(self) -> "Sent":
        """What its relay reports to."""
        ...

    def read(self, metric: Metric, reading: Callable[[], Reading]) -> None:
        """Have a metric read so, whenever somebody collects."""
        ...

    def ask(
        self,
        name: str,
        metrics: Iterable[Metric],
        figures: Callable[[], Coroutine[Any, Any, Figures]],
        *,
        seconds: float,
    ) -> None:
        """Have metrics read so together, at most every so many seconds; the name is for the log."""
        ...

    def serving(
        self, pulses: Mapping[str, Pulse], host: str, port: int | None
    ) -> AbstractAsyncContextManager[None]:
        """Inside, the endpoint answers for a process with these loops, if there is a port."""
        ...


class Unwatched:
    """Nobody asks."""

    observer = Unobserved()

    def sent(self, batch: "Sequence[Dispatched]", arrived: int, seconds: float) -> None:
        """Take no notice."""

    def read(self, metric: Metric, reading: Callable[[], Reading]) -> None:
        """Read nothing."""

    def ask(
        self,
        name: str,
        metrics: Iterable[Metric],
        figures: Callable[[], Coroutine[Any, Any, Figures]],
        *,
        seconds: float,
    ) -> None:
        """Ask nobody."""

    def serving(
        self, pulses: Mapping[str, Pulse], host: str, port: int | None
    ) -> AbstractAsyncContextManager[None]:
        """Serve nothing."""
        del pulses, host, port
        return nullcontext()


@asynccontextmanager
async def watching(settings: Settings) -> AsyncIterator[Watch]:
    """Inside, a process is watched as the settings and the environment ask; by default not at all.

    Raises:
        OutboxError: the endpoint is asked for, and the extra ``telemetry`` is not installed.
    """
    exports = exporter_names("metrics", os.environ) or exporter_names("traces", os.environ)
    if settings.http_port is None and not exports:
        yield Unwatched()
        return
    try:
        from outbox.telemetry.watched import watching as watched  # noqa: PLC0415 - imports what the extra brings
    except ModuleNotFoundError as error:
        if settings.http_port is not None:
            raise OutboxError(f"OUTBOX_HTTP_PORT needs {error.name}: {_EXTRA}") from None
        # Platforms set OTEL_* for everything that they run.
        log.warning(
            "telemetry.missing", module=error.name, hint=f"OTEL_* is set, nothing is exported: {_EXTRA}"
        )
        yield Unwatched()
        return
    async with watched(settings.database_url.get_secret_value()) as watch:
        yield watch


@asynccontextmanager
async def serving(watch: Watch, pulses: Mapping[str, Pulse], settings: Settings) -> AsyncIterator[None]:
    """Inside, a process with these loops answers for itself: at its endpoint, and to systemd."""
    async with watch.serving(pulses, settings.http_host, settings.http_port), notifying(pulses):
        yield


def show_notifier(watch: Watch, notifier: Notifier) -> None:
    """Tell whether it hears wake-ups."""
    watch.read(catalogue.LISTENING, lambda: [((), float(notifier.listening))])
    watch.read(catalogue.WAKEUPS, lambda: [((), notifier.heard)])


def show_worker(watch: Watch, worker: Worker, room: Mapping[Consumer, int]) -> None:
    """Tell what it has under way."""
    watch.read(catalogue.STEPS_IN_FLIGHT, lambda: _by_name(worker.in_flight()))
    watch.read(catalogue.STEPS_ROOM, lambda: _by_name(room))
    watch.read(catalogue.DRAINING, lambda: [((), float(worker.draining))])


def show_relay(watch: Watch, relay: "Relay") -> None:
    """Tell what it has sent."""
    watch.read(catalogue.STEPS_DISPATCHED, lambda: [((), relay.dispatched)])
    watch.read(catalogue.STEPS_RECALLED, lambda: [((), relay.recalled)])


def show_publisher(watch: Watch, publisher: "Publisher") -> None:
    """Tell what it has published."""
    watch.read(catalogue.EVENTS_PUBLISHED, lambda: [((), publisher.published)])


def _by_name(counts: Mapping[Consumer, int]) -> Reading:
    return [((name.value,), count) for name, count in counts.items()]
