"""Replays in waves beside a worker: any of them carries on what runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import DBAPIError

from outbox.settings import Settings
from outbox.store.engine import is_passing, open_engine, why
from outbox.store.replays import RunningReplays
from outbox.supervision import keep_running

_PAUSE_SECONDS = 1.0

log = structlog.get_logger()


@asynccontextmanager
async def carrying_on(settings: Settings) -> AsyncIterator[None]:
    """Inside, replays in waves go on, by a connection of their own."""
    async with open_engine(settings.database_url.get_secret_value(), bounded=True) as engine:
        replays = RunningReplays(engine)
        going = asyncio.create_task(keep_running("replays", lambda: _go_on(replays)), name="outbox-replays")
        try:
            yield
        finally:
            # A wave is one statement: it may end anywhere.
            going.cancel()
            with suppress(asyncio.CancelledError):
                await going


async def _go_on(replays: RunningReplays) -> None:
    """Carry on until cancelled; an outage costs time.

    Raises:
        DBAPIError: Postgres answers that it can't be used like this.
    """
    while True:
        try:
            await replays.carry_on()
        except DBAPIError as error:
            if not is_passing(error):
                error.add_note("see `outbox migrate --print-grants`")
                raise
            log.info("replays.postponed", reason=why(error))
        await asyncio.sleep(_PAUSE_SECONDS)
