"""The ledger as the stores are compared with it: lanes page by page, and whose a stamp is. Never locks."""

from collections.abc import AsyncIterator, Collection, Iterable
from itertools import islice
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncEngine

_PAGE = 1000

_PAGE_OF_LANES = text("""
    SELECT * FROM outbox.audited_lanes(ARRAY(SELECT outbox.lanes_after(:after, :prefix, :page)))
     ORDER BY schedule_id COLLATE "C"
""")
_LANES = text("SELECT * FROM outbox.audited_lanes(:names)")
_LANE_OF = text("SELECT * FROM outbox.lane_of(:stamps)")


class LedgerStore:
    """Reads what the ledger says of lanes and stamps."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def lanes(self, *, prefix: str = "") -> AsyncIterator[RowMapping]:
        """Read all lanes whose ids start so, in the order of their ids' bytes.

        A row has ``schedule_id``, ``live_intent``, whether that is an adoption (``adopted``), its ``creator``
        (None where that was pruned), whether its registration was ``skipped``, whether its schedule
        ``ran_out`` by itself, whether the lane is ``busy`` with intents that have not ended, the
        ``former_creators`` whom ended intents had registered, the ``revision`` (the update that changed what
        is live last), and whether what is live is ``defined`` by more than its own intent.
        """
        after = ""
        while True:
            asked = {"after": after, "prefix": prefix, "page": _PAGE}
            async with self._engine.connect() as connection:
                rows = (await connection.execute(_PAGE_OF_LANES, asked)).mappings().all()
            for row in rows:
                yield row
            if len(rows) < _PAGE:
                return
            after = rows[-1]["schedule_id"]

    async def lane(self, schedule_id: str) -> RowMapping | None:
        """Read one lane, as ``lanes`` does; None: the ledger doesn't know the id."""
        async with self._engine.connect() as connection:
            return (await connection.execute(_LANES, {"names": [schedule_id]})).mappings().one_or_none()

    async def known(self, names: Collection[str]) -> set[str]:
        """Tell which of these ids have a lane."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(_LANES, {"names": list(names)})
            return {row.schedule_id for row in rows}

    async def lane_of(self, stamps: Iterable[str]) -> dict[str, str]:
        """Tell the schedule id of each stamp that is one of our intents; any text may be asked about."""
        ids = (found for found in map(_as_uuid, stamps) if found is not None)
        known: dict[str, str] = {}
        while batch := list(islice(ids, _PAGE)):
            async with self._engine.connect() as connection:
                rows = await connection.execute(_LANE_OF, {"stamps": batch})
                known |= {str(row.id): row.schedule_id for row in rows}
        return known


def _as_uuid(stamp: str) -> UUID | None:
    try:
        found = UUID(stamp)
    except ValueError:
        return None
    # Only the one spelling that we write is ours.
    return found if str(found) == stamp else None
