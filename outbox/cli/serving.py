"""The processes that work, a worker or a relay, and how they are told to stop."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import nullcontext
from types import TracebackType
from typing import Any, Self, cast

import structlog
import typer

from outbox import compose
from outbox.cli.logs import set_up_logs
from outbox.cli.running import Code, out, print_json, verbose
from outbox.flow.table import Consumer
from outbox.settings import Settings

log = structlog.get_logger()

_GRACE_SECONDS = 2.0  # for what is cut off to be settled and closed


async def serve_worker(settings: Settings, only: Consumer | None, *, until_idle: bool) -> dict[str, int]:
    """Run a worker until it is told to stop, or is idle where asked for; returns what it did."""
    _set_up(settings)
    with _Signals("worker", settings.drain_seconds + _GRACE_SECONDS) as signals:
        await compose.checks.require_ready(settings, only)
        audits = compose.continuous_audit.auditing(settings) if not (only or until_idle) else nullcontext()
        replays = compose.replays.carrying_on(settings) if not until_idle else nullcontext()
        async with (
            compose.telemetry.watching(settings) as watch,
            compose.worker.open_worker(settings, only=only, until_idle=until_idle, watch=watch) as worker,
            compose.telemetry.serving(watch, worker.pulses, settings),
            compose.presence.present(settings, {only} if only else set(settings.room)),
            audits,
            replays,
        ):
            signals.drain(worker.stop)
            log.info("worker.started", serves=only or "authz, temporal", wire=settings.wire.value)
            await worker.run()
        log.info("worker.ended", **worker.summary())
    return worker.summary()


async def serve_relay(settings: Settings) -> dict[str, int]:
    """Run a relay, and the publisher of events, until they are told to stop; returns what they did."""
    _set_up(settings)
    with _Signals("relay", settings.drain_seconds + _GRACE_SECONDS) as signals:
        await compose.checks.require_ready_to_relay(settings)
        async with (
            compose.telemetry.watching(settings) as watch,
            compose.kafka.open_relay(settings, watch=watch) as relaying,
            compose.kafka.open_publisher(settings) as publisher,
            compose.telemetry.serving(watch, {"loop": relaying.pulse}, settings),
            compose.presence.present(settings, {compose.presence.RELAY}),
        ):
            compose.telemetry.show_relay(watch, relaying)
            compose.telemetry.show_publisher(watch, publisher)
            signals.drain(relaying.stop)
            log.info("relay.started", prefix=settings.kafka_prefix)
            async with compose.kafka.running(publisher):
                await relaying.run()
        summary = {
            "dispatched": relaying.dispatched,
            "recalled": relaying.recalled,
            "published": publisher.published,
        }
        log.info("relay.ended", **summary)
    return summary


async def serve_console(settings: Settings, host: str, port: int, *, as_json: bool) -> None:
    """Serve the console until it is told to stop; prints its address when it listens."""
    from outbox.console.server import listening  # noqa: PLC0415 - workers have no use for a web server

    _set_up(settings)
    with _Signals("console", _GRACE_SECONDS * 2) as signals:
        async with listening(settings, host, port) as page:
            signals.drain(page.stop)
            if as_json:
                print_json({"url": page.url})
            else:
                out.print(f"console: {page.url}", markup=False, highlight=False)
            await page.run()


def _set_up(settings: Settings) -> None:
    """Log and fail as the settings say."""
    set_up_logs(verbose=verbose.get(), layout=settings.log_format)
    if not settings.failpoints:
        return
    from outbox.testing.failpoints import arm_from  # noqa: PLC0415 - a worker has no use for a test kit

    arm_from(settings.failpoints)
    log.warning(
        "failpoints.armed", failpoints=settings.failpoints, why="OUTBOX_FAILPOINTS is set: for tests alone"
    )


class _Signals:
    """What SIGTERM and Ctrl-C do to a process that works: the first one drains it, a second ends it at once.

    Before it works, SIGTERM takes its start back, and the process ends as one that has drained; Ctrl-C
    interrupts it like any command.

    Args:
        what: the process, as its log events name it.
        patience: how long draining may take, in seconds.
    """

    def __init__(self, what: str, patience: float) -> None:
        self._what = what
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._told = False
        self._stop: Callable[[], Any] = cast("asyncio.Task[Any]", asyncio.current_task()).cancel

    def __enter__(self) -> Self:
        self._loop.add_signal_handler(signal.SIGTERM, self._first, signal.SIGTERM)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._told and isinstance(error, asyncio.CancelledError):
            raise typer.Exit from None

    def drain(self, stop: Callable[[], None]) -> None:
        """From now on it works: have either signal call ``stop``."""
        self._stop = stop
        self._loop.add_signal_handler(signal.SIGINT, self._first, signal.SIGINT)

    def _first(self, number: signal.Signals) -> None:
        event = f"{self._what}.draining"
        self._told = True
        self._stop()
        log.info(event, signal=number.name, hint="a second signal exits at once")
        # Postgres itself may hang. A thread, as what hangs may be the event loop.
        giving_up = threading.Timer(self._patience, _give_up, [self._what])
        giving_up.daemon = True
        giving_up.start()
        for again in (signal.SIGTERM, signal.SIGINT):
            # Nothing is lost: the leases end, and another worker looks at what became of the steps.
            self._loop.add_signal_handler(again, os._exit, Code.INTERRUPTED)


def _give_up(what: str) -> None:
    """End the process, and let whoever started it know that it was not drained: by the log and the code."""
    event, why = f"{what}.cut_off", "it could not be drained in time; others take over when its leases end"
    # On the side, as whoever reads stderr may hang, too.
    saying = threading.Thread(
        target=lambda: log.error(event, why=why, exit_code=Code.FOUND_WRONG.value), daemon=True
    )
    saying.start()
    saying.join(_GRACE_SECONDS)
    os._exit(Code.FOUND_WRONG)
