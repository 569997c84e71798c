"""What the tests of the service share: its engine, on the test's own database."""

from collections.abc import AsyncIterator

import pytest_asyncio
from service import metadata
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from temporalio.client import Client

from outbox.stack import StackInfo


@pytest_asyncio.fixture
async def engine(outbox_database: str) -> AsyncIterator[AsyncEngine]:
    """The service's engine; its own tables stand beside the outbox's."""
    engine = create_async_engine(outbox_database.replace("postgresql://", "postgresql+psycopg://"))
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield engine
    await engine.dispose()


@pytest_asyncio.fixture
async def temporal(outbox_stack: StackInfo) -> Client:
    """A client of Temporal, to look at what came of it."""
    return await Client.connect(outbox_stack.temporal_address)
