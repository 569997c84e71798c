"""What the tools may be asked, where it differs from what pages and API calls are asked."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from outbox.console.asked import (
    MOST,
    SCHEDULE_ID,
    DiscardChange,
    PageQuery,
    ReplayChange,
    ScheduleQuery,
    SchedulesChange,
)

Reason = Annotated[
    str, Field(min_length=1, max_length=500, description="Why; written down with what is done.")
]
ScheduleId = Annotated[str, Field(pattern=f"^{SCHEDULE_ID}$")]
_SEEN = "Of each its `seen`, as the preview answered it. Nothing else is acted on."


class Asked(BaseModel):
    """A tool's arguments."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Asked):
    """None."""


class OfIntent(Asked):
    """One intent."""

    intent_id: UUID = Field(description="Its id.")


class OfSchedule(ScheduleQuery):
    """One schedule, and how much of it."""

    schedule_id: ScheduleId = Field(description="Its id: `{agent_id}--{name}`.")


class OfGroup(PageQuery):
    """One group of failures, and how much of it."""

    group_id: str = Field(pattern=r"^\w+$", max_length=100, description="Its id, from `failures`.")


class ToReplay(Asked):
    """Intents that may be tried again."""

    intents: tuple[UUID, ...] = Field(min_length=1, max_length=MOST, description="Each by its id.")
    force: bool = Field(default=False, description="Also those that a later intent has overtaken.")

    def change(self) -> ReplayChange:
        """The same, as a dry run."""
        return ReplayChange(dry_run=True, intents=self.intents, force=self.force)


class ToDiscard(Asked):
    """Intents that may be ended."""

    intents: tuple[UUID, ...] = Field(min_length=1, max_length=MOST, description="Each by its id.")
    reason: Reason

    def change(self) -> DiscardChange:
        """The same, as a dry run."""
        return DiscardChange(dry_run=True, intents=self.intents, reason=self.reason)


class ToMend(Asked):
    """Schedules that may be repaired or adopted."""

    schedules: tuple[ScheduleId, ...] = Field(min_length=1, max_length=MOST, description="Each by its id.")

    def change(self) -> SchedulesChange:
        """The same, as a dry run."""
        return SchedulesChange(dry_run=True, schedules=self.schedules)


class _Seen(Asked):
    """What was previewed, and why it is to be done."""

    reason: Reason

    def _common(self) -> dict[str, Any]:
        return {"dry_run": False, "reason": self.reason}


class Replay(_Seen):
    """Intents to be tried again."""

    seen: dict[UUID, str] = Field(min_length=1, max_length=MOST, description=_SEEN)
    force: bool = Field(default=False, description="As in the preview.")

    def change(self) -> ReplayChange:
        """The same, to be done."""
        return ReplayChange(**self._common(), intents=tuple(self.seen), seen=self.seen, force=self.force)


class Discard(_Seen):
    """Intents to be ended."""

    seen: dict[UUID, str] = Field(min_length=1, max_length=MOST, description=_SEEN)

    def change(self) -> DiscardChange:
        """The same, to be done."""
        return DiscardChange(**self._common(), intents=tuple(self.seen), seen=self.seen)


class Mend(_Seen):
    """Schedules to be repaired or adopted."""

    seen: dict[ScheduleId, str] = Field(min_length=1, max_length=MOST, description=_SEEN)

    def change(self) -> SchedulesChange:
        """The same, to be done."""
        return SchedulesChange(**self._common(), schedules=tuple(self.seen), seen=self.seen)
