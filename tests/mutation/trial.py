"""Tries changes, each in a process of its own, as many at once as there are cores for."""

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

from tests.mutants.mutant import put_in_place
from tests.mutation.change import Change
from tests.mutation.judges import Judge

_MEMORY_BYTES = 3 << 30
# Who computes less than this in all the time that it may idle, waits; on a busy machine others get more.
_PROGRESS_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a change.

    Attributes:
        by: who noticed; None: nobody.
        told: what was noticed.
    """

    by: str | None
    told: str = ""


Tried = tuple[Change, Verdict]


def tried(
    changes: Iterable[Change],
    judges: Callable[[Change], Sequence[Judge]],
    *,
    processes: int,
    cpu_seconds: int,
    idle_seconds: int,
) -> Iterator[Tried]:
    """Try each change; tell the verdicts as they come.

    Args:
        cpu_seconds: the time that its process may compute, on however busy a machine.
        idle_seconds: how long its process may do nothing but wait, before it is given up.
    """
    context = multiprocessing.get_context("fork")
    running: dict[Connection, tuple[BaseProcess, Change]] = {}
    todo = iter(changes)
    while True:
        while len(running) < processes and (change := next(todo, None)) is not None:
            ours, theirs = context.Pipe(duplex=False)
            work = change, judges(change), theirs, cpu_seconds, idle_seconds
            process: BaseProcess = context.Process(target=_try, args=work)
            process.start()
            theirs.close()
            running[ours] = process, change
        if not running:
            return
        for ready in wait(list(running)):
            assert isinstance(ready, Connection)
            process, change = running.pop(ready)
            yield change, _verdict(ready)
            process.join()


def _verdict(told: Connection) -> Verdict:
    try:
        verdict = told.recv()
        assert isinstance(verdict, Verdict)
    except EOFError:
        return Verdict("the process", "died")
    finally:
        told.close()
    return verdict


def _try(
    change: Change, judges: Sequence[Judge], told: Connection, cpu_seconds: int, idle_seconds: int
) -> None:
    os.setsid()
    sys.dont_write_bytecode = True
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)

    computed = 0.0

    def over(number: int, _: FrameType | None) -> None:
        nonlocal computed
        if number == signal.SIGALRM and (now := time.process_time()) >= computed + _PROGRESS_SECONDS:
            computed = now
            signal.alarm(idle_seconds)
            return
        waits = "waits" if number == signal.SIGALRM else "computes"
        told.send(Verdict("its time", f"{waits} for ever"))
        os._exit(1)

    signal.signal(signal.SIGXCPU, over)
    signal.signal(signal.SIGALRM, over)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 10))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    signal.alarm(idle_seconds)
    put_in_place(change.file, change.source)
    told.send(_judged(judges))
    # Threads of clients that nobody closed must not keep it.
    os._exit(0)


def _judged(judges: Sequence[Judge]) -> Verdict:
    for judge in judges:
        try:
            noticed = judge.notices()
        except BaseException as error:  # noqa: BLE001 - the change's doing: that is noticed, too
            noticed = f"{type(error).__name__}: {error}"
        if noticed is not None:
            return Verdict(judge.name, noticed[:300])
    return Verdict(None)
