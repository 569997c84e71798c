"""Verifies a live outbox: opens the ledger and, if they are to be judged, the stores."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from outbox.errors import OutboxError
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.verifying import VerifyStore
from outbox.verify.invariants import Violation
from outbox.verify.sweep import Stores, Verifier
from outbox.verify.tally import Tally


@dataclass(frozen=True, slots=True)
class Asked:
    """Which lanes are verified, and how.

    Attributes:
        rate: lanes a second, at most.
        schedules: these alone; None: all.
        since: of all, those in which something happened since; None: whenever.
        after: of those, the ones whose ids come after it.
        stores: whether SpiceDB and Temporal are asked, too.
    """

    rate: float
    schedules: Sequence[str] | None = None
    since: datetime | None = None
    after: str = ""
    stores: bool = True


async def verify(settings: Settings, asked: Asked, tally: Tally) -> AsyncGenerator[Violation, None]:
    """Verify what is asked for; yields what does not hold as it is found, and counts as it goes.

    Raises:
        OutboxError: the ledger is a standby's, and the stores are to be judged by it.
        StoreUnusable: SpiceDB or Temporal can't be read.
        DBAPIError: Postgres can't be read.
    """
    async with (
        open_engine(settings.database_url.get_secret_value()) as engine,
        _stores(settings, asked) as stores,
    ):
        ledger = VerifyStore(engine)
        if stores is not None and await ledger.is_standby():
            raise OutboxError("this Postgres is a standby, and lags behind the stores: use --no-stores")
        verifier = Verifier(ledger, stores, asked.rate)
        names = asked.schedules
        if asked.since is not None:
            names = await ledger.moved(asked.since, asked.after)
        found = verifier.all(tally, after=asked.after) if names is None else verifier.named(names, tally)
        async for violation in found:
            yield violation


@asynccontextmanager
async def _stores(settings: Settings, asked: Asked) -> AsyncIterator[Stores | None]:
    if not asked.stores:
        yield None
        return
    from outbox.compose.audit import open_all  # noqa: PLC0415 - it loads the clients of both

    async with open_all(settings) as stores:
        yield stores
