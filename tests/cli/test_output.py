"""What commands print, as real processes: into pipes and files, and to terminals of every width."""

import asyncio
import json
import multiprocessing
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

import psycopg
import pytest

from consumers.authz.client import AuthzClient, Tuple
from consumers.calls import Call
from outbox.cli.main import main
from outbox.stack import StackInfo

OUTBOX = (sys.executable, "-m", "outbox")
# Most of a process's time is its imports: these are forked from one that has made them.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        *(f"outbox.cli.{name}" for name in ("look", "operate", "setup", "audit", "verify")),
        *("outbox.compose.audit", "outbox.compose.checks", "outbox.store.operate", "outbox.store.reads"),
        # What they run stands in this module.
        __name__,
    ]
)
NAME = "a-schedule-whose-name-is-as-long-as-names-may-be-which-is-a-lot"
WIDTHS = [60, 80, 140, None]
"""Columns of a terminal; None: a pipe."""


@dataclass(frozen=True)
class Ledger:
    """Three intents, the middle one of the longest schedule id there may be."""

    environment: dict[str, str]
    intents: list[str]
    schedules: list[str]


@pytest.fixture
def ledger(environment: dict[str, str], database: str, agent: str) -> Ledger:
    longest = agent + "x" * (128 - len(agent))
    rows = []
    with psycopg.connect(database) as connection:
        for who, name in ((agent, "short"), (longest, NAME + "s"), (agent, NAME)):
            row = connection.execute(
                """SELECT * FROM outbox.enqueue_many(jsonb_build_array(jsonb_build_object(
                       'agent_id', %s::text, 'name', %s::text, 'workflow_name', 'W', 'task_queue', 'q',
                       'interval_seconds', 60)))""",
                (who, name),
            ).fetchone()
            assert row
        found = connection.execute("SELECT id::text, schedule_id FROM outbox.intents ORDER BY id").fetchall()
    rows = [(str(intent), str(schedule)) for intent, schedule in found]
    assert max(len(schedule) for _, schedule in rows) == 194
    # Tests' own width must not be that of whoever runs them.
    inherited = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    return Ledger({**inherited, **environment}, [one for one, _ in rows], [one for _, one in rows])


@pytest.mark.parametrize("width", WIDTHS)
def test_intents_are_whole(ledger: Ledger, width: int | None) -> None:
    shown = printed(("intents",), ledger, width)
    for intent, schedule in zip(ledger.intents, ledger.schedules, strict=True):
        row = next(place for place, line in enumerate(shown) if line.startswith(intent))
        words = " ".join(shown[row : row + 2]).split()
        assert "pending" in words[1:3]
        assert schedule in words
    assert len(shown) == (1 + 3 if width is None else 1 + 2 * 3)
    if width is None:
        headings = ["intent", "schedule", "status", "last event", "attempts", "created", "error"]
        assert re.split(" {2,}", shown[0]) == headings


@pytest.mark.parametrize("width", [80, None])
def test_short_ids_take_one_line_each(ledger: Ledger, width: int | None) -> None:
    shown = printed(("intents", "--schedule", ledger.schedules[0]), ledger, width)
    assert shown[0].split()[:3] == ["intent", "schedule", "status"]
    assert [line.split()[:3] for line in shown[1:]] == [[ledger.intents[0], ledger.schedules[0], "pending"]]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_timeline_is_whole(ledger: Ledger, width: int | None) -> None:
    with psycopg.connect(ledger.environment["OUTBOX_DATABASE_URL"]) as connection:
        connection.execute(
            """INSERT INTO outbox.attempts (intent_id, event_type, consumer, attempt, lease_number, action,
                                            error_code, error_message)
               VALUES (%s, 'schedule.create.requested', 'authz', 1, 1, 'retry', 'unreachable', %s)""",
            (ledger.intents[1], "m" * 100 + "\n"),
        )
    shown = printed(("show", ledger.schedules[1]), ledger, width)
    assert shown[0] == ledger.schedules[1]
    assert f"create {ledger.intents[1]} pending" in shown
    assert any(line.endswith("  schedule.create.requested") for line in shown)
    tried = next(place for place, line in enumerate(shown) if "authz retry  attempt 1" in line)
    error = "unreachable " + "m" * 100 + "\\n"
    assert shown[tried].endswith(error) if width is None else shown[tried + 1] == f"    {error}"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_status_names_the_oldest_head_whole(ledger: Ledger, width: int | None) -> None:
    with psycopg.connect(ledger.environment["OUTBOX_DATABASE_URL"]) as connection:
        connection.execute("DELETE FROM outbox.queue WHERE intent_id <> %s", (ledger.intents[1],))
    shown = printed(("status",), ledger, width)
    assert "pending        1" in shown
    assert any(line.startswith(f"oldest head: {ledger.schedules[1]}, ") for line in shown)


