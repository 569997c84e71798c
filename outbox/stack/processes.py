"""Servers as processes: start one detached, find it again, end it with all its children.

A server is known by its command line, which names its program and its data: no pid file can go stale.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import psutil  # type: ignore[import-untyped]

from outbox.stack import launch
from outbox.stack.errors import StackError

Identity = Literal["same", "userns", "caps"]
_KILL_SECONDS = 5.0
_REAP_SECONDS = 3.0
_POLL_SECONDS = 0.02

Matcher = Callable[[Sequence[str]], bool]


def launcher(identity: Identity, log: Path | None) -> list[str]:
    """The command that starts another one as `identity`; detached where there is a log to write to."""
    return [sys.executable, "-I", "-S", launch.__file__, identity, str(log or "")]


def start(
    command: Sequence[str], *, identity: Identity, log: Path, cwd: Path, env: Mapping[str, str]
) -> None:
    """Start a detached server."""
    done = subprocess.run(
        [*launcher(identity, log), *command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StackError(f"Can't start {Path(command[0]).name}: {done.stderr.strip()[-300:]}")


def command_lines() -> Iterator[tuple[psutil.Process, list[str]]]:
    """The running processes with their arguments, but for those that have none, or hide them.

    Not by psutil's own iterator, which keeps what it has seen: it takes a process for an earlier one that had
    its id, and sends it no signal.
    """
    for pid in psutil.pids():
        try:
            process = psutil.Process(pid)
            line = process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if line:
            yield process, line


def find(matches: Matcher) -> list[psutil.Process]:
    """The running processes whose command line matches."""
    return [process for process, line in command_lines() if matches(line)]


def is_running(process: psutil.Process) -> bool:
    """Whether this very process (not a later one with its id) still runs.

    A zombie doesn't, except that one with threads left still holds its files and ports.
    """
    try:
        alive = process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
        return bool(process.is_running() and alive)
    except psutil.NoSuchProcess:
        return False


def families(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The processes and all their descendants."""
    members = dict.fromkeys(processes)
    for process in list(members):
        try:
            members.update(dict.fromkeys(process.children(recursive=True)))
        except psutil.NoSuchProcess:
            continue
    return list(members)


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Signal each process that is still there."""
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def end(processes: Sequence[psutil.Process], number: signal.Signals, *, timeout_seconds: float) -> None:
    """Signal the processes and wait until they and their children are gone; what outstays it is killed."""
    members = families(processes)
    send(members, signal.SIGCONT)
    send(processes, number)
    # A child of a server may have been born since.
    left = families([*_outlive(members, timeout_seconds), *processes])
    send(left, signal.SIGKILL)
    stuck = [process.pid for process in _outlive(left, _KILL_SECONDS)]
    if stuck:
        raise StackError(f"Processes {stuck} don't end, even on SIGKILL: they may be waiting for a disk")


def _outlive(
    processes: Sequence[psutil.Process], seconds: float, lives: Callable[[psutil.Process], bool] = is_running
) -> list[psutil.Process]:
    """Those that still live after `seconds`; returns as soon as there are none."""
    deadline = time.monotonic() + seconds
    while left := [process for process in processes if lives(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    return left


def wait_reaped(processes: Sequence[psutil.Process]) -> None:
    """Give the system time to strike ended processes off its list; some first processes do so at leisure."""
    _outlive(processes, _REAP_SECONDS, psutil.Process.is_running)


def log_tail(log: Path, lines: int = 15) -> str:
    """The last lines of a server's log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
