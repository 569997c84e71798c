"""What operators read: lists, timelines, depths. Never locks; needs SELECT on the outbox's tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from outbox.flow.table import Status
from outbox.store.blockers import Blocker, blocker
from outbox.store.halts import Halt, halts
from outbox.store.presence import seen
from outbox.store.sessions import oldest_holder

Row = dict[str, Any]

# What there is more of is estimated: looking at the whole outbox costs the same at a million waiting.
COUNTED_MOST = 10_000
_AGED_MOST = 2_000
_COUNTED = (
    "dispatched",
    "leased",
    "waiting_retry",
    "holding",
    "parked",
    "halted",
    "ready",
    "incoming",
    "behind",
    "deferred",
    "unpublished",
)

_LIST = text("""
    SELECT s.* FROM outbox.newest(:status, :since, NULL, :limit) AS n (id)
     CROSS JOIN LATERAL (SELECT * FROM outbox.intent_status s WHERE s.id = n.id OFFSET 0) AS s
     WHERE CAST(:since AS timestamptz) IS NULL OR s.created_at >= :since
     ORDER BY s.id DESC
""")
_LIST_LANE = text("""
    SELECT s.* FROM outbox.intent_status s
     WHERE s.schedule_id = :schedule AND (CAST(:status AS text) IS NULL OR s.status = :status)
       AND (CAST(:since AS timestamptz) IS NULL OR s.created_at >= :since)
     ORDER BY s.position DESC LIMIT :limit
""")
_INTENT = text("SELECT s.* FROM outbox.intent_status s WHERE s.id = :intent")
_LANE = text("""
    SELECT s.* FROM outbox.intent_status s WHERE s.schedule_id = :schedule
     ORDER BY s.position DESC LIMIT :limit
""")
_EVENTS = text("""
    SELECT e.intent_id, e.type, e.at, e.consumer, e.attempt, e.error_code, e.error_message, e.superseded_by
      FROM outbox.events e WHERE e.intent_id = ANY(:intents) ORDER BY e.id
""")
_ATTEMPTS = text("""
    SELECT a.intent_id, a.event_type, a.at, a.consumer, a.attempt, a.action, a.error_code, a.error_message
      FROM outbox.attempts a WHERE a.intent_id = ANY(:intents) ORDER BY a.id
""")
_HEAD = text("""
    SELECT q.intent_id, q.place, q.consumer, q.event_type, q.state,
           nullif(q.due_at, 'infinity') AS due_at, q.attempts, q.error_code, q.error_message,
           q.failing_since, clock_timestamp() AS now,
           coalesce((SELECT max(a.at) FROM outbox.attempts a WHERE a.intent_id = q.intent_id),
                    q.failing_since) AS tried_at,
           b.since AS breaker_since, b.probe_at, b.error_code AS breaker_code,
           b.error_message AS breaker_message
      FROM outbox.front(:schedule) q LEFT JOIN outbox.breakers b USING (consumer)
     ORDER BY q.place = 'head' DESC, q.place = 'incoming' DESC, q.due_at, q.position LIMIT 1
""")
_OPERATIONS = text("""
    SELECT o.id, o.at, o.action, o.who, o.role::text, o.why, o.target, o.intent_id, o.outcome, o.detail,
           o.made, o.items
      FROM outbox.operations o
     WHERE (CAST(:target AS text) IS NULL OR o.target = :target)
       AND (CAST(:since AS timestamptz) IS NULL OR o.at >= :since)
       AND (CAST(:before AS bigint) IS NULL OR o.id < :before)
     ORDER BY o.id DESC LIMIT :limit
""")
_BEHIND = text("SELECT outbox.behind(:schedule, :bound)")
_DEPTHS = text("SELECT * FROM outbox.depths(:bound)")
_OLDEST = text("""
    SELECT i.id, i.schedule_id, extract(epoch FROM clock_timestamp() - i.created_at)::float8 AS age
      FROM (SELECT intent_id FROM outbox.queue
             WHERE place IN ('incoming', 'head') ORDER BY intent_id LIMIT 1) AS q
      JOIN outbox.intents i ON i.id = q.intent_id
""")
_OLDEST_UNPARKED = text("""
    SELECT (extract(epoch FROM clock_timestamp()) - outbox.oldest_unparked(:bound))::float8
""")
_RATES = text("""
    SELECT type, count(*)::integer AS count FROM outbox.events
     WHERE at > statement_timestamp() - interval '1 minute'
       AND type NOT LIKE '%.requested' AND type NOT IN (
           'schedule.registered', 'schedule.registration_skipped', 'schedule.compensation_requested',
           'schedule.unscheduled')
     GROUP BY type ORDER BY type
""")
_AUDIT = text("""
    SELECT began_at, looked, live, found, last_began_at, last_ended_at, last_looked, last_live, last_found
      FROM outbox.audit
