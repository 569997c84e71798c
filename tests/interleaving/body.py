"""Cuts the body of a function in PL/pgSQL where its statements begin."""

import re
from collections.abc import Iterator

_TOKEN = re.compile(r"--[^\n]*|'(?:[^']|'')*'|[A-Za-z_][A-Za-z_0-9.]*|[();]|\s+|.", re.DOTALL)
# What a block begins with, up to which word.
_OPENS = {"IF": "THEN", "ELSIF": "THEN", "FOR": "LOOP", "WHILE": "LOOP"} | {
    word: word for word in ("LOOP", "ELSE", "BEGIN")
}
_LEAVES = re.compile(r"RETURN\b(?!\s+(?:QUERY|NEXT)\b)", re.IGNORECASE)


def statements(body: str) -> Iterator[tuple[int, str]]:
    """Where each statement of a body in PL/pgSQL begins, and its text; of the body's end, none.

    Conditions belong to what they decide on: an ``IF`` is a statement up to its ``THEN``.
    """
    blocks = 0
    for start, first, text in _pieces(body):
        if first in _OPENS:
            blocks += first not in {"ELSIF", "ELSE"}
            if first in {"IF", "FOR", "WHILE"}:
                yield start, text
        elif first != "END":
            yield start, text
        elif blocks:
            blocks -= 1
        else:
            yield start, ""


def leaves(statement: str) -> bool:
    """Whether the function returns there."""
    return not statement or bool(_LEAVES.match(statement))


def _pieces(body: str) -> Iterator[tuple[int, str, str]]:
    """What ends with a semicolon, or opens a block: where, by its first word, the whole of it."""
    start, first, text, depth, cases = -1, "", "", 0, 0
    for match in _TOKEN.finditer(body, _begin(body)):
        token, word = match[0], match[0].upper()
        if token.isspace() or token.startswith("--"):
            text += " "
            continue
        if start < 0:
            start, first, text, depth, cases = match.start(), word, "", 0, 0
        text += token
        depth += (token == "(") - (token == ")")
        cases += (word == "CASE") - (word == "END" and cases > 0)
        if depth == cases == 0 and word == _OPENS.get(first, ";"):
            yield start, first, text
            start = -1
    if start >= 0:
        yield start, first, text


def _begin(body: str) -> int:
    found = re.search(r"^BEGIN\b", body, re.MULTILINE)
    assert found, body
    return found.end()
