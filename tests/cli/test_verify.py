"""verify: what it finds in a ledger and in real stores, what it leaves alone, and how it goes on."""

import signal
import subprocess
import sys
from typing import Any

import psycopg
import pytest

from consumers.authz.client import Tuple
from outbox.stack import StackInfo
from tests.cli.conftest import Cli
from tests.cli.test_audit import REQUEST, Stores
from tests.store.roles import login_role

# An attempt that runs out of time leaves a repair to come, and its schedule is not judged whole.
PATIENT = {"OUTBOX_STEP_TIMEOUT_SECONDS": "30", "OUTBOX_LEASE_SECONDS": "30"}


@pytest.fixture
def stores(stack: StackInfo) -> Stores:
    return Stores(stack)


@pytest.fixture
def lanes(cli: Cli, agent: str) -> list[str]:
    """One that lives, one that came and went, and one whose create waits for a worker."""
    for name in ("gone", "live"):
        cli("create", agent, name, *REQUEST)
    assert cli("run", "--until-idle", **PATIENT).code == 0
    cli("delete", agent, "gone", "--user", "u1")
    assert cli("run", "--until-idle", **PATIENT).code == 0
    cli("create", agent, "waiting", *REQUEST)
    return [f"{agent}--{name}" for name in ("gone", "live", "waiting")]


def verified(cli: Cli, *arguments: str, **changes: str) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """What does not hold, and the summary."""
    ran = cli("verify", "--rate", "1000", "--json", *arguments, **changes)
    *found, summary = ran.lines
    assert ran.code == (1 if found else 0)
    assert summary["violations"] == len(found)
    assert all(line["detail"] and line["help"].startswith("https://") for line in found)
    return [(line["schedule_id"], line["invariant"]) for line in found], summary


def test_a_sound_outbox_has_no_violation(cli: Cli, lanes: list[str]) -> None:
    found, summary = verified(cli)
    assert (found, summary) == (
        [],
        {
            "verified": 3,
            "with_stores": 2,
            "violations": 0,
            "by_invariant": {},
            "whole": True,
            "reached": lanes[-1],
        },
    )
    ran = cli("verify", "--rate", "1000")
    told = "3 schedules verified, 2 of them with their stores: no violation\n"
    assert (ran.code, ran.out, ran.err) == (0, told, "")


def test_what_is_broken_is_found_each_by_its_invariant(
    cli: Cli, agent: str, stores: Stores, database: str
) -> None:
    alive = ("deregistered", "marked", "stolen", "unscheduled", "unstamped")
    gone = ("kept", "theirs")
    for name in (*alive, *gone):
        cli("create", agent, name, *REQUEST)
    assert cli("run", "--until-idle", **PATIENT).code == 0
    for name in gone:
        cli("delete", agent, name, "--user", "u1")
    assert cli("run", "--until-idle", **PATIENT).code == 0
    cli("create", agent, "waiting", *REQUEST)
    assert verified(cli)[0] == []

    def lane(name: str) -> str:
        return f"{agent}--{name}"

    stores.unrelate(lane("deregistered"))
    stores.relate(
        Tuple("outbox_intent", stamp(database, lane("marked")), "ended", "outbox_intent", "any"),
        Tuple("agent_schedule", lane("stolen"), "owner", "user", "mallory"),
        Tuple("agent_schedule", lane("kept"), "owner", "user", "u1"),
    )
    stores.unschedule(lane("unscheduled"))
    # Somebody else's: it carries no stamp, and nothing of ours is live.
    stores.schedule(lane("theirs"))
    forget_the_stamp(database, lane("unstamped"))
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM outbox.queue")
    found, summary = verified(cli)
    assert found == [
        (lane("deregistered"), "tuples"),
        (lane("kept"), "tuples"),
        (lane("marked"), "ended_mark"),
        (lane("stolen"), "tuples"),
        (lane("unscheduled"), "schedule"),
        (lane("unstamped"), "live_stamp"),
        (lane("waiting"), "ends_once"),
    ]
    assert summary["by_invariant"] == {
        "ended_mark": 1,
        "ends_once": 1,
        "live_stamp": 1,
        "schedule": 1,
        "tuples": 3,
    }


def stamp(database: str, schedule: str) -> str:
    with psycopg.connect(database) as connection:
        (row,) = connection.execute(
            "SELECT live_intent::text FROM outbox.lanes WHERE schedule_id = %s", (schedule,)
        ).fetchall()
        return str(row[0])


