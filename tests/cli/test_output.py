"""What commands print, as real processes: into pipes, to terminals, and to readers that stop reading."""

import os
import pty
import signal
import subprocess
import sys
import threading

import psycopg
import pytest

OUTBOX = (sys.executable, "-m", "outbox")
NAME = "a-schedule-whose-name-is-as-long-as-names-may-be-which-is-a-lot"


@pytest.fixture
def filled(environment: dict[str, str], database: str, agent: str) -> dict[str, str]:
    """An environment whose outbox has three hundred intents."""
    with psycopg.connect(database) as connection:
        connection.execute(
            """SELECT outbox.enqueue_many(jsonb_agg(jsonb_build_object(
                   'agent_id', %s::text, 'name', %s::text, 'workflow_name', 'W', 'task_queue', 'q',
                   'interval_seconds', 60))) FROM generate_series(1, 300)""",
            (agent, NAME),
        )
    return {**os.environ, **environment}


def test_into_a_pipe_every_intent_is_one_whole_line(filled: dict[str, str], agent: str) -> None:
    ran = subprocess.run(
        [*OUTBOX, "intents", "--limit", "300"],
        env=filled,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    header, *lines = ran.stdout.splitlines()
    assert header.split() == ["intent", "schedule", "status", "last", "event", "attempts", "created", "error"]
    assert [line.split()[1:3] for line in lines] == [[f"{agent}--{NAME}", "pending"]] * 300


@pytest.mark.parametrize("columns", [60, 80, 140])
@pytest.mark.parametrize("command", [("intents", "--limit", "2"), ("settings",), ("status",), ("doctor",)])
def test_on_a_terminal_names_are_whole_at_any_width(
    filled: dict[str, str], agent: str, command: tuple[str, ...], columns: int
) -> None:
    shown = on_a_terminal(command, {**filled, "COLUMNS": str(columns), "TERM": "xterm"})
    wanted = {
        "intents": f"{agent}--{NAME}",
        "settings": "OUTBOX_TEMPORAL_DATA_CONVERTER",
        "status": "oldest head",
        "doctor": "no old transaction holds vacuum back",
    }
    assert wanted[command[0]] in shown
    assert "…" not in shown


def test_a_reader_that_stops_reading_is_no_error(filled: dict[str, str]) -> None:
    ran = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {' '.join(OUTBOX)} intents --limit 300 --json | head -1"],
        env=filled,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.count("\n") == 1
    assert ran.stderr == ""
    # As whoever SIGPIPE ends; 0, where all of it went into the pipe before.
    assert ran.returncode in {0, 141}


def test_ctrl_c_is_one_line_and_130(filled: dict[str, str]) -> None:
    # It waits for an outcome that no worker brings about.
    command = (
        "create",
        "a",
        "n",
        "--workflow",
        "W",
        "--task-queue",
        "q",
        "--interval",
        "5",
        "--wait",
        "--json",
    )
    process = subprocess.Popen(
        [*OUTBOX, *command, "--timeout", "60"],
        env=filled,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with psycopg.connect(filled["OUTBOX_DATABASE_URL"], autocommit=True) as connection:
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = 7304564 AND objid = 2"
        while not connection.execute(waiting).fetchone():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, "outbox: interrupted\n")


def on_a_terminal(command: tuple[str, ...], environment: dict[str, str]) -> str:
    """What a command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        # The end of a terminal is an error.
        try:
            while chunk := os.read(ours, 65_536):
                shown.extend(chunk)
        except OSError:
            return

    reader = threading.Thread(target=read)
    with subprocess.Popen([*OUTBOX, *command], env=environment, stdout=theirs, stdin=theirs) as process:
        os.close(theirs)
        reader.start()
        process.wait(60)
    reader.join(60)
    os.close(ours)
    return shown.decode()
