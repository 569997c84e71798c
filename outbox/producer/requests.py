"""Requests: frozen models that refuse bad input by name, as the database does again for every language."""

from collections.abc import Collection
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, ClassVar, Final, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from outbox.errors import InvalidRequest
from outbox.producer.fields import (
    INSTANT_FORMAT,
    REASONS,
    AgentId,
    Args,
    CatchupSeconds,
    Instant,
    Memo,
    Name,
    OverlapPolicy,
    Params,
    RetryPolicy,
    ScheduleName,
    SearchAttributes,
    Seconds,
    SpiceId,
    at,
    text,
)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    prefix: ClassVar[str] = ""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _invalid(error, self.prefix) from None

    def to_json(self) -> dict[str, Any]:
        """What is sent of it: JSON, without what is left at its default."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, field in type(self).model_fields.items()
            if (value := getattr(self, name)) != field.default
        }


def _invalid(error: ValidationError, prefix: str) -> InvalidRequest:
    first = error.errors(include_url=False)[0]
    context = first.get("ctx", {})
    if first["type"] == "at":
        return InvalidRequest(context["path"], context["reason"])
    field = prefix + str(first["loc"][0])[:100]
    if first["type"] == "extra_forbidden":
        return InvalidRequest(field, "is not a known field")
    return InvalidRequest(field, REASONS[field])


class Principal(_Model):
    """Who asks: the schedule's owner in SpiceDB, and the account that the calls are made for.

    With neither a user nor a service account nothing is registered. The ids are SpiceDB object ids, so an
    e-mail address is not possible.
    """

    prefix = "principal."
    user_id: SpiceId | None = None
    service_account_id: SpiceId | None = None
    account_id: SpiceId | None = None

    @model_validator(mode="after")
    def _one_owner(self) -> Self:
        if self.user_id is not None and self.service_account_id is not None:
            raise at("principal", "has user_id or service_account_id, not both")
        return self


class _Request(_Model):
    kind: ClassVar[str]
    agent_id: AgentId
    name: ScheduleName

    @property
    def schedule_id(self) -> str:
        """``{agent_id}--{name}``; unambiguous, as no agent id has ``--`` in it or ends with ``-``."""
        return f"{self.agent_id}--{self.name}"


def _consistent(request: "CreateSchedule | UpdateSchedule") -> None:
    """Refuse fields that contradict each other."""
    start, end = request.start_at, request.end_at
    if isinstance(start, datetime) and isinstance(end, datetime) and end <= start:
        raise at("end_at", "must be after start_at")
    if _is_given(request.workflow_params) and _is_given(request.workflow_args):
        raise at("workflow_args", "must not be given beside workflow_params")


class CreateSchedule(_Request):
    """Asks for a schedule: a recurring run of a workflow. Its workflow id is ``{schedule_id}-run``.

    Raises ``InvalidRequest`` naming the field. Whether a cron expression, a time zone or a search attribute
    means anything is Temporal's to judge: a bad one fails the intent later.

    Attributes:
        workflow_params: the workflow's single argument, a JSON object; None: no argument.
        workflow_args: of a workflow that takes another argument, or several; all of them, JSON values.
        cron_expression: or ``interval_seconds``; exactly one of the two.
        start_at: no run before; kept in UTC.
        end_at: no run after; kept in UTC.
        paused: it stands, and starts nothing.
        timezone: an IANA name, for ``cron_expression``.
        overlap_policy: what happens when a run is due while the one before still runs; Temporal's names.
        jitter_seconds: each run starts so much later at most, by chance.
        catchup_window_seconds: how late a run may start that was missed; default: Temporal's, a year.
        pause_on_failure: the schedule pauses when a run fails.
        note: what people read beside the schedule.
        retry_policy: of the workflow: ``initial_interval_seconds``, ``backoff_coefficient``,
            ``maximum_interval_seconds``, ``maximum_attempts``; default: none, it isn't retried.
        memo: of each started workflow; JSON.
        search_attributes: of each started workflow, by names that the namespace knows.
    """

    kind = "create"
    workflow_name: Name
    task_queue: Name
    workflow_params: Params | None = None
    workflow_args: Args | None = None
    cron_expression: Annotated[str, text(1000)] | None = None
    interval_seconds: Seconds | None = None
    execution_timeout_seconds: Seconds | None = None
    start_at: Instant | None = None
    end_at: Instant | None = None
    paused: bool = False
    timezone: Annotated[str, text(255)] | None = None
    overlap_policy: OverlapPolicy = "skip"
    jitter_seconds: Seconds | None = None
    catchup_window_seconds: CatchupSeconds | None = None
    pause_on_failure: bool = False
    note: Annotated[str, text(1000)] | None = None
    retry_policy: RetryPolicy | None = None
    memo: Memo | None = None
    search_attributes: SearchAttributes | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.cron_expression is None) == (self.interval_seconds is None):
            raise at("cron_expression", "must be given, or interval_seconds, and not both")
        _consistent(self)
        return self


class Unset(Enum):
    """The type of ``UNSET``."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "outbox.UNSET"


