"""Settings for a database of the test's own, and clients of the shared stores."""

from collections.abc import AsyncIterator

import pytest

from consumers.authz.client import AuthzClient
from consumers.temporal.client import TemporalClient
from outbox.compose.clients import authz_client, temporal_client
from outbox.settings import Settings
from outbox.stack import StackInfo
from tests.conftest import settings_for


@pytest.fixture
def settings(stack: StackInfo, database: str, spicedb_schema: None) -> Settings:
    del spicedb_schema
    return settings_for(stack, database)


@pytest.fixture
async def spicedb(settings: Settings) -> AsyncIterator[AuthzClient]:
    client = authz_client(settings)
    yield client
    await client.close()


@pytest.fixture
async def temporal(settings: Settings) -> TemporalClient:
    return await temporal_client(settings)
