"""A kit for tests of what goes wrong: points to arm, a proxy that fails on purpose, a judge of the outcome.

``docs/testing.md`` shows how to use it; ``docs/testing-your-service.md`` its fixtures for pytest. Names are
looked up when they are first used: pytest loads the plugin in every run, and most need none of this.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outbox.testing.checker import Invariant, Violation, check
    from outbox.testing.failpoints import FailpointError, Stop, arm_from, armed, fail
    from outbox.testing.fault_proxy import FaultProxy
    from outbox.testing.faults import Answer, Armed, Call, Gate, Late
    from outbox.testing.handles import Converge, Faults
    from outbox.testing.history import History, judge, read_history, read_stores
    from outbox.testing.records import Event, Intent, Ledger, Pending, Scheduled, Stores

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
        "checker": ("Invariant", "Violation", "check"),
        "failpoints": ("FailpointError", "Stop", "arm_from", "armed", "fail"),
        "fault_proxy": ("FaultProxy",),
        "faults": ("Answer", "Armed", "Call", "Gate", "Late"),
        "handles": ("Converge", "Faults"),
        "history": ("History", "judge", "read_history", "read_stores"),
        "records": ("Event", "Intent", "Ledger", "Pending", "Scheduled", "Stores"),
    }
    _HOMES = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
