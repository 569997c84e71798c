"""A database that the producer's tests share: each uses an agent or a key of its own, or rolls back."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from outbox.stack import StackInfo
from outbox.testing.databases import copied


@pytest.fixture(scope="session")
def shared(stack: StackInfo, template: str) -> Iterator[str]:
    """The URL of a migrated database for all tests that don't count rows."""
    with copied(stack, template) as url:
        yield url


@pytest.fixture
def connection(shared: str) -> Iterator[psycopg.Connection]:
    """A connection whose work is undone."""
    with psycopg.connect(shared) as open_connection:
        yield open_connection
        open_connection.rollback()


@pytest.fixture
async def aconn(shared: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """The same, asynchronous."""
    async with await psycopg.AsyncConnection.connect(shared) as open_connection:
        yield open_connection
        await open_connection.rollback()
