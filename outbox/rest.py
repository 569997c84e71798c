"""The rest of a loop that finds nothing to do."""

import asyncio
import contextlib


class Rest:
    """Ends early when there may be something to do. Each loop has one of its own."""

    def __init__(self) -> None:
        self._stirred = asyncio.Event()

    def forget(self) -> None:
        """What has stirred so far is seen to; what comes from here on ends the next rest."""
        self._stirred.clear()

    async def wait(self, seconds: float) -> None:
        """Wait for a stir, or the time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        # A worker without room takes nothing: the next rest must not end at once, or no effect would get on.
        self._stirred.clear()

    def stir(self) -> None:
        """End the rest under way, or the next one."""
        self._stirred.set()
