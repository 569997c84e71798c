"""What a signal does until a command can answer it itself: it ends the process at once, and in order.

Nothing has been begun by then. The command line is slow to load, so this comes before all of it and loads
next to nothing itself: process 1 of a container loses each signal that comes before its handlers stand.
"""

import os
import signal
import sys
from types import FrameType

_DRAIN = frozenset({"run", "relay"})


def end_at_once() -> None:
    """Have Ctrl-C end this process with its line and 130, and SIGTERM as it ends any other of its kind.

    A worker or relay that has begun nothing has drained, and ends with 0. Any other command ends as the
    kernel ends it; process 1, which it would not end, with the code that a shell has for it.
    """
    # A shell's background job ignores Ctrl-C, and goes on doing so.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupted)
    if _drains() or os.getpid() == 1:
        signal.signal(signal.SIGTERM, _terminated)


def _interrupted(_: int, __: FrameType | None) -> None:
    try:
        os.write(2, b"outbox: interrupted\n")
    finally:
        os._exit(130)


def _terminated(number: int, _: FrameType | None) -> None:
    os._exit(0 if _drains() else 128 + number)


def _drains() -> bool:
    """Whether it is a worker or a relay; options before a command's name take no values."""
    return next((word for word in sys.argv[1:] if not word.startswith("-")), None) in _DRAIN
