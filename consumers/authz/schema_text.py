"""Reads SpiceDB schema text just far enough to see its definitions and their members, and where each stands.

Every character belongs to a token, so that what is not understood is carried along as it is.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>//[^\r\n]*|/\*.*?(?:\*/|\Z))
    | (?P<string>\"{3}(?:\\.|.)*?\"{3}|'{3}(?:\\.|.)*?'{3}
        |"(?:\\.|[^"\\\r\n])*"|'(?:\\.|[^'\\\r\n])*')
    | (?P<word>\w+(?:/\w+)*)
    | (?P<mark>->|\.\.\.|.)
    """,
    re.VERBOSE | re.DOTALL,
)


class SchemaTextError(ValueError):
    """The text is no schema that SpiceDB would have taken."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text, and where it stands."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Member:
    """A relation or permission of a definition."""

    kind: Literal["relation", "permission"]
    name: str
    tokens: tuple[Token, ...]

    @property
    def start(self) -> int:
        """Where it begins in the text."""
        return self.tokens[0].start

    @property
    def end(self) -> int:
        """Where it ends in the text, before any comment that follows."""
        return self.tokens[-1].end

    @property
    def words(self) -> tuple[str, ...]:
        """Its tokens' texts: equal for members that differ in layout only."""
        return tuple(token.text for token in self.tokens)

    def plain_subjects(self) -> frozenset[str]:
        """Name the types whose objects a relation takes as they are, without relation, wildcard or caveat."""
        if ":" not in self.words or self.kind != "relation":
            return frozenset()
        alternatives = " ".join(self.words[self.words.index(":") + 1 :]).split(" | ")
        return frozenset(subject.removesuffix(" # ...") for subject in alternatives)


@dataclass(frozen=True, slots=True)
class Block:
    """A definition or partial.

    Attributes:
        start: where it begins, with the comments right before it.
        close: where its closing brace stands.
        includes: the partials that it takes in.
    """

    name: str
    start: int
    close: int
    members: Mapping[str, Member]
    includes: tuple[str, ...]


@dataclass(slots=True)
class Schema:
    """What a schema's text declares."""

    definitions: dict[str, Block] = field(default_factory=dict)
    partials: dict[str, Block] = field(default_factory=dict)

    def members(self, name: str) -> dict[str, Member]:
        """Collect a definition's members, those of the partials that it includes among them."""
        found: dict[str, Member] = {}
        seen: set[str] = set()
        waiting = [self.definitions[name]]
        while waiting:
            block = waiting.pop()
            found = {**block.members, **found}
            included = [self.partials[p] for p in block.includes if p in self.partials and p not in seen]
            seen.update(partial.name for partial in included)
            waiting.extend(included)
        return found


def tokens(text: str) -> Iterator[Token]:
    """Cut the text into tokens; joined, they are the text again."""
    for match in _TOKEN.finditer(text):
        yield Token(str(match.lastgroup), match.group(), match.start())


def parse(text: str) -> Schema:
    """Find the definitions and partials of a schema; caveats and whatever else there is are passed by.

    Raises:
        SchemaTextError: a brace is never closed.
    """
    schema = Schema()
    every = list(tokens(text))
    code = [token for token in every if token.kind not in {"space", "comment"}]
    place = 0
    while place < len(code):
        if _opens_block(code, place):
            close = _closing(code, place + 2)
            kinds = schema.definitions if code[place].text == "definition" else schema.partials
            block = _block(every, code, place, close)
            kinds.setdefault(block.name, block)
            place = close
        elif code[place].text == "{":
            place = _closing(code, place)
        place += 1
    return schema


def _opens_block(code: Sequence[Token], place: int) -> bool:
    following = code[place : place + 3]
    return (
        [token.kind for token in following] == ["word", "word", "mark"]
        and following[0].text in {"definition", "partial"}
        and following[2].text == "{"
    )


def _closing(code: Sequence[Token], place: int) -> int:
    """Find the brace that closes the one at ``place``."""
    depth = 0
    for index in range(place, len(code)):
        # A brace in quotes is a string, not a mark.
        depth += {"{": 1, "}": -1}.get(code[index].text, 0)
        if depth == 0:
            return index
    raise SchemaTextError(f"the brace at character {code[place].start} is never closed")


def _block(every: Sequence[Token], code: Sequence[Token], place: int, close: int) -> Block:
    body = code[place + 3 : close]
    return Block(
        name=code[place + 1].text,
        start=_with_comments(every, code[place]),
        close=code[close].start,
        members={member.name: member for member in _members(body)},
        includes=tuple(body[i + 1].text for i in range(len(body) - 1) if _includes(body, i)),
    )


def _with_comments(every: Sequence[Token], first: Token) -> int:
    """Find where a block begins if the comments right before it are its own."""
    start = first.start
    for token in reversed(every[: every.index(first)]):
        if token.kind == "comment":
            start = token.start
        elif token.kind != "space" or token.text.count("\n") > 1:
            break
    return start


def _members(body: Sequence[Token]) -> Iterator[Member]:
    place = 0
    while place < len(body):
        kind = body[place].text
        if kind not in {"relation", "permission"} or place + 1 == len(body):
            place += 1
            continue
        end = place + 2
        while end < len(body) and not _ends_member(body, end):
            end += 1
        yield Member(
            "relation" if kind == "relation" else "permission", body[place + 1].text, tuple(body[place:end])
        )
        place = end


def _ends_member(body: Sequence[Token], place: int) -> bool:
    return body[place].text in {"relation", "permission", ";", "@"} or _includes(body, place)


def _includes(body: Sequence[Token], place: int) -> bool:
    """Whether a partial is included here; after a hash, the dots are a subject's."""
    return body[place].text == "..." and (place == 0 or body[place - 1].text != "#")
