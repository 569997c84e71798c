"""The composition root: the one place where the engine and its consumers meet.

Its modules are imported when they are first used: a command that only reads Postgres does not wait for the
clients of SpiceDB and Temporal.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outbox.compose import (
        audit,
        checks,
        continuous_audit,
        database,
        doctor,
        foreign,
        kafka,
        presence,
        reclaim,
        replays,
        retention,
        schema,
        side_by_side,
        telemetry,
        verify,
        worker,
    )

__all__ = [
    "audit",
    "checks",
    "continuous_audit",
    "database",
    "doctor",
    "foreign",
    "kafka",
    "presence",
    "reclaim",
    "replays",
    "retention",
    "schema",
    "side_by_side",
    "telemetry",
    "verify",
    "worker",
]


if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours

    def __getattr__(name: str) -> ModuleType:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return importlib.import_module(f"{__name__}.{name}")
