"""The way from the fleet to Postgres: relays that can hold back one direction, and perhaps a pooler."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from outbox.testing.relay import Direction, Relay
from tests.poolers.bouncer import Bouncer

_PORT = re.compile(r"127\.0\.0\.1:(\d+)")
_SESSIONS = 8


@dataclass(frozen=True)
class Way:
    """One way to Postgres.

    Attributes:
        url: libpq's.
        relays: one for each server that it may lead to.
        pooler: the PgBouncer behind them, if there is one.
    """

    url: str
    relays: Sequence[Relay]
    pooler: Bouncer | None

    @asynccontextmanager
    async def one_way(self, held: Direction) -> AsyncIterator[None]:
        """Inside, what is sent in this direction is held, whichever server it goes to."""
        async with AsyncExitStack() as held_back:
            for relay in self.relays:
                await held_back.enter_async_context(relay.one_way(held))
            yield


@asynccontextmanager
async def way_to(url: str, *, pooled: str | None = None) -> AsyncIterator[Way]:
    """Inside, there is a way to the servers of a URL; or to a database by a pooler of transactions.

    Raises:
        NotToBeHadError: there is no PgBouncer.
    """
    async with AsyncExitStack() as around:
        pooler = around.enter_context(Bouncer(pooled, sessions=_SESSIONS)) if pooled else None
        behind = pooler.url if pooler else url
        relays = {port: await around.enter_async_context(Relay(int(port))) for port in _PORT.findall(behind)}
        through = _PORT.sub(lambda found: f"127.0.0.1:{relays[found[1]].port}", behind)
        yield Way(through, list(relays.values()), pooler)
