"""A process that works is listed among the workers, by a connection of its own that no step waits for."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from uuid import uuid4

import structlog
from sqlalchemy.exc import DBAPIError

from outbox import clock
from outbox.settings import Settings
from outbox.store.engine import is_passing, open_engine, why
from outbox.store.presence import PresenceStore, Process
from outbox.supervision import keep_running

RELAY = "relay"
_PAUSE_SECONDS = 10.0
_LEAVE_SECONDS = 1.0

log = structlog.get_logger()


@asynccontextmanager
async def present(settings: Settings, serves: Collection[str]) -> AsyncIterator[None]:
    """Inside, the process is listed, with what it serves: consumers, or ``relay``."""
    process = Process(
        uuid4(),
        socket.gethostname()[:255],
        os.getpid(),
        version("agent-schedule-outbox"),
        settings.wire.value,
        sorted(serves),
    )
    async with open_engine(settings.database_url.get_secret_value(), bounded=True) as engine:
        store = PresenceStore(engine, process)
        saying = asyncio.create_task(keep_running("presence", lambda: _say(store)), name="outbox-presence")
        try:
            yield
        finally:
            saying.cancel()
            with suppress(asyncio.CancelledError):
                await saying
            await _leave(store)


async def _say(store: PresenceStore) -> None:
    """Say so again and again until cancelled; an outage costs nothing but that.

    Raises:
        DBAPIError: Postgres answers that it can't be used like this.
    """
    began = clock.monotonic()
    while True:
        try:
            await store.check_in(clock.monotonic() - began)
        except DBAPIError as error:
            if not is_passing(error):
                error.add_note("see `outbox migrate --print-grants`")
                raise
            log.debug("presence.postponed", reason=why(error))
        await asyncio.sleep(_PAUSE_SECONDS)


async def _leave(store: PresenceStore) -> None:
    """Where it can't be said in time, it is seen by itself: the process is not seen any more."""
    with suppress(DBAPIError, TimeoutError):
        async with asyncio.timeout(_LEAVE_SECONDS):
            await store.check_out()
