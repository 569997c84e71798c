"""The settings that pages and files name exist, and the generated page is up to date."""

import re
from pathlib import Path

import pytest

from outbox.cli.init import ASKED, contents
from outbox.cli.settings_page import page
from outbox.settings import Settings
from tests.docs.pages import PAGES, ROOT

KNOWN = {f"OUTBOX_{name.upper()}" for name in Settings.model_fields} | {
    "OUTBOX_HOME",
    "OUTBOX_STACK_POSTGRES",
}
FILES = [ROOT / name for name in ("docker-compose.yml", ".env.example", "Dockerfile", "Makefile")]
FILES += [page.path for page in PAGES]
FILES += sorted(path for path in (ROOT / "docs/deploy").rglob("*") if path.is_file())
NAME = re.compile(r"\bOUTBOX_[A-Z][A-Z_]*[A-Z]\b")


def test_the_settings_page_is_what_make_docs_writes() -> None:
    assert (ROOT / "docs/settings.md").read_text("utf-8") == page()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_settings_that_exist_are_named(path: Path) -> None:
    assert set(NAME.findall(path.read_text("utf-8"))) <= KNOWN


def test_the_example_environment_is_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)
    read = Settings(_env_file=ROOT / ".env.example")
    assert read.spicedb_endpoint == "localhost:50051"
    assert not read.spicedb_tls


def test_the_example_environment_names_what_outbox_init_asks_for_or_offers() -> None:
    given = set(re.findall(r"^(OUTBOX_\w+)=", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE))
    assert given <= set(re.findall(r"^(?:# )?(OUTBOX_\w+)=", contents(ASKED), re.MULTILINE))
    assert given >= {f"OUTBOX_{name.upper()}" for name in ASKED}


def test_compose_gets_every_variable_from_the_example_environment() -> None:
    wanted = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text("utf-8")))
    given = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE))
    assert wanted <= given
