"""Rows of the ledger as records to judge."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from outbox.flow.dispatch import Creator
from outbox.flow.table import EventType, Kind
from outbox.verify.records import Event, Intent, Ledger, Pending

Row = Mapping[str, Any]
Span = tuple[float, float]
ANY_TIME: Span = (float("-inf"), float("inf"))
"""The span of an intent of which only that it was committed is known."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the ledger's tables, in the order of each."""

    intents: Iterable[Row]
    events: Iterable[Row]
    queue: Iterable[Row]
    lanes: Iterable[Row]


def ledger_of(rows: Rows, spans: Mapping[Any, Span] | None, *, pruned_before: str = "") -> Ledger:
    """Make records of rows.

    Args:
        rows: of whole lanes.
        spans: when intents were enqueued, by their ids; those without one may come in any order. None:
            positions are the order.
        pruned_before: as the ledger's.
    """
    return Ledger(
        intents=[_intent(row, spans) for row in rows.intents],
        events=[_event(row) for row in rows.events],
        pending=[_pending(row) for row in rows.queue],
        live={row["schedule_id"]: str(row["live_intent"]) for row in rows.lanes if row["live_intent"]},
        revisions={row["schedule_id"]: str(row["revision"]) for row in rows.lanes if row["revision"]},
        pruned_before=pruned_before,
    )


def owner_of(row: Row) -> str | None:
    """Whom an intent's registration makes owner, as ``type:id``; None: it has no creator."""
    creator = Creator(**row["creator"])
    if creator.user_id is not None:
        return f"user:{creator.user_id}"
    if creator.service_account_id is not None:
        return f"service_account:{creator.service_account_id}"
    return None


def _intent(row: Row, spans: Mapping[Any, Span] | None) -> Intent:
    position = float(row["position"])
    return Intent(
        id=str(row["id"]),
        schedule_id=row["schedule_id"],
        kind=Kind(row["kind"]),
        span=(position, position) if spans is None else spans.get(row["id"], ANY_TIME),
        owner=owner_of(row),
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
        row["lease_number"],
    )


def _runs(schedule_id: str, request: Mapping[str, Any]) -> str | None:
    if not {"workflow_name", "task_queue"} <= request.keys():
        return "something else" if {"workflow_name", "task_queue"} & request.keys() else None
    return f"{request['workflow_name']} as {schedule_id}-run on {request['task_queue']}"
