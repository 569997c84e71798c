"""A worker on real Postgres with effects that do what the test says, on either wire."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.compose.kafka import open_relay, open_source, running
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome
from outbox.flow.settlement import RetryPolicy
from outbox.flow.table import Consumer, EventType
from outbox.settings import Settings
from outbox.store.engine import async_engine
from outbox.store.notifier import Notifier
from outbox.store.work import Timing, WorkStore
from outbox.worker.loop import Worker, WorkerOptions
from outbox.worker.observer import Observer
from outbox.worker.source import DirectSource, Source
from tests.store.conftest import enqueue, query

__all__ = ["enqueue", "query"]

Behaviour = Callable[[Dispatch], Any]


class ScriptedEffects:
    """Effects that answer as told, and remember what they were asked."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = lambda _: Done()
        self.asked: list[Dispatch] = []
        self.looked: list[Dispatch] = []
        self.running: Counter[Consumer] = Counter()
        self.peak: Counter[Consumer] = Counter()
        self.started = asyncio.Event()
        self._ended: defaultdict[EventType, asyncio.Event] = defaultdict(asyncio.Event)

    async def ended(self, step: EventType) -> None:
        """Wait until a step of this kind has been applied."""
        await self._ended[step].wait()

    async def apply(self, dispatch: Dispatch) -> Outcome:
        self.asked.append(dispatch)
        self.running[dispatch.consumer] += 1
        self.peak[dispatch.consumer] = max(self.peak[dispatch.consumer], self.running[dispatch.consumer])
        self.started.set()
        try:
            answer = self.behaviour(dispatch)
            outcome: Outcome = await answer if asyncio.iscoroutine(answer) else answer
            return outcome
        finally:
            self.running[dispatch.consumer] -= 1
            self._ended[dispatch.event_type].set()

    async def look(self, dispatch: Dispatch) -> Outcome:
        self.looked.append(dispatch)
        return await self.apply(dispatch)


class Bench:
    """What a test of the worker works with.

    Attributes:
        topics: settings of the Kafka wire; None on the direct one.
        source: makes the direct wire's source.
    """

    def __init__(self, url: str, topics: dict[str, object] | None = None) -> None:
        self.effects = ScriptedEffects()
        self.topics = topics
        self.source: Callable[[WorkStore, Notifier], Source] = DirectSource
        self._url = url

    @asynccontextmanager
    async def worker(
        self,
        *,
        until_idle: bool = True,
        concurrency: int = 4,
        poll_seconds: float = 0.02,
        drain_seconds: float = 5.0,
        step_timeout: float = 5.0,
        lease: float = 10.0,
        max_strikes: int = 3,
        only: Consumer | None = None,
        observer: Observer | None = None,
    ) -> AsyncIterator[Worker]:
        serves = {only} if only else set(Consumer)
        options = WorkerOptions(
            concurrency=dict.fromkeys(serves, concurrency),
            policy=RetryPolicy(base_seconds=0.01, cap_seconds=0.02, max_strikes=max_strikes),
            poll_seconds=poll_seconds,
            drain_seconds=drain_seconds,
            until_idle=until_idle,
        )
        engine = async_engine(self._url)
        store = WorkStore(engine, Timing(lease=lease, step_timeout=step_timeout, late_write=0.2))
        try:
            async with self._source(engine, store, options.concurrency, poll_seconds) as source:
                effects = dict.fromkeys(serves, self.effects)
                yield Worker(source, store, effects, options, jitter=random.Random(1), observer=observer)
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def _source(
        self, engine: AsyncEngine, store: WorkStore, concurrency: Mapping[Consumer, int], poll_seconds: float
    ) -> AsyncIterator[Source]:
        if self.topics is None:
            async with Notifier(self._url) as notifier:
                yield self.source(store, notifier)
            return
        settings = Settings.model_validate(
            self.topics | {"database_url": self._url, "poll_interval_seconds": poll_seconds}
        )
        async with (
            open_relay(settings) as relay,
            open_source(settings, engine, store, concurrency) as source,
            running(relay),
        ):
            yield source


@pytest.fixture(params=["direct", "kafka"])
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(request: pytest.FixtureRequest, database: str, wire: str) -> Bench:
    return Bench(database, request.getfixturevalue("topics") if wire == "kafka" else None)


direct_only = pytest.mark.parametrize("wire", ["direct"], indirect=True)
kafka_only = pytest.mark.parametrize("wire", ["kafka"], indirect=True)
