"""``outbox create --from FILE``: many requests, all or nothing, with progress; bad lines named by number."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import typer
from rich.progress import Progress
from sqlalchemy.ext.asyncio import AsyncConnection

from outbox.cli.configuration import load_settings
from outbox.cli.json_lines import NotJson, loads, read_lines
from outbox.cli.running import Code, CommandError, err, print_json
from outbox.documentation import Problem
from outbox.errors import IdempotencyConflict, InvalidRequest
from outbox.producer.enqueue import enqueue_many
from outbox.producer.intents import Intent
from outbox.producer.requests import Entry, parse
from outbox.store.engine import open_engine, transaction

_CHUNK = 1000
_BAD_SHOWN = 20
# A request may be written longer than it is sent, every character of it as \uXXXX. What is longer than this
# is no request, and may have no end.
_LONGEST_LINE = 8


@dataclass(frozen=True, slots=True)
class Line:
    """One good line of the file."""

    number: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Bad:
    """One line that can't be enqueued, and why."""

    number: int
    reason: str


@dataclass(slots=True)
class BadLines:
    """How many lines are bad, and the first of them: a file may have any number."""

    first: list[Bad] = field(default_factory=list)
    count: int = 0

    def add(self, number: int, reason: str) -> None:
        """Count a line."""
        self.count += 1
        if len(self.first) < _BAD_SHOWN:
            self.first.append(Bad(number, reason))

    def __iter__(self) -> Iterator[Bad]:
        return iter(self.first)


async def enqueue_file(source: str, *, keep_going: bool, as_json: bool) -> None:
    """Enqueue the requests of a file (``-``: stdin) in one transaction.

    Raises:
        CommandError: the file can't be read, or a line is bad without ``keep_going``. Nothing was enqueued.
    """
    settings = load_settings()
    url, longest = settings.database_url.get_secret_value(), _LONGEST_LINE * settings.max_request_bytes
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        with _nothing_if_interrupted(), _at_once():
            lines = read_lines(source, longest=longest)
            good, bad = _read(progress.track(lines, description="reading"))
        if bad.count and not keep_going:
            _refuse(bad, len(good) + bad.count)
        task = progress.add_task("enqueueing", total=len(good))
        intents: list[Intent] = []
        async with open_engine(url) as engine, transaction(engine) as connection:
            # Not around the commit: who interrupts that can't know.
            with _nothing_if_interrupted():
                for start in range(0, len(good), _CHUNK):
                    chunk = good[start : start + _CHUNK]
                    intents += await _enqueue(connection, chunk, bad if keep_going else None)
                    progress.advance(task, len(chunk))
    _report(intents, bad, as_json=as_json)


@contextmanager
def _nothing_if_interrupted() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise CommandError("interrupted: nothing was enqueued", Code.INTERRUPTED) from None


@contextmanager
def _at_once() -> Iterator[None]:
    """Let Ctrl-C end what blocks: asyncio's own handler waits for an await, and so for the end of stdin."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # ignored, as in the background of a script
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _read(lines: Iterable[str]) -> tuple[list[Line], BadLines]:
    good: list[Line] = []
    bad = BadLines()
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            good.append(Line(number, parse(loads(text))))
        except (NotJson, InvalidRequest) as error:
            bad.add(number, str(error))
    return good, bad


async def _enqueue(connection: AsyncConnection, lines: list[Line], bad: BadLines | None) -> list[Intent]:
    """Enqueue a chunk. What only the database can refuse goes to ``bad``; without it, the run ends."""
    while lines:
        try:
            async with connection.begin_nested():
                return await enqueue_many(connection, [line.entry for line in lines])
        except (InvalidRequest, IdempotencyConflict) as error:
            refused = lines[error.index or 0]
            # The place in the chunk tells nobody anything.
            reason = str(error).removeprefix(f"request {error.index}: ")
            if bad is None:
                only = BadLines()
                only.add(refused.number, reason)
                _refuse(only, None)
            bad.add(refused.number, reason)
            lines = [line for line in lines if line is not refused]
    return []


def _refuse(bad: BadLines, total: int | None) -> NoReturn:
    _list(bad)
    of = f" of {total}" if total else ""
    raise CommandError(
        f"nothing was enqueued: {bad.count}{of} lines are bad (--keep-going enqueues the others)",
        Code.BAD_INPUT,
        Problem.REFUSED_REQUEST,
    )


def _list(bad: BadLines) -> None:
    for one in bad:
        err.print(f"line {one.number}: {one.reason}", style="red", markup=False)
    if bad.count > _BAD_SHOWN:
        err.print(f"and {bad.count - _BAD_SHOWN} more")


def _report(intents: list[Intent], bad: BadLines, *, as_json: bool) -> None:
    untold: OSError | None = None
    try:
        _tell(intents, as_json=as_json)
    except OSError as error:
        untold = error
    if bad.count:
        _list(bad)
        err.print(f"{bad.count} bad lines were left out")
    if untold is not None:
        _refuse_to_tell(untold, len(intents))
    if bad.count:
        raise typer.Exit(Code.FOUND_WRONG)


def _tell(intents: list[Intent], *, as_json: bool) -> None:
    if not as_json:
        # Not through rich, which ends the process where nobody listens.
        typer.echo(f"enqueued {len(intents)} intents")
        return
    for intent in intents:
        print_json(
            {
                "intent_id": intent.id,
                "schedule_id": intent.schedule_id,
                "kind": intent.kind,
                "status": "pending",
                "event_type": f"schedule.{intent.kind}.requested",
                "error": None,
            }
        )


def _refuse_to_tell(error: OSError, enqueued: int) -> NoReturn:
    """Say that what was enqueued stays so, though stdout did not take all that there was to tell."""
    done = f"{enqueued} intents are enqueued, though stdout did not take them all: {error.strerror}"
    if isinstance(error, BrokenPipeError):
        err.print(f"outbox: {done}", markup=False)
        raise error
    # What is still buffered goes nowhere, or the interpreter would stumble over it at its end.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    raise CommandError(done, Code.FOUND_WRONG) from error
