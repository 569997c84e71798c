"""migrate, authz-schema, settings, doctor, and errors as one clear line."""

import re
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from consumers.authz import schema as authz_schema
from outbox.stack import Stack, StackInfo
from tests.cli.conftest import Cli


def test_migrate_says_what_it_did(cli: Cli, empty_database: str) -> None:
    first = cli("migrate", OUTBOX_DATABASE_URL=empty_database)
    assert (first.code, first.out) == (0, "migrated from nothing to 0004\n")
    assert cli("migrate", OUTBOX_DATABASE_URL=empty_database).out == "already at revision 0004\n"
    assert cli("migrate", "--json", OUTBOX_DATABASE_URL=empty_database).json == {
        "before": "0004",
        "after": "0004",
        "topics": [],
    }


def test_the_grants_that_are_printed_run(cli: Cli, database: str) -> None:
    grants = cli("migrate", "--print-grants")
    assert grants.code == 0
    with psycopg.connect(database) as connection:
        connection.execute(grants.out.encode())
        connection.rollback()


def test_migrate_gives_each_role_what_it_needs_if_asked(cli: Cli, empty_database: str) -> None:
    granted = cli("migrate", "--grant", OUTBOX_DATABASE_URL=empty_database)
    assert (granted.code, granted.out) == (0, "migrated from nothing to 0004\neach role has what it needs\n")
    with psycopg.connect(empty_database) as connection:
        connection.execute("SET ROLE outbox_worker")
        connection.execute("SELECT outbox.pending(false)")
    older = cli("migrate", "--grant", "--revision", "0001", OUTBOX_DATABASE_URL=empty_database)
    assert older.code == 2
    assert "--revision" in older.err


def test_settings_are_listed_with_secrets_masked(cli: Cli, stack: StackInfo) -> None:
    rows = {row["name"]: row for row in cli("settings", "--json").lines}
    assert rows["OUTBOX_LEASE_SECONDS"]["value"] == 3.0
    assert rows["OUTBOX_LEASE_SECONDS"]["default"] == 30.0
    assert rows["OUTBOX_SPICEDB_TOKEN"]["value"] == "********"
    for text in (cli("settings", "--json").out, cli("settings").out):
        assert stack.spicedb_token not in text
        assert "postgres:" not in text.replace("postgresql:", "")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"OUTBOX_LEASE_SECONDS": "-1"}, "OUTBOX_LEASE_SECONDS"),
        ({"OUTBOX_LEASE_SECONDS": "soon"}, "OUTBOX_LEASE_SECONDS"),
        ({"OUTBOX_STEP_TIMEOUT_SECONDS": "99"}, "OUTBOX_STEP_TIMEOUT_SECONDS"),
        ({"OUTBOX_WIRE": "pigeon"}, "OUTBOX_WIRE"),
        ({"OUTBOX_TEMPORAL_DATA_CONVERTER": "os.system"}, "OUTBOX_TEMPORAL_DATA_CONVERTER"),
        ({"OUTBOX_DATABASE_URL": "mysql://localhost/x"}, "OUTBOX_DATABASE_URL"),
        ({"OUTBOX_DATABASE_URL": "nonsense"}, "OUTBOX_DATABASE_URL"),
    ],
)
def test_a_bad_setting_is_named(cli: Cli, changes: dict[str, str], name: str) -> None:
    ran = cli("status", **changes)
    if ran.code == 0:  # not a setting that a look at Postgres needs
        ran = cli("doctor", **changes)
    assert (ran.code, name in ran.err, ran.help) == (2, True, "errors.html#a-setting-is-wrong")


def test_doctor_finds_all_well(cli: Cli) -> None:
    ran = cli("doctor", "--json")
    assert ran.code == 0
    assert all(line["ok"] for line in ran.lines)
    assert {line["component"] for line in ran.lines} == {"Postgres", "SpiceDB", "Temporal"}
    assert "ok" in cli("doctor").out


@pytest.mark.parametrize(
    ("changes", "component", "code", "problem"),
    [
        ({"OUTBOX_DATABASE_URL": "postgresql://x:secret@127.0.0.1:1/x"}, "Postgres", 3, "refused"),
        ({"OUTBOX_SPICEDB_ENDPOINT": "127.0.0.1:1"}, "SpiceDB", 3, "refused"),
        ({"OUTBOX_SPICEDB_TOKEN": "wrong-token"}, "SpiceDB", 1, "invalid preshared key"),
        ({"OUTBOX_TEMPORAL_ADDRESS": "127.0.0.1:1"}, "Temporal", 3, ""),
        ({"OUTBOX_TEMPORAL_NAMESPACE": "nope"}, "Temporal", 1, "nope"),
        ({"OUTBOX_INSTANCE": str(UUID(int=1))}, "Postgres", 1, str(UUID(int=1))),
    ],
)
def test_doctor_names_what_is_wrong_and_the_way_out(
    cli: Cli, changes: dict[str, str], component: str, code: int, problem: str
) -> None:
    ran = cli("doctor", "--json", **changes)
    wrong = [line for line in ran.lines if not line["ok"]]
    assert (ran.code, [line["component"] for line in wrong]) == (code, [component])
    assert problem in wrong[0]["problem"]
    assert "OUTBOX_" in wrong[0]["fix"]
    assert "secret" not in ran.out
    assert "wrong-token" not in ran.out
    people = cli("doctor", **changes)
    assert "fix:" in people.out
    assert f"      help: {wrong[0]['help']}\n" in people.out
    assert ("reached" in wrong[0]["help"]) == (code == 3)


