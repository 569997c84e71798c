"""``outbox create --from FILE``: many requests, all or nothing, with progress; bad lines named by number."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

import typer
from rich.progress import Progress
from sqlalchemy.ext.asyncio import AsyncConnection

from outbox.cli.configuration import load_settings
from outbox.cli.running import Code, CommandError, err, out, print_json
from outbox.errors import IdempotencyConflict, InvalidRequest
from outbox.producer.enqueue import enqueue_many
from outbox.producer.intents import Intent
from outbox.producer.requests import Entry, parse
from outbox.store.engine import open_engine, transaction

_CHUNK = 1000
_BAD_SHOWN = 20


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


async def enqueue_file(source: str, *, keep_going: bool, as_json: bool) -> None:
    """Enqueue the requests of a file (``-``: stdin) in one transaction.

    Raises:
        CommandError: the file can't be read, or a line is bad without ``keep_going``. Nothing was enqueued.
    """
    with _open(source) as lines, Progress(console=err, transient=True) as progress:
        good, bad = _read(progress.track(lines, description="reading"))
        if bad and not keep_going:
            _refuse(bad, len(good) + len(bad))
        url = load_settings().database_url.get_secret_value()
        task = progress.add_task("enqueueing", total=len(good))
        intents: list[Intent] = []
        async with open_engine(url) as engine, transaction(engine) as connection:
            for start in range(0, len(good), _CHUNK):
                chunk = good[start : start + _CHUNK]
                intents += await _enqueue(connection, chunk, bad if keep_going else None)
                progress.advance(task, len(chunk))
    _report(intents, bad, as_json=as_json)


def _read(lines: Iterable[str]) -> tuple[list[Line], list[Bad]]:
    good: list[Line] = []
    bad: list[Bad] = []
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            good.append(Line(number, parse(json.loads(text))))
        except json.JSONDecodeError as error:
            bad.append(Bad(number, f"not JSON: {error.msg} at column {error.colno}"))
        except InvalidRequest as error:
            bad.append(Bad(number, str(error)))
    return good, bad


async def _enqueue(connection: AsyncConnection, lines: list[Line], bad: list[Bad] | None) -> list[Intent]:
    """Enqueue a chunk. What only the database can refuse goes to ``bad``; without it, the run ends."""
    while lines:
        try:
            async with connection.begin_nested():
                return await enqueue_many(connection, [line.entry for line in lines])
        except (InvalidRequest, IdempotencyConflict) as error:
            refused = lines[error.index or 0]
            found = Bad(refused.number, str(error))
            if bad is None:
                _refuse([found], None)
            bad.append(found)
            lines = [line for line in lines if line is not refused]
    return []


def _refuse(bad: list[Bad], total: int | None) -> NoReturn:
    _list(bad)
    of = f" of {total}" if total else ""
    raise CommandError(
        f"nothing was enqueued: {len(bad)}{of} lines are bad (--keep-going enqueues the others)",
        Code.BAD_INPUT,
    )


def _list(bad: list[Bad]) -> None:
    for one in bad[:_BAD_SHOWN]:
        err.print(
            f"line {one.number}: {one.reason}", style="red", highlight=False, markup=False, soft_wrap=True
        )
    if len(bad) > _BAD_SHOWN:
        err.print(f"and {len(bad) - _BAD_SHOWN} more")


def _report(intents: list[Intent], bad: list[Bad], *, as_json: bool) -> None:
    if as_json:
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
    else:
        out.print(f"enqueued {len(intents)} intents")
    if bad:
        _list(bad)
        err.print(f"{len(bad)} bad lines were left out")
        raise typer.Exit(Code.FOUND_WRONG)


@contextmanager
def _open(source: str) -> Iterator[TextIO]:
    if source == "-":
        yield sys.stdin
        return
    try:
        with Path(source).open(encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise CommandError(f"{source} can't be read: {error.strerror}", Code.BAD_INPUT) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{source} is not UTF-8: {error.reason}", Code.BAD_INPUT) from error
