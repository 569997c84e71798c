"""The command line: ``outbox --help`` lists what it does.

A command's module is imported when the command is called: help, version and completion answer at once, and
each command loads only what it uses.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from outbox.documentation import SITE

# The module of each command, and the first line of its help; the two are held together by a test.
COMMANDS = {
    "demo": (
        "demo",
        "Show it all: real servers, two hundred intents, failures of every kind, and all stores agreed.",
    ),
    "up": (
        "stack",
        "Start real Postgres, SpiceDB and Temporal for development, migrated and with the schema applied.",
    ),
    "down": ("stack", "Stop the embedded stack; its data stays."),
    "init": ("init", "Write a .env that names the three stores, and tell what to do next."),
    "migrate": (
        "setup",
        "Bring the outbox's tables and functions to the newest revision; make Kafka's topics, if it is set.",
    ),
    "settings": ("setup", "Print each setting with its value, default and meaning; secrets are masked."),
    "doctor": (
        "setup",
        "Check each component: reachable, migrated, schema right; name the fix of what isn't.",
    ),
    "authz-schema": ("setup", "SpiceDB's schema: print what the outbox needs, check it, apply it."),
    "run": ("work", "Run a worker: take steps, apply them to SpiceDB and Temporal, settle them."),
    "relay": (
        "work",
        "Run a relay: publish due steps to Kafka for `outbox run` to take, and events for other systems.",
    ),
    "create": ("enqueue", "Enqueue the creation of a schedule, or of many."),
    "update": ("change", "Enqueue a change of a live schedule: what is named is changed, all else stays."),
    "pause": ("change", "Enqueue that a live schedule starts nothing until it is resumed."),
    "resume": ("change", "Enqueue that a paused schedule starts its runs again."),
    "delete": ("enqueue", "Enqueue the deletion of a schedule."),
    "intents": ("look", "List intents, the newest first."),
    "show": ("look", "Show one timeline across all steps, attempts and errors, and why it waits."),
    "status": (
        "look",
        "Show how much waits and where, the oldest head, what ended lately, and which stores are down.",
    ),
    "console": ("console_page", "Serve the operator's web page and its JSON API, and print its address."),
    "mcp": (
        "mcp_server",
        "Serve the console's reads and previews to an assistant, as MCP tools over stdin and stdout.",
    ),
    "replays": ("replays", "List replays in waves, the newest first; show, start or abort one."),
    "failures": (
        "failures",
        "Group what has failed or is parked by store, step, error code and message; the youngest first.",
    ),
    "operations": (
        "operations",
        "List what operators did: who, when, why, and what came of it; the newest first.",
    ),
    "replay": ("operate", "Try failed intents again, and re-arm parked steps."),
    "discard": (
        "operate",
        "End a parked intent, so that its schedule goes on; what is ours of it is undone first.",
    ),
    "hold": ("hold", "Halt a store or a schedule: no step of it is begun until it is released."),
    "release": ("hold", "Let a store or a schedule go on that was halted."),
    "prune": (
        "operate",
        "Delete the history of intents that ended long ago, and their marks in SpiceDB, in batches.",
    ),
    "audit": (
        "audit",
        "Compare ledger, SpiceDB and Temporal; exit 1 if something of ours is not as the ledger says.",
    ),
    "verify": ("verify", "Judge a live outbox by its invariants, page by page; exit 1 if one is broken."),
}


class _Commands(TyperGroup):
    """Finds a command in its module; while all are listed, the first line of its help stands for it.

    What Click's classes are depends on Typer's version, which brings its own: hence ``Any``.
    """

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands, in the order in which a newcomer meets them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the command, unless it is only to be listed."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, summary = COMMANDS[cmd_name]
        if self._listing:
            return TyperCommand(cmd_name, help=summary)
        group = typer.Typer()
        group.callback()(lambda: None)
        import_module(f"outbox.cli.{module}").register(group)
        return _flowing(typer.main.get_group(group).commands[cmd_name])

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """List the commands."""
        _flowing(self)
        with self._only_listed():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete a command's name."""
        with self._only_listed():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _only_listed(self) -> Iterator[None]:
        self._listing = True
        try:
            yield
        finally:
            self._listing = False


def _flowing(command: Any) -> Any:
    """Let the terminal alone say where the lines of its help end, not the source as well."""
    paragraphs = (command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(one.split()) for one in paragraphs)
    for below in getattr(command, "commands", {}).values():
        _flowing(below)
    return command


app = typer.Typer(
    name="outbox",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=f"""An event-driven outbox for agent schedules: intents in, converged schedules out.

    Producers write intents into Postgres; workers (`outbox run`) bring SpiceDB and Temporal to them, in order
    per schedule, with compensation on failure. A first look: [bold]outbox demo[/bold].

    Settings come from the environment or a .env file (`outbox settings` lists them); where no store is set,
    the embedded stack of `outbox up` is used if it runs.

    Exit codes: 0 done, 1 it ran and found something wrong, 2 bad usage or input, 3 a component can't be
    reached, 4 --wait ran out of time, 130 Ctrl-C, 141 nobody read on (`| head -1`).

    All pages: {SITE}
    """,
)


def _version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - as all else, only where it is used

        typer.echo(version("agent-schedule-outbox"))
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    *,
    with_traceback: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every step, to stderr.")] = False,
) -> None:
    """Set up what all commands share."""
    del show_version
    from outbox.cli import running  # noqa: PLC0415 - help and version need none of it

    running.called.set(context.invoked_subcommand or "")
    running.debug.set(with_traceback)
    running.verbose.set(verbose)


def main() -> NoReturn:
    """Run the command line; ``outbox.__main__`` calls it."""
    # What nobody reads to its end (`| head`) ends as with other tools. Commands, once they run, see to it
    # themselves: they hold more pipes than that one.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    code: int | str | None = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    except OSError as error:
        typer.echo(f"outbox: {error.strerror}", err=True)
        code = 1
    _let_go_of_stdout()
    if "temporalio" in sys.modules:
        # Its native threads now and then abort the interpreter while it shuts down, after all work is done:
        # an exit code that scripts rely on must not hang on that.
        os._exit(code if isinstance(code, int) else 0)
    sys.exit(code)


def _let_go_of_stdout() -> None:
    """Keep what could not be written, and was told of, from being tried again when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
