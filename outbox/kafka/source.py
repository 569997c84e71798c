"""The Kafka wire's source: dispatches come from a consumer group and are taken from Postgres."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Protocol, Self
from uuid import UUID

import structlog

from outbox.flow.dispatch import Dispatch
from outbox.flow.table import Consumer
from outbox.kafka.connection import Cluster
from outbox.kafka.consumer import GroupMember
from outbox.kafka.envelope import BadRecordError, decode
from outbox.kafka.inbox import Inbox, Partition, Received
from outbox.kafka.names import dispatch_topics, worker_group
from outbox.worker.wake import WakeSignal

_INBOX_LEAST = 500

log = structlog.get_logger()


class Takes(Protocol):
    """What the Kafka wire asks of Postgres."""

    async def take(self, dispatches: Collection[tuple[UUID, int]]) -> list[Dispatch]:
        """Begin an attempt at each of these dispatched steps (intent, lease number) that still stands."""
        ...

    async def dispatched(self, dispatches: Collection[tuple[UUID, int]]) -> set[tuple[UUID, int]]:
        """Tell which of these dispatched steps still stand."""
        ...

    async def pending(self, *, repairs: bool) -> bool:
        """Whether anything is left that goes on without a person."""
        ...


class KafkaSource:
    """Takes dispatches as a member of the outbox's group, for as long as the context is open.

    Attributes:
        dropped: how many records were nothing to us: ``stale`` (taken or dispatched anew before),
            ``foreign`` (of another outbox), ``bad`` (no dispatch that this version understands).
    """

    relayed = True

    def __init__(
        self, cluster: Cluster, outbox: UUID, store: Takes, concurrency: Mapping[Consumer, int]
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._topics = dispatch_topics(cluster.prefix, concurrency)
        # As much as is worked on at once, and as much again, so that there is work while more is fetched.
        self._inbox_most = max(_INBOX_LEAST, 2 * max(concurrency.values()))
        self._inbox = Inbox(self._topics, most=self._inbox_most)
        self._member = GroupMember(
            cluster,
            self._topics,
            self._inbox,
            self._read,
            group=worker_group(cluster.prefix, outbox),
        )
        self._wake = WakeSignal()
        self.dropped: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._member.on_news = lambda: _tell(loop, self._wake)
        self._member.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._member.join)

    async def take(self, credit: Mapping[Consumer, int]) -> list[Dispatch]:
        """Take what has been received and still stands in Postgres, at most so many of each consumer."""
        self._wake.clear()
        if self._member.failure:
            raise self._member.failure
        left = Counter(credit)
        taken: list[Dispatch] = []
        while records := self._inbox.next(left):
            named = _names(records)
            found = await self._store.take(named) if named else []
            self._inbox.done(records)
            left.subtract(one.consumer for one in found)
            taken += found
            if stale := len(named) - len(found):
                self.dropped["stale"] += stale
                await self._sweep()
        return taken

    async def _sweep(self) -> None:
        """Where one record is stale many may be, as after an outage: set all that are aside at once.

        Else they would go a handful at a time, while what they stand for is dispatched once more behind them.
        """
        waiting = self._inbox.next(dict.fromkeys(self._topics.values(), self._inbox_most))
        named = _names(waiting)
        standing = await self._store.dispatched(named) if named else set()
        self._inbox.done(one for one in waiting if not one.envelope or one.envelope.name not in standing)
        self.dropped["stale"] += sum(one not in standing for one in named)

    async def wait_for_work(self, seconds: float) -> None:
        """Wait for records, a wake-up, or the time."""
        await self._wake.wait(seconds)

    def wake(self) -> None:
        """End the wait under way, or the next one."""
        self._wake.set()

    def close(self) -> None:
        """Leave the group: what waits here is delivered to the others at once."""
        self._member.leave()

    async def pending(self, *, repairs: bool) -> bool:
        """Whether anything is left that goes on without a person; due repairs count for who does them."""
        return await self._store.pending(repairs=repairs)

    def _read(self, partition: Partition, offset: int, value: bytes | None) -> Received:
        """Judge a record: what is not for us is counted and set aside; it never stops what comes after."""
        place = {"topic": partition[0], "partition": partition[1], "offset": offset}
        try:
            envelope = decode(value, self._topics[partition[0]])
        except BadRecordError as error:
            self.dropped["bad"] += 1
            log.warning("kafka.bad_record", why=str(error), **place)
            return Received(partition, offset, None)
        if envelope.outbox != self._outbox:
            if not self.dropped["foreign"]:
                hint = "give each outbox a prefix of its own (OUTBOX_KAFKA_PREFIX)"
                log.warning("kafka.foreign_record", outbox=str(envelope.outbox), hint=hint, **place)
            self.dropped["foreign"] += 1
            return Received(partition, offset, None)
        return Received(partition, offset, envelope)


def _names(records: Collection[Received]) -> list[tuple[UUID, int]]:
    return [one.envelope.name for one in records if one.envelope]


def _tell(loop: asyncio.AbstractEventLoop, wake: WakeSignal) -> None:
    # The loop may have ended while the thread was still at it.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(wake.set)
