"""Settings for a database of the test's own, on the real stores."""

from collections.abc import AsyncIterator

import pytest

from consumers.authz.client import AuthzClient
from outbox.compose.clients import authz_client
from outbox.settings import Settings
from outbox.stack import StackInfo
from tests.conftest import settings_for


@pytest.fixture
def settings(stack: StackInfo, database: str, spicedb_schema: None) -> Settings:
    del spicedb_schema
    # An attempt that runs out of time leaves a repair to come, and its lane is not judged whole.
    return settings_for(stack, database, step_timeout_seconds=30.0, lease_seconds=30.0)


@pytest.fixture
async def spicedb(settings: Settings) -> AsyncIterator[AuthzClient]:
    client = authz_client(settings)
    yield client
    await client.close()
