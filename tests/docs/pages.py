"""Pages as the tests read them: their tables, their fenced blocks."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>\w+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Page:
    """One Markdown page, by its path from the top."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = ROOT / name

    def __repr__(self) -> str:
        return self.name

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    def table(self, *header: str) -> list[tuple[str, ...]]:
        """The rows of the table with this header: what each cell holds, without its backquotes."""
        lines = self.text.splitlines()
        start = lines.index("| " + " | ".join(header) + " |")
        rows = []
        for line in lines[start + 2 :]:
            if not line.startswith("|"):
                break
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            rows.append(tuple(_bare(cell) for cell in cells))
        return rows

    def blocks(self, *languages: str, mark: str | None = None) -> Iterator[str]:
        """The fenced blocks in one of the languages; with a mark, those under a comment of that one word."""
        for block in _BLOCK.finditer(self.text):
            if block["language"] in languages and mark in {None, block["mark"]}:
                yield block["text"]

    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _BLOCK.sub("", self.text)


def _bare(cell: str) -> str:
    text = cell.strip().replace("\\|", "|")
    return text[1:-1] if re.fullmatch("`[^`]*`", text) else text


PAGES = [
    Page(str(path.relative_to(ROOT)))
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    if "node_modules" not in path.parts
]
