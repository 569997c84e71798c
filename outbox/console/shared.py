"""One read for all who ask the same."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

_SECONDS = 1.0


class Shared:
    """Reads once for all who ask the same within a second, or so many."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._reads: dict[Hashable, asyncio.Task[Any]] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Any]]) -> Any:
        """What ``read`` finds now, or found for somebody else a moment ago."""
        reading = self._reads.get(key)
        if reading is None:
            reading = self._reads[key] = asyncio.ensure_future(read())
            reading.add_done_callback(lambda read: self._forget_soon(key, read))
        return await asyncio.shield(reading)

    def forget(self) -> None:
        """Read anew whatever is asked from now on: what was found may be older than a change."""
        self._reads.clear()

    def _forget_soon(self, key: Hashable, read: asyncio.Task[Any]) -> None:
        asyncio.get_running_loop().call_later(self._seconds, self._forget_if, key, read)

    def _forget_if(self, key: Hashable, read: asyncio.Task[Any]) -> None:
        if self._reads.get(key) is read:
            del self._reads[key]
