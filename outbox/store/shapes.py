"""The stable JSON shapes of what operators read: the same from commands and from the console."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from outbox.documentation import of_code

Row = dict[str, Any]


def intent_json(row: Row) -> Row:
    """One intent, from a row of ``outbox.intent_status``."""
    return {
        "intent_id": row["id"],
        "schedule_id": row["schedule_id"],
        "kind": row["kind"],
        "status": row["status"],
        "event_type": row["event_type"],
        "error": _error(row),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        # What was reclaimed from a lost ledger was never attempted by this one.
        "attempts": row["attempts"] or 0,
        "replays_of": row["replays"],
        "trace_id": row["trace_id"],
    }


def timeline(intents: Sequence[Row], events: Iterable[Row], attempts: Iterable[Row]) -> list[Row]:
    """Intents with all that happened to each."""
    events_of, attempts_of = _by_intent(events), _by_intent(attempts)
    return [
        intent_json(row)
        | {
            "events": [_event(one) for one in events_of[row["id"]]],
            "failed_attempts": [_attempt(one) for one in attempts_of[row["id"]]],
        }
        for row in intents
    ]


def told(event: Row) -> str:
    """An event in words: its type, and the later update that it was applied with."""
    later = event["superseded_by"]
    return event["type"] if later is None else f"{event['type']}, with {later}"


def _by_intent(rows: Iterable[Row]) -> defaultdict[UUID, list[Row]]:
    found: defaultdict[UUID, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["intent_id"]].append(row)
    return found


def _event(row: Row) -> Row:
    return {
        "type": row["type"],
        "at": row["at"],
        "consumer": row["consumer"],
        "attempt": row["attempt"],
        "error": _error(row),
        "superseded_by": row["superseded_by"],
    }


def _attempt(row: Row) -> Row:
    return {
        "step": row["event_type"],
        "at": row["at"],
        "consumer": row["consumer"],
        "attempt": row["attempt"],
        "then": row["action"],
        "error": _error(row),
    }


def error_json(code: str, message: str | None) -> Row:
    """An error, with the page that says what to do about it."""
    return {"code": code, "message": message, "help": of_code(code)}


def _error(row: Row) -> Row | None:
    return error_json(row["error_code"], row["error_message"]) if row["error_code"] else None
