"""Wake-ups: a LISTEN connection of its own. They only make an idle worker faster; polling is the truth."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import psycopg
import structlog

from outbox.failpoints import reach
from outbox.store.connection import has_own_session
from outbox.store.url import conninfo
from outbox.supervision import keep_running

CHANNEL = "outbox_work"
_HEARTBEAT_SECONDS = 15.0
_RECONNECT_SECONDS = 2.0
# A wake-up costs a claim, and whoever may connect can notify: a hundred a second is what a flood may cost.
_APART_SECONDS = 0.01

log = structlog.get_logger()


class Paced:
    """Calls a function, and not again within so many seconds: what comes meanwhile is one call after them."""

    def __init__(self, seconds: float, function: Callable[[], None]) -> None:
        self._seconds = seconds
        self._function = function
        self._pausing = False
        self._again = False

    def __call__(self) -> None:
        """Call it now, or when the pause is over."""
        self._again = self._pausing
        if not self._pausing:
            self._pausing = True
            asyncio.get_running_loop().call_later(self._seconds, self._resume)
            self._function()

    def _resume(self) -> None:
        self._pausing = False
        if self._again:
            self()


class Notifier:
    """Calls ``on_wake`` when a producer says that work came in, for as long as the context is open.

    A lost connection is made anew, as is one that a heartbeat gets no answer on. Behind a pooler of
    transactions there is nothing to hear.

    Attributes:
        listening: whether it would hear of work that comes in now.
        heard: how many notifications it has heard.
    """

    def __init__(self, database_url: str) -> None:
        self._conninfo = conninfo(database_url)
        self._task: asyncio.Task[None] | None = None
        self.on_wake: Callable[[], None] = lambda: None
        self._told = Paced(_APART_SECONDS, self._wake)
        self.listening = False
        self.heard = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(
            keep_running("notifier", self._listen_for_ever), name="outbox-notifier"
        )
        return self

    def _wake(self) -> None:
        self.on_wake()

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                heard = await self._listen()
            except (psycopg.Error, OSError, TimeoutError) as error:
                log.info("notifier.lost", error=type(error).__name__)
            else:
                if not heard:
                    log.warning(
                        "notifier.deaf",
                        hint="LISTEN gets no notifications through a pooler of transactions: polling only. "
                        "OUTBOX_DATABASE_DIRECT_URL leads past it",
                    )
                    return
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> bool:
        """Listen until the connection breaks; False: it would hear nothing."""
        await reach("notifier.before")
        connection = await psycopg.AsyncConnection.connect(
            self._conninfo, autocommit=True, connect_timeout=10, application_name="outbox wake-ups"
        )
        async with connection:
            if not await has_own_session(connection):
                # What listens there would be a session of the pooler's, for all that it serves.
                return False
            await connection.execute(f"LISTEN {CHANNEL}".encode())
            self.listening = True
            # What came in while nobody listened was told to nobody.
            self.on_wake()
            try:
                await self._hear(connection)
            finally:
                self.listening = False
        return True

    async def _hear(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Pass on what is heard, until the connection breaks or its server takes no writes any more."""
        while True:
            async for _ in connection.notifies(timeout=_HEARTBEAT_SECONDS):
                self.heard += 1
                self._told()
            async with asyncio.timeout(_HEARTBEAT_SECONDS):
                cursor = await connection.execute("SHOW transaction_read_only")
                if await cursor.fetchone() == ("on",):
                    # Demoted: what comes in now is told elsewhere.
                    return
