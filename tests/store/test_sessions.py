"""Who holds vacuum back: named to operators, with and without the right to see what others do."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from outbox.store.engine import open_engine
from outbox.store.sessions import oldest_holder
from tests.store.conftest import Enqueue


@pytest.fixture
async def connection(database: str) -> AsyncIterator[AsyncConnection]:
    async with open_engine(database) as engine, engine.connect() as connection:
        yield connection


async def test_where_nothing_is_open_nothing_is_named(connection: AsyncConnection) -> None:
    assert await oldest_holder(connection) is None


async def test_the_oldest_of_the_transactions_that_have_a_snapshot_is_named(
    connection: AsyncConnection, database: str, enqueue: Enqueue
) -> None:
    async with (
        await psycopg.AsyncConnection.connect(database, application_name="a report") as old,
        await psycopg.AsyncConnection.connect(database, application_name="a request") as young,
    ):
        await old.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await old.execute("SELECT 1")
        await enqueue()
        await young.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await young.execute("SELECT 1")
        found = await oldest_holder(connection)
        assert found
        assert (found.kind, found.name) == ("session", str(old.info.backend_pid))
        assert (found.application, found.state) == ("a report", "idle in transaction")
        assert found.seconds is not None
        assert found.transactions >= 1
        assert f"pg_terminate_backend({old.info.backend_pid})" in found.fix
        assert f"session {old.info.backend_pid} of " in found.what


async def test_without_the_right_to_see_others_it_is_named_all_the_same(
    connection: AsyncConnection, database: str, agent: str
) -> None:
    role = f"sees_little_{agent.replace('-', '_')}"
    async with await psycopg.AsyncConnection.connect(database) as old:
        await old.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await old.execute("SELECT 1")
        await connection.execute(text(f"CREATE ROLE {role}"))
        await connection.execute(text(f"SET ROLE {role}"))
        try:
            found = await oldest_holder(connection)
        finally:
            await connection.execute(text("RESET ROLE"))
            await connection.execute(text(f"DROP ROLE {role}"))
        assert found
        assert (found.name, found.seconds) == (str(old.info.backend_pid), None)
        assert "since when can't be seen" in found.what
