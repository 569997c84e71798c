"""Empties both stores of some schedules, whoever put them there: for tests that begin with nothing."""

import asyncio
from collections.abc import Collection

from consumers.authz.client import AuthzClient
from consumers.authz.relationships import ended, object_of
from consumers.calls import Call, StoreFailure
from consumers.temporal.client import TemporalClient
from outbox.compose.audit import unusable
from outbox.compose.clients import authz_client, temporal_client
from outbox.settings import Settings

_SECONDS = 30.0
_AT_ONCE = 16


async def clear(settings: Settings, schedule_ids: Collection[str], intent_ids: Collection[str]) -> None:
    """Remove these schedules and all their relationships, and the marks of these intents.

    Raises:
        StoreUnusable: SpiceDB or Temporal can't be used.
    """
    authz = authz_client(settings)
    try:
        temporal = await temporal_client(settings)
        gate = asyncio.Semaphore(_AT_ONCE)
        schedules = (_clear_schedule(authz, temporal, name, gate) for name in schedule_ids)
        await asyncio.gather(*schedules, *(_clear_mark(authz, intent, gate) for intent in intent_ids))
    except StoreFailure as failure:
        raise unusable("schedules can't be removed", failure) from failure
    finally:
        await authz.close()


async def _clear_schedule(
    authz: AuthzClient, temporal: TemporalClient, name: str, gate: asyncio.Semaphore
) -> None:
    async with gate:
        call = Call.within(_SECONDS)
        await temporal.delete(name, call)
        await authz.delete(object_of(name), (), call)


async def _clear_mark(authz: AuthzClient, intent: str, gate: asyncio.Semaphore) -> None:
    async with gate:
        await authz.delete(ended(intent), (), Call.within(_SECONDS))
