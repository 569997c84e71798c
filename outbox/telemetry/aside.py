"""A thread with an event loop of its own: what is served and watched there never takes the worker's time.

So a loop that hangs can still be told of, and nobody who scrapes slowly is waited for by a step.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Self, TypeVar

T = TypeVar("T")

_END_SECONDS = 2.0


class Aside:
    """The thread and its loop, for as long as the context is open; what still runs then is cancelled."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="outbox-aside", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        # A daemon: one that doesn't end is left behind.
        self._thread.join(_END_SECONDS)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run it there.

        Raises:
            RuntimeError: the thread has ended.
        """
        if self._loop.is_closed():
            coroutine.close()
            raise RuntimeError("what is aside has ended")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            # The runner cancels what is left when it is closed.
            runner.get_loop().run_forever()
