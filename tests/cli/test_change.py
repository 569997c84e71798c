"""update, pause and resume: what is asked for, and what is refused."""

from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.cli.conftest import Cli

REQUEST = ("--workflow", "W", "--task-queue", "q", "--cron", "0 3 * * *", "--user", "u1")


def asked(database: str) -> list[dict[str, Any]]:
    """What each update asks for, beside the schedule's name."""
    statement = """
        SELECT request - '{agent_id,name}'::text[] AS asked FROM outbox.intents
         WHERE kind = 'update' ORDER BY position
    """
    with psycopg.connect(database, row_factory=dict_row) as connection:
        return [row["asked"] for row in connection.execute(statement)]


def test_what_is_named_is_changed_and_all_else_stays(cli: Cli, agent: str, database: str) -> None:
    changed = ("--interval", 60, "--timezone", "Europe/Berlin", "--clear", "end_at", "--user", "u1")
    ran = cli("update", agent, "nightly", *changed, "--json")
    assert (ran.code, ran.json["kind"], ran.json["event_type"]) == (0, "update", "schedule.update.requested")
    assert cli("pause", agent, "nightly", "--note", "until Monday").code == 0
    assert cli("resume", agent, "nightly").code == 0
    assert asked(database) == [
        {"interval_seconds": 60, "timezone": "Europe/Berlin", "end_at": None},
        {"paused": True, "note": "until Monday"},
        {"paused": False},
    ]


def test_an_update_is_waited_for_and_shown(cli: Cli, agent: str) -> None:
    cli("create", agent, "nightly", *REQUEST)
    cli("pause", agent, "nightly", "--user", "u1")
    cli("update", agent, "nightly", "--cron", "0 4 * * *", "--user", "u1")
    assert cli("run", "--until-idle").code == 0
    first, second = cli("show", f"{agent}--nightly", "--json").json["intents"][-2:]
    assert [one["event_type"] for one in (first, second)] == ["schedule.updated"] * 2
    assert first["events"][-1]["superseded_by"] == second["intent_id"]
    assert second["events"][-1]["superseded_by"] is None
    told = cli("show", f"{agent}--nightly").out
    assert f"with {second['intent_id']}" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "request: must change something: name a field"),
        (("--clear", "paused"), "paused: must be true or false"),
        (("--clear", "bogus"), "bogus: is not a known field"),
        (("--cron", "0 3 * * *", "--interval", "5"), "cron_expression: must be given, or interval_seconds"),
        (("--note", "x", "--clear", "note"), "--clear note: it is given a value, too"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    cli: Cli, agent: str, arguments: tuple[str, ...], told: str
) -> None:
    ran = cli("update", agent, "nightly", *arguments)
    assert ran.code == 2
    assert told in ran.err


def test_what_is_not_live_is_told(cli: Cli, agent: str) -> None:
    cli("pause", agent, "nightly")
    assert cli("run", "--until-idle").code == 0
    (one,) = cli("intents", "--status", "failed", "--json").lines
    assert one["error"]["code"] == "not_live"
