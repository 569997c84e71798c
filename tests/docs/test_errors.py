"""What the command line says leads to a section that is there, and each error has one."""

import re
import tomllib

import pytest

from outbox import documentation
from outbox.cli.main import COMMANDS
from outbox.documentation import Problem
from outbox.errors import ErrorCode
from outbox.verify.invariants import Invariant
from tests.docs.pages import ROOT, Page
from tests.docs.test_commands import headings

ERRORS = Page("docs/errors.md")
LINKS = [
    *map(documentation.of_problem, Problem),
    *map(documentation.of_code, ErrorCode),
    *map(documentation.of_command, COMMANDS),
    *map(documentation.of_invariant, Invariant),
]


def sections(of: str) -> list[str]:
    """The sections of a part of the page, in their order, by their anchors."""
    _, _, part = ERRORS.text.partition(f"\n## {of}\n")
    part, _, _ = part.partition("\n## ")
    return [
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^### (.+)$", part, re.MULTILINE)
    ]


@pytest.mark.parametrize("link", LINKS)
def test_each_link_leads_to_a_section(link: str) -> None:
    path, _, anchor = link.removeprefix(documentation.SITE).partition("#")
    assert anchor in headings(Page(path.replace(".html", ".md")))


def test_the_link_to_all_settings_leads_to_their_page() -> None:
    assert Page(documentation.SETTINGS.removeprefix(documentation.SITE).replace(".html", ".md")).path.exists()


def test_the_package_names_the_same_site() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["urls"]["Documentation"] == documentation.SITE


def test_each_error_has_its_section_and_each_section_its_error() -> None:
    assert sections("What a command says") == list(Problem)
    assert sections("Error codes") == list(ErrorCode)


def test_each_section_says_what_to_do() -> None:
    for section in re.split(r"^### ", ERRORS.text, flags=re.MULTILINE)[1:]:
        assert section.count("\n**Do:** ") == 1, section


def test_each_invariant_that_is_verified_has_its_section_that_says_what_to_do() -> None:
    _, *each = re.split(r"^### ", Page("docs/verify.md").text, flags=re.MULTILINE)
    assert [section.partition("\n")[0] for section in each] == list(Invariant)
    for section in each:
        assert section.count("\n**Do:** ") == 1, section


def test_pages_show_links_as_they_are() -> None:
    for name in ("README.md", "docs/errors.md"):
        shown = re.findall(r"^ *help: (\S+)$", Page(name).text, re.MULTILINE)
        assert shown
        assert set(shown) <= set(LINKS)
