"""What requests may ask for: the parameters of pages and API calls, refused by name where they are wrong."""

from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.datastructures import QueryParams

from outbox.errors import ErrorCode
from outbox.flow.table import Kind, Status
from outbox.store.browse import Wanted
from outbox.when import moment

Limit = Annotated[int, Field(ge=1, le=500)]


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
        if value is not None and "\0" in value:
            raise ValueError("it holds a NUL character")
        return value

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
