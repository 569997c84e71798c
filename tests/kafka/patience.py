"""Calls to a broker that has just been in trouble: away, frozen, or without its data."""

import time
from collections.abc import Callable
from typing import TypeVar

from kafka.errors import KafkaError

from outbox.errors import StoreUnusable

T = TypeVar("T")
PATIENCE_SECONDS = 240
_AGAIN_SECONDS = 0.5


def patiently(ask: Callable[[], T]) -> T:
    """Ask until there is an answer: a client gives its calls 5 s, and a broker may take longer to be itself.

    Raises:
        KafkaError, StoreUnusable: what the last call met; a broker this long away isn't coming back.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except (KafkaError, StoreUnusable):
            if time.monotonic() > until:
                raise
            time.sleep(_AGAIN_SECONDS)
