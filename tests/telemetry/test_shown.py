"""What notifiers, relays and publishers show of themselves is what they did."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pytest
from structlog.testing import capture_logs

from outbox.compose.kafka import open_publisher, open_relay, running
from outbox.compose.telemetry import Unwatched, show_notifier, show_publisher, show_relay
from outbox.settings import Settings
from outbox.store.notifier import Notifier
from outbox.store.watching import Figures
from outbox.telemetry import catalogue
from outbox.telemetry.catalogue import Metric, Reading
from tests.kafka.brokers import broker as chosen_broker
from tests.kafka.conftest import settings
from tests.poolers.conftest import own_pooler
from tests.store.conftest import Enqueue, Query, enqueue, query

__all__ = ["enqueue", "own_pooler", "query", "settings"]


class Shown(Unwatched):
    """Keeps how each metric is read."""

    def __init__(self) -> None:
        self._readings: dict[str, Callable[[], Reading]] = {}
        self._asked: dict[str, Callable[[], Coroutine[Any, Any, Figures]]] = {}

    def read(self, metric: Metric, reading: Callable[[], Reading]) -> None:
        self._readings[metric.name] = reading

    def ask(
        self,
        name: str,
        metrics: Iterable[Metric],
        figures: Callable[[], Coroutine[Any, Any, Figures]],
        *,
        seconds: float,
    ) -> None:
        del name, seconds
        self._asked.update((metric.name, figures) for metric in metrics)

    def says(self, metric: Metric) -> float:
        """The value of a metric without labels."""
        ((labels, value),) = self._readings[metric.name]()
        assert labels == ()
        return value

    async def reaches(self, metric: Metric, value: float) -> None:
        """Wait until it is so much, or more."""
        async with asyncio.timeout(240):
            while self.says(metric) < value:  # noqa: ASYNC110 - others bring it about
                await asyncio.sleep(0.01)

    async def answers(self, metric: Metric) -> dict[tuple[str, ...], float]:
        """The values of one that is asked for."""
        return dict((await self._asked[metric.name]())[metric.name])


async def test_wake_ups_are_counted_by_who_hears_them_and_who_is_deaf_says_so(
    database: str, own_pooler: str, query: Query
) -> None:
    hearing, deaf = Shown(), Shown()
    with capture_logs() as logs:
        async with Notifier(database) as one, Notifier(own_pooler) as other:
            show_notifier(hearing, one)
            show_notifier(deaf, other)
            await hearing.reaches(catalogue.LISTENING, 1)
            async with asyncio.timeout(240):
                while not logs:  # noqa: ASYNC110 - the event is a line of the log
                    await asyncio.sleep(0.01)
            for _ in range(3):
                await query("NOTIFY outbox_work")
            await hearing.reaches(catalogue.WAKEUPS, 3)
            assert hearing.says(catalogue.WAKEUPS) == 3
            assert (deaf.says(catalogue.LISTENING), deaf.says(catalogue.WAKEUPS)) == (0, 0)
    assert [line["event"] for line in logs] == ["notifier.deaf"]
    assert hearing.says(catalogue.LISTENING) == 0


async def test_a_relay_and_a_publisher_count_what_they_send_and_lag_is_what_nobody_has_read(
    settings: Settings, enqueue: Enqueue, query: Query
) -> None:
    if chosen_broker()[0] != "apache":
        pytest.skip("tansu does not tell a group's lag, and makes topics when they are asked for")
    await query("UPDATE outbox.instance SET publishes = true")
    for name in ("a", "b", "c"):
        await enqueue(name)
    shown = Shown()
    topicless = settings.model_copy(update={"kafka_prefix": f"{settings.kafka_prefix}-none"})
    async with open_relay(topicless, watch=shown) as relay, running(relay):
        show_relay(shown, relay)
        await shown.reaches(catalogue.STEPS_RECALLED, 3)
        assert shown.says(catalogue.STEPS_DISPATCHED) == 0
    async with (
        open_relay(settings, watch=shown) as relay,
        open_publisher(settings) as publisher,
        running(relay),
        running(publisher),
    ):
        show_relay(shown, relay)
        show_publisher(shown, publisher)
        await shown.reaches(catalogue.STEPS_DISPATCHED, 3)
        await shown.reaches(catalogue.EVENTS_PUBLISHED, 3)
        counters = (catalogue.STEPS_DISPATCHED, catalogue.EVENTS_PUBLISHED, catalogue.STEPS_RECALLED)
        assert [shown.says(counter) for counter in counters] == [3, 3, 0]
        names = {f"{settings.kafka_prefix}.dispatch.{one}": 0.0 for one in ("authz", "temporal", "both")}
        names[f"{settings.kafka_prefix}.dispatch.authz"] = 3.0
        assert await shown.answers(catalogue.KAFKA_LAG) == {(name,): lag for name, lag in names.items()}
