"""Arms the named points of a worker: in this process, or by the environment of one of its own."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from outbox import failpoints
from outbox.failpoints import Trap


class FailpointError(Exception):
    """What an armed point raises."""


@dataclass(eq=False)
class Stop:
    """Whoever comes to the point waits there until it is opened.

    Attributes:
        reached: somebody has come.
    """

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    _opened: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self) -> None:
        """Let all go on, those who wait and those who will come."""
        self._opened.set()

    async def __call__(self) -> None:
        """Wait."""
        self.reached.set()
        await self._opened.wait()


@contextmanager
def armed(point: str, trap: Trap) -> Iterator[None]:
    """Inside, the point is armed; a trap is any coroutine function: ``Stop()``, ``fail()`` or your own.

    Raises:
        ValueError: there is no such point.
    """
    failpoints.arm(point, trap)
    try:
        yield
    finally:
        failpoints.disarm(point)


def fail(message: str = "a failpoint") -> Trap:
    """A trap that raises ``FailpointError``."""

    async def trap() -> None:
        raise FailpointError(message)

    return trap


def arm_from(text: str) -> None:
    """Arm points as the setting ``OUTBOX_FAILPOINTS`` says, for the rest of the process.

    Args:
        text: ``point=action`` or ``point=action@N`` (from the N-th pass on; before, the point is inert),
            separated by commas. Actions: ``exit`` (at once, as by SIGKILL), ``freeze`` (SIGSTOP: until
            somebody sends SIGCONT), ``fail`` (raise), ``fail-once`` (raise, and be inert from then on).

    Raises:
        ValueError: that is not what it says.
    """
    for part in filter(None, (one.strip() for one in text.split(","))):
        point, _, rest = part.partition("=")
        action, _, count = rest.partition("@")
        if action not in _ACTIONS or not (count or "1").isdecimal():
            wanted = f"point=action or point=action@N, the action one of {', '.join(_ACTIONS)}"
            raise ValueError(f"OUTBOX_FAILPOINTS: {part} is not {wanted}")
        failpoints.arm(point, _from(int(count or "1"), _ACTIONS[action]()))


def _from(number: int, trap: Trap) -> Trap:
    passes = 0

    async def counting() -> None:
        nonlocal passes
        passes += 1
        if passes >= number:
            await trap()

    return counting


def _exit() -> Trap:
    async def trap() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    return trap


def _freeze() -> Trap:
    async def trap() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    return trap


def _fail_once() -> Trap:
    failing = iter([fail()])

    async def trap() -> None:
        for one in failing:
            await one()

    return trap


_ACTIONS: dict[str, Callable[[], Trap]] = {
    "exit": _exit,
    "freeze": _freeze,
    "fail": fail,
    "fail-once": _fail_once,
}
