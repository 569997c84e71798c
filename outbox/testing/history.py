"""Reads a real stack: ledger and stores for the checker, the story of a lane for people."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from outbox.compose.snapshot import take_snapshot
from outbox.flow.dispatch import Creator
from outbox.flow.table import EventType, Kind
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.history import HistoryStore, Row
from outbox.testing.checker import Violation, check
from outbox.testing.records import Event, Intent, Ledger, Pending, Scheduled, Stores

Spans = Mapping[UUID, tuple[float, float]]
"""Of intents: when the producer began to enqueue it and when it was told of the commit (``inf``: never)."""

_ANY_TIME = (float("-inf"), float("inf"))


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
        return Ledger(
            intents=[_intent(row, spans) for row in self.intents],
            events=[_event(row) for row in self.events],
            pending=[_pending(row) for row in self.queue],
            live={row["schedule_id"]: str(row["live_intent"]) for row in self.lanes if row["live_intent"]},
            revisions={row["schedule_id"]: str(row["revision"]) for row in self.lanes if row["revision"]},
        )

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
                yield row["created_at"], row["id"], f"{row['kind']} by {_owner(row) or 'nobody'}"
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


def _intent(row: Row, spans: Spans | None) -> Intent:
    position = float(row["position"])
    span = (position, position) if spans is None else spans.get(row["id"], _ANY_TIME)
    return Intent(
        id=str(row["id"]),
        schedule_id=row["schedule_id"],
        kind=Kind(row["kind"]),
        span=span,
        owner=_owner(row),
        runs=_runs(row["schedule_id"], row["request"]),
        ran_out=row["ran_out"],
        adopts=bool(row["request"].get("adopt")),
    )


def _event(row: Row) -> Event:
    return Event(
        str(row["intent_id"]),
        row["schedule_id"],
        EventType(row["type"]),
        row["lease_number"],
        row["error_code"],
    )


def _pending(row: Row) -> Pending:
    return Pending(
        str(row["intent_id"]),
        row["schedule_id"],
        EventType(row["event_type"]),
        row["place"],
        row["state"],
        row["error_code"],
        row["error_message"],
    )


def _owner(row: Row) -> str | None:
    creator = Creator(**row["creator"])
    if creator.user_id is not None:
        return f"user:{creator.user_id}"
    if creator.service_account_id is not None:
        return f"service_account:{creator.service_account_id}"
    return None


def _runs(schedule_id: str, request: Mapping[str, Any]) -> str | None:
    if not {"workflow_name", "task_queue"} <= request.keys():
        return "something else" if {"workflow_name", "task_queue"} & request.keys() else None
    return f"{request['workflow_name']} as {schedule_id}-run on {request['task_queue']}"


def _lease(row: Row) -> str:
    return "" if row["lease_number"] is None else f" (lease {row['lease_number']})"


def _error(row: Row) -> str:
    return "" if row["error_code"] is None else f"  {row['error_code']}: {row['error_message']}"
