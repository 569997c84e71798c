"""``outbox up`` and ``outbox down``: the embedded stack."""

import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from outbox import compose
from outbox.cli.running import Code, CommandError, Json, command, err, out, print_json, run_until_interrupted
from outbox.documentation import Problem
from outbox.extras import install

if TYPE_CHECKING:
    from outbox.settings import Settings
    from outbox.stack import Stack, StackInfo


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("down")(down)


@command
def up(
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Leave it running; `outbox down` ends it.")
    ] = False,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="Start a Kafka broker, too (tansu, in memory), with the topics.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start real Postgres, SpiceDB and Temporal for development, migrated and with the schema applied.

    They listen on free ports of 127.0.0.1; their data is in .outbox/ (or OUTBOX_HOME) and survives. Other
    commands find a running stack by itself; --json prints the settings for other programs.
    Without --detach it runs until Ctrl-C.
    """
    stack = embedded_stack()
    if detach:
        _show(info := start(stack, kafka=kafka), as_json=as_json)
        err.print(_console(info))
        return
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        info = start(stack, kafka=kafka)
        _show(info, as_json=as_json)
        err.print(f"running until Ctrl-C; beside it, {_console(info)}")
        ended.wait()
    finally:
        stack.down()


@command
def down(*, as_json: Json = False) -> None:
    """Stop the embedded stack; its data stays."""
    stack = embedded_stack()
    ran = [name for name, process in stack.status().items() if process is not None]
    stack.down()
    if as_json:
        print_json({"home": str(stack.home), "stopped": ran})
    else:
        out.print(f"stopped {', '.join(ran)}" if ran else f"nothing ran in {stack.home}")


def _print_progress(component: str, phase: str) -> None:
    err.print(f"[dim]{component}: {phase}[/]")


def embedded_stack(*, progress: Callable[[str, str], None] = _print_progress) -> "Stack":
    """The stack of this working directory (or OUTBOX_HOME); by default with its progress on stderr.

    Raises:
        CommandError: the packages that carry the servers aren't installed.
    """
    try:
        # The servers come as packages of the extra `embedded`.
        from outbox.stack import Stack  # noqa: PLC0415
    except ImportError as error:
        message = f"the embedded stack needs {error.name}: {install('embedded')}"
        raise CommandError(message, Code.BAD_INPUT, Problem.MISSING_PACKAGE) from error
    return Stack(progress=progress)


def start(stack: "Stack", *, kafka: bool = False) -> "StackInfo":
    """Bring a stack up, migrate it, extend its SpiceDB schema, and make Kafka's topics if it has one."""
    from outbox.stack import StackError  # noqa: PLC0415

    try:
        info = stack.up(kafka="tansu" if kafka else None)
    except StackError as error:
        raise CommandError(str(error), Code.UNREACHABLE, Problem.NO_STACK) from error
    settings = settings_of(info)
    compose.database.migrate(settings)
    if settings.kafka_bootstrap:
        compose.kafka.create_topics(settings)
    run_until_interrupted(compose.schema.apply(settings, lambda _: True))
    return info


def settings_of(info: "StackInfo") -> "Settings":
    """The settings that point at a running stack; everything else is as the environment says."""
    from outbox.settings import Settings  # noqa: PLC0415 - help and completion need none

    found = {name.removeprefix("OUTBOX_").lower(): value for name, value in info.environment().items()}
    own = Settings()
    return Settings.model_validate(own.model_dump(include=own.model_fields_set) | found)


def _console(info: "StackInfo") -> str:
    settings = settings_of(info)
    page = f"http://{settings.console_host}:{settings.console_port}/"
    return f"`outbox console` serves the operator's page at {page}"


def _show(info: "StackInfo", *, as_json: bool) -> None:
    if as_json:
        print_json(info.environment())
        return
    for name, value in info.environment().items():
        out.print(f"{name}={value}", markup=False)
