"""The continuous audit beside a worker, put together from the settings."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import DBAPIError

from consumers.calls import StoreFailure
from outbox.audit.continuous import ContinuousAudit
from outbox.compose.audit import AllThree, is_away
from outbox.compose.clients import authz_client, temporal_client
from outbox.failpoints import reach
from outbox.settings import Settings
from outbox.store.continuous_audit import ContinuousAuditStore
from outbox.store.engine import is_passing, open_engine, why
from outbox.store.instance import instance
from outbox.store.ledger import LedgerStore
from outbox.supervision import keep_running

_PAUSE_SECONDS = 1.0

log = structlog.get_logger()


@asynccontextmanager
async def auditing(settings: Settings) -> AsyncIterator[None]:
    """Inside, the continuous audit goes on, with connections of its own; not at rate 0."""
    if not settings.audit_rate_per_second:
        yield
        return
    async with open_continuous_audit(settings) as audit:
        rate = settings.audit_rate_per_second
        going = asyncio.create_task(keep_running("audit", lambda: _go_on(audit, rate)), name="outbox-audit")
        try:
            yield
        finally:
            # It only reads, and asks for repairs in single statements: it may end anywhere.
            going.cancel()
            with suppress(asyncio.CancelledError):
                await going


@asynccontextmanager
async def open_continuous_audit(settings: Settings) -> AsyncIterator[ContinuousAudit]:
    """ContinuousAudit, as the settings describe them."""
    authz = authz_client(settings)
    try:
        async with open_engine(settings.database_url.get_secret_value(), bounded=True) as engine:
            temporal, which = await temporal_client(settings), await instance(engine)
            store = ContinuousAuditStore(engine)
            yield ContinuousAudit(
                store,
                AllThree(LedgerStore(engine), authz, temporal, str(which)),
                rate=settings.audit_rate_per_second,
                request_repair=store.request_repair if settings.audit_repairs else None,
            )
    finally:
        await authz.close()


async def _go_on(audit: ContinuousAudit, rate: float) -> None:
    """Take turns until cancelled; an outage costs time.

    Raises:
        DBAPIError: Postgres answers that it can't be used like this.
    """
    while True:
        try:
            await reach("audit.before")
            if await audit.step():
                continue  # until the rate is spent
        except StoreFailure as failure:
            log.info("audit.postponed", reason=str(failure))
            if not is_away(failure):
                await _start_over(audit)
        except DBAPIError as error:
            if not is_passing(error):
                error.add_note("see `outbox migrate --print-grants`, or set OUTBOX_AUDIT_RATE_PER_SECOND=0")
                raise
            log.info("audit.postponed", reason=why(error))
        await asyncio.sleep(max(_PAUSE_SECONDS, 1 / rate))


async def _start_over(audit: ContinuousAudit) -> None:
    try:
        await audit.start_over()
    except DBAPIError as error:
        log.info("audit.postponed", reason=why(error))
