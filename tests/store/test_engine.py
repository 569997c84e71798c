"""How long a loop waits for Postgres' answer."""

import psycopg
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from outbox.store import engine as connections
from outbox.store.engine import is_passing, open_engine, rows
from outbox.testing.relay import Relay

ONE = "SELECT 1 AS one"
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_ANSWER_SECONDS", 0.3)


async def test_a_loop_gives_up_a_connection_whose_peer_acknowledges_and_passes_nothing_on(
    database: str,
) -> None:
    url = make_url(database)
    assert url.port
    async with (
        Relay(url.port) as relay,
        open_engine(url.set(port=relay.port).render_as_string(hide_password=False), bounded=True) as engine,
    ):
        assert await rows(engine, ONE, {}) == [{"one": 1}]
        async with relay.silent():
            with pytest.raises(DBAPIError, match=r"no answer within 0\.3 s") as gave_up:
                await rows(engine, ONE, {})
        assert is_passing(gave_up.value)
        assert await rows(engine, ONE, {}) == [{"one": 1}]


async def test_a_statement_that_a_loop_gives_up_is_not_left_waiting_on_the_server(database: str) -> None:
    async with (
        open_engine(database, bounded=True) as engine,
        await psycopg.AsyncConnection.connect(database) as holder,
    ):
        await holder.execute("LOCK TABLE outbox.queue IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DBAPIError, match="no answer"):
            await rows(engine, "SELECT FROM outbox.queue", {})
        assert await (await holder.execute(WAITING)).fetchone() == (0,)
        await holder.rollback()
        assert await rows(engine, ONE, {}) == [{"one": 1}]


async def test_what_a_person_asks_for_may_take_its_time(database: str) -> None:
    async with open_engine(database) as engine:
        assert await rows(engine, "SELECT 1 AS one FROM pg_sleep(0.6)", {}) == [{"one": 1}]
