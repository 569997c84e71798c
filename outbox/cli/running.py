"""How every command runs: its event loop, its exit code, and errors as one clear line with a link below it.

Ctrl-C is the line ``outbox: interrupted`` and code 130. A reader of stdout who has gone (``| head -1``) is
none of our errors: it ends a command without a word, with 141, as a shell reports those that SIGPIPE ends.
"""

import functools
import inspect
import select
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn, TypeVar, cast

import orjson
import typer

from outbox.cli.console import PipedConsole
from outbox.cli.logs import set_up_logs
from outbox.documentation import Problem, of_command, of_problem
from outbox.errors import IdempotencyConflict, InvalidRequest, OutboxError, StoreUnusable
from outbox.extras import lacking

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

Reason = Annotated[str | None, typer.Option("--reason", help="Why; written down with what was done.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, for programs.")]

out = PipedConsole()
err = PipedConsole(stderr=True)
debug: ContextVar[bool] = ContextVar("debug", default=False)
verbose: ContextVar[bool] = ContextVar("verbose", default=False)
called: ContextVar[str] = ContextVar("called", default="")


def among(values: Iterable[str]) -> Callable[[str], list[str]]:
    """Complete one of these."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


class Code(IntEnum):
    """Exit codes; stable."""

    DONE = 0
    FOUND_WRONG = 1
    BAD_INPUT = 2
    UNREACHABLE = 3
    TIMED_OUT = 4
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class CommandError(OutboxError):
    """A command can't go on; the message is one line that names the thing and the way out.

    Attributes:
        problem: what the documentation says more of; None: how the command is used.
    """

    def __init__(self, message: str, code: Code, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.problem = problem


class Explained(NamedTuple):
    """An error in one line, the exit code that it means, and what the documentation says more of.

    Attributes:
        problem: None: how the command is used.
    """

    line: str
    code: Code
    problem: Problem | None = None


def command(function: Callable[..., Any]) -> Callable[..., None]:
    """Make a function (plain or async) a command: run it, turn what it raises into a line and a code."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> None:
        # Connections break, too, and that is no end.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        try:
            with _raising_interrupts():
                set_up_logs(verbose=verbose.get())
                if inspect.iscoroutinefunction(function):
                    run_until_interrupted(function(*arguments, **options))
                else:
                    function(*arguments, **options)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            _end(Explained("interrupted", Code.INTERRUPTED))
        except Exception as error:  # noqa: BLE001 - the outermost edge: every error becomes a line and a code
            if isinstance(error, BrokenPipeError) and _nobody_reads():
                raise typer.Exit(Code.BROKEN_PIPE) from None
            _end(explain(error))

    return run


@contextmanager
def _raising_interrupts() -> Iterator[None]:
    """Let a command clean up after Ctrl-C; before and after it, there is nothing to clean up."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_until_interrupted(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it to its result; the first Ctrl-C cancels it, a second one ends it wherever it is.

    The loop takes the signal between two callbacks. ``asyncio.run`` cancels in the middle of whatever runs,
    also between a library's look at a future and its answer to it, and that then raises into the log.

    Raises:
        KeyboardInterrupt: it was cancelled so.
    """
    import asyncio  # noqa: PLC0415 - help and completion run nothing

    interrupted = False

    async def main() -> T:
        nonlocal interrupted
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[T]", asyncio.current_task())

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            loop.remove_signal_handler(signal.SIGINT)
            task.cancel()

        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGINT, interrupt)
        return await coroutine

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if not interrupted:
            raise
        raise KeyboardInterrupt from None


