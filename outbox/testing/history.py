"""Reads a real stack: ledger and stores for the checker, the story of a lane for people."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from outbox.compose.snapshot import take_snapshot
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.history import HistoryStore, Row
from outbox.verify.checker import check
from outbox.verify.invariants import Violation
from outbox.verify.records import Ledger, Scheduled, Stores
from outbox.verify.rows import Rows, ledger_of, owner_of

Spans = Mapping[UUID, tuple[float, float]]
"""Of intents: when the producer began to enqueue it and when it was told of the commit (``inf``: never)."""


@dataclass(frozen=True)
class History:
    """All that the ledger has recorded, as of one moment: its rows by table."""

    intents: Sequence[Row]
    events: Sequence[Row]
    attempts: Sequence[Row]
    queue: Sequence[Row]
    lanes: Sequence[Row]

    def ledger(self, spans: Spans | None = None) -> Ledger:
        """Make records for the checker.

        Args:
            spans: tell the order of enqueueing. Those without one may come in any; without spans at all,
                positions are the order, as they are where each transaction began after the last was over.
        """
        return ledger_of(Rows(self.intents, self.events, self.queue, self.lanes), spans)

    def story(self, schedule_id: str) -> str:
        """A lane's intents, events and failed attempts, one a line, in the order in which they happened."""
        told = [
            f"  {at:%H:%M:%S.%f}  {str(intent_id)[-8:]}  {what}"
            for at, intent_id, what in sorted(self._lines(schedule_id), key=lambda line: line[0])
        ]
        told += [
            f"  now              {str(row['intent_id'])[-8:]}  {row['place']}, {row['state']}{_error(row)}"
            for row in self.queue
            if row["schedule_id"] == schedule_id
        ]
        return "\n".join((schedule_id, *told))

    def _lines(self, schedule_id: str) -> Iterator[tuple[datetime, UUID, str]]:
        ids = {row["id"] for row in self.intents if row["schedule_id"] == schedule_id}
        for row in self.intents:
            if row["id"] in ids:
                yield row["created_at"], row["id"], f"{row['kind']} by {owner_of(row) or 'nobody'}"
        for row in self.events:
            if row["intent_id"] in ids:
                yield row["at"], row["intent_id"], f"{row['type']}{_lease(row)}{_error(row)}"
        for row in self.attempts:
            if row["intent_id"] in ids:
                tried = f"  {row['event_type']}: {row['action']}{_lease(row)}{_error(row)}"
                yield row["at"], row["intent_id"], tried


async def judge(
    settings: Settings,
    *,
    before: Stores | None = None,
    granted: Mapping[str, Collection[str]] | None = None,
    spans: Spans | None = None,
) -> tuple[list[Violation], History]:
    """Read ledger and stores, and check them; call it when nothing is under way.

    Args:
        settings: of the real servers, not of a proxy before them.
        before: what others had put into the stores, as ``read_stores`` read it.
        granted: relationships that others gave since, by the intent that was live.
        spans: those of which a producer was told must be in the ledger, in the order that they tell.

    Returns:
        What does not hold, and the history, whose ``story`` tells how it came about.

    Raises:
        StoreUnusable: a store can't be read.
    """
    history = await read_history(settings.database_url.get_secret_value())
    theirs = {*before.relationships, *before.schedules} if before else set()
    names = theirs | {row["schedule_id"] for row in history.intents}
    told = [str(intent_id) for intent_id, span in (spans or {}).items() if span[1] < float("inf")]
    stores = await read_stores(settings, names)
    return check(history.ledger(spans), stores, before=before, granted=granted, committed=told), history


async def read_history(database_url: str) -> History:
    """Read everything that the ledger has recorded; all of it is held in memory.

    Raises:
        DBAPIError: the database can't be read.
    """
    async with open_engine(database_url) as engine:
        return History(**await HistoryStore(engine).read())


async def read_stores(settings: Settings, names: Collection[str]) -> Stores:
    """Read what SpiceDB and Temporal hold of these schedules now.

    Raises:
        StoreUnusable: a store can't be read.
    """
    found = await take_snapshot(settings, names)
    held = {name: observed.holding.relationships for name, observed in found.observed.items()}
    schedules = {name: observed.schedule for name, observed in found.observed.items()}
    return Stores(
        relationships={name: words for name, words in held.items() if words},
        schedules={
            name: Scheduled(one.stamp, revision=one.revision) for name, one in schedules.items() if one
        },
        ended=found.ended,
    )


def _lease(row: Row) -> str:
    return "" if row["lease_number"] is None else f" (lease {row['lease_number']})"


def _error(row: Row) -> str:
    return "" if row["error_code"] is None else f"  {row['error_code']}: {row['error_message']}"