UNSET: Final = Unset.UNSET
"""Of a field of ``UpdateSchedule``: it stays as it is. What is left out is so, too."""


def _is_given(value: object) -> bool:
    return value is not None and value is not UNSET


class UpdateSchedule(_Request):
    """Asks for fields of a live schedule to be changed; what is left out, or ``outbox.UNSET``, stays so.

    None clears a field that ``CreateSchedule`` can do without. Setting one of ``cron_expression`` and
    ``interval_seconds`` clears the other, as does setting one of ``workflow_params`` and ``workflow_args``.
    Raises ``InvalidRequest`` naming the field, also where nothing is to be changed.

    Attributes: as of ``CreateSchedule``.
    """

    kind = "update"
    workflow_name: Name | Unset = UNSET
    task_queue: Name | Unset = UNSET
    workflow_params: Params | Unset | None = UNSET
    workflow_args: Args | Unset | None = UNSET
    cron_expression: Annotated[str, text(1000)] | Unset = UNSET
    interval_seconds: Seconds | Unset = UNSET
    execution_timeout_seconds: Seconds | Unset | None = UNSET
    start_at: Instant | Unset | None = UNSET
    end_at: Instant | Unset | None = UNSET
    paused: bool | Unset = UNSET
    timezone: Annotated[str, text(255)] | Unset | None = UNSET
    overlap_policy: OverlapPolicy | Unset = UNSET
    jitter_seconds: Seconds | Unset | None = UNSET
    catchup_window_seconds: CatchupSeconds | Unset | None = UNSET
    pause_on_failure: bool | Unset = UNSET
    note: Annotated[str, text(1000)] | Unset | None = UNSET
    retry_policy: RetryPolicy | Unset | None = UNSET
    memo: Memo | Unset | None = UNSET
    search_attributes: SearchAttributes | Unset | None = UNSET

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if _is_given(self.cron_expression) and _is_given(self.interval_seconds):
            raise at("cron_expression", "must be given, or interval_seconds, and not both")
        _consistent(self)
        if not self.changes:
            raise at("request", "must change something: name a field")
        return self

    @property
    def changes(self) -> frozenset[str]:
        """The names of the fields that it changes."""
        return frozenset(name for name in self.to_json() if name not in _Request.model_fields)


class DeleteSchedule(_Request):
    """Asks for a schedule, and its relationships in SpiceDB, to be removed."""

    kind = "delete"


Request = CreateSchedule | UpdateSchedule | DeleteSchedule


class Envelope(_Model):
    """What goes with a request and is not part of it."""

    idempotency_key: Annotated[str, text(255)] | None = None
    traceparent: (
        Annotated[str, Field(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")] | None
    ) = None
    tracestate: Annotated[str, Field(max_length=512, pattern=r"^[ -~]+$")] | None = None


class Entry(NamedTuple):
    """A request with all that goes with it; an item for ``enqueue_many``."""

    request: Request
    principal: Principal
    idempotency_key: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None


_MODELS: Final[dict[str, type[Request]]] = {
    model.kind: model for model in (CreateSchedule, UpdateSchedule, DeleteSchedule)
}


def parse(json_object: object) -> Entry:
    """Read a request as the SQL function takes it, such as a line of a JSON Lines file.

    Null and absent are the same, save what an update changes. Raises ``InvalidRequest`` naming the field.
    """
    if not isinstance(json_object, dict):
        raise InvalidRequest("request", REASONS["request"])
    kind = "create" if json_object.get("kind") is None else json_object["kind"]
    if not isinstance(kind, str) or kind not in _MODELS:
        raise InvalidRequest("kind", REASONS["kind"])
    model = _MODELS[kind]
    around = {"kind", "principal", *Envelope.model_fields}
    kept = model.model_fields.keys() - _Request.model_fields.keys() if model is UpdateSchedule else ()
    fields = {name: value for name, value in json_object.items() if name not in around}
    request = model(**_read(model, fields, kept))
    principal = json_object.get("principal")
    if not isinstance(principal, dict | None):
        raise InvalidRequest("principal", REASONS["principal"])
    return Entry(
        request,
        Principal(**_read(Principal, principal or {})),
        **Envelope(**{name: json_object.get(name) for name in Envelope.model_fields}).model_dump(),
    )


def _read(model: type[BaseModel], fields: dict[str, Any], kept: Collection[str] = ()) -> dict[str, Any]:
    """Read times from text, and leave out what is null, save fields whose null says something."""
    return {
        name: _read_instant(value) if name in {"start_at", "end_at"} else value
        for name, value in fields.items()
        if value is not None or name in kept or name not in model.model_fields
    }


def _read_instant(value: object) -> object:
    if isinstance(value, str) and INSTANT_FORMAT.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:  # no such day; the model refuses the text
            return value
    return value
