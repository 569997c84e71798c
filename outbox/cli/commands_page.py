"""Writes ``docs/commands.md`` from the commands' own help; ``make docs`` runs it, and a test compares them.

It reads what the commands declare, and not what Typer makes of that, which differs between its versions.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import import_module
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from outbox.cli.main import COMMANDS, app, options

_HEAD = """\
# Commands

Generated from the command line's own help by `make docs`. `python -m outbox` is the same as `outbox`, and
`outbox COMMAND --help` shows what is said here.

"""
_ALL = """
## All commands

| option | |
|---|---|
"""
_COMPLETION = """\
| `--install-completion` | Install completion for the shell that calls it: bash, zsh, fish or PowerShell. |
| `--show-completion` | Print what that would install. |
"""


def page() -> str:
    """The whole page, as Markdown."""
    overview = "".join(
        f"| [`outbox {name}`](#outbox-{name}) | {summary} |\n" for name, (_, summary) in COMMANDS.items()
    )
    table = f"| command | does |\n|---|---|\n{overview}"
    shared = "".join(_rows(options)) + _COMPLETION
    sections = "".join(_section(*one) for name in COMMANDS for one in _commands(name))
    return f"{_HEAD}{_prose(app.info.help or '')}\n\n{table}{_ALL}{shared}{sections}"


def _commands(name: str) -> Iterator[tuple[str, Callable[..., Any] | None, str]]:
    """A command, or a group and the commands in it: the name, what is called, and its help."""
    registered = typer.Typer()
    import_module(f"outbox.cli.{COMMANDS[name][0]}").register(registered)
    for one in registered.registered_commands:
        if one.name == name and one.callback:
            yield name, one.callback, inspect.getdoc(one.callback) or ""
    for group in registered.registered_groups:
        if group.name == name and group.typer_instance:
            yield name, None, str(group.typer_instance.info.help)
            for below in group.typer_instance.registered_commands:
                if below.callback:
                    yield f"{name} {below.name}", below.callback, inspect.getdoc(below.callback) or ""


def _section(name: str, function: Callable[..., Any] | None, said: str) -> str:
    head = f"\n{'###' if ' ' in name else '##'} outbox {name}\n\n{_prose(said)}\n"
    rows = "".join(_rows(function)) if function else ""
    return f"{head}\n| argument or option | |\n|---|---|\n{rows}" if rows else head


def _rows(function: Callable[..., Any]) -> Iterator[str]:
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if hints[name] is typer.Context:
            continue
        kind, info = _taken_apart(hints[name])
        needed = parameter.default is inspect.Parameter.empty
        if isinstance(info, ArgumentInfo):
            shown = info.metavar or (name.upper() if needed else f"[{name.upper()}]")
        else:
            # Where the type is annotated, Typer has the first name in the place of the default.
            first = [info.default] if isinstance(info.default, str) else []
            declared = [*first, *(info.param_decls or ())] or [f"--{name.replace('_', '-')}"]
            shown = ", ".join(declared) + ("" if kind is bool else f" {info.metavar or _kind(kind)}")
        said = [info.help or "", _default(parameter.default), "Required." if needed else ""]
        yield f"| `{_cell(shown)}` | {_cell(' '.join(filter(None, said)))} |\n"


def _taken_apart(hint: Any) -> tuple[Any, ArgumentInfo | OptionInfo]:
    """The type that one value has, and what Typer is told of it."""
    kind, info = (hint.__origin__, hint.__metadata__[0]) if get_origin(hint) is Annotated else (hint, None)
    while get_origin(kind) in {Union, UnionType, list}:
        kind = next(one for one in get_args(kind) if one is not NoneType)
    return kind, info or OptionInfo()


def _kind(kind: Any) -> str:
    if issubclass(kind, Enum):
        return "|".join(one.value for one in kind)
    return {int: "INTEGER", float: "NUMBER"}.get(kind, "TEXT")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(value: Any) -> str:
    told = value is not inspect.Parameter.empty and not isinstance(value, bool | NoneType)
    return f"Default: `{value}`." if told else ""


def _prose(said: str) -> str:
    """Paragraphs, each on a line of its own, with Typer's markup as Markdown's."""
    paragraphs = (" ".join(one.split()) for one in said.split("\n\n"))
    return re.sub(r"\[/?bold\]", "**", "\n\n".join(paragraphs))


if __name__ == "__main__":
    sys.stdout.write(page())
