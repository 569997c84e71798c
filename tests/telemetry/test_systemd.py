"""What systemd is told: that a process is ready, that its loops turn, that it stops."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from outbox.pulse import HUNG_SECONDS, Pulse
from outbox.telemetry.systemd import notifying


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.setblocking(False)  # noqa: FBT003 - that is how sockets have it
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield line


class Hung(Pulse):
    """Of a loop that hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.felt = 0
        self.felt_thrice = asyncio.Event()

    def age(self) -> float:
        self.felt += 1
        if self.felt == 3:
            self.felt_thrice.set()
        return HUNG_SECONDS


async def heard(line: socket.socket) -> str:
    async with asyncio.timeout(240):
        return (await asyncio.get_running_loop().sock_recv(line, 100)).decode()


async def test_a_process_is_ready_feeds_its_watchdog_and_stops(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    async with notifying({"loop": Pulse()}):
        assert [await heard(systemd) for _ in range(3)] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
    while (last := await heard(systemd)) == "WATCHDOG=1":
        pass
    assert last == "STOPPING=1"


async def test_a_watchdog_is_not_fed_for_a_loop_that_hangs(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    hung = Hung()
    async with notifying({"settler": Pulse(), "loop": hung}), asyncio.timeout(240):
        await hung.felt_thrice.wait()
    assert [await heard(systemd) for _ in range(2)] == ["READY=1", "STOPPING=1"]


async def test_a_systemd_that_does_not_listen_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    async with notifying({}):
        pass
