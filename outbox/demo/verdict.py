"""The demo's verdict: did every intent end as it must, and do the three stores agree? Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from outbox.audit.drift import Drift, Report
from outbox.demo.workload import Case


@dataclass(frozen=True, slots=True)
class Ending:
    """How one intent stands at the end, and how it should."""

    intent_id: UUID
    schedule_id: str
    case: Case
    status: str
    event_type: str
    error_code: str | None

    @property
    def as_expected(self) -> bool:
        """Whether it ended with the event and the error that its case asks for."""
        return (self.event_type, self.error_code) == (self.case.event, self.case.error)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of the run.

    Attributes:
        unexpected: intents that did not end as they must.
        report: the comparison of the stores, for the run's own schedules.
        elsewhere: drifts of ours outside this run, told but not held against it.
        strangers: whether each stranger's object is as it was.
    """

    endings: Sequence[Ending]
    unexpected: Sequence[Ending]
    report: Report
    elsewhere: Sequence[Drift]
    strangers: Mapping[str, bool]

    @property
    def good(self) -> bool:
        """Whether all is as it must be."""
        return (
            not self.unexpected
            and self.report.agrees
            and not self.report.busy
            and all(self.strangers.values())
        )


def judge(
    endings: Sequence[Ending], report: Report, strangers: Mapping[str, bool], *, run: set[str]
) -> Verdict:
    """Judge a run whose schedules have the ids ``run``, by a comparison of everything in the stores."""
    inside = replace(
        report,
        drifts=[drift for drift in report.drifts if drift.schedule_id in run],
        busy=[name for name in report.busy if name in run],
    )
    return Verdict(
        endings=endings,
        unexpected=[ending for ending in endings if not ending.as_expected],
        report=inside,
        elsewhere=[drift for drift in report.drifts if drift.is_ours and drift.schedule_id not in run],
        strangers=strangers,
    )


def ending(row: Mapping[str, Any], case: Case) -> Ending:
    """Read how an intent stands from its row of the ledger."""
    return Ending(row["id"], row["schedule_id"], case, row["status"], row["event_type"], row["error_code"])
