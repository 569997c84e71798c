"""Tells how far a long command is, in words that are asked for while it goes on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from outbox.cli.running import progress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_REFRESH_SECONDS = 0.2


@asynccontextmanager
async def telling(first: str, so_far: Callable[[], str]) -> AsyncIterator[None]:
    """Inside, show on a terminal how far it has come.

    Args:
        first: what is shown until something is known.
        so_far: how far it is, in a few words.
    """
    with progress() as bar:
        task = bar.add_task(first, total=None)
        moving = asyncio.create_task(_move(bar, task, so_far))
        try:
            yield
        finally:
            moving.cancel()
            with suppress(asyncio.CancelledError):
                await moving


async def _move(bar: "Progress", task: "TaskID", so_far: Callable[[], str]) -> None:
    while True:
        bar.update(task, description=so_far())
        await asyncio.sleep(_REFRESH_SECONDS)
