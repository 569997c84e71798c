"""A signal at any moment of a start: an order that is followed, as process 1 of a container, too.

The kernel drops what process 1 gets and has no handler for. Here a command gets the signal from itself,
when it looks for a module, so that no moment is a matter of time.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from outbox.cli.main import app

OUTBOX = (sys.executable, "-m", "outbox")
PROCESS_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
# A process gets OUTBOX_TEST_SIGNAL when it looks for the module OUTBOX_TEST_AT.
SIGNALS_ITSELF = """
import os, sys

class Signals:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["OUTBOX_TEST_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(os.environ["OUTBOX_TEST_SIGNAL"]))

sys.meta_path.insert(0, Signals())
"""
# From the first that a command loads to the last before it asks Postgres.
WORKER = ["outbox.cli.main", "outbox.cli.work", "outbox.compose.checks", "grpc"]
RELAY = ["outbox.cli.main", "outbox.compose.checks"]
AUDIT = ["outbox.cli.main", "outbox.compose.audit"]
STARTS = [
    *((("--debug", "run"), moment) for moment in WORKER),
    *((("relay",), moment) for moment in RELAY),
]


@pytest.fixture
def silent(silence: socket.socket, tmp_path: Path) -> dict[str, str]:
    """An environment where a command that its signal doesn't end gives up after ten seconds, with 3."""
    (tmp_path / "sitecustomize.py").write_text(SIGNALS_ITSELF)
    own = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOX_")}
    url = f"postgresql://x@127.0.0.1:{silence.getsockname()[1]}/x"
    return own | {
        "OUTBOX_DATABASE_URL": url,
        "OUTBOX_TEST_AT": "",
        "PYTHONPATH": str(tmp_path),
    }


@pytest.fixture
def process_1() -> tuple[str, ...]:
    if subprocess.run([*PROCESS_1, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this host lets nobody make a namespace of process ids")
    return PROCESS_1


@pytest.mark.parametrize(
    ("command", "moment"), STARTS, ids=lambda one: one if isinstance(one, str) else one[-1]
)
def test_sigterm_while_a_worker_or_relay_starts_drains_it(
    silent: dict[str, str], process_1: tuple[str, ...], command: tuple[str, ...], moment: str
) -> None:
    ran = signalled(process_1, command, silent, signal.SIGTERM, moment)
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("moment", AUDIT)
def test_sigterm_ends_any_other_command_as_process_1_as_well(
    silent: dict[str, str], process_1: tuple[str, ...], moment: str
) -> None:
    elsewhere = signalled((), ("audit",), silent, signal.SIGTERM, moment)
    as_process_1 = signalled(process_1, ("audit",), silent, signal.SIGTERM, moment)
    assert (elsewhere.returncode, elsewhere.stderr) == (-signal.SIGTERM, "")
    assert (as_process_1.returncode, as_process_1.stderr) == (128 + signal.SIGTERM, "")


def test_what_a_command_is_about_does_not_make_it_a_worker(silent: dict[str, str]) -> None:
    """Code 0 would say that the intent is enqueued."""
    ran = signalled((), ("delete", "run", "relay"), silent, signal.SIGTERM, "typer")
    assert ran.returncode == -signal.SIGTERM


def test_no_option_before_a_commands_name_takes_a_value() -> None:
    """Or the value would be taken for the command."""
    options: Any = typer.main.get_command(app).params
    assert options
    assert all(option.is_flag for option in options)


@pytest.mark.parametrize("moment", ["outbox.cli.main", "typer", "outbox.cli.audit"])
def test_ctrl_c_while_a_command_is_loaded_is_one_line_and_130(silent: dict[str, str], moment: str) -> None:
    ran = signalled((), ("audit",), silent, signal.SIGINT, moment)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "outbox: interrupted\n")


@pytest.mark.parametrize(("command", "code"), [("run", 0), ("intents", 143)])
def test_sigterm_to_process_1_while_a_store_is_silent(
    silence: socket.socket, silent: dict[str, str], process_1: tuple[str, ...], command: str, code: int
) -> None:
    with subprocess.Popen([*process_1, *OUTBOX, command], env=silent, stderr=subprocess.PIPE) as process:
        connection, _ = silence.accept()
        with connection:
            os.kill(child_of(process.pid), signal.SIGTERM)
            process.communicate(timeout=240)
    assert process.returncode == code


def signalled(
    process_1: tuple[str, ...],
    command: tuple[str, ...],
    environment: dict[str, str],
    number: signal.Signals,
    moment: str,
) -> "subprocess.CompletedProcess[str]":
    """A command that gets a signal when it looks for a module."""
    at = {"OUTBOX_TEST_AT": moment, "OUTBOX_TEST_SIGNAL": str(int(number))}
    return subprocess.run(
        [*process_1, *OUTBOX, *command],
        env=environment | at,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
