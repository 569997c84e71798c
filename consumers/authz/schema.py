"""The SpiceDB schema that the outbox needs: shipped, checked in a server, and merged into a platform's own.

The platform owns its schema. So a merge only ever adds: whole definitions, members of the two definitions
that are the outbox's business, and subject types to their relations; what is there stays as and where it is.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise

from consumers.authz.client import AuthzClient
from consumers.authz.names import AGENT, INTENT, SCHEDULE
from consumers.authz.schema_text import Block, Member, Schema, parse
from consumers.calls import Call, StoreFailure
from outbox.errors import ErrorCode
from outbox.flow.outcome import Transient

# Members are added to these; any other definition, where it exists, is the platform's alone.
_OURS = (SCHEDULE, INTENT)
_CASCADED = ("read", "update")
_INDENT = "    "
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of the schema that is not as the outbox needs it.

    Attributes:
        where: the definition, or ``definition#member``.
        fixable: whether ``apply`` mends it.
        note: the outbox works all the same; only worth knowing.
    """

    where: str
    what: str
    fix: str
    fixable: bool = True
    note: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of an ``apply``.

    Attributes:
        diff: what was to change, as a unified diff; empty if nothing was.
        problems: what is left to mend.
    """

    diff: str
    written: bool
    problems: list[Problem]


@dataclass(frozen=True, slots=True, order=True)
class _Edit:
    """An insertion. Where two meet, the lower rank comes first in the text."""

    position: int
    rank: int
    addition: str


def required() -> str:
    """Return the shipped schema: what a SpiceDB of our own gets, and what a platform's must contain."""
    return files("consumers.authz").joinpath("schema.zed").read_text(encoding="utf-8")


def problems_in(current: str) -> list[Problem]:
    """List what a schema lacks, in the order of the shipped one.

    Raises:
        SchemaTextError: the text is no schema.
    """
    have, need = parse(current), parse(required())
    found: list[Problem] = []
    for name, block in need.definitions.items():
        if name not in have.definitions:
            found.append(Problem(name, "the definition is missing", f"add definition {name}"))
        elif name in _OURS:
            for member in block.members.values():
                found.extend(_member_problems(have, name, member))
        elif name == AGENT:
            found.extend(_agent_problems(have))
    return found


def merge(current: str) -> str:
    """Add to a schema what it lacks, and change nothing else; merging twice changes nothing more.

    Raises:
        SchemaTextError: the text is no schema.
    """
    have, shipped = parse(current), required()
    edits: list[_Edit] = []
    missing: list[str] = []
    for name, block in parse(shipped).definitions.items():
        if name not in have.definitions:
            missing.append(shipped[block.start : block.close + 1])
        elif name in _OURS:
            edits.extend(_edits(current, shipped, have, block))
    for edit in sorted(edits, reverse=True):
        current = current[: edit.position] + edit.addition + current[edit.position :]
    return _append(current, missing)


def diff(current: str, merged: str) -> str:
    """Show what a merge changes, as a unified diff."""
    lines = difflib.unified_diff(
        current.splitlines(), merged.splitlines(), "schema in SpiceDB", "schema with the outbox", lineterm=""
    )
    return "\n".join(lines)


async def check(client: AuthzClient, *, seconds: float) -> list[Problem]:
    """List what the live schema lacks.

    Raises:
        StoreFailure: it can't be read.
    """
    return problems_in(await client.read_schema(Call.within(seconds)))


async def apply(client: AuthzClient, confirm: Callable[[str], bool], *, seconds: float) -> Applied:
    """Merge what the live schema lacks into it, if ``confirm`` agrees to the diff.

    SpiceDB writes a schema without any condition, so that of two writers one is overwritten: the schema is
    read again right before the write, and checked after it.

    Args:
        client: of the server.
        confirm: sees the diff and says whether to go on; asked again when the schema has changed meanwhile.
        seconds: for each call.

    Raises:
        StoreFailure: it can't be read or written, or others keep changing it.
    """
    for _ in range(_ROUNDS):
        current = await client.read_schema(Call.within(seconds))
        merged = merge(current)
        if merged == current:
            return Applied("", written=False, problems=problems_in(current))
        change = diff(current, merged)
        if not confirm(change):
            return Applied(change, written=False, problems=problems_in(current))
        if await client.read_schema(Call.within(seconds)) != current:
            continue
        await client.write_schema(merged, Call.within(seconds))
        return Applied(change, written=True, problems=await check(client, seconds=seconds))
    raise StoreFailure(Transient(ErrorCode.RACED, "spicedb: others keep changing the schema; try again"))


