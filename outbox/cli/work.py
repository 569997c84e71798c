"""``outbox run`` and ``outbox relay``: the processes that work, and how they are told to stop."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated

import structlog
import typer

from outbox import compose
from outbox.cli.configuration import load_settings
from outbox.cli.running import Code, Json, command, print_json
from outbox.flow.table import Consumer

log = structlog.get_logger()

_GRACE_SECONDS = 2.0  # for what is cut off to be settled and closed
_ONLY = {"authz": Consumer.AUTHZ, "temporal": Consumer.TEMPORAL}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run")(run)
    app.command("relay")(relay)


@command
async def run(
    *,
    only: Annotated[
        str | None, typer.Option(help="Serve one store alone: authz (SpiceDB) or temporal.")
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when no intent is pending (parked ones don't count).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a worker: take steps, apply them to SpiceDB and Temporal, settle them.

    Any number of workers share one database. SIGTERM or Ctrl-C drains: no new steps, those under way finish
    or are released, within OUTBOX_DRAIN_SECONDS; a second signal exits at once.
    """
    if only is not None and only not in _ONLY:
        raise ValueError(f"--only {only}: it is authz or temporal")
    settings = load_settings()
    consumer = _ONLY[only] if only else None
    if settings.failpoints:
        _arm(settings.failpoints)
    await compose.checks.require_ready(settings, consumer)
    audits = compose.continuous_audit.auditing(settings) if not (consumer or until_idle) else nullcontext()
    async with compose.worker.open_worker(settings, only=consumer, until_idle=until_idle) as worker, audits:
        _stop_on_signals("worker", worker.stop, settings.drain_seconds + _GRACE_SECONDS)
        log.info("worker.started", serves=only or "authz, temporal", wire=settings.wire.value)
        await worker.run()
    log.info("worker.ended", **worker.summary())
    if as_json:
        print_json(worker.summary())


@command
async def relay(*, as_json: Json = False) -> None:
    """Run a relay: publish due steps to Kafka for `outbox run` to take, and events for other systems.

    The Kafka wire needs one; a second takes over when the first dies. SIGTERM or Ctrl-C finishes the batch
    under way; a second signal exits at once.
    """
    settings = load_settings()
    if settings.failpoints:
        _arm(settings.failpoints)
    await compose.checks.require_ready_to_relay(settings)
    async with (
        compose.kafka.open_relay(settings) as relaying,
        compose.kafka.open_publisher(settings) as publisher,
    ):
        _stop_on_signals("relay", relaying.stop, settings.drain_seconds + _GRACE_SECONDS)
        log.info("relay.started", prefix=settings.kafka_prefix)
        async with compose.kafka.running(publisher):
            await relaying.run()
    summary = {
        "dispatched": relaying.dispatched,
        "recalled": relaying.recalled,
        "published": publisher.published,
    }
    log.info("relay.ended", **summary)
    if as_json:
        print_json(summary)


def _arm(failpoints: str) -> None:
    from outbox.testing.failpoints import arm_from  # noqa: PLC0415 - a worker has no use for a test kit

    arm_from(failpoints)
    log.warning("failpoints.armed", failpoints=failpoints, why="OUTBOX_FAILPOINTS is set: for tests alone")


def _stop_on_signals(what: str, stop_it: Callable[[], None], patience: float) -> None:
    loop = asyncio.get_running_loop()

    def stop(name: str) -> None:
        event = f"{what}.draining"
        stop_it()
        log.info(event, signal=name, hint="a second signal exits at once")
        # Postgres itself may hang. A thread, as what hangs may be the event loop.
        giving_up = threading.Timer(patience, _give_up, [what])
        giving_up.daemon = True
        giving_up.start()
        for again in (signal.SIGTERM, signal.SIGINT):
            # Nothing is lost: the leases end, and another worker looks at what became of the steps.
            loop.add_signal_handler(again, os._exit, Code.INTERRUPTED)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)


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
