"""Event-driven outbox for agent schedules: what producers use. Importing it pulls in no store's client."""

from outbox import sync
from outbox.errors import ErrorCode, IdempotencyConflict, InvalidRequest, OutboxError
from outbox.flow.table import EventType, Status
from outbox.producer.enqueue import enqueue_create, enqueue_delete, enqueue_many
from outbox.producer.intents import Intent, IntentError, IntentResult
from outbox.producer.requests import CreateSchedule, DeleteSchedule, Entry, Principal, parse
from outbox.producer.waiting import UnknownIntent, wait

__all__ = [
    "CreateSchedule",
    "DeleteSchedule",
    "Entry",
    "ErrorCode",
    "EventType",
    "IdempotencyConflict",
    "Intent",
    "IntentError",
    "IntentResult",
    "InvalidRequest",
    "OutboxError",
    "Principal",
    "Status",
    "UnknownIntent",
    "enqueue_create",
    "enqueue_delete",
    "enqueue_many",
    "parse",
    "sync",
    "wait",
]
