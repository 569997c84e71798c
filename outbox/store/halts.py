"""Halts: a store or a schedule that a person keeps from going on, and lets go on again."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from outbox.store.engine import transaction

_HOLD = text("SELECT * FROM outbox.hold_by(:operator, :why, :what, :until)")
_RELEASE = text("SELECT * FROM outbox.release_by(:operator, :why, :what)")
# Stores first. Of a schedule: its own, and the stores'.
_HALTS = text("""
    SELECT h.what, h.since, nullif(h.until, 'infinity') AS until, h.who, h.why FROM outbox.halts h
     WHERE CAST(:schedule AS text) IS NULL OR h.what = ANY (ARRAY['authz', 'temporal', :schedule])
     ORDER BY h.what NOT IN ('authz', 'temporal'), h.since DESC LIMIT :limit
""")
_KEPT_OF_A_STORE = text("""
    SELECT coalesce(sum(CASE WHEN d.capped THEN greatest(d.counted, d.about) ELSE d.counted END), 0)::bigint,
           0, coalesce(bool_or(d.capped), false)
      FROM outbox.depths(:bound) AS d WHERE d.consumer IN (:what, 'both')
""")
_KEPT_OF_A_SCHEDULE = text("""
    SELECT (SELECT count(*) FROM outbox.front(:what) AS h WHERE h.place IN ('head', 'incoming')),
           b.many, b.many >= :bound
      FROM outbox.behind(:what, :bound) AS b (many)
""")
_COUNTED_MOST = 10_000
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


@dataclass(frozen=True, slots=True)
class Kept:
    """What a halt keeps from going on.

    Attributes:
        heads: what would be applied next.
        behind: what stands behind the head of a schedule; of a store, it is not counted.
        estimated: there is so much that it was not counted to the end.
    """

    heads: int
    behind: int
    estimated: bool


class HaltStore:
    """Holds and releases.

    Args:
        engine: to the database.
        operator: who asks for it.
    """

    def __init__(self, engine: AsyncEngine, operator: str) -> None:
        self._engine = engine
        self._operator = operator

    async def hold(
        self, what: str, *, until: datetime | None, why: str, rehearsed: bool = False
    ) -> HaltAnswer:
        """Keep a store (``authz``, ``temporal``) or a schedule from going on: no step of it is begun.

        Rehearsed, it is only told what would happen.
        """
        asked = {"what": what, "until": until, "operator": self._operator, "why": why}
        row = await self._ask(_HOLD, asked, rehearsed=rehearsed)
        return HaltAnswer(what, row.action, row.reason, row.under_way)

    async def release(self, what: str, *, why: str | None = None, rehearsed: bool = False) -> HaltAnswer:
        """Let it go on; rehearsed: only tell what would happen."""
        asked = {"what": what, "operator": self._operator, "why": why}
        row = await self._ask(_RELEASE, asked, rehearsed=rehearsed)
        return HaltAnswer(what, row.action, row.reason)

    async def kept(self, what: str) -> Kept:
        """How much a halt keeps back now, or would."""
        statement = _KEPT_OF_A_STORE if what in _STORES else _KEPT_OF_A_SCHEDULE
        async with self._engine.connect() as connection:
            return Kept(*(await connection.execute(statement, {"what": what, "bound": _COUNTED_MOST})).one())

    async def standing(self, what: str) -> Halt | None:
        """The halt of exactly this, if it is halted."""
        async with self._engine.connect() as connection:
            found = await halts(connection, what)
        return next((one for one in found if one.what == what), None)

    async def _ask(self, statement: TextClause, asked: dict[str, Any], *, rehearsed: bool) -> Row[Any]:
        if not rehearsed:
            async with self._engine.connect() as connection:
                return (await connection.execute(statement, asked)).one()
        async with transaction(self._engine) as connection:
            row = (await connection.execute(statement, asked)).one()
            await connection.rollback()
            return row


async def halts(connection: AsyncConnection, schedule_id: str | None = None) -> list[Halt]:
    """What is halted, stores first, then the newest; of one schedule: what keeps it, or its stores."""
    asked: dict[str, Any] = {"schedule": schedule_id, "limit": _MOST_SHOWN}
    return [Halt(*row) for row in (await connection.execute(_HALTS, asked)).all()]


def _minute(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}"
