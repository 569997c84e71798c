"""Verifies the ledger while a campaign's troubles last, as an operator would: it must never cry wolf."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.exc import DBAPIError

from outbox.compose.verify import Asked, verify
from outbox.settings import Settings
from outbox.testing import Violation
from outbox.verify.tally import Tally

_EVERY_SECONDS = 2.0
# And after each pass for as many times as long as it took: of a large ledger, it takes seconds.
_PAUSES = 4
_RATE = 1e9


class Watch:
    """What was verified.

    Attributes:
        passes: how often all lanes were, Postgres being there all the while.
        found: what did not hold, each once.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.passes = 0
        self.found: list[Violation] = []

    @asynccontextmanager
    async def verifying(self) -> AsyncIterator[None]:
        """Inside, the logs are verified again and again; what is in the stores meanwhile is for the end."""
        again = asyncio.create_task(self._again_and_again())
        try:
            yield
        finally:
            again.cancel()
            with suppress(asyncio.CancelledError):
                await again

    async def at_rest(self) -> None:
        """Verify once more, with the stores."""
        await self._verify(stores=True)

    async def _again_and_again(self) -> None:
        while True:
            began = time.monotonic()
            # Postgres may be what is in trouble.
            with suppress(DBAPIError):
                await self._verify(stores=False)
            await asyncio.sleep(max(_EVERY_SECONDS, _PAUSES * (time.monotonic() - began)))

    async def _verify(self, *, stores: bool) -> None:
        async for violation in verify(self._settings, Asked(rate=_RATE, stores=stores), Tally()):
            if violation not in self.found:
                self.found.append(violation)
        self.passes += 1
