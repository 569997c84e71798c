"""Whether a process can work: Postgres answers and is migrated. Stores that are down are told, no more."""

import asyncio

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.store import migrations
from outbox.store.engine import why

_SECONDS = 3.0


class Readiness:
    """Asks Postgres, each time that it is asked itself.

    Args:
        engine: of a loop's; used on the event loop that asks.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def problem(self) -> str | None:
        """Tell what is in the way, if anything is; within three seconds."""
        try:
            async with asyncio.timeout(_SECONDS), self._engine.connect() as connection:
                found = await connection.run_sync(migrations.current)
        except TimeoutError:
            return f"Postgres does not answer within {_SECONDS:g} s"
        except DBAPIError as error:
            return f"Postgres: {why(error)}"
        if migrations.serves(found):
            return None
        return f"Postgres: it is at revision {found}, needed is {migrations.newest()}: run `outbox migrate`"
