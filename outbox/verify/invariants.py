"""What must hold, and what is told where it does not. ``docs/verify.md`` has a section for each."""

from dataclasses import dataclass
from enum import StrEnum


class Invariant(StrEnum):
    """What must hold; a violation names one."""

    NOT_LOST = "not_lost"
    """What a producer knows to be committed is in the ledger, and every intent begins with its request."""
    ENDS_ONCE = "ends_once"
    """Every intent has ended with one terminal event, is parked with a reason, or waits behind a parked
    one."""
    FLOW = "flow"
    """An intent's events follow each other as the flow says, under lease numbers that grow. What is pending
    is the step that the last of them asks for."""
    ONE_HEAD = "one_head"
    """A lane has one head at most, and nothing stands behind none."""
    LANE_ORDER = "lane_order"
    """A lane's intents were applied one at a time. If A was committed before B was enqueued, A was applied
    first."""
    LIVE_STAMP = "live_stamp"
    """The intent that the lane's row calls live is the one that its log says is live."""
    SCHEDULE = "schedule"
    """Temporal has the live intent's schedule under its stamp, and no other of ours."""
    REVISION = "revision"
    """The update that changed what is live last is the one that the log, the lane's row and Temporal tell."""
    TUPLES = "tuples"
    """SpiceDB has the live intent's registration and what was granted since, and nothing else."""
    ENDED_MARK = "ended_mark"
    """Every intent whose registration was removed is marked as ended, so that it can't take effect late. No
    live intent is marked."""
    FOREIGN = "foreign"
    """What others hold is as it was; a delete takes it only if it carries no stamp."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, in which lane, and what was found instead."""

    invariant: Invariant
    schedule_id: str
    detail: str

    def __str__(self) -> str:
        return f"{self.schedule_id or 'ledger'}: {self.invariant}: {self.detail}"
