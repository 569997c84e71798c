"""replay, discard and prune, as an operator runs them."""

from uuid import uuid4

import psycopg
import pytest

from outbox.documentation import of_code
from tests.cli.conftest import Cli

REQUEST = ("--workflow", "W", "--task-queue", "q", "--user", "u1")
BAD = (*REQUEST, "--cron", "never")


def intent_of(cli: Cli, agent: str, name: str, *entry: str) -> str:
    return str(cli("create", agent, name, *entry, "--json").json["intent_id"])


def park(database: str, intent: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SELECT FROM outbox.claim('{\"authz\": 9}', '{}', 30, 10, 5)")
        connection.execute(
            "UPDATE outbox.queue SET state = 'parked', due_at = 'infinity', failing_since = now(), "
            "error_code = 'unexpected', error_message = 'KeyError' WHERE intent_id = %s",
            (intent,),
        )


def test_failed_intents_are_replayed_and_one_that_fails_again_is_seen(cli: Cli, agent: str) -> None:
    first = intent_of(cli, agent, "bad", *BAD)
    cli("run", "--until-idle")
    rehearsed = cli("replay", "--status", "failed", "--dry-run", "--json")
    assert rehearsed.lines == [
        {
            "intent_id": first,
            "action": "reenqueued",
            "reason": f"create of {agent}--bad is asked for again",
            "new_intent_id": None,
            "dry_run": True,
        }
    ]
    assert cli("status", "--json").json["pending"] == 0
    (group,) = cli("failures", "--json").lines
    assert (group["count"], group["consumer"], group["error_code"]) == (1, "temporal", "refused")
    assert first in cli("failures", group["group_id"]).out
    done = cli(
        "replay", "--group", group["group_id"], "--reason", "mended", "--json", OUTBOX_OPERATOR="alice"
    )
    (line,) = done.lines
    assert (done.code, line["action"]) == (0, "reenqueued")
    assert "alice: replay, reenqueued (mended)" in cli("show", first).out
    cli("run", "--until-idle")
    again = cli("intents", "--status", "failed", "--json").lines
    assert [one["replays_of"] for one in again] == [first, None]
    only_newest = cli("replay", "--schedule", f"{agent}--bad", "--since", "1h", "--dry-run", "--json").lines
    assert [one["intent_id"] for one in only_newest] == [line["new_intent_id"]]
    refused = cli("replay", first)
    assert (refused.code, "0 replayed, 1 refused" in refused.out) == (1, True)


def test_a_replay_in_waves_is_planned_and_then_started_or_aborted(cli: Cli, agent: str) -> None:
    first = intent_of(cli, agent, "bad", *BAD)
    cli("run", "--until-idle")
    planned = cli("replay", "--status", "failed", "--in-waves", "--reason", "mended", "--json").json
    assert (planned["state"], planned["planned"], planned["why"]) == ("planned", 1, "mended")
    (plan, item) = cli("replays", planned["id"], "--json").lines
    assert (plan["id"], item["intent_id"], item["action"]) == (planned["id"], first, "reenqueued")
    assert "running" in cli("replays", planned["id"], "--start").out
    again = cli("replays", planned["id"], "--start")
    assert (again.code, "is not planned, but running" in again.err) == (1, True)
    assert cli("replays", planned["id"], "--abort").code == 0
    assert [one["state"] for one in cli("replays", "--json").lines] == ["aborted"]


def test_an_overtaken_intent_needs_force(cli: Cli, agent: str) -> None:
    first = intent_of(cli, agent, "bad", *BAD)
    cli("delete", agent, "bad")
    cli("run", "--until-idle")
    assert "overtaken" in cli("replay", first).out
    assert cli("replay", first, "--force").code == 0


def test_a_parked_step_is_rearmed_and_then_goes_through(cli: Cli, agent: str, database: str) -> None:
    intent = intent_of(cli, agent, "good", *REQUEST, "--interval", "60")
    park(database, intent)
    assert "it needs a person" in cli("show", intent).out
    (line,) = cli("replay", "--status", "parked", "--json").lines
    assert (line["intent_id"], line["action"]) == (intent, "rearmed")
    cli("run", "--until-idle")
    assert cli("intents", "--json").lines[0]["status"] == "succeeded"


def test_a_parked_create_is_discarded_and_nothing_of_it_is_left(cli: Cli, agent: str, database: str) -> None:
    intent = intent_of(cli, agent, "stuck", *REQUEST, "--interval", "60")
    park(database, intent)
    assert cli("discard", intent, "--reason", "not needed", "--json").json["action"] == "discarding"
    cli("run", "--until-idle")
    (one,) = cli("intents", "--json").lines
    told = {"code": "discarded", "message": "not needed", "help": of_code("discarded")}
    assert (one["status"], one["error"]) == ("failed", told)
    again = cli("discard", intent, "--reason", "twice")
    assert (again.code, "not parked" in again.out) == (1, True)


def grow_old(database: str) -> None:
    """Make all intents so old that their ids say 1970."""
    aged = "('0000' || substr({0}::text, 5))::uuid"
    with psycopg.connect(database) as connection:
        for table, column in (("intents", "id"), ("events", "intent_id"), ("lanes", "live_intent")):
            connection.execute(f"UPDATE outbox.{table} SET {column} = {aged.format(column)}".encode())
        connection.execute("UPDATE outbox.events SET at = at - interval '1 day'")


def test_old_history_is_pruned_and_live_schedules_kept(cli: Cli, agent: str, database: str) -> None:
    intent_of(cli, agent, "live", *REQUEST, "--interval", "60")
    intent_of(cli, agent, "bad", *BAD)
    cli("run", "--until-idle")
    assert cli("prune", "--older-than", "1h", "--json").json["pruned"] == 0
    refused = cli("prune", "--older-than", "10m")
    assert (refused.code, "too young" in refused.err, refused.help) == (2, True, "commands.html#outbox-prune")
    grow_old(database)
    away = cli("prune", "--older-than", "1h", OUTBOX_SPICEDB_ENDPOINT="127.0.0.1:1")
    assert (away.code, "can't be removed" in away.err) == (3, True)
    assert cli("prune", "--older-than", "1h").out.startswith("pruned 1 intents")
    assert [one["kind"] for one in cli("intents", "--json").lines] == ["create"]
    assert cli("intents", "--json").lines[0]["schedule_id"] == f"{agent}--live"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("replay",), "name intents, or choose"),
        (("replay", str(uuid4()), "--status", "failed"), "name intents, or choose"),
        (("replay", "--status", "pending"), "--status pending"),
        (("replay", "nonsense"), "nonsense is no intent's id"),
        (("replay", "--since", "soon"), "--since soon"),
        (("discard", str(uuid4()), "--reason", " "), "--reason is empty"),
        (("prune", "--older-than", "old"), "--older-than old"),
        (("failures", "nonsense"), "no group nonsense"),
        (("replays", 7), "no replay 7"),
        (("replays", "--start"), "name the replay"),
        (("replay", "--status", "failed", "--in-waves", "--dry-run"), "--in-waves replays nothing"),
    ],
)
def test_bad_input_is_named(cli: Cli, arguments: tuple[object, ...], names: str) -> None:
    ran = cli(*arguments)
    assert (ran.code, names in ran.err, ran.help) == (2, True, f"commands.html#outbox-{arguments[0]}")
