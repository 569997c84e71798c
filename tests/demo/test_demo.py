"""The whole demo, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

OUTBOX = (sys.executable, "-m", "outbox")
SECONDS = 540.0


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for a stack of the test's own, stopped in the end."""
    # Short, as it holds unix sockets.
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)
        run(Path(folder), "down")


def environment(home: Path) -> dict[str, str]:
    blind = {name: value for name, value in os.environ.items() if not name.startswith("OUTBOX_")}
    return blind | {"OUTBOX_HOME": str(home / "stack")}


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*OUTBOX, *arguments],
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def workers(home: Path) -> list[int]:
    """The worker processes that work on the stack of this home."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[1:] == [*OUTBOX[1:], "run"] and process.environ().get("OUTBOX_HOME") == str(
                home / "stack"
            ):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def count(summary: dict[str, Any], event_type: str, error_code: str | None = None) -> int:
    return sum(
        row["count"]
        for row in summary["endings"]
        if (row["event_type"], row["error_code"]) == (event_type, error_code)
    )


@pytest.mark.campaign(seconds=45)
def test_all_converges_whatever_breaks_and_what_it_suggests_works(home: Path) -> None:
    done = run(home, "demo", "--json")
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    summary = json.loads(done.stdout)
    assert summary["ok"]
    assert summary["intents"] == 200
    assert count(summary, "schedule.created") == 154
    assert count(summary, "schedule.updated") == 8
    assert count(summary, "schedule.deleted") == 33
    assert count(summary, "schedule.create_failed", "refused") == 2
    assert count(summary, "schedule.create_failed", "conflict_foreign") == 2
    assert count(summary, "schedule.create_failed", "conflict_live") == 1
    assert summary["unexpected"] == []
    assert [one["untouched"] for one in summary["strangers"]] == [True, True]
    agreement = summary["agreement"]
    assert (agreement["agrees"], agreement["busy"], agreement["lanes"], agreement["live"]) == (
        True,
        [],
        135,
        122,
    )
    assert {drift["kind"] for drift in agreement["drifts"]} == {"foreign"}
    failures = {(row["consumer"], row["error_code"]) for row in summary["failed_attempts"]}
    assert {("authz", "unreachable"), ("temporal", "unreachable")} <= failures
    assert workers(home) == []
    assert summary["console"] == "outbox console"
    left = [json.loads(line) for line in run(home, "failures", "--json").stdout.splitlines()]
    assert [one["status"] for one in left].count("parked") == 1
    assert max(one["count"] for one in left) == 12
    for line in summary["next"]:
        words = line.split()
        assert words[0] == "outbox"
        followed = run(home, *words[1:])
        assert followed.returncode == 0, (line, followed.stderr)


def test_ctrl_c_ends_its_workers_and_leaves_the_stack_as_it_was_found(home: Path) -> None:
    with subprocess.Popen(
        [*OUTBOX, "demo"],
        env=environment(home),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if "producers commit" in line:
                break
        assert len(workers(home)) == 2
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        process.wait(SECONDS)
    assert process.returncode == 130, rest
    assert "interrupted" in rest
    deadline = time.monotonic() + 5
    while workers(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers(home) == []
    assert run(home, "down").stdout.startswith("nothing ran")
