"""Commands that set things up and check the set-up: migrate, authz-schema, settings, doctor."""

from typing import Annotated, Any

import typer
from rich.text import Text

from outbox import compose
from outbox.cli import tables
from outbox.cli.configuration import load_settings
from outbox.cli.running import Code, Json, command, err, out, print_json
from outbox.cli.tables import Column, cell
from outbox.store.grants import GRANTS

schema_app = typer.Typer(
    no_args_is_help=True, help="SpiceDB's schema: print what the outbox needs, check it, apply it."
)
_SETTINGS = (Column("name"), *(Column(name, below=True) for name in ("value", "default", "meaning")))
Yes = Annotated[bool, typer.Option("--yes", help="Write without asking.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("migrate")(migrate)
    app.command("settings")(settings)
    app.command("doctor")(doctor)
    app.add_typer(schema_app, name="authz-schema")


@command
def migrate(
    *,
    print_grants: Annotated[
        bool,
        typer.Option("--print-grants", help="Only print the SQL that gives each role the least it needs."),
    ] = False,
    grant: Annotated[
        bool,
        typer.Option(
            "--grant", help="Also give each role the least it needs; roles that are missing are made."
        ),
    ] = False,
    revision: Annotated[
        str, typer.Option(help="The revision to go to; 'base' removes the outbox and all it holds.")
    ] = "head",
    as_json: Json = False,
) -> None:
    """Bring the outbox's tables and functions to the newest revision; make Kafka's topics, if it is set.

    Safe to run from several hosts at once, and beside an application's own Alembic: everything lives in the
    Postgres schema `outbox`, with a version table of its own.
    """
    if print_grants:
        out.out(GRANTS, end="")
        return
    if grant and revision != "head":
        raise ValueError("--grant gives what the newest revision has: it goes without --revision")
    configured = load_settings()
    before, after = compose.database.migrate(configured, revision=revision, grant=grant)
    made = compose.kafka.create_topics(configured) if after and configured.kafka_bootstrap else []
    if as_json:
        print_json({"before": before, "after": after, "topics": made})
        return
    if before == after:
        out.print(f"already at revision {after}")
    else:
        out.print(f"migrated from {before or 'nothing'} to {after or 'nothing'}")
    if grant:
        out.print("each role has what it needs")
    for topic in made:
        out.print(f"made topic {topic}")


@command
def settings(*, as_json: Json = False) -> None:
    """Print each setting with its value, default and meaning; secrets are masked."""
    from outbox.settings import listed  # noqa: PLC0415 - help and completion show none

    rows = listed(load_settings())
    if as_json:
        for row in rows:
            print_json(row)
        return
    tables.show(out, _SETTINGS, [[str(row[column.heading]) for column in _SETTINGS] for row in rows])


@command
async def doctor(*, as_json: Json = False) -> None:
    """Check each component: reachable, migrated, schema right; name the fix of what isn't."""
    findings = await compose.doctor.examine(load_settings())
    for finding in findings:
        ok = finding.problem is None
        if as_json:
            print_json(compose.doctor.shown(finding))
        elif ok:
            out.print(Text.assemble(("ok", "green"), f"    {finding.component}: {finding.what}"))
        else:
            what = Text.assemble(("wrong", "red"), f" {finding.component}:")
            tables.show_parts(out, what, cell(finding.problem or ""), gap=" ", indent=" " * 6)
            out.print(cell(f"      fix: {finding.fix}"))
            out.print(f"      help: {compose.doctor.shown(finding)['help']}")
    if any(not finding.reachable for finding in findings):
        raise typer.Exit(Code.UNREACHABLE)
    if any(finding.problem for finding in findings):
        raise typer.Exit(Code.FOUND_WRONG)


@schema_app.command("print")
@command
def print_schema() -> None:
    """Print what the outbox needs in SpiceDB's schema."""
    text = compose.schema.required()
    if out.is_terminal:
        from rich.syntax import Syntax  # noqa: PLC0415

        out.print(Syntax(text, "text"))
    else:
        out.out(text, end="")


@schema_app.command("check")
@command
async def check_schema(*, as_json: Json = False) -> None:
    """Verify that SpiceDB's schema has what the outbox needs; exit 1 if it doesn't."""
    _report(await compose.schema.check(load_settings()), as_json=as_json)


@schema_app.command("apply")
@command
async def apply_schema(*, yes: Yes = False, as_json: Json = False) -> None:
    """Add to SpiceDB's schema what the outbox needs; shows the diff first, and never drops anything."""

    def confirm(diff: str) -> bool:
        from rich.syntax import Syntax  # noqa: PLC0415 - only where there is something to confirm

        err.print(Syntax(diff, "diff") if err.is_terminal else diff)
        if not yes:
            err.print("nothing written: --yes writes this")
        return yes

    applied = await compose.schema.apply(load_settings(), confirm)
    if applied.diff and not applied.written:
        raise typer.Exit(Code.FOUND_WRONG)
    if not as_json:
        out.print("the schema was extended" if applied.written else "the schema has what the outbox needs")
    _report(applied.problems, as_json=as_json)


def _report(problems: "list[compose.schema.Problem]", *, as_json: bool) -> None:
    serious = [problem for problem in problems if not problem.note]
    if as_json:
        print_json({"ok": not serious, "problems": [vars_of(problem) for problem in problems]})
    else:
        for problem in problems:
            colour = "yellow" if problem.note else "red"
            where = Text.assemble((problem.where, colour), ":")
            tables.show_parts(out, where, cell(problem.what), gap=" ", indent=" " * 6)
            out.print(cell(f"      fix: {problem.fix}"))
        if not problems:
            out.print("[green]ok[/] SpiceDB's schema has what the outbox needs")
    if serious:
        raise typer.Exit(Code.FOUND_WRONG)


def vars_of(problem: "compose.schema.Problem") -> dict[str, Any]:
    """A problem as JSON."""
    return {"where": problem.where, "what": problem.what, "fix": problem.fix, "note": problem.note}
