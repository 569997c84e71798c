"""The publisher: events go from Postgres to a public topic, for other systems to follow."""

import asyncio

import structlog
from sqlalchemy.exc import DBAPIError

from outbox.failpoints import reach
from outbox.kafka.cloudevents import record
from outbox.kafka.producer import Producer
from outbox.store.engine import is_passing, why
from outbox.store.relay import Publication, Publishing, RelayStore
from outbox.worker.wake import WakeSignal

_AWAY_SECONDS = 1.0

log = structlog.get_logger()


class Publisher:
    """Publishes each event at least once, and those of a schedule in the order of its lane.

    Of many publishers one is at work at a time. An event goes out when all before it in its lane have been
    acknowledged: so even where one fails or times out, none overtakes it.

    A publisher that stalls is cut off, and another goes on. What the first was sending then may arrive once
    more, after later events of its lane; its id says that it is the same.

    Attributes:
        published: how many records were acknowledged.
    """

    def __init__(self, store: RelayStore, producer: Producer, *, prefix: str, poll_seconds: float) -> None:
        self._store = store
        self._producer = producer
        self._prefix = prefix
        self._poll_seconds = poll_seconds
        self._wake = WakeSignal()
        self._stopping = asyncio.Event()
        self.published = 0

    def stop(self) -> None:
        """Publish what is there now and return from ``run``."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Publish until stopped.

        Raises:
            DBAPIError: Postgres answers that it can't be used (not migrated, not allowed).
        """
        last = False
        while not last:
            last = self._stopping.is_set()
            try:
                # Without a broker nothing is taken in hand: a transaction would be open for nothing.
                more = await self._round() if await self._producer.ready() else False
            except DBAPIError as error:
                if not is_passing(error):
                    raise
                log.warning("publisher.postponed", reason=why(error))
                await self._wake.wait(_AWAY_SECONDS)
                continue
            if more:
                last = False
            elif not last:
                await self._wake.wait(self._poll_seconds)

    async def _round(self) -> bool:
        """Publish one batch; returns whether all of it went out and there may be more."""
        await reach("publisher.before")
        outbox = await self._store.instance()
        async with self._store.publishing() as batch:
            left = batch.events
            whole = True
            while left:
                wave, later = _first_of_each_lane(left)
                failed = await self._wave(batch, wave, str(outbox))
                whole = whole and not failed
                left = [one for one in later if one.schedule_id not in failed]
            return whole and batch.full

    async def _wave(self, batch: Publishing, wave: list[Publication], outbox: str) -> set[str]:
        """Publish events of different lanes; returns the lanes whose event was not acknowledged."""
        sent = await self._producer.send([record(one, prefix=self._prefix, outbox=outbox) for one in wave])
        arrived = [one for one, ok in zip(wave, sent, strict=True) if ok]
        if arrived:
            await batch.mark_published(arrived)
            self.published += len(arrived)
        return {one.schedule_id for one, ok in zip(wave, sent, strict=True) if not ok}


def _first_of_each_lane(events: list[Publication]) -> tuple[list[Publication], list[Publication]]:
    first: dict[str, Publication] = {}
    later = [one for one in events if first.setdefault(one.schedule_id, one) is not one]
    return list(first.values()), later
