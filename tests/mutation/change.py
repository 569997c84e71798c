"""One change of the code by a tool, and all changes of a file."""

import ast
import hashlib
import importlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, WhitespaceInclusivePositionProvider

from tests.mutation.operators import Operator, is_log, operators

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Change:
    """A mutant that a tool made.

    Attributes:
        file: below the root of the project.
        where: the function or class that it is in, with its class; empty: the module.
        old: the lines that are changed, as one.
        new: what they are changed to.
        nth: of the same change in the same place, which one.
        source: the whole file, changed.
    """

    file: str
    where: str
    old: str
    new: str
    nth: int
    source: str

    @property
    def name(self) -> tuple[str, str, str, str, int]:
        """What a change is known by: it stays when lines move."""
        return self.file, self.where, self.old, self.new, self.nth

    @property
    def digest(self) -> str:
        """What it makes of the file, and which file."""
        return hashlib.sha256(f"{self.file}\n{self.source}".encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.file} {self.where or 'module'}: {self.old}  ->  {self.new or '(nothing)'}"


def changes_of(file: str) -> list[Change]:
    """List all changes of a file, in its order, each once; those that are no Python are none."""
    return changes_in(file, (ROOT / file).read_text("utf-8"), _enums(file))


def changes_in(file: str, text: str, enums: Mapping[str, Sequence[str]]) -> list[Change]:
    """List all changes of a file's text, which names members of these enums."""
    wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
    finder = _Finder(operators(enums))
    wrapper.visit(finder)
    spans = wrapper.resolve(WhitespaceInclusivePositionProvider)
    lines = text.splitlines(keepends=True)
    seen = {text}
    names: Counter[tuple[str, str, str]] = Counter()
    changes = []
    for where, node, other in finder.found:
        changed = _replaced(wrapper.module, lines, node, other, spans[node])
        if changed in seen or not _is_python(changed):
            continue
        seen.add(changed)
        old, new = _difference(text, changed)
        changes.append(Change(file, where, old, new, names[where, old, new], changed))
        names[where, old, new] += 1
    return changes


def _replaced(
    module: cst.Module, lines: Sequence[str], node: cst.CSTNode, other: cst.CSTNode, span: CodeRange
) -> str:
    if isinstance(node, cst.BaseCompoundStatement | cst.ExceptHandler):
        # Only this knows how far the lines of a block are to be indented; it is slow.
        return cst.ensure_type(module.deep_replace(node, other), cst.Module).code
    first, last = span.start, span.end
    before = [*lines[: first.line - 1], lines[first.line - 1][: first.column]]
    after = [lines[last.line - 1][last.column :], *lines[last.line :]]
    return "".join([*before, module.code_for_node(other), *after])


class _Finder(cst.CSTVisitor):
    def __init__(self, changes: Sequence[Operator]) -> None:
        super().__init__()
        self.found: list[tuple[str, cst.CSTNode, cst.CSTNode]] = []
        self._operators = changes
        self._where: list[str] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._where.append(node.name.value)
        if isinstance(node, cst.Annotation | cst.Decorator | cst.ImportFrom | cst.Import):
            return False
        for operator in self._operators:
            self.found += [
                (".".join(self._where), node, other)
                for other in operator(node)
                if isinstance(other, cst.CSTNode) and not (is_log(node) and isinstance(other, cst.Call))
            ]
        return not (is_log(node) or isinstance(node, cst.FormattedString))

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.ClassDef | cst.FunctionDef):
            self._where.pop()


def _enums(file: str) -> Mapping[str, Sequence[str]]:
    """Each enum that the module knows, with its members."""
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    known = vars(module).items()
    return {
        name: list(one.__members__) for name, one in known if isinstance(one, type) and issubclass(one, Enum)
    }


def _is_python(source: str) -> bool:
    try:
        compile(ast.parse(source), "changed", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def _difference(before: str, after: str) -> tuple[str, str]:
    """Tell the lines that differ by more than their indentation, as one line each."""
    old, new = ([line.strip() for line in text.splitlines()] for text in (before, after))
    alike = _alike(old, new)
    behind = _alike(old[alike:][::-1], new[alike:][::-1])
    lines = old[alike : len(old) - behind], new[alike : len(new) - behind]
    return " ".join(filter(None, lines[0])), " ".join(filter(None, lines[1]))


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """Count the lines at the beginning that are the same."""
    pairs = zip(one, other, strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