@pytest.mark.parametrize("width", WIDTHS)
def test_settings_are_whole(ledger: Ledger, width: int | None) -> None:
    shown = printed(("settings",), ledger, width)
    name = next(place for place, line in enumerate(shown) if line.startswith("OUTBOX_SPICEDB_ENDPOINT"))
    text = " ".join(shown[name : name + 1 if width is None else name + 4])
    assert ledger.environment["OUTBOX_SPICEDB_ENDPOINT"] in text
    assert "SpiceDB" in text
    assert shown[name].split()[0] == "OUTBOX_SPICEDB_ENDPOINT"


@pytest.mark.parametrize("width", WIDTHS)
def test_what_a_doctor_finds_is_whole(ledger: Ledger, width: int | None) -> None:
    shown = printed(("doctor",), ledger, width, OUTBOX_SPICEDB_TOKEN="wrong")
    assert "ok    Postgres: reachable" in shown
    (wrong,) = (place for place, line in enumerate(shown) if line.startswith("wrong SpiceDB:"))
    assert "preshared key" in " ".join(shown[wrong : wrong + 2])
    assert any(line.startswith("      fix: ") and "_TOKEN" in line for line in shown[wrong:])


@pytest.mark.parametrize("width", WIDTHS)
def test_what_an_audit_finds_is_whole(
    ledger: Ledger, stack: StackInfo, agent: str, width: int | None
) -> None:
    theirs = f"{agent}{'y' * (128 - len(agent))}--theirs"

    async def relate() -> None:
        client = AuthzClient.connect(stack.spicedb_endpoint, stack.spicedb_token, tls=False)
        owner = Tuple("agent_schedule", theirs, "owner", "user", "stranger")
        await client.touch([owner], Call.within(10))
        await client.close()

    asyncio.run(relate())
    shown = printed(("audit", "--schedule", theirs), ledger, width)
    first = f"foreign {theirs}:"
    assert shown[0].startswith(first)
    assert (shown[0] == first) == (width is not None)
    assert sum(line.startswith("  fix: ") for line in shown) == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_what_verifying_finds_is_whole(ledger: Ledger, width: int | None) -> None:
    with psycopg.connect(ledger.environment["OUTBOX_DATABASE_URL"]) as connection:
        connection.execute("DELETE FROM outbox.queue WHERE intent_id = %s", (ledger.intents[1],))
    shown = printed(("verify", "--no-stores"), ledger, width)
    first = f"ends_once {ledger.schedules[1]}:"
    assert shown[0].startswith(first)
    assert (shown[0] == first) == (width is not None)
    assert f"  story: outbox show {ledger.schedules[1]}" in shown
    assert sum(line.startswith("  help: https://") and line.endswith("#ends_once") for line in shown) == 1
    assert shown[-2:] == [
        "3 schedules verified, 0 of them with their stores: 1 violations",
        "found: 1 ends_once",
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_replayed_is_whole(ledger: Ledger, width: int | None) -> None:
    shown = printed(("replay", "--dry-run", *ledger.intents), ledger, width)
    for intent in ledger.intents:
        assert any(line.startswith(f"{intent} refused:") for line in shown)
    assert shown[-1] == "0 would be replayed, 3 refused"


def test_rows_for_a_file_are_not_led_to_the_terminal_that_shows_progress(
    ledger: Ledger, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    command = f"{' '.join(OUTBOX)} replay --dry-run --json {' '.join(ledger.intents)} > {file}"
    told = on_a_terminal(("bash", "-c", command), ledger.environment | {"TERM": "xterm"}, 80)
    assert [json.loads(line)["intent_id"] for line in file.read_text().splitlines()] == ledger.intents
    assert "replaying" in told
    assert "intent_id" not in told


def test_rows_and_progress_on_one_terminal_do_not_overwrite_each_other(ledger: Ledger) -> None:
    command = (*OUTBOX, "replay", "--dry-run", *ledger.intents)
    told = on_a_terminal(command, ledger.environment | {"TERM": "xterm"}, 140)
    assert "replaying" in told
    for intent in ledger.intents:
        assert f"\x1b[2K{intent}" in told, "at the start of a line that was cleared for it"


def test_colours_that_are_forced_make_a_pipe_no_terminal(ledger: Ledger) -> None:
    shown = printed(("intents",), ledger, None, FORCE_COLOR="1", COLUMNS="60")
    assert len(shown) == 4


def test_the_first_line_may_be_all_that_is_read(ledger: Ledger) -> None:
    ran = subprocess.run(
        ["bash", "-c", f"{' '.join(OUTBOX)} intents --limit 300 | head -1"],
        env=ledger.environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert (ran.stdout.count("\n"), ran.stdout.split()[0], ran.stderr) == (1, "intent", "")


def test_ctrl_c_while_waiting_for_an_outcome_is_one_line_and_130(ledger: Ledger) -> None:
    # No worker brings it about.
    request = ("--workflow", "W", "--task-queue", "q", "--interval", "5")
    with (
        subprocess.Popen(
            [*OUTBOX, "create", "a", "n", *request, "--wait", "--timeout", "60"],
            env=ledger.environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        psycopg.connect(ledger.environment["OUTBOX_DATABASE_URL"], autocommit=True) as connection,
    ):
        waiting = (
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%awaited_result%' AND pid <> pg_backend_pid()"
        )
        while connection.execute(waiting).fetchone() is None:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=240)
    assert (process.returncode, told) == (130, "outbox: interrupted\n")


def printed(command: Sequence[str], ledger: Ledger, width: int | None, **changes: str) -> list[str]:
    """The lines that a command writes, to a terminal so wide or to what is none, without colours."""
    environment = {**ledger.environment, "TERM": "xterm", **changes}
    with tempfile.NamedTemporaryFile() as file:

        def run(path: str) -> None:
            process = FORKS.Process(target=_run, args=(command, environment, path))
            process.start()
            process.join(240)

        if width is None:
            run(file.name)
            written = file.read().decode()
        else:
            with terminal(width) as (theirs, shown):
                run(os.ttyname(theirs))
            written = shown.decode().replace("\r\n", "\n")
    assert "…" not in written
    return re.sub(r"\x1b\[[\d;]*m", "", written).splitlines()


def _run(command: Sequence[str], environment: dict[str, str], path: str) -> None:
    """Run a command in this process, with stdout led to a path and stderr to nowhere."""
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(path, os.O_WRONLY | os.O_NOCTTY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.argv = ["outbox", *command]
    main()


def on_a_terminal(command: Sequence[str], environment: dict[str, str], width: int) -> str:
    """What a command writes to a terminal of its own."""
    with terminal(width) as (theirs, shown):
        subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, check=False
        )
    return shown.decode().replace("\r\n", "\n")


@contextmanager
def terminal(width: int) -> Iterator[tuple[int, bytearray]]:
    """A terminal so wide, and what has been written to it when the context is left."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    shown = bytearray()

    def read() -> None:
        # The end of a terminal is an error.
        try:
            while chunk := os.read(ours, 65_536):
                shown.extend(chunk)
        except OSError:
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield theirs, shown
    finally:
        os.close(theirs)
        reader.join(240)
        os.close(ours)
