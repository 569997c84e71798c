"""The relay: due steps go from Postgres to Kafka, for as long as there is room for them there."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from outbox import clock
from outbox.kafka.envelope import Envelope, encode
from outbox.kafka.names import dispatch_topic
from outbox.kafka.producer import Producer, Record
from outbox.pulse import Pulse
from outbox.store.engine import is_passing, why
from outbox.store.relay import Dispatched, RelayStore
from outbox.worker.wake import WakeSignal

_AWAY_SECONDS = 1.0

log = structlog.get_logger()


class Notifies(Protocol):
    """What tells that work came in."""

    on_wake: Callable[[], None]


Sent = Callable[[Sequence[Dispatched], int, float], None]
"""Takes the steps that were sent together, how many of them arrived, and after how many seconds."""


class Relay:
    """Dispatches what is due and publishes it. Any number of relays may run; each adds to the same bound.

    Attributes:
        dispatched: how many steps were published.
        recalled: how many could not be.
        pulse: beats each time that the loop comes round.
    """

    def __init__(
        self,
        store: RelayStore,
        producer: Producer,
        notifier: Notifies,
        *,
        prefix: str,
        poll_seconds: float,
        sent: Sent = lambda *_: None,
    ) -> None:
        self._store = store
        self._producer = producer
        self._prefix = prefix
        self._poll_seconds = poll_seconds
        self._sent = sent
        self._wake = WakeSignal()
        self._stopping = asyncio.Event()
        notifier.on_wake = self._wake.set
        self.dispatched = 0
        self.recalled = 0
        self.pulse = Pulse()

    def stop(self) -> None:
        """Finish the batch under way and return from ``run``."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Relay until stopped.

        Raises:
            DBAPIError: Postgres answers that it can't be used (not migrated, not allowed).
        """
        while not self._stopping.is_set():
            self._wake.clear()
            self.pulse.beat()
            try:
                outbox = await self._store.instance()
                # Nothing is dispatched to a broker that is away: it would only have to be recalled.
                sent = await self._relay(outbox) if await self._producer.ready() else 0
            except DBAPIError as error:
                if not is_passing(error):
                    raise
                log.warning("relay.postponed", reason=why(error))
                await self._wake.wait(_AWAY_SECONDS)
                continue
            if not sent:
                await self._wake.wait(self._poll_seconds)

    async def _relay(self, outbox: UUID) -> int:
        """Dispatch one batch; returns how many steps went out."""
        batch = await self._store.dispatch()
        if not batch:
            return 0
        began = clock.monotonic()
        sent = await self._producer.send([self._record(outbox, one) for one in batch])
        failed = [one for one, arrived in zip(batch, sent, strict=True) if not arrived]
        self._sent(batch, len(batch) - len(failed), clock.monotonic() - began)
        if failed:
            await self._recall(failed)
        self.dispatched += len(batch) - len(failed)
        return len(batch) - len(failed)

    async def _recall(self, failed: Sequence[Dispatched]) -> None:
        self.recalled += len(failed)
        log.warning("relay.recalled", steps=len(failed), hint="they are dispatched again")
        await self._store.recall(failed)

    def _record(self, outbox: UUID, step: Dispatched) -> Record:
        envelope = Envelope(outbox, step.intent_id, step.event_type, step.lease_number)
        topic = dispatch_topic(self._prefix, step.consumer)
        headers = tuple((name, value.encode()) for name, value in step.trace.items())
        return Record(topic, step.schedule_id.encode(), encode(envelope), headers)
