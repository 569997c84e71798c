"""The changes that nobody notices, and why each may be so."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_LIST = Path(__file__).with_name("survivors.toml")

Name = tuple[str, str, str, str, int]


class Kind(StrEnum):
    """Why it is no matter."""

    EQUIVALENT = "equivalent"
    """It does the same."""
    SECOND = "second line"
    """Another rule covers for it; the code stays, for what the other doesn't cover."""
    WORDS = "words"
    """What people read in a message."""
    PACE = "pace"
    """How soon, or how much at once."""
    CALLERS = "callers"
    """No caller comes to it; types or other checks see to that."""


@dataclass(frozen=True, slots=True)
class Survivor:
    """A change that may survive."""

    name: Name
    kind: Kind
    why: str


def all_survivors() -> Mapping[Name, Survivor]:
    """Read the list."""
    survivors = {}
    for group in tomllib.loads(_LIST.read_text("utf-8")).get("group", ()):
        for where, old, new, *nth in group["changes"]:
            name = group["file"], where, old, new, nth[0] if nth else 0
            survivors[name] = Survivor(name, Kind(group["kind"]), group["why"])
    return survivors