def _nobody_reads() -> bool:
    """Whether it is our stdout that was closed, and not a connection to somewhere else."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return bool(poll.poll(0))


def explain(error: Exception) -> Explained:
    """Say in one line what went wrong."""
    match error:
        case CommandError(code=code, problem=problem):
            return Explained(str(error), code, problem)
        case StoreUnusable(reachable=True):
            return Explained(str(error), Code.FOUND_WRONG, Problem.STORE_UNUSABLE)
        case StoreUnusable():
            return Explained(str(error), Code.UNREACHABLE, Problem.STORE_AWAY)
        case InvalidRequest():
            return Explained(str(error), Code.BAD_INPUT, Problem.REFUSED_REQUEST)
        case IdempotencyConflict():
            return Explained(str(error), Code.BAD_INPUT, Problem.USED_KEY)
        case OutboxError():
            refusal = _known_refusal(getattr(error.__cause__, "orig", None))
            return Explained(str(error), Code.BAD_INPUT, refusal.problem if refusal else None)
        case ModuleNotFoundError() if (missing := lacking(error)) is not None:
            return Explained(missing, Code.BAD_INPUT, Problem.MISSING_PACKAGE)
        case _:
            return _explain_others(error)


def _explain_others(error: Exception) -> Explained:
    """The same for what is not ours."""
    # Here alone: a command that goes well, or has bad input, loads neither, unless it uses it.
    from pydantic import ValidationError  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError  # noqa: PLC0415

    from outbox.store.engine import why  # noqa: PLC0415
    from outbox.store.url import to_mend  # noqa: PLC0415

    match error:
        case ValidationError():
            first = error.errors()[0]
            name = "OUTBOX_" + "_".join(str(part) for part in first["loc"]).upper() if first["loc"] else ""
            line = f"bad setting {name}: {first['msg']} (`outbox settings` explains each)"
            return Explained(line, Code.BAD_INPUT, Problem.BAD_SETTING)
        case ValueError():
            of_setting = str(error).startswith("OUTBOX_")
            return Explained(str(error), Code.BAD_INPUT, Problem.BAD_SETTING if of_setting else None)
        case DBAPIError() if (refusal := _known_refusal(error.orig)) is not None:
            return refusal
        case OperationalError() | InterfaceError():
            reason = why(error)
            line = f"Postgres can't be reached: {reason} (check {to_mend(reason)})"
            return Explained(line, Code.UNREACHABLE, Problem.POSTGRES_AWAY)
        case DBAPIError():
            line = f"Postgres refused: {str(error.orig).strip().splitlines()[0]}"
            return Explained(line, Code.FOUND_WRONG, Problem.POSTGRES_REFUSED)
        case _:
            line = f"{type(error).__name__}: {error} (--debug shows where)"
            return Explained(line, Code.FOUND_WRONG, Problem.OTHER)


def _known_refusal(error: Any) -> Explained | None:
    """What Postgres said, and the way out, if there is one that we know."""
    match getattr(error, "sqlstate", None):
        case "3F000" | "42P01" | "42883":
            problem = Problem.NO_OUTBOX
            way = "the database has no outbox, or an older one: run `outbox migrate`"
        case "42501":
            problem = Problem.NO_RIGHT
            way = "the database role may not do this: see `outbox migrate --print-grants`"
        case "25006":
            problem = Problem.READ_ONLY
            way = (
                "this Postgres is read-only, a standby? OUTBOX_DATABASE_URL may name several hosts, with "
                "target_session_attrs=read-write"
            )
        case "57014" | "55P03":
            problem = Problem.ROLE_SETTINGS
            way = "the database role's statement_timeout or lock_timeout is too short for this"
        case "OB003":
            problem = Problem.ROLE_SETTINGS
            way = error.diag.message_hint
        case _:
            return None
    return Explained(f"{way} ({str(error).strip().splitlines()[0]})", Code.FOUND_WRONG, problem)


def _end(error: Explained) -> NoReturn:
    if debug.get():
        traceback.print_exc()
    err.print(f"outbox: {error.line}", style="red", markup=False)
    if error.code is not Code.INTERRUPTED:
        err.print(f"help: {of_problem(error.problem) if error.problem else of_command(called.get())}")
    raise typer.Exit(error.code)


def progress() -> "Progress":
    """Tell how far a command is, where somebody watches.

    On the console that has the rows, if that is a terminal: two that write to one would overwrite each other.
    If it is none, rich must not lead what is written there to the terminal.
    """
    from rich.progress import Progress  # noqa: PLC0415 - help and completion show none

    rows_too = out.file.isatty()
    console = out if rows_too else err
    return Progress(console=console, transient=True, redirect_stdout=rows_too, disable=not err.file.isatty())


def aside() -> PipedConsole:
    """Where to say something while that moves: stderr, if only on the terminal that shows both."""
    return out if out.file.isatty() and err.file.isatty() else err


def print_json(value: Any) -> None:
    """Write one JSON value as a line to stdout."""
    sys.stdout.write(orjson.dumps(value, default=str).decode() + "\n")
    sys.stdout.flush()
