"""What operators change: replay, discard, repair, reclaim; each one call of one SQL function."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.flow.dispatch import Creator
from outbox.flow.table import Status
from outbox.store.engine import transaction

# The newest of each chain, oldest first, so that lanes are replayed in their order.
_REPLAYABLE = text("""
    SELECT s.id FROM outbox.in_need(:schedule) AS n (id)
     CROSS JOIN LATERAL (SELECT * FROM outbox.intent_status s WHERE s.id = n.id OFFSET 0) AS s
     WHERE s.status = ANY(:statuses)
       AND (CAST(:error AS text) IS NULL OR s.error_code = :error)
       AND (CAST(:since AS timestamptz) IS NULL OR s.updated_at >= :since)
       AND (CAST(:group AS text) IS NULL
            OR EXISTS (SELECT FROM outbox.failures f WHERE f.intent_id = s.id AND f.group_id = :group))
       AND NOT EXISTS (SELECT FROM outbox.intents later
                        WHERE later.replays = coalesce(s.replays, s.id)
                          AND later.replay_number > coalesce(s.replay_number, 0))
     ORDER BY s.id
""")
_REPLAY = text("SELECT * FROM outbox.replay_by(:operator, :why, :intent, :forced, :rehearsed)")
_DISCARD = text("SELECT * FROM outbox.discard_by(:operator, :why, :intent)")
_REPAIR = text("SELECT outbox.repair_by(:operator, :why, :schedule, :adopting)")
_RECLAIM = text("""
    SELECT outbox.reclaim_by(
        :operator, :why, :schedule, :stamp, CAST(:definition AS jsonb), CAST(:creator AS jsonb))
""")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request about one intent.

    Attributes:
        action: ``rearmed``, ``reenqueued``, ``discarding`` or ``refused``.
        new_intent: what a failed intent was enqueued as.
    """

    intent: UUID
    action: str
    reason: str
    new_intent: UUID | None = None


class OperateStore:
    """Carries out what operators ask for, and has it written down.

    Args:
        engine: to the database.
        operator: who asks for it.
        why: they do.
    """

    def __init__(self, engine: AsyncEngine, operator: str, why: str | None = None) -> None:
        self._engine = engine
        self._by = {"operator": operator, "why": why}

    async def replayable(
        self,
        *,
        statuses: list[Status],
        schedule_id: str | None,
        error: str | None,
        since: datetime | None,
        group: str | None = None,
    ) -> list[UUID]:
        """The failed and parked intents that match, the newest of each chain of replays only."""
        asked = {
            "statuses": statuses,
            "schedule": schedule_id,
            "error": error,
            "since": since,
            "group": group,
        }
        async with self._engine.connect() as connection:
            return list((await connection.execute(_REPLAYABLE, asked)).scalars())

    async def replay(self, intent: UUID, *, forced: bool, rehearsed: bool) -> Answer:
        """Replay one intent; rehearsed: only tell what would happen."""
        asked = self._by | {"intent": intent, "forced": forced, "rehearsed": rehearsed}
        async with self._engine.connect() as connection:
            row = (await connection.execute(_REPLAY, asked)).one()
            return Answer(intent, row.action, row.reason, row.new_intent_id)

    async def discard(self, intent: UUID, reason: str, *, rehearsed: bool = False) -> Answer:
        """End a parked intent, undoing what is ours; rehearsed: only tell what would happen."""
        asked = self._by | {"intent": intent, "why": reason}
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_DISCARD, asked)).one()
            if rehearsed:
                await connection.rollback()
            return Answer(intent, row.action, row.reason)

    async def request_repair(self, schedule_id: str, *, adopting: bool = False) -> UUID:
        """Ask for a schedule to be brought to what its live stamp says; or to be adopted, if it is legacy."""
        asked = self._by | {"schedule": schedule_id, "adopting": adopting}
        async with self._engine.connect() as connection:
            return UUID(str(await connection.scalar(_REPAIR, asked)))

    async def request_reclaim(
        self, schedule_id: str, stamp: UUID, *, definition: Mapping[str, Any], creator: Creator
    ) -> UUID:
        """Ask for a schedule to be taken into the ledger again that carries this stamp in both stores.

        Args:
            schedule_id: of the schedule.
            stamp: the id that its intent had.
            definition: what that intent asked for, as a request.
            creator: whom the schedule belongs to.
        """
        asked = {
            **self._by,
            "schedule": schedule_id,
            "stamp": stamp,
            "definition": orjson.dumps(dict(definition)).decode(),
            "creator": orjson.dumps({k: v for k, v in asdict(creator).items() if v is not None}).decode(),
        }
        async with self._engine.connect() as connection:
            return UUID(str(await connection.scalar(_RECLAIM, asked)))
