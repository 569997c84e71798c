"""The clients of a campaign that change nothing: they wait for what was asked for, and look at the stores."""

import asyncio
import random
from collections import Counter
from collections.abc import Collection
from typing import Self

import outbox
from tests.chaos.eyes import Eyes
from tests.chaos.recorder import Recorder

# Each has a connection. Who comes later waits for a place: what it is told it is told later.
_WAITING_AT_ONCE = 30
_LOOKING_AT_ONCE = 8
# Until the campaign gives up: its intents are asked for much faster than they are applied.
_WAIT_SECONDS = 86_400.0
_PAUSE_SECONDS = 0.05


class Onlookers:
    """Wait for the end of each intent and look at once what it has come to; look at any other time, too.

    Args:
        history: where they write down what they are told.
        url: of Postgres.
        eyes: on the stores.
        rng: chooses what is looked at next.
    """

    def __init__(self, history: Recorder, url: str, eyes: Eyes, rng: random.Random) -> None:
        self._history = history
        self._url = url
        self._eyes = eyes
        self._rng = rng
        self._places = asyncio.Semaphore(_WAITING_AT_ONCE)
        self._waiting: set[asyncio.Task[None]] = set()
        self._under_way: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._roaming = asyncio.create_task(self._roam())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._roaming, *self._waiting):
            task.cancel()
        await asyncio.gather(self._roaming, *self._waiting, return_exceptions=True)

    def expect(self, schedule_id: str) -> None:
        """Look at the schedule from now on: something is about to be asked for it."""
        self._under_way[schedule_id] += 1

    def follow(self, intent: outbox.Intent) -> None:
        """Wait for what becomes of an intent that was committed."""
        self._waiting.add(asyncio.create_task(self._wait(intent)))

    async def told(self) -> None:
        """Return when each has been told how its intent ended; nobody roams any more."""
        await asyncio.gather(*self._waiting)
        if self._roaming.done():
            self._roaming.result()
        self._roaming.cancel()

    async def see_all(self, schedules: Collection[str]) -> None:
        """See what each of these schedules has come to."""
        room = asyncio.Semaphore(_LOOKING_AT_ONCE)

        async def see(schedule_id: str) -> None:
            async with room:
                await self._eyes.see(schedule_id)

        await asyncio.gather(*map(see, schedules))

    async def _wait(self, intent: outbox.Intent) -> None:
        async with self._places:
            await wait(self._history, self._url, intent)
        await self._eyes.look(intent.schedule_id)
        self._under_way[intent.schedule_id] -= 1

    async def _roam(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            if busy := [name for name, many in self._under_way.items() if many]:
                await self._eyes.look(self._rng.choice(busy))


async def wait(history: Recorder, url: str, intent: outbox.Intent) -> outbox.IntentResult | None:
    """Wait for what becomes of an intent, and write it down; None: it can't be told, or there is none."""
    asked = history.ask("requester", "wait", intent.schedule_id, intent=str(intent.id))
    try:
        result = await outbox.wait(url, intent.id, timeout=_WAIT_SECONDS)
    except outbox.UnknownIntent as error:
        asked.failed(error)
        return None
    except TimeoutError as error:
        asked.unknown(error)
        return None
    code = result.error.code if result.error else None
    asked.told(status=result.status, event=result.event_type, code=code)
    return result
