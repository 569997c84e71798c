"""The models: what they take, and how they name what they don't."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

import outbox
from outbox import UNSET, CreateSchedule, DeleteSchedule, InvalidRequest, Principal, UpdateSchedule, parse
from outbox.producer.fields import REASONS

MINIMAL: dict[str, Any] = {
    "agent_id": "a",
    "name": "n",
    "workflow_name": "w",
    "task_queue": "q",
    "cron_expression": "0 9 * * *",
}


def create(**changes: Any) -> CreateSchedule:
    return CreateSchedule(**(MINIMAL | changes))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agent_id", "A-z_0|/=+9"),
        ("agent_id", "a" * 128),
        ("name", "0-a--b"),
        ("name", "a" * 64),
        ("workflow_name", "Ä b"),
        ("workflow_name", "w" * 1000),
        ("task_queue", "😀" * 1000),
        ("workflow_params", {}),
        ("workflow_params", {"a": [1, 1.5, None, True, {"": "\n"}], "n": 10**307}),
        ("cron_expression", "no cron at all"),
        ("execution_timeout_seconds", 315_360_000),
        ("paused", True),
        ("timezone", "Mars/Olympus"),
        ("overlap_policy", "allow_all"),
        ("start_at", datetime(2026, 3, 1, 9, 0, 0, 5, tzinfo=UTC)),
        ("end_at", datetime(2026, 3, 1, 9, tzinfo=timezone(timedelta(hours=5)))),
    ],
)
def test_takes(field: str, value: object) -> None:
    assert getattr(create(**{field: value}), field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[
            ("agent_id", bad)
            for bad in ("", "a--b", "-a", "a-", "a b", "a.b", "ä", "a\n", "a" * 129, None, 5, b"a")
        ],
        *[("name", bad) for bad in ("", "-a", "a-", "A", "a_b", "a\n", "a" * 65, None, 5)],
        *[("workflow_name", bad) for bad in ("", "w" * 1001, "a\0", "a\n", "\x7f", "\ud800", None, 5)],
        *[("task_queue", bad) for bad in ("", "w" * 1001, "a\0", "a\t", "\udfff", None, 5)],
        *[("workflow_params", bad) for bad in ([1], "{}", 5, (1,))],
        *[("cron_expression", bad) for bad in ("", "c" * 1001, "a\0", 5)],
        *[("interval_seconds", bad) for bad in (0, -1, True, "5", 5.0, 1.5, 315_360_001, 10**400)],
        *[("execution_timeout_seconds", bad) for bad in (0, -1, True, "5", 5.0, 315_360_001)],
        *[("paused", bad) for bad in (0, 1, "true", None)],
        *[("timezone", bad) for bad in ("", "z" * 256, "a\0", 5)],
        *[("overlap_policy", bad) for bad in ("SKIP", "", 1, None, ["skip"])],
        *[
            (field, bad)
            for field in ("start_at", "end_at")
            for bad in (
                datetime(2026, 3, 1, 9, 0, 0),  # noqa: DTZ001 - a naive one is what is refused
                datetime(1969, 12, 31, tzinfo=UTC),
                datetime(3000, 1, 1, tzinfo=UTC),
                datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
                "2026-03-01T09:00:00",
                "2026-03-01",
                "2026-02-29T09:00:00Z",
                "1700000000",
                1_700_000_000,
            )
        ],
    ],
)
def test_refuses_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        create(**{field: value})
    assert (caught.value.field, caught.value.reason) == (field, REASONS[field])


@pytest.mark.parametrize("model", [CreateSchedule, UpdateSchedule])
def test_times_are_taken_as_text_with_their_offset(model: type[CreateSchedule | UpdateSchedule]) -> None:
    times: dict[str, Any] = {"start_at": "2026-03-01T09:00:00+02:00", "end_at": "2026-03-01T09:00:00.5Z"}
    request = model(**MINIMAL, **times)
    assert request.start_at == datetime(2026, 3, 1, 7, tzinfo=UTC)
    assert request.to_json()["end_at"] == "2026-03-01T09:00:00.500000+00:00"


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"a": {"b": [0, float("nan")]}}, "workflow_params.a.b.1"),
        ({"a": float("inf")}, "workflow_params.a"),
        ({"a": -(10**309)}, "workflow_params.a"),
        ({"a": {5: 1}}, "workflow_params.a"),
        ({5: 1}, "workflow_params"),
        ({"a": {1, 2}}, "workflow_params.a"),
        ({"a": (1, 2)}, "workflow_params.a"),
        ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, "workflow_params.a"),
        ({"a": ["x\0"]}, "workflow_params.a.0"),
        ({"a": {"\0": 1}}, "workflow_params.a"),
        ({"a": "\udc00"}, "workflow_params.a"),
        ({"a": {"\udc00": {"b": b""}}}, "workflow_params.a"),
    ],
)
def test_params_that_are_no_json_are_named_by_their_path(params: object, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        create(workflow_params=params)
    assert caught.value.field == path


def test_params_nested_too_deep() -> None:
    deep: dict[str, Any] = {}
    for _ in range(62):
        deep = {"a": deep}
    assert create(workflow_params={"a": deep})
    with pytest.raises(InvalidRequest, match="nested 64 deep"):
        create(workflow_params={"a": {"a": deep}})


def test_params_are_a_copy() -> None:
    params: dict[str, Any] = {"a": [1]}
    request = create(workflow_params=params)
    params["a"].append(object())
    assert request.workflow_params == {"a": [1]}


@pytest.mark.parametrize("both", [{"interval_seconds": 5}, {"cron_expression": None}])
def test_exactly_one_of_cron_and_interval(both: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidRequest, match="cron_expression: must be given, or interval_seconds, and not both"
    ):
        create(**both)


def test_the_end_is_after_the_start() -> None:
    at = datetime(2026, 3, 1, 9, tzinfo=UTC)
    with pytest.raises(InvalidRequest, match="end_at: must be after start_at"):
        create(start_at=at, end_at=at.astimezone(timezone(timedelta(hours=5))))


@pytest.mark.parametrize(
    ("model", "fields", "field"),
    [
        (CreateSchedule, MINIMAL, "bogus"),
        (DeleteSchedule, {"agent_id": "a", "name": "n"}, "bogus"),
        (Principal, {}, "principal.bogus"),
        (CreateSchedule, MINIMAL, "self"),
        (UpdateSchedule, MINIMAL, "self"),
    ],
)
def test_unknown_fields_are_refused(model: Any, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        model(**fields, **{field.rpartition(".")[2]: 1})
    assert (caught.value.field, caught.value.reason) == (field, "is not a known field")


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError):
        create().name = "other"  # type: ignore[misc]


def test_what_an_update_leaves_unset_is_not_changed() -> None:
    update = UpdateSchedule(agent_id="a", name="n", paused=True, note=UNSET, timezone=None)
    assert update.changes == {"paused", "timezone"}
    with pytest.raises(InvalidRequest, match="request: must change something"):
        UpdateSchedule(agent_id="a", name="n", note=UNSET)


def test_what_is_written_as_json_is_read_again() -> None:
    update = UpdateSchedule(agent_id="a", name="n", end_at="2026-12-01T00:00:00Z", note=None)
    assert update.model_dump(mode="json").keys() == {"agent_id", "name", "end_at", "note"}
    assert UpdateSchedule.model_validate_json(update.model_dump_json()) == update
    request = create(start_at="2026-12-01T00:00:00+01:00", workflow_params={"a": [None]})
    assert CreateSchedule.model_validate_json(request.model_dump_json()) == request


def test_schedule_id() -> None:
    assert DeleteSchedule(agent_id="a-b", name="c--d").schedule_id == "a-b--c--d"


@pytest.mark.parametrize("field", ["user_id", "service_account_id", "account_id"])
@pytest.mark.parametrize("bad", ["", "*", "a@b.example", "a b", "a:b", "ä", "a\0", "x" * 1025, 5])
def test_principal_ids_are_what_spicedb_takes(field: str, bad: object) -> None:
    good = "aZ09/_|-=+" + "x" * 1014
    assert getattr(Principal(**{field: good}), field) == good
    with pytest.raises(InvalidRequest) as caught:
        Principal(**{field: bad})  # type: ignore[arg-type]
    assert caught.value.field == f"principal.{field}"


def test_an_email_address_is_said_to_be_impossible() -> None:
    with pytest.raises(InvalidRequest, match="e-mail address"):
        Principal(user_id="me@example.com")


def test_principal_has_one_owner() -> None:
    with pytest.raises(InvalidRequest, match="principal: has user_id or service_account_id, not both"):
        Principal(user_id="u", service_account_id="s")


def test_parse_reads_a_line() -> None:
    line = """{"agent_id": "a", "name": "n", "workflow_name": "w", "task_queue": "q", "interval_seconds": 60,
        "start_at": "2026-03-01T09:00:00.5+02:00", "end_at": null, "paused": null,
        "workflow_params": {"x": null}, "principal": {"user_id": "u", "account_id": null},
        "idempotency_key": "k"}"""
    entry = parse(json.loads(line))
    assert entry.request == CreateSchedule(
        agent_id="a",
        name="n",
        workflow_name="w",
        task_queue="q",
        interval_seconds=60,
        workflow_params={"x": None},
        start_at=datetime(2026, 3, 1, 7, 0, 0, 500_000, tzinfo=UTC),
    )
    assert (entry.principal, entry.idempotency_key) == (Principal(user_id="u"), "k")


def test_parse_reads_a_delete() -> None:
    entry = parse({"kind": "delete", "agent_id": "a", "name": "n", "principal": None})
    assert entry == (DeleteSchedule(agent_id="a", name="n"), Principal(), None, None, None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "repair"}, "kind"),
        ({"kind": []}, "kind"),
        ({"kind": "delete"}, "workflow_name"),
        ({"principal": "u"}, "principal"),
        ({"principal": {"user_id": "@"}}, "principal.user_id"),
        ({"principal": {"bogus": None}}, "principal.bogus"),
        ({"bogus": None}, "bogus"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"traceparent": "00-x"}, "traceparent"),
        ({"tracestate": "ä"}, "tracestate"),
        ({"start_at": "2026-02-29T00:00:00Z"}, "start_at"),
        ({"start_at": "2026-03-01"}, "start_at"),
        ({"start_at": "2026-03-01T09:00:00"}, "start_at"),
    ],
)
def test_parse_names_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(MINIMAL | changes)
    assert caught.value.field == field


@pytest.mark.parametrize("no_object", [None, [], "x", 5])
def test_parse_takes_objects_only(no_object: object) -> None:
    with pytest.raises(InvalidRequest, match="request: must be an object"):
        parse(no_object)


def test_an_invalid_request_is_a_value_error() -> None:
    assert issubclass(outbox.InvalidRequest, ValueError)
