"""How every command runs: its event loop, its exit code, and errors as one clear line."""

import asyncio
import functools
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from enum import IntEnum
from typing import Annotated, Any, NoReturn, TextIO, cast

import orjson
import structlog
import typer
from rich.console import Console
from structlog.typing import Processor

from outbox.cli.stderr import Stderr
from outbox.errors import OutboxError, StoreUnusable

Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, for programs.")]

# Lines are whole, and numbers of no colour: what is shown is to be read, copied and piped.
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)
debug: ContextVar[bool] = ContextVar("debug", default=False)


class Code(IntEnum):
    """Exit codes; stable."""

    DONE = 0
    FOUND_WRONG = 1
    BAD_INPUT = 2
    UNREACHABLE = 3
    TIMED_OUT = 4
    INTERRUPTED = 130
    BROKEN_PIPE = 141  # as a shell reports those that SIGPIPE ends


class CommandError(OutboxError):
    """A command can't go on; the message is one line that names the thing and the way out."""

    def __init__(self, message: str, code: Code) -> None:
        super().__init__(message)
        self.code = code


def command(function: Callable[..., Any]) -> Callable[..., None]:
    """Make a function (plain or async) a command: run it, turn what it raises into a line and a code."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(function(*arguments, **options))
            else:
                function(*arguments, **options)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            _end("interrupted", Code.INTERRUPTED)
        except BrokenPipeError:
            _end_quietly()
        except Exception as error:  # noqa: BLE001 - the outermost edge: every error becomes a line and a code
            _end(*explain(error))

    return run


def _end_quietly() -> NoReturn:
    """Whoever read our output has heard enough (``| head -1``): as with others, no word of it."""
    # What is still to be flushed when the interpreter ends has nowhere to go, either.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(Code.BROKEN_PIPE)


def explain(error: Exception) -> tuple[str, Code]:
    """Say in one line what went wrong, and which exit code it means."""
    # Here alone: a command that goes well loads neither, unless it uses it.
    from pydantic import ValidationError  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError  # noqa: PLC0415

    match error:
        case CommandError(code=code):
            return str(error), code
        case StoreUnusable(reachable=reachable):
            return str(error), Code.FOUND_WRONG if reachable else Code.UNREACHABLE
        case ValidationError():
            first = error.errors()[0]
            name = "OUTBOX_" + "_".join(str(part) for part in first["loc"]).upper() if first["loc"] else ""
            return f"bad setting {name}: {first['msg']} (`outbox settings` explains each)", Code.BAD_INPUT
        case OutboxError() | ValueError():
            return str(error), Code.BAD_INPUT
        case OperationalError() | InterfaceError():
            reason = str(error.orig).strip().splitlines()[0]
            return f"Postgres can't be reached: {reason} (check OUTBOX_DATABASE_URL)", Code.UNREACHABLE
        case DBAPIError():
            return _database_refusal(error.orig), Code.FOUND_WRONG
        case _:
            return f"{type(error).__name__}: {error} (--debug shows where)", Code.FOUND_WRONG


def _database_refusal(error: BaseException | None) -> str:
    reason = str(error).strip().splitlines()[0]
    match getattr(error, "sqlstate", None):
        case "3F000" | "42P01" | "42883":
            return f"the database has no outbox, or an older one: run `outbox migrate` ({reason})"
        case "42501":
            return f"the database role may not do this: see `outbox migrate --print-grants` ({reason})"
        case _:
            return f"Postgres refused: {reason}"


def _end(message: str, code: Code) -> NoReturn:
    if debug.get():
        traceback.print_exc()
    err.print(f"outbox: {message}", style="red", markup=False)
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """Write one JSON value as a line to stdout."""
    sys.stdout.write(orjson.dumps(value, default=str).decode() + "\n")
    sys.stdout.flush()


def set_up_logs(*, verbose: bool) -> None:
    """Send logs to stderr: for people on a terminal, JSON lines elsewhere."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    people: list[Processor] = [structlog.dev.ConsoleRenderer()]
    programs: list[Processor] = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=shared + (people if sys.stderr.isatty() else programs),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(cast("TextIO", Stderr())),
    )
