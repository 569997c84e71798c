"""Has the functions of the outbox stop before each of their statements, so that others can come in between.

Every statement of a volatile function in PL/pgSQL sees what was committed before it began. So what happens
when two of them meet is decided by the order of their statements, and by who waits for whose locks.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

# A session that has no number passes. Its two locks take turns, so that it can't run through both.
# Where it stops stands in its application_name, which others see at once.
_STOP = """
    CREATE SCHEMA stepper;
    CREATE FUNCTION stepper.at(place text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        me   CONSTANT integer := nullif(current_setting('stepper.me', true), '')::integer;
        turn CONSTANT integer := coalesce(nullif(current_setting('stepper.turn', true), '')::integer, 0);
    BEGIN
        IF me IS NOT NULL THEN
            PERFORM pg_catalog.set_config('stepper.turn', (1 - turn)::text, false),
                    pg_catalog.set_config('application_name', place, false);
            PERFORM pg_catalog.pg_advisory_lock(me, turn);
            PERFORM pg_catalog.pg_advisory_unlock(me, turn);
        END IF;
    END $$;
"""
_FUNCTIONS = """
    SELECT p.proname AS name, l.lanname AS language, p.provolatile AS volatile, p.prosrc AS body,
           pg_get_functiondef(p.oid) AS definition
      FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
     WHERE p.pronamespace = 'outbox'::regnamespace AND p.prokind = 'f' ORDER BY p.proname
"""
_RELATIONS = """
    SELECT c.relname FROM pg_class c
     WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'v')
"""
_TOKEN = re.compile(r"--[^\n]*|'(?:[^']|'')*'|[A-Za-z_][A-Za-z_0-9.]*|[();]|\s+|.", re.DOTALL)
_ADDS = re.compile(r"\bINSERT\s+INTO\s+outbox\.(\w+)", re.IGNORECASE)
_LOCKS = re.compile(r"\b(?:UPDATE|DELETE\s+FROM|LOCK\s+TABLE)\s+(?:ONLY\s+)?outbox\.(\w+)", re.IGNORECASE)
_NAMED = re.compile(r"\boutbox\.(\w+)")
_ROW_LOCK = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+|KEY\s+)?(?:UPDATE|SHARE)\b", re.IGNORECASE)
# What a block begins with, up to which word.
_OPENS = {"IF": "THEN", "ELSIF": "THEN", "FOR": "LOOP", "WHILE": "LOOP"} | {
    word: word for word in ("LOOP", "ELSE", "BEGIN")
}
_LEAVES = re.compile(r"RETURN\b(?!\s+(?:QUERY|NEXT)\b)", re.IGNORECASE)
# The order in which rows are added to it is that of the lanes.
_IN_ORDER = frozenset({"intents"})
# How long a look took decides where the next ones begin. Here none does, so that an order can be repeated.
_FLOORS, _LONG, _NEVER_LONG = "floors", "IF took < 1000 THEN", "IF took IS NOT NULL THEN"


@dataclass(frozen=True, slots=True)
class Touch:
    """What a statement has to do with the outbox's tables.

    Attributes:
        reads: what it sees of these is decided when it begins.
        adds: it adds rows to these, which nobody sees before they are committed.
        locks: it changes or locks rows of these, and may wait for others who do.
    """

    reads: frozenset[str] = frozenset()
    adds: frozenset[str] = frozenset()
    locks: frozenset[str] = frozenset()

    def __or__(self, other: "Touch") -> "Touch":
        return Touch(self.reads | other.reads, self.adds | other.adds, self.locks | other.locks)


Places = Mapping[str, Touch | None]
"""What is done from each place on, by its name. None: a call ends, and what it has done is committed."""


async def instrument(line: psycopg.AsyncConnection[Any], called: Collection[str]) -> Places:
    """Put stops into the functions of a database; returns where they are.

    Args:
        line: to it, as the owner.
        called: the functions that are called from outside, each in a transaction of its own.
    """
    await line.execute(_STOP)
    relations = {name for (name,) in await (await line.execute(_RELATIONS)).fetchall()}
    functions = await (await line.execute(_FUNCTIONS)).fetchall()
    bodies: dict[str, str] = {}
    for name, language, _, body, definition in functions:
        bodies[name] = bodies.get(name, "") + (
            body if language == "plpgsql" else definition.partition("\n")[2]
        )
    touches = _Touches(bodies, relations)
    places: dict[str, Touch | None] = {}
    for name, language, volatile, body, definition in functions:
        if name == _FLOORS:
            assert _LONG in definition
            await line.execute(definition.replace(_LONG, _NEVER_LONG).encode())
        if language != "plpgsql" or volatile != "v" or name == _FLOORS:
            continue
        changed = body
        for number, (offset, statement) in reversed(list(enumerate(statements(body)))):
            touch = touches.of(statement) if statement else None
            if touch == Touch() or (touch is None and name not in called):
                continue
            place = f"{name}:{number}"
            places[place] = touch
            changed = f"{changed[:offset]}PERFORM stepper.at('{place}'); {changed[offset:]}"
        await line.execute(definition.replace(body, changed).encode())
    return places


def statements(body: str) -> Iterator[tuple[int, str]]:
    """Where each statement of a body in PL/pgSQL begins, and its text; what ends the call, as an empty one.

    Conditions belong to what they decide on: an ``IF`` is a statement up to its ``THEN``.
    """
    blocks = 0
    for start, first, text in _pieces(body):
        if first in _OPENS:
            blocks += first not in {"ELSIF", "ELSE"}
            if first in {"IF", "FOR", "WHILE"}:
                yield start, text
        elif first != "END":
            yield start, "" if _LEAVES.match(text) else text
        elif blocks:
            blocks -= 1
        else:
            yield start, ""


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


class _Touches:
    """Tells what statements touch, with all that the functions do which they call."""

    def __init__(self, bodies: Mapping[str, str], relations: set[str]) -> None:
        self._bodies = bodies
        self._relations = relations
        self._known: dict[str, Touch] = {}

    def of(self, text: str) -> Touch:
        code = re.sub(r"--[^\n]*", " ", text)
        named = set(_NAMED.findall(code))
        adds, locks = set(_ADDS.findall(code)), set(_LOCKS.findall(code))
        if "ON CONFLICT" in code.upper():
            locks |= adds
        if _ROW_LOCK.search(code):
            locks |= {"queue"} & named
        locks |= adds & _IN_ORDER
        reads = (named & self._relations) - adds
        found = Touch(frozenset(reads), frozenset(adds), frozenset(locks))
        for function in (named & self._bodies.keys()) - self._relations:
            found |= self._of_function(function)
        return found

    def _of_function(self, name: str) -> Touch:
        if name not in self._known:
            self._known[name] = Touch()  # one that calls itself adds nothing
            self._known[name] = self.of(self._bodies[name])
        return self._known[name]
