"""A subscriber of the public events, which writes down what it hears; on the Kafka wire alone."""

import contextlib
import json
import threading
from typing import Any, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from outbox.kafka.connection import problem
from outbox.settings import Settings
from tests.chaos.recorder import Recorder

_POLL_MS = 200
_AGAIN_SECONDS = 0.5


class Subscriber:
    """Reads the events' topic from its beginning, in a thread of its own.

    A broker that is away is waited for. Where the consumer fails, all is read again, as by a subscriber that
    keeps no place: what it has heard already comes again.
    """

    def __init__(self, settings: Settings, history: Recorder) -> None:
        assert settings.kafka_bootstrap
        self._options = {"bootstrap_servers": settings.kafka_bootstrap.split(",")}
        self._topic = f"{settings.kafka_prefix}.events"
        self._history = history
        self._ending, self._leaving = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()

    def hear_all(self) -> None:
        """Return when all that is in the topic now has been heard."""
        self._ending.set()
        self._thread.join()

    def _listen(self) -> None:
        heard = False
        while not (heard or self._leaving.wait(_AGAIN_SECONDS)):
            # A consumer that is made while nobody listens leaves its sockets behind.
            if problem(self._options) is None:
                with contextlib.suppress(KafkaError):
                    heard = self._read()

    def _read(self) -> bool:
        """Read on until all is heard that there is and nothing more is to come; whether it came to that."""
        consumer = KafkaConsumer(**self._options, enable_auto_commit=False, auto_offset_reset="earliest")
        with contextlib.closing(consumer):
            numbers = consumer.partitions_for_topic(self._topic)
            if not numbers:
                return False
            partitions = [TopicPartition(self._topic, number) for number in numbers]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            while not self._leaving.is_set():
                ends = consumer.end_offsets(partitions) if self._ending.is_set() else None
                for records in consumer.poll(timeout_ms=_POLL_MS).values():
                    for record in records:
                        self._hear(record)
                if ends and all(consumer.position(one) >= ends[one] for one in partitions):
                    return True
        return False

    def _hear(self, record: Any) -> None:
        headers = {name: value.decode() for name, value in record.headers}
        event = json.loads(record.value)
        self._history.note(
            "subscriber",
            "hear",
            record.key.decode(),
            id=headers["ce_id"],
            sequence=headers["ce_sequence"],
            event=event["type"],
            intent=event["intent_id"],
            kind=event["kind"],
            terminal=event["terminal"],
            code=event["error"] and event["error"]["code"],
        )
