"""Some lanes of a live ledger at one moment, to verify them: page by page, each in a snapshot of its own.

Never locks and never writes; a standby will do. Needs SELECT on the outbox's tables.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

Row = Mapping[str, Any]

NEWEST = 500
"""How many intents of a lane are read, the newest, beside its head and what is live."""
PAGE_SECONDS = 30
"""How long one statement may take."""

# In the order of the indexes: what a page costs depends on its lanes alone, whatever the planner expects.
_BOUND = text(f"""
    SELECT set_config('statement_timeout', '{PAGE_SECONDS}s', true),
           set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', :bitmaps, true)
""")
_NAMES = text("""
    SELECT n.name FROM outbox.lanes_after(:after, '', :most) AS n (name) ORDER BY n.name COLLATE "C"
""")
_MOVED = text("""
    SELECT DISTINCT e.schedule_id FROM outbox.events e
     WHERE e.at >= :since AND e.schedule_id > :after ORDER BY e.schedule_id
""")
_STANDBY = text("SELECT pg_is_in_recovery()")
_LANES = text("""
    SELECT l.schedule_id, l.live_intent, l.revision,
           coalesce(l.hold_until > clock_timestamp(), false) AS holds
      FROM outbox.lanes l WHERE l.schedule_id = ANY (:names)
""")
_HEADS = text("""
    SELECT q.intent_id FROM outbox.queue q WHERE q.place = 'head' AND q.schedule_id = ANY (:names)
""")
# One more than is kept tells that there are more. Of the request only what is judged.
_INTENTS = text("""
    WITH newest AS (
        SELECT n.id FROM unnest(CAST(:names AS text[])) AS name
         CROSS JOIN LATERAL (
            SELECT i.id FROM outbox.intents i WHERE i.schedule_id = name
             ORDER BY i.position DESC LIMIT :newest + 1) AS n
        UNION
        SELECT unnest(CAST(:kept AS uuid[]))
    )
    SELECT i.id, i.schedule_id, i.kind, i.position, i.creator,
           CASE WHEN i.kind = 'repair' THEN jsonb_build_object('adopt', i.request->'adopt' = 'true')
                ELSE '{}' END AS request,
           coalesce((coalesce(l.definition, i.request)->>'end_at')::timestamptz <= clock_timestamp(), false)
               AS ran_out
      FROM newest n
      JOIN outbox.intents i ON i.id = ANY (ARRAY[n.id])
      LEFT JOIN outbox.lanes l ON l.schedule_id = ANY (ARRAY[i.schedule_id]) AND l.live_intent = i.id
     ORDER BY i.schedule_id, i.position
""")
_EVENTS = text("""
    SELECT e.intent_id, e.schedule_id, e.type, e.lease_number, e.error_code
      FROM outbox.events e WHERE e.intent_id = ANY (:intents) ORDER BY e.id
""")
_QUEUE = text("""
    SELECT q.intent_id, q.schedule_id, q.event_type, q.place, q.state, q.lease_number, q.error_code,
           q.error_message
      FROM outbox.queue q WHERE q.intent_id = ANY (:intents) ORDER BY q.position
""")
_QUEUED = text("""
    SELECT DISTINCT i.schedule_id FROM outbox.intents i JOIN outbox.queue q ON q.intent_id = ANY (ARRAY[i.id])
     WHERE i.schedule_id = ANY (:names)
""")
# A prune says what it takes before it takes any of it. Where that can't be read, all until then may be gone.
_PRUNED = text(r"""
    SELECT outbox.first_id(max(CASE WHEN o.detail ~ '^what ended before \d{4}-\d\d-\d\d '
                                    THEN substr(o.detail, 19)::timestamptz ELSE o.at END))::text
      FROM outbox.operations o WHERE o.target = 'outbox' AND o.action = 'prune'
