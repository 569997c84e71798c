"""SpiceDB answers, and its own database is away: steps wait, as for a SpiceDB that is away itself."""

import asyncio
from typing import Any

import psycopg
import pytest

import outbox
from consumers.authz.client import AuthzClient
from consumers.authz.relationships import object_of
from consumers.calls import Call, StoreFailure
from outbox.compose import schema
from outbox.compose.worker import open_worker
from outbox.errors import ErrorCode
from outbox.flow.outcome import Transient
from outbox.settings import Settings
from outbox.stack import StackInfo
from tests.audit.test_real_stores import ALICE, create, enqueue
from tests.conftest import settings_for
from tests.pipeline.ledger import until
from tests.stack.folder import folder
from tests.stack.lazy import LazyStack
from tests.stack.spicedb_on_postgres import spicedb_on_postgres

OPENED = """
    SELECT b.error_code, q.error_code, q.strikes, q.state <> 'parked'
    FROM outbox.queue q JOIN outbox.breakers b ON b.consumer = 'authz' WHERE q.intent_id = %s
"""


async def test_nothing_parks_while_it_is_away(stack: StackInfo, database: str, agent: str) -> None:
    with (
        folder() as home,
        spicedb_on_postgres(home / "database") as below,
        LazyStack(home / "server") as servers,
    ):
        theirs = settings_for(
            stack,
            database,
            spicedb_endpoint=servers.info.spicedb_endpoint,
            spicedb_token=servers.info.spicedb_token,
            retry_max_strikes=1,
        )
        await schema.apply(theirs, lambda _: True)
        below.kill("postgres")
        (intent,) = await enqueue(theirs, (create(agent, "daily"), ALICE))
        async with open_worker(theirs) as worker:
            working = asyncio.create_task(worker.run())
            async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:

                async def opened() -> tuple[Any, ...] | None:
                    return await (await connection.execute(OPENED, [intent])).fetchone()

                assert await until("the breaker to open", opened) == ("unreachable", "unreachable", 0, True)
            told = await _what_reads_are_told(theirs)
            assert told <= {ErrorCode.UNREACHABLE, ErrorCode.CONNECTION_LOST}
            below.start("postgres")
            result = await outbox.wait(database, intent, timeout=240)
            assert result.status is outbox.Status.SUCCEEDED
            worker.stop()
            await working


async def _what_reads_are_told(settings: Settings) -> set[ErrorCode]:
    """Read until the pool has no connection from before any more; each is told of once."""
    assert settings.spicedb_endpoint
    assert settings.spicedb_token
    client = AuthzClient.connect(
        settings.spicedb_endpoint, settings.spicedb_token.get_secret_value(), tls=False
    )
    told: set[ErrorCode] = set()
    try:
        while told <= {ErrorCode.CONNECTION_LOST}:
            with pytest.raises(StoreFailure) as failed:
                await client.read(object_of("any--thing"), Call.within(60.0))
            assert isinstance(failed.value.outcome, Transient)
            told.add(failed.value.outcome.code)
    finally:
        await client.close()
    return told
