"""The page about deploying: what it has people type and write is taken."""

import re
from pathlib import Path

import psycopg
from psycopg import sql

from tests.deploy.rendered import CHART, template
from tests.deploy.test_manifests import loaded
from tests.deploy.tools import run
from tests.docs.pages import ROOT, Page
from tests.docs.test_commands import typed

PAGE = Page("docs/deploying.md")
LINES = list(typed(PAGE))
ROLES = ("outbox_producer", "outbox_worker", "outbox_operator")


def test_the_roles_can_be_made(database: str) -> None:
    """In a transaction that is given up: roles are of the whole cluster, where other tests have made some."""
    (script,) = PAGE.blocks("sql")
    with psycopg.connect(database) as admin:
        for role in ROLES:
            name = sql.Identifier(role)
            if admin.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).rowcount:
                admin.execute(
                    sql.SQL("ALTER ROLE {} RENAME TO {}").format(name, sql.Identifier(f"old_{role}"))
                )
        admin.execute("CREATE ROLE application")
        here = sql.Identifier(admin.info.dbname).as_string()
        admin.execute(script.replace("DATABASE app ", f"DATABASE {here} ").encode())
        members = admin.execute(
            "SELECT pg_has_role('schedules_worker', 'outbox_worker', 'MEMBER')"
        ).fetchone()
        assert members == (True,)
        admin.rollback()


def test_the_chart_takes_the_values_and_makes_what_the_commands_name(tmp_path: Path) -> None:
    (values,) = PAGE.blocks("yaml")
    (tmp_path / "values.yaml").write_text(values, "utf-8")
    manifests = loaded(run("helm", "template", "outbox", CHART, "--values", tmp_path / "values.yaml"))
    made = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in manifests}
    named = {
        word for line in LINES for word in line if re.fullmatch(r"(deployment|service|job)/[\w-]+", word)
    }
    assert named
    assert named <= made
    secrets = {
        line[line.index("generic") + 1] for line in LINES if line[0] == "kubectl" and "generic" in line
    }
    wanted = set(
        re.findall(r"secret(?:Ref: \{name|Name): ([\w-]+)", template("existingTlsSecret=outbox-tls"))
    )
    assert secrets == wanted


def test_values_in_the_text_are_values() -> None:
    named = set(re.findall(r"`([a-zA-Z]+\.[\w.]+=\w+)`", PAGE.prose()))
    assert "settings.OUTBOX_WIRE=kafka" in named
    template(*named)


def test_the_files_that_are_named_are_there() -> None:
    named = {word for line in LINES for word in line if word.startswith("docs/deploy/")}
    assert named >= {"docs/deploy/chart", "docs/deploy/kustomize/overlays/example", "docs/deploy/systemd/."}
    assert all((ROOT / name).exists() for name in named)


def test_the_units_that_are_started_are_there() -> None:
    ((*_, first, second),) = (line for line in LINES if line[:2] == ["systemctl", "enable"])
    for unit in (first, second):
        assert (ROOT / f"docs/deploy/systemd/{unit}.service").exists()
