"""What a statement has to do with the outbox's tables, as its text says."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

_ADDS = re.compile(r"\bINSERT\s+INTO\s+outbox\.(\w+)", re.IGNORECASE)
_ANSWERED = re.compile(
    r"\bINSERT\s+INTO\s+outbox\.(\w+)(?:(?!\bINSERT\s+INTO\b).)*?\bON\s+CONFLICT\b", re.IGNORECASE | re.DOTALL
)
_CHANGES = re.compile(r"\b(?:UPDATE|DELETE\s+FROM)\s+(?:ONLY\s+)?outbox\.(\w+)", re.IGNORECASE)
_TURNS = re.compile(r"\bLOCK\s+TABLE\s+outbox\.(\w+)", re.IGNORECASE)
_NAMED = re.compile(r"\boutbox\.(\w+)")
_ROW_LOCK = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+|KEY\s+)?(?:UPDATE|SHARE)\b", re.IGNORECASE)
# The only one of which rows are locked without being changed by the same statement.
_WITH_ROW_LOCKS = frozenset({"queue"})
_CLOCK = "clock_timestamp()"


@dataclass(frozen=True, slots=True)
class Touch:
    """What a statement may do, with all that it calls and that does not stop by itself.

    Attributes:
        tables: it reads or writes these.
        adds: it adds rows to these.
        attempts: of these, it adds rows as far as nobody else has added the same.
        changes: it changes or deletes rows of these, and may wait for others who do.
        locks: it locks rows of these.
        turns: it locks these whole.
        clock: it asks by itself what time it is.
        calls: it calls functions that stop; they may leave a part of it to be done afterwards.
    """

    tables: frozenset[str] = frozenset()
    adds: frozenset[str] = frozenset()
    attempts: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    locks: frozenset[str] = frozenset()
    turns: frozenset[str] = frozenset()
    clock: bool = False
    calls: bool = False

    def __or__(self, other: "Touch") -> "Touch":
        return Touch(
            self.tables | other.tables,
            self.adds | other.adds,
            self.attempts | other.attempts,
            self.changes | other.changes,
            self.locks | other.locks,
            self.turns | other.turns,
            self.clock or other.clock,
            self.calls or other.calls,
        )


class Touches:
    """Tells what statements touch.

    Args:
        bodies: what functions and views do that do not stop by themselves, by their names.
        tables: that there are.
        stopping: the functions that stop.
    """

    def __init__(self, bodies: Mapping[str, str], tables: Collection[str], stopping: Collection[str]) -> None:
        self._bodies = bodies
        self._tables = frozenset(tables)
        self._stopping = frozenset(stopping)
        self._known: dict[str, Touch] = {}

    def of(self, text: str) -> Touch:
        code = re.sub(r"--[^\n]*", " ", text)
        named = frozenset(_NAMED.findall(code))
        attempts = frozenset(_ANSWERED.findall(code))
        found = Touch(
            named & self._tables,
            frozenset(_ADDS.findall(code)),
            attempts,
            frozenset(_CHANGES.findall(code)) | attempts,
            locks=named & _WITH_ROW_LOCKS if _ROW_LOCK.search(code) else frozenset(),
            turns=frozenset(_TURNS.findall(code)),
            calls=not named.isdisjoint(self._stopping),
        )
        for name in named & self._bodies.keys():
            found |= self._of_body(name)
        return replace(found, clock=_CLOCK in code)

    def _of_body(self, name: str) -> Touch:
        if name not in self._known:
            self._known[name] = Touch()  # one that calls itself adds nothing
            self._known[name] = self.of(self._bodies[name])
        return self._known[name]