def test_doctor_names_a_transaction_that_has_been_open_for_long(
    cli: Cli, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database, application_name="a report") as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT 1")
        assert cli("doctor").code == 0, "it has not been open for long"
        monkeypatch.setattr("outbox.compose.checks._LONG_TRANSACTION_SECONDS", 0.0)
        ran = cli("doctor", "--json")
        (wrong,) = [line for line in ran.lines if not line["ok"]]
        assert (ran.code, wrong["check"]) == (1, "vacuum")
        assert f"session {old.info.backend_pid} of " in wrong["problem"]
        assert f"pg_terminate_backend({old.info.backend_pid})" in wrong["fix"]
        assert cli("run", "--until-idle").code == 0, "a worker works all the same"


def test_doctor_names_a_database_without_an_outbox(cli: Cli, empty_database: str) -> None:
    ran = cli("doctor", "--json", OUTBOX_DATABASE_URL=empty_database)
    (wrong,) = [line for line in ran.lines if not line["ok"]]
    assert (ran.code, wrong["fix"]) == (1, "outbox migrate")


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("intents",),
        ("create", "a", "n", "--workflow", "W", "--task-queue", "q", "--interval", "5"),
    ],
)
def test_a_command_on_a_database_without_an_outbox_says_what_to_run(
    cli: Cli, empty_database: str, command: tuple[str, ...]
) -> None:
    ran = cli(*command, OUTBOX_DATABASE_URL=empty_database)
    assert ran.code != 0
    assert "outbox migrate" in ran.err
    assert ran.help == "errors.html#the-database-has-no-outbox"


@pytest.mark.parametrize("command", [("status",), ("show", "x"), ("migrate",), ("run", "--until-idle")])
def test_a_database_that_is_away_is_exit_3_and_no_password(cli: Cli, command: tuple[str, ...]) -> None:
    ran = cli(*command, OUTBOX_DATABASE_URL="postgresql://me:secret@127.0.0.1:1/x")
    assert (ran.code, "secret" in ran.err, "Postgres" in ran.err) == (3, False, True)
    # A worker is told what `outbox doctor` would say.
    assert ran.help in {"errors.html#postgres-cant-be-reached", "errors.html#a-store-cant-be-reached"}


def test_debug_shows_where_an_error_comes_from(cli: Cli) -> None:
    assert "Traceback" in cli("--debug", "show", "nobody--knows").err


def test_the_schema_is_printed_checked_and_applied(cli: Cli) -> None:
    assert cli("authz-schema", "print").out == authz_schema.required()
    assert cli("authz-schema", "check").code == 0
    assert cli("authz-schema", "check", "--json").json["ok"] is True
    applied = cli("authz-schema", "apply")
    assert (applied.code, "has what the outbox needs" in applied.out) == (0, True)
    assert cli("authz-schema", "apply", "--yes", "--json").json["ok"] is True


def test_a_schema_command_without_spicedb(cli: Cli) -> None:
    away = cli("authz-schema", "check", OUTBOX_SPICEDB_ENDPOINT="127.0.0.1:1")
    assert (away.code, "OUTBOX_SPICEDB_ENDPOINT" in away.err) == (3, True)
    assert away.help == "errors.html#a-store-cant-be-reached"
    refused = cli("authz-schema", "check", OUTBOX_SPICEDB_TOKEN="wrong-token")
    assert (refused.code, "wrong-token" in refused.err) == (1, False)
    assert refused.help == "errors.html#a-store-cant-be-used-as-it-is"
    missing = cli("authz-schema", "check", OUTBOX_SPICEDB_TOKEN=None)
    assert (missing.code, "OUTBOX_SPICEDB_TOKEN" in missing.err) == (2, True)


def test_help_teaches(cli: Cli) -> None:
    plain = re.sub(r"\s+", " ", cli("--help").out)
    for command in (
        "up",
        "down",
        "migrate",
        "authz-schema",
        "run",
        "create",
        "delete",
        "intents",
        "show",
        "status",
        "doctor",
        "settings",
    ):
        assert f" {command} " in plain
    assert "Exit codes" in plain


def test_the_version_is_the_packages(cli: Cli) -> None:
    assert cli("--version").out.strip() == version("agent-schedule-outbox")


def test_a_server_that_died_does_not_hide_the_stack(cli: Cli, tmp_path: Path) -> None:
    """What is broken is named, instead of the defaults being tried."""
    home = str(tmp_path / "home")
    unset = dict.fromkeys(
        (
            "OUTBOX_DATABASE_URL",
            "OUTBOX_SPICEDB_ENDPOINT",
            "OUTBOX_SPICEDB_TOKEN",
            "OUTBOX_SPICEDB_TLS",
            "OUTBOX_TEMPORAL_ADDRESS",
            "OUTBOX_TEMPORAL_NAMESPACE",
        )
    )
    try:
        assert cli("up", "--detach", OUTBOX_HOME=home, **unset).code == 0
        assert cli("doctor", OUTBOX_HOME=home, **unset).code == 0
        Stack(Path(home)).kill("temporal")
        ran = cli("doctor", "--json", OUTBOX_HOME=home, **unset)
        assert (ran.code, [line["component"] for line in ran.lines if not line["ok"]]) == (3, ["Temporal"])
        up = cli("up", "--detach", "--json", OUTBOX_HOME=home, **unset)
        assert set(up.json) == set(unset)
    finally:
        down = cli("down", "--json", OUTBOX_HOME=home, **unset)
    assert sorted(down.json["stopped"]) == ["postgres", "spicedb", "temporal"]
    assert "nothing ran" in cli("down", OUTBOX_HOME=home, **unset).out
