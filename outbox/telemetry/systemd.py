"""Tells systemd how a process is, where systemd wants to know (Type=notify, WatchdogSec=)."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from outbox.pulse import HUNG_SECONDS, Pulse


@asynccontextmanager
async def notifying(pulses: Mapping[str, Pulse]) -> AsyncIterator[None]:
    """Inside, the process is ready, and its watchdog is fed from its own event loop while its loops turn."""
    _tell("READY=1")
    feeding = asyncio.create_task(_feed(pulses), name="outbox-watchdog")
    try:
        yield
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        # Draining has a bound of its own.
        _tell("STOPPING=1")


async def _feed(pulses: Mapping[str, Pulse]) -> None:
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    while True:
        if all(pulse.age() < HUNG_SECONDS for pulse in pulses.values()):
            _tell("WATCHDOG=1")
        await asyncio.sleep(int(microseconds) / 2_000_000)


def _tell(state: str) -> None:
    """Send a state to systemd, if there is one; that it can't be told is no reason to stop."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as line:
        # "@" stands for the NUL of an abstract address.
        line.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
