"""Records between the thread that polls Kafka and the event loop that takes steps: bounded, in order.

A record is done once Postgres was asked about it. From then on the lease in Postgres carries the step, so a
partition's offset may move past it although the step has not ended; and what was never asked about is
delivered again, to whoever has the partition next.
"""

import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from outbox.flow.table import Consumer
from outbox.kafka.envelope import Envelope

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Received:
    """A record; without an envelope where it is not for us, and only its offset counts."""

    partition: Partition
    offset: int
    envelope: Envelope | None


@dataclass(slots=True)
class _Lane:
    """What waits of one partition; of that, what is over but for something before it that is not."""

    waiting: deque[Received] = field(default_factory=deque)
    over: set[int] = field(default_factory=set)
    next_offset: int | None = None

    def open(self) -> Iterator[Received]:
        return (one for one in self.waiting if one.offset not in self.over)

    def end(self, offset: int) -> None:
        if self.waiting and self.waiting[0].offset <= offset <= self.waiting[-1].offset:
            self.over.add(offset)
        while self.waiting and self.waiting[0].offset in self.over:
            gone = self.waiting.popleft().offset
            self.over.remove(gone)
            self.next_offset = gone + 1


class Inbox:
    """What has been received and not been asked about yet. Every method may be called from any thread."""

    def __init__(self, topics: Mapping[str, Consumer], *, most: int) -> None:
        """Make an empty inbox.

        Args:
            topics: whose records each topic carries.
            most: of a topic's records; when there are so many, no more are wanted of it.
        """
        self._topics = topics
        self._most = most
        self._lanes: dict[Partition, _Lane] = {}
        self._lock = threading.Lock()

    def put(self, records: Iterable[Received]) -> None:
        """Add records, each partition's in the order of their offsets."""
        with self._lock:
            for record in records:
                self._lanes.setdefault(record.partition, _Lane()).waiting.append(record)

    def next(self, credit: Mapping[Consumer, int]) -> list[Received]:
        """The oldest records of every partition, at most so many of each consumer's; they stay until done."""
        chosen: list[Received] = []
        left = dict(credit)
        with self._lock:
            rows = [(self._topics[topic], lane.open()) for (topic, _), lane in self._lanes.items()]
            while rows:
                more = []
                for consumer, records in rows:
                    if left.get(consumer, 0) > 0 and (record := next(records, None)):
                        left[consumer] -= 1
                        chosen.append(record)
                        more.append((consumer, records))
                rows = more
        return chosen

    def done(self, records: Iterable[Received]) -> None:
        """Postgres was asked about these; their partitions go to the end."""
        with self._lock:
            for record in records:
                lane = self._lanes.pop(record.partition, None)
                if lane is not None:
                    lane.end(record.offset)
                    self._lanes[record.partition] = lane

    def keep(self, partitions: Collection[Partition]) -> None:
        """Forget what waits of any other partition: they are other members' now."""
        with self._lock:
            self._lanes = {name: lane for name, lane in self._lanes.items() if name in partitions}

    def clear(self) -> None:
        """Forget all that waits."""
        with self._lock:
            self._lanes.clear()

    def offsets(self) -> dict[Partition, int]:
        """The offset up to which each partition is done."""
        with self._lock:
            return {
                partition: lane.next_offset
                for partition, lane in self._lanes.items()
                if lane.next_offset is not None
            }

    def full_topics(self) -> set[str]:
        """The topics that no more is wanted of for now."""
        with self._lock:
            waiting = dict.fromkeys(self._topics, 0)
            for (topic, _), lane in self._lanes.items():
                waiting[topic] += len(lane.waiting) - len(lane.over)
            return {topic for topic, size in waiting.items() if size >= self._most}
