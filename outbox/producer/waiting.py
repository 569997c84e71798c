"""Waiting for what became of an intent, on a connection of its own; notifications only make it faster."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import psycopg
from psycopg.rows import tuple_row

from outbox.errors import OutboxError
from outbox.flow.table import Status
from outbox.producer.enqueue import is_of
from outbox.producer.intents import IntentError, IntentResult
from outbox.store.connection import has_own_session, is_passing_state
from outbox.store.url import conninfo

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

CHANNEL = "outbox_settled"
_FIRST_NAP_SECONDS = 0.05
_LONGEST_NAP_SECONDS = 1.0
# Whoever may connect can notify: however much is told, looks are no closer than this.
_SHORTEST_NAP_SECONDS = 0.01
_RESULT = "SELECT status, event_type, error_code, error_message, zed_token FROM outbox.awaited_result"


class UnknownIntent(OutboxError, LookupError):  # noqa: N818 - named as LookupError's own are
    """There is no such intent, or none that is committed."""


class _Line(Protocol):
    """A connection, as far as waiting needs one."""

    async def look(self, intent_id: UUID) -> tuple[Any, ...] | None: ...
    async def subscribe(self) -> None: ...
    async def nap(self, seconds: float) -> None: ...


async def wait(engine_or_url: "AsyncEngine | str", intent_id: UUID, timeout: float = 30) -> IntentResult:  # noqa: ASYNC109 - part of the contract, and its expiry says where the intent stands
    """Wait until the intent has ended, or is parked and needs an operator. Call it after the commit.

    A Postgres that restarts meanwhile, or is away, is waited for too.

    Args:
        engine_or_url: a SQLAlchemy ``AsyncEngine`` on psycopg or asyncpg, or a Postgres URL. The connection
            is closed at the end, and not given back to the engine's pool.
        intent_id: of the ``Intent`` that enqueueing returned.
        timeout: in seconds.

    Returns:
        A failed or parked intent is a result too.

    Raises:
        TimeoutError: saying where the intent stands, or why Postgres could not be asked.
        UnknownIntent: there is no such intent, or its transaction is not committed.
    """
    watch = _Watch(intent_id)
    try:
        async with asyncio.timeout(timeout) as scope:
            while True:
                try:
                    async with _line(engine_or_url) as line:
                        return await watch.until_ended(line)
                except Exception as error:
                    if not _is_away(error):
                        raise
                    watch.stand = f"Postgres is away ({' '.join(str(error).split())})"
                await asyncio.sleep(_LONGEST_NAP_SECONDS)
    except TimeoutError:
        if not scope.expired():
            raise
        raise TimeoutError(f"intent {intent_id} has not ended within {timeout:g} s: {watch.stand}") from None


@dataclass
class _Watch:
    """One intent, watched over one connection after another. Attributes: ``stand``, what was last known."""

    intent_id: UUID
    stand: str = "not known yet"

    async def until_ended(self, line: _Line) -> IntentResult:
        """Return the result as soon as there is one."""
        nap = _FIRST_NAP_SECONDS
        result = await _look(line, self.intent_id)
        if result.status is Status.PENDING:
            await line.subscribe()
        while (result := await _look(line, self.intent_id)).status is Status.PENDING:
            self.stand = f"its pending event is {result.event_type}"
            await asyncio.sleep(_SHORTEST_NAP_SECONDS)
            await line.nap(nap)
            nap = min(nap * 1.5, _LONGEST_NAP_SECONDS)
        return result


def _is_away(error: Any) -> bool:
    """Whether Postgres restarts or can't be reached: that passes, and what was committed is still there."""
    if is_of(error, "sqlalchemy.exc", "DBAPIError"):
        from outbox.store.engine import is_passing  # noqa: PLC0415 - who waits at a URL needs no SQLAlchemy

        return is_passing(error)
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return is_passing_state(state)
    # Without a state, the connection was lost or could not be made. A pooler that loses its server says so in
    # a way that psycopg makes no sense of (InternalError). asyncpg may not be installed.
    lost = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError, ConnectionError)
    return isinstance(error, lost) or type(error).__module__.startswith("asyncpg.")


async def _look(line: _Line, intent_id: UUID) -> IntentResult:
    row = await line.look(intent_id)
    if row is None:
        raise UnknownIntent(
            f"there is no intent {intent_id} (wait for it after the commit of its transaction)"
        )
    status, event_type, code, message, zed_token = row
    error = None if code is None else IntentError(code, message or "")
    return IntentResult(Status(status), event_type, error, zed_token)


@asynccontextmanager
async def _line(engine_or_url: Any) -> AsyncIterator[_Line]:
    if isinstance(engine_or_url, str):
        target = conninfo(engine_or_url, "engine_or_url")
        async with await psycopg.AsyncConnection.connect(target, autocommit=True) as connection:
            yield _Psycopg(connection)
    elif is_of(engine_or_url, "sqlalchemy.ext.asyncio", "AsyncEngine"):
        async with engine_or_url.connect() as pooled:
            await pooled.execution_options(isolation_level="AUTOCOMMIT")
            driver: Any = (await pooled.get_raw_connection()).driver_connection
            try:
                yield _Psycopg(driver) if isinstance(driver, psycopg.AsyncConnection) else _Asyncpg(driver)
            finally:
                # Its subscription must not go back to the pool.
                await driver.close()
                await pooled.invalidate()
    else:
        raise TypeError(f"wait takes an AsyncEngine or a URL, not {type(engine_or_url).__name__}")


class _Psycopg:
    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def look(self, intent_id: UUID) -> tuple[Any, ...] | None:
        async with self._connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(f"{_RESULT}(%s)".encode(), (intent_id,), prepare=False)
            return await cursor.fetchone()

    async def subscribe(self) -> None:
        if await has_own_session(self._connection):
            await self._connection.execute(f"LISTEN {CHANNEL}".encode())

    async def nap(self, seconds: float) -> None:
        async for _ in self._connection.notifies(timeout=seconds, stop_after=1):
            pass


class _Asyncpg:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._told = asyncio.Event()

    async def look(self, intent_id: UUID) -> tuple[Any, ...] | None:
        return await self._ask(f"{_RESULT}($1)", intent_id)

    async def subscribe(self) -> None:
        if await self._ask("SELECT pg_backend_pid()") == (self._connection.get_server_pid(),):
            await self._connection.add_listener(CHANNEL, lambda *_: self._told.set())

    async def nap(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._told.wait(), seconds)
        except TimeoutError:
            return
        self._told.clear()

    async def _ask(self, statement: str, *arguments: Any) -> tuple[Any, ...] | None:
        # asyncpg prepares in one round trip and executes in the next: a pooler may change sessions between.
        async with self._connection.transaction():
            row = await self._connection.fetchrow(statement, *arguments)
        return None if row is None else tuple(row)
