"""A work store on a database of the test's own, and what a test needs around it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

import outbox
from outbox.store.engine import async_engine
from outbox.store.work import Timing, WorkStore

TIMING = Timing(lease=30.0, step_timeout=10.0, late_write=5.0)

Enqueue = Callable[..., Awaitable[UUID]]
Query = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture
async def store(database: str) -> AsyncIterator[WorkStore]:
    engine = async_engine(database)
    yield WorkStore(engine, TIMING)
    await engine.dispose()


@pytest.fixture
async def query(database: str) -> AsyncIterator[Query]:
    """Run any statement as the owner; every call is a transaction of its own."""
    async with await psycopg.AsyncConnection.connect(
        database, autocommit=True, row_factory=dict_row
    ) as connection:

        async def run(statement: str, *parameters: object) -> list[dict[str, Any]]:
            cursor = await connection.execute(statement.encode(), parameters or None)
            return await cursor.fetchall() if cursor.description is not None else []

        yield run


@pytest.fixture
async def enqueue(database: str, agent: str) -> AsyncIterator[Enqueue]:
    """Enqueue a create, an update or a delete for a schedule of the test's agent, committed at once."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:

        async def run(
            name: str = "s", kind: str = "create", on: psycopg.AsyncConnection[Any] | None = None
        ) -> UUID:
            principal = outbox.Principal(user_id="u1")
            if kind == "delete":
                request = outbox.DeleteSchedule(agent_id=agent, name=name)
                return (await outbox.enqueue_delete(on or connection, request, principal=principal)).id
            if kind == "update":
                change = outbox.UpdateSchedule(agent_id=agent, name=name, paused=True)
                return (await outbox.enqueue_update(on or connection, change, principal=principal)).id
            entry = outbox.CreateSchedule(
                agent_id=agent, name=name, workflow_name="W", task_queue="q", interval_seconds=60
            )
            return (await outbox.enqueue_create(on or connection, entry, principal=principal)).id

        yield run
