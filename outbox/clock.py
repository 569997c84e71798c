"""Time, in one place: that of the running event loop, so that a loop of one's own controls all of it.

An asyncio loop's clock is ``time.monotonic`` unless it is made to be another one.
"""

import asyncio
import time


def monotonic() -> float:
    """Seconds on the running loop's clock; outside of a loop, on ``time.monotonic``."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return time.monotonic()
    return loop.time()