def _member_problems(have: Schema, definition: str, wanted: Member) -> list[Problem]:
    where = f"{definition}#{wanted.name}"
    found = have.members(definition).get(wanted.name)
    if found is None:
        return [Problem(where, f"the {wanted.kind} is missing", f"add {_flat(wanted)}")]
    if found.kind != wanted.kind:
        what = f"a {found.kind} has the name that the outbox needs for a {wanted.kind}"
        return [Problem(where, what, f"rename it, and add {_flat(wanted)}", fixable=False)]
    if wanted.kind == "permission":
        if found.words in {wanted.words, _without_parentheses(wanted)}:
            return []
        what = f"differs from the shipped one: {_flat(found)}"
        return [
            Problem(where, what, f"see that it is as strict as {_flat(wanted)}", fixable=False, note=True)
        ]
    lacks = _lacking(found, wanted)
    if not lacks:
        return []
    own = wanted.name in have.definitions[definition].members
    fix = f"allow {' | '.join(lacks)} there" + ("" if own else ", in the partial that it comes from")
    return [Problem(where, f"the relation doesn't take {' and '.join(lacks)}", fix, fixable=own)]


def _without_parentheses(member: Member) -> tuple[str, ...]:
    """Write a shipped permission as SpiceDB gives it back: in its grammar, a sum binds tighter than ``&``."""
    return tuple(word for word in member.words if word not in {"(", ")"})


def _agent_problems(have: Schema) -> list[Problem]:
    members = have.members(AGENT)
    return [
        Problem(
            f"{AGENT}#{name}",
            f"{SCHEDULE} cascades to it, and it is missing",
            f"add a permission {name} to your definition {AGENT}: only you know who may {name} an agent",
            fixable=False,
        )
        for name in _CASCADED
        if name not in members
    ]


def _edits(current: str, shipped: str, have: Schema, wanted: Block) -> list[_Edit]:
    """List what to insert where, to complete one definition."""
    block, members = have.definitions[wanted.name], have.members(wanted.name)
    edits: list[_Edit] = []
    new: list[str] = []
    for member in wanted.members.values():
        own = block.members.get(member.name)
        if member.name not in members:
            new.append(shipped[member.start : member.end])
        elif own is not None and own.kind == member.kind == "relation":
            lacks = _lacking(own, member)
            edits.append(_Edit(own.end, 0, "".join(f" | {subject}" for subject in lacks)))
    if new:
        edits.append(_before_brace(current, block.close, new))
    return edits


def _lacking(found: Member, wanted: Member) -> list[str]:
    return sorted(wanted.plain_subjects() - found.plain_subjects())


def _before_brace(current: str, brace: int, members: list[str]) -> _Edit:
    """Put members on lines of their own at the end of a definition."""
    lines = "".join(f"{_INDENT}{member}\n" for member in members)
    line_start = max(current.rfind("\n", 0, brace), current.rfind("\r", 0, brace)) + 1
    if line_start and not current[line_start:brace].strip():
        return _Edit(line_start, 1, lines)
    return _Edit(brace, 1, f"\n{lines}")


def _append(current: str, definitions: list[str]) -> str:
    if not definitions:
        return current
    addition = "\n\n".join(definitions) + "\n"
    if not current.strip():
        return current + addition
    return current + ("\n" if current.endswith("\n") else "\n\n") + addition


def _flat(member: Member) -> str:
    """Write a member on one line, spaced as people do."""
    text = member.words[0]
    for before, after in pairwise(member.words):
        tight = after in {":", ")", "->", "#"} or before in {"(", "->", "#"} or (before, after) == (":", "*")
        text += after if tight else f" {after}"
    return text
