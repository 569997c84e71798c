"""Which workers and relays are there: each says so, and operators read it."""

from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_CHECK_IN = text("SELECT outbox.check_in(:process, :host, :pid, :version, :wire, :serves, :up)")
_CHECK_OUT = text("SELECT outbox.check_out(:process)")
_SEEN = text("SELECT * FROM outbox.seen_workers w ORDER BY w.host, w.pid, w.started_at LIMIT :limit")
_MOST_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Process:
    """A process that works.

    Attributes:
        process: an id of its own.
        serves: consumers; ``relay``: it sends steps to Kafka.
    """

    process: UUID
    host: str
    pid: int
    version: str
    wire: str
    serves: list[str]


class PresenceStore:
    """Says that a process is there, and that it ends."""

    def __init__(self, engine: AsyncEngine, process: Process) -> None:
        self._engine = engine
        self._process = process

    async def check_in(self, up: float) -> None:
        """It is there, and has been for so many seconds."""
        async with self._engine.connect() as connection:
            await connection.execute(_CHECK_IN, asdict(self._process) | {"up": up})

    async def check_out(self) -> None:
        """It ends in order."""
        async with self._engine.connect() as connection:
            await connection.execute(_CHECK_OUT, {"process": self._process.process})


async def seen(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Who has been seen in the last hour; ``present``: in the last half minute."""
    rows = (await connection.execute(_SEEN, {"limit": _MOST_SHOWN})).mappings()
    return [dict(row) for row in rows]
