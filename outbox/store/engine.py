"""Connections to Postgres: one place that turns a URL into an engine with the isolation the SQL relies on."""

import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from outbox.store.url import parameters

_TRUSTED_SECONDS = 1.0
_READ_ONLY = "25006"
"""A write was refused by a standby, or by a primary that has been demoted."""

_DRIVER = "postgresql+psycopg://"
_READ_COMMITTED = "READ COMMITTED"
_CONNECT: dict[str, Any] = {
    "connect_timeout": 10,
    "application_name": "outbox",
    # A peer that vanished without a word is given up after half a minute, not after hours.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def async_engine(url: str) -> AsyncEngine:
    """An engine for a worker or a command; the caller disposes of it.

    Each statement commits by itself, on the server: a worker that stops between a claim and its commit would
    hold up the claims of all others for as long as it lives.
    """
    engine = create_async_engine(
        _DRIVER,
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,
        connect_args=_CONNECT | parameters(url),
    )
    event.listen(engine.sync_engine, "connect", _read_committed)
    event.listen(engine.sync_engine, "handle_error", _leave_a_standby)
    _ask_after_rest(engine.sync_engine)
    return engine


def _read_committed(connection: Any, _: Any) -> None:
    """Claims and settles rely on each of their statements seeing what others have committed meanwhile."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.commit()
    except BaseException:
        # The pool forgets a connection that it could not make ready, and would leave it open.
        connection.close()
        raise


def _leave_a_standby(context: ExceptionContext) -> None:
    """Have the pool connect anew, to whichever server can be written to now."""
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True


def _ask_after_rest(engine: Engine) -> None:
    """See that a connection that has rested is still there; the pool makes a new one for one that isn't.

    One that was just in use is taken on trust: asking is a round trip, and a busy worker makes many calls.
    """

    @event.listens_for(engine, "checkin")
    def remember(_: Any, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ask(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
        if time.monotonic() - record.info.get("used_at", math.inf) < _TRUSTED_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise DisconnectionError from error


@asynccontextmanager
async def open_engine(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine that is disposed of at the end."""
    engine = async_engine(url)
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction, committed at the end, of an engine whose statements commit by themselves."""
    async with engine.execution_options(isolation_level=_READ_COMMITTED).begin() as connection:
        yield connection


async def rows(
    engine: AsyncEngine, statement: LiteralString, parameters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Execute a statement of the hot path on a pooled connection.

    It goes past SQLAlchemy's handling of statements and rows, which takes longer than Postgres does.

    Raises:
        DBAPIError: as SQLAlchemy would.
    """
    async with engine.connect() as pooled:
        driver: Any = (await pooled.get_raw_connection()).driver_connection
        try:
            cursor = await driver.cursor(row_factory=dict_row).execute(statement, parameters)
            found: list[dict[str, Any]] = await cursor.fetchall()
        except psycopg.Error as error:
            lost = driver.closed or error.sqlstate == _READ_ONLY
            if lost:
                await pooled.invalidate(error)
            raise DBAPIError.instance(
                statement, None, error, psycopg.Error, connection_invalidated=lost
            ) from error
        return found


def sync_engine(url: str) -> Engine:
    """An engine for migrations, which Alembic runs synchronously."""
    return create_engine(_DRIVER, isolation_level=_READ_COMMITTED, connect_args=_CONNECT | parameters(url))


def is_passing(error: DBAPIError) -> bool:
    """Whether Postgres is away, restarting or asks to try again, rather than refusing what we do."""
    if error.connection_invalidated or isinstance(error, InterfaceError):
        return True
    state = getattr(error.orig, "sqlstate", None)
    # None: the connection broke.
    return state is None or is_passing_state(state)


def is_passing_state(state: str) -> bool:
    """Whether an SQLSTATE says that Postgres is away, restarting or asks to try again."""
    # 08: connection, 40: serialization, 53: resources, 57P: shutdown.
    return state == _READ_ONLY or state.startswith(("08", "40", "53", "57P"))


def why(error: DBAPIError) -> str:
    """What Postgres or the driver says, in one line for a log."""
    return next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)
