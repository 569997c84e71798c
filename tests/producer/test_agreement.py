"""Python's models and the SQL function judge every request alike, and name the same field."""

import json
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from outbox import CreateSchedule, DeleteSchedule, InvalidRequest, UpdateSchedule, parse
from outbox.producer.requests import Request

SCHEMAS = {
    model: Draft202012Validator(model.model_json_schema())
    for model in (CreateSchedule, UpdateSchedule, DeleteSchedule)
}
PLAIN = st.characters(codec="utf-8", exclude_characters="\0")
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1e308, 10**309])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(PLAIN),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(PLAIN, max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
IDS = st.text("aZ09/_|-=+", min_size=1, max_size=20)
SECONDS = st.integers(1, 315_360_000)
# Near enough to right that the border is met often: digits go over the months' ends, offsets over the hours'.
INSTANTS = st.builds(
    "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}{}".format,
    st.sampled_from([999, 1969, 1970, 1999, 2000, 2024, 2026, 2100, 2400, 2999, 3000]),
    st.integers(0, 13),
    st.integers(0, 32),
    st.integers(0, 24),
    st.integers(0, 60),
    st.integers(0, 60),
    st.sampled_from(["", ".5", ".123456", ".1234567", "."]),
    st.sampled_from(["Z", "+00:00", "-14:00", "+14:59", "+15:00", "-00:00", "", "z", "+0100"]),
)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "agent_id": IDS.filter(lambda s: "--" not in s and s.strip("-") == s),
    "name": st.from_regex(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", fullmatch=True),
    "workflow_name": st.text(st.characters(codec="utf-8", categories=["L", "N", "S"]), min_size=1),
    "task_queue": st.text(st.characters(codec="utf-8", categories=["L", "N", "S"]), min_size=1),
    "workflow_params": st.dictionaries(st.text(PLAIN), JSON, max_size=3),
    "workflow_args": st.lists(JSON, max_size=3),
    "cron_expression": st.text(PLAIN, min_size=1),
    "interval_seconds": SECONDS,
    "execution_timeout_seconds": SECONDS,
    "start_at": INSTANTS,
    "end_at": INSTANTS,
    "paused": st.booleans(),
    "timezone": st.text(PLAIN, min_size=1),
    "overlap_policy": st.sampled_from(["skip", "buffer_one", "terminate_other"]),
    "jitter_seconds": SECONDS,
    "catchup_window_seconds": st.integers(9, 315_360_000),
    "pause_on_failure": st.booleans(),
    "note": st.text(PLAIN, min_size=1),
    "retry_policy": st.dictionaries(
        st.sampled_from(["initial_interval_seconds", "maximum_attempts", "backoff_coefficient", "bogus"]),
        st.integers(0, 1001) | st.floats(0.5, 1001) | JSON,
        max_size=2,
    ),
    "memo": st.dictionaries(st.text(PLAIN) | st.just("outbox_revision"), JSON, max_size=3),
    "search_attributes": st.dictionaries(
        st.text(PLAIN, min_size=1),
        st.text(PLAIN) | NUMBERS | st.booleans() | st.lists(st.text(PLAIN), max_size=2) | JSON,
        max_size=3,
    ),
    "principal": st.fixed_dictionaries(
        {}, optional={"user_id": IDS, "service_account_id": IDS, "account_id": IDS | st.none()}
    ),
    "idempotency_key": st.text(PLAIN, min_size=1, max_size=255),
    "traceparent": st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    "tracestate": st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1),
    "kind": st.sampled_from(["create", "create", "update", "update", "delete", None]),
}
AROUND = ("principal", "idempotency_key", "traceparent", "tracestate", "kind")
REQUIRED = ("agent_id", "name", "workflow_name", "task_queue")
WRONG = (
    JSON
    | st.text("a-A1|@* \n\x7f\x9f", max_size=5)
    | INSTANTS
    | st.sampled_from(["x" * n for n in (64, 65, 128, 129, 255, 256, 512, 513, 1000, 1001, 1024, 1025)])
    | st.sampled_from([0, 1, -1, 315_360_000, 315_360_001, 5.0, 1e2, True])
    | st.fixed_dictionaries({"user_id": JSON}, optional={"bogus": JSON, "service_account_id": IDS})
)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request that is right, or wrong in a few places."""
    optional = {name: good for name, good in GOOD.items() if name not in REQUIRED}
    request = draw(st.fixed_dictionaries({name: GOOD[name] for name in REQUIRED}, optional=optional))
    if draw(st.booleans()):
        request.pop(draw(st.sampled_from(["cron_expression", "interval_seconds"])), None)
    if request.get("kind") == "delete" and draw(st.integers(0, 9)):
        request = {name: value for name, value in request.items() if name in {*REQUIRED[:2], *AROUND}}
    if draw(st.booleans()):
        request.pop(draw(st.sampled_from(["workflow_params", "workflow_args"])), None)
    if request.get("kind") == "update":
        # Which names a few of the fields, and clears some.
        named = draw(st.sets(st.sampled_from(sorted({*GOOD} - {*AROUND, *REQUIRED[:2]})), max_size=4))
        request = {name: value for name, value in request.items() if name in {*REQUIRED[:2], *AROUND, *named}}
        request |= dict.fromkeys(draw(st.sets(st.sampled_from(sorted(GOOD)), max_size=1)))
    return request | draw(st.dictionaries(st.sampled_from([*GOOD, "bogus"]), WRONG, max_size=2))


def judged_by_python(request: object) -> tuple[str, str] | None:
    try:
        parse(request)
    except InvalidRequest as error:
        field = error.field if error.field.startswith("principal") else error.field.split(".")[0]
        return field, error.reason
    return None


def judged_by_sql(connection: psycopg.Connection, request: object) -> tuple[str, str] | None:
    row = connection.execute(
        "SELECT outbox.request_error(%s::jsonb, 1000000)", (json.dumps(request, ensure_ascii=False),)
    ).fetchone()
    assert row
    return row[0] and tuple(row[0])


PLAIN_REQUEST: dict[str, Any] = {
    "kind": "create",
    "agent_id": "a",
    "name": "n",
    "workflow_name": "W",
    "task_queue": "q",
    "workflow_params": {"a": 1},
    "cron_expression": "0 9 * * *",
    "timezone": "Europe/Berlin",
    "idempotency_key": "k",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "principal": {"user_id": "u", "account_id": "c"},
}
ANYTHING: list[Any] = [
    None,
    True,
    5,
    -1,
    1e300,
    1e309,
    "",
    " ",
    "\n",
    "é",
    "x" * 300,
    "5",
    [],
    [[]],
    ["a"],
    {},
    {"a": "b"},
]


def test_what_is_plain_to_sql_is_right(connection: psycopg.Connection) -> None:
    """Plain requests are judged by one expression, which knows fewer of them, and none that is wrong."""
    changed = [PLAIN_REQUEST | {name: value} for name in [*PLAIN_REQUEST, "bogus"] for value in ANYTHING]
    changed += [
        PLAIN_REQUEST | {"principal": {name: value}}
        for name in ("user_id", "account_id", "service_account_id", "bogus")
        for value in ANYTHING
    ]
    changed += [PLAIN_REQUEST | {"cron_expression": None, "interval_seconds": value} for value in ANYTHING]
    rows = connection.execute(
        """SELECT r, outbox.is_plain(r, 1000000), outbox.request_error(r, 1000000)
             FROM jsonb_array_elements(%s::jsonb) AS r""",
        (json.dumps([PLAIN_REQUEST, *changed], ensure_ascii=False).replace("Infinity", "1e309"),),
    ).fetchall()
    assert [row for row in rows if row[1] and row[2]] == []
    assert rows[0][1] is True


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=requests() | JSON)
@example(request=None)
@example(request={})
@example(request={"agent_id": "a", "name": "n", "kind": "repair"})
def test_python_and_sql_agree(connection: psycopg.Connection, request: object) -> None:
    python, sql = judged_by_python(request), judged_by_sql(connection, request)
    paths = {"workflow_params", "workflow_args", "memo", "search_attributes"}
    if python and sql and python[0] == sql[0] and python[0] in paths:
        return  # Python names the path too
    if python and sql and python[1] == sql[1] == "is not a known field":
        return  # which of several is of no matter
    assert python == sql


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(instant=INSTANTS)
@example(instant="2000-02-29T00:00:00Z")
@example(instant="2100-02-29T00:00:00Z")
@example(instant="2024-02-29T23:59:59.999999-14:59")
@example(instant="1970-01-01T00:00:00+00:01")
@example(instant="2999-12-31T23:59:59-00:01")
def test_they_agree_on_every_date(connection: psycopg.Connection, instant: str) -> None:
    request = {"agent_id": "a", "name": "n", "workflow_name": "w", "task_queue": "q", "interval_seconds": 1}
    dated = request | {"start_at": instant}
    assert judged_by_python(dated) == judged_by_sql(connection, dated)


def judged_in_a_body(model: type[Request], body: object) -> str | None:
    """The field that is wrong, by the first error's place, as a web framework tells it."""
    try:
        TypeAdapter(model).validate_python(body)
    except ValidationError as error:
        return ".".join(str(place)[:100] for place in error.errors()[0]["loc"])[:200] or "request"
    return None


