"""What requests may ask for: the parameters of pages and API calls, refused by name where they are wrong."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from starlette.datastructures import QueryParams

from outbox.audit.drift import DriftKind
from outbox.errors import ErrorCode
from outbox.flow.table import Kind, Status
from outbox.store.browse import Wanted
from outbox.store.replays import TOLERATED, WAVES
from outbox.when import moment, moment_ahead

MOST = 500
SCHEDULE_ID = r"[a-zA-Z0-9/_|\-=+]{1,1024}"
Number = Annotated[int, Field(ge=0, le=2**63 - 1)]
Limit = Annotated[int, Field(ge=1, le=MOST)]
# What is refused by a word of its own is in the API's document all the same.
Text = Annotated[str, Field(json_schema_extra={"pattern": "^[^\\u0000]*$"})]
Moment = Annotated[
    str,
    Field(
        max_length=40,
        json_schema_extra={"anyOf": [{"pattern": "^[0-9]{1,5}[smhd]$"}, {"format": "date-time"}]},
    ),
]


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
    agent: Text | None = Field(None, max_length=128, description="Of this agent.")
    schedule: Text | None = Field(None, max_length=200, description="A part of the schedule id.")
    code: ErrorCode | None = Field(None, description="The code of their error.")
    since: Moment | None = Field(None, description="Made since: 15m, 2h, 7d, or an ISO 8601 time.")
    until: Moment | None = Field(None, description="Made before.")
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


class AuditQuery(Query):
    """Which of what the audit has found."""

    kind: DriftKind | None = Field(None, description="Of this kind.")
    cursor: str | None = Field(
        None, pattern=f"^{SCHEDULE_ID}:[a-z_]+$", description="What the page before named as `next`."
    )
    limit: Limit = Field(50, description="At most so many.")

    @property
    def after(self) -> tuple[str, str] | None:
        """The same, as what was read last: a schedule id and a kind."""
        if self.cursor is None:
            return None
        schedule_id, _, kind = self.cursor.rpartition(":")
        return schedule_id, kind


class ReplaysQuery(Query):
    """Which replays in waves."""

    cursor: Number | None = Field(None, description="What the page before named as `next`.")
    limit: Limit = Field(20, description="At most so many.")


class ItemsQuery(Query):
    """Which intents of a replay."""

    cursor: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        None, description="What the page before named as `next`."
    )
    limit: Limit = Field(50, description="At most so many.")


class OperationsQuery(Query):
    """Which operations."""

    target: Text | None = Field(
        None, max_length=1000, description="Of this schedule id, or `authz`, `temporal`."
    )
    since: Moment | None = Field(None, description="Done since: 15m, 2h, 7d, or an ISO 8601 time.")
    cursor: Number | None = Field(None, description="What the page before named as `next`.")
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


class Because(BaseModel):
    """Why something is to be done."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Text | None = Field(None, max_length=500, description="Why; written down with what is done.")

    @field_validator("reason")
    @classmethod
    def _can_be_stored(cls, value: str | None) -> str | None:
        return _storable(value)


class Change(Because):
    """What is to be done, or (``dry_run``) only told of."""

    dry_run: bool = Field(description="Only tell what would happen to each.")


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

    reason: Text = Field(min_length=1, max_length=500, description="Why.")


class SchedulesChange(Change):
    """Of some schedules."""

    schedules: tuple[Annotated[str, Field(pattern=f"^{SCHEDULE_ID}$")], ...] = Field(
        min_length=1, max_length=MOST, description="Each by its id."
    )
    seen: dict[str, str] = Field(default_factory=dict, description="As with intents.")


class PlanChange(Because):
    """A replay in waves to be planned: of a whole group, or of some intents."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["group"],
                    "properties": {"group": {"type": "string"}, "intents": {"maxItems": 0}},
                },
                {
                    "required": ["intents"],
                    "properties": {"group": {"type": "null"}, "intents": {"minItems": 1}},
                },
            ]
        }
    )
    group: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_]+$", max_length=64, description="All of this group of failures."
    )
    intents: tuple[UUID, ...] = Field((), max_length=MOST, description="Or these, each by its id.")
    force: bool = Field(default=False, description="Also those that a later intent has overtaken.")
    tolerate: float = Field(
        TOLERATED, ge=0, le=1, description="It stops where more than this share of a wave fails again."
    )
    waves: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        WAVES, min_length=1, max_length=MOST, description="How many each replays; the last again and again."
    )

    @model_validator(mode="after")
    def _is_of_something(self) -> Self:
        if (self.group is None) == (not self.intents):
            raise ValueError("name a group, or intents")
        return self


class HaltChange(Change):
    """Of a store or a schedule that is halted, or is to be."""

    what: str = Field(
        pattern=f"^{SCHEDULE_ID}$", description="A store (`authz`, `temporal`), or a schedule by its id."
    )
    seen: str | None = Field(
        None, max_length=500, description="What the dry run answered as `seen`: another halt by now is left."
    )


class HoldChange(HaltChange):
    """To be halted; the reason is shown to everybody who asks why it waits."""

    reason: str = Field(pattern=r"\S", max_length=500, description="Why.")
    until: Moment | None = Field(
        None,
        description="End it by itself: in 30m, 2h, 1d, or at an ISO 8601 time; none: when it is released.",
    )

    @field_validator("until")
    @classmethod
    def _is_to_come(cls, value: str | None) -> str | None:
        if value is not None:
            moment_ahead("it is", value)
        return value

    @property
    def ends_at(self) -> datetime | None:
        """The same as a moment."""
        return moment_ahead("until", self.until) if self.until else None


def _storable(value: str | None) -> str | None:
    if value is not None and "\0" in value:
        raise ValueError("it holds a NUL character")
    return value
