"""Requests: frozen models that refuse bad input by name, as the database does again for every language."""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from outbox.errors import InvalidRequest
from outbox.producer.changes import UNSET, Change
from outbox.producer.fields import (
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
    wrong,
)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    prefix: ClassVar[str] = ""
    rules: ClassVar[str] = ""
    """What must be true of several fields at once, for who reads the JSON schema."""

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _invalid(error, self.prefix) from None

    # Within another validation, such as a web framework's of a body, pydantic goes past it as past its own:
    # each error keeps its place there.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> dict[str, Any]:
        """Say in words, too, what each field must be."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        (about, *_) = (cls.__doc__ or "").split("\n\n")
        schema["description"] = " ".join([*about.split(), cls.rules]).strip()
        for name, field in schema["properties"].items():
            field["description"] = REASONS[cls.prefix + name]
            if cls.model_fields[name].default is UNSET:
                del field["default"]
        return schema

    def to_json(self) -> dict[str, Any]:
        """What is sent of it: JSON, without what is left at its default."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, field in type(self).model_fields.items()
            if (value := getattr(self, name)) != field.default
        }


def _invalid(error: ValidationError, prefix: str) -> InvalidRequest:
    first = error.errors(include_url=False)[0]
    path = [str(place)[:100] for place in first["loc"]]
    field = prefix + path[0] if path else prefix.rstrip(".") or "request"
    match first["type"]:
        case "invalid":
            return InvalidRequest(".".join([field, *path[1:]])[:200], first["msg"])
        case "extra_forbidden":
            return InvalidRequest(field, "is not a known field")
        case _:
            return InvalidRequest(field, REASONS[field])


class Principal(_Model):
    """Who asks: the schedule's owner in SpiceDB, and the account that the calls are made for.

    With neither a user nor a service account nothing is registered. The ids are SpiceDB object ids, so an
    e-mail address is not possible.
    """

    prefix = "principal."
    rules = "It has user_id or service_account_id, not both."
    user_id: SpiceId | None = None
    service_account_id: SpiceId | None = None
    account_id: SpiceId | None = None

    @model_validator(mode="after")
    def _one_owner(self) -> Self:
        if self.user_id is not None and self.service_account_id is not None:
            raise wrong("has user_id or service_account_id, not both")
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
        raise at(("end_at",), "must be after start_at")
    if _is_given(request.workflow_params) and _is_given(request.workflow_args):
        raise at(("workflow_args",), "must not be given beside workflow_params")


class CreateSchedule(_Request):
    """Asks for a schedule: a recurring run of a workflow. Its workflow id is ``{schedule_id}-run``.

    Raises ``InvalidRequest`` naming the field. Whether a cron expression, a time zone or a search attribute
    means anything is Temporal's to judge: a bad one fails the intent later.

    Attributes:
        workflow_params: the workflow's single argument, a JSON object; None: no argument.
        workflow_args: of a workflow that takes another argument, or several; all of them, JSON values.
        cron_expression: or ``interval_seconds``; exactly one of the two.
        start_at: no run before; a text or a datetime, with its offset; kept in UTC.
        end_at: no run after; likewise.
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
    rules = (
        "Exactly one of cron_expression and interval_seconds must be given, at most one of workflow_params"
        " and workflow_args; end_at must be after start_at."
    )
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
            raise at(("cron_expression",), "must be given, or interval_seconds, and not both")
        _consistent(self)
        return self


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
    rules = (
        "A field must be named beside agent_id and name; at most one of cron_expression and interval_seconds,"
        " and of workflow_params and workflow_args; end_at must be after start_at."
    )
    workflow_name: Change[Name] = UNSET
    task_queue: Change[Name] = UNSET
    workflow_params: Change[Params | None] = UNSET
    workflow_args: Change[Args | None] = UNSET
    cron_expression: Change[Annotated[str, text(1000)]] = UNSET
    interval_seconds: Change[Seconds] = UNSET
    execution_timeout_seconds: Change[Seconds | None] = UNSET
    start_at: Change[Instant | None] = UNSET
    end_at: Change[Instant | None] = UNSET
    paused: Change[bool] = UNSET
    timezone: Change[Annotated[str, text(255)] | None] = UNSET
    overlap_policy: Change[OverlapPolicy] = UNSET
    jitter_seconds: Change[Seconds | None] = UNSET
    catchup_window_seconds: Change[CatchupSeconds | None] = UNSET
    pause_on_failure: Change[bool] = UNSET
    note: Change[Annotated[str, text(1000)] | None] = UNSET
    retry_policy: Change[RetryPolicy | None] = UNSET
    memo: Change[Memo | None] = UNSET
    search_attributes: Change[SearchAttributes | None] = UNSET

    def __init__(self, /, **fields: Any) -> None:
        super().__init__(**{name: value for name, value in fields.items() if value is not UNSET})

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if _is_given(self.cron_expression) and _is_given(self.interval_seconds):
            raise at(("cron_expression",), "must be given, or interval_seconds, and not both")
        _consistent(self)
        if not self.changes:
            raise wrong("must change something: name a field")
        return self

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if getattr(self, name) is not UNSET}

    @property
    def changes(self) -> frozenset[str]:
        """The names of the fields that it changes."""
        return frozenset(self.model_fields_set.difference(_Request.model_fields))


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
    """Leave out what is null, save fields whose null says something."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None or name in kept or name not in model.model_fields
    }
