"""Which outbox a database holds: an id that its migration drew, or that OUTBOX_INSTANCE has brought it to."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

_INSTANCE = text("SELECT id FROM outbox.instance")


async def instance(engine: AsyncEngine) -> UUID:
    """The id of the outbox in this database."""
    async with engine.connect() as connection:
        return UUID(str(await connection.scalar(_INSTANCE)))
