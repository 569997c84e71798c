"""The producers of a campaign: they commit what is planned, whatever happens to Postgres meanwhile."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg

import outbox
from consumers.authz.client import Tuple
from consumers.authz.names import SCHEDULE, USER
from consumers.calls import Call, StoreFailure
from outbox.compose.audit import words
from outbox.compose.clients import authz_client
from outbox.flow.outcome import Unknown
from outbox.settings import Settings
from tests.chaos.onlookers import Onlookers, wait
from tests.chaos.recorder import Recorder
from tests.chaos.workload import Entry, Lane

# What an application should take for a lost connection: the last two are what psycopg makes of a pooler that
# loses its server, and what a demoted server answers.
AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    psycopg.errors.ReadOnlySqlTransaction,
)
_AT_ONCE = 24
_WAITING_AT_ONCE = 20  # each has a connection
_AGAIN_SECONDS = 0.2
_CALL_SECONDS = 5.0


class Producers:
    """Commit each entry in a transaction of its own; after a doubt, ask again under the same key.

    Attributes:
        spans: of each intent, when it was begun and when its commit was known.
        granted: what others were given of schedules, by the intent that was live then.
        withdrawn: intents that were rolled back.
    """

    def __init__(
        self,
        settings: Settings,
        lanes: Sequence[Lane],
        parts: int,
        *,
        history: Recorder,
        onlookers: Onlookers,
    ) -> None:
        """Divide the lanes into so many parts, each to be begun when ``begin`` says so."""
        self._settings = settings
        self._history = history
        self._onlookers = onlookers
        self._url = settings.database_url.get_secret_value()
        self._lanes = lanes
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._waiting_room = asyncio.Semaphore(_WAITING_AT_ONCE)
        self._begun = [asyncio.Event() for _ in range(parts)]
        self.spans: dict[UUID, tuple[float, float]] = {}
        self.granted: dict[str, frozenset[str]] = {}
        self.withdrawn: list[outbox.Intent] = []

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
        self._onlookers.expect(entry.request.schedule_id)
        if entry.thought_over:
            await self._think_over(entry)
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
                self._onlookers.follow(intent)
                return intent

    async def _enqueue(self, entry: Entry) -> outbox.Intent:
        asked = self._history.ask(
            "producer", "enqueue", entry.request.schedule_id, **_words(entry, entry.key)
        )
        given: dict[str, str] = {}
        committing = False
        try:
            async with await psycopg.AsyncConnection.connect(self._url, connect_timeout=5) as connection:
                (intent,) = await outbox.enqueue_many(
                    connection, [(entry.request, entry.principal, entry.key)]
                )
                given = {"intent": str(intent.id)}
                await asyncio.sleep(entry.linger_seconds)
                committing = True
        except AWAY as error:
            (asked.unknown if committing else asked.failed)(error, **given)
            raise
        asked.told(**given)
        return intent

    async def _think_over(self, entry: Entry) -> None:
        """Enqueue, and roll back."""
        key = f"{entry.key}-withdrawn"
        asked = self._history.ask("producer", "enqueue", entry.request.schedule_id, **_words(entry, key))
        try:
            async with self._room, await psycopg.AsyncConnection.connect(self._url) as connection:
                (intent,) = await outbox.enqueue_many(connection, [(entry.request, entry.principal, key)])
                await connection.rollback()
        except AWAY as error:
            asked.failed(error)
        else:
            asked.failed("rolled back", intent=str(intent.id))
            self.withdrawn.append(intent)

    async def _share(self, intent: outbox.Intent) -> None:
        """Let somebody else read what was created; the next intent of the lane comes after that."""
        async with self._waiting_room:
            result = await wait(self._history, self._url, intent)
        if result is None or result.status is not outbox.Status.SUCCEEDED:
            return
        reader = Tuple(SCHEDULE, intent.schedule_id, "reader", USER, "rita")
        client = authz_client(self._settings)
        while str(intent.id) not in self.granted:
            asked = self._history.ask("owner", "grant", intent.schedule_id, relation=words(reader))
            try:
                await client.touch([reader], Call.within(_CALL_SECONDS))
            except StoreFailure as failure:
                (asked.unknown if isinstance(failure.outcome, Unknown) else asked.failed)(failure)
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                asked.told()
                self.granted[str(intent.id)] = frozenset({words(reader)})
        await client.close()


def _words(entry: Entry, key: str) -> dict[str, Any]:
    """What is asked for, as it is written down."""
    fields = entry.request.model_dump(exclude_unset=True)
    user, robot = entry.principal.user_id, entry.principal.service_account_id
    return {
        "key": key,
        "kind": entry.request.kind,
        "owner": f"user:{user}" if user else f"service_account:{robot}" if robot else None,
        **{name: fields[name] for name in ("cron_expression", "paused", "note") if name in fields},
    }