@settings(max_examples=150, deadline=None)
@given(model=st.sampled_from([CreateSchedule, UpdateSchedule, DeleteSchedule]), request=requests())
def test_a_body_is_judged_alike_and_by_its_schema(model: type[Request], request: dict[str, Any]) -> None:
    body = {name: value for name, value in request.items() if name not in AROUND}
    try:
        model(**body)
        wrong = None
    except InvalidRequest as error:
        wrong = error.field
    assert judged_in_a_body(model, body) == wrong
    if wrong is None:
        SCHEMAS[model].validate(body)


@pytest.mark.parametrize("levels", [62, 63, 64, 200])
@pytest.mark.parametrize("leaf", [{}, 1])
@pytest.mark.parametrize("field", ["workflow_params", "workflow_args", "memo"])
def test_they_agree_on_depth(connection: psycopg.Connection, levels: int, leaf: object, field: str) -> None:
    value: object = leaf
    for level in range(levels):
        value = {"a": value} if level % 2 or level == levels - 1 else [value]
    request = {
        "agent_id": "a",
        "name": "n",
        "workflow_name": "w",
        "task_queue": "q",
        "interval_seconds": 1,
        field: [value, 1] if field == "workflow_args" else value,
    }
    assert (
        (judged_by_python(request) is None) == (judged_by_sql(connection, request) is None) == (levels < 64)
    )