""")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Some lanes, whole at one moment.

    Attributes:
        names: their schedule ids, in the order of their bytes.
        intents: by lane and position.
        events: in the order of the log.
        queue: what has not ended, of these intents.
        lanes: with ``live_intent``, ``revision``, and whether the lane ``holds`` for a late write.
        cut: those of which only the newest intents are here.
        queued: those of the cut ones of which nothing here has not ended, but something else.
        pruned_before: intents with smaller ids may have been pruned; empty: none.
    """

    names: Sequence[str]
    intents: Sequence[Row]
    events: Sequence[Row]
    queue: Sequence[Row]
    lanes: Sequence[Row]
    cut: Collection[str]
    queued: Collection[str]
    pruned_before: str


class VerifyStore:
    """Reads snapshots of lanes.

    Args:
        engine: to the database.
        newest: how many intents of a lane are read at most.
    """

    def __init__(self, engine: AsyncEngine, *, newest: int = NEWEST) -> None:
        self._engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._newest = newest

    async def page(self, after: str, most: int) -> Snapshot:
        """Read the next lanes, up to so many, in the order of their ids' bytes; none: that was all.

        Raises:
            DBAPIError: the database can't be read, or not in time.
        """
        async with self._snapshot() as connection:
            found = await connection.execute(_NAMES, {"after": after, "most": most})
            return await self._read(connection, [row.name for row in found])

    async def lanes(self, names: Sequence[str]) -> Snapshot:
        """Read these lanes; names that the ledger doesn't know are left out.

        Raises:
            DBAPIError: the database can't be read, or not in time.
        """
        async with self._snapshot() as connection:
            return await self._read(connection, names)

    async def moved(self, since: datetime, after: str) -> list[str]:
        """The lanes in which something happened since, and whose ids come after one, in their order."""
        # The index of what is recent is read as a bitmap, or not at all.
        async with self._snapshot(bitmaps="on") as connection:
            found = await connection.execute(_MOVED, {"since": since, "after": after})
            return [row.schedule_id for row in found]

    async def is_standby(self) -> bool:
        """Whether it is a standby's ledger, which lags behind the stores."""
        async with self._snapshot() as connection:
            return bool(await connection.scalar(_STANDBY))

    @asynccontextmanager
    async def _snapshot(self, *, bitmaps: str = "off") -> AsyncIterator[AsyncConnection]:
        async with self._engine.connect() as connection:
            await connection.execute(_BOUND, {"bitmaps": bitmaps})
            yield connection

    async def _read(self, connection: AsyncConnection, names: Sequence[str]) -> Snapshot:
        async def rows(statement: Any, **asked: Any) -> list[Row]:
            return [dict(row) for row in (await connection.execute(statement, asked)).mappings()]

        lanes = await rows(_LANES, names=names)
        heads = await rows(_HEADS, names=names)
        kept = {row["intent_id"] for row in heads}
        kept |= {row[name] for row in lanes for name in ("live_intent", "revision") if row[name]}
        intents = await rows(_INTENTS, names=names, newest=self._newest, kept=list(kept))
        cut = _cut(intents, self._newest)
        # A head is told though its intent is missing.
        ids = list({row["id"] for row in intents} | kept)
        known = {row["schedule_id"] for row in (*intents, *lanes)}
        queue = await rows(_QUEUE, intents=ids)
        unsure = list(cut - {row["schedule_id"] for row in queue})
        queued = await rows(_QUEUED, names=unsure) if unsure else []
        return Snapshot(
            names=[name for name in names if name in known],
            intents=intents,
            events=await rows(_EVENTS, intents=ids),
            queue=queue,
            lanes=lanes,
            cut=cut,
            queued={row["schedule_id"] for row in queued},
            pruned_before=await connection.scalar(_PRUNED) or "",
        )


def _cut(intents: Sequence[Row], newest: int) -> set[str]:
    counts: dict[str, int] = {}
    for row in intents:
        counts[row["schedule_id"]] = counts.get(row["schedule_id"], 0) + 1
    return {name for name, count in counts.items() if count > newest}
