"""What is asked for aside, and at most every few seconds, however many collect it and however often."""

import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import structlog

from outbox.telemetry.aside import Aside

T = TypeVar("T")

_PATIENCE_SECONDS = 2.0

log = structlog.get_logger()


class Cached(Generic[T]):
    """An answer that is a few seconds old at most. Called from any thread but the one aside.

    Args:
        name: what the log calls it.
        aside: where it is asked for.
        ask: gives the answer.
        seconds: how long an answer is good for.
    """

    def __init__(
        self, name: str, aside: Aside, ask: Callable[[], Coroutine[Any, Any, T]], *, seconds: float
    ) -> None:
        self._name = name
        self._aside = aside
        self._ask = ask
        self._seconds = seconds
        self._lock = threading.Lock()
        self._asked_at = 0.0
        self._answer: Future[T] | None = None
        self._silent = False

    def get(self) -> T | None:
        """The answer; None where there is none within two seconds of its being asked for."""
        try:
            answer = self._latest()
            found = answer.result(max(0.0, self._asked_at + _PATIENCE_SECONDS - time.monotonic()))
        except Exception as error:  # noqa: BLE001 - whatever it is: figures that can't be had are left out
            if not self._silent:
                log.warning("figures.not_read", of=self._name, error=f"{type(error).__name__}: {error}"[:500])
            self._silent = True
            return None
        self._silent = False
        return found

    def _latest(self) -> Future[T]:
        """What is being asked for, or was so lately."""
        with self._lock:
            answer = self._answer
            if answer is None or (answer.done() and time.monotonic() - self._asked_at >= self._seconds):
                self._asked_at = time.monotonic()
                answer = self._answer = self._aside.start(self._ask())
            return answer
