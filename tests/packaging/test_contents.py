"""What is in the sdist and the wheel, and what the wheel says of itself."""

import re
import subprocess
import sys
import tarfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from zipfile import ZipFile

import pytest

from outbox.documentation import SITE
from tests.docs.pages import ROOT
from tests.packaging.parts import PARTS


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, timeout=240
    )
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> ZipFile:
    (path,) = built.glob("*.whl")
    return ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return BytesParser().parsebytes(wheel.read(name))


def kept(*folders: str) -> set[str]:
    """The files of the repository, those that are about to be added included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}


def test_the_wheel_has_the_packages_and_the_migrations_whole_and_nothing_else(wheel: ZipFile) -> None:
    expected = kept("outbox", "consumers") | {f"outbox/_{name}" for name in kept("migrations")}
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == expected
    assert {
        "outbox/py.typed",
        "consumers/py.typed",
        "consumers/authz/schema.zed",
        "outbox/_migrations/env.py",
        "outbox/_migrations/sql/0002_tables.sql",
        "outbox/console/static/console.js",
        "outbox/console/templates/base.html",
        "outbox/kafka/event.schema.json",
    } <= found
    assert [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]


def test_the_sdist_is_the_repository(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {one.name.partition("/")[2] for one in archive.getmembers()}
    assert names == kept() | {"PKG-INFO"}


def test_the_wheel_offers_each_extra(metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra", [])) == PARTS.keys() - {""}


def test_the_version_is_the_newest_of_the_changelog(metadata: Message) -> None:
    released = re.findall(
        r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert metadata["Version"] == released[0]


def test_the_page_at_the_index_leads_to_the_site(metadata: Message) -> None:
    links = re.findall(r"\]\(([^)]*)\)", str(metadata.get_payload()))
    ours = [link for link in links if link.startswith(SITE)]
    assert ours
    assert {link for link in links if not link.startswith(("https://", "#"))} == set()
    for link in ours:
        page = link.removeprefix(SITE).partition("#")[0].removesuffix(".html")
        assert (ROOT / f"{page}.md").exists(), link
    assert f"Documentation, {SITE}" in metadata.get_all("Project-URL", [])
