"""What Postgres says, read straight from its tables."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

Row = dict[str, Any]

_POLL_SECONDS = 0.02


async def until(
    what: str, probe: Callable[[], Awaitable[Any]], *, seconds: float = 240.0, poll: float = _POLL_SECONDS
) -> Any:
    """Wait until the probe finds something, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := await probe()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        await asyncio.sleep(poll)
    return found


class Ledger:
    """A connection of the test's own."""

    def __init__(self, url: str, connection: psycopg.AsyncConnection[Row]) -> None:
        self._url = url
        self._connection = connection

    @classmethod
    async def connect(cls, url: str) -> "Ledger":
        return cls(url, await _connect(url))

    async def reconnect(self) -> None:
        """After a restart of Postgres."""
        await self._connection.close()
        self._connection = await _connect(self._url)

    async def close(self) -> None:
        await self._connection.close()

    async def rows(self, statement: str, *parameters: object) -> list[Row]:
        return await (await self._connection.execute(statement.encode(), parameters or None)).fetchall()

    async def one(self, statement: str, *parameters: object) -> Row:
        (row,) = await self.rows(statement, *parameters)
        return row

    async def execute(self, statement: str, *parameters: object) -> None:
        await self._connection.execute(statement.encode(), parameters or None)

    async def events(self, intent_id: UUID) -> list[str]:
        rows = await self.rows("SELECT type FROM outbox.events WHERE intent_id = %s ORDER BY id", intent_id)
        return [row["type"].removeprefix("schedule.") for row in rows]

    async def ended_as(self, intent_id: UUID) -> tuple[str, str | None]:
        """The last event of an intent, and its error code."""
        rows = await self.rows(
            "SELECT type, error_code FROM outbox.events WHERE intent_id = %s ORDER BY id", intent_id
        )
        return rows[-1]["type"].removeprefix("schedule."), rows[-1]["error_code"]

    async def attempts(self, intent_id: UUID) -> list[Row]:
        return await self.rows("SELECT * FROM outbox.attempts WHERE intent_id = %s ORDER BY id", intent_id)

    async def head(self, intent_id: UUID) -> Row | None:
        """The intent's row in the queue, while it has not ended."""
        found = await self.rows("SELECT * FROM outbox.queue WHERE intent_id = %s", intent_id)
        return found[0] if found else None

    async def await_row(self, statement: str, *, seconds: float = 240.0) -> None:
        async def reached() -> bool:
            return bool(await self.rows(statement))

        await until(f"a row of {statement}", reached, seconds=seconds)

    async def await_event(self, intent_id: UUID, event: str, *, seconds: float = 240.0) -> None:
        async def reached() -> bool:
            return event in await self.events(intent_id)

        await until(f"{event} of {intent_id}", reached, seconds=seconds)

    async def await_state(self, intent_id: UUID, state: str, *, seconds: float = 240.0) -> Row:
        async def reached() -> Row | None:
            row = await self.head(intent_id)
            return row if row and row["state"] == state else None

        found: Row = await until(f"{intent_id} to be {state}", reached, seconds=seconds)
        return found

    async def await_attempt(self, intent_id: UUID, code: str, count: int = 1) -> None:
        async def reached() -> bool:
            codes = [row["error_code"] for row in await self.attempts(intent_id)]
            return codes.count(code) >= count

        await until(f"an attempt of {intent_id} to end as {code}", reached)


async def _connect(url: str) -> psycopg.AsyncConnection[Row]:
    return await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row)
