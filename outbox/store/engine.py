"""Connections to Postgres: one place that turns a URL into an engine with the isolation the SQL relies on."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from outbox.store.connection import OF_THE_SESSION, is_passing_state
from outbox.store.url import parameters

_TRUSTED_SECONDS = 1.0
_ANSWER_SECONDS = 30.0

# Null, where a pooler answers with a process id of its own making when a connection is made.
_OWN_SESSION = """
    SELECT CASE WHEN pg_backend_pid() = %s
                THEN set_config('default_transaction_isolation', 'read committed', false) END
"""
_DRIVER = "postgresql+psycopg://"
_READ_COMMITTED = "READ COMMITTED"
_CONNECT: dict[str, Any] = {
    "connect_timeout": 10,
    "application_name": "outbox",
    "client_encoding": "utf8",
    # A peer that vanished without a word is given up after half a minute, not after hours.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class _Bounded(psycopg.AsyncConnection[Any]):
    """Closes itself where an answer does not come within half a minute.

    TCP's own bounds only see a peer that is gone. One that acknowledges what it never passes on, as a proxy
    that lost its server may, or a statement that waits for somebody's lock, would keep a loop for ever.
    """

    async def wait(self, *args: Any, **options: Any) -> Any:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await super().wait(*args, **options)
        except TimeoutError:
            # What is waited for was cancelled, where the server could be told; what it did is unknown.
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {_ANSWER_SECONDS:g} s") from None


def async_engine(url: str, *, bounded: bool = False) -> AsyncEngine:
    """An engine for a worker or a command; the caller disposes of it.

    Each statement commits by itself, on the server: a worker that stops between a claim and its commit would
    hold up the claims of all others for as long as it lives.

    ``bounded`` is for loops, whose statements are short: one that isn't answered in half a minute has failed,
    as if the connection had broken. What a person asks for may take its time.
    """
    connection = _Bounded if bounded else psycopg.AsyncConnection
    engine = create_async_engine(
        _DRIVER,
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,
        connect_args=_CONNECT | parameters(url) | {"async_creator_fn": connection.connect},
    )
    event.listen(engine.sync_engine, "connect", _make_ready)
    event.listen(engine.sync_engine, "handle_error", _leave_session)
    _ask_after_rest(engine.sync_engine)
    return engine


def _make_ready(connection: Any, _: Any) -> None:
    """Ask for READ COMMITTED, which claims and settles rely on; leave nothing on a session of a pooler's.

    Behind a pooler of transactions each may run on another session: what was prepared, or set, would be
    missing on one, and in the way of somebody else's on another. The functions then see for themselves that
    the isolation is right.
    """
    driver = getattr(connection, "driver_connection", connection)
    try:
        with closing(connection.cursor()) as cursor:  # SQLAlchemy 2.0's is no context manager
            cursor.execute(_OWN_SESSION, (driver.info.backend_pid,))
            if cursor.fetchone() == (None,):
                driver.prepare_threshold = None
        connection.commit()
    except BaseException:
        # The pool forgets a connection that it could not make ready, and would leave it open.
        connection.close()
        raise


def _leave_session(context: ExceptionContext) -> None:
    """Have the pool connect anew: to whichever server can be written to now, with what the role has now."""
    if getattr(context.original_exception, "sqlstate", None) in OF_THE_SESSION:
        context.is_disconnect = True


def _ask_after_rest(engine: Engine) -> None:
    """See that a connection that was not used for a second is still there; the pool replaces one that isn't.

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
async def open_engine(url: str, *, bounded: bool = False) -> AsyncIterator[AsyncEngine]:
    """An engine that is disposed of at the end; ``bounded`` as for ``async_engine``."""
    engine = async_engine(url, bounded=bounded)
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
            lost = driver.closed or error.sqlstate in OF_THE_SESSION
            if lost:
                await pooled.invalidate(error)
            raise DBAPIError.instance(
                statement, None, error, psycopg.Error, connection_invalidated=lost
            ) from error
        return found


def sync_engine(url: str) -> Engine:
    """An engine for migrations, which Alembic runs synchronously."""
    engine = create_engine(_DRIVER, isolation_level=_READ_COMMITTED, connect_args=_CONNECT | parameters(url))
    event.listen(engine, "connect", _make_ready)
    return engine


def is_passing(error: DBAPIError) -> bool:
    """Whether Postgres is away, restarting or asks to try again, rather than refusing what we do."""
    if error.connection_invalidated or isinstance(error, InterfaceError):
        return True
    state = getattr(error.orig, "sqlstate", None)
    # None: the connection broke.
    return state is None or is_passing_state(state)


def why(error: DBAPIError) -> str:
    """What Postgres or the driver says, in one line for a log."""
    return next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)
