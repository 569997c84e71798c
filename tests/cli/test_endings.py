"""Ctrl-C, readers that stop reading, full disks: each ends in one line or none, with its own code."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

OUTBOX = (sys.executable, "-m", "outbox")
INTENT = "01a21cd2-e486-7a71-83a8-3d693d4b52ee"
REQUEST = ("--workflow", "W", "--task-queue", "q", "--interval", "5")
ASKS_A_STORE = [
    ("intents",),
    ("show", INTENT),
    ("status",),
    ("doctor",),
    ("migrate",),
    ("create", "a", "n", *REQUEST),
    ("delete", "a", "n"),
    ("replay", "--status", "failed"),
    ("discard", INTENT, "--reason", "r"),
    ("prune", "--older-than", "1d"),
    ("audit",),
    ("verify",),
    ("authz-schema", "check"),
    ("run",),
    ("relay",),
]
# rich writes these; print_json, Click and the interpreter the others.
SHOWS = [
    ("intents",),
    ("intents", "--json"),
    ("show", "{schedule}"),
    ("status",),
    ("settings",),
    ("settings", "--json"),
    ("doctor",),
    ("delete", "a", "n"),
    ("audit",),
    ("verify", "--no-stores"),
    ("migrate", "--print-grants"),
    ("authz-schema", "print"),
]
SHOWS_ITSELF = [("--help",), ("--version",), ("intents", "--help")]


@pytest.fixture
def silent(silence: socket.socket) -> dict[str, str]:
    """An environment where every store is silent."""
    address = f"127.0.0.1:{silence.getsockname()[1]}"
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("OUTBOX_")},
        "OUTBOX_DATABASE_URL": f"postgresql://x@{address}/x",
        "OUTBOX_SPICEDB_ENDPOINT": address,
        "OUTBOX_SPICEDB_TOKEN": "token",
        "OUTBOX_TEMPORAL_ADDRESS": address,
    }


@pytest.fixture
def schedule(environment: dict[str, str], database: str, agent: str) -> str:
    """A schedule that was asked for."""
    del environment
    with psycopg.connect(database) as connection:
        connection.execute(
            """SELECT outbox.enqueue_many(jsonb_build_array(jsonb_build_object(
                   'agent_id', %s::text, 'name', 'n', 'workflow_name', 'W', 'task_queue', 'q',
                   'interval_seconds', 60)))""",
            (agent,),
        )
    return f"{agent}--n"


@pytest.mark.parametrize("command", ASKS_A_STORE, ids=lambda command: command[0])
def test_ctrl_c_is_one_line_and_130(
    silence: socket.socket, silent: dict[str, str], command: tuple[str, ...]
) -> None:
    with start(command, silent) as process:
        connection, _ = silence.accept()
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=240)
        connection.close()
    assert (process.returncode, told) == (130, ("", "outbox: interrupted\n"))


def test_ctrl_c_while_a_command_is_still_being_loaded(silent: dict[str, str], tmp_path: Path) -> None:
    """A library that takes long to read stands for a slow disk."""
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "orjson.py").write_text(f"open({str(tmp_path / 'gate')!r}).read()\n")
    with (
        start(("intents",), {**silent, "PYTHONPATH": str(tmp_path)}) as process,
        (tmp_path / "gate").open("w"),  # opens as soon as the library is read
    ):
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=240)
    assert (process.returncode, told) == (130, ("", "outbox: interrupted\n"))


@pytest.mark.parametrize("command", [*SHOWS, *SHOWS_ITSELF], ids=" ".join)
def test_a_reader_that_has_gone_is_no_error_and_worth_no_word(
    environment: dict[str, str], schedule: str, command: tuple[str, ...]
) -> None:
    words = [word.format(schedule=schedule) for word in command]
    with start(words, {**os.environ, **environment}) as process:
        assert process.stdout
        process.stdout.close()
        _, told = process.communicate(timeout=240)
    # A shell reports either as 141.
    assert (process.returncode in {141, -signal.SIGPIPE}, told) == (True, "")


@pytest.mark.parametrize("command", [("settings",), ("settings", "--json"), ("--help",)], ids=" ".join)
def test_a_full_disk_is_one_line_and_1(silent: dict[str, str], command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [*OUTBOX, *command], env=silent, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    line, *_ = ran.stderr.splitlines()
    assert (ran.returncode, "No space left on device" in line) == (1, True)


def test_nobody_to_hear_of_an_error_changes_no_code(silent: dict[str, str]) -> None:
    away = silent | {"OUTBOX_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
    with start(("intents",), away) as process:
        assert process.stderr
        process.stderr.close()
        process.wait(240)
    assert process.returncode == 3


def test_another_pipe_that_breaks_is_an_error_like_any_other() -> None:
    code = (
        "from outbox.cli.running import command\n"
        "@command\n"
        "def talk():\n"
        "    raise BrokenPipeError(32, 'Broken pipe')\n"
        "import typer\n"
        "typer.run(talk)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    line, _ = ran.stderr.splitlines()
    assert line == "outbox: BrokenPipeError: [Errno 32] Broken pipe (--debug shows where)"


def start(command: tuple[str, ...] | list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*OUTBOX, *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
