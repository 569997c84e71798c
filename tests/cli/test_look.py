"""intents, show and status: what operators see."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from outbox.cli import running
from outbox.documentation import of_code
from tests.cli.conftest import Cli

REQUEST = ("--workflow", "W", "--task-queue", "q", "--interval", "60", "--user", "u1")


@pytest.fixture
def settled(cli: Cli, agent: str) -> str:
    """A lane that lived: created, deleted, and one that failed."""
    cli("create", agent, "a", *REQUEST)
    cli("delete", agent, "a")
    cli("create", agent, "bad", "--workflow", "W", "--task-queue", "q", "--cron", "never", "--user", "u")
    assert cli("run", "--until-idle").code == 0
    return agent


def test_intents_are_listed_newest_first_and_filtered(cli: Cli, settled: str) -> None:
    every = cli("intents", "--json").lines
    assert [one["schedule_id"] for one in every] == [f"{settled}--bad", f"{settled}--a", f"{settled}--a"]
    assert [one["status"] for one in every] == ["failed", "succeeded", "succeeded"]
    assert [one["event_type"] for one in every] == [
        "schedule.create_failed",
        "schedule.deleted",
        "schedule.created",
    ]
    failed = cli("intents", "--status", "failed", "--json").lines
    assert [(one["error"]["code"], one["attempts"]) for one in failed] == [("refused", 3)]
    assert set(failed[0]) >= {"intent_id", "kind", "created_at", "updated_at", "attempts", "replays_of"}
    assert len(cli("intents", "--schedule", f"{settled}--a", "--json").lines) == 2
    assert len(cli("intents", "--limit", "1", "--json").lines) == 1
    assert len(cli("intents", "--since", "1h", "--json").lines) == 3
    assert cli("intents", "--since", "2999-01-01T00:00:00Z", "--json").lines == []
    table = cli("intents")
    assert "create_failed" in table.out


def test_since_takes_what_it_says(cli: Cli) -> None:
    ran = cli("intents", "--since", "yesterday")
    assert (ran.code, "--since yesterday" in ran.err) == (2, True)


def test_show_is_one_timeline(cli: Cli, settled: str) -> None:
    shown = cli("show", f"{settled}--bad", "--json").json
    assert (shown["schedule_id"], shown["waits_because"]) == (f"{settled}--bad", None)
    (intent,) = shown["intents"]
    assert [event["type"] for event in intent["events"]] == [
        "schedule.create.requested",
        "schedule.registered",
        "schedule.compensation_requested",
        "schedule.create_failed",
    ]
    assert [event["consumer"] for event in intent["events"]] == [None, "authz", "temporal", "authz"]
    assert intent["events"][-1]["error"]["code"] == "refused"
    text = cli("show", f"{settled}--bad").out
    assert "schedule.compensation_requested  attempt 1  refused" in text
    assert text.splitlines()[-1] == f"  help: {of_code('refused')}"
    assert "help: " not in cli("show", f"{settled}--a").out
    by_id = cli("show", intent["intent_id"], "--json").json
    assert by_id["intents"] == shown["intents"]


def test_show_of_nothing_says_where_to_look(cli: Cli) -> None:
    for what in ("nobody--knows", str(uuid4())):
        ran = cli("show", what)
        assert (ran.code, "outbox intents" in ran.err) == (2, True)


CLAIM = """SELECT outbox.claim('{"authz": 1}', '{}', 30, 10, 5)"""
SETTLE = """
SELECT outbox.settle(jsonb_build_array(jsonb_build_object(
           'intent_id', q.intent_id, 'lease_number', q.lease_number, 'event_type', q.event_type, 'attempt', 1,
           'consumer', 'authz', 'action', 'retry', 'terminal', false, 'waits', false, 'delay_seconds', 0,
           'strike', false, 'error_code', 'raced', 'error_message', 'x')), '{}', 1, 1, 1, 1, false)
  FROM outbox.queue q
