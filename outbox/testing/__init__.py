"""A kit for tests of what goes wrong: points to arm, a proxy that fails on purpose, a judge of the outcome.

``docs/testing.md`` shows how to use it.
"""

from outbox.testing.checker import Invariant, Violation, check
from outbox.testing.failpoints import FailpointError, Stop, arm_from, armed, fail
from outbox.testing.fault_proxy import FaultProxy
from outbox.testing.faults import Answer, Armed, Call, Gate, Late
from outbox.testing.history import History, judge, read_history, read_stores
from outbox.testing.records import Event, Intent, Ledger, Pending, Scheduled, Stores

__all__ = [
    "Answer",
    "Armed",
    "Call",
    "Event",
    "FailpointError",
    "FaultProxy",
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
