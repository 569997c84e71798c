"""Halts: a store or a schedule that a person keeps from going on, and lets go on again."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_HOLD = text("SELECT * FROM outbox.hold_by(:operator, :why, :what, :until)")
_RELEASE = text("SELECT * FROM outbox.release_by(:operator, :why, :what)")
# Stores first. Of a schedule: its own, and the stores'.
_HALTS = text("""
    SELECT h.what, h.since, nullif(h.until, 'infinity') AS until, h.who, h.why FROM outbox.halts h
     WHERE CAST(:schedule AS text) IS NULL OR h.what = ANY (ARRAY['authz', 'temporal', :schedule])
     ORDER BY h.what NOT IN ('authz', 'temporal'), h.since DESC LIMIT :limit
""")
_MOST_SHOWN = 100
_STORES = {"authz": "SpiceDB", "temporal": "Temporal"}


@dataclass(frozen=True, slots=True)
class Halt:
    """What a person keeps from going on.

    Attributes:
        what: ``authz``, ``temporal``, or a schedule id.
        until: when it ends by itself; None: when somebody releases it.
        who: had it halted, and ``why``.
    """

    what: str
    since: datetime
    until: datetime | None
    who: str
    why: str

    def stops(self, consumer: str) -> bool:
        """Whether a step of this consumer waits for it, of a schedule that it is about or of any."""
        return self.what not in _STORES or consumer in {self.what, "both"}

    @property
    def told(self) -> str:
        """In a line."""
        until = f" until {_minute(self.until)}" if self.until else ""
        name = _STORES.get(self.what, self.what)
        return f"{name} is halted by {self.who} since {_minute(self.since)}{until} ({self.why})"

    @property
    def way_out(self) -> str:
        """The command that ends it."""
        option = "--store" if self.what in _STORES else "--schedule"
        return f"outbox release {option} {self.what}"


@dataclass(frozen=True, slots=True)
class HaltAnswer:
    """What became of a request to hold or release.

    Attributes:
        action: ``held``, ``released`` or ``refused``.
        under_way: so many steps were leased before, and go on.
    """

    what: str
    action: str
    reason: str
    under_way: int = 0


class HaltStore:
    """Holds and releases.

    Args:
        engine: to the database.
        operator: who asks for it.
    """

    def __init__(self, engine: AsyncEngine, operator: str) -> None:
        self._engine = engine
        self._operator = operator

    async def hold(self, what: str, *, until: datetime | None, why: str) -> HaltAnswer:
        """Keep a store (``authz``, ``temporal``) or a schedule from going on: no step of it is begun."""
        asked = {"what": what, "until": until, "operator": self._operator, "why": why}
        async with self._engine.connect() as connection:
            row = (await connection.execute(_HOLD, asked)).one()
        return HaltAnswer(what, row.action, row.reason, row.under_way)

    async def release(self, what: str, *, why: str | None = None) -> HaltAnswer:
        """Let it go on."""
        asked = {"what": what, "operator": self._operator, "why": why}
        async with self._engine.connect() as connection:
            row = (await connection.execute(_RELEASE, asked)).one()
        return HaltAnswer(what, row.action, row.reason)


async def halts(connection: AsyncConnection, schedule_id: str | None = None) -> list[Halt]:
    """What is halted, stores first, then the newest; of one schedule: what keeps it, or its stores."""
    asked: dict[str, Any] = {"schedule": schedule_id, "limit": _MOST_SHOWN}
    return [Halt(*row) for row in (await connection.execute(_HALTS, asked)).all()]


def _minute(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}"
