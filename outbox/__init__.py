"""Event-driven outbox for agent schedules: what producers use. Importing it pulls in no store's client.

Names are looked up when they are first used: a command that only prints its help waits for none of them.
"""

import importlib

# As type checkers know it. No signal is answered before this is read, and typing is slow to load.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from outbox import sync
    from outbox.errors import ErrorCode, IdempotencyConflict, InvalidRequest, OutboxError
    from outbox.flow.table import EventType, Status
    from outbox.producer.changes import UNSET
    from outbox.producer.enqueue import enqueue_create, enqueue_delete, enqueue_many, enqueue_update
    from outbox.producer.intents import Intent, IntentError, IntentResult
    from outbox.producer.requests import (
        CreateSchedule,
        DeleteSchedule,
        Entry,
        Principal,
        UpdateSchedule,
        parse,
    )
    from outbox.producer.waiting import UnknownIntent, wait

__all__ = [
    "UNSET",
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
    "UpdateSchedule",
    "enqueue_create",
    "enqueue_delete",
    "enqueue_many",
    "enqueue_update",
    "parse",
    "sync",
    "wait",
]

if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours
    _MODULES = {
        "outbox.errors": ("ErrorCode", "IdempotencyConflict", "InvalidRequest", "OutboxError"),
        "outbox.flow.table": ("EventType", "Status"),
        "outbox.producer.changes": ("UNSET",),
        "outbox.producer.enqueue": ("enqueue_create", "enqueue_delete", "enqueue_many", "enqueue_update"),
        "outbox.producer.intents": ("Intent", "IntentError", "IntentResult"),
        "outbox.producer.requests": (
            "CreateSchedule",
            "DeleteSchedule",
            "Entry",
            "Principal",
            "UpdateSchedule",
            "parse",
        ),
        "outbox.producer.waiting": ("UnknownIntent", "wait"),
    }
    _HOMES = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name != "sync" and name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(_HOMES.get(name, "outbox.sync"))
        # From now on without this detour.
        found = globals()[name] = module if name == "sync" else getattr(module, name)
        return found


def __dir__() -> list[str]:
    return __all__
