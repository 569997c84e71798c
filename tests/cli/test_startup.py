"""A command loads what it uses and nothing else, so that help, version and completion answer at once."""

import importlib
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from outbox.cli.main import COMMANDS, app
from outbox.cli.running import Code

CLIENTS = {"temporalio", "authzed", "grpc", "kafka"}
DATABASE = {"sqlalchemy", "psycopg", "alembic"}
HEAVY = CLIENTS | DATABASE | {"pydantic_settings", "structlog", "psutil"}
# Runs one command after another, and says after each what has been loaded by then.
NAMES_LOADED = """
import os, sys
from outbox.cli.main import main
for line in sys.stdin.read().splitlines():
    arguments, environment = eval(line)
    os.environ.update(environment)
    sys.argv = ["outbox", *arguments]
    try:
        main()
    except SystemExit:
        pass
    print("loaded", *sys.modules, file=sys.stderr)
"""


def loaded(*arguments: str, **environment: str) -> set[str]:
    """The top-level modules that a command has loaded when it ends."""
    (names,) = loaded_after_each((arguments, environment))
    return names


def loaded_after_each(*commands: tuple[tuple[str, ...], dict[str, str]]) -> list[set[str]]:
    """The top-level modules that have been loaded when each of these commands ends, in one process."""
    ran = subprocess.run(
        [sys.executable, "-c", NAMES_LOADED],
        input="\n".join(map(repr, commands)),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    lines = [line.split() for line in ran.stderr.splitlines() if line.startswith("loaded ")]
    assert len(lines) == len(commands)
    return [{name.partition(".")[0] for name in names} for _, *names in lines]


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_what_needs_no_command_loads_none(arguments: tuple[str, ...]) -> None:
    assert loaded(*arguments) & (HEAVY | {"pydantic", "asyncio"}) == set()


def test_completing_a_command_or_its_options_runs_and_loads_none() -> None:
    asked = [
        ((), {"_OUTBOX_COMPLETE": "complete_bash", "COMP_WORDS": f"outbox {words}", "COMP_CWORD": str(place)})
        for words, place in [("in", 1), *((f"{name} --", 2) for name in COMMANDS)]
    ]
    for (_, environment), names in zip(asked, loaded_after_each(*asked), strict=True):
        assert names & HEAVY == set(), environment["COMP_WORDS"]


def test_the_help_of_a_command_loads_nothing_that_it_would_run() -> None:
    asked: list[tuple[tuple[str, ...], dict[str, str]]] = [((name, "--help"), {}) for name in COMMANDS]
    for name, names in zip(COMMANDS, loaded_after_each(*asked), strict=True):
        assert names & HEAVY == set(), name


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_only_the_terminal_says_where_the_lines_of_help_end(name: str | None) -> None:
    ran = CliRunner().invoke(app, [*([name] if name else []), "--help"], env={"COLUMNS": "1000"})
    prose, *_ = ran.stdout.partition("╭")
    lines = [bool(line.strip()) for line in prose.splitlines()]
    assert any(lines)
    assert not any(both for both in pairwise(lines) if all(both)), prose


def test_the_help_tells_each_exit_code() -> None:
    told = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "1000"}).stdout.split())
    _, _, codes = told.partition("Exit codes: ")
    assert re.findall(r"(?:^|, )(\d+) ", codes) == [str(code.value) for code in Code]


def test_the_settings_are_printed_without_any_client() -> None:
    assert loaded("settings") & (CLIENTS | DATABASE) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("down",),
        ("discard", "x", "--reason", " "),
        ("audit", "--yes"),
        ("verify", "--schedule", "x", "--since", "1d"),
    ],
)
def test_what_ends_before_it_asks_anybody_loads_no_database(arguments: tuple[str, ...]) -> None:
    assert loaded(*arguments, OUTBOX_HOME="/nowhere") & DATABASE == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("intents",),
        ("show", "x"),
        ("status",),
        ("replay", "--status", "failed"),
        ("delete", "a", "n"),
        ("verify", "--no-stores"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_only_asks_postgres_loads_no_client_of_a_store(arguments: tuple[str, ...]) -> None:
    found = loaded(*arguments, OUTBOX_DATABASE_URL="postgresql://x@127.0.0.1:1/x")
    assert "psycopg" in found
    assert found & (CLIENTS | {"alembic"}) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str) -> None:
    module, summary = COMMANDS[name]
    group = typer.Typer()
    group.callback()(lambda: None)
    importlib.import_module(f"outbox.cli.{module}").register(group)
    said = typer.main.get_group(group).commands[name].help or ""
    assert summary == " ".join(said.split("\n\n")[0].split())


def test_every_command_is_listed() -> None:
    group = typer.Typer()
    for module in dict.fromkeys(module for module, _ in COMMANDS.values()):
        importlib.import_module(f"outbox.cli.{module}").register(group)
    assert set(typer.main.get_group(group).commands) == set(COMMANDS)


def test_the_package_is_the_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "outbox", "--version"], capture_output=True, text=True, timeout=240, check=True
    )
    assert ran.stdout.strip()[0].isdigit()


@pytest.mark.parametrize("package", ["outbox", "outbox.cli.ledger"])
def test_a_name_that_is_not_there_is_no_attribute(package: str) -> None:
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match="has no attribute 'enqueue_updates'"):
        _ = module.enqueue_updates


def test_type_checkers_see_the_names_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        "import outbox\nasked: type[outbox.CreateSchedule] = outbox.CreateSchedule\noutbox.enqueue_updates\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-pretty", tmp_path / "user.py"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    (wrong, *_) = ran.stdout.splitlines()
    assert re.search(r"user\.py:3: error: Module has no attribute \"enqueue_updates\"", wrong)
    assert "Found 1 error" in ran.stdout
