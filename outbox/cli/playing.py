"""Plays the demo: its stack, its signals, its exit code."""

import signal
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import typer
from rich.console import Console

from outbox.cli.running import Code, CommandError, err, out, print_json, run_until_interrupted
from outbox.cli.stack import embedded_stack, settings_of, start
from outbox.demo import summary
from outbox.demo.story import Ended, Story
from outbox.demo.view import View, open_view
from outbox.demo.workers import SHORT_SETTINGS, DemoFailed, Workers
from outbox.demo.workload import Workload, build
from outbox.documentation import Problem

if TYPE_CHECKING:
    from outbox.stack import Stack, StackInfo


def play(*, as_json: bool) -> None:
    """Play the demo on the embedded stack, and show what came of it."""
    started = time.monotonic()
    _interrupt_on_signals()
    console = err if as_json else out
    quiet = embedded_stack(progress=lambda *_: None)
    stack = embedded_stack()
    ran = quiet.info() is not None
    try:
        info = start(stack)
        console.print(
            f"The servers are ready after {time.monotonic() - started:.1f} s. "
            "The demo's workers are more impatient than by default: "
            + ", ".join(f"{name}={value}" for name, value in SHORT_SETTINGS.items()),
        )
        workload = build(uuid4().hex[:4])
        ended = _play(quiet, info, workload, console, started)
    except BaseException:
        _leave_as_found(quiet, ran=ran)
        raise
    if as_json:
        print_json(summary.as_json(ended, workload))
    else:
        summary.show(console, ended, workload)
    if not ended.verdict.good:
        raise typer.Exit(Code.FOUND_WRONG)


def _play(stack: "Stack", info: "StackInfo", workload: Workload, console: Console, started: float) -> Ended:
    workers = Workers(info.environment(), stack.home / "demo")

    async def play(view: View) -> Ended:
        return await Story(stack, settings_of(info), workload, workers, view, started).run()

    try:
        with open_view(console, started) as view:
            return run_until_interrupted(play(view))
    except DemoFailed as error:
        raise CommandError(str(error), Code.FOUND_WRONG, Problem.OTHER) from error


def _leave_as_found(stack: "Stack", *, ran: bool) -> None:
    if ran:
        stack.up()
    else:
        stack.down()


def _interrupt_on_signals() -> None:
    """Make whoever ends the demo end it in order, a shell's background included."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
