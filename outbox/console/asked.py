"""What requests may ask for: the parameters of pages and API calls, refused by name where they are wrong."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.datastructures import QueryParams

from outbox.errors import ErrorCode
from outbox.flow.table import Kind, Status
from outbox.store.browse import Wanted
from outbox.when import moment

MOST = 500
SCHEDULE_ID = r"[a-zA-Z0-9/_|\-=+]{1,1024}"
Limit = Annotated[int, Field(ge=1, le=MOST)]


class Query(BaseModel):
    """The parameters of a URL; empty ones, as forms send them, are none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def of(cls, parameters: QueryParams) -> Self:
        """Read them.

        Raises:
            ValidationError: one is unknown, or not what it should be.
        """
        return cls.model_validate({name: value for name, value in parameters.items() if value})


class IntentsQuery(Query):
    """Which intents, as a filter of the list."""

    status: Status | None = Field(None, description="Where they stand.")
    kind: Kind | None = Field(None, description="What they ask for.")
    agent: str | None = Field(None, max_length=128, description="Of this agent.")
    schedule: str | None = Field(None, max_length=200, description="A part of the schedule id.")
    code: ErrorCode | None = Field(None, description="The code of their error.")
    since: str | None = Field(
        None, max_length=40, description="Made since: 15m, 2h, 7d, or an ISO 8601 time."
    )
    until: str | None = Field(None, max_length=40, description="Made before.")
    cursor: UUID | None = Field(None, description="What the page before named as `next`.")
    limit: Limit = Field(50, description="At most so many.")

    @field_validator("agent", "schedule")
    @classmethod
    def _can_be_stored(cls, value: str | None) -> str | None:
        return _storable(value)

    @field_validator("since", "until")
    @classmethod
    def _is_a_time(cls, value: str | None) -> str | None:
        if value is not None:
            moment("it is", value)
        return value

    def wanted(self) -> Wanted:
        """The same, for the ledger."""
        return Wanted(
            status=self.status,
            kind=self.kind,
            agent=self.agent,
            schedule=self.schedule,
            code=self.code,
            since=moment("since", self.since) if self.since else None,
            until=moment("until", self.until) if self.until else None,
            before=self.cursor,
            limit=self.limit,
        )


class ScheduleQuery(Query):
    """How much of a lane."""

    limit: Limit = Field(20, description="Its newest intents, at most so many.")


class PageQuery(Query):
    """How much of a list, and from where."""

    cursor: UUID | None = Field(None, description="What the page before named as `next`.")
    limit: Limit = Field(50, description="At most so many.")


class OperationsQuery(Query):
    """Which operations."""

    target: str | None = Field(
        None, max_length=1000, description="Of this schedule id, or `authz`, `temporal`."
    )
    since: str | None = Field(
        None, max_length=40, description="Done since: 15m, 2h, 7d, or an ISO 8601 time."
    )
    cursor: int | None = Field(None, ge=0, le=2**63 - 1, description="What the page before named as `next`.")
    limit: Limit = Field(50, description="At most so many.")

    @field_validator("target")
    @classmethod
    def _can_be_stored(cls, value: str | None) -> str | None:
        return _storable(value)

    @field_validator("since")
    @classmethod
    def _is_a_time(cls, value: str | None) -> str | None:
        if value is not None:
            moment("it is", value)
        return value

    @property
    def after(self) -> datetime | None:
        """The same as a moment."""
        return moment("since", self.since) if self.since else None


class Change(BaseModel):
    """What is to be done, or (``dry_run``) only told of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dry_run: bool = Field(description="Only tell what would happen to each.")
    reason: str | None = Field(None, max_length=500, description="Why; written down with what is done.")

    @field_validator("reason")
    @classmethod
    def _can_be_stored(cls, value: str | None) -> str | None:
        return _storable(value)


class IntentsChange(Change):
    """Of some intents."""

    intents: tuple[UUID, ...] = Field(min_length=1, max_length=MOST, description="Each by its id.")
    seen: dict[UUID, str] = Field(
        default_factory=dict,
        description="What the dry run answered as `seen` of each: what stands otherwise by now is left.",
    )


class ReplayChange(IntentsChange):
    """To be tried again."""

    force: bool = Field(default=False, description="Also those that a later intent has overtaken.")


class DiscardChange(IntentsChange):
    """To be ended; the reason is kept with the intent."""

    reason: str = Field(min_length=1, max_length=500, description="Why.")


class SchedulesChange(Change):
    """Of some schedules."""

    schedules: tuple[Annotated[str, Field(pattern=f"^{SCHEDULE_ID}$")], ...] = Field(
        min_length=1, max_length=MOST, description="Each by its id."
    )
    seen: dict[str, str] = Field(default_factory=dict, description="As with intents.")


def _storable(value: str | None) -> str | None:
    if value is not None and "\0" in value:
        raise ValueError("it holds a NUL character")
    return value
