"""create and delete: one, many from a file, waiting, and what goes wrong."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from tests.cli.conftest import Cli

REQUEST = ("--workflow", "W", "--task-queue", "q", "--cron", "0 3 * * *", "--user", "u1")


def line(agent: str, name: str, **fields: object) -> str:
    entry = {"agent_id": agent, "name": name, "workflow_name": "W", "task_queue": "q", "interval_seconds": 60}
    return json.dumps({**entry, "principal": {"user_id": "u1"}, **fields})


def queued(cli: Cli) -> int:
    depth: int = cli("status", "--json").json["pending"]
    return depth


def test_a_create_is_enqueued(cli: Cli, agent: str) -> None:
    ran = cli(
        "create",
        agent,
        "nightly",
        *REQUEST,
        "--params",
        '{"a": 1}',
        "--account",
        "acme",
        "--paused",
        "--json",
    )
    assert ran.code == 0
    assert ran.json == {
        "intent_id": ran.json["intent_id"],
        "schedule_id": f"{agent}--nightly",
        "kind": "create",
        "status": "pending",
        "event_type": "schedule.create.requested",
        "error": None,
    }
    assert queued(cli) == 1


def test_people_see_a_line(cli: Cli, agent: str) -> None:
    ran = cli("delete", agent, "nightly", "--service-account", "robot")
    assert ran.out.startswith(f"delete {agent}--nightly: enqueued  intent ")


def test_an_idempotency_key_gives_the_first_intent_again(cli: Cli, agent: str) -> None:
    key = uuid4().hex
    first = cli("create", agent, "nightly", *REQUEST, "--idempotency-key", key, "--json")
    again = cli("create", agent, "nightly", *REQUEST, "--idempotency-key", key, "--json")
    assert again.json == first.json
    other = cli("create", agent, "weekly", *REQUEST, "--idempotency-key", key)
    assert (other.code, queued(cli)) == (2, 1)
    assert "used before" in other.err


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("create", "a--b", "n", *REQUEST), "agent_id"),
        (("create", "a", "Bad Name", *REQUEST), "name"),
        (("create", "a", "n", *REQUEST, "--interval", "5"), "cron_expression"),
        (("create", "a", "n", *REQUEST[:4], "--interval", "0"), "interval_seconds"),
        (("create", "a", "n", *REQUEST, "--service-account", "s"), "principal"),
        (("create", "a", "n", *REQUEST[:6], "--user", "me@example.org"), "principal.user_id"),
        (("create", "a", "n", *REQUEST, "--params", "[1]"), "workflow_params"),
        (("create", "a", "n", *REQUEST, "--params", "{nope"), "--params"),
        (("create",), "agent_id"),
        (("delete", "a"), "name"),
        (("create", "a", "--from", "x.jsonl"), "--from"),
        (("create", "--from", "missing.jsonl"), "missing.jsonl"),
    ],
)
def test_bad_input_is_one_line_that_names_the_field(cli: Cli, arguments: tuple[str, ...], field: str) -> None:
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert field in ran.err
    assert ran.help in {f"commands.html#outbox-{arguments[0]}", "errors.html#a-request-is-refused"}
    assert queued(cli) == 0


def test_waiting_for_the_outcome(cli: Cli, agent: str) -> None:
    # Nobody works on it yet.
    late = cli("create", agent, "nightly", *REQUEST, "--wait", "--timeout", "0.2", "--json")
    assert (late.code, late.json["status"]) == (4, "pending")
    assert ("outbox show" in late.err, late.help) == (True, "errors.html#the-outcome-takes-longer")
    assert cli("run", "--until-idle").code == 0
    key = uuid4().hex
    cli("create", agent, "bad", *REQUEST[:4], "--cron", "never", "--user", "u", "--idempotency-key", key)
    cli("create", agent, "good", *REQUEST, "--idempotency-key", f"{key}2")
    assert cli("run", "--until-idle").code == 0
    failed = cli(
        "create",
        agent,
        "bad",
        *REQUEST[:4],
        "--cron",
        "never",
        "--user",
        "u",
        "--idempotency-key",
        key,
        "--wait",
        "--json",
    )
    assert (failed.code, failed.json["status"], failed.json["error"]["code"]) == (1, "failed", "refused")
    assert failed.json["error"]["help"].endswith("/errors.html#refused")
    done = cli("create", agent, "good", *REQUEST, "--idempotency-key", f"{key}2", "--wait")
    assert (done.code, "succeeded (schedule.created)" in done.out) == (0, True)


def test_many_from_a_file(cli: Cli, agent: str, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    lines = [line(agent, f"s{place}") for place in range(2500)] + ["", line(agent, "s0", kind="delete")]
    lines[-1] = json.dumps({"kind": "delete", "agent_id": agent, "name": "s0"})
    file.write_text("\n".join(lines))
    ran = cli("create", "--from", file)
    assert (ran.code, ran.out) == (0, "enqueued 2501 intents\n")
    assert queued(cli) == 2501


def test_many_from_stdin_as_json(cli: Cli, agent: str) -> None:
    ran = cli("create", "--from", "-", "--json", stdin=f"{line(agent, 'a')}\n{line(agent, 'b')}\n")
    assert [one["schedule_id"] for one in ran.lines] == [f"{agent}--a", f"{agent}--b"]
    assert {one["status"] for one in ran.lines} == {"pending"}


def test_one_bad_line_and_nothing_is_enqueued(cli: Cli, agent: str, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_text("\n".join([line(agent, "a"), line(agent, "NO"), "nope", line(agent, "b"), "[]"]))
    ran = cli("create", "--from", file)
    assert (ran.code, queued(cli)) == (2, 0)
    for wanted in (
        "line 2: name:",
        "line 3: not JSON",
        "line 5: request:",
        "3 of 5 lines are bad",
        "--keep-going",
    ):
        assert wanted in ran.err


def test_with_keep_going_the_good_lines_are_enqueued_and_the_bad_listed(
    cli: Cli, agent: str, tmp_path: Path
) -> None:
    key = uuid4().hex
    file = tmp_path / "many.jsonl"
    file.write_text(
        "\n".join(
            [
                line(agent, "a", idempotency_key=key),
                "nope",
                line(agent, "b", idempotency_key=key),  # only the database can know
                line(agent, "c"),
            ]
        )
    )
    ran = cli("create", "--from", file, "--keep-going")
    assert (ran.code, ran.out, queued(cli)) == (1, "enqueued 2 intents\n", 2)
    assert "line 2: not JSON" in ran.err
    assert "line 3:" in ran.err
    assert "used before" in ran.err
    file.write_text("\n".join([line(agent, "x"), line(agent, "b", idempotency_key=key)]))
    refused = cli("create", "--from", file)
    assert (refused.code, queued(cli)) == (2, 2)
    assert "line 2:" in refused.err


def test_a_long_list_of_bad_lines_is_cut(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text("\n".join(["nope"] * 50))
    ran = cli("create", "--from", file)
    assert ran.err.count("not JSON") == 20
    assert "and 30 more" in ran.err


def test_a_file_that_is_no_text(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfe\x00")
    ran = cli("create", "--from", file)
    assert (ran.code, "not UTF-8" in ran.err) == (2, True)
