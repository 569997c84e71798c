"""Servers as processes: found as soon as they are started, and ended whatever had their id before."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from outbox.stack import launch, processes

SLEEPS = [sys.executable, "-c", "import time; time.sleep(3600)"]


@pytest.fixture
def server() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEPS) as server:
        yield server
        server.kill()


def test_a_server_is_not_started_before_it_shows_its_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: subprocess.Popen[bytes]
) -> None:
    shown = tmp_path / str(server.pid)
    shown.touch()
    monkeypatch.setattr(launch, "_ARGUMENTS", str(tmp_path / "{}"))
    monkeypatch.setattr(time, "sleep", lambda _: shown.write_text("server"))
    launch.await_arguments(server.pid)
    assert shown.read_text() == "server"


def test_a_server_that_has_ended_shows_no_arguments_and_nobody_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: subprocess.Popen[bytes]
) -> None:
    (tmp_path / str(server.pid)).touch()
    monkeypatch.setattr(launch, "_ARGUMENTS", str(tmp_path / "{}"))
    server.kill()
    launch.await_arguments(server.pid)


def test_a_server_whose_id_another_process_had_is_found_and_ended(server: subprocess.Popen[bytes]) -> None:
    for known in psutil.process_iter():
        if known.pid == server.pid:
            known._ident = (server.pid, 0.0)  # as if seen before this one began
    found = processes.find(lambda line: line == SLEEPS)
    processes.end(found, signal.SIGKILL, timeout_seconds=60)
    assert server.wait(60) == -signal.SIGKILL
