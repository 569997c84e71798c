"""hold and release, as an operator runs them."""

import pytest

from tests.cli.conftest import Cli

REQUEST = ("--workflow", "W", "--task-queue", "q", "--user", "u1", "--interval", "60")


def test_a_store_in_maintenance_is_halted_seen_everywhere_and_released(cli: Cli, agent: str) -> None:
    held = cli("hold", "--store", "temporal", "--reason", "upgrade", "--until", "2h", OUTBOX_OPERATOR="alice")
    assert (held.code, "no step of temporal is begun until it is released" in held.out) == (0, True)
    cli("create", agent, "s", *REQUEST)
    cli("run", "--until-idle")
    (intent,) = cli("intents", "--json").lines
    assert (intent["status"], intent["event_type"]) == ("pending", "schedule.registered")
    shown = cli("show", f"{agent}--s", "--json").json["waits_because"]
    for told in (shown, cli("status").out, cli("doctor").out):
        assert "Temporal is halted by alice since" in told
        assert "(upgrade)" in told
    (halt,) = cli("status", "--json").json["halts"]
    assert (halt["what"], halt["who"], halt["why"]) == ("temporal", "alice", "upgrade")
    assert cli("release", "--store", "temporal", "--json").json["action"] == "released"
    cli("run", "--until-idle")
    assert cli("intents", "--json").lines[0]["status"] == "succeeded"
    done = cli("operations", "--of", "temporal", "--json").lines
    assert [(one["who"], one["action"], one["why"]) for one in done[1:]] == [("alice", "hold", "upgrade")]
    assert done[0]["action"] == "release"


def test_a_halted_schedule_is_shown_so_though_nothing_of_it_waits(cli: Cli, agent: str) -> None:
    cli("create", agent, "s", *REQUEST)
    cli("run", "--until-idle")
    assert cli("hold", "--schedule", f"{agent}--s", "--reason", "moved").code == 0
    shown = cli("show", f"{agent}--s", OUTBOX_OPERATOR="bob").out
    assert "(moved)" in shown
    assert "hold, held (moved)" in shown
    (halt,) = cli("show", f"{agent}--s", "--json").json["halts"]
    assert halt["what"] == f"{agent}--s"
    again = cli("hold", "--schedule", f"{agent}--s", "--reason", "mine")
    assert (again.code, "release it first" in again.out) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("hold", "--reason", "r"), "name --store authz"),
        (("release", "--store", "authz", "--schedule", "a--b"), "name --store authz"),
        (("hold", "--store", "authz", "--reason", " "), "--reason is empty"),
        (("hold", "--store", "authz", "--reason", "r", "--until", "2020-01-01"), "that has passed"),
        (("hold", "--store", "authz", "--reason", "r", "--until", "soon"), "--until soon"),
    ],
)
def test_bad_input_is_named(cli: Cli, arguments: tuple[str, ...], names: str) -> None:
    ran = cli(*arguments)
    assert (ran.code, names in ran.err, ran.help) == (2, True, f"commands.html#outbox-{arguments[0]}")
