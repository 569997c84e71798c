"""Requests: frozen models that refuse bad input by name, as the database does again for every language.

Each field has one rule and one reason. ``migrations/sql/0001_validation.sql`` says the same, in the same
order, and a property test holds the two together.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from outbox.errors import InvalidRequest

MAX_SECONDS = 315_360_000
"""Ten years. Longer intervals and time-outs are slips of the unit."""
MAX_DEPTH = 64
MAX_NUMBER = 1e308

_NAME = "must be 1 to 1000 characters, none of them a control character"
_SECONDS = f"must be a whole number from 1 to {MAX_SECONDS}"
_INSTANT = "must be a date and time of 1970 to 2999 with its offset, like 2026-03-01T09:00:00Z"
_SUBJECT = (
    "must be 1 to 1024 of a-z A-Z 0-9 / _ | - = + (SpiceDB takes no other id, such as an e-mail address)"
)

REASONS: Final = {
    "request": "must be an object",
    "kind": "must be create or delete",
    "agent_id": "must be 1 to 128 of A-Z a-z 0-9 _ - | / = +, without --, first and last not -",
    "name": "must be 1 to 64 of a-z 0-9 -, first and last not -",
    "workflow_name": _NAME,
    "task_queue": _NAME,
    "workflow_params": "must be a JSON object, nested less than 64 deep, with numbers within 1e308",
    "cron_expression": "must be 1 to 1000 characters",
    "interval_seconds": _SECONDS,
    "execution_timeout_seconds": _SECONDS,
    "start_at": _INSTANT,
    "end_at": _INSTANT,
    "paused": "must be true or false",
    "timezone": "must be 1 to 255 characters",
    "overlap_policy": "must be skip, buffer_one, buffer_all, cancel_other, terminate_other or allow_all",
    "principal": "must be an object",
    "principal.user_id": _SUBJECT,
    "principal.service_account_id": _SUBJECT,
    "principal.account_id": "must be 1 to 1024 of a-z A-Z 0-9 / _ | - = +",
    "idempotency_key": "must be 1 to 255 characters",
    "traceparent": "must be a W3C traceparent",
    "tracestate": "must be a W3C tracestate, at most 512 characters",
}
"""What a field must be, in words."""

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(3000, 1, 1, tzinfo=UTC)
_INSTANT_FORMAT = re.compile(
    r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
    r"(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
)


def _instant(value: datetime) -> datetime:
    if value.utcoffset() is None or not _EARLIEST <= value < _LATEST:
        raise ValueError(_INSTANT)
    return value.astimezone(UTC)


def _json_object(value: object) -> object:
    if isinstance(value, dict):
        return _json(value, "workflow_params", 0)
    return value


def _json(value: object, path: str, depth: int) -> object:
    """Copy what is JSON, so that nobody can change it afterwards; name the path of what is not."""
    if depth >= MAX_DEPTH:
        raise _at(path, f"is nested {MAX_DEPTH} deep; less is allowed")
    match value:
        case None | bool():
            return value
        case str():
            return _json_text(value, path)
        case int() | float():
            if not -MAX_NUMBER <= value <= MAX_NUMBER:
                raise _at(path, "must be a number within 1e308")
            return value
        case dict():
            return {
                _json_key(key, path): _json(item, f"{path}.{key}", depth + 1) for key, item in value.items()
            }
        case list():
            return [_json(item, f"{path}.{place}", depth + 1) for place, item in enumerate(value)]
        case _:
            raise _at(path, f"must be JSON, not {type(value).__name__}")


def _json_key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise _at(path, f"has a key that is no string: {key!r:.100}")
    return _json_text(key, path)


def _json_text(text: str, path: str) -> str:
    if "\0" in text or (not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)):
        raise _at(path, "has a character that Postgres can't store (NUL, or half of a surrogate pair)")
    return text


def _at(path: str, reason: str) -> PydanticCustomError:
    # A key may be as long as the request, and no text at all.
    safe = path[:200].encode("utf-8", "backslashreplace").decode()
    return PydanticCustomError("at", "{reason}", {"path": safe, "reason": reason})


_Name = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Seconds = Annotated[int, Field(ge=1, le=MAX_SECONDS)]
_Instant = Annotated[datetime, AfterValidator(_instant)]
_Json = Annotated[dict[str, Any], BeforeValidator(_json_object)]
_SpiceId = Annotated[str, Field(max_length=1024, pattern=r"^[a-zA-Z0-9/_|=+-]+$")]
_AgentId = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9_|/=+]+(-[A-Za-z0-9_|/=+]+)*$")]
_ScheduleName = Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]

OverlapPolicy = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]


def _text(longest: int) -> Any:
    return Field(min_length=1, max_length=longest, pattern=r"^[^\x00]+$")


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
    user_id: _SpiceId | None = None
    service_account_id: _SpiceId | None = None
    account_id: _SpiceId | None = None

    @model_validator(mode="after")
    def _one_owner(self) -> Self:
        if self.user_id is not None and self.service_account_id is not None:
            raise _at("principal", "has user_id or service_account_id, not both")
        return self


class _Request(_Model):
    kind: ClassVar[str]
    agent_id: _AgentId
    name: _ScheduleName

    @property
    def schedule_id(self) -> str:
        """``{agent_id}--{name}``; unambiguous, as no agent id has ``--`` in it or ends with ``-``."""
        return f"{self.agent_id}--{self.name}"


class CreateSchedule(_Request):
    """Asks for a schedule: a recurring run of a workflow. Its workflow id is ``{schedule_id}-run``.

    Raises ``InvalidRequest`` naming the field. Whether a cron expression or a time zone means anything is
    Temporal's to judge: a bad one fails the intent later.

    Attributes:
        workflow_params: the workflow's single argument, a JSON object; None: no argument.
        cron_expression: or ``interval_seconds``; exactly one of the two.
        start_at: no run before; kept in UTC.
        end_at: no run after; kept in UTC.
        timezone: an IANA name, for ``cron_expression``.
        overlap_policy: what happens when a run is due while the one before still runs; Temporal's names.
    """

    kind = "create"
    workflow_name: _Name
    task_queue: _Name
    workflow_params: _Json | None = None
    cron_expression: Annotated[str, _text(1000)] | None = None
    interval_seconds: _Seconds | None = None
    execution_timeout_seconds: _Seconds | None = None
    start_at: _Instant | None = None
    end_at: _Instant | None = None
    paused: bool = False
    timezone: Annotated[str, _text(255)] | None = None
    overlap_policy: OverlapPolicy = "skip"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.cron_expression is None) == (self.interval_seconds is None):
            raise _at("cron_expression", "must be given, or interval_seconds, and not both")
        if self.start_at and self.end_at and self.end_at <= self.start_at:
            raise _at("end_at", "must be after start_at")
        return self


class DeleteSchedule(_Request):
    """Asks for a schedule, and its relationships in SpiceDB, to be removed."""

    kind = "delete"


class Envelope(_Model):
    """What goes with a request and is not part of it."""

    idempotency_key: Annotated[str, _text(255)] | None = None
    traceparent: (
        Annotated[str, Field(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")] | None
    ) = None
    tracestate: Annotated[str, Field(max_length=512, pattern=r"^[ -~]+$")] | None = None


class Entry(NamedTuple):
    """A request with all that goes with it; an item for ``enqueue_many``."""

    request: CreateSchedule | DeleteSchedule
    principal: Principal
    idempotency_key: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None


def parse(json_object: object) -> Entry:
    """Read a request as the SQL function takes it, such as a line of a JSON Lines file.

    Null and absent are the same. Raises ``InvalidRequest`` naming the field.
    """
    if not isinstance(json_object, dict):
        raise InvalidRequest("request", REASONS["request"])
    kind = json_object.get("kind")
    if kind not in (None, "create", "delete"):
        raise InvalidRequest("kind", REASONS["kind"])
    model = DeleteSchedule if kind == "delete" else CreateSchedule
    around = {"kind", "principal", *Envelope.model_fields}
    fields = {name: value for name, value in json_object.items() if name not in around}
    request = model(**_without_nulls(model, fields))
    principal = json_object.get("principal")
    if not isinstance(principal, dict | None):
        raise InvalidRequest("principal", REASONS["principal"])
    return Entry(
        request,
        Principal(**_without_nulls(Principal, principal or {})),
        **Envelope(**{name: json_object.get(name) for name in Envelope.model_fields}).model_dump(),
    )


def _without_nulls(model: type[BaseModel], fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _read_instant(value) if name in {"start_at", "end_at"} else value
        for name, value in fields.items()
        if value is not None or name not in model.model_fields
    }


def _read_instant(value: object) -> object:
    if isinstance(value, str) and _INSTANT_FORMAT.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:  # no such day; the model refuses the text
            return value
    return value
