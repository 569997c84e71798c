"""The producing side of kafka-python: batches of records, sent by a thread of its own."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from outbox.kafka.connection import problem

_DELIVERY_MS = 10_000
_METADATA_MS = 5_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Record:
    """A record to send; those of one key arrive in the order in which their batches were sent."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Producer:
    """Sends batches, one after the other, to all in-sync replicas and without doubles of its own making."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._producer: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox-kafka-producer")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._call(self._discard)
        self._thread.shutdown(wait=False)

    async def ready(self) -> bool:
        """Whether brokers have been reached; says why not in the log."""
        return bool(await self._call(self._connect))

    async def send(self, records: Sequence[Record]) -> list[bool]:
        """Send a batch; tells of each record whether it was acknowledged. The others may have arrived too."""
        sent: list[bool] = await self._call(self._send, records)
        return sent

    async def _call(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _connect(self) -> bool:
        if self._producer is None:
            away = problem(self._options)
            try:
                self._producer = (
                    None
                    if away
                    else KafkaProducer(
                        **self._options,
                        enable_idempotence=True,
                        acks="all",
                        metrics_enabled=False,
                        allow_auto_create_topics=False,
                        delivery_timeout_ms=_DELIVERY_MS,
                        max_block_ms=_METADATA_MS,
                        linger_ms=2,
                    )
                )
            except KafkaError as error:
                away = str(error)
            if away:
                log.warning("kafka.away", error=away, hint="is OUTBOX_KAFKA_BOOTSTRAP right?")
        return self._producer is not None

    def _send(self, records: Sequence[Record]) -> list[bool]:
        if not self._connect():
            return [False] * len(records)
        begun: list[Any] = []
        problem: BaseException | None = None
        for record in records:
            try:
                begun.append(
                    self._producer.send(
                        record.topic, key=record.key, value=record.value, headers=list(record.headers)
                    )
                )
            except KafkaError as error:
                # The topic is missing, or nobody knows it: the next one would wait as long again.
                problem = error
                break
        try:
            self._producer.flush(timeout=2 * _DELIVERY_MS / 1000)
        except KafkaTimeoutError as error:
            problem = error
        sent = [bool(one.succeeded()) for one in begun] + [False] * (len(records) - len(begun))
        if not all(sent):
            problem = problem or next((one.exception for one in begun if not one.succeeded()), None)
            log.warning("kafka.not_published", records=sent.count(False), error=str(problem or "no answer"))
            # A producer that has lost a record may hold the next ones back: begin anew.
            self._discard()
        return sent

    def _discard(self) -> None:
        if self._producer is None:
            return
        try:
            self._producer.close(timeout=1)
        except KafkaError as error:
            log.debug("kafka.producer_not_flushed", error=str(error))
        self._producer = None
