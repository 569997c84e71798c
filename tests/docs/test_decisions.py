"""Decisions are numbered without a hole, say how they stand, and are found in the index."""

import re

from tests.docs.pages import ROOT

FOLDER = ROOT / "docs/decisions"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))


def test_numbers_follow_each_other() -> None:
    assert [int(page.name[:4]) for page in PAGES] == list(range(1, len(PAGES) + 1))


def test_each_has_its_number_and_its_status() -> None:
    for page in PAGES:
        title, _, status = page.read_text("utf-8").splitlines()[:3]
        assert title.startswith(f"# {int(page.name[:4])}. "), page.name
        assert re.match(r"Status: (accepted|superseded|rejected)\b", status), page.name


def test_the_index_has_each_once_by_its_title() -> None:
    index = (FOLDER / "README.md").read_text("utf-8")
    for page in PAGES:
        assert index.count(f"- [{page.name[:4]}]({page.name}) ") == 1, page.name
