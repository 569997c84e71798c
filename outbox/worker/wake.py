"""How a loop that finds nothing to do waits for more."""

import asyncio
import contextlib


class WakeSignal:
    """Ends a loop's wait early when there may be something to do. Each loop has one of its own."""

    def __init__(self) -> None:
        self._set = asyncio.Event()

    def clear(self) -> None:
        """What has been signalled so far is seen to; what comes from here on ends the next wait."""
        self._set.clear()

    async def wait(self, seconds: float) -> None:
        """Wait for the signal, at most so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._set.wait()
        # A worker without room takes nothing: the next wait must not end at once, or no effect would get on.
        self._set.clear()

    def set(self) -> None:
        """End the wait under way, or the next one."""
        self._set.set()
