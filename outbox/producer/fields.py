"""The fields of a request: what each may hold, one rule and one reason a field.

``migrations/sql`` says the same, in the same order, and a property test holds the two together.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

MAX_SECONDS = 315_360_000
"""Ten years. Longer intervals and time-outs are slips of the unit."""
MIN_CATCHUP_SECONDS = 10
"""Temporal takes no shorter catch-up window."""
MAX_ARGS = 100
MAX_BACKOFF = 1000
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
    "kind": "must be create, update or delete",
    "agent_id": "must be 1 to 128 of A-Z a-z 0-9 _ - | / = +, without --, first and last not -",
    "name": "must be 1 to 64 of a-z 0-9 -, first and last not -",
    "workflow_name": _NAME,
    "task_queue": _NAME,
    "workflow_params": "must be a JSON object, nested less than 64 deep, with numbers within 1e308",
    "workflow_args": "must be a JSON array of 1 to 100, nested less than 64 deep, with numbers within 1e308,"
    " and not of one object alone (which is workflow_params)",
    "cron_expression": "must be 1 to 1000 characters",
    "interval_seconds": _SECONDS,
    "execution_timeout_seconds": _SECONDS,
    "start_at": _INSTANT,
    "end_at": _INSTANT,
    "paused": "must be true or false",
    "timezone": "must be 1 to 255 characters",
    "overlap_policy": "must be skip, buffer_one, buffer_all, cancel_other, terminate_other or allow_all",
    "jitter_seconds": _SECONDS,
    "catchup_window_seconds": f"must be a whole number from {MIN_CATCHUP_SECONDS} to {MAX_SECONDS}",
    "pause_on_failure": "must be true or false",
    "note": "must be 1 to 1000 characters",
    "retry_policy": "must be an object of initial_interval_seconds, maximum_interval_seconds,"
    " maximum_attempts (whole numbers from 1) and backoff_coefficient (1 to 1000)",
    "memo": "must be a JSON object, nested less than 64 deep, with numbers within 1e308,"
    " without a key outbox_…",
    "search_attributes": "must be an object of texts, numbers, true or false, and arrays of texts",
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


def _read_instant(value: object) -> object:
    """Read a time from text, as JSON has it."""
    if isinstance(value, str) and _INSTANT_FORMAT.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:  # no such day
            pass
    elif isinstance(value, datetime):
        return value
    raise wrong(_INSTANT)


def _instant(value: datetime) -> datetime:
    if value.utcoffset() is None or not _EARLIEST <= value < _LATEST:
        raise wrong(_INSTANT)
    return value.astimezone(UTC)


def _json_object(value: object) -> object:
    return _json(value, (), 0) if isinstance(value, dict) else value


def _args(value: object) -> object:
    if not isinstance(value, list):
        return value
    if not 1 <= len(value) <= MAX_ARGS or (len(value) == 1 and isinstance(value[0], dict)):
        raise wrong(REASONS["workflow_args"])
    # The list itself is no level of an argument.
    return [_json(item, ((), place), 0) for place, item in enumerate(value)]


def _memo(value: object) -> object:
    if isinstance(value, dict) and any(isinstance(key, str) and key.startswith("outbox_") for key in value):
        raise wrong(REASONS["memo"])
    return _json_object(value)


def _search_attributes(value: object) -> object:
    if isinstance(value, dict) and not all(_is_attribute(one) for one in value.values()):
        raise wrong(REASONS["search_attributes"])
    return _json_object(value)


def _is_attribute(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    return isinstance(value, str | bool | int | float)


_RETRY: Final[dict[str, Callable[[object], bool]]] = {
    "initial_interval_seconds": lambda value: _is_whole(value, MAX_SECONDS),
    "maximum_interval_seconds": lambda value: _is_whole(value, MAX_SECONDS),
    "maximum_attempts": lambda value: _is_whole(value, MAX_SECONDS),
    "backoff_coefficient": lambda value: _is_number(value) and 1 <= value <= MAX_BACKOFF,  # type: ignore[operator]
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _retry_policy(value: object) -> object:
    if isinstance(value, dict) and not all(
        name in _RETRY and _RETRY[name](one) for name, one in value.items()
    ):
        raise wrong(REASONS["retry_policy"])
    return dict(value) if isinstance(value, dict) else value


def _json(value: object, path: tuple[Any, ...], depth: int) -> object:
    """Copy what is JSON, so that nobody can change it afterwards; name the path of what is not.

    A path is the path of what it is in, and its place there: joined only where something is wrong.
    """
    if depth >= MAX_DEPTH:
        raise at(_places(path), f"is nested {MAX_DEPTH} deep; less is allowed")
    match value:
        case None | bool():
            return value
        case str():
            return _json_text(value, path)
        case int() | float():
            if not -MAX_NUMBER <= value <= MAX_NUMBER:
                raise at(_places(path), "must be a number within 1e308")
            return value
        case dict():
            return {_json_key(key, path): _json(item, (path, key), depth + 1) for key, item in value.items()}
        case list():
            return [_json(item, (path, place), depth + 1) for place, item in enumerate(value)]
        case _:
            raise at(_places(path), f"must be JSON, not {type(value).__name__}")


def _json_key(key: object, path: tuple[Any, ...]) -> str:
    if not isinstance(key, str):
        raise at(_places(path), f"has a key that is no string: {key!r:.100}")
    return _json_text(key, path)


def _json_text(text: str, path: tuple[Any, ...]) -> str:
    if "\0" in text or (not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)):
        raise at(
            _places(path), "has a character that Postgres can't store (NUL, or half of a surrogate pair)"
        )
    return text


def _places(path: tuple[Any, ...]) -> tuple[int | str, ...]:
    places: list[int | str] = []
    while path:
        path, place = path
        # A key may be as long as the request, and no text at all.
        safe = place if isinstance(place, int) else place[:200].encode("utf-8", "backslashreplace").decode()
        places.append(safe)
    return tuple(reversed(places))


def wrong(reason: str) -> PydanticCustomError:
    """Say what a value must be, as a web framework shows it."""
    return PydanticCustomError("invalid", "{reason}", {"reason": reason})


def at(places: tuple[int | str, ...], reason: str) -> ValidationError:
    """Say what is wrong, and where in the value that is being judged."""
    return ValidationError.from_exception_data(
        "request", [InitErrorDetails(type=wrong(reason), loc=places, input=None)]
    )


Name = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]
Seconds = Annotated[int, Field(ge=1, le=MAX_SECONDS)]
Instant = Annotated[datetime, BeforeValidator(_read_instant), AfterValidator(_instant)]
Params = Annotated[dict[str, Any], BeforeValidator(_json_object)]
Args = Annotated[
    list[Any],
    BeforeValidator(_args),
    WithJsonSchema({"type": "array", "items": {}, "minItems": 1, "maxItems": MAX_ARGS}),
]
Memo = Annotated[
    dict[str, Any],
    BeforeValidator(_memo),
    WithJsonSchema({"type": "object", "propertyNames": {"not": {"pattern": "^outbox_"}}}),
]
_ATTRIBUTE: Final = {
    "anyOf": [
        {"type": "string"},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "array", "items": {"type": "string"}},
    ]
}
SearchAttributes = Annotated[
    dict[str, Any],
    BeforeValidator(_search_attributes),
    WithJsonSchema({"type": "object", "additionalProperties": _ATTRIBUTE}),
]
_WHOLE: Final = {"type": "integer", "minimum": 1, "maximum": MAX_SECONDS}
RetryPolicy = Annotated[
    dict[str, Any],
    BeforeValidator(_retry_policy),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                "initial_interval_seconds": _WHOLE,
                "maximum_interval_seconds": _WHOLE,
                "maximum_attempts": _WHOLE,
                "backoff_coefficient": {"type": "number", "minimum": 1, "maximum": MAX_BACKOFF},
            },
            "additionalProperties": False,
        }
    ),
]
CatchupSeconds = Annotated[int, Field(ge=MIN_CATCHUP_SECONDS, le=MAX_SECONDS)]
SpiceId = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[a-zA-Z0-9/_|=+-]+$")]
AgentId = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_|/=+]+(-[A-Za-z0-9_|/=+]+)*$")
]
ScheduleName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]

OverlapPolicy = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]


def text(longest: int) -> Any:
    """A text of 1 to so many characters."""
    return Field(min_length=1, max_length=longest, pattern=r"^[^\x00]+$")
