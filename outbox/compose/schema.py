"""SpiceDB's schema through the settings: print, check, apply."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from consumers.authz import schema as authz_schema
from consumers.authz.client import AuthzClient
from consumers.authz.schema import Applied, Problem, required
from consumers.calls import StoreFailure
from outbox.compose.clients import authz_client
from outbox.errors import ErrorCode, StoreUnusable
from outbox.settings import Settings

__all__ = ["Applied", "Problem", "apply", "check", "required"]

_SECONDS = 10.0


async def check(settings: Settings) -> list[Problem]:
    """List what the live schema lacks.

    Raises:
        StoreUnusable: it can't be read.
    """
    async with _client(settings) as client:
        return await authz_schema.check(client, seconds=_SECONDS)


async def apply(settings: Settings, confirm: Callable[[str], bool]) -> Applied:
    """Merge what is missing into the live schema, if ``confirm`` agrees to the diff.

    Raises:
        StoreUnusable: it can't be read or written.
    """
    async with _client(settings) as client:
        return await authz_schema.apply(client, confirm, seconds=_SECONDS)


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[AuthzClient]:
    client = authz_client(settings)
    try:
        yield client
    except StoreFailure as failure:
        reachable = failure.outcome.code is not ErrorCode.UNREACHABLE
        raise StoreUnusable(
            f"{failure} (check OUTBOX_SPICEDB_ENDPOINT, _TOKEN, _TLS)", reachable=reachable
        ) from failure
    finally:
        await client.close()
