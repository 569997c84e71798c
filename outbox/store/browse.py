"""Leafing through the ledger, page by page, and its last hour: for the console."""

from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.flow.table import Kind, Status

Row = dict[str, Any]

# A page looks at so many intents at most: a rare match among a million is found by going on, not by waiting.
_BATCH = 2_000
_BATCHES = 10
# Of each minute so many intents stand for all: their ends are looked up one by one.
_SAMPLE = 20

_PAGE = text("""
    WITH batch AS MATERIALIZED (
        SELECT n.id FROM outbox.newest(
            :status, :since,
            least(CAST(:before AS uuid),
                  CASE WHEN CAST(:until AS timestamptz) IS NOT NULL THEN outbox.first_id(:until) END),
            :batch) AS n (id)
    )
    SELECT b.looked, b.reached, m.*
      FROM (SELECT count(*) AS looked, (SELECT id FROM batch ORDER BY id LIMIT 1) AS reached FROM batch) AS b
      LEFT JOIN LATERAL (
        SELECT s.*
          FROM (SELECT i.id
                  FROM batch
                 CROSS JOIN LATERAL (SELECT * FROM outbox.intents i WHERE i.id = batch.id OFFSET 0) AS i
                 WHERE (CAST(:kind AS text) IS NULL OR i.kind = :kind)
                   AND (CAST(:agent AS text) IS NULL OR starts_with(i.schedule_id, :agent || '--'))
                   AND (CAST(:schedule AS text) IS NULL OR strpos(i.schedule_id, :schedule) > 0)
                   AND (CAST(:since AS timestamptz) IS NULL OR i.created_at >= :since)
                 OFFSET 0) AS i
         CROSS JOIN LATERAL (SELECT * FROM outbox.intent_status s WHERE s.id = i.id OFFSET 0) AS s
         WHERE (CAST(:status AS text) IS NULL OR s.status = :status)
           AND (CAST(:code AS text) IS NULL OR s.error_code = :code)
         ORDER BY s.id DESC LIMIT :limit) AS m ON true
     ORDER BY m.id DESC
""")
_LAST_HOUR = text("SELECT * FROM outbox.last_hour(:sample)")
_ASKED = text("SELECT request, creator FROM outbox.intents WHERE id = :intent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which intents; None: all.

    Attributes:
        schedule: a part of the schedule id.
        code: of the error.
        before: only older ones than this intent.
    """

    status: Status | None = None
    kind: Kind | None = None
    agent: str | None = None
    schedule: str | None = None
    code: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: UUID | None = None
    limit: int = 50

    @property
    def _batch(self) -> int:
        picky = any((self.kind, self.agent, self.schedule, self.code))
        return _BATCH if picky else self.limit


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the intents that match, the newest first.

    Attributes:
        following: what ``Wanted.before`` is for the next page; None: there is none.
    """

    rows: list[Row]
    following: UUID | None


class BrowseStore:
    """Reads the ledger for people who look around. Never locks."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def page(self, wanted: Wanted) -> Page:
        """Read one page: full, or as far as so many looks went, or the last."""
        found: list[Row] = []
        before = wanted.before
        batch = wanted._batch  # noqa: SLF001 - of this module
        async with self._engine.connect() as connection:
            for _ in range(_BATCHES):
                asked = asdict(wanted) | {
                    "before": before,
                    "batch": batch,
                    "limit": wanted.limit - len(found),
                }
                rows = [dict(row) for row in (await connection.execute(_PAGE, asked)).mappings()]
                looked, reached = rows[0]["looked"], rows[0]["reached"]
                found += [row for row in rows if row["id"] is not None]
                if len(found) == wanted.limit:
                    return Page(found, found[-1]["id"])
                if looked < batch:
                    return Page(found, None)
                before = reached
        return Page(found, before)

    async def last_hour(self) -> list[Row]:
        """Each minute of the last hour, the oldest first.

        How many intents were ``placed`` (about: by their positions), and of a sample of them, how many
        ``succeeded`` and ``failed``, and the seconds that half and nearly all of them took (``median``,
        ``most``).
        """
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_LAST_HOUR, {"sample": _SAMPLE})).mappings().all()
        return [
            {
                "at": row["at"],
                "placed": max(0, (following["position"] or 0) - (row["position"] or 0)),
                "succeeded": row["succeeded"],
                "failed": row["failed"],
                "median": (row["taken"] or [None, None])[0],
                "most": (row["taken"] or [None, None])[1],
            }
            for row, following in pairwise(rows)
        ]

    async def asked(self, intent: UUID) -> Row | None:
        """What an intent's request holds, and for whom it was made."""
        async with self._engine.connect() as connection:
            found = (await connection.execute(_ASKED, {"intent": intent})).mappings().one_or_none()
        return None if found is None else dict(found)
