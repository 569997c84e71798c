"""A kit for tests of what goes wrong: points to arm, a proxy that fails on purpose, a judge of the outcome.

``docs/testing.md`` shows how to use it; ``docs/testing-your-service.md`` its fixtures for pytest. Names are
looked up when they are first used: pytest loads the plugin in every run, and most need none of this.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outbox.testing.failpoints import FailpointError, Stop, arm_from, armed, fail
    from outbox.testing.fault_proxy import FaultProxy
    from outbox.testing.faults import Answer, Armed, Call, Gate, Late
    from outbox.testing.handles import Converge, Faults
    from outbox.testing.history import History, judge, read_history, read_stores
    from outbox.verify.checker import check
    from outbox.verify.invariants import Invariant, Violation
    from outbox.verify.records import Event, Intent, Ledger, Pending, Scheduled, Stores

__all__ = [
    "Answer",
    "Armed",
    "Call",
    "Converge",
    "Event",
    "FailpointError",
    "FaultProxy",
    "Faults",
    "Gate",
    "History",
    "Intent",
    "Invariant",
    "Late",
    "Ledger",
    "Pending",
    "Scheduled",
    "Stop",
    "Stores",
    "Violation",
    "arm_from",
    "armed",
    "check",
    "fail",
    "judge",
    "read_history",
    "read_stores",
]

if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours
    _MODULES = {
        "outbox.testing.failpoints": ("FailpointError", "Stop", "arm_from", "armed", "fail"),
        "outbox.testing.fault_proxy": ("FaultProxy",),
        "outbox.testing.faults": ("Answer", "Armed", "Call", "Gate", "Late"),
        "outbox.testing.handles": ("Converge", "Faults"),
        "outbox.testing.history": ("History", "judge", "read_history", "read_stores"),
        "outbox.verify.checker": ("check",),
        "outbox.verify.invariants": ("Invariant", "Violation"),
        "outbox.verify.records": ("Event", "Intent", "Ledger", "Pending", "Scheduled", "Stores"),
    }
    _HOMES = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)
