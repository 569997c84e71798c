"""Live pages: one look at the outbox for all who watch."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from sqlalchemy.exc import DBAPIError
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute, Route

from outbox.console.context import Console
from outbox.supervision import keep_running

Read = Callable[[], Awaitable[Any]]

_LOOK_SECONDS = 2.0
_BEAT_SECONDS = 15.0


class Watch:
    """Looks again and again while somebody watches, and tells all who do when something has changed."""

    def __init__(
        self, look: Read, *, seconds: float = _LOOK_SECONDS, before_telling: Callable[[], None] = lambda: None
    ) -> None:
        self._look = look
        self._seconds = seconds
        self._before_telling = before_telling
        self._watching = 0
        self._looking: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._ended = False

    async def changes(self, beat: float = _BEAT_SECONDS) -> AsyncGenerator[bool, None]:
        """Yield True for each change, and False where there was none for a while; until ``end``."""
        self._watching += 1
        if self._looking is None:
            self._looking = asyncio.create_task(keep_running("console.watch", self._run))
        following = self._changed
        try:
            while not self._ended:
                changed = await _set_within(following, beat)
                # Taken before it is told: what changes while it is on its way is told next.
                following = self._changed
                yield changed
        finally:
            self._watching -= 1
            if not self._watching and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def end(self) -> None:
        """Send all away."""
        self._ended = True
        self._tell()

    async def _run(self) -> None:
        # The first look is told of, too: what the pages show was read before it.
        before: Any = object()
        while True:
            now = await self._seen()
            if now != before:
                before = now
                self._before_telling()
                self._tell()
            await asyncio.sleep(self._seconds)

    async def _seen(self) -> Any:
        try:
            return await self._look()
        except DBAPIError:
            # A change like any other: whoever reads on is told what is wrong.
            return None

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def routes() -> list[BaseRoute]:
    """Where pages hear of changes."""
    return [Route("/live", live)]


async def live(request: Request) -> StreamingResponse:
    """Server-sent events: ``changed``, whenever something has."""
    Console.of(request)
    watch: Watch = request.app.state.watch

    async def events() -> AsyncIterator[str]:
        yield "retry: 3000\n\n"
        async for changed in watch.changes():
            yield "event: changed\ndata:\n\n" if changed else ":\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
