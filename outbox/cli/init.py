"""``outbox init``: a ``.env`` to fill in, and what to do with it."""

import os
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outbox.cli.running import Code, CommandError, Json, command, out, print_json
from outbox.documentation import SETTINGS

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PLACEHOLDER = "CHANGE-ME"
# What a deployment has to say, with what stands there before somebody does.
ASKED = {
    "database_url": f"postgresql://outbox:{PLACEHOLDER}@localhost:5432/app",
    "spicedb_endpoint": "localhost:50051",
    "spicedb_token": PLACEHOLDER,
    "spicedb_tls": "true",
    "temporal_address": "localhost:7233",
    "temporal_namespace": "default",
}
# What some have to say, too.
_OFFERED = (
    "spicedb_tls_ca",
    "temporal_api_key",
    "temporal_tls_ca",
    "temporal_tls_cert",
    "temporal_tls_key",
    "database_direct_url",
    "wire",
    "kafka_bootstrap",
    "http_port",
    "console_token",
)
_FILL_IN = {
    "database_url": f"Instead of {PLACEHOLDER}: the password of the role; an @ or / in it as %40 or %2F.",
    "spicedb_token": f"Instead of {PLACEHOLDER}: what SpiceDB was started with as its preshared key.",
}
_HEAD = f"""\
Settings of the outbox. Commands read this file in the folder that they are called in; a variable of the
environment goes before a line here. It holds secrets: keep it out of version control.
`outbox settings` lists all settings; so does
{SETTINGS}
"""
_NEXT = {
    "outbox migrate": "makes the schema `outbox` in that Postgres",
    "outbox authz-schema apply --yes": "adds what SpiceDB's schema lacks, and drops nothing",
    "outbox run": "is a worker; `outbox doctor` says what is in its way",
}
_PLAIN = re.compile(r"[\w.:/@%+=,?&~-]*")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


@command
def init(
    *,
    file: Annotated[Path, typer.Option("--file", metavar="FILE", help="Where to write it.")] = Path(".env"),
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a .env that names the three stores, and tell what to do next.

    On a terminal it asks for each value, and Enter takes what is offered. Elsewhere it asks nothing: what
    only you know stands there as CHANGE-ME, and a comment says how to fill it in.
    """
    if file.exists() and not force:
        raise CommandError(f"{file} is there already: --force writes over it", Code.BAD_INPUT)
    values = _answers() if sys.stdin.isatty() and not as_json else ASKED
    _write(file, contents(values), force=force)
    open_ones = [_variable(name) for name, value in values.items() if PLACEHOLDER in value]
    if as_json:
        print_json({"file": str(file), "fill_in": open_ones, "next": list(_NEXT)})
        return
    out.print(f"wrote {file}" + (f": fill in {', '.join(open_ones)}" if open_ones else ""))
    out.print("then:")
    for line, does in _NEXT.items():
        out.print(f"  {line:31}  # {does}", markup=False)


def contents(values: dict[str, str]) -> str:
    """The file, with these values of what is asked for."""
    from outbox.settings import Settings  # noqa: PLC0415 - help and completion need none

    fields = Settings.model_fields
    asked = "".join(
        f"\n{_comment(fields[name], _FILL_IN.get(name))}{_variable(name)}={_quoted(value)}\n"
        for name, value in values.items()
    )
    offered = "".join(f"\n{_comment(fields[name])}# {_variable(name)}=\n" for name in _OFFERED)
    return f"{textwrap.indent(_HEAD, '# ')}{asked}{offered}"


def _answers() -> dict[str, str]:
    from outbox.settings import Settings  # noqa: PLC0415 - as above
    from outbox.store.url import conninfo  # noqa: PLC0415

    answers = {}
    for name, offered in ASKED.items():
        secret = name == "spicedb_token"
        typer.echo(textwrap.fill(Settings.model_fields[name].description or "", 100), err=True)
        answers[name] = typer.prompt(
            _variable(name), default=offered, hide_input=secret, show_default=not secret, err=True
        )
    conninfo(answers["database_url"], _variable("database_url"))
    given = {name: value for name, value in answers.items() if PLACEHOLDER not in value}
    Settings.model_validate(given)
    return answers


def _write(file: Path, text: str, *, force: bool) -> None:
    """Write it so that nobody else can read it."""
    how = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with open(os.open(file, how, 0o600), "w", encoding="utf-8") as opened:  # noqa: PTH123 - it is a descriptor
            os.fchmod(opened.fileno(), 0o600)
            opened.write(text)
    except OSError as error:
        raise CommandError(f"{file} can't be written: {error.strerror}", Code.BAD_INPUT) from error


def _comment(field: "FieldInfo", more: str | None = None) -> str:
    said = " ".join(filter(None, [field.description, more]))
    return textwrap.fill(said, 110, initial_indent="# ", subsequent_indent="# ") + "\n"


def _variable(name: str) -> str:
    return f"OUTBOX_{name.upper()}"


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