def forget_the_stamp(database: str, schedule: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE outbox.lanes SET live_intent = NULL WHERE schedule_id = %s", (schedule,))


def test_where_it_goes_on_is_told_with_how_it_came_about_and_what_to_do(
    cli: Cli, lanes: list[str], stores: Stores
) -> None:
    stores.unschedule(lanes[1])
    ran = cli("verify", "--rate", "1000")
    assert (ran.code, ran.err) == (1, "")
    what, story, link, *summary = ran.out.splitlines()
    assert what.startswith(f"schedule {lanes[1]}: ")
    assert what.endswith(" is live, and Temporal has nothing")
    assert story == f"  story: outbox show {lanes[1]}"
    assert link.endswith("docs/verify.html#schedule")
    assert summary == [
        "3 schedules verified, 2 of them with their stores: 1 violations",
        "found: 1 schedule",
    ]
    assert cli("show", lanes[1]).code == 0


def test_what_was_adopted_updated_or_reclaimed_is_sound(
    cli: Cli, agent: str, stores: Stores, database: str
) -> None:
    old = f"{agent}--old"
    stores.relate(Tuple("agent_schedule", old, "owner", "user", "carol"))
    stores.schedule(old)
    cli("audit", "--schedule", old, "--adopt", "--yes")
    assert cli("run", "--until-idle", **PATIENT).code == 0
    for name in ("old", "old", "lost"):
        cli("create", agent, name, *REQUEST)
        cli("pause", agent, name)
        assert cli("run", "--until-idle", **PATIENT).code == 0
    found, summary = verified(cli)
    assert (found, summary["with_stores"]) == ([], 2)
    with psycopg.connect(database) as connection:
        for table in ("intents", "events", "attempts", "queue", "lanes"):
            which = "" if table == "attempts" else " WHERE schedule_id LIKE '%--lost'"
            connection.execute(f"DELETE FROM outbox.{table}{which}".encode())
    cli("audit", "--schedule", f"{agent}--lost", "--reclaim", "--yes")
    assert cli("run", "--until-idle", **PATIENT).code == 0
    found, summary = verified(cli)
    assert (found, summary["with_stores"]) == ([], 2)


def test_some_are_chosen_by_name_by_time_or_by_where_it_goes_on(
    cli: Cli, lanes: list[str], database: str, stores: Stores
) -> None:
    gone, live, _ = lanes
    stores.unrelate(live)
    assert verified(cli, "--schedule", gone)[0] == []
    found, summary = verified(cli, "--schedule", gone, "--schedule", live, "--schedule", "no--one")
    assert (found, summary["verified"]) == ([(live, "tuples")], 2)
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE outbox.events SET at = at - interval '2 days' WHERE schedule_id = %s", (live,)
        )
    assert verified(cli, "--since", "1d")[1]["verified"] == 2
    assert verified(cli, "--since", "1d", "--after", gone)[1]["verified"] == 1
    assert verified(cli, "--after", live)[1]["verified"] == 1


def test_a_name_is_a_choice_already(cli: Cli) -> None:
    for option in ("--since=1d", "--after=x"):
        ran = cli("verify", "--schedule", "x", option)
        assert (ran.code, "--schedule names what is verified" in ran.error) == (2, True)


def test_an_operators_role_will_do_and_without_stores_none_is_asked(
    cli: Cli, lanes: list[str], database: str
) -> None:
    assert lanes
    away = {"OUTBOX_SPICEDB_ENDPOINT": "127.0.0.1:1", "OUTBOX_TEMPORAL_ADDRESS": "127.0.0.1:1"}
    with login_role(database, "outbox_operator") as url:
        assert verified(cli, OUTBOX_DATABASE_URL=url)[0] == []
        found, summary = verified(cli, "--no-stores", OUTBOX_DATABASE_URL=url, **away)
        assert (found, summary["verified"], summary["with_stores"]) == ([], 3, 0)
        ran = cli("verify", OUTBOX_DATABASE_URL=url, **away)
        assert (ran.code, "can't be" in ran.error) == (3, True)
    with login_role(database, "outbox_worker") as url:
        ran = cli("verify", OUTBOX_DATABASE_URL=url)
        assert (ran.code, "the database role may not do this" in ran.error) == (1, True)


def test_ctrl_c_tells_what_was_found_and_where_to_go_on(
    cli: Cli, environment: dict[str, str], lanes: list[str], database: str
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM outbox.events WHERE schedule_id = %s", (lanes[0],))
    # The next page would come in a minute and a half: it waits there once it has told of the first.
    command = [sys.executable, "-m", "outbox", "verify", "--no-stores", "--rate", "0.011", "--json"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert '"not_lost"' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=240)
    assert process.returncode == 130
    assert told == f"to go on: outbox verify --after {lanes[0]}\noutbox: interrupted\n"
    assert '"whole":false' in out.splitlines()[-1]
    found, summary = verified(cli, "--no-stores", "--after", lanes[0])
    assert (found, summary["verified"], summary["whole"]) == ([], 2, True)