"""
HEAD = "UPDATE outbox.queue SET place = 'head', "


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE outbox.queue SET due_at = now()", "ready for the registration since"),
        (HEAD + "state = 'ready'", "is a worker running?"),
        (
            HEAD + "state = 'leased', attempts = 2, due_at = now() + interval '12 s'",
            "a worker is at the registration, attempt 2, for 12 s more at most",
        ),
        (HEAD + "state = 'leased', attempts = 2, due_at = now()", "died or stalled in attempt 2"),
        (
            HEAD
            + "state = 'waiting', attempts = 7, due_at = now() + interval '41 s', error_code = 'overloaded', "
            "error_message = 'busy', failing_since = now()",
            "attempt 7, next try in 41 s",
        ),
        (
            HEAD + "state = 'holding', due_at = now() + interval '12 s'",
            "holding 12 s more for a late write of an attempt that got no answer",
        ),
        (
            HEAD + "state = 'parked', attempts = 12, due_at = 'infinity', error_code = 'unexpected', "
            "error_message = 'KeyError', failing_since = now()",
            "parked after attempt 12 (unexpected: KeyError), failing since",
        ),
        (
            "INSERT INTO outbox.breakers (consumer, probe_at, error_code, error_message) "
            "VALUES ('authz', now() + interval '3 s', 'unreachable', 'connection refused'); "
            + HEAD
            + "state = 'ready'",
            "(connection refused), next probe in 3 s",
        ),
    ],
)
def test_a_lane_that_waits_says_why(cli: Cli, agent: str, database: str, change: str, reason: str) -> None:
    cli("create", agent, "a", *REQUEST)
    with psycopg.connect(database) as connection:
        connection.execute(change.encode())
    cli("delete", agent, "a")
    shown = cli("show", f"{agent}--a", "--json").json
    assert re.search(some_time_later(reason), shown["waits_because"])
    assert re.search(some_time_later(reason.split(",", maxsplit=1)[0]), cli("show", f"{agent}--a").out)


def some_time_later(text: str) -> str:
    """A pattern of the text, with each "12 s" as it may be up to ten seconds later."""

    def seconds(found: re.Match[str]) -> str:
        most = int(found[1])
        return f"({'|'.join(str(number) for number in range(max(0, most - 10), most + 1))}) s"

    return re.sub(r"(\d+)\\ s", seconds, re.escape(text))


def test_a_stores_own_words_are_shown_as_they_are(cli: Cli, agent: str, database: str) -> None:
    cli("create", agent, "a", *REQUEST)
    with psycopg.connect(database) as connection:
        connection.execute(
            HEAD.encode() + b"state = 'parked', due_at = 'infinity', error_code = 'unexpected', "
            b"error_message = 'no [bold] word[/x] [here]', failing_since = now()"
        )
    assert "no [bold] word[/x] [here]" in cli("show", f"{agent}--a").out


def test_an_intents_id_can_be_copied_from_a_narrow_terminal(
    cli: Cli, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.out, "width", 80)
    intent = cli("create", agent, "a-rather-long-name-for-a-schedule", *REQUEST, "--json").json["intent_id"]
    assert intent in cli("intents").out


def test_what_stands_behind_a_head_is_counted(cli: Cli, agent: str, database: str) -> None:
    cli("create", agent, "a", *REQUEST)
    cli("delete", agent, "a")
    cli("delete", agent, "a")
    with psycopg.connect(database) as connection:
        connection.execute("SELECT FROM outbox.claim('{\"authz\": 1}', '{}', 30, 10, 5)")
    assert cli("show", f"{agent}--a", "--json").json["waits_because"].endswith("; 2 more behind it")


def test_status_shows_depths_and_the_oldest_head(cli: Cli, settled: str) -> None:
    idle = cli("status", "--json").json
    assert idle["workers"] == [], "those that ran have ended in order"
    assert (idle["pending"], idle["oldest_head_age_seconds"]) == (0, None)
    assert idle["ended_last_minute"] == {
        "schedule.created": 1,
        "schedule.create_failed": 1,
        "schedule.deleted": 1,
    }
    cli("create", settled, "b", *REQUEST)
    busy = cli("status", "--json").json
    assert {"pending", "leased", "waiting_retry", "parked", "oldest_head_age_seconds"} <= set(busy)
    assert (busy["pending"], busy["oldest_head"]) == (1, f"{settled}--b")
    assert cli("status", "--max-age", "3600").code == 0
    too_old = cli("status", "--max-age", "0")
    assert (too_old.code, "oldest head" in too_old.out) == (1, True)


def test_an_intent_names_its_producers_trace(cli: Cli, agent: str, database: str) -> None:
    trace = "ab" * 16
    cli("create", agent, "a", *REQUEST)
    assert cli("show", f"{agent}--a", "--json").json["intents"][0]["trace_id"] is None
    with psycopg.connect(database) as connection:
        context = json.dumps({"traceparent": f"00-{trace}-{'cd' * 8}-01"})
        connection.execute("UPDATE outbox.intents SET trace = %s::jsonb", [context])
    assert cli("show", f"{agent}--a", "--json").json["intents"][0]["trace_id"] == trace
    assert f"trace {trace}" in cli("show", f"{agent}--a").out


def test_an_alarm_of_age_can_leave_parked_heads_out(cli: Cli, agent: str, database: str) -> None:
    cli("create", agent, "a", *REQUEST)
    assert cli("status", "--max-age", "0", "--ignore-parked").code == 1
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE outbox.queue SET place = 'head', state = 'parked', due_at = 'infinity'")
    assert cli("status", "--max-age", "0").code == 1
    assert cli("status", "--max-age", "0", "--ignore-parked").code == 0
    cli("create", agent, "b", *REQUEST)
    shown = cli("status", "--max-age", "0", "--ignore-parked")
    assert (shown.code, "oldest that waits for no person" in shown.out) == (1, True)


def test_a_repair_whose_time_has_not_come_is_no_head(cli: Cli, agent: str, database: str) -> None:
    cli("create", agent, "a", *REQUEST)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE outbox.queue SET place = 'deferred', consumer = 'both'")
    shown = cli("status", "--max-age", "0", "--json")
    assert (shown.code, shown.json["pending"], shown.json["deferred"]) == (0, 0, 1)
    assert shown.json["oldest_head"] is None
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE outbox.queue SET event_type = 'schedule.repair.requested', "
            "due_at = now() + interval '90 s'"
        )
    assert "late writes of an attempt that got no answer is due in" in cli("show", f"{agent}--a").out


def test_status_shows_a_store_that_is_down(cli: Cli, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO outbox.breakers (consumer, probe_at, error_code, error_message) "
            "VALUES ('temporal', now(), 'misconfigured', 'Namespace nope is not found')"
        )
    assert "Namespace nope is not found" in cli("status").out
    assert cli("status", "--json").json["breakers"][0]["error_code"] == "misconfigured"


@pytest.mark.parametrize(
    ("held", "call"),
    [("LOCK TABLE outbox.turn_to_claim", CLAIM), ("SELECT FROM outbox.queue FOR UPDATE", SETTLE)],
)
def test_show_status_and_doctor_name_who_holds_what_the_outbox_waits_for(
    cli: Cli, agent: str, database: str, held: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.store.blockers.LONG_SECONDS", 0.0)
    cli("create", agent, "a", *REQUEST)
    with (
        psycopg.connect(database, autocommit=True) as one,
        psycopg.connect(database, autocommit=True) as another,
        ThreadPoolExecutor() as calls,
        psycopg.connect(database, application_name="a person's psql") as person,
    ):
        one.execute(CLAIM)
        person.execute(held.encode())
        waiting = [calls.submit(worker.execute, call.encode()) for worker in (one, another)]
        while ((found := cli("status", "--json").json["blocked_by"]) or {"waiting": 0})["waiting"] < 2:
            assert not any(call.done() for call in waiting)
        pid = person.info.backend_pid
        assert (found["name"], found["application"]) == (str(pid), "a person's psql")
        doctor = cli("doctor", "--json")
        (wrong,) = [line for line in doctor.lines if line["check"] == "locks"]
        shown = cli("show", f"{agent}--a", "--json").json["waits_because"]
        for told in (cli("status").out, shown, wrong["problem"] + wrong["fix"]):
            assert "2 calls of the outbox wait for a lock" in told
            assert f"held by session {pid} of postgres (a person's psql), idle in transaction" in told
            assert f"SELECT pg_terminate_backend({pid})" in told
        assert doctor.code == 1
    assert cli("status", "--json").json["blocked_by"] is None


def test_status_names_who_holds_vacuum_back(cli: Cli, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outbox.cli.look._NAMED_AFTER_SECONDS", 0.0)
    assert cli("status", "--json").json["oldest_transaction"] is None
    with psycopg.connect(database, application_name="a report") as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT 1")
        found = cli("status", "--json").json["oldest_transaction"]
        assert (found["name"], found["application"]) == (str(old.info.backend_pid), "a report")
        shown = cli("status").out
        assert f"vacuum is held back by session {old.info.backend_pid} of " in shown
        assert f"SELECT pg_terminate_backend({old.info.backend_pid})" in shown