""")
_BREAKERS = text("SELECT consumer, since, probe_at, failures, error_code, error_message FROM outbox.breakers")


class ReadStore:
    """Answers operators' questions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def intents(
        self, *, status: Status | None, schedule_id: str | None, since: datetime | None, limit: int
    ) -> list[Row]:
        """The newest intents that match, newest first."""
        asked = {"status": status, "schedule": schedule_id, "since": since, "limit": limit}
        async with self._engine.connect() as connection:
            return await _rows(connection, _LIST if schedule_id is None else _LIST_LANE, asked)

    async def intent(self, intent_id: UUID) -> Row | None:
        """One intent with its status; None: there is none of that id."""
        async with self._engine.connect() as connection:
            found = await _rows(connection, _INTENT, {"intent": intent_id})
            return found[0] if found else None

    async def lane(self, schedule_id: str, *, limit: int) -> list[Row]:
        """The lane's newest intents, oldest first."""
        async with self._engine.connect() as connection:
            return (await _rows(connection, _LANE, {"schedule": schedule_id, "limit": limit}))[::-1]

    async def history(self, intents: Sequence[UUID]) -> tuple[list[Row], list[Row]]:
        """All events, and all attempts that did not settle their step, of some intents, in order."""
        async with self._engine.connect() as connection:
            events = await _rows(connection, _EVENTS, {"intents": list(intents)})
            return events, await _rows(connection, _ATTEMPTS, {"intents": list(intents)})

    async def head(self, schedule_id: str) -> tuple[Row | None, int]:
        """What the lane is at, and how many stand behind it (10,000 at most).

        With the head are its store's breaker, and what a person has halted that it waits for (``halt``).
        """
        async with self._engine.connect() as connection:
            found = await _rows(connection, _HEAD, {"schedule": schedule_id})
            behind = await connection.scalar(_BEHIND, {"schedule": schedule_id, "bound": COUNTED_MOST})
            if not found:
                return None, int(behind or 0)
            (head,) = found
            stopping = [one for one in await halts(connection, schedule_id) if one.stops(head["consumer"])]
            return head | {"halt": stopping[-1] if stopping else None}, int(behind or 0)

    async def halts(self, schedule_id: str | None = None) -> list[Halt]:
        """What people keep from going on, stores first; of one schedule: what keeps it, or its stores."""
        async with self._engine.connect() as connection:
            return await halts(connection, schedule_id)

    async def operations(
        self,
        *,
        target: str | None = None,
        since: datetime | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[Row]:
        """What operators did, the newest first.

        Args:
            target: of one schedule id or store only.
            since: newer ones only.
            before: older ones than this id, to read on.
            limit: so many at most.
        """
        asked = {"target": target, "since": since, "before": before, "limit": limit}
        async with self._engine.connect() as connection:
            return await _rows(connection, _OPERATIONS, asked)

    async def audit(self) -> Row:
        """Where the continuous audit is, and what its last round found."""
        async with self._engine.connect() as connection:
            (audit,) = await _rows(connection, _AUDIT, {})
            return audit

    async def blocker(self) -> Blocker | None:
        """Who holds what the outbox waits for; None: nobody does for long."""
        async with self._engine.connect() as connection:
            return await blocker(connection)

    async def depths(self) -> dict[str, Any]:
        """How much is where, the oldest head's age, what ended lately, which stores are down; the audit.

        Counts are exact up to 10,000, and beyond that what Postgres knows of its indexes; ``estimated`` names
        those that are.
        """
        async with self._engine.connect() as connection:
            counts = await _rows(connection, _DEPTHS, {"bound": COUNTED_MOST})
            oldest = await _rows(connection, _OLDEST, {})
            unparked = await connection.scalar(_OLDEST_UNPARKED, {"bound": _AGED_MOST})
            rates = await _rows(connection, _RATES, {})
            breakers = await _rows(connection, _BREAKERS, {})
            (audit,) = await _rows(connection, _AUDIT, {})
            halted = await halts(connection)
            holder = await oldest_holder(connection)
            blocked_by = await blocker(connection)
            workers = await seen(connection)
        return {
            **_depths(counts),
            "oldest_head_age_seconds": oldest[0]["age"] if oldest else None,
            "oldest_unparked_head_age_seconds": None if unparked is None else max(0.0, unparked),
            "oldest_head": oldest[0]["schedule_id"] if oldest else None,
            "ended_last_minute": {row["type"]: row["count"] for row in rates},
            "breakers": breakers,
            "halts": [asdict(one) for one in halted],
            "workers": workers,
            "audit": audit,
            "oldest_transaction": None if holder is None else asdict(holder),
            "blocked_by": None if blocked_by is None else asdict(blocked_by),
        }


def _depths(counts: list[Row]) -> dict[str, Any]:
    """The numbers of each place and state, and of which of them are estimates."""
    found = dict.fromkeys(_COUNTED, 0)
    estimated = set()
    for row in counts:
        name = "waiting_retry" if row["of"] == "waiting" else row["of"]
        found[name] += max(row["counted"], round(row["about"])) if row["capped"] else row["counted"]
        if row["capped"]:
            estimated.add(name)
    pending = sum(found[name] for name in _COUNTED if name not in {"deferred", "unpublished"})
    return {"pending": pending, **found, "estimated": sorted(estimated)}


async def _rows(
    connection: AsyncConnection, statement: TextClause, parameters: Mapping[str, Any]
) -> list[Row]:
    return [dict(row) for row in (await connection.execute(statement, parameters)).mappings()]
