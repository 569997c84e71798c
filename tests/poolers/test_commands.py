"""Behind PgBouncer in transaction mode: the commands, from the first migration to the last look."""

import pytest

from tests.cli.conftest import Cli, cli, environment

__all__ = ["cli", "environment"]


@pytest.fixture
def through(cli: Cli, pooler: str) -> Cli:
    return lambda *arguments, **more: cli(*arguments, OUTBOX_DATABASE_URL=pooler, **more)


def test_an_operators_day(through: Cli, agent: str) -> None:
    assert through("doctor").code == 0
    what = ("--workflow", "W", "--task-queue", "q", "--interval", "3600", "--user", "u1")
    assert through("create", agent, "daily", *what).code == 0
    worked = through("run", "--until-idle", "--json")
    assert worked.json["advance"] == 2, worked.err
    for command in (["status"], ["intents"], ["show", f"{agent}--daily"], ["audit"]):
        done = through(*command, "--json")
        assert done.code == 0, f"{command}: {done.err}"
    deleted = through("delete", agent, "daily", "--user", "u1", "--wait", "--timeout", "0.1")
    assert deleted.code == 4, "nobody works"
    assert through("run", "--until-idle", "--json").json["advance"] == 2
    assert through("prune", "--older-than", "1h").code == 0
