"""The continuous audit's side of Postgres: what the next turn is, and what was found."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

_TAKE = text("SELECT * FROM outbox.audit_take(:rate, :most)")
_ADD = text("SELECT * FROM outbox.audit_add(CAST(:counted AS jsonb), :live, :judged, CAST(:drifts AS jsonb))")
_REPAIR = text("SELECT outbox.request_repair(:schedule)")
_PASS = text("SELECT outbox.audit_pass(:stage, :reached, :following)")


class Stage(StrEnum):
    """What a round goes through, in this order."""

    LANES = "lanes"
    SPICEDB = "spicedb"
    TEMPORAL = "temporal"


@dataclass(frozen=True, slots=True)
class Turn:
    """A piece of the round.

    Attributes:
        reached: where the list is read on; empty: from its beginning.
        names: the lanes to look at.
    """

    stage: Stage
    reached: str
    names: tuple[str, ...] = ()


class ContinuousAuditStore:
    """Takes turns in the round that all workers share."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def take(self, rate: float, *, most: int) -> Turn | None:
        """Take the next piece, at most so many lanes; None: it is not the time (rate, outage, other worker).

        Args:
            rate: lanes per second, over all workers.
            most: lanes at once.
        """
        async with self._engine.connect() as connection:
            row = (await connection.execute(_TAKE, {"rate": rate, "most": most})).one_or_none()
        return None if row is None else Turn(Stage(row.stage), row.reached, tuple(row.names))

    async def add(
        self,
        counted: Mapping[str, int],
        *,
        live: int = 0,
        judged: Collection[str] = (),
        drifts: Sequence[Mapping[str, str]] = (),
    ) -> dict[str, Any]:
        """Add to what the round has found, by kind, among so many live lanes more.

        Args:
            counted: how many drifts of each kind.
            live: so many lanes of these live.
            judged: schedules of which all is known now that there is to know.
            drifts: each with its ``schedule_id``, ``kind``, ``detail`` and ``fix``.

        Returns:
            The round so far (``found``, ``live``), and the last one (``last_found``, ``last_live``).
        """
        asked = {
            "counted": orjson.dumps(dict(counted)).decode(),
            "live": live,
            "judged": list(judged),
            "drifts": orjson.dumps(list(drifts)).decode(),
        }
        async with self._engine.connect() as connection:
            return dict((await connection.execute(_ADD, asked)).mappings().one())

    async def request_repair(self, schedule_id: str) -> None:
        """Ask for a schedule to be brought to what its live stamp says."""
        async with self._engine.connect() as connection:
            await connection.execute(_REPAIR, {"schedule": schedule_id})

    async def go_on(self, turn: Turn, following: str | None) -> bool:
        """Pass on to a list's next page, or (None) what comes after the list; whether the round is over."""
        asked = {"stage": turn.stage, "reached": turn.reached, "following": following}
        async with self._engine.connect() as connection:
            return bool(await connection.scalar(_PASS, asked))
