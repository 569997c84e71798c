"""Keeps what runs beside a process's loop running: none of it ends unseen.

A process does its work in one loop, whose end is the process's end. What runs beside it (the publisher, the
continuous audit, the notifier) keeps no state that its next start would miss: where it raises something that
nobody foresaw, it is logged with its traceback and started again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from outbox import clock

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0

log = structlog.get_logger()


async def keep_running(
    name: str, run: Callable[[], Awaitable[None]], *, stopping: asyncio.Event | None = None
) -> None:
    """Run it until it returns; each time that it raises, start it again, after a pause that doubles.

    Args:
        name: what the log calls it.
        run: what is to be kept running. It returns when it has been told to stop, or has nothing to do here.
        stopping: ends a pause, and starts nothing again. Without it, cancelling does.
    """
    stopping = stopping or asyncio.Event()
    pause = _FIRST_PAUSE_SECONDS
    while True:
        began = clock.monotonic()
        try:
            await run()
        except Exception:
            if clock.monotonic() - began > _LONGEST_PAUSE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            log.exception("task.failed", task=name, again_in_seconds=pause)
        else:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stopping.wait()
            return
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
