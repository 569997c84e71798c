"""Retention: deletes what ended long ago, in SpiceDB and in the ledger, in this order."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from consumers.authz.client import AuthzClient
from consumers.authz.relationships import mark_of
from consumers.calls import Call, StoreFailure
from outbox.compose.audit import unusable
from outbox.compose.clients import authz_client
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.retention import RetentionStore

_SECONDS = 30.0
# As many relationships as SpiceDB takes in one call.
_BATCH = 1000


async def prune(
    settings: Settings, older_than: datetime, *, operator: str, why: str | None = None
) -> AsyncIterator[int]:
    """Delete what ended before and nothing needs; yields how many intents each batch took.

    Raises:
        ValueError: what ended before may be needed still, by late writes.
        StoreUnusable: SpiceDB can't be used; the intents of its batch are kept.
    """
    authz = authz_client(settings)
    try:
        async with open_engine(settings.database_url.get_secret_value()) as engine:
            store = RetentionStore(engine, older_than, batch=_BATCH, operator=operator, why=why)
            _refuse_too_young(older_than, await store.now(), settings.late_bound_seconds)
            async for gone in prune_all(store, authz):
                yield gone
    except StoreFailure as failure:
        raise unusable("the marks of what ended can't be removed", failure) from failure
    finally:
        await authz.close()


def _refuse_too_young(older_than: datetime, now: datetime, bound: float) -> None:
    """Refuse by Postgres' clock, whatever the time is where somebody typed ``30d``."""
    if older_than > now - timedelta(seconds=bound):
        raise ValueError(
            f"--older-than {older_than:%Y-%m-%dT%H:%M:%SZ} is too young: what ended within "
            f"{bound:.0f} s is kept for late calls and for verifying them "
            "(OUTBOX_STEP_TIMEOUT_SECONDS + OUTBOX_LATE_WRITE_SECONDS + OUTBOX_VERIFY_AGAIN_SECONDS)"
        )


async def prune_all(store: RetentionStore, authz: AuthzClient) -> AsyncIterator[int]:
    """Delete marks and then rows, batch by batch; yields how many intents each batch took.

    A mark (``outbox_intent:<id>#ended``) keeps a registration that is under way from landing. It goes first:
    when the row is gone, nobody knows of the mark any more.

    Raises:
        StoreFailure: SpiceDB can't be used.
    """
    await store.begin()
    async for intents in store.prunable():
        if intents:
            marks = [mark_of(str(intent)) for intent in intents]
            await authz.remove(marks, Call.within(_SECONDS))
            yield await store.prune(intents)
    async for _ in store.prune_lanes():
        yield 0
    await store.prune_operations()
