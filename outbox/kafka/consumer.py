"""The consuming side of kafka-python: a member of a consumer group, in a thread of its own.

The thread does nothing but poll. However slow the steps are, the member stays in its group: where the inbox
is full, the partitions are paused, and polling goes on.

kafka-python 3.0 forgets a partition that is paused while there are records of it to hand out: when it is
resumed, nothing more comes. So partitions are paused only after a poll that brought less than it might have:
then there are none left. What comes until then is bounded by how much is fetched of a partition at a time.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError, KafkaTimeoutError

from outbox.kafka.connection import Cluster, problem
from outbox.kafka.inbox import Inbox, Partition, Received

_POLL_MS = 250
# While something is paused, as it is to go on as soon as there is room.
_PAUSED_POLL_MS = 50
_POLL_RECORDS = 500
_FETCH_BYTES = 64 * 1024
# A partition that is resumed is fetched after the fetch of those that were not paused: so much later at most.
_FETCH_WAIT_MS = 100
_COMMIT_SECONDS = 0.5
_CLOSE_MS = 3_000
# In a session. With each, a member learns of others that come and go.
_HEARTBEATS = 20
_RETRY_SECONDS = 1.0

log = structlog.get_logger()

Read = Callable[[Partition, int, bytes | None], Received]
"""Makes of a record's place and value what the inbox holds; never raises."""


class GroupMember:
    """Fills an inbox, as a member of a group, from ``start`` until ``leave``.

    Attributes:
        failure: what ended the thread, if anything but ``leave`` did.
    """

    def __init__(
        self, cluster: Cluster, topics: Collection[str], inbox: Inbox, read: Read, *, group: str
    ) -> None:
        self._options = cluster.options
        self._session_ms = cluster.session_ms
        self._topics = sorted(topics)
        self._group = group
        self._inbox = inbox
        self._read = read
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox-kafka-consumer", daemon=True)
        self.failure: BaseException | None = None
        self.on_news: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Join the group as soon as the brokers can be reached."""
        self._thread.start()

    def leave(self) -> None:
        """Give the partitions back at once, without waiting for it."""
        self._leaving.set()

    def join(self) -> None:
        """Wait until the group has been left."""
        self._leaving.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._leaving.is_set():
                away = problem(self._options)
                try:
                    if away is None:
                        self._consume()
                except KafkaError as error:
                    away = str(error)
                if away is not None:
                    log.warning("kafka.away", error=away, hint="is OUTBOX_KAFKA_BOOTSTRAP right?")
                    self._leaving.wait(_RETRY_SECONDS)
        except BaseException as error:  # noqa: BLE001 - a thread has nobody above it: its owner raises this
            self.failure = error
        self.on_news()

    def _consume(self) -> None:
        consumer = KafkaConsumer(
            **self._options,
            group_id=self._group,
            session_timeout_ms=self._session_ms,
            heartbeat_interval_ms=self._session_ms // _HEARTBEATS,
            enable_auto_commit=False,
            metrics_enabled=False,
            # What was dispatched before the group was first seen is taken too; what is stale drops out.
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            # Shares out each topic by itself: else one member could be given all steps of one store.
            partition_assignment_strategy=[RangePartitionAssignor],
            max_poll_records=_POLL_RECORDS,
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )
        try:
            listener = _Listener(self._inbox)
            consumer.subscribe(self._topics, listener=listener)
            # The partitions are known before the group is joined: else it is joined twice.
            consumer.topics()
            committed = _Committed()
            due = time.monotonic()
            while not self._leaving.is_set():
                came = self._poll(consumer)
                if came < _POLL_RECORDS:
                    self._pause(consumer)
                if listener.joining_seconds() > self._session_ms / 1000:
                    raise KafkaTimeoutError("no answer to a join for a session's time: joining anew")
                if time.monotonic() >= due:
                    committed.tell(consumer, self._ours(consumer))
                    due = time.monotonic() + _COMMIT_SECONDS
            self._commit_last(consumer)
        finally:
            self._inbox.clear()
            consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)

    def _pause(self, consumer: Any) -> None:
        """Stop fetching what there is no room for, and go on with what there is."""
        full = self._inbox.full_topics()
        paused = consumer.paused()
        assigned = consumer.assignment()
        stop = [one for one in assigned if one.topic in full and one not in paused]
        resume = [one for one in assigned if one.topic not in full and one in paused]
        if stop:
            consumer.pause(*stop)
        if resume:
            consumer.resume(*resume)

    def _poll(self, consumer: Any) -> int:
        """Hand over what has come; returns how many records."""
        found = consumer.poll(timeout_ms=_PAUSED_POLL_MS if consumer.paused() else _POLL_MS)
        for partition, records in found.items():
            name = (partition.topic, partition.partition)
            self._inbox.put(self._read(name, record.offset, record.value) for record in records)
        if found:
            self.on_news()
        return sum(map(len, found.values()))

    def _commit_last(self, consumer: Any) -> None:
        offsets = self._ours(consumer)
        if offsets:
            try:
                consumer.commit(_as_commit(offsets), timeout_ms=_CLOSE_MS)
            except KafkaError as error:
                log.info("kafka.offsets_not_committed", error=str(error), hint="records are delivered again")

    def _ours(self, consumer: Any) -> dict[Partition, int]:
        mine = {(one.topic, one.partition) for one in consumer.assignment()}
        return {name: offset for name, offset in self._inbox.offsets().items() if name in mine}


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Lets go of what waits of partitions that went to another member; steps that were taken go on."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._joining_since: float | None = time.monotonic()

    def joining_seconds(self) -> float:
        """How long the brokers have been sharing out the partitions; 0: they have.

        kafka-python 3.0 waits for ever for the answer to some joins: those that it begins as the metadata has
        changed, and that take longer than the poll that they began in.
        """
        return 0.0 if self._joining_since is None else time.monotonic() - self._joining_since

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None:  # noqa: ARG002 - kafka-python's name
        """Keep what waits: of a partition that comes back at once, fetching goes on where it was."""
        self._joining_since = self._joining_since or time.monotonic()

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        self._joining_since = None
        self._inbox.keep({(one.topic, one.partition) for one in assigned})


class _Committed:
    """Tells the group how far we are; nothing is lost where that fails, only delivered again."""

    def __init__(self) -> None:
        self._told: dict[Partition, int] = {}

    def tell(self, consumer: Any, offsets: dict[Partition, int]) -> None:
        """Commit these, without waiting, unless the group knows them."""
        if offsets and offsets != self._told:
            self._told = offsets
            consumer.commit_async(_as_commit(offsets)).add_errback(self._forget)

    def _forget(self, _: BaseException) -> None:
        # As while partitions are being shared out: told again with the next ones.
        self._told = {}


def _as_commit(offsets: Mapping[Partition, int]) -> dict[Any, Any]:
    return {TopicPartition(*name): OffsetAndMetadata(offset, "", -1) for name, offset in offsets.items()}
