"""The pages as a site."""

import re

import pytest

import outbox
from tests.docs.pages import PAGES, ROOT, Page

INDEXES = tuple(Page(f"docs/{folder}README.md") for folder in ("", "decisions/", "examples/"))


def listed(index: Page) -> set[str]:
    """The pages that an index lists, by their paths from the top."""
    links = re.findall(r"^- \[[^\]]+\]\(([^)#]+\.md)\)", index.text, re.MULTILINE)
    return {str((index.path.parent / link).resolve().relative_to(ROOT)) for link in links}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "docs/README.md"], ids=repr)
def test_each_page_is_found_from_the_first_one(page: Page) -> None:
    assert sum(page.name in listed(index) for index in INDEXES) == 1, "docs/README.md lists each page once"


def test_the_page_of_the_api_has_each_public_name_once() -> None:
    written = re.findall(r"^\.\. auto\w+:: outbox\.(\w+)$", Page("docs/api.md").text, re.MULTILINE)
    assert sorted([*written, "sync"]) == sorted(outbox.__all__)
