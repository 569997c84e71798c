"""The producers of a campaign: they commit what is planned, whatever happens to Postgres meanwhile."""

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

import psycopg

import outbox
from consumers.authz.client import Tuple
from consumers.authz.names import SCHEDULE, USER
from consumers.calls import Call, StoreFailure
from outbox.compose.audit import words
from outbox.compose.clients import authz_client
from outbox.settings import Settings
from tests.chaos.workload import Entry, Lane

# What an application should take for a lost connection: the last is what a demoted server answers.
AWAY = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)
_AT_ONCE = 24
_WAITING_AT_ONCE = 20  # each has a connection
# Far beyond what a campaign takes: its intents are asked for much faster than they are applied.
_WAIT_SECONDS = 1800.0
_AGAIN_SECONDS = 0.2
_CALL_SECONDS = 5.0


class Producers:
    """Commit each entry in a transaction of its own; after a doubt, ask again under the same key.

    Attributes:
        spans: of each intent, when it was begun and when its commit was known.
        granted: what others were given of schedules, by the intent that was live then.
    """

    def __init__(self, settings: Settings, lanes: Sequence[Lane], parts: int) -> None:
        """Divide the lanes into so many parts, each to be begun when ``begin`` says so."""
        self._settings = settings
        self._url = settings.database_url.get_secret_value()
        self._lanes = lanes
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._waiting_room = asyncio.Semaphore(_WAITING_AT_ONCE)
        self._begun = [asyncio.Event() for _ in range(parts)]
        self.spans: dict[UUID, tuple[float, float]] = {}
        self.granted: dict[str, frozenset[str]] = {}

    def begin(self, part: int) -> None:
        """Begin a part, from 1."""
        self._begun[part - 1].set()

    async def run(self) -> None:
        """Return when all is committed."""
        async with asyncio.TaskGroup() as group:
            for number, lane in enumerate(self._lanes):
                begun = self._begun[number * len(self._begun) // len(self._lanes)]
                group.create_task(self._produce(lane, begun))

    async def _produce(self, lane: Lane, begun: asyncio.Event) -> None:
        await begun.wait()
        if lane.side_by_side:
            await asyncio.gather(*(self._commit(entry) for entry in lane.entries))
            return
        for entry in lane.entries:
            intent = await self._commit(entry)
            if entry.shared:
                await self._share(intent)

    async def _commit(self, entry: Entry) -> outbox.Intent:
        begun = time.monotonic()
        while True:
            try:
                async with self._room:
                    intent = await self._enqueue(entry)
            except AWAY:
                # Committed or not: the key tells.
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self.spans[intent.id] = (begun, time.monotonic())
                return intent

    async def _enqueue(self, entry: Entry) -> outbox.Intent:
        async with await psycopg.AsyncConnection.connect(self._url, connect_timeout=5) as connection:
            (intent,) = await outbox.enqueue_many(connection, [(entry.request, entry.principal, entry.key)])
            await asyncio.sleep(entry.linger_seconds)
        return intent

    async def _share(self, intent: outbox.Intent) -> None:
        """Let somebody else read what was created; the next intent of the lane comes after that."""
        async with self._waiting_room:
            result = await outbox.wait(self._url, intent.id, timeout=_WAIT_SECONDS)
        if result.status is not outbox.Status.SUCCEEDED:
            return
        reader = Tuple(SCHEDULE, intent.schedule_id, "reader", USER, "rita")
        client = authz_client(self._settings)
        while str(intent.id) not in self.granted:
            try:
                await client.touch([reader], Call.within(_CALL_SECONDS))
            except StoreFailure:
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self.granted[str(intent.id)] = frozenset({words(reader)})
        await client.close()
