"""Whether a process can work: Postgres answers and is migrated. Stores that are down are told, no more."""

import asyncio
from typing import Self

from sqlalchemy.exc import DBAPIError

from outbox.store import migrations
from outbox.store.engine import async_engine, why
from outbox.telemetry.aside import Aside

_SECONDS = 3.0


class Readiness:
    """Asks Postgres by a connection of its own, from the thread aside.

    Args:
        database_url: of the outbox.
        aside: where it is asked.
    """

    def __init__(self, database_url: str, aside: Aside) -> None:
        self._engine = async_engine(database_url, bounded=True)
        self._aside = aside
        self._needed = migrations.newest()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # It belongs to the loop that has used it.
        await asyncio.wait([asyncio.wrap_future(self._aside.start(self._engine.dispose()))], timeout=_SECONDS)

    async def problem(self) -> str | None:
        """Tell what is in the way, if anything is; within three seconds."""
        try:
            async with asyncio.timeout(_SECONDS), self._engine.connect() as connection:
                found = await connection.run_sync(migrations.current)
        except TimeoutError:
            return f"Postgres does not answer within {_SECONDS:g} s"
        except DBAPIError as error:
            return f"Postgres: {why(error)}"
        if found == self._needed:
            return None
        return f"Postgres: it is at revision {found}, needed is {self._needed}: run `outbox migrate`"
